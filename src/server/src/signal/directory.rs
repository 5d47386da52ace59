//! Who is where: which shard owns a room, which shard and which connection a client belongs to.
//!
//! ```text
//! connection --Command--> Directory --bounded queue--> shard k
//! connection <--bounded queue-- dispatcher of shard k <--Event-- shard k
//! ```
//! Nobody waits for anybody slow: a full queue towards a shard refuses the request, a full queue towards a client ends
//! that client.

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rand::Rng;
use rand::distr::Alphanumeric;
use tokio::sync::mpsc;

use crate::shard_handle::{Full, ShardHandle};
use moonring_core::command::{Command, Event};
use moonring_wire::id::{ClientId, RoomId};

/// Events that may wait for one connection: a join of a big room is followed by a burst.
pub(crate) const CLIENT_QUEUE: usize = 512;
/// Characters of a client id: 95 bits.
const ID_CHARACTERS: usize = 16;
/// Pause before a goodbye is offered again to a shard whose queue is full.
const GOODBYE_RETRY: Duration = Duration::from_millis(20);

/// Bounds of the whole server.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// Most rooms.
    pub rooms_max: usize,
    /// Most clients.
    pub clients_max: usize,
}

/// Why nobody was let in, before any policy was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    /// All rooms are taken.
    #[error("the server has no room left for another room")]
    Rooms,
    /// All places are taken.
    #[error("the server has no place left for another client")]
    Clients,
}

/// A room as the admin page shows it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub(crate) struct RoomEntry {
    /// Its id.
    pub room: RoomId,
    /// Which shard owns it.
    pub shard: usize,
    /// How many clients it has, those still joining included.
    pub clients: usize,
}

/// Who is where; cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Directory(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    shards: Vec<ShardHandle>,
    bounds: Bounds,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    rooms: HashMap<RoomId, Placement>,
    clients: HashMap<ClientId, Route>,
    slow_clients: u64,
}

#[derive(Debug)]
struct Placement {
    shard: usize,
    clients: usize,
}

#[derive(Debug)]
struct Route {
    shard: usize,
    room: RoomId,
    events: mpsc::Sender<Event>,
}

/// A client's place: its id and its events. Dropping it says goodbye to the shard, however the connection ended.
#[derive(Debug)]
pub(crate) struct Membership {
    /// The client's id.
    pub client: ClientId,
    /// What its shard tells it; closed when it was too slow.
    pub events: mpsc::Receiver<Event>,
    /// What the policy is told as the reason of the goodbye.
    pub goodbye: &'static str,
    directory: Directory,
}

impl Directory {
    /// A directory over all shards, in their order.
    pub(crate) fn new(shards: Vec<ShardHandle>, bounds: Bounds) -> Self {
        Self(Arc::new(Inner { shards, bounds, state: Mutex::new(State::default()) }))
    }

    /// Finds or places the room and gives a new client a place there; its `Command::Join` is the caller's to send.
    pub(crate) fn enter(&self, room: &RoomId) -> Result<Membership, Refusal> {
        let mut state = self.state();
        if state.clients.len() >= self.0.bounds.clients_max {
            return Err(Refusal::Clients);
        }
        let shard = state.place(room, self.0.shards.len(), self.0.bounds.rooms_max)?;
        let (sender, events) = mpsc::channel(CLIENT_QUEUE);
        let client = loop {
            let client = random_id();
            if !state.clients.contains_key(&client) {
                break client;
            }
        };
        state.clients.insert(client.clone(), Route { shard, room: room.clone(), events: sender });
        Ok(Membership { client, events, goodbye: "connection lost", directory: self.clone() })
    }

    /// Hands an event of `shard` to the connection it is for. A connection that does not keep up is ended.
    pub(super) fn route(&self, shard: usize, event: Event) {
        if let Event::RoomClosed { room } = &event {
            self.state().room_closed(room, shard);
            return;
        }
        let Some(client) = client_of(&event).cloned() else { return };
        let last = matches!(event, Event::Left { .. });
        let mut state = self.state();
        let Some(route) = state.clients.get(&client) else { return };
        let slow = matches!(route.events.try_send(event), Err(mpsc::error::TrySendError::Full(_)));
        if last || slow {
            state.remove(&client);
        }
        if slow && !last {
            state.slow_clients += 1;
            drop(state);
            tracing::warn!(%client, "does not take its messages and is put out");
            self.say_goodbye(shard, client, "too slow");
        }
    }

