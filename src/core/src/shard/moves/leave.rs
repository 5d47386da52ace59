//! At the shard that a client leaves.

use std::net::SocketAddr;
use std::time::Instant;

use serde_json::Value;

use super::state::{ClientState, MAX_STATE, add_transport};
use super::{Departed, Leaving, MAX_MOVING, PATIENCE, STRAY_TIME};
use crate::command::{Event, ExpectedClient, MoveMessage, MoveOrder, MovedClient, PlaceMessage};
use crate::room::Seat;
use crate::room::client::{Outbound, SectionUse};
use crate::shard::{PendingHook, Shard};
use moonring_policy::client::{Presence, Via};
use moonring_wire::id::{ClientId, ClientKey, PlaceId};
use moonring_wire::negotiate::IceCredentials;
use moonring_wire::transport::Transport;
use zeroize::Zeroizing;

/// Longest state, but for its transport, of a client that moves to another node: with all that is around it, it has to fit into one
/// message.
const MAX_FAR_STATE: usize = 224 * 1024;

impl Shard {
    /// Tells a client to restart ICE, which its move begins with.
    pub(in crate::shard) fn begin_move(&mut self, now: Instant, id: u64, order: MoveOrder) {
        let answer = match self.may_move(&order) {
            Ok(()) => {
                let MoveOrder { client, to, candidates } = order;
                let leaving = Leaving { to, candidates, until: now + PATIENCE, is_answered: false };
                self.moves.leaving.insert(client.clone(), leaving);
                self.work.events.push(Event::Restart { client: client.clone() });
                self.schedule_places(now);
                tracing::debug!(%client, to = to.0, "is told to move to another shard");
                Ok(Value::Null)
            }
            Err(words) => Err(words),
        };
        self.called(id, answer);
    }

    fn may_move(&self, order: &MoveOrder) -> Result<(), String> {
        let (id, to, places) = (&order.client, order.to, self.world.links.places());
        // Of another node it is known only with the addresses that clients reach it at.
        let is_far = self.world.links.is_linked(to) && !order.candidates.is_empty();
        let own = self.index.clients.get(id).and_then(|key| self.world.clients.get(*key));
        let Some(client) = own.filter(|c| c.far.is_none() && c.facts.presence.get() == Presence::Joined) else {
            return Err(format!("there is no client {id} on this shard"));
        };
        let has_media = client.transport.as_ref().is_some_and(|transport| transport.is_connected());
        let checks = [
            (
                places > 0,
                "rooms are not spread: clients move between shards where room_spread is not \"never\"".to_owned(),
            ),
            (
                usize::from(to.0) < places || is_far,
                format!("there is no shard {}; there are 0 to {}", to.0, places.saturating_sub(1)),
            ),
            (to != self.world.links.own, format!("client {id} is on shard {} already", to.0)),
            (
                client.facts.connection.via == Via::WebSocket,
                format!("client {id} has come over HTTP, and stays where it is"),
            ),
            (!self.policy.away.contains(&to), "messages do not reach that node now: try again".to_owned()),
            (has_media, format!("the media transport of client {id} is not up")),
            (!self.moves.leaving.contains_key(id), format!("client {id} is moving already")),
            (!self.moves.arriving.contains_key(id), format!("client {id} has just come, and is not complete")),
            (self.moves.leaving.len() < MAX_MOVING, "too many clients are moving at once".to_owned()),
        ];
        checks.into_iter().find(|(holds, _)| !holds).map_or(Ok(()), |(_, words)| Err(words))
    }

    /// A client has restarted ICE: the shard that it is to move to knows it by its new credentials from now on.
    pub(in crate::shard) fn announce_move(&mut self, now: Instant, key: ClientKey, remote: &IceCredentials) {
        let Some(client) = self.world.clients.get(key) else { return };
        let Some(leaving) = self.moves.leaving.get_mut(&client.id).filter(|leaving| leaving.until > now) else {
            return;
        };
        leaving.is_answered = true;
        let to = leaving.to;
        let Some(room) = self.world.rooms.get(client.room) else { return };
        let (own, links) = (self.world.links.own, &self.world.links);
        let (home, lead) = match room.seat {
            Seat::Home { .. } => (own, None),
            Seat::Wing { home, beyond: Some(beyond), .. } => (beyond, Some(home)),
            // This shard is its node's lead, or of the home's node.
            Seat::Wing { home, beyond: None, .. } => (home, (!links.is_near(home)).then_some(own)),
        };
        let receives = client.outbound.forwards.iter().flatten().filter_map(|forward| {
            let track = self.world.tracks.get(forward.track)?;
            let descriptors =
                track.layers.iter().map(|layer| layer.layering.as_ref().map_or(&[][..], |l| l.brought_by()));
            Some((track.info.id.clone(), descriptors.map(<[u8]>::to_vec).collect()))
        });
        let expected = ExpectedClient {
            client: client.id.clone(),
            home,
            lead,
            local: client.negotiated.local_ice.clone(),
            remote: remote.clone(),
            receives: receives.collect(),
        };
        self.say(client.room, to, PlaceMessage::Move(MoveMessage::Expect(Box::new(expected))));
    }

    /// The addresses that a client's answers name: this shard's, or those of the one that it is to move to.
    pub(in crate::shard) fn candidates_for(&self, now: Instant, id: &ClientId) -> Vec<SocketAddr> {
        let leaving = self.moves.leaving.get(id).filter(|leaving| leaving.is_answered && leaving.until > now);
        let others = leaving.and_then(|leaving| match leaving.candidates.is_empty() {
            true => self.settings.links.as_ref()?.candidates.get(usize::from(leaving.to.0)).cloned(),
            false => Some(leaving.candidates.clone()),
        });
        others.unwrap_or_else(|| self.settings.candidates.clone())
    }

