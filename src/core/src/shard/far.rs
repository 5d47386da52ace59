//! Clients and tracks of a room that are on other shards, as far as this one has to know them: a far client has no
//! transport and is told nothing; a far track has a history like any other, filled over a link.

use std::rc::Rc;
use std::time::Instant;

use super::Shard;
use super::streams::restart_now;
use crate::command::{ClientInfo, FarTrack, News};
use crate::room::Seat;
use crate::room::client::Client;
use crate::room::hop::Far;
use crate::room::track::{Publication, Track};
use moonring_policy::client::{ClientFacts, Connection, Presence};
use moonring_wire::id::{ClientId, ClientKey, Mid, PlaceId, RoomKey, Ssrc, TrackId, TrackKey};
use moonring_wire::link::MAX_LAYERS;
use moonring_wire::media::Kind;
use moonring_wire::negotiate::{Feedback, IceCredentials};
use moonring_wire::shared::Shared;
use serde_json::Value;

impl Shard {
    /// A client that is elsewhere, with what the policy may know of it.
    pub(super) fn add_far_client(
        &mut self,
        now: Instant,
        room: RoomKey,
        place: PlaceId,
        facts: Rc<ClientFacts>,
    ) -> ClientKey {
        let id = facts.id.clone();
        let none = IceCredentials { ufrag: String::new(), pwd: String::new() };
        let key = self.world.clients.insert_with_key(|key| {
            let mut client = Client::new(key, room, facts, none, Ssrc(0), now);
            client.far = Some(place);
            client.reach.ufrags.clear();
            client
        });
        self.index.far += 1;
        self.index.clients.insert(id, key);
        if let Some(room) = self.world.rooms.get_mut(room) {
            room.clients.push(key);
        }
        key
    }

    /// Takes out a client that is elsewhere, and what it publishes.
    pub(super) fn remove_far_client(&mut self, now: Instant, key: ClientKey) {
        let Some(client) = self.world.clients.get(key).filter(|client| client.far.is_some()) else { return };
        for track in client.inbound.published.clone() {
            self.remove_far_track(now, track);
        }
        let Some(client) = self.world.clients.remove(key) else { return };
        self.forget_half(now, &client.id);
        self.index.far = self.index.far.saturating_sub(1);
        self.index.clients.remove(&client.id);
        let was_joined = client.facts.presence.replace(Presence::Gone) == Presence::Joined;
        if let Some(room) = self.world.rooms.get_mut(client.room) {
            room.clients.retain(|k| *k != key);
            room.announced.retain(|k| *k != key);
            let is_home = matches!(room.seat, Seat::Home { .. });
            room.members -= usize::from(was_joined && is_home);
        }
    }

    /// The client `id` of a room, which is elsewhere: a wing knows nothing of it before it is told of, or publishes.
    fn far_client(&mut self, now: Instant, room: RoomKey, place: PlaceId, id: &ClientId) -> Option<ClientKey> {
        if let Some(key) = self.index.clients.get(id).copied() {
            let client = self.world.clients.get(key)?;
            return (client.room == room && client.far.is_some()).then_some(key);
        }
        let connection = Connection::from([0, 0, 0, 0]);
        let facts = ClientFacts::new(id.clone(), connection, Value::Null.into(), now);
        facts.presence.set(Presence::Joined);
        Some(self.add_far_client(now, room, place, Rc::new(facts)))
    }

    /// Notes what another place says, and tells the clients here.
    pub(super) fn far_news(&mut self, now: Instant, (room, place): (RoomKey, PlaceId), news: &Shared<News>) {
        match &**news {
            News::ClientJoined(info) => self.far_client_announced(now, (room, place), info),
            News::ClientChanged { client, attributes } => {
                if let Some(client) = self.member(room, client).and_then(|key| self.world.clients.get(key)) {
                    client.facts.attributes.replace(attributes.clone());
                }
            }
            News::ActiveSpeakers(clients) => {
                let keys = clients.iter().filter_map(|id| self.index.clients.get(id).copied()).collect();
                if let Some(room) = self.world.rooms.get_mut(room) {
                    room.speakers.set_current(now, keys);
                }
            }
            News::TrackUnpublished(track) => {
                if let Some(key) = self.index.tracks.get(track).copied() {
                    self.remove_far_track(now, key);
                }
            }
            News::ClientLeft(_) | News::TrackPublished(_) | News::TrackChanged(_) | News::Message(_) => {}
        }
        self.tell_here(room, None, news);
        if let News::ClientLeft(id) = &**news {
            self.far_client_not_announced(now, room, id);
        }
    }

