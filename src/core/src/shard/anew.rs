//! Messages between two places of a room were lost for good: both say anew what is there, and what neither has named is gone.
//!
//! ```text
//! wing <--Lost------------------------------------ home     whichever side has noticed it
//! wing --Attach, Departed..., Members..., Whole--> home     `Departed`: who has moved from there lately
//! wing <--Roster..., Whole------------------------ home
//! ```
//! Who has no wing any more answers `Lost` with `Detach`.
//!
//! What a place knows by way of another one is **in doubt** from the loss on, until the other has named it; nobody is told
//! anything meanwhile, and media goes on. When the other has told all (`Whole`), what is still in doubt is gone. So clients learn
//! the difference and nothing else. What a policy was asked and had not answered is refused, as nobody can tell whether it was
//! heard.

use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Instant;

use serde_json::json;

use super::Shard;
use super::announce::client_info;
use crate::command::{FarTrack, Member, Members, News, PlaceMessage, ROOM_LOST};
use crate::room::{Doubt, Room, Seat};
use moonring_policy::client::{ClientFacts, Presence, RightsChange};
use moonring_policy::hook::{Action, HookCall};
use moonring_wire::id::{ClientId, ClientKey, PlaceId, RoomKey, TrackId, TrackKey};
use moonring_wire::media::TrackInfo;
use moonring_wire::shared::Shared;

/// What a client is told that waits for a policy which may not have heard of it.
const UNHEARD: &str = "a message between the room's servers was lost, please try again";

impl Shard {
    /// Messages of another place were lost.
    pub(super) fn place_lost(&mut self, now: Instant, place: PlaceId) {
        tracing::warn!(
            place = place.0,
            "messages between shards were lost: both say anew what is in their common rooms"
        );
        for key in self.world.rooms.keys().collect::<Vec<_>>() {
            let Some(room) = self.world.rooms.get(key).filter(|room| room.is_joined_to(place)) else { continue };
            if room.home() == Some(place) {
                self.attach_anew(now, key);
            } else {
                self.doubt(key, place);
                self.say(key, place, PlaceMessage::Lost);
            }
        }
        self.moves_without(now, place);
        self.homes_without(now, place);
    }

    /// At home: a wing speaks of a client that was taken for gone, and says anew who is there.
    fn ask_who_is_there(&mut self, key: RoomKey, wing: PlaceId) {
        // Unless it is about to.
        if self.world.rooms.get(key).is_some_and(|room| room.doubts.iter().all(|doubt| doubt.place != wing)) {
            self.doubt(key, wing);
            self.say(key, wing, PlaceMessage::Lost);
        }
    }

    /// Whether a client of which a wing speaks is known here. A home asks for who is not: its policy knows everybody.
    pub(super) fn knows_or_asks(&mut self, (key, wing): (RoomKey, PlaceId), id: &ClientId) -> bool {
        let is_known = self.is_wing(key) || self.member(key, id).is_some();
        if !is_known {
            self.ask_who_is_there(key, wing);
        }
        is_known
    }

    /// What is known by way of a place may be wrong from here on.
    pub(super) fn doubt(&mut self, key: RoomKey, place: PlaceId) {
        let Some(room) = self.world.rooms.get(key) else { return };
        let is_through = |client: &&ClientKey| {
            let far = self.world.clients.get(**client).and_then(|client| client.far);
            far.is_some_and(|far| if room.home() == Some(place) { !room.wings().contains(&far) } else { far == place })
        };
        let clients: BTreeSet<ClientKey> = room.clients.iter().filter(is_through).copied().collect();
        let published = clients.iter().filter_map(|client| self.world.clients.get(*client));
        let tracks = published.flat_map(|client| client.inbound.published.iter().copied()).collect();
        if let Some(room) = self.world.rooms.get_mut(key) {
            room.doubts.retain(|doubt| doubt.place != place);
            room.doubts.push(Doubt { place, clients, tracks });
        }
    }

