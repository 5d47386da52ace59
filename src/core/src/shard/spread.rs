//! A room over several shards: what is told to all of it, and whom the policy's actions concern.
//!
//! A room has one home, the shard with its policy, and wings on others. A client is wholly on one of them; what the others
//! have to know of it is a far client there ([`super::far`]). What a place tells its clients of one of its own it says to the
//! home, which tells its clients and the other wings.

use std::time::Instant;

use super::Shard;
use crate::command::{Event, FarTrack, News, PlaceMessage, TrafficFigures};
use crate::room::Seat;
use crate::room::relay;
use moonring_policy::client::Presence;
use moonring_policy::hook::Action;
use moonring_wire::id::{ClientId, ClientKey, PlaceId, RoomId, RoomKey, TrackId, TrackKey};
use moonring_wire::negotiate::AnswerCodec;
use moonring_wire::shared::Shared;

impl Shard {
    /// Tells everybody who has joined `room`, wherever they are, but `except`.
    pub(super) fn tell_room(&mut self, room: RoomKey, except: Option<ClientKey>, news: News) {
        let news = Shared::new(news);
        self.tell_here(room, except, &news);
        self.spread(room, None, &news);
    }

    /// Tells those who have joined `room` on this shard, but `except`.
    pub(super) fn tell_here(&mut self, room: RoomKey, except: Option<ClientKey>, news: &Shared<News>) {
        let Some(room) = self.world.rooms.get(room) else { return };
        for key in room.clients.iter().filter(|key| Some(**key) != except) {
            if let Some(client) = self.world.clients.get(*key)
                && client.far.is_none()
                && client.facts.presence.get() == Presence::Joined
            {
                self.work.events.push(Event::News { client: client.id.clone(), news: news.clone() });
            }
        }
    }

    /// Another place of the room says something that the whole room is told: here, and at the places that it does not speak to.
    pub(super) fn news_comes(&mut self, now: Instant, (room, from): (RoomKey, PlaceId), news: &Shared<News>) {
        if let News::ClientJoined(info) = &**news
            && !self.knows_or_asks((room, from), &info.client)
        {
            return;
        }
        self.far_news(now, (room, from), news);
        self.spread(room, Some(from), news);
    }

    /// The same of a track.
    pub(super) fn track_comes(&mut self, now: Instant, (room, from): (RoomKey, PlaceId), track: &FarTrack) {
        if !self.knows_or_asks((room, from), &track.info.client) {
            return;
        }
        self.far_track_told(now, room, track);
        self.spread_track(room, Some(from), track);
    }

    /// Says it to the other places of the room, but the one that it has come `from`.
    pub(super) fn spread(&mut self, room: RoomKey, from: Option<PlaceId>, news: &Shared<News>) {
        for place in self.other_places(room, from) {
            let message = match &**news {
                News::TrackPublished(info) | News::TrackChanged(info) => {
                    let track = self.index.tracks.get(&info.id).and_then(|key| self.as_far_track(*key, place));
                    let Some(track) = track else { return };
                    PlaceMessage::Track(Box::new(track))
                }
                _ => PlaceMessage::News(news.clone()),
            };
            self.say(room, place, message);
        }
    }

    /// The places that a place of the room speaks to.
    pub(super) fn other_places(&self, room: RoomKey, except: Option<PlaceId>) -> Vec<PlaceId> {
        let Some(room) = self.world.rooms.get(room) else { return Vec::new() };
        let all = room.home().into_iter().chain(room.wings().iter().copied());
        all.filter(|place| Some(*place) != except).collect()
    }

    /// Tells the other places of the room of a track that another place has told of.
    pub(super) fn spread_track(&mut self, room: RoomKey, from: Option<PlaceId>, told: &FarTrack) {
        for place in self.other_places(room, from) {
            let track = self.index.tracks.get(&told.info.id).and_then(|key| self.as_far_track(*key, place));
            self.say(room, place, PlaceMessage::Track(Box::new(track.unwrap_or_else(|| told.clone()))));
        }
    }

    /// At the lead of a node: what a wing says to the home.
    pub(super) fn pass_to_home(&mut self, room: RoomKey, message: impl FnOnce() -> PlaceMessage) {
        if let Some(home) = self.world.rooms.get(room).and_then(|room| room.home()) {
            self.say(room, home, message());
        }
    }

    /// Sends a message about a room to another of its places.
    pub(super) fn say(&mut self, room: RoomKey, to: PlaceId, message: PlaceMessage) {
        if let Some(room) = self.world.rooms.get(room) {
            let id = room.id.clone();
            self.say_of(id, to, message);
        }
    }

    /// The same about a room that is not here.
    pub(super) fn say_of(&mut self, room: RoomId, to: PlaceId, message: PlaceMessage) {
        match self.work.said.iter_mut().find(|(place, _)| *place == to) {
            Some((_, messages)) => messages.push((room, message)),
            None => self.work.said.push((to, vec![(room, message)])),
        }
    }

