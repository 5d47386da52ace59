//! Which shard a room goes to, and how many clients it has there.

use super::inbox::Backlog;
use super::waiting::Waiting;
use super::{Bounds, Directory, Membership, Permit, Placement, Refusal, Route, State};
use crate::signal::door::Origin;
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
        let mut state = self.state();
        let placed = state.place(room, self.0.shards.len(), self.0.bounds.rooms_max, || Ok(None))?;
        state.room_lives(room);
        drop(state);
        self.close_evicted(placed.evicted);
        Ok(placed.shard)
    }

    /// A room that nobody is in has made way. A full queue leaves it to its time.
    pub(super) fn close_evicted(&self, evicted: Option<(RoomId, usize)>) {
        if let Some((room, shard)) = evicted
            && let Some(handle) = self.0.shards.get(shard)
        {
            let _ = handle.send(Command::CloseIfEmpty { room, gives_way: false });
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
    /// Rooms that nobody was admitted to do not count: there are at most as many as joins that wait.
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
        if self.rooms_lived >= rooms_max {
            // A room without clients is about to be closed, or is kept by its script: it makes way.
            let empty = self
                .rooms
                .iter()
                .find(|(_, p)| p.clients == 0 && p.lived && p.far_wings.is_empty())
                .map(|(room, p)| (room.clone(), p.shard));
            let (room, shard) = empty.ok_or(Refusal::Rooms)?;
            self.forget_room(&room);
            evicted = Some((room, shard));
        }
        let mut load = vec![(0_usize, 0_usize); shards];
        for placement in self.rooms.values() {
            load[placement.shard].0 += placement.clients;
            load[placement.shard].1 += 1;
        }
        let shard = load.iter().enumerate().min_by_key(|(_, load)| **load).map_or(0, |(shard, _)| shard);
        let backlog = Backlog::default();
        let (waiting, backlog_of_room) = (Waiting::default(), backlog.clone());
        let placement = Placement {
            shard,
            wings: Vec::new(),
            far_home: None,
            far_wings: Vec::new(),
            entered: 0,
            clients: 0,
            waiting,
            lived: false,
            backlog: backlog_of_room,
            _permit: permit,
        };
        self.rooms.insert(room.clone(), placement);
        Ok(Placed { shard, backlog, evicted })
    }

    /// The room counts from now on, although nobody may be in it.
    fn room_lives(&mut self, room: &RoomId) {
        if let Some(placement) = self.rooms.get_mut(room) {
            self.rooms_lived += usize::from(!std::mem::replace(&mut placement.lived, true));
        }
    }

    pub(super) fn remove(&mut self, client: &ClientId) -> Option<Route> {
        let route = self.clients.remove(client)?;
        let origin = route.joining.as_ref().map(Permit::origin);
        if let Some(origin) = origin {
            self.waiting.remove(origin, client);
        }
        if let Some(placement) = self.rooms.get_mut(&route.room) {
            placement.clients = placement.clients.saturating_sub(1);
            if let Some(origin) = origin {
                placement.waiting.remove(origin, client);
            }
        }
        self.forget_empty_wing(&route.room);
        Some(route)
    }

    /// Clients that were admitted.
    pub(super) fn members(&self) -> usize {
        self.clients.len().saturating_sub(self.waiting.len())
    }

    /// Takes in a client whose join is about to ask for its verdict; [`Directory::enter`] has counted it.
    pub(super) fn insert(&mut self, client: ClientId, route: Route, origin: Origin) {
        self.waiting.insert(origin, client.clone());
        if let Some(placement) = self.rooms.get_mut(&route.room) {
            placement.waiting.insert(origin, client.clone());
        }
        self.clients.insert(client, route);
    }

    /// A join has been allowed: it takes its seat, unless others have taken the last ones meanwhile.
    pub(super) fn admitted(&mut self, client: &ClientId, bounds: &Bounds) -> Result<(), Refusal> {
        let members = self.members();
        let Some(route) = self.clients.get_mut(client) else { return Ok(()) };
        let Some(placement) = self.rooms.get_mut(&route.room) else { return Ok(()) };
        // A client that has its seat may ask for a snapshot.
        let Some(joining) = route.joining.as_ref() else { return Ok(()) };
        if members >= bounds.clients_max {
            return Err(Refusal::Clients);
        }
        if !placement.lived && self.rooms_lived >= bounds.rooms_max {
            return Err(Refusal::Rooms);
        }
        self.rooms_lived += usize::from(!std::mem::replace(&mut placement.lived, true));
        placement.waiting.remove(joining.origin(), client);
        self.waiting.remove(joining.origin(), client);
        route.joining = None;
        Ok(())
    }

    pub(super) fn forget_room(&mut self, room: &RoomId) {
        if let Some(placement) = self.rooms.remove(room) {
            self.rooms_lived -= usize::from(placement.lived);
        }
    }

    /// Somebody may have been sent there after the shard closed the room: then it is open again.
    pub(super) fn room_closed(&mut self, room: &RoomId, shard: usize) {
        if self.rooms.get(room).is_some_and(|p| p.shard == shard && p.clients == 0 && p.far_wings.is_empty()) {
            self.forget_room(room);
        }
    }

    /// The route of a membership, while no other connection has taken over.
    pub(super) fn current(&mut self, member: &Membership) -> Option<&mut Route> {
        self.clients.get_mut(&member.client).filter(|route| route.generation == member.generation)
    }

    /// What waits in a client's room.
    pub(super) fn backlog_of(&self, client: &ClientId) -> Backlog {
        let placement = self.clients.get(client).and_then(|route| self.rooms.get(&route.room));
        placement.map(|placement| placement.backlog.clone()).unwrap_or_default()
    }
}