    /// At a wing: tells the home who is here, and is told who else there is.
    pub(super) fn attach_anew(&mut self, now: Instant, key: RoomKey) {
        self.refuse_asked(now, UNHEARD, |_, room| room == key);
        let Some(Seat::Wing { home, beyond, .. }) = self.world.rooms.get(key).map(|room| room.seat.clone()) else {
            return;
        };
        self.say(key, home, PlaceMessage::Attach { home: beyond, anew: true });
        self.say_departed(now, key, home);
        self.doubt(key, home);
        // What has waited for a home on its way goes first: of what is told in it, the members have no word any more.
        self.home_comes_not(now, key);
        self.say_members(key, home);
    }

    /// Tells the place on the way to the home of those who are here, and at the other shards of this node.
    pub(super) fn say_members(&mut self, key: RoomKey, to: PlaceId) {
        let Some(room) = self.world.rooms.get(key) else { return };
        let is_ours = |far: Option<PlaceId>| far.is_none_or(|far| room.wings().contains(&far));
        let clients = room.clients.iter().filter_map(|client| self.world.clients.get(*client));
        let ours: Vec<_> =
            clients.filter(|client| is_ours(client.far) && client.facts.presence.get() == Presence::Joined).collect();
        let published = ours.iter().flat_map(|client| client.inbound.published.iter());
        let tracks = published.filter_map(|track| self.as_far_track(*track, to)).collect();
        let member = |client: &&crate::room::client::Client| Member {
            info: client_info(client),
            connection: client.facts.connection.clone(),
            identity: client.facts.identity.get().cloned(),
            rights: client.facts.rights.get(),
            is_hidden: client.facts.is_hidden.get(),
            is_announced: client.is_announced,
        };
        let members = Members { clients: ours.iter().map(member).collect(), tracks };
        self.say(key, to, PlaceMessage::Members(Box::new(members)));
        self.say(key, to, PlaceMessage::Whole);
    }

    /// The whole room, for a place that has not got all of it.
    pub(super) fn say_roster(&mut self, key: RoomKey, to: PlaceId) {
        let roster = self.roster(key, to);
        self.say(key, to, PlaceMessage::Roster(Box::new(roster)));
        self.say(key, to, PlaceMessage::Whole);
    }

    /// Another place has named these: they are there, by whichever way they were known.
    pub(super) fn named(&mut self, key: RoomKey, client: Option<ClientKey>, track: Option<TrackKey>) {
        let Some(room) = self.world.rooms.get_mut(key) else { return };
        for doubt in &mut room.doubts {
            if let Some(client) = client {
                doubt.clients.remove(&client);
            }
            if let Some(track) = track {
                doubt.tracks.remove(&track);
            }
        }
    }

    /// At the home, or on the way there: who is at a wing.
    pub(super) fn members_come(&mut self, now: Instant, (key, wing): (RoomKey, PlaceId), members: Members) {
        let Members { clients, tracks } = members;
        for member in clients {
            self.member_comes(now, (key, wing), member);
        }
        for track in tracks {
            let known = self.index.tracks.get(&track.info.id).copied();
            self.track_comes(now, (key, wing), &track);
            match known {
                Some(known) => self.named(key, None, Some(known)),
                None => self.publication_comes(now, key, &track),
            }
        }
    }

    fn member_comes(&mut self, now: Instant, (key, wing): (RoomKey, PlaceId), member: Member) {
        let id = member.info.client.clone();
        let known = self.index.clients.get(&id).copied();
        let known = known.filter(|known| self.world.clients.get(*known).is_some_and(|client| client.room == key));
        let client = match known {
            Some(known) if self.world.clients[known].far.is_none() => return,
            Some(known) => known,
            None if self.index.clients.contains_key(&id) => return,
            None => self.add_member(now, (key, wing), &member),
        };
        let has_left = self.has_arrived(key, &id);
        if let Some(client) = self.world.clients.get_mut(client) {
            // It may have been known by way of the former home; one that has moved on since this was said is where it has arrived.
            if !has_left {
                client.far = Some(wing);
            }
            if let Some(identity) = &member.identity {
                // It is said once.
                let _ = client.facts.identity.set(identity.clone());
            }
        }
        self.named(key, Some(client), None);
        self.moved_client_is_named(now, key, &id);
        self.introduce(now, key, client, &member);
        self.correct((key, wing), client, &member);
        let Some(was_announced) = self.world.clients.get(client).map(|client| client.is_announced) else { return };
        let news = match (was_announced, member.is_announced) {
            (false, true) => News::ClientJoined(member.info),
            (true, false) => News::ClientLeft(id),
            _ => return,
        };
        self.news_comes(now, (key, wing), &Shared::new(news));
    }