    /// A client has proven to reach the shard that it is to move to. Once nothing of it is under way here it is stopped, and
    /// then told; until then that shard asks again.
    pub(in crate::shard) fn freeze(&mut self, now: Instant, from: PlaceId, id: &ClientId) {
        let is_leaving = self.moves.leaving.get(id).is_some_and(|leaving| leaving.to == from);
        let Some(key) = self.index.clients.get(id).copied().filter(|key| is_leaving && self.is_at_rest(*key)) else {
            return;
        };
        // What is told now would not arrive, and the client would be nowhere.
        if self.policy.away.contains(&from) {
            return;
        }
        let most = if self.world.links.is_near(from) { MAX_STATE } else { MAX_FAR_STATE };
        let Some(rest) = self.state_of(now, key).write().filter(|rest| rest.len() <= most) else {
            tracing::warn!(client = %id, "has too much state to move, and stays");
            self.moves.leaving.remove(id);
            return;
        };
        let Some(client) = self.world.clients.get_mut(key) else { return };
        let room_key = client.room;
        // From here on nothing is sealed here.
        let Some(frozen) = client.transport.as_mut().and_then(Transport::freeze) else { return };
        let Some(state) = add_transport(rest, &frozen) else {
            return self.transport_failed(now, key, "it has used too many SSRCs to move to another shard");
        };
        let Some(transport) = client.transport.take() else { return };
        let Some(room) = self.world.rooms.get(room_key).map(|room| room.id.clone()) else { return };
        self.moves.leaving.remove(id);
        self.report.counters.moved += 1;
        let published = client.inbound.published.clone();
        let receivers = published.into_iter().flat_map(|track| self.receivers_at(track, from)).collect();
        let moved = MovedClient { client: id.clone(), receivers, state, stay: Zeroizing::default() };
        self.say(room_key, from, PlaceMessage::Move(MoveMessage::Moved(Box::new(moved))));
        let until = now + STRAY_TIME;
        let departed =
            Departed { to: from, room, transport, until, is_routed: false, is_noted: false, is_answered: false };
        self.moves.departed.insert(id.clone(), departed);
        self.moves.note(id);
        self.flush_said();
        self.work.events.push(Event::Moved { client: id.clone(), to: from });
        tracing::info!(client = %id, to = from.0, "moves to another shard");
        self.tell_departed(now, room_key, id);
        self.become_far(now, key, from);
        self.close_room_if_empty(now, room_key);
    }

    /// Whether nothing is under way that would be answered here.
    fn is_at_rest(&self, key: ClientKey) -> bool {
        let Some(client) = self.world.clients.get(key) else { return false };
        let is_of_it = |asked: &PendingHook| match asked {
            PendingHook::Connect(of) | PendingHook::Offer(of) | PendingHook::Message(of) => *of == key,
            PendingHook::Follow(of, ..) => *of == key,
            PendingHook::Call(_) | PendingHook::Close | PendingHook::Far(_) | PendingHook::Notice => false,
        };
        let hooks = self.policy.pending.values().chain(self.policy.far.values());
        client.far.is_none()
            && client.facts.presence.get() == Presence::Joined
            && client.negotiated.pending.is_none()
            && !self.moves.arriving.contains_key(&client.id)
            && !hooks.filter(|(room, _)| *room == client.room).any(|(_, asked)| is_of_it(asked))
    }

    /// All of a client of this shard but its transport.
    pub(in crate::shard) fn state_of(&self, now: Instant, key: ClientKey) -> ClientState {
        let client = &self.world.clients[key];
        let mut state = ClientState::of(now, client);
        let tracks = client.inbound.published.iter().filter_map(|key| Some((*key, self.world.tracks.get(*key)?)));
        state.tracks = tracks.map(|(_, track)| track.state(now)).collect();
        let forwards = client.outbound.forwards.iter().enumerate();
        let forwards = forwards.filter_map(|(place, forward)| {
            let forward = forward.as_ref()?;
            Some(forward.state(now, place as u16, self.world.tracks.get(forward.track)?))
        });
        state.forwards = forwards.collect();
        let place = |used: &SectionUse| match used {
            SectionUse::Publish(_) => None,
            SectionUse::Receive(place) => Some(*place),
        };
        let sections = client.negotiated.sections.iter().map(|(mid, used)| (mid.clone(), place(used)));
        state.sections = sections.collect();
        state
    }

    /// A client of this shard is at `to` from now on. What it publishes is kept, and comes from there.
    fn become_far(&mut self, now: Instant, key: ClientKey, to: PlaceId) {
        self.remove_forwards(key);
        let Some(client) = self.world.clients.get_mut(key) else { return };
        self.report.keep_sent(&client.facts.traffic);
        client.far = Some(to);
        for ufrag in client.reach.ufrags.drain(..) {
            self.index.ufrags.remove(&ufrag);
        }
        for address in client.reach.addresses.drain(..) {
            if self.index.addresses.get(&address) == Some(&key) {
                self.index.addresses.remove(&address);
            }
        }
        client.negotiated.sections.clear();
        client.inbound.streams.clear();
        client.inbound.arrivals = None;
        client.outbound = Outbound::default();
        client.deadlines.scheduled = None;
        self.index.far += 1;
        let room_key = client.room;
        if let Some(room) = self.world.rooms.get_mut(room_key) {
            room.here -= 1;
            room.touched.retain(|k| *k != key);
            room.waiting.retain(|(k, _)| *k != key);
            if matches!(room.seat, Seat::Wing { .. }) {
                room.members -= 1;
            }
        }
        for track in self.world.clients[key].inbound.published.clone() {
            self.track_leaves(now, track, to);
        }
        self.forget_unknown(now, key);
    }
}
