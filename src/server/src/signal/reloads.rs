//! `POST /reload`: the scripts folder is read, and what came of it in the rooms is waited for.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep};

use super::app::App;
use super::orders;
use crate::watch::ReloadReport;
use moonring_core::report::{MAX_FAILED_ROOMS, ReloadProgress};
use moonring_wire::id::RoomId;

/// How long the rooms are waited for. Shards tell of themselves every second, and a room waits for its hooks for another one.
const PATIENCE: Duration = Duration::from_secs(5);
/// Distance of two looks at what the shards have told.
const LOOK: Duration = Duration::from_millis(25);

/// The answer: what was read, and what came of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Reloaded {
    #[serde(flatten)]
    pub folder: ReloadReport,
    #[serde(default)]
    pub rooms: RoomsReloaded,
}

/// What came of it in the rooms.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct RoomsReloaded {
    /// Rooms that run the new version of their script.
    pub reloaded: usize,
    /// Rooms where the old version runs on.
    pub failed: usize,
    /// Rooms that have not been looked at in time, or wait for their hooks.
    pub waiting: usize,
    /// The first of those that failed.
    pub failures: Vec<FailedRoom>,
}

/// A room where the old version runs on, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct FailedRoom {
    pub room: RoomId,
    pub error: String,
}

/// Reads the scripts folder now.
pub(super) async fn reload(State(app): State<App>, headers: HeaderMap) -> Response {
    if let Some(refusal) = orders::of_a_browser(&headers) {
        return refusal;
    }
    let report = match &app.scripts {
        Some(scripts) => scripts.reload().await,
        None => None,
    };
    match report {
        Some((order, folder)) => Json(Reloaded { rooms: rooms(&app, order).await, folder }).into_response(),
        None => (StatusCode::SERVICE_UNAVAILABLE, "the scripts folder is not watched\n").into_response(),
    }
}

/// What the shards tell of an order, once all of them are through with it, or time is over.
async fn rooms(app: &App, order: u64) -> RoomsReloaded {
    let until = Instant::now() + PATIENCE;
    loop {
        let progress = app.reports.reloads();
        let through = progress.iter().filter(|shard| shard.orders >= order && shard.waiting == 0).count();
        if through >= app.directory.shards() || Instant::now() >= until {
            return sum(progress, order);
        }
        sleep(LOOK).await;
    }
}

/// Of all shards together. One that has not got so far tells of an earlier order.
fn sum(progress: Vec<ReloadProgress>, order: u64) -> RoomsReloaded {
    let mut sum = RoomsReloaded::default();
    for shard in progress.into_iter().filter(|shard| shard.orders >= order) {
        sum.reloaded += shard.reloaded;
        sum.failed += shard.failed;
        sum.waiting += shard.waiting;
        let failures = shard.failures.into_iter().map(|(room, error)| FailedRoom { room, error });
        sum.failures.extend(failures.take(MAX_FAILED_ROOMS - sum.failures.len()));
    }
    sum
}

impl Reloaded {
    /// What an operator reads; an error when not everything is in use in its newest version.
    pub(super) fn told(&self) -> Result<String, String> {
        let Self { folder, rooms } = self;
        let lines = |lines: &mut dyn Iterator<Item = String>| lines.map(|line| format!("{line}\n")).collect::<String>();
        let changed = lines(&mut folder.changed.iter().map(|name| format!("changed {name}")));
        let mut text = format!("{} scripts, {} changed\n{changed}", folder.scripts, folder.changed.len());
        if rooms.reloaded > 0 {
            text += &format!("{} rooms run the new version\n", rooms.reloaded);
        }
        if rooms.waiting > 0 {
            text += &format!("{} rooms are still to be given theirs: see moonring rooms\n", rooms.waiting);
        }
        let mut wrong = String::new();
        if !folder.failed.is_empty() {
            let failed = lines(&mut folder.failed.iter().map(|failed| failed.error.clone()));
            wrong += &format!("these are not in use in their newest version:\n{failed}");
        }
        if rooms.failed > 0 {
            let failed = lines(
                &mut rooms
                    .failures
                    .iter()
                    .map(|failed| format!("{}: {}", failed.room, failed.error.lines().next().unwrap_or_default())),
            );
            wrong += &format!("{} rooms were not reloaded, the old version runs on there:\n{failed}", rooms.failed);
        }
        let more = rooms.failed.saturating_sub(rooms.failures.len());
        if more > 0 {
            wrong += &format!("and {more} more: moonring rooms tells of all\n");
        }
        if wrong.is_empty() { Ok(text) } else { Err((text + &wrong).trim_end().to_owned()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(room: &str) -> (RoomId, String) {
        (RoomId::parse(room).unwrap(), "no database".to_owned())
    }

    #[test]
    fn the_rooms_of_all_shards_are_counted_and_the_first_that_failed_are_named() {
        let shard = |orders, reloaded, failures: Vec<(RoomId, String)>| ReloadProgress {
            orders,
            waiting: 1,
            reloaded,
            failed: failures.len(),
            failures,
        };
        let many = (0..MAX_FAILED_ROOMS).map(|n| failed(&format!("r{n}"))).collect();
        let rooms =
            sum(vec![shard(2, 3, vec![failed("demo")]), shard(1, 100, vec![failed("old")]), shard(2, 4, many)], 2);
        assert_eq!((rooms.reloaded, rooms.failed, rooms.waiting), (7, 17, 2));
        assert_eq!((rooms.failures.len(), rooms.failures[0].room.as_str()), (16, "demo"));
        let told = Reloaded { rooms, ..Reloaded::default() }.told().unwrap_err();
        let start = "0 scripts, 0 changed\n7 rooms run the new version\n2 rooms are still to be given theirs: see moonring \
            rooms\n17 rooms were not reloaded, the old version runs on there:\ndemo: no database\nr0: no database\n";
        assert!(told.starts_with(start) && told.ends_with("\nand 1 more: moonring rooms tells of all"), "{told}");
    }
}
