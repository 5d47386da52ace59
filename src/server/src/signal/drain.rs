//! A node that is about to be stopped: its clients go on at other nodes, slowly, and when all of a room have gone its home
//! follows them; whoever is still here at the deadline joins anew at one.
//!
//! Nothing of this makes the node unhealthy: it serves everybody who is here until the end, and takes clients again when it is
//! told to (`undrain`).

use std::collections::HashMap;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::app::App;
use super::directory::Movable;
use super::homes;
use crate::cluster::{Cluster, Host, NodeName};
use moonring_wire::id::{ClientId, RoomId};

/// Between two steps.
pub(super) const STEP: Duration = Duration::from_millis(100);
/// Clients that are asked to move with each: a hundred a second.
pub(super) const CLIENTS: usize = 10;
/// Homes that are asked to move with each: fifty a second.
const HOMES: usize = 5;
/// A home that has not moved, or a client that could not be asked to, is asked again after this time: a room's other shards let go of it
/// only after some seconds, and the other node may have begun just then.
pub(super) const SOON: Duration = Duration::from_secs(2);
/// A client that was asked and has not moved is asked again after this time.
const LATER: Duration = Duration::from_secs(20);
/// At the deadline, for each client that is told to join anew: a hundred a second as well.
const PAUSE: Duration = Duration::from_millis(10);

/// How far the draining of a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum DrainState {
    /// It takes rooms and clients: it was never told to drain, or that was called off.
    No,
    /// Clients or homes may still go, or the deadline is not over.
    GoesOn,
    /// Whoever and whatever could go has gone.
    Over,
}

/// The draining of a node, as operators are told of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct DrainLine {
    /// How far it is.
    pub(super) state: DrainState,
    /// Rooms whose home is still here.
    pub(super) rooms: usize,
    /// Clients that are still here.
    pub(super) clients: usize,
}

/// What came of asking a client to go on at another node.
pub(super) struct Asked {
    pub(super) client: ClientId,
    /// It is told to restart ICE.
    pub(super) is_told: bool,
    /// When it is asked again, if it is still here.
    pub(super) again: Instant,
}

/// What a draining has done.
#[derive(Default)]
struct Done {
    /// Who was asked, and when they are asked again.
    clients: HashMap<ClientId, Instant>,
    /// The same of homes.
    homes: HashMap<RoomId, Instant>,
    /// The node that all clients of a room go to: one that has clients of it, where there is such a one.
    nodes: HashMap<RoomId, NodeName>,
}

impl App {
    /// Takes no new rooms and has clients go on elsewhere until `deadline`, at which the rest is sent away; or, without one, takes
    /// rooms and clients again.
    pub(super) fn drain(&self, cluster: &Cluster, deadline: Option<Duration>) {
        cluster.drain(deadline.is_some());
        let draining = deadline.map(|deadline| {
            let (app, cluster) = (self.clone(), cluster.clone());
            let mut draining = JoinSet::new();
            draining.spawn(async move { drained(&app, &cluster, deadline).await });
            draining
        });
        *self.draining.lock().unwrap_or_else(PoisonError::into_inner) = draining;
    }

    /// How far the draining is, and what is still here.
    pub(super) fn drain_line(&self) -> DrainLine {
        let state = match &mut *self.draining.lock().unwrap_or_else(PoisonError::into_inner) {
            None => DrainState::No,
            Some(draining) => {
                while draining.try_join_next().is_some() {}
                if draining.is_empty() { DrainState::Over } else { DrainState::GoesOn }
            }
        };
        let rooms = self.cluster.as_ref().map_or(0, |cluster| cluster.own_line().rooms);
        DrainLine { state, rooms, clients: self.directory.client_count() }
    }

    /// One client is asked to go on where its room is, or where there is time.
    pub(super) async fn ask_to_go(&self, (room, client, node): (RoomId, ClientId, NodeName)) -> Asked {
        let moves = self.move_here(&room, client.clone(), (Some(&node), None)).await;
        let is_told = moves.is_ok();
        if let Err(why) = moves {
            tracing::debug!(%room, %client, %node, "does not go on elsewhere now: {why}");
        }
        Asked { client, is_told, again: Instant::now() + if is_told { LATER } else { SOON } }
    }

    /// A room without clients here has its home where they are.
    async fn send_home(&self, cluster: &Cluster, room: RoomId) {
        let (app, cluster) = (self.clone(), cluster.clone());
        // By itself: a home that has begun to move comes to an end of it, although the draining is called off.
        let moving = tokio::spawn(async move {
            if let Err(why) = app.move_home(&cluster, &room).await {
                tracing::debug!(%room, "its home does not move while this node drains: {why}");
            }
        });
        // A panic in it has been told of.
        let _ = moving.await;
    }

    /// Everybody of a room whose home is here joins anew at the node at `url`.
    async fn send_room(&self, cluster: &Cluster, room: RoomId, url: String) {
        let (app, cluster) = (self.clone(), cluster.clone());
        // By itself: a room that is not this node's any more has nobody here, although the draining is called off.
        let sending = tokio::spawn(async move {
            cluster.give_up(&room).await;
            Host::give_way(&app, &room, &url);
        });
        // A panic in it has been told of.
        let _ = sending.await;
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
                None => self.send_room(cluster, entry.room, url).await,
            }
            sleep(PAUSE * u32::try_from(entry.clients).unwrap_or(u32::MAX)).await;
        }
    }
}

impl Done {
    /// Where a client is asked to move; `None` when it has to stay.
    fn node_of(&mut self, cluster: &Cluster, movable: Movable) -> Option<(RoomId, ClientId, NodeName)> {
        let Movable { room, client, home, wings } = movable;
        let there = || cluster.node_among(&wings).map(|(node, _)| node);
        let node = match home {
            Some(home) => cluster.node_for(Some(home)),
            None => match self.nodes.get(&room).filter(|node| cluster.takes_clients(node)) {
                Some(node) => Some(node.clone()),
                // None yet, or one that has begun to drain or has died meanwhile.
                None => there().or_else(|| cluster.node_for(None)).inspect(|node| {
                    self.nodes.insert(room.clone(), node.clone());
                }),
            },
        };
        if node.is_none() {
            self.clients.insert(client.clone(), Instant::now() + SOON);
        }
        Some((room, client, node?))
    }
}

async fn drained(app: &App, cluster: &Cluster, deadline: Duration) {
    let end = Instant::now() + deadline;
    let mut done = Done::default();
    let mut steps = interval(STEP);
    steps.set_missed_tick_behavior(MissedTickBehavior::Delay);
    tracing::info!(deadline_s = deadline.as_secs(), clients = app.directory.client_count(), "drains");
    while Instant::now() < end && app.directory.is_used() {
        steps.tick().await;
        let now = Instant::now();
        done.clients.retain(|_, again| now < *again);
        done.homes.retain(|_, again| now < *again);
        let next = app.directory.movable(CLIENTS, |client, _, _| !done.clients.contains_key(client));
        let next: Vec<_> = next.into_iter().filter_map(|movable| done.node_of(cluster, movable)).collect();
        let asked = join_all(next.into_iter().map(|moves| app.ask_to_go(moves))).await;
        done.clients.extend(asked.into_iter().map(|asked| (asked.client, asked.again)));
        let homes = app.directory.movable_homes(HOMES, |room| !done.homes.contains_key(room));
        done.homes.extend(homes.iter().map(|room| (room.clone(), now + SOON)));
        join_all(homes.into_iter().map(|room| app.send_home(cluster, room))).await;
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

#[cfg(test)]
pub(super) mod tests;
