//! Messages between the home of a spread room and its wings.

use std::rc::Rc;
use std::time::Instant;

use super::Shard;
use super::announce::{MAX_ANNOUNCED, client_info};
use super::faults::Subject;
use super::pending::{FarQuestion, PendingHook};
use crate::command::{Event, FarCall, LeaveCause, News, PlaceMessage, RoomEnd, Roster, SeatGiven};
use crate::room::Seat;
use moonring_policy::client::{ClientFacts, CloseReason, Presence};
use moonring_policy::hook::{Action, HookCall, Outcome, Verdict};
use moonring_wire::id::{ClientId, ClientKey, PlaceId, RoomId, RoomKey};
use moonring_wire::shared::SharedValue;

/// Messages that wait for a room that is ending at home.
const MAX_LATE: usize = 65_536;

impl Shard {
    /// Messages of another shard.
    pub(super) fn hear_place(&mut self, now: Instant, from: PlaceId, messages: Vec<(RoomId, PlaceMessage)>) {
        for (room, message) in messages {
            self.work.subject = self.index.rooms.get(&room).copied().map(Subject::Room);
            self.hear_message(now, from, room, message);
        }
    }

    fn hear_message(&mut self, now: Instant, from: PlaceId, id: RoomId, message: PlaceMessage) {
        if let PlaceMessage::Move(message) = message {
            return self.hear_of_move(now, (from, &id), message);
        }
        if let PlaceMessage::Home(message) = message {
            return self.hear_of_home(now, (from, &id), message);
        }
        let known = self.index.rooms.get(&id).copied();
        let room = known.and_then(|key| Some((key, self.world.rooms.get(key)?)));
        let attaches = if let PlaceMessage::Attach { home, anew } = &message { Some((*home, *anew)) } else { None };
        match room {
            Some((key, room)) if room.home() == Some(from) => self.hear_home(now, (key, from), message),
            Some((key, room)) if room.wings().contains(&from) => self.hear_wing(now, (key, from), message),
            Some((key, room)) if room.life.ending.is_some() && room.home().is_none() => {
                self.too_late(key, from, message)
            }
            Some((key, room)) => match (room.home(), attaches) {
                (None, Some((_, anew))) => self.attach(key, from, anew),
                // This shard is the sender's way to the same home.
                (Some(home), Some((Some(theirs), anew))) if home == theirs && room.life.ending.is_none() => {
                    self.attach(key, from, anew)
                }
                // Two homes: the sender's question is answered, and it begins anew.
                _ => self.tell_not_attached(from, id, &message),
            },
            None => match attaches {
                Some((Some(home), anew)) if home != self.world.links.own => {
                    let key = self.open_wing(now, &id, (home, None));
                    self.attach(key, from, anew);
                }
                Some((_, anew)) => match self.open_room(now, &id, SharedValue::empty_object()) {
                    Ok(key) => self.attach(key, from, anew),
                    Err(error) => {
                        let reason = error.reason().to_owned();
                        self.say_of(id.clone(), from, PlaceMessage::Ended(RoomEnd::Closed(reason)));
                        self.work.events.push(Event::RoomClosed(id));
                    }
                },
                None => self.tell_not_attached(from, id, &message),
            },
        }
    }

    /// Messages about a room that this place does not have; those that end what they speak of need no answer.
    fn tell_not_attached(&mut self, from: PlaceId, id: RoomId, message: &PlaceMessage) {
        match message {
            PlaceMessage::Asked { ticket: Some(_), .. } | PlaceMessage::Attach { .. } => {
                self.say_of(id, from, PlaceMessage::Ended(RoomEnd::lost()));
            }
            // The wing has ended, and that was among what was lost.
            PlaceMessage::Lost => self.say_of(id, from, PlaceMessage::Detach),
            _ => {}
        }
    }

    /// Says a wing's message again once the room that is ending is gone.
    fn too_late(&mut self, key: RoomKey, from: PlaceId, message: PlaceMessage) {
        if let PlaceMessage::Gone(id) = &message {
            // Who has given up waiting has never been there.
            let is_of_it =
                |message: &PlaceMessage| matches!(message, PlaceMessage::Asked { call, .. } if call.client() == id);
            return self.work.late_messages.retain(|(_, place, message)| *place != from || !is_of_it(message));
        }
        if self.work.late_messages.len() < MAX_LATE {
            self.work.late_messages.push((key, from, message));
        }
    }

