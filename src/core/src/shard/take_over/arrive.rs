//! At the shard that begins.

use std::rc::Rc;
use std::time::{Duration, Instant};

use super::state::{Head, RoomState, TakeOverError, VERSION};
use super::{Awaited, CATCH_UP, Origin, Piece};
use crate::room::Seat;
use crate::shard::Shard;
use crate::shard::carried_room::are_the_same;
use crate::shard::moves::{ClientState, Newcomer, Receiving, StateError};
use crate::shard::outgoing::Outgoing;
use moonring_policy::PolicyKey;
use moonring_policy::client::{ClientFacts, Presence};
use moonring_wire::id::{ClientId, ClientKey, RoomKey};
use moonring_wire::shared::SharedValue;
use moonring_wire::transport::Transport;
use serde_json::Value;

impl Shard {
    /// Becomes what another process's shard has handed over; how many clients that are. This shard is a new one, and nothing is
    /// sealed before this returns. After an error it is of no use any more.
    pub fn take_over(&mut self, now: Instant, pieces: impl IntoIterator<Item = Piece>) -> Result<usize, TakeOverError> {
        let mut pieces = pieces.into_iter();
        let head = pieces.next().ok_or(TakeOverError::Pieces("no beginning"))?;
        let head: Head = postcard::from_bytes(&head)?;
        if head.version != VERSION {
            return Err(TakeOverError::Version { theirs: head.version });
        }
        self.work.load.forgive(now + CATCH_UP);
        // Send times go on, or receivers would take the path for another.
        self.start = now.checked_sub(Duration::from_micros(head.since_start)).unwrap_or(now);
        for _ in 0..head.rooms {
            let piece = pieces.next().ok_or(TakeOverError::Pieces("fewer rooms than it says"))?;
            self.take_room(now, postcard::from_bytes(&piece)?, &mut pieces)?;
        }
        if pieces.next().is_some() {
            return Err(TakeOverError::Pieces("more pieces than it says"));
        }
        if !self.policy.awaited.is_empty() {
            self.await_policies(now);
        }
        Ok(self.world.clients.len())
    }

    fn take_room(
        &mut self,
        now: Instant,
        state: RoomState,
        pieces: &mut impl Iterator<Item = Piece>,
    ) -> Result<(), TakeOverError> {
        if self.index.rooms.contains_key(&state.id) {
            return Err(TakeOverError::Twice(format!("room {}", state.id)));
        }
        if state.clients.is_empty() && state.kept_for.is_none() {
            return Err(TakeOverError::Pieces("a room that nobody is in and that is not kept"));
        }
        // Its policy is on its way.
        let seat = Seat::Home { policy: PolicyKey::default(), wings: Vec::new() };
        let key = self.add_room(state.id.clone(), seat);
        let metadata: Value = serde_json::from_str(&state.metadata).unwrap_or_default();
        self.policy.awaited.insert(key, Awaited::new(now, SharedValue::from(metadata), Origin::Predecessor));
        let mut receiving = Vec::with_capacity(state.clients.len());
        for id in &state.clients {
            let piece = pieces.next().ok_or(TakeOverError::Pieces("fewer clients than it says"))?;
            receiving.push(self.take_client(now, (key, id), &piece)?);
            self.tell_nobody();
        }
        for (client, receiving) in receiving {
            self.adopt_receiver(now, client, receiving);
            self.tell_nobody();
        }
        self.finish_room(now, key, &state);
        self.tell_nobody();
        Ok(())
    }

    fn take_client(
        &mut self,
        now: Instant,
        (room, id): (RoomKey, &ClientId),
        piece: &Piece,
    ) -> Result<(ClientKey, Receiving), TakeOverError> {
        if self.index.clients.contains_key(id) {
            return Err(TakeOverError::Twice(format!("client {id}")));
        }
        let client = id.clone();
        let unread = |error: StateError| TakeOverError::Client { client: id.clone(), error };
        let (state, whole) = ClientState::read_whole(piece).map_err(unread)?;
        if let Some(track) = self.foreign_track(id, &state) {
            return Err(TakeOverError::Twice(format!("track {track}")));
        }
        let facts = state.facts.facts(now, id.clone()).map_err(unread)?;
        let transport = whole.map(|whole| Transport::take_over(now, &self.settings.transport, whole)).transpose();
        let transport = transport.map_err(|error| TakeOverError::Transport { client, error })?;
        let adopted = self.adopt_publisher(now, room, Newcomer { id, facts, transport }, state);
        if let Some(room) = self.world.rooms.get_mut(room) {
            room.members += 1;
        }
        Ok(adopted)
    }

    /// All that is known of a room beside its clients.
    fn finish_room(&mut self, now: Instant, key: RoomKey, state: &RoomState) {
        self.carry_on(now, key, &state.carried);
        let tracks: Vec<_> = state.tracks.iter().filter_map(|id| self.index.tracks.get(id).copied()).collect();
        let Some(room) = self.world.rooms.get_mut(key) else { return };
        // In the order that newcomers are told in, which is that of publishing.
        if are_the_same(&tracks, &room.tracks) {
            room.tracks = tracks;
        }
        if let Some(us) = state.kept_for {
            self.keep_until(now, key, now + Duration::from_micros(us));
        }
    }

    /// Everybody knows already what the making of all this would tell.
    fn tell_nobody(&mut self) {
        self.work.events = Outgoing::default();
    }

    /// Who is in a room, in the order of coming, for its policy.
    pub(in crate::shard) fn roster_of(&self, key: RoomKey) -> Vec<Rc<ClientFacts>> {
        let clients = self.world.rooms.get(key).into_iter().flat_map(|room| &room.clients);
        let joined = clients.filter_map(|client| self.world.clients.get(*client));
        let joined = joined.filter(|client| client.facts.presence.get() == Presence::Joined);
        joined.map(|client| client.facts.clone()).collect()
    }
}
