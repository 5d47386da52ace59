//! What the cluster asks of this server and orders it to do.

use super::app::App;
use super::homes;
use super::rooms::{self, RoomsQuery};
use crate::cluster::{Host, RoomsTold, ShardLoad};
use moonring_wire::id::RoomId;

/// Rooms that are told another node at once.
const ROOMS: usize = 200;

impl Host for App {
    fn has_room(&self, room: &RoomId) -> bool {
        self.directory.room(room).is_some()
    }

    fn loads(&self) -> Vec<ShardLoad> {
        self.reports.loads()
    }

    fn give_way(&self, room: &RoomId, url: &str) {
        self.directory.give_way(room, &homes::websocket_url(url));
    }

    fn rooms(&self, after: Option<RoomId>, named: Option<String>) -> RoomsTold<'_> {
        Box::pin(async move {
            let query = RoomsQuery::behind(after.map(String::from), named, ROOMS);
            let page = rooms::page(self, &query).await;
            let lines = page.rooms.iter().filter_map(|line| serde_json::to_value(line).ok()).collect();
            (lines, page.next)
        })
    }
}