    /// A member of a wing that was admitted by a home which is gone, or of whom this one has not heard.
    fn add_member(&mut self, now: Instant, (key, wing): (RoomKey, PlaceId), member: &Member) -> ClientKey {
        let client = self.add_far_client(now, key, wing, Rc::new(facts_of(now, member)));
        let facts = self.world.clients[client].facts.clone();
        let Some(room) = self.world.rooms.get_mut(key) else { return client };
        if let Seat::Home { policy, .. } = room.seat {
            room.members += 1;
            room.life.lived = true;
            self.policy.engine.admit_without_asking(policy, facts);
        }
        let one = Member { is_announced: false, ..member.clone() };
        self.pass_to_home(key, || PlaceMessage::Members(Box::new(Members { clients: vec![one], tracks: Vec::new() })));
        client
    }

    /// What the policy has said of a client while messages were lost, it is told again. The home knows it.
    fn correct(&mut self, (key, wing): (RoomKey, PlaceId), client: ClientKey, member: &Member) {
        if self.is_wing(key) {
            return;
        }
        let Some(facts) = self.world.clients.get(client).map(|client| client.facts.clone()) else { return };
        let client = || member.info.client.clone();
        let mut actions = Vec::new();
        if *facts.attributes.borrow() != member.info.attributes {
            let attributes = (**facts.attributes.borrow()).clone();
            actions.push(Action::SetAttributes { client: client(), attributes });
        }
        let rights = facts.rights.get();
        if rights != member.rights {
            let (publish, subscribe, message) = (Some(rights.publish), Some(rights.subscribe), Some(rights.message));
            let change = RightsChange { publish, subscribe, message };
            actions.push(Action::SetRights { client: client(), change, reason: String::new() });
        }
        if facts.is_hidden.get() != member.is_hidden {
            actions.push(Action::SetHidden { client: client(), hidden: facts.is_hidden.get() });
        }
        if !actions.is_empty() {
            self.say(key, wing, PlaceMessage::Act(actions));
        }
    }

    /// The policy may not have heard of a track.
    fn publication_comes(&mut self, now: Instant, key: RoomKey, track: &FarTrack) {
        if self.has_heard_of(key, &track.info.id) {
            return;
        }
        let owner = self.index.clients.get(&track.info.client).and_then(|key| self.world.clients.get(*key));
        let Some(client) = owner.map(|owner| owner.facts.clone()) else { return };
        self.notify_policy(now, key, HookCall::TrackPublished { client, track: track.info.clone() });
    }

    /// A client is gone by whose way it was known until the home moved: the news of it may have gone to the former one.
    pub(super) fn tell_of_doubted(&mut self, now: Instant, way: (RoomKey, PlaceId), client: ClientKey) {
        let is_doubted = |room: &Room| room.doubts.iter().any(|doubt| doubt.clients.contains(&client));
        let is_it = self.world.rooms.get(way.0).is_some_and(is_doubted);
        let found = self.world.clients.get(client).filter(|found| is_it && found.is_announced);
        if let Some(id) = found.map(|found| found.id.clone()) {
            self.news_comes(now, way, &Shared::new(News::ClientLeft(id)));
        }
    }

    /// The same of a track.
    pub(super) fn tell_of_doubted_track(&mut self, now: Instant, way: (RoomKey, PlaceId), track: &TrackId) {
        let Some(known) = self.index.tracks.get(track) else { return };
        let is_doubted = |room: &Room| room.doubts.iter().any(|doubt| doubt.tracks.contains(known));
        if self.world.rooms.get(way.0).is_some_and(is_doubted) {
            self.news_comes(now, way, &Shared::new(News::TrackUnpublished(track.clone())));
        }
    }

    /// The other place has told all that it has.
    pub(super) fn all_is_told(&mut self, now: Instant, (key, place): (RoomKey, PlaceId)) {
        self.sweep_doubts(now, (key, place));
        // Not before: it would be told of those who are gone.
        if !self.is_told_of_by_home(key, place) {
            self.say_roster(key, place);
        }
        self.close_room_if_empty(now, key);
    }