    pub(super) fn far_client_announced(&mut self, now: Instant, (room, place): (RoomKey, PlaceId), info: &ClientInfo) {
        let Some(key) = self.far_client(now, room, place, &info.client) else { return };
        let is_wing = self.is_wing(room);
        let Some(client) = self.world.clients.get_mut(key) else { return };
        if is_wing && *client.facts.metadata != *info.metadata {
            // Nobody but this table has them: a wing has no policy.
            let facts =
                ClientFacts::new(info.client.clone(), Connection::from([0, 0, 0, 0]), info.metadata.clone(), now);
            facts.presence.set(Presence::Joined);
            client.facts = Rc::new(facts);
        }
        client.facts.attributes.replace(info.attributes.clone());
        if !std::mem::replace(&mut client.is_announced, true)
            && let Some(room) = self.world.rooms.get_mut(room)
        {
            room.announced.push(key);
        }
    }

    fn far_client_not_announced(&mut self, now: Instant, room: RoomKey, id: &ClientId) {
        let Some(key) = self.member(room, id) else { return };
        let Some(client) = self.world.clients.get_mut(key).filter(|client| client.far.is_some()) else { return };
        client.is_announced = false;
        if let Some(room) = self.world.rooms.get_mut(room) {
            room.announced.retain(|k| *k != key);
        }
        self.forget_unknown(now, key);
    }

    /// A wing forgets a far client that nobody is told of and that publishes nothing. A home's policy knows them all.
    pub(super) fn forget_unknown(&mut self, now: Instant, key: ClientKey) {
        let Some(client) = self.world.clients.get(key).filter(|client| client.far.is_some()) else { return };
        if self.homes.knows_all_of(client.room) {
            return;
        }
        // A lead knows those of its node's shards as a home does.
        let is_followed = self
            .world
            .rooms
            .get(client.room)
            .is_some_and(|room| client.far.is_some_and(|far| room.wings().contains(&far)));
        if !client.is_announced && client.inbound.published.is_empty() && !is_followed && self.is_wing(client.room) {
            self.remove_far_client(now, key);
        }
    }

    /// The same of all far clients of a room.
    pub(super) fn forget_all_unknown(&mut self, now: Instant, room: RoomKey) {
        let clients = self.world.rooms.get(room).map(|room| room.clients.clone()).unwrap_or_default();
        clients.into_iter().for_each(|client| self.forget_unknown(now, client));
    }

    pub(super) fn is_wing(&self, room: RoomKey) -> bool {
        self.world.rooms.get(room).is_some_and(|room| matches!(room.seat, Seat::Wing { .. }))
    }

    /// A track of another place is new, or has changed. The clients here are told.
    pub(super) fn far_track_told(&mut self, now: Instant, room: RoomKey, told: &FarTrack) {
        let info = told.info.clone();
        let news = match self.index.tracks.get(&info.id).copied() {
            Some(key) => {
                let is_news = self.world.tracks.get(key).is_some_and(|track| track.info != info);
                if !self.track_is_elsewhere(now, key, told) {
                    return;
                }
                let unable = self.change_far_track(now, key, told);
                // By whichever way it was known.
                self.named(room, None, Some(key));
                if is_news {
                    self.tell_here(room, None, &Shared::new(News::TrackChanged(info)));
                }
                return self.end_unable(now, unable);
            }
            None => {
                self.add_far_track(now, room, told);
                News::TrackPublished(info)
            }
        };
        self.tell_here(room, None, &Shared::new(news));
    }

