//! A room at a place that is not its home: how it begins there, what the home says, and how it ends.

use std::time::Instant;

use super::announce::client_info;
use super::pending::FarQuestion;
use super::{PendingHook, Shard};
use crate::command::{FarCall, JoinRequest, LeaveCause, News, PlaceMessage, RoomEnd, Roster, SeatGiven};
use crate::room::Seat;
use moonring_policy::client::{CloseReason, Presence};
use moonring_policy::hook::{HookCall, Outcome, Undecided, Verdict};
use moonring_wire::id::{ClientId, ClientKey, PlaceId, RoomId, RoomKey};
use moonring_wire::shared::Shared;

/// What is refused while the home of another node cannot be reached is refused with.
const AWAY: &str = "the room's home cannot be reached, please try again";

/// The way to a room's home: which place is spoken to, and the home beyond it, where that is the lead of this node.
pub(super) type Way = (PlaceId, Option<PlaceId>);

impl Shard {
    /// A client wants into a room whose home is another shard.
    pub(super) fn join_wing(&mut self, now: Instant, way: Way, request: JoinRequest) {
        if way.0 == self.world.links.own {
            return self.join(now, request);
        }
        let Some(request) = self.not_too_late(Some(way), request) else { return };
        let key = self.index.rooms.get(&request.room).copied();
        let key = key.unwrap_or_else(|| self.open_wing(now, &request.room, way));
        self.take_in(now, key, request);
    }

    pub(super) fn open_wing(&mut self, now: Instant, id: &RoomId, (home, beyond): Way) -> RoomKey {
        let key = self.add_room(id.clone(), Seat::Wing { home, beyond, wings: Vec::new() });
        tracing::debug!(room = %id, home = home.0, "spreads to this shard");
        self.say(key, home, PlaceMessage::Attach { home: beyond, anew: false });
        self.schedule_places(now);
        key
    }

    /// Asks the home's policy, or tells it of something. What is to be decided while the home cannot be reached is not asked: it
    /// is refused in a moment.
    pub(super) fn ask_home(&mut self, room: RoomKey, home: PlaceId, asked: PendingHook, call: HookCall) {
        let Some(call) = FarCall::of(call).map(Box::new) else { return };
        let ticket = (asked != PendingHook::Notice).then_some(self.policy.next_far);
        if let Some(ticket) = ticket {
            self.policy.next_far += 1;
            self.policy.far.insert(ticket, (room, asked));
            if let Some(room) = self.world.rooms.get_mut(room) {
                room.hooks += 1;
            }
            if self.is_out_of_reach(room, home) {
                return;
            }
        }
        self.say(room, home, PlaceMessage::Asked { ticket, call });
    }

    /// At a wing: what the home says.
    pub(super) fn hear_home(&mut self, now: Instant, (key, home): (RoomKey, PlaceId), message: PlaceMessage) {
        match message {
            PlaceMessage::Roster(roster) => {
                self.take_roster(now, (key, home), *roster);
                self.ask_all_to_freeze(now, key);
                for wing in self.other_places(key, Some(home)) {
                    let roster = self.roster(key, wing);
                    self.say(key, wing, PlaceMessage::Roster(Box::new(roster)));
                }
            }
            PlaceMessage::Decided { ticket, outcome, seat, full } => {
                let Some((room, asked)) = self.policy.far.remove(&ticket) else { return };
                self.work.subject = Some(self.subject_of(room, &asked));
                if let Some(room) = self.world.rooms.get_mut(room) {
                    room.hooks -= 1;
                }
                if let PendingHook::Far(question) = &asked {
                    self.pass_decided(now, room, question, (*outcome, seat, full));
                    self.ready_for_home(room);
                    return self.close_room_if_empty(now, room);
                }
                if let (PendingHook::Connect(client), Some(seat)) = (&asked, seat) {
                    self.take_seat(*client, seat);
                }
                match (&asked, full) {
                    (PendingHook::Connect(client), Some(words)) => {
                        self.remove_client(now, *client, LeaveCause::Limit(words.clone()), &words);
                    }
                    _ => self.apply_outcome(now, room, asked, *outcome),
                }
                self.ready_for_home(room);
                self.close_room_if_empty(now, room);
            }
            PlaceMessage::Act(actions) => {
                self.act_everywhere(now, key, actions, None);
                self.close_room_if_empty(now, key);
            }
            PlaceMessage::Loudest(tracks) => {
                for wing in self.other_places(key, Some(home)) {
                    self.say(key, wing, PlaceMessage::Loudest(tracks.clone()));
                }
                self.set_loudest(key, tracks);
            }
            PlaceMessage::Ended(end) => self.end_wing(now, key, &end),
            PlaceMessage::Lost => {
                self.refuse_asked(now, AWAY, |_, room| room == key);
                self.say_departed(now, key, home);
                self.say_members(key, home);
            }
            PlaceMessage::Whole => self.all_is_told(now, (key, home)),
            PlaceMessage::HomeIs(beyond) => self.beyond_is((key, home), beyond),
            PlaceMessage::News(news) => self.news_comes(now, (key, home), &news),
            PlaceMessage::Track(track) => self.track_comes(now, (key, home), &track),
            PlaceMessage::Attach { .. }
            | PlaceMessage::Asked { .. }
            | PlaceMessage::Traffic(_)
            | PlaceMessage::Loudness(_)
            | PlaceMessage::Gone(_)
            | PlaceMessage::Detach
            | PlaceMessage::Home(_)
            | PlaceMessage::Members(_)
            | PlaceMessage::Move(_) => {}
        }
    }

