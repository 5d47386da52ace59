//! A room that another node is the home of: its clients are sent there.

use super::{Directory, Outlet, Route};
use moonring_core::command::{Command, Event, LeaveCause};
use moonring_wire::id::{ClientId, PlaceId, RoomId};

/// What the log and policies are told as the reason.
const MOVED: &str = "the room has its home on another node";
/// The same of those who stay at a node without the home.
const UNLINKED: &str = "the link to the room's home, or to its other nodes, is dead";

impl Directory {
    /// Sends everybody of a room, those whose join is being decided on included, to `url`, and closes the room.
    pub(in crate::signal) fn give_way(&self, room: &RoomId, url: &str) {
        let mut state = self.state();
        let is_there = state.clients.iter().filter(|(_, route)| route.room == *room);
        let clients: Vec<_> = is_there.map(|(client, _)| client.clone()).collect();
        let routes: Vec<_> = clients.into_iter().filter_map(|client| Some((state.remove(&client)?, client))).collect();
        let shard = state.rooms.get(room).map(|placement| placement.shard);
        drop(state);
        routes.into_iter().for_each(|(route, client)| self.send_away(&route, client, (url, MOVED)));
        if let Some(handle) = shard.and_then(|shard| self.0.shards.get(shard)) {
            // A room that its script keeps ends, too; a full queue leaves it to its time.
            let _ = handle.send(Command::CloseIfEmpty { room: room.clone(), gives_way: true });
        }
    }

    /// Clients that are in a room and cannot move (WHIP and WHEP, and who cannot resume), with the room's home where that is another
    /// node and `is_wanted`.
    pub(in crate::signal) fn fixed(&self, is_wanted: impl Fn(&RoomId, PlaceId) -> bool) -> Vec<(ClientId, PlaceId)> {
        let state = self.state();
        let fixed = |(client, route): (&ClientId, &Route)| {
            let is_fixed = route.ticket.is_none() && route.joining.is_none();
            let placement = state.rooms.get(&route.room).filter(|_| is_fixed)?;
            let home = placement.far_home.filter(|home| is_wanted(&route.room, *home))?;
            Some((client.clone(), home))
        };
        state.clients.iter().filter_map(fixed).collect()
    }

    /// The room that a client of this node is in and the room's home, where that is another node.
    pub(in crate::signal) fn home_of(&self, client: &ClientId) -> Option<(RoomId, PlaceId)> {
        let state = self.state();
        let room = &state.clients.get(client)?.room;
        Some((room.clone(), state.rooms.get(room)?.far_home?))
    }

    /// Sends a client that cannot move to `url`, where it joins anew; not one that has become movable meanwhile.
    pub(in crate::signal) fn send_fixed(&self, client: ClientId, url: &str) {
        if self.state().clients.get(&client).is_some_and(|route| route.ticket.is_none()) {
            self.send_home(client, url);
        }
    }

    /// Sends a client to `url`, where it joins anew.
    pub(in crate::signal) fn send_home(&self, client: ClientId, url: &str) {
        let route = self.state().remove(&client);
        route.iter().for_each(|route| self.send_away(route, client.clone(), (url, UNLINKED)));
    }

    fn send_away(&self, route: &Route, client: ClientId, (url, reason): (&str, &str)) {
        tracing::info!(room = %route.room, %client, url, reason, "is sent to another node");
        if let Outlet::Attached(outbox) = &route.outlet {
            // A connection that does not keep up, or is gone, finds its way by joining anew.
            let _ = outbox.push(Event::Left { client: client.clone(), cause: LeaveCause::Moved(url.to_owned()) });
        }
        self.say_goodbye(route.shard, client, reason);
    }
}