    /// Sends a goodbye that must not get lost: tries again while the shard's queue is full.
    fn say_goodbye(&self, shard: usize, client: ClientId, reason: &str) {
        let Some(handle) = self.0.shards.get(shard).cloned() else { return };
        let Err(Full(command)) = handle.send(Command::Leave { client, reason: reason.into() }) else { return };
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        runtime.spawn(async move {
            let mut command = command;
            for _ in 0..1000 {
                tokio::time::sleep(GOODBYE_RETRY).await;
                match handle.send(*command) {
                    Ok(()) => return,
                    Err(Full(back)) => command = back,
                }
            }
        });
    }

    /// The way to a shard.
    pub(super) fn shard(&self, shard: usize) -> Option<&ShardHandle> {
        self.0.shards.get(shard)
    }

    /// All rooms, by name.
    pub(crate) fn rooms(&self) -> Vec<RoomEntry> {
        let state = self.state();
        let entry =
            |(room, p): (&RoomId, &Placement)| RoomEntry { room: room.clone(), shard: p.shard, clients: p.clients };
        let mut rooms: Vec<RoomEntry> = state.rooms.iter().map(entry).collect();
        rooms.sort_by(|a, b| a.room.cmp(&b.room));
        rooms
    }

    /// Clients ended because they did not take their messages.
    pub(crate) fn slow_clients(&self) -> u64 {
        self.state().slow_clients
    }

    /// How many clients have a place.
    #[cfg(test)]
    pub(crate) fn client_count(&self) -> usize {
        self.state().clients.len()
    }

    /// A panic while it was held left whole entries behind: each change is one insertion or removal.
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Membership {
    /// Sends a command to the client's shard.
    pub(crate) fn send(&self, command: Command) -> Result<(), Full> {
        let shard = self.directory.state().clients.get(&self.client).map(|route| route.shard);
        match shard.and_then(|shard| self.directory.0.shards.get(shard)) {
            Some(handle) => handle.send(command),
            None => Err(Full(Box::new(command))),
        }
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        let route = self.directory.state().remove(&self.client);
        if let Some(route) = route {
            self.directory.say_goodbye(route.shard, self.client.clone(), self.goodbye);
        }
    }
}

impl State {
    /// The shard of a room: where it is, else the one with the fewest clients, then the fewest rooms.
    fn place(&mut self, room: &RoomId, shards: usize, rooms_max: usize) -> Result<usize, Refusal> {
        if let Some(placement) = self.rooms.get_mut(room) {
            placement.clients += 1;
            return Ok(placement.shard);
        }
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
        self.rooms.insert(room.clone(), Placement { shard, clients: 1 });
        Ok(shard)
    }

    fn remove(&mut self, client: &ClientId) -> Option<Route> {
        let route = self.clients.remove(client)?;
        if let Some(placement) = self.rooms.get_mut(&route.room) {
            placement.clients = placement.clients.saturating_sub(1);
        }
        Some(route)
    }

    /// Somebody may have been sent there after the shard closed the room: then it is open again.
    fn room_closed(&mut self, room: &RoomId, shard: usize) {
        if self.rooms.get(room).is_some_and(|p| p.shard == shard && p.clients == 0) {
            self.rooms.remove(room);
        }
    }
}

/// Letters and digits from a generator that the operating system seeds.
pub(super) fn random_text(characters: usize) -> String {
    rand::rng().sample_iter(Alphanumeric).take(characters).map(char::from).collect()
}

fn random_id() -> ClientId {
    loop {
        // Letters and digits are always an id.
        if let Ok(id) = ClientId::parse(&random_text(ID_CHARACTERS)) {
            return id;
        }
    }
}

fn client_of(event: &Event) -> Option<&ClientId> {
    match event {
        Event::Joined { client, .. }
        | Event::Left { client, .. }
        | Event::Answered { client, .. }
        | Event::Refused { client, .. }
        | Event::Connected { client }
        | Event::ClientJoined { client, .. }
        | Event::ClientLeft { client, .. }
        | Event::TrackPublished { client, .. }
        | Event::TrackChanged { client, .. }
        | Event::TrackUnpublished { client, .. }
        | Event::TrackPaused { client, .. }
        | Event::TrackResumed { client, .. }
        | Event::WantedLayers { client, .. }
        | Event::ActiveSpeakers { client, .. }
        | Event::Message { client, .. } => Some(client),
        Event::PolicyRequest { .. } | Event::Report { .. } | Event::Counters(_) | Event::RoomClosed { .. } => None,
    }
}