    /// At the lead of a node: the home has decided on what another shard of the node has asked.
    pub(super) fn pass_decided(
        &mut self,
        now: Instant,
        room: RoomKey,
        question: &FarQuestion,
        (mut outcome, seat, full): (Outcome, Option<SeatGiven>, Option<String>),
    ) {
        let FarQuestion { wing, ticket, joining } = question;
        if let Some(client) = joining.and_then(|key| self.world.clients.get(key))
            && outcome.verdict == Verdict::Allow
            && full.is_none()
            && client.facts.presence.get() != Presence::Gone
        {
            client.facts.presence.set(Presence::Joined);
        }
        outcome.actions = self.act_everywhere(now, room, outcome.actions, Some(*wing));
        match ticket {
            Some(ticket) => {
                let (ticket, outcome) = (*ticket, Box::new(outcome));
                self.say(room, *wing, PlaceMessage::Decided { ticket, outcome, seat, full });
            }
            None if !outcome.actions.is_empty() => self.say(room, *wing, PlaceMessage::Act(outcome.actions)),
            None => {}
        }
    }

    /// A place of another node can be reached by messages, or not any more.
    pub(super) fn place_away(&mut self, place: PlaceId, is_away: bool) {
        let is_news = if is_away { self.policy.away.insert(place) } else { self.policy.away.remove(&place) };
        if is_news && is_away {
            tracing::warn!(
                place = place.0,
                "messages do not reach a shard of another node: what it decides is refused"
            );
        } else if is_news {
            tracing::info!(place = place.0, "messages reach a shard of another node again");
        }
    }

    /// Refuses what homes were asked that cannot be reached.
    pub(super) fn refuse_unreachable(&mut self, now: Instant) {
        self.refuse_asked(now, AWAY, |shard, room| {
            let home = shard.world.rooms.get(room).and_then(|room| room.home());
            home.is_some_and(|home| shard.is_out_of_reach(room, home))
        });
    }

    /// Refuses what the homes of some rooms were asked.
    pub(super) fn refuse_asked(&mut self, now: Instant, words: &str, is_one: impl Fn(&Self, RoomKey) -> bool) {
        let of_one = self.policy.far.iter().filter(|(_, (room, _))| is_one(self, *room));
        let tickets: Vec<_> = of_one.map(|(ticket, _)| *ticket).collect();
        for ticket in tickets {
            let Some((room, asked)) = self.policy.far.remove(&ticket) else { continue };
            if let Some(room) = self.world.rooms.get_mut(room) {
                room.hooks -= 1;
            }
            let verdict = Verdict::Undecided(Undecided::Unheard, words.to_owned());
            self.apply_outcome(now, room, asked, refusing(verdict));
            self.close_room_if_empty(now, room);
        }
    }

    pub(super) fn take_seat(&mut self, key: ClientKey, seat: SeatGiven) {
        let Some(client) = self.world.clients.get_mut(key) else { return };
        client.came_early = seat.came_early;
        if let Some(identity) = seat.identity {
            // It is said once.
            let _ = client.facts.identity.set(identity);
        }
    }