    /// A track as the place `to` has to know it. One copy of what comes from another node comes to a node: its other shards
    /// get it from the one that has it, and from there it goes no further.
    pub(super) fn as_far_track(&self, key: TrackKey, to: PlaceId) -> Option<FarTrack> {
        let (track, links) = (self.world.tracks.get(key)?, &self.world.links);
        let (place, handle) = match track.far.as_deref() {
            Some(far) if !links.is_near(to) || links.is_near(far.link) => (far.link, far.handle),
            _ => (links.own, relay::handle(key)),
        };
        let codec = AnswerCodec { pt: track.pt, codec: track.codec.clone(), rtx: None, feedback: track.feedback };
        let (encodings, moves) = (track.layers.len() as u8, track.moves);
        Some(FarTrack { info: track.info.clone(), place, handle, codec, encodings, moves })
    }

    /// Has actions of a home's policy done where their clients are; at the lead of a node those that the home has sent there. Those for here are done at once; those for `answered`
    /// are given back, for the answer that they belong to.
    pub(super) fn act_everywhere(
        &mut self,
        now: Instant,
        room: RoomKey,
        actions: Vec<Action>,
        answered: Option<PlaceId>,
    ) -> Vec<Action> {
        let wings = match self.world.rooms.get(room).map(|room| room.wings()) {
            Some(wings) if !wings.is_empty() => wings.to_vec(),
            _ => {
                actions.into_iter().for_each(|action| self.apply(now, room, action));
                return Vec::new();
            }
        };
        let mut theirs: Vec<(PlaceId, Vec<Action>)> = wings.into_iter().map(|wing| (wing, Vec::new())).collect();
        let mut ours = Vec::new();
        for action in actions {
            match concerns(&action) {
                Concerns::Everybody => {
                    theirs.iter_mut().for_each(|(_, actions)| actions.push(action.clone()));
                    ours.push(action);
                }
                Concerns::Home => ours.push(action),
                Concerns::Client(id) => match self.far_place(room, id) {
                    Some((key, place)) => {
                        self.foresee(key, &action);
                        match theirs.iter_mut().find(|(wing, _)| *wing == place) {
                            Some((_, actions)) => actions.push(action),
                            // It has moved from here, which its wing has not told yet.
                            None if self.moves.passes_on(action.client()) => ours.push(action),
                            None => {}
                        }
                    }
                    None => ours.push(action),
                },
            }
        }
        let mut kept = Vec::new();
        for (wing, actions) in theirs.into_iter().filter(|(_, actions)| !actions.is_empty()) {
            match answered == Some(wing) {
                true => kept = actions,
                false => self.say(room, wing, PlaceMessage::Act(actions)),
            }
        }
        ours.into_iter().for_each(|action| self.apply(now, room, action));
        kept
    }

    /// Where a client of the room is, if elsewhere.
    fn far_place(&self, room: RoomKey, id: &ClientId) -> Option<(ClientKey, PlaceId)> {
        let key = self.member(room, id)?;
        Some((key, self.world.clients.get(key)?.far?))
    }

    /// The policy reads at once what its action will have done.
    fn foresee(&mut self, key: ClientKey, action: &Action) {
        let Some(facts) = self.world.clients.get(key).map(|client| client.facts.clone()) else { return };
        match action {
            Action::SetAttributes { attributes, .. } => drop(facts.attributes.replace(attributes.clone().into())),
            Action::SetRights { change, .. } => facts.rights.set(change.applied_to(facts.rights.get())),
            Action::SetHidden { hidden, .. } => {
                let may_be = facts.presence.get() != Presence::Joined || facts.is_hidden.get();
                facts.is_hidden.set(*hidden && may_be);
            }
            _ => {}
        }
    }

    /// Tells homes of the traffic of their far clients; whether this shard has a wing.
    pub(super) fn tell_traffic(&mut self) -> bool {
        let wing = |(key, room): (RoomKey, &crate::room::Room)| match room.seat {
            Seat::Wing { home, .. } => Some((key, home)),
            Seat::Home { .. } => None,
        };
        let wings: Vec<_> = self.world.rooms.iter().filter_map(wing).collect();
        for (room, home) in &wings {
            let clients = self.world.rooms[*room].clients.iter().filter_map(|key| self.world.clients.get(*key));
            let own = clients.filter(|client| client.far.is_none());
            let figures: Vec<_> =
                own.map(|client| (client.id.clone(), TrafficFigures::of(&client.facts.traffic))).collect();
            if !figures.is_empty() {
                self.say(*room, *home, PlaceMessage::Traffic(figures));
            }
        }
        !wings.is_empty()
    }

    /// The ids of tracks that are here.
    pub(super) fn track_ids(&self, keys: &[TrackKey]) -> Vec<TrackId> {
        keys.iter().filter_map(|key| self.world.tracks.get(*key)).map(|track| track.info.id.clone()).collect()
    }
}

/// Whom an action is about.
enum Concerns<'a> {
    Client(&'a ClientId),
    Everybody,
    Home,
}

fn concerns(action: &Action) -> Concerns<'_> {
    match (action.client(), action) {
        (Some(client), _) => Concerns::Client(client),
        (None, Action::SetAudioLastN { .. } | Action::Webhook { .. }) => Concerns::Home,
        (None, _) => Concerns::Everybody,
    }
}
