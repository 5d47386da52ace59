//! A client's state becomes a client of this shard.

use std::collections::BTreeSet;
use std::time::Instant;

use super::state::ClientState;
use crate::command::{Event, MovedClient, News, PlaceMessage};
use crate::room::Seat;
use crate::room::client::{Client, FreshSsrcs, Incoming, Negotiated, Outbound, Reach, SectionUse};
use crate::room::congestion::Congestion;
use crate::room::forward::{Forward, ForwardState};
use crate::room::track::{Publication, Track, TrackState};
use crate::shard::Shard;
use moonring_policy::client::{ClientFacts, Connection, Presence};
use moonring_wire::id::{ClientId, ClientKey, Mid, RoomKey, Ssrc, TrackId, TrackKey};
use moonring_wire::media::Kind;
use moonring_wire::negotiate::{AnswerCodec, IceCredentials};
use moonring_wire::shared::Shared;
use moonring_wire::transport::Transport;
use serde_json::Value;
use std::rc::Rc;

/// A client that goes on here.
pub(in crate::shard) struct Newcomer<'a> {
    /// Who.
    pub(in crate::shard) id: &'a ClientId,
    /// What its policy may know of it, where nothing is known yet.
    pub(in crate::shard) facts: Rc<ClientFacts>,
    /// Its secure path; `None` before its first offer.
    pub(in crate::shard) transport: Option<Transport>,
}

/// What an adopted client receives, and the tracks that its sections publish.
pub(in crate::shard) struct Receiving {
    tracks: Vec<(Mid, TrackKey)>,
    forwards: Vec<ForwardState>,
    sections: Vec<(Mid, Option<u16>)>,
}

impl Shard {
    /// Whether a client may become one of a room here: it is known as another shard's, or, at a wing, not at all.
    pub(super) fn may_be_adopted(&self, room: RoomKey, id: &ClientId) -> bool {
        let is_open = self.world.rooms.get(room).is_some_and(|room| room.life.ending.is_none());
        let known = self.index.clients.get(id).map(|key| self.world.clients.get(*key));
        is_open
            && match known {
                Some(client) => client.is_some_and(|client| client.far.is_some() && client.room == room),
                None => self.is_wing(room),
            }
    }

    /// Makes a client of what its former place has told; in words why not, and then nothing has changed.
    pub(super) fn adopt(
        &mut self,
        now: Instant,
        (room, moved): (RoomKey, &MovedClient),
        mut transport: Transport,
    ) -> Result<ClientKey, String> {
        let (state, frozen) = ClientState::read(&moved.state).map_err(|error| error.to_string())?;
        if self.members() >= self.settings.max_clients {
            return Err(self.full_shard());
        }
        if let Some(track) = self.foreign_track(&moved.client, &state) {
            return Err(format!("it has the track {track}, which is another's"));
        }
        let facts = state.facts.facts(now, moved.client.clone()).map_err(|error| error.to_string())?;
        transport.thaw(now, frozen).map_err(|error| error.to_string())?;
        let newcomer = Newcomer { id: &moved.client, facts, transport: Some(transport) };
        let (key, receiving) = self.adopt_publisher(now, room, newcomer, state);
        self.foresee_receivers(now, room, &moved.receivers);
        self.adopt_receiver(now, key, receiving);
        self.tell_arrived(now, room, &moved.client);
        Ok(key)
    }

