//! Clients of rooms whose home lives while the links to it, or to a further node of the room, do not: they go on at the home,
//! as slowly as when a node drains. Those that cannot (WHIP and WHEP), and those that do not although they were told to, join anew
//! there, a while later.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tokio::time::{MissedTickBehavior, interval};

use super::app::App;
use super::drain::{Asked, CLIENTS, SOON, STEP};
use super::homes;
use crate::cluster::Cluster;
use moonring_wire::id::{ClientId, PlaceId};

/// For so long whoever cannot move waits for the link: not every encoder comes again when it is sent away.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// For so long more whoever can move has to do so, once it was told to: its shard waits for 15 s of it, and asks again after 20.
pub(super) const ATTEMPT: Duration = Duration::from_secs(10);

/// Sends clients to their rooms' homes while links are dead, for as long as the server runs. Those that are still here so long
/// after they were told to move are to join anew.
pub(super) async fn send_home(app: App, cluster: Cluster, patience: Duration) {
    // Who was asked, and when they are asked again.
    let mut asked = HashMap::new();
    // Who was told to move, and when first.
    let mut told: HashMap<ClientId, Instant> = HashMap::new();
    let mut steps = interval(STEP);
    steps.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        steps.tick().await;
        let (now, severed) = (Instant::now(), cluster.severed());
        asked.retain(|_, again| now < *again);
        told.retain(|client, _| {
            app.directory.home_of(client).is_some_and(|(room, home)| severed.concerns(&room, home))
        });
        if severed.is_empty() {
            continue;
        }
        // Those of a busy home wait, and keep nobody from going to another one.
        let with_time = cluster.places_with_time();
        let long = told.iter().filter(|(_, since)| now.saturating_duration_since(**since) >= patience);
        let long = long.filter_map(|(client, _)| Some((client.clone(), app.directory.home_of(client)?.1)));
        for (client, home) in long.filter(|(_, home)| with_time.contains(home)).take(CLIENTS) {
            if let Some(url) = url_with_time(&cluster, home) {
                app.directory.send_home(client, &url);
            }
        }
        let movable = app.directory.movable(CLIENTS, |client, room, home| {
            let goes = |home| severed.concerns(room, home) && with_time.contains(&home);
            home.is_some_and(goes) && !asked.contains_key(client)
        });
        let mut next = Vec::new();
        for movable in movable {
            match movable.home.and_then(|home| cluster.home_with_time(home)) {
                Some(node) => next.push((movable.room, movable.client, node)),
                // The home is busy, or not heard now.
                None => drop(asked.insert(movable.client, now + SOON)),
            }
        }
        for Asked { client, is_told, again } in join_all(next.into_iter().map(|moves| app.ask_to_go(moves))).await {
            if is_told {
                told.entry(client.clone()).or_insert_with(Instant::now);
            }
            asked.insert(client, again);
        }
    }
}

/// Where the WebSockets of a room's home are, if that has time for one more client.
fn url_with_time(cluster: &Cluster, home: PlaceId) -> Option<String> {
    cluster.home_with_time(home)?;
    cluster.url_at(home).map(|url| homes::websocket_url(&url))
}

/// The same with those that cannot move, once links have been dead for `patience`: they are to join anew.
pub(super) async fn send_fixed_home(app: App, cluster: Cluster, patience: Duration) {
    // Who stands still, and since when.
    let mut known: HashMap<ClientId, Instant> = HashMap::new();
    let mut steps = interval(STEP);
    steps.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        steps.tick().await;
        let (now, severed) = (Instant::now(), cluster.severed());
        if severed.is_empty() {
            known.clear();
            continue;
        }
        let found = app.directory.fixed(|room, home| severed.concerns(room, home));
        known = found.iter().map(|(client, _)| (client.clone(), *known.get(client).unwrap_or(&now))).collect();
        let with_time = cluster.places_with_time();
        let long = found.into_iter().filter(|(client, _)| now.saturating_duration_since(known[client]) >= patience);
        for (client, home) in long.filter(|(_, home)| with_time.contains(home)).take(CLIENTS) {
            if let Some(url) = url_with_time(&cluster, home) {
                app.directory.send_fixed(client, &url);
            }
        }
    }
}

#[cfg(test)]
mod tests;
