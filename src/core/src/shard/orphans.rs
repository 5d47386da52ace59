//! A room whose home's node is gone, at a wing: media between the wings goes on, and one of them becomes the home.
//!
//! ```text
//! node gone ──▶ orphan: what the policy decides is refused, everybody stays
//!                 │ the control plane has claimed the room          │ another node has
//!                 ▼                                                 ▼
//!               BecomeHome: a policy that begins anew,            HomeIs: Attach, Members, Whole to the new home,
//!               with those who are here and at the node's         whose roster tells who else is left
//!               other shards; the other wings name theirs
//! ```
//! Whoever no wing has named after a while was on the node that is gone.

use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::Shard;
use super::take_over::{NO_START, Origin};
use crate::command::{Event, Member, PlaceMessage, ROOM_LOST, RoomEnd};
use crate::room::Seat;
use moonring_policy::client::ClientFacts;
use moonring_policy::{CarriedPolicy, PolicyKey};
use moonring_wire::id::{ClientKey, PlaceId, RoomId, RoomKey, TrackId};
use moonring_wire::shared::SharedValue;

/// How long a wing without a home waits for another one; then its clients join anew.
const ORPHAN: Duration = Duration::from_secs(15);
/// How long a new home waits for the other wings to name their clients.
const ADOPTION: Duration = Duration::from_secs(5);

/// A room that has lost its home.
#[derive(Debug)]
pub(super) struct Orphan {
    /// When it is waited for no longer.
    until: Instant,
    /// At the new home: clients that its policy does not know, and the place by way of which they were known.
    strangers: Option<(BTreeSet<ClientKey>, PlaceId)>,
    /// There, too: tracks that its policy has heard of and nobody else yet, as the news went to the former home.
    published: BTreeSet<TrackId>,
}

impl Orphan {
    fn new(until: Instant, strangers: Option<(BTreeSet<ClientKey>, PlaceId)>) -> Self {
        Self { until, strangers, published: BTreeSet::new() }
    }
}

impl Shard {
    /// The home of a wing is gone with its node.
    pub(super) fn orphan(&mut self, now: Instant, key: RoomKey, home: PlaceId) {
        let Some(room) = self.world.rooms.get(key) else { return };
        tracing::info!(room = %room.id, "the node of the room's home is gone: its clients here wait for another home");
        let id = room.id.clone();
        self.home_says_no_more(now, &id);
        self.doubt(key, home);
        self.policy.orphans.insert(key, Orphan::new(now + ORPHAN, None));
        self.schedule_links(now);
    }

    /// Whether what only the home of a wing decides is refused: no message reaches it, or it is gone.
    pub(super) fn is_out_of_reach(&self, key: RoomKey, home: PlaceId) -> bool {
        let is_orphan = self.policy.orphans.get(&key).is_some_and(|orphan| orphan.strangers.is_none());
        is_orphan || self.policy.away.contains(&home)
    }

    /// This shard is the home of a room from here on, of which it has had a wing.
    pub(super) fn become_home(&mut self, now: Instant, id: &RoomId) {
        // Nobody is left here: whoever asks for the room begins it anew.
        let Some(key) = self.index.rooms.get(id).copied() else {
            return self.work.events.push(Event::RoomClosed(id.clone()));
        };
        let Seat::Wing { home: former, wings, .. } = self.world.rooms[key].seat.clone() else { return };
        self.home_says_no_more(now, id);
        self.doubt(key, former);
        self.refuse_asked(now, ROOM_LOST, |_, room| room == key);
        let strangers = self.world.rooms[key].doubts.iter().find(|doubt| doubt.place == former);
        let strangers = strangers.map(|doubt| doubt.clients.clone()).unwrap_or_default();
        self.policy.orphans.insert(key, Orphan::new(now + ADOPTION, Some((strangers, former))));
        let awaits = self.may_have_checkpoint(id);
        let begun = match awaits {
            true => Ok(PolicyKey::default()),
            false => self.carry_policy(now, (key, id), SharedValue::empty_object(), Some(&CarriedPolicy::default())),
        };
        let Ok(policy) = begun else {
            self.end_wing(now, key, &RoomEnd::Closed(NO_START.to_owned()));
            return self.work.events.push(Event::RoomClosed(id.clone()));
        };
        if awaits {
            self.await_checkpoint(now, key, (SharedValue::empty_object(), Origin::Orphan));
        } else {
            self.policy.rooms.insert(policy, key);
        }
        let joined = self.roster_of(key).len();
        if let Some(room) = self.world.rooms.get_mut(key) {
            room.seat = Seat::Home { policy, wings: wings.clone() };
            (room.members, room.life.lived) = (joined, true);
        }
        for wing in wings {
            self.say(key, wing, PlaceMessage::HomeIs(None));
        }
        self.schedule_links(now);
        let begins = if awaits { "begins with its checkpoint, if there is one" } else { "begins anew" };
        tracing::info!(room = %id, clients = joined, "is the room's home now; its script {begins}");
        self.close_room_if_empty(now, key);
    }

