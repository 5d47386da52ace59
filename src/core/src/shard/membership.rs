//! Coming and going of clients.

use std::collections::VecDeque;
use std::rc::Rc;
use std::time::{Duration, Instant};

use serde_json::json;

use super::announce::MAX_ANNOUNCED;
use super::faults::Stage;
use super::{PendingHook, Shard};
use crate::command::{Event, JoinRequest, LeaveCause, News, RefusalCode};
use crate::room::client::Client;
use crate::room::life::Life;
use crate::room::sound::SoundHold;
use crate::room::speakers::Speakers;
use crate::room::{Announcing, Room, Seat};
use moonring_policy::client::Via;
use moonring_policy::hook::{ClientFacts, HookCall, Presence, Undecided, Verdict};
use moonring_policy::{OpenError, PolicyKey};
use moonring_wire::id::{ClientId, ClientKey, RoomId, RoomKey};
use moonring_wire::packet::SendBatch;
use moonring_wire::shared::SharedValue;
use moonring_wire::transport::ice;

/// Joins of a shard that may wait for their verdict, all rooms together. Those of one room are bounded by its policy.
const MAX_JOINING: usize = 4_096;

impl Shard {
    pub(super) fn join(&mut self, now: Instant, request: JoinRequest) {
        let Some(request) = self.not_too_late(None, request) else { return };
        let (room, client) = (request.room.clone(), request.client.clone());
        let left = |cause| Event::Left { client: client.clone(), cause };
        if self.members() >= self.settings.max_clients {
            return self.work.events.push(left(LeaveCause::Limit(self.full_shard())));
        }
        let room_key = match self.index.rooms.get(&room) {
            Some(key) => *key,
            None => match self.open_room(now, &room, SharedValue::empty_object()) {
                Ok(key) => key,
                Err(error) => {
                    let reason = error.reason().to_owned();
                    self.work.events.push(left(LeaveCause::Undecided(Undecided::Failed, reason)));
                    return self.work.events.push(Event::RoomClosed(room));
                }
            },
        };
        // Who waits for a verdict takes no seat: strangers would keep members out.
        if self.members_of(room_key) >= self.settings.max_clients_per_room {
            return self.work.events.push(left(LeaveCause::Limit(self.full(&room))));
        }
        self.take_in(now, room_key, request);
    }

    /// Takes a client into a room that waits for the verdict on it.
    pub(super) fn take_in(&mut self, now: Instant, room_key: RoomKey, request: JoinRequest) {
        let JoinRequest { client, token, metadata, connection, .. } = request;
        let left = |cause| Event::Left { client: client.clone(), cause };
        if self.members() >= self.settings.max_clients {
            return self.work.events.push(left(LeaveCause::Limit(self.full_shard())));
        }
        if self.index.joining >= MAX_JOINING {
            let words = "too many people are joining at once, please try again".to_owned();
            return self.work.events.push(left(LeaveCause::Later(words)));
        }
        self.keep_no_longer(room_key);
        let facts = Rc::new(ClientFacts::new(client.clone(), *connection, metadata.into(), now));
        let report_ssrc = self.random_ssrc();
        let credentials = self.new_ice_credentials();
        let facts_for_client = facts.clone();
        let key = self
            .world
            .clients
            .insert_with_key(|key| Client::new(key, room_key, facts_for_client, credentials, report_ssrc, now));
        self.index.ufrags.insert(self.world.clients[key].negotiated.local_ice.ufrag.clone(), key);
        self.index.clients.insert(client, key);
        self.index.joining += 1;
        self.world.rooms[room_key].clients.push(key);
        self.world.rooms[room_key].here += 1;
        self.stage(Stage::Joining);
        self.ask(
            now,
            room_key,
            PendingHook::Connect(key),
            HookCall::ClientConnect { client: facts, auth_token: token },
        );
    }

    /// Clients that are admitted, in all rooms.
    pub(super) fn members(&self) -> usize {
        self.world.clients.len().saturating_sub(self.index.joining + self.index.far)
    }

    /// Clients of a room that are admitted.
    fn members_of(&self, room: RoomKey) -> usize {
        self.world.rooms.get(room).map_or(0, |room| room.members)
    }

    pub(super) fn full_shard(&self) -> String {
        format!("this server is full: {} clients on one shard", self.settings.max_clients)
    }

    pub(super) fn full(&self, room: &RoomId) -> String {
        format!("room {room} is full: {} clients", self.settings.max_clients_per_room)
    }