    pub(super) fn add_far_track(&mut self, now: Instant, room: RoomKey, told: &FarTrack) {
        let Some(owner) = self.far_client(now, room, told.place, &told.info.client) else { return };
        let Ok(mid) = Mid::parse("0") else { return };
        let limits = match told.info.kind {
            Kind::Video => self.settings.video_history,
            Kind::Audio => self.settings.audio_history,
        };
        // It stands for "there is one", by which requests are made; packets come with numbers of their own.
        let streams = [(Ssrc(1), None); MAX_LAYERS];
        let encodings = usize::from(told.encodings).clamp(1, MAX_LAYERS);
        let mut codec = told.codec.clone();
        codec.feedback = Feedback { nack: true, pli: true, ..codec.feedback };
        let publication = Publication {
            info: told.info.clone(),
            room,
            owner,
            mid,
            codec: &codec,
            answered: vec![codec.clone()],
            layers: encodings,
            rids: &[],
            ssrcs: &streams[..encodings],
        };
        let mut track = Track::new(publication, limits);
        track.muted_by_client = told.info.muted;
        track.far = Some(Box::new(Far::new(told.place, told.handle)));
        track.moves = told.moves;
        let key = self.world.tracks.insert(track);
        self.index.tracks.insert(told.info.id.clone(), key);
        if let Some(link) = self.world.links.get_mut(told.place) {
            link.tracks.insert(told.handle, key);
        }
        if let Some(room) = self.world.rooms.get_mut(room) {
            room.tracks.push(key);
        }
        if let Some(owner) = self.world.clients.get_mut(owner) {
            owner.inbound.published.push(key);
        }
        self.update_facts(owner);
        // So that the other place tells how much comes of it.
        self.work.wants.push(key);
        self.await_receiver_of(now, key);
        self.schedule_places(now);
    }

    /// Takes over what is told of a track; its forwards that cannot go on with it.
    fn change_far_track(&mut self, now: Instant, key: TrackKey, told: &FarTrack) -> Vec<(ClientKey, u16)> {
        let track = self.world.tracks.get_mut(key).filter(|track| track.far.is_some());
        let Some(track) = track else { return Vec::new() };
        let was_muted = track.info.muted;
        let has_other_codec = track.codec != told.codec.codec;
        if has_other_codec {
            track.follow(&told.codec);
            track.feedback = Feedback { nack: true, pli: true, ..told.codec.feedback };
        }
        track.info = told.info.clone();
        track.muted_by_client = told.info.muted;
        let (owner, subscribers) = (track.owner, track.subscribers.clone());
        let unable = if has_other_codec { self.repoint_forwards(key) } else { Vec::new() };
        if was_muted && !told.info.muted {
            for (client, place) in subscribers {
                let Some(track) = self.world.tracks.get_mut(key) else { continue };
                let forward = self.world.clients.get_mut(client);
                let forward = forward.and_then(|c| c.outbound.forwards[usize::from(place)].as_mut());
                if let Some(forward) = forward {
                    restart_now(now, forward, track);
                }
            }
            self.schedule(owner);
        }
        self.update_facts(owner);
        unable
    }

    /// Takes out a track of another place; nobody is told here.
    pub(super) fn remove_far_track(&mut self, now: Instant, key: TrackKey) {
        if self.world.tracks.get(key).is_none_or(|track| track.far.is_none()) {
            return;
        }
        let Some(track) = self.take_track_out(now, key) else { return };
        if let Some(far) = track.far.as_deref()
            && let Some(link) = self.world.links.get_mut(far.link)
        {
            link.tracks.remove(&far.handle);
        }
        self.update_facts(track.owner);
        self.forget_unknown(now, track.owner);
    }

    /// The track `id`, if it is of a room.
    pub(super) fn track_in(&self, room: RoomKey, id: &TrackId) -> Option<TrackKey> {
        let key = *self.index.tracks.get(id)?;
        self.world.tracks.get(key).filter(|track| track.room == room).map(|_| key)
    }
}