    /// A track of a client's state that is there already and is not its own, or that is there twice.
    pub(in crate::shard) fn foreign_track<'a>(&self, id: &ClientId, state: &'a ClientState) -> Option<&'a TrackId> {
        let mut seen = BTreeSet::new();
        let is_own = |track: &TrackKey| {
            let owner = self.world.tracks.get(*track).and_then(|track| self.world.clients.get(track.owner));
            owner.is_some_and(|owner| owner.id == *id)
        };
        let mut ids = state.tracks.iter().map(|track| &track.info.id);
        ids.find(|id| !seen.insert(*id) || self.index.tracks.get(*id).is_some_and(|track| !is_own(track)))
    }

    /// Makes a client with all that it publishes. What it receives may be of others that come after it.
    pub(in crate::shard) fn adopt_publisher(
        &mut self,
        now: Instant,
        room: RoomKey,
        newcomer: Newcomer<'_>,
        state: ClientState,
    ) -> (ClientKey, Receiving) {
        let Newcomer { id, facts, transport } = newcomer;
        // The policy knows a client that was there before by the facts of then.
        let is_known = !self.is_wing(room) && self.index.clients.contains_key(id);
        let key = self.adopt_bare(now, room, id);
        let local_ice = match &transport {
            Some(transport) => transport.ice().local().clone(),
            None => self.new_ice_credentials(),
        };
        let previous = transport.as_ref().and_then(|transport| transport.ice().previous_ufrag());
        let ufrags: Vec<_> = [Some(local_ice.ufrag.clone()), previous.map(str::to_owned)].into();
        let client = &mut self.world.clients[key];
        self.report.keep_sent(&client.facts.traffic);
        match is_known {
            true => state.facts.traffic.note(&client.facts.traffic),
            false => client.facts = facts,
        }
        self.report.leave_out_sent(&client.facts.traffic);
        client.came_early = state.came_early;
        client.reach = Reach { ufrags: ufrags.into_iter().flatten().collect(), addresses: Vec::new() };
        client.negotiated = Negotiated {
            local_ice,
            remote_ice: transport.as_ref().map(|transport| transport.ice().remote().clone()),
            fingerprint: state.fingerprint(),
            shown: state.shown(),
            setup: state.setup,
            sections: Vec::new(),
            pending: None,
            answers: state.answers,
        };
        (client.inbound.max_bitrate_bps, client.inbound.was_held) = (state.max_bitrate_bps, state.was_held);
        client.inbound.report_ssrc = state.report_ssrc;
        let congestion = state.path.map(|path| Box::new(Congestion::resumed(now, path)));
        let (ssrcs, terms) = (FreshSsrcs::from(state.last_ssrc), state.terms);
        client.outbound = Outbound { ssrcs, terms, congestion, ..Outbound::default() };
        client.deadlines.report = now;
        client.transport = transport;
        self.index.ufrags.extend(client.reach.ufrags.iter().map(|ufrag| (ufrag.clone(), key)));
        self.note_addresses(key);
        if state.is_announced {
            self.note_announced(key);
        }
        let tracks =
            state.tracks.iter().map(|track| (track.mid.clone(), self.adopt_track(now, (room, key), track))).collect();
        (key, Receiving { tracks, forwards: state.forwards, sections: state.sections })
    }

    /// Has an adopted client go on with what it receives.
    pub(in crate::shard) fn adopt_receiver(&mut self, now: Instant, key: ClientKey, receiving: Receiving) {
        self.adopt_forwards(now, key, receiving.forwards);
        self.adopt_sections(key, receiving.sections, &receiving.tracks);
        self.update_facts(key);
        self.goes_on(now, key);
    }

    /// A client of this shard, of which nothing is known but its name: a far one until now, or, at a wing, a new one.
    pub(super) fn adopt_bare(&mut self, now: Instant, room_key: RoomKey, id: &ClientId) -> ClientKey {
        let key = match self.index.clients.get(id).copied() {
            Some(key) => {
                self.index.far = self.index.far.saturating_sub(1);
                key
            }
            None => {
                let facts = ClientFacts::new(id.clone(), Connection::from([0, 0, 0, 0]), Value::Null.into(), now);
                facts.presence.set(Presence::Joined);
                let none = IceCredentials { ufrag: String::new(), pwd: String::new() };
                let new = |key| Client::new(key, room_key, Rc::new(facts), none, Ssrc(0), now);
                let key = self.world.clients.insert_with_key(new);
                self.index.clients.insert(id.clone(), key);
                if let Some(room) = self.world.rooms.get_mut(room_key) {
                    room.clients.push(key);
                }
                key
            }
        };
        let client = &mut self.world.clients[key];
        self.report.leave_out_sent(&client.facts.traffic);
        client.far = None;
        client.reach.ufrags.clear();
        if let Some(room) = self.world.rooms.get_mut(room_key) {
            room.here += 1;
            if matches!(room.seat, Seat::Wing { .. }) {
                room.members += 1;
            }
        }
        // Nothing of it comes over a link any more that would not be passed on.
        for track in self.world.clients[key].inbound.published.clone() {
            let far = self.world.tracks.get(track).and_then(|track| track.far.as_deref()).cloned();
            if let Some(far) = far
                && let Some(link) = self.world.links.get_mut(far.link)
            {
                link.tracks.remove(&far.handle);
            }
        }
        key
    }

    fn note_announced(&mut self, key: ClientKey) {
        let client = &mut self.world.clients[key];
        if !std::mem::replace(&mut client.is_announced, true)
            && let Some(room) = self.world.rooms.get_mut(client.room)
        {
            room.announced.push(key);
        }
    }

    /// What the client publishes comes from here from now on. The other places are told, and go on with its packets.
    fn adopt_track(&mut self, now: Instant, (room, owner): (RoomKey, ClientKey), state: &TrackState) -> TrackKey {
        let key = match self.track_in(room, &state.info.id) {
            Some(key) => {
                self.track_arrives(now, (key, owner), state);
                key
            }
            None => self.add_adopted_track(now, (room, owner), state),
        };
        for (layer, of) in state.layers.iter().enumerate() {
            for (ssrc, rtx) in [(of.ssrc, false), (of.rtx_ssrc, true)] {
                if let Some(ssrc) = ssrc {
                    let incoming = Incoming { track: key, layer: layer as u8, rtx };
                    self.world.clients[owner].inbound.streams.insert(ssrc, incoming);
                }
            }
        }
        for place in self.other_places(room, None) {
            if let Some(told) = self.as_far_track(key, place) {
                self.say(room, place, PlaceMessage::Track(Box::new(told)));
            }
        }
        key
    }

    /// A track that this place had not been told of yet.
    fn add_adopted_track(&mut self, now: Instant, (room, owner): (RoomKey, ClientKey), state: &TrackState) -> TrackKey {
        let limits = match state.info.kind {
            Kind::Video => self.settings.video_history,
            Kind::Audio => self.settings.audio_history,
        };
        let known = state.answered.iter().find(|codec| codec.codec == state.codec);
        let codec = known.cloned().unwrap_or_else(|| AnswerCodec {
            pt: moonring_wire::id::Pt(0),
            codec: state.codec.clone(),
            rtx: None,
            feedback: Default::default(),
        });
        let publication = Publication {
            info: state.info.clone(),
            room,
            owner,
            mid: state.mid.clone(),
            codec: &codec,
            answered: state.answered.clone(),
            layers: state.layers.len(),
            rids: &[],
            ssrcs: &[],
        };
        let mut track = Track::new(publication, limits);
        track.resume(now, state);
        let key = self.world.tracks.insert(track);
        self.index.tracks.insert(state.info.id.clone(), key);
        self.world.clients[owner].inbound.published.push(key);
        if let Some(room) = self.world.rooms.get_mut(room) {
            room.tracks.push(key);
        }
        self.tell_here(room, Some(owner), &Shared::new(News::TrackPublished(state.info.clone())));
        key
    }

    fn adopt_forwards(&mut self, now: Instant, key: ClientKey, states: Vec<ForwardState>) {
        for state in states {
            let (id, place) = (state.track.clone(), state.place);
            let room = self.world.clients[key].room;
            let track = self.track_in(room, &id).and_then(|key| Some((key, self.world.tracks.get_mut(key)?)));
            let forward = track.and_then(|track| Forward::resume(now, track, state));
            let client = &mut self.world.clients[key];
            let Some(forward) = forward else {
                // It has ended while the client was told nothing.
                let news = Shared::new(News::TrackUnpublished(id));
                self.work.events.push(Event::News { client: client.id.clone(), news });
                continue;
            };
            let track = forward.track;
            client.outbound.put_forward(place, forward);
            let track = &mut self.world.tracks[track];
            track.subscribers.push((key, place));
            let (owner, has_former) = (track.owner, track.former.is_some());
            if let Some(owner) = self.world.clients.get_mut(owner).filter(|_| has_former) {
                owner.deadlines.former = Some(now);
            }
            self.schedule(owner);
        }
    }

    fn adopt_sections(&mut self, key: ClientKey, sections: Vec<(Mid, Option<u16>)>, tracks: &[(Mid, TrackKey)]) {
        let client = &mut self.world.clients[key];
        for (mid, place) in sections {
            let used = match place {
                Some(place) => {
                    let forward = client.outbound.forwards.get(usize::from(place)).and_then(Option::as_ref);
                    forward.map(|_| SectionUse::Receive(place))
                }
                None => tracks.iter().find(|(of, _)| *of == mid).map(|(_, track)| SectionUse::Publish(*track)),
            };
            client.negotiated.sections.extend(used.map(|used| (mid, used)));
        }
    }

    /// What has come for the client meanwhile leaves, and what is due of it is looked after.
    fn goes_on(&mut self, now: Instant, key: ClientKey) {
        let forwards = self.world.clients[key].outbound.forwards.iter().flatten();
        let tracks: Vec<_> = forwards.map(|forward| forward.track).collect();
        for track in tracks {
            self.tell_wanted_layers(track);
            self.mark_dirty(now, track);
        }
        self.begin_forwards(now, key);
        self.schedule(key);
    }
}
