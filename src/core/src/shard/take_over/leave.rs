//! At the shard that ends.

use std::time::Instant;

use zeroize::Zeroizing;

use super::state::{Head, MAX_ROOM, RoomState, VERSION};
use super::{CATCH_UP, HandedOver, Piece};
use crate::command::{Event, RefusalCode};
use crate::room::Room;
use crate::room::client::Client;
use crate::shard::Shard;
use crate::shard::carried_room::CarriedRoom;
use crate::shard::moves::MAX_STATE;
use moonring_policy::hook::Presence;
use moonring_wire::id::{ClientId, ClientKey, RoomKey};

/// What a client is told whose offer is being decided on.
const REPLACED: &str = "the server is being replaced, please offer again";

impl Shard {
    /// Whether nothing is under way that would be cut off: no join waits for its verdict, no offer for its answer, no handshake
    /// for its end, no room for what its script begins with.
    pub fn is_at_rest_for_hand_over(&self) -> bool {
        let is_under_way = |client: &Client| {
            let handshakes = client.transport.as_ref().is_some_and(|transport| !transport.is_connected());
            client.facts.presence.get() != Presence::Joined || client.negotiated.pending.is_some() || handshakes
        };
        self.policy.pending.is_empty()
            && self.policy.awaited.is_empty()
            && !self.world.clients.values().any(is_under_way)
    }

    /// A copy of everything that another process needs to go on with this shard's sockets. **Nothing may be sealed here
    /// afterwards**, unless that process never begins; then this shard goes on as if nothing had been, but that offers which were
    /// being decided on have been refused. Call [`Shard::forward_all`] before.
    pub fn hand_over(&mut self, now: Instant) -> HandedOver {
        self.give_up_offers();
        self.work.load.forgive(now + CATCH_UP);
        let mut scratch = Zeroizing::new(vec![0; MAX_STATE]);
        let (mut pieces, mut clients) = (vec![Piece::default()], Vec::new());
        let (mut rooms, mut left_behind) = (0, Vec::new());
        for (key, room) in &self.world.rooms {
            // One that ends has told its script, or is about to.
            if room.life.ending.is_some() || room.policy().is_none() {
                continue;
            }
            let states = self.clients_of(now, room, &mut left_behind, &mut scratch);
            if states.is_empty() && room.life.kept_until.is_none() {
                continue;
            }
            let Some(piece) = self.room_piece(now, (key, room), &states) else { continue };
            rooms += 1;
            pieces.push(piece);
            for (key, state) in states {
                pieces.push(state);
                clients.extend(self.world.clients.get(key).map(|client| client.id.clone()));
            }
        }
        self.moves.left_behind = left_behind;
        let since_start = now.saturating_duration_since(self.start).as_micros();
        let head = Head { version: VERSION, since_start: u64::try_from(since_start).unwrap_or(u64::MAX), rooms };
        // It has no keys, and no bound that it could exceed.
        pieces[0] = Zeroizing::new(postcard::to_extend(&head, Vec::new()).unwrap_or_default());
        HandedOver { pieces, clients }
    }

    /// Those of a room's clients that go on, with their states; its other members go to `left_behind`.
    fn clients_of(
        &self,
        now: Instant,
        room: &Room,
        left_behind: &mut Vec<ClientKey>,
        scratch: &mut [u8],
    ) -> Vec<(ClientKey, Piece)> {
        let mut states = Vec::with_capacity(room.clients.len());
        for key in &room.clients {
            let Some(client) = self.world.clients.get(*key) else { continue };
            if client.facts.presence.get() != Presence::Joined || client.far.is_some() {
                continue;
            }
            let whole = match &client.transport {
                Some(transport) if !transport.is_connected() => {
                    left_behind.push(*key);
                    continue;
                }
                transport => transport.as_ref().and_then(|transport| transport.whole(now)),
            };
            match self.state_of(now, *key).write_whole(whole.as_ref(), scratch) {
                Some(state) => states.push((*key, state)),
                None => {
                    left_behind.push(*key);
                    tracing::warn!(client = %client.id, "has too much state to go on, and has to join again");
                }
            }
        }
        states
    }

    fn room_piece(&self, now: Instant, (key, room): (RoomKey, &Room), states: &[(ClientKey, Piece)]) -> Option<Piece> {
        let id = |key: &ClientKey| self.world.clients.get(*key).map(|client| client.id.clone());
        let is_carried = |key: &&ClientKey| states.iter().any(|(carried, _)| carried == *key);
        let metadata = match self.policy.awaited.get(&key) {
            Some(awaited) => Some(awaited.metadata.clone()),
            None => room.policy().and_then(|policy| self.policy.engine.metadata(policy)),
        };
        let kept_for = room.life.kept_until.map(|until| until.saturating_duration_since(now).as_micros());
        let tracks = room.tracks.iter().filter_map(|track| self.world.tracks.get(*track));
        let state = RoomState {
            id: room.id.clone(),
            metadata: metadata.map_or_else(|| "{}".to_owned(), |metadata| metadata.to_string()),
            kept_for: kept_for.map(|us| u64::try_from(us).unwrap_or(u64::MAX)),
            clients: states.iter().filter_map(|(key, _)| id(key)).collect(),
            tracks: tracks.map(|track| track.info.id.clone()).collect(),
            carried: CarriedRoom::of(room, room.announced.iter().filter(is_carried).filter_map(id).collect()),
        };
        let piece = postcard::to_extend(&state, Vec::new()).ok().filter(|piece: &Vec<u8>| piece.len() <= MAX_ROOM);
        if piece.is_none() {
            tracing::warn!(room = %room.id, "has too much state to go on: its clients have to join again");
        }
        piece.map(Zeroizing::new)
    }

    /// Offers that are being decided on are refused: their answers would not come any more.
    fn give_up_offers(&mut self) {
        let mut refused: Vec<(ClientId, u64)> = Vec::new();
        for client in self.world.clients.values_mut().filter(|client| client.far.is_none()) {
            if let Some(pending) = client.negotiated.pending.take() {
                refused.push((client.id.clone(), pending.request));
            }
        }
        for (client, request) in refused {
            let message = REPLACED.to_owned();
            self.work.events.push(Event::Refused { client, request: Some(request), code: RefusalCode::Busy, message });
        }
    }
}