    /// The room is gone: what came too late for it is for the next one of its name.
    pub(super) fn say_late_messages(&mut self, now: Instant, key: RoomKey, id: &RoomId) {
        let (late, others): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.work.late_messages).into_iter().partition(|(of, ..)| *of == key);
        self.work.late_messages = others;
        late.into_iter().for_each(|(_, from, message)| self.hear_message(now, from, id.clone(), message));
    }

    fn attach(&mut self, key: RoomKey, wing: PlaceId, anew: bool) {
        let Some(room) = self.world.rooms.get_mut(key) else { return };
        if anew && room.lost.contains(&wing) {
            // They are let in as everybody is, or not.
            return self.say(key, wing, PlaceMessage::Ended(RoomEnd::lost()));
        }
        room.lost.retain(|lost| *lost != wing);
        room.wings_mut().push(wing);
        self.keep_no_longer(key);
        if anew {
            return;
        }
        let roster = self.roster(key, wing);
        self.say(key, wing, PlaceMessage::Roster(Box::new(roster)));
    }

    /// A room as the shard `to` has to know it.
    pub(super) fn roster(&self, key: RoomKey, to: PlaceId) -> Roster {
        let Some(room) = self.world.rooms.get(key) else { return Roster::default() };
        let announced = room.announced.iter().filter_map(|key| self.world.clients.get(*key)).map(client_info);
        let clients = announced.collect();
        let speaking = room.speakers.current().iter().filter_map(|key| self.world.clients.get(*key));
        let speakers = speaking.map(|client| client.id.clone()).collect();
        let (announcing, loudest) = (room.announcing.wanted, room.speakers.loudest().map(<[_]>::to_vec));
        let tracks = room.tracks.iter().filter_map(|key| self.as_far_track(*key, to)).collect();
        let loudest = loudest.map(|keys| self.track_ids(&keys));
        Roster { clients, tracks, announcing, loudest, speakers }
    }

    /// At home, or at the lead of a node: what a wing says.
    fn hear_wing(&mut self, now: Instant, (key, wing): (RoomKey, PlaceId), message: PlaceMessage) {
        match message {
            PlaceMessage::Asked { ticket, call } => self.far_asks(now, (key, wing), ticket, *call),
            PlaceMessage::Traffic(figures) => {
                self.pass_to_home(key, || PlaceMessage::Traffic(figures.clone()));
                for (id, figures) in figures {
                    let client = self.member(key, &id).and_then(|key| self.world.clients.get(key));
                    if let Some(client) = client.filter(|client| client.far == Some(wing)) {
                        figures.note(&client.facts.traffic);
                    }
                }
            }
            PlaceMessage::Loudness(levels) if self.is_wing(key) => {
                self.pass_to_home(key, || PlaceMessage::Loudness(levels));
            }
            PlaceMessage::Loudness(levels) => self.far_loudness(now, key, &levels),
            PlaceMessage::Gone(id) => {
                self.tell_gone(key, id.clone());
                if let Some(client) = self.index.clients.get(&id).copied() {
                    self.tell_of_doubted(now, (key, wing), client);
                    self.remove_far_client(now, client);
                }
                self.close_room_if_empty(now, key);
            }
            PlaceMessage::Detach => self.lose_wing(now, key, wing),
            // It had ended, which has not been heard.
            PlaceMessage::Attach { anew: false, .. } => {
                let Some(id) = self.world.rooms.get(key).map(|room| room.id.clone()) else { return };
                self.lose_wing(now, key, wing);
                self.hear_message(now, wing, id, message);
            }
            PlaceMessage::Members(members) => self.members_come(now, (key, wing), *members),
            PlaceMessage::Whole => self.all_is_told(now, (key, wing)),
            PlaceMessage::News(news) => self.news_comes(now, (key, wing), &news),
            PlaceMessage::Track(track) => self.track_comes(now, (key, wing), &track),
            PlaceMessage::Attach { .. }
            | PlaceMessage::Roster(_)
            | PlaceMessage::Lost
            | PlaceMessage::HomeIs(_)
            | PlaceMessage::Decided { .. }
            | PlaceMessage::Act(_)
            | PlaceMessage::Loudest(_)
            | PlaceMessage::Ended(_)
            | PlaceMessage::Home(_)
            | PlaceMessage::Move(_) => {}
        }
    }

    pub(super) fn detach(&mut self, now: Instant, key: RoomKey, wing: PlaceId) {
        let Some(room) = self.world.rooms.get_mut(key) else { return };
        room.wings_mut().retain(|place| *place != wing);
        for client in room.clients.clone() {
            let Some(far) = self.world.clients.get(client).filter(|client| client.far == Some(wing)) else { continue };
            let id = far.id.clone();
            self.remove_far_client(now, client);
            self.tell_gone(key, id);
        }
        self.close_room_if_empty(now, key);
    }

    /// A wing asks the policy, or tells it of something.
    fn far_asks(&mut self, now: Instant, (key, wing): (RoomKey, PlaceId), ticket: Option<u64>, call: FarCall) {
        let id = call.client().clone();
        let mut question = FarQuestion { wing, ticket, joining: None };
        if let FarCall::Connect { client, connection, metadata, .. } = &call {
            if self.index.clients.contains_key(client) {
                return;
            }
            let facts = ClientFacts::new(client.clone(), (**connection).clone(), metadata.clone(), now);
            question.joining = Some(self.add_far_client(now, key, wing, Rc::new(facts)));
        }
        let client = self.index.clients.get(&id).and_then(|key| self.world.clients.get(*key));
        // It may have moved there, which its former place has not said yet.
        let Some(facts) = client.filter(|client| client.far.is_some()).map(|client| client.facts.clone()) else {
            return;
        };
        let call = match call {
            FarCall::Connect { auth_token, .. } => HookCall::ClientConnect { client: facts, auth_token },
            FarCall::Disconnect { reason, .. } => {
                if facts.presence.replace(Presence::Gone) == Presence::Joined
                    && !self.is_wing(key)
                    && let Some(room) = self.world.rooms.get_mut(key)
                {
                    room.members -= 1;
                }
                HookCall::ClientDisconnect { client: facts, reason }
            }
            FarCall::PublishRequest(track) => HookCall::PublishRequest { client: facts, track },
            FarCall::Published(track) => {
                self.note_published(key, &track.id);
                HookCall::TrackPublished { client: facts, track }
            }
            FarCall::Unpublished(track) => {
                self.tell_of_doubted_track(now, (key, wing), &track.id);
                HookCall::TrackUnpublished { client: facts, track }
            }
            FarCall::SubscribeRequest { track, .. } => HookCall::SubscribeRequest { client: facts, track },
            FarCall::Message { message, .. } => HookCall::Message { client: facts, message },
        };
        self.ask(now, key, PendingHook::Far(question), call);
    }

    /// At home: the policy has decided on a far client's question.
    pub(super) fn far_decided(&mut self, now: Instant, room: RoomKey, question: &FarQuestion, mut outcome: Outcome) {
        if self.is_wing(room) {
            return self.pass_decided(now, room, question, (outcome, None, None));
        }
        let FarQuestion { wing, ticket, joining } = question;
        let (mut seat, mut full) = (None, None);
        if let Some(key) = joining
            && outcome.verdict == Verdict::Allow
        {
            match self.give_seat(room, *key) {
                Ok(given) => seat = given,
                Err(words) => full = Some(words),
            }
        }
        let actions = std::mem::take(&mut outcome.actions);
        outcome.actions = self.act_everywhere(now, room, actions, Some(*wing));
        match ticket {
            Some(ticket) => {
                let (ticket, outcome) = (*ticket, Box::new(outcome));
                self.say(room, *wing, PlaceMessage::Decided { ticket, outcome, seat, full });
            }
            None if !outcome.actions.is_empty() => self.say(room, *wing, PlaceMessage::Act(outcome.actions)),
            None => {}
        }
    }

    /// Counts a far client in; in words why not.
    fn give_seat(&mut self, key: RoomKey, client: ClientKey) -> Result<Option<SeatGiven>, String> {
        let Some(facts) = self.world.clients.get(client).map(|client| client.facts.clone()) else { return Ok(None) };
        if facts.presence.get() == Presence::Gone {
            return Ok(None);
        }
        let Some(room) = self.world.rooms.get_mut(key) else { return Ok(None) };
        if room.members >= self.settings.max_clients_per_room {
            let words = self.world.rooms.get(key).map(|room| self.full(&room.id));
            return words.map_or(Ok(None), Err);
        }
        facts.presence.set(Presence::Joined);
        room.members += 1;
        let came_early = room.members <= MAX_ANNOUNCED;
        self.room_lives(key);
        Ok(Some(SeatGiven { identity: facts.identity.get().cloned(), came_early }))
    }

    /// A wing is gone, and with it those of its clients of whom nobody has said so.
    fn lose_wing(&mut self, now: Instant, key: RoomKey, wing: PlaceId) {
        if let Some(room) = self.world.rooms.get_mut(key) {
            room.wings_mut().retain(|place| *place != wing);
            room.doubts.retain(|doubt| doubt.place != wing);
        }
        self.tell_of_lost(now, key, wing);
        self.detach(now, key, wing);
    }

    /// A place is gone: what was spread over both ends.
    pub(super) fn place_gone(&mut self, now: Instant, place: PlaceId) {
        for key in self.world.rooms.keys().collect::<Vec<_>>() {
            let Some(room) = self.world.rooms.get(key).filter(|room| room.is_joined_to(place)) else { continue };
            match &room.seat {
                Seat::Wing { home, .. } if *home == place && !self.world.links.is_near(place) => {
                    self.orphan(now, key, place);
                }
                Seat::Wing { home, .. } if *home == place => self.end_wing(now, key, &RoomEnd::lost()),
                Seat::Home { .. } | Seat::Wing { .. } => {
                    self.lose_wing(now, key, place);
                    if let Some(room) = self.world.rooms.get_mut(key) {
                        room.lost.push(place);
                    }
                }
            }
        }
        self.moves_without(now, place);
        self.homes_without(now, place);
    }

    /// The clients of a wing are gone with it: the others and the policy are told.
    fn tell_of_lost(&mut self, now: Instant, key: RoomKey, wing: PlaceId) {
        let lost = |client: &ClientKey| self.world.clients.get(*client).is_some_and(|client| client.far == Some(wing));
        let clients = self.world.rooms.get(key).map(|room| room.clients.clone()).unwrap_or_default();
        let lost: Vec<_> = clients.into_iter().filter(lost).collect();
        lost.into_iter().for_each(|client| self.tell_of_lost_client(now, (key, Some(wing)), client));
    }

    /// A far client is gone, and its place does not say so: the others and the policy are told; see [`Self::far_client_lost`].
    fn tell_of_lost_client(&mut self, now: Instant, (key, place): (RoomKey, Option<PlaceId>), client: ClientKey) {
        let Some(far) = self.world.clients.get(client) else { return };
        let (facts, is_announced) = (far.facts.clone(), far.is_announced);
        let tracks = far.inbound.published.iter().filter_map(|track| self.world.tracks.get(*track));
        for info in tracks.map(|track| track.info.clone()).collect::<Vec<_>>() {
            if let Some(key) = self.index.tracks.get(&info.id).copied() {
                self.remove_far_track(now, key);
            }
            self.tell_room(key, None, News::TrackUnpublished(info.id.clone()));
            self.far_track_lost(now, (key, place), facts.clone(), info);
        }
        if is_announced {
            self.tell_room(key, None, News::ClientLeft(facts.id.clone()));
        }
        self.far_client_lost(now, (key, place), facts);
    }

    /// At home: a client that has moved has come nowhere.
    pub(super) fn moved_client_is_gone(&mut self, now: Instant, key: RoomKey, client: ClientKey) {
        self.tell_of_lost_client(now, (key, None), client);
        self.remove_far_client(now, client);
        self.close_room_if_empty(now, key);
    }

    /// Tells wings which sound is forwarded, when that has changed.
    pub(super) fn tell_loudest(&mut self, key: RoomKey) {
        if self.other_places(key, None).is_empty() || self.is_wing(key) {
            return;
        }
        let Some(room) = self.world.rooms.get_mut(key) else { return };
        let Some(loudest) = room.speakers.loudest_news() else { return };
        let tracks = loudest.map(|keys| self.track_ids(&keys));
        for wing in self.other_places(key, None) {
            self.say(key, wing, PlaceMessage::Loudest(tracks.clone()));
        }
    }

    /// An action that ends a room, at home or at a wing.
    pub(super) fn close_room_by_action(&mut self, now: Instant, key: RoomKey, reason: &str) {
        if self.is_wing(key) {
            if let Some(room) = self.world.rooms.get_mut(key) {
                room.life.ending = Some(CloseReason::Closed);
            }
        } else {
            self.end_of_room(now, key, CloseReason::Closed);
        }
        self.end_clients_here(now, key, &LeaveCause::Kicked(reason.to_owned()), reason);
    }

    /// Whether an action of an operator's is about somebody who is there, as far as this shard can tell.
    pub(super) fn is_far(&self, room: RoomKey, id: &ClientId) -> bool {
        self.member(room, id).and_then(|key| self.world.clients.get(key)).is_some_and(|client| client.far.is_some())
    }

    /// Announces as the policy wants it.
    pub(super) fn apply_to_room(&mut self, now: Instant, room: RoomKey, action: Action) {
        match action {
            Action::Announce { who } => self.set_announced(now, room, who),
            Action::SetAudioLastN { n } => {
                self.set_audio_last_n(room, n);
                self.tell_loudest(room);
            }
            Action::CloseRoom { reason } => self.close_room_by_action(now, room, &reason),
            _ => {}
        }
    }
}
