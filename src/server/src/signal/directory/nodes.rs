//! Rooms that are on several nodes: the wings of this node's rooms on others, and wings here of others' rooms.

use super::{Directory, State};
use moonring_core::command::Command;
use moonring_wire::id::{PlaceId, RoomId};

/// What keeps a wing here until somebody has come into it.
#[derive(Debug)]
pub(crate) struct WingHold {
    directory: Directory,
    room: RoomId,
}

impl Drop for WingHold {
    fn drop(&mut self) {
        self.directory.state().forget_empty_wing(&self.room);
    }
}

impl Directory {
    /// A room whose home is another node has clients here from now on; `None` when it is here with another home, or there is no
    /// place for it.
    pub(in crate::signal) fn open_wing(&self, room: &RoomId, home: PlaceId) -> Option<WingHold> {
        let mut state = self.state();
        let is_new = !state.rooms.contains_key(room);
        let placed = state.place(room, self.0.shards.len(), self.0.bounds.rooms_max, || Ok(None)).ok()?;
        let placement = state.rooms.get_mut(room)?;
        if is_new {
            placement.far_home = Some(home);
        }
        let is_it = placement.far_home == Some(home);
        drop(state);
        self.close_evicted(placed.evicted);
        is_it.then(|| WingHold { directory: self.clone(), room: room.clone() })
    }

    /// The home of a room, if it is another node and this one has clients of the room.
    pub(in crate::signal) fn far_home(&self, room: &RoomId) -> Option<PlaceId> {
        self.state().rooms.get(room)?.far_home
    }

    /// A room that had its home at another node has it here from now on.
    pub(in crate::signal) fn home_comes(&self, room: &RoomId) {
        if let Some(placement) = self.state().rooms.get_mut(room) {
            placement.far_home = None;
        }
    }

    /// A room that has its home at another node has it at this shard of a further one from now on, which the shard here knows.
    pub(in crate::signal) fn home_moved(&self, room: &RoomId, home: PlaceId) {
        let mut state = self.state();
        if let Some(far_home) = state.rooms.get_mut(room).and_then(|placement| placement.far_home.as_mut()) {
            *far_home = home;
        }
    }

    /// The shard that has a room whose home is here.
    pub(in crate::signal) fn home_shard(&self, room: &RoomId) -> Option<usize> {
        let state = self.state();
        state.rooms.get(room).filter(|placement| placement.far_home.is_none()).map(|placement| placement.shard)
    }

    /// A shard of another node speaks to a room here from now on; false when the room is not on that shard.
    pub(in crate::signal) fn wing_comes(&self, room: &RoomId, shard: usize, wing: PlaceId) -> bool {
        let mut state = self.state();
        let Some(placement) = state.rooms.get_mut(room) else { return false };
        let is_there = placement.shard == shard && placement.far_home.is_none();
        if is_there && !placement.far_wings.contains(&wing) {
            placement.far_wings.push(wing);
        }
        is_there
    }

    /// The shards of other nodes that speak to a room here.
    pub(in crate::signal) fn far_wings(&self, room: &RoomId) -> Vec<PlaceId> {
        self.state().rooms.get(room).map(|placement| placement.far_wings.clone()).unwrap_or_default()
    }

    /// It does no more.
    pub(in crate::signal) fn wing_goes(&self, room: &RoomId, wing: PlaceId) {
        if let Some(placement) = self.state().rooms.get_mut(room) {
            placement.far_wings.retain(|known| *known != wing);
        }
    }

    /// The shards of other nodes that speak to a room here, and the shard that has it: they do no more.
    pub(in crate::signal) fn take_far_wings(&self, room: &RoomId) -> (usize, Vec<PlaceId>) {
        let mut state = self.state();
        let placement = state.rooms.get_mut(room);
        placement.map(|placement| (placement.shard, std::mem::take(&mut placement.far_wings))).unwrap_or_default()
    }

    /// A shard of another node is gone: it has no wings here. The rooms whose home it was.
    pub(in crate::signal) fn place_gone(&self, place: PlaceId) -> Vec<RoomId> {
        let mut state = self.state();
        let mut homeless = Vec::new();
        for (room, placement) in &mut state.rooms {
            placement.far_wings.retain(|known| *known != place);
            homeless.extend((placement.far_home == Some(place)).then(|| room.clone()));
        }
        homeless
    }

    /// A room whose home is gone has it here from now on.
    pub(in crate::signal) fn becomes_home(&self, room: &RoomId, former: PlaceId) {
        self.change_home(room, former, None, Command::BecomeHome { room: room.clone() });
    }

    /// A room whose home is gone has it at a shard of another node from now on.
    pub(in crate::signal) fn has_home(&self, room: &RoomId, former: PlaceId, home: PlaceId) {
        self.change_home(room, former, Some(home), Command::HomeIs { room: room.clone(), home });
    }

    fn change_home(&self, room: &RoomId, former: PlaceId, home: Option<PlaceId>, command: Command) {
        let mut state = self.state();
        let Some(placement) = state.rooms.get_mut(room).filter(|placement| placement.far_home == Some(former)) else {
            return;
        };
        placement.far_home = home;
        // Before anybody can speak to the shard as the home.
        self.tell_shard(placement.shard, command);
    }

    /// Tells all shards.
    pub(in crate::signal) fn tell_all_shards(&self, command: impl Fn() -> Command) {
        (0..self.0.shards.len()).for_each(|shard| self.tell_shard(shard, command()));
    }
}

impl State {
    /// A wing that nobody of this node is in is not here any more: who comes next asks for the room's home again.
    pub(super) fn forget_empty_wing(&mut self, room: &RoomId) {
        if self.rooms.get(room).is_some_and(|placement| placement.far_home.is_some() && placement.clients == 0) {
            self.forget_room(room);
        }
    }
}
