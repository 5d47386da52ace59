//! Clients of rooms whose home lives while the links to it, or to a further node of the room, do not: they go on at the home,
//! as slowly as when a node drains.

use std::collections::HashMap;
use std::time::Instant;

use futures_util::future::join_all;
use tokio::time::{MissedTickBehavior, interval};

use super::app::App;
use super::drain::{CLIENTS, SOON, STEP};
use crate::cluster::Cluster;

/// Sends clients to their rooms' homes while links are dead, for as long as the server runs.
pub(super) async fn send_home(app: App, cluster: Cluster) {
    // Who was asked, and when they are asked again.
    let mut asked = HashMap::new();
    let mut steps = interval(STEP);
    steps.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        steps.tick().await;
        let (now, severed) = (Instant::now(), cluster.severed());
        asked.retain(|_, again| now < *again);
        if severed.is_empty() {
            continue;
        }
        let movable = app.directory.movable(CLIENTS, |client, room, home| {
            home.is_some_and(|home| severed.concerns(room, home)) && !asked.contains_key(client)
        });
        let mut next = Vec::new();
        for movable in movable {
            match movable.home.and_then(|home| cluster.home_with_time(home)) {
                Some(node) => next.push((movable.room, movable.client, node)),
                // The home is busy, or not heard now.
                None => drop(asked.insert(movable.client, now + SOON)),
            }
        }
        asked.extend(join_all(next.into_iter().map(|moves| app.ask_to_go(moves))).await);
    }
}

#[cfg(test)]
mod tests;
