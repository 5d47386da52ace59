//! A room that another node is the home of: its clients are sent there.

use super::{Directory, Outlet};
use moonring_core::command::{Command, Event, LeaveCause};
use moonring_wire::id::RoomId;

/// What the log and policies are told as the reason.
const MOVED: &str = "the room has its home on another node";

impl Directory {
    /// Sends everybody of a room, those whose join is being decided on included, to `url`, and closes the room.
    pub(in crate::signal) fn give_way(&self, room: &RoomId, url: &str) {
        let mut state = self.state();
        let is_there = state.clients.iter().filter(|(_, route)| route.room == *room);
        let clients: Vec<_> = is_there.map(|(client, _)| client.clone()).collect();
        let routes: Vec<_> = clients.into_iter().filter_map(|client| Some((state.remove(&client)?, client))).collect();
        let shard = state.rooms.get(room).map(|placement| placement.shard);
        drop(state);
        for (route, client) in routes {
            tracing::info!(%room, %client, url, "is sent to another node");
            if let Outlet::Attached(outbox) = &route.outlet {
                // A connection that does not keep up, or is gone, finds its way by joining anew.
                let _ = outbox.push(Event::Left { client: client.clone(), cause: LeaveCause::Moved(url.to_owned()) });
            }
            self.say_goodbye(route.shard, client, MOVED);
        }
        if let Some(handle) = shard.and_then(|shard| self.0.shards.get(shard)) {
            // A room that its script keeps ends, too; a full queue leaves it to its time.
            let _ = handle.send(Command::CloseIfEmpty { room: room.clone(), gives_way: true });
        }
    }
}