    /// What is still in doubt is gone.
    pub(super) fn sweep_doubts(&mut self, now: Instant, (key, place): (RoomKey, PlaceId)) {
        let Some(room) = self.world.rooms.get_mut(key) else { return };
        let at = room.doubts.iter().position(|doubt| doubt.place == place);
        let Doubt { clients, tracks, .. } = at.map(|at| room.doubts.swap_remove(at)).unwrap_or_default();
        for track in tracks {
            self.doubted_track_goes(now, (key, place), track);
        }
        for client in clients {
            self.doubted_client_goes(now, (key, place), client);
        }
    }

    fn doubted_track_goes(&mut self, now: Instant, (key, place): (RoomKey, PlaceId), track: TrackKey) {
        let Some(found) = self.world.tracks.get(track).filter(|found| found.far.is_some() && found.room == key) else {
            return;
        };
        let (info, owner) = (found.info.clone(), found.owner);
        let facts = self.world.clients.get(owner).map(|owner| owner.facts.clone());
        self.news_comes(now, (key, place), &Shared::new(News::TrackUnpublished(info.id.clone())));
        if let Some(client) = facts.filter(|_| !self.is_told_of_by_home(key, place)) {
            self.far_track_lost(now, (key, Some(place)), client, info);
        }
    }

    fn doubted_client_goes(&mut self, now: Instant, (key, place): (RoomKey, PlaceId), client: ClientKey) {
        let is_it = |found: &&crate::room::client::Client| found.far.is_some() && found.room == key;
        let Some(found) = self.world.clients.get(client).filter(is_it) else { return };
        let (facts, is_announced) = (found.facts.clone(), found.is_announced);
        if is_announced {
            self.news_comes(now, (key, place), &Shared::new(News::ClientLeft(facts.id.clone())));
        }
        if self.is_told_of_by_home(key, place) {
            return self.remove_far_client(now, client);
        }
        self.far_client_lost(now, (key, Some(place)), facts.clone());
        self.remove_far_client(now, client);
        self.tell_gone(key, facts.id.clone());
    }

    /// A track of another place has ended, which that has not said: the policy is told, and the webhook if it cannot be told there,
    /// or the track is of no place.
    pub(super) fn far_track_lost(
        &mut self,
        now: Instant,
        (key, place): (RoomKey, Option<PlaceId>),
        client: Rc<ClientFacts>,
        track: TrackInfo,
    ) {
        if !place.is_some_and(|place| self.world.links.is_linked(place)) {
            self.tell_webhook(key, "track_unpublished", || json!(track));
        }
        self.notify_policy(now, key, HookCall::TrackUnpublished { client, track });
    }

    /// The same of a client.
    pub(super) fn far_client_lost(
        &mut self,
        now: Instant,
        (key, place): (RoomKey, Option<PlaceId>),
        client: Rc<ClientFacts>,
    ) {
        if client.presence.replace(Presence::Gone) != Presence::Joined {
            return;
        }
        if let Some(room) = self.world.rooms.get_mut(key).filter(|room| room.home().is_none()) {
            room.members -= 1;
        }
        let reason = ROOM_LOST.to_owned();
        if !place.is_some_and(|place| self.world.links.is_linked(place)) {
            self.tell_webhook(key, "client_left", || json!({ "client": client.id, "reason": reason }));
        }
        self.notify_policy(now, key, HookCall::ClientDisconnect { client, reason });
    }

    /// Whether a place is the way to the home, which tells its policy itself.
    fn is_told_of_by_home(&self, key: RoomKey, place: PlaceId) -> bool {
        self.world.rooms.get(key).is_some_and(|room| room.home() == Some(place))
    }
}

/// What a policy may know of a member of a wing.
pub(super) fn facts_of(now: Instant, member: &Member) -> ClientFacts {
    let Member { info, connection, identity, rights, is_hidden, .. } = member;
    let facts = ClientFacts::new(info.client.clone(), connection.clone(), info.metadata.clone(), now);
    facts.presence.set(Presence::Joined);
    facts.attributes.replace(info.attributes.clone());
    facts.rights.set(*rights);
    facts.is_hidden.set(*is_hidden);
    if let Some(identity) = identity {
        // It is said once.
        let _ = facts.identity.set(identity.clone());
    }
    facts
}