    pub(super) fn open_room(&mut self, now: Instant, id: &RoomId, metadata: SharedValue) -> Result<RoomKey, OpenError> {
        let key = if self.may_have_checkpoint(id) {
            self.open_awaiting(now, id, metadata)
        } else {
            let policy = self.begin_policy(now, id, metadata)?;
            let key = self.add_room(id.clone(), Seat::Home { policy, wings: Vec::new() });
            self.policy.rooms.insert(policy, key);
            key
        };
        // An operator hears of it once somebody was admitted: strangers make rooms as fast as they can ask.
        tracing::debug!(room = %id, "room opened for whoever asks to join");
        Ok(key)
    }

    /// The policy of a room that begins.
    pub(super) fn begin_policy(
        &mut self,
        now: Instant,
        id: &RoomId,
        metadata: SharedValue,
    ) -> Result<PolicyKey, OpenError> {
        let (sink, side) = (self.policy.recorder.sink_for(id), self.policy.scripts.side(id));
        let script = self.policy.scripts.resolve(id);
        let opened = self.policy.engine.open_recorded_room(now, (id, metadata), script, sink);
        let policy = opened.inspect_err(|_| self.policy.engine.count_unopened(side))?;
        self.policy.engine.set_side(policy, side);
        Ok(policy)
    }

    /// An empty room.
    pub(super) fn add_room(&mut self, id: RoomId, seat: Seat) -> RoomKey {
        let room = Room {
            id: id.clone(),
            seat,
            clients: Vec::new(),
            here: 0,
            members: 0,
            announced: Vec::new(),
            tracks: Vec::new(),
            dirty: Vec::new(),
            hopping: Vec::new(),
            touched: Vec::new(),
            waiting: Vec::new(),
            asked: Vec::new(),
            hooks: 0,
            life: Life::default(),
            announcing: Announcing::default(),
            sound_hold: SoundHold::default(),
            speakers: Speakers::new(self.settings.audio_last_n),
            gone: VecDeque::new(),
            doubts: Vec::new(),
            lost: Vec::new(),
        };
        let key = self.world.rooms.insert(room);
        self.index.rooms.insert(id, key);
        key
    }

    /// Ice credentials whose ufrag nobody here has.
    pub(super) fn new_ice_credentials(&mut self) -> moonring_wire::negotiate::IceCredentials {
        loop {
            let credentials = ice::generate_credentials(&mut self.rng);
            if !self.index.ufrags.contains_key(&credentials.ufrag) {
                return credentials;
            }
        }
    }

    pub(super) fn connect_decided(&mut self, now: Instant, key: ClientKey, verdict: Verdict) {
        let Some(client) = self.world.clients.get(key) else { return };
        match verdict {
            Verdict::Allow => {
                let (id, room_key) = (client.id.clone(), client.room);
                // Of those that are decided at the same moment, the first has the place.
                let is_wing = self.is_wing(room_key);
                let words = if !is_wing && self.members_of(room_key) >= self.settings.max_clients_per_room {
                    self.world.rooms.get(room_key).map(|room| self.full(&room.id))
                } else {
                    (self.members() >= self.settings.max_clients).then(|| self.full_shard())
                };
                if let Some(words) = words {
                    return self.remove_client(now, key, LeaveCause::Limit(words.clone()), &words);
                }
                // From here on it hears of the others, and they of it: not before it is told that it has joined.
                let facts = client.facts.clone();
                facts.presence.set(Presence::Joined);
                self.index.joining = self.index.joining.saturating_sub(1);
                self.seat(key, room_key);
                self.room_lives(room_key);
                let room = self.world.rooms.get(room_key).map_or("", |room| room.id.as_str());
                tracing::info!(room, client = %id, "client joined");
                self.tell_webhook(
                    room_key,
                    "client_joined",
                    || json!({ "client": id, "identity": facts.identity(), "metadata": *facts.metadata }),
                );
                self.stage(Stage::Admitted);
                self.snapshot(&id);
                self.announce(key);
            }
            Verdict::Reject(reason) => self.remove_client(now, key, LeaveCause::Rejected(reason.clone()), &reason),
            Verdict::Undecided(why, reason) => {
                self.remove_client(now, key, LeaveCause::Undecided(why, reason.clone()), &reason);
            }
        }
    }

    /// Counts a client that is admitted in.
    fn seat(&mut self, key: ClientKey, room: RoomKey) {
        let (Some(client), Some(room)) = (self.world.clients.get_mut(key), self.world.rooms.get_mut(room)) else {
            return;
        };
        room.members += 1;
        // At a wing the home has said so.
        if let Seat::Home { .. } = room.seat {
            client.came_early = room.members <= MAX_ANNOUNCED;
        }
    }

    pub(super) fn leave(&mut self, now: Instant, id: &ClientId, reason: String, out: &mut SendBatch) {
        match self.index.clients.get(id).copied() {
            Some(key) => {
                self.close_transport(now, key, out);
                self.remove_client(now, key, LeaveCause::Left, &reason);
            }
            None => self.work.late.retain(|(_, _, late)| late.client != *id),
        }
    }

