//! A node that is about to be stopped: clients of rooms whose home is elsewhere go on at other nodes, slowly; whoever is still
//! here at the deadline joins anew at one.
//!
//! Nothing of this makes the node unhealthy: it serves everybody who is here until the end, and takes clients again when it is
//! told to (`undrain`).

use std::collections::HashMap;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::app::App;
use super::directory::Movable;
use super::draining::Task;
use super::homes;
use crate::cluster::{Cluster, Host};
use moonring_wire::id::ClientId;

/// Between two steps.
const STEP: Duration = Duration::from_millis(100);
/// Clients that are asked to move with each: a hundred a second.
const CLIENTS: usize = 10;
/// A client that has not moved is asked again after this time.
const AGAIN: Duration = Duration::from_secs(20);
/// At the deadline, for each client that is told to join anew: a hundred a second as well.
const PAUSE: Duration = Duration::from_millis(10);

impl App {
    /// Takes no new rooms and has clients go on elsewhere until `deadline`, at which the rest is sent away; or, without one, takes
    /// rooms and clients again.
    pub(super) fn drain(&self, cluster: &Cluster, deadline: Option<Duration>) {
        cluster.drain(deadline.is_some());
        let task = deadline.map(|deadline| {
            let (app, cluster) = (self.clone(), cluster.clone());
            Task::new(tokio::spawn(async move { drained(&app, &cluster, deadline).await }).abort_handle())
        });
        self.draining.set(task);
    }

    /// One client is asked to go on where its room is, or where there is time.
    async fn ask_to_go(&self, cluster: &Cluster, Movable { room, client, home }: Movable) {
        let Some(node) = cluster.node_for(home) else { return };
        if let Err(why) = self.move_here(&room, client.clone(), (Some(&node), None)).await {
            tracing::debug!(%room, %client, %node, "does not move while this node drains: {why}");
        }
    }

    /// Everybody who is still here joins anew at other nodes.
    async fn send_away(&self, cluster: &Cluster) {
        for entry in self.directory.rooms() {
            let home = self.directory.far_home(&entry.room);
            let url = match home {
                Some(home) => cluster.url_at(home),
                None => cluster.elsewhere(),
            };
            let Some(url) = url else {
                tracing::warn!(room = %entry.room, "stays on this node, which drains: there is no other");
                continue;
            };
            match home {
                Some(_) => self.directory.give_way(&entry.room, &homes::websocket_url(&url)),
                None => {
                    cluster.give_up(&entry.room).await;
                    Host::give_way(self, &entry.room, &url);
                }
            }
            sleep(PAUSE * u32::try_from(entry.clients).unwrap_or(u32::MAX)).await;
        }
    }
}

async fn drained(app: &App, cluster: &Cluster, deadline: Duration) {
    let end = Instant::now() + deadline;
    let mut asked: HashMap<ClientId, Instant> = HashMap::new();
    let mut steps = interval(STEP);
    steps.set_missed_tick_behavior(MissedTickBehavior::Delay);
    tracing::info!(deadline_s = deadline.as_secs(), clients = app.directory.client_count(), "drains");
    while Instant::now() < end && app.directory.is_used() {
        steps.tick().await;
        asked.retain(|_, at| at.elapsed() < AGAIN);
        let next = app.directory.movable(CLIENTS, |client| !asked.contains_key(client));
        asked.extend(next.iter().map(|movable| (movable.client.clone(), Instant::now())));
        join_all(next.into_iter().map(|movable| app.ask_to_go(cluster, movable))).await;
    }
    let left = app.directory.client_count();
    if left > 0 {
        tracing::info!(
            clients = left,
            "the deadline of the draining is over: who is still here is sent to other nodes"
        );
    }
    app.send_away(cluster).await;
    tracing::info!("has drained");
}
