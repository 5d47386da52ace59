//! Which shard a room goes to, and how many clients it has there.

use super::inbox::Backlog;
use super::{Directory, Membership, Permit, Placement, Refusal, Route, State};
use moonring_core::command::Command;
use moonring_wire::id::{ClientId, RoomId};

/// Where a room is.
pub(super) struct Placed {
    pub(super) shard: usize,
    /// What waits for its clients.
    pub(super) backlog: Backlog,
    /// A room without clients that has made way for it, and its shard.
    pub(super) evicted: Option<(RoomId, usize)>,
}

impl Directory {
    /// Finds or places a room that an operator opens; its shard.
    pub(in crate::signal) fn open(&self, room: &RoomId) -> Result<usize, Refusal> {
        let placed = self.state().place(room, self.0.shards.len(), self.0.bounds.rooms_max, || Ok(None))?;
        self.close_evicted(placed.evicted);
        Ok(placed.shard)
    }

    /// A room that nobody is in has made way. A full queue leaves it to its time.
    pub(super) fn close_evicted(&self, evicted: Option<(RoomId, usize)>) {
        if let Some((room, shard)) = evicted
            && let Some(handle) = self.0.shards.get(shard)
        {
            let _ = handle.send(Command::CloseIfEmpty { room });
        }
    }

    /// A room that an operator wanted to open is not there: its shard did not hear of it.
    pub(in crate::signal) fn not_opened(&self, room: &RoomId, shard: usize) {
        self.state().room_closed(room, shard);
    }
}

impl State {
    /// Where a room is, else the shard with the fewest clients, then the fewest rooms. A new room has to be admitted by
    /// `open`: with a permit of the address that opens it, or with none when an operator does.
    pub(super) fn place(
        &mut self,
        room: &RoomId,
        shards: usize,
        rooms_max: usize,
        open: impl FnOnce() -> Result<Option<Permit>, Refusal>,
    ) -> Result<Placed, Refusal> {
        if let Some(placement) = self.rooms.get(room) {
            return Ok(Placed { shard: placement.shard, backlog: placement.backlog.clone(), evicted: None });
        }
        let permit = open()?;
        let mut evicted = None;
        if self.rooms.len() >= rooms_max {
            // A room without clients is about to be closed, or is kept by its script: it makes way.
            let empty = self.rooms.iter().find(|(_, p)| p.clients == 0).map(|(room, p)| (room.clone(), p.shard));
            let (room, shard) = empty.ok_or(Refusal::Rooms)?;
            self.rooms.remove(&room);
            evicted = Some((room, shard));
        }
        let mut load = vec![(0_usize, 0_usize); shards];
        for placement in self.rooms.values() {
            load[placement.shard].0 += placement.clients;
            load[placement.shard].1 += 1;
        }
        let shard = load.iter().enumerate().min_by_key(|(_, load)| **load).map_or(0, |(shard, _)| shard);
        let backlog = Backlog::default();
        let placement = Placement { shard, clients: 0, backlog: backlog.clone(), _permit: permit };
        self.rooms.insert(room.clone(), placement);
        Ok(Placed { shard, backlog, evicted })
    }

    pub(super) fn remove(&mut self, client: &ClientId) -> Option<Route> {
        let route = self.clients.remove(client)?;
        if let Some(placement) = self.rooms.get_mut(&route.room) {
            placement.clients = placement.clients.saturating_sub(1);
        }
        Some(route)
    }

    /// Somebody may have been sent there after the shard closed the room: then it is open again.
    pub(super) fn room_closed(&mut self, room: &RoomId, shard: usize) {
        if self.rooms.get(room).is_some_and(|p| p.shard == shard && p.clients == 0) {
            self.rooms.remove(room);
        }
    }

    /// The route of a membership, while no other connection has taken over.
    pub(super) fn current(&mut self, member: &Membership) -> Option<&mut Route> {
        self.clients.get_mut(&member.client).filter(|route| route.generation == member.generation)
    }
}