    fn take_roster(&mut self, now: Instant, (key, home): (RoomKey, PlaceId), roster: Roster) {
        let Roster { clients, tracks, announcing, loudest, speakers } = roster;
        // Whoever is there before the first roster has come has not been told that it has joined.
        for info in clients {
            let known = self.member(key, &info.client);
            match known.and_then(|known| self.world.clients.get(known)) {
                Some(_) if self.is_ours(key, &info.client) => continue,
                Some(client) if client.is_announced && client_info(client) == info => {}
                Some(client) if client.is_announced => {
                    let (client, attributes) = (info.client.clone(), info.attributes.clone());
                    let news = Shared::new(News::ClientChanged { client, attributes });
                    self.far_client_announced(now, (key, home), &info);
                    self.tell_here(key, None, &news);
                }
                _ => self.far_news(now, (key, home), &Shared::new(News::ClientJoined(info.clone()))),
            }
            self.named(key, self.member(key, &info.client), None);
        }
        for track in tracks {
            if self.is_ours(key, &track.info.client) {
                continue;
            }
            self.far_track_told(now, key, &track);
            let known = self.index.tracks.get(&track.info.id).copied();
            let owner = self.member(key, &track.info.client);
            self.named(key, owner, known);
        }
        let speaking = speakers.iter().filter_map(|id: &ClientId| self.index.clients.get(id).copied()).collect();
        if let Some(room) = self.world.rooms.get_mut(key) {
            room.announcing.wanted = announcing;
            room.speakers.set_current(now, speaking);
        }
        self.set_loudest(key, loudest);
    }

    /// Whether a client is here, or at another shard of this node that speaks to the home by way of this one.
    pub(super) fn is_ours(&self, key: RoomKey, id: &ClientId) -> bool {
        let client = self.member(key, id).and_then(|client| self.world.clients.get(client));
        let wings = self.world.rooms.get(key).map(|room| room.wings()).unwrap_or_default();
        client.is_some_and(|client| client.far.is_none_or(|far| wings.contains(&far)))
    }

    /// A wing ends: its clients are told why, and nothing is waited for.
    pub(super) fn end_wing(&mut self, now: Instant, key: RoomKey, end: &RoomEnd) {
        let waiting: Vec<_> =
            self.policy.far.iter().filter(|(_, (room, _))| *room == key).map(|(ticket, _)| *ticket).collect();
        let Some(room) = self.world.rooms.get_mut(key) else { return };
        room.life.ending = Some(CloseReason::Closed);
        self.end_at_wings(now, key, end);
        self.expect_nobody_in(now, key);
        if let Some(id) = self.world.rooms.get(key).map(|room| room.id.clone()) {
            self.home_says_no_more(now, &id);
        }
        for ticket in waiting {
            let Some((_, asked)) = self.policy.far.remove(&ticket) else { continue };
            if let Some(room) = self.world.rooms.get_mut(key) {
                room.hooks -= 1;
            }
            self.apply_outcome(now, key, asked, refusing(end.verdict()));
        }
        self.end_clients_here(now, key, &end.into(), end.words());
        self.close_room_if_empty(now, key);
    }

    /// Ends a room for those wings that have come to it by way of this place.
    pub(super) fn end_at_wings(&mut self, now: Instant, key: RoomKey, end: &RoomEnd) {
        for wing in self.world.rooms.get(key).map(|room| room.wings().to_vec()).unwrap_or_default() {
            self.say(key, wing, PlaceMessage::Ended(end.clone()));
            self.detach(now, key, wing);
        }
    }

    /// Ends the clients of a room that are on this shard.
    pub(super) fn end_clients_here(&mut self, now: Instant, key: RoomKey, cause: &LeaveCause, reason: &str) {
        let clients = self.world.rooms.get(key).map(|room| room.clients.clone()).unwrap_or_default();
        for client in clients {
            if self.world.clients.get(client).is_some_and(|client| client.far.is_none()) {
                self.remove_client(now, client, cause.clone(), reason);
            }
        }
    }

    /// A wing without clients of its own is gone, with all that it knew of the others.
    pub(super) fn close_wing_if_empty(&mut self, now: Instant, key: RoomKey) {
        let Some(room) = self.world.rooms.get(key) else { return };
        let (Seat::Wing { home, wings, .. }, 0, 0) = (&room.seat, room.here, room.hooks) else { return };
        if !wings.is_empty() {
            return;
        }
        let (home, id) = (*home, room.id.clone());
        // A home that is on its way here comes to a room.
        if self.moves.hold(&id) || self.homes.comes_to(key) {
            return;
        }
        for client in room.clients.clone() {
            self.remove_far_client(now, client);
        }
        self.say(key, home, PlaceMessage::Detach);
        self.take_out_room(key);
        tracing::debug!(room = %id, "is no longer spread to this shard");
        self.join_late(now, key);
    }
}

/// What stands for the answer of a home that is gone.
fn refusing(verdict: Verdict) -> Outcome {
    let refused = verdict.reason().map(str::to_owned);
    Outcome { verdict, actions: Vec::new(), failed: false, missing: false, refused, answer: None }
}
