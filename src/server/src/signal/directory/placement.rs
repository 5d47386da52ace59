//! Which shard a room goes to, and how many clients it has there.

use super::inbox::Backlog;
use super::{Membership, Permit, Placement, Refusal, Route, State};
use moonring_wire::id::{ClientId, RoomId};

impl State {
    /// The shard of a room, and what waits for its clients: where it is, else the shard with the fewest clients, then
    /// the fewest rooms.
    /// A new room has to be admitted by `open`.
    pub(super) fn place(
        &mut self,
        room: &RoomId,
        shards: usize,
        rooms_max: usize,
        open: impl FnOnce() -> Option<Permit>,
    ) -> Result<(usize, Backlog), Refusal> {
        if let Some(placement) = self.rooms.get_mut(room) {
            placement.clients += 1;
            return Ok((placement.shard, placement.backlog.clone()));
        }
        let permit = open().ok_or(Refusal::Address("rooms"))?;
        if self.rooms.len() >= rooms_max {
            // A room without clients is about to be closed, or is kept by its script: it makes way.
            let empty = self.rooms.iter().find(|(_, p)| p.clients == 0).map(|(room, _)| room.clone());
            self.rooms.remove(&empty.ok_or(Refusal::Rooms)?);
        }
        let mut load = vec![(0_usize, 0_usize); shards];
        for placement in self.rooms.values() {
            load[placement.shard].0 += placement.clients;
            load[placement.shard].1 += 1;
        }
        let shard = load.iter().enumerate().min_by_key(|(_, load)| **load).map_or(0, |(shard, _)| shard);
        let backlog = Backlog::default();
        let placement = Placement { shard, clients: 1, backlog: backlog.clone(), _permit: Some(permit) };
        self.rooms.insert(room.clone(), placement);
        Ok((shard, backlog))
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