    /// Who is in a room, in the order of coming, for its policy; those whom a wing has still to name are not.
    pub(super) fn known_roster(&self, key: RoomKey) -> Vec<Rc<ClientFacts>> {
        let strangers = self.policy.orphans.get(&key).and_then(|orphan| orphan.strangers.as_ref());
        let is_known = |facts: &Rc<ClientFacts>| {
            let client = self.index.clients.get(&facts.id);
            client.is_some_and(|client| strangers.is_none_or(|(strangers, _)| !strangers.contains(client)))
        };
        self.roster_of(key).into_iter().filter(is_known).collect()
    }

    /// This shard becomes the home in the place of `former`, which has told of clients of other wings: these name them, or they are gone.
    pub(super) fn await_members(&mut self, now: Instant, key: RoomKey, former: PlaceId) {
        self.doubt(key, former);
        let Some(room) = self.world.rooms.get_mut(key) else { return };
        room.doubts.retain(|doubt| !doubt.clients.is_empty());
        if room.doubts.iter().any(|doubt| doubt.place == former) {
            self.policy.orphans.insert(key, Orphan::new(now + ADOPTION, Some((BTreeSet::new(), former))));
            self.schedule_links(now);
        }
    }

    /// The home of a wing here is another place from here on.
    pub(super) fn home_is(&mut self, now: Instant, id: &RoomId, new: PlaceId) {
        let Some(key) = self.index.rooms.get(id).copied() else { return };
        let Some(Seat::Wing { home, beyond, wings }) = self.world.rooms.get_mut(key).map(|room| &mut room.seat) else {
            return;
        };
        (*home, *beyond) = (new, None);
        let wings = wings.clone();
        self.policy.orphans.remove(&key);
        for wing in wings {
            self.say(key, wing, PlaceMessage::HomeIs(Some(new)));
        }
        tracing::info!(room = %id, home = new.0, "has another home");
        self.attach_anew(now, key);
    }

    /// At a shard of a node whose lead has, or is, another home.
    pub(super) fn beyond_is(&mut self, (key, lead): (RoomKey, PlaceId), new: Option<PlaceId>) {
        if let Some(Seat::Wing { beyond, .. }) = self.world.rooms.get_mut(key).map(|room| &mut room.seat) {
            *beyond = new;
            self.say_members(key, lead);
        }
    }

    /// A client of another wing that this home's policy does not know: it does from here on.
    pub(super) fn introduce(&mut self, now: Instant, key: RoomKey, client: ClientKey, member: &Member) {
        let strangers = self.policy.orphans.get_mut(&key).and_then(|orphan| orphan.strangers.as_mut());
        if !strangers.is_some_and(|(strangers, _)| strangers.remove(&client)) {
            return;
        }
        let facts = Rc::new(super::anew::facts_of(now, member));
        let Some(known) = self.world.clients.get_mut(client) else { return };
        known.know_as(facts.clone());
        if let Some(policy) = self.world.rooms.get(key).and_then(|room| room.policy()) {
            self.policy.engine.admit_without_asking(policy, facts);
        }
    }

    /// The policy hears of a track of another wing.
    pub(super) fn note_published(&mut self, key: RoomKey, track: &TrackId) {
        let orphan = self.policy.orphans.get_mut(&key).filter(|_| !self.index.tracks.contains_key(track));
        if let Some(orphan) = orphan {
            orphan.published.insert(track.clone());
        }
    }

    /// Whether the policy has heard of a track that a wing names.
    pub(super) fn has_heard_of(&self, key: RoomKey, track: &TrackId) -> bool {
        self.policy.orphans.get(&key).is_some_and(|orphan| orphan.published.contains(track))
    }

    /// Ends what was waited for long enough. Whether something still is.
    pub(super) fn look_at_orphans(&mut self, now: Instant) -> bool {
        let over: Vec<_> =
            self.policy.orphans.iter().filter(|(_, orphan)| orphan.until <= now).map(|(key, _)| *key).collect();
        for key in over {
            match self.policy.orphans.remove(&key).and_then(|orphan| orphan.strangers) {
                Some((_, former)) => {
                    self.sweep_doubts(now, (key, former));
                    self.close_room_if_empty(now, key);
                }
                None => self.end_wing(now, key, &RoomEnd::lost()),
            }
        }
        !self.policy.orphans.is_empty()
    }
}