    /// Tells a client over its media path that it ends (`close_notify`): a player over WHEP has no other signalling.
    pub(super) fn close_transport(&mut self, now: Instant, key: ClientKey, out: &mut SendBatch) {
        if let Some(transport) = self.world.clients.get_mut(key).and_then(|client| client.transport.as_mut()) {
            transport.close(now, &mut self.work.dtls_scratch, out);
        }
    }

    /// The same to encoders and players over HTTP that are gone, whatever has ended them. Others hear it by their WebSockets.
    pub(super) fn tell_parted(&mut self, now: Instant, out: &mut SendBatch) {
        while let Some(mut transport) = self.world.parted.pop() {
            transport.close(now, &mut self.work.dtls_scratch, out);
        }
    }

    /// See [`Command::LeaveIfSilent`](crate::command::Command::LeaveIfSilent).
    pub(super) fn end_silent(
        &mut self,
        now: Instant,
        (id, silence): (ClientId, Duration),
        reason: String,
        out: &mut SendBatch,
    ) {
        if self.publishes_nothing(now, &id, silence) {
            self.leave(now, &id, reason, out);
        }
    }

    /// True for a client that has been there for `silence` and from whose tracks nothing came in that time.
    fn publishes_nothing(&self, now: Instant, id: &ClientId, silence: Duration) -> bool {
        let client = self.index.clients.get(id).and_then(|key| self.world.clients.get(*key));
        let Some(client) = client else { return false };
        let tracks = client.inbound.published.iter().filter_map(|key| self.world.tracks.get(*key));
        let shortest = tracks.flat_map(|track| &track.layers).filter_map(|layer| layer.silence(now)).min();
        shortest.unwrap_or(now.saturating_duration_since(client.facts.since)) >= silence
    }

    /// Takes a client out: its tracks, its forwards, its addresses. Everybody and the policy are told, if it had
    /// joined; a policy that is still deciding on it is told that it is gone.
    pub(super) fn remove_client(&mut self, now: Instant, key: ClientKey, cause: LeaveCause, reason: &str) {
        let Some(client) = self.world.clients.get(key) else { return };
        let (id, room_key, facts) = (client.id.clone(), client.room, client.facts.clone());
        let presence = facts.presence.get();
        for track in client.inbound.published.clone() {
            self.remove_track(now, track);
        }
        facts.presence.set(Presence::Gone);
        self.remove_forwards(key);
        let Some(mut client) = self.world.clients.remove(key) else { return };
        if facts.connection.via != Via::WebSocket {
            self.world.parted.extend(client.transport.take());
        }
        if presence != Presence::Joined {
            self.index.joining = self.index.joining.saturating_sub(1);
        }
        self.stage(Stage::Removing);
        self.report.keep_sent(&facts.traffic);
        self.index.clients.remove(&id);
        self.moves.forget_client(&id);
        self.forget_half(now, &id);
        for ufrag in &client.reach.ufrags {
            self.index.ufrags.remove(ufrag);
        }
        for address in &client.reach.addresses {
            if self.index.addresses.get(address) == Some(&key) {
                self.index.addresses.remove(address);
            }
        }
        if let Some(room) = self.world.rooms.get_mut(room_key) {
            room.clients.retain(|k| *k != key);
            room.announced.retain(|k| *k != key);
            room.members -= usize::from(presence == Presence::Joined);
            room.here -= 1;
            room.touched.retain(|k| *k != key);
            room.waiting.retain(|(k, _)| *k != key);
        }
        if presence == Presence::Joined {
            let room = self.world.rooms.get(room_key).map_or("", |room| room.id.as_str());
            tracing::info!(room, client = %id, reason, "client left");
        }
        if presence == Presence::Joined {
            self.tell_webhook(room_key, "client_left", || json!({ "client": id, "reason": reason }));
        }
        // The script has said so, or has said nothing.
        let was_rejected = match &cause {
            LeaveCause::Undecided(why, _) => *why != Undecided::Unheard,
            cause => matches!(cause, LeaveCause::Rejected(_)),
        };
        self.work.events.push(Event::Left { client: id.clone(), cause });
        if client.is_announced {
            self.tell_room(room_key, None, News::ClientLeft(id.clone()));
        }
        if !was_rejected {
            let call = HookCall::ClientDisconnect { client: facts, reason: reason.to_owned() };
            self.notify_policy(now, room_key, call);
        }
        self.tell_gone(room_key, id);
        self.close_room_if_empty(now, room_key);
    }

    /// Tells a client that what it asked for is refused; it stays.
    pub(super) fn refuse(&mut self, client: &ClientId, request: Option<u64>, code: RefusalCode, message: String) {
        self.work.events.push(Event::Refused { client: client.clone(), request, code, message });
    }
}
