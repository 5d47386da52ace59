//! A room's home moves to one of its wings: none of its clients is at the home any more, and its script follows with its state.
//!
//! ```text
//!   further wings C            home A, without clients                    wing B
//!                <--Prepare-- Command::MoveHome -----Prepare---------->   they ask nothing any more: what they would ask waits
//!                ---Ready---->                 <-----Ready------------    behind all that they have asked, and know the answers of
//!                             `on_unload`
//!                             (its timers wait) -----Take: state, clients->  `on_init`, `on_load`
//!                                                                         claims the room: Event::ClaimHome
//!                             Event::Called    <-----Taken------------    is the home, and asks its own script what has waited
//!                <--Moved to B--  forgets the room
//!   attaches to B, asks it ---Left--->
//!   what has waited
//! ```
//! It is a reload with the network in the middle: whatever fails on the way, up to the claim, leaves A the home, as if nothing
//! had been, and the wings ask it what has waited. The claim decides: there is one home. What B knew of C's clients by way of A is in
//! [doubt](super::anew) until C has named them.

mod arrive;
mod leave;

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::carried_room::CarriedRoom;
use super::moves::FactsState;
use super::{PendingHook, Shard};
use crate::command::{HomeMessage, PlaceMessage};
use moonring_policy::client::ClientFacts;
use moonring_policy::hook::HookCall;
use moonring_policy::{CarriedPolicy, PolicyKey};
use moonring_wire::id::{ClientId, PlaceId, RoomId, RoomKey};

/// How long each side waits for the other; A also for the hooks that are under way.
const PATIENCE: Duration = Duration::from_secs(5);
/// Longest state of a room, with the facts of its clients. It travels in parts ([`HomeMessage::Part`]).
const MAX_HOME: usize = 8 << 20;
/// What somebody is told who comes in the moment in which the home goes.
pub(super) const CHANGES: &str = "the room's home changes, please try again";
/// Hook calls of a room that wait for its script, as many as may wait for a hook.
const MAX_CALLS: usize = 1_024;

/// Homes on their way, in order, so that they go on in the same order each time.
#[derive(Default)]
pub(super) struct Homes {
    /// From here.
    leaving: BTreeMap<RoomKey, LeavingHome>,
    /// To here, or to another node of which the home has yet to say so.
    coming: BTreeMap<RoomKey, ComingHome>,
    /// Those that have gone from here, until all who spoke to them know where to.
    gone: BTreeMap<RoomId, GoneHome>,
}

struct LeavingHome {
    /// The number of the order.
    id: u64,
    to: PlaceId,
    step: Step,
    until: Instant,
    /// The wings that may still ask something.
    asking: Vec<PlaceId>,
    /// What its script would have been asked since it was given.
    calls: Vec<(PendingHook, HookCall)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// The wings are told to ask nothing more.
    Prepared,
    /// They have said that they do not: what waits for an answer of the script gets it.
    Answering,
    /// One of them has the state: what becomes of it, it says.
    Given,
}

struct GoneHome {
    /// The number of the order.
    id: u64,
    /// The wings that have not said that they speak to the new home.
    untold: Vec<PlaceId>,
    until: Instant,
}

impl GoneHome {
    fn is_over(&self, now: Instant) -> bool {
        self.untold.is_empty() || self.until <= now
    }
}

struct ComingHome {
    from: PlaceId,
    /// The home knows that it is asked nothing more.
    is_ready: bool,
    /// What has come of its state.
    parts: Zeroizing<Vec<u8>>,
    /// The script, once it has begun here.
    policy: Option<(PolicyKey, HomeState)>,
    /// Clients of other wings that nobody is told of, so that only the home has known them.
    strangers: Vec<Rc<ClientFacts>>,
    /// What would have been asked meanwhile, in its order.
    calls: Vec<(PendingHook, HookCall)>,
    /// Clients that are gone, of whom the home hears behind that.
    gone: Vec<ClientId>,
}

/// What a home knows of its room beside what its wing knows as well.
#[derive(Debug, Serialize, Deserialize)]
struct HomeState {
    /// What was said of it when it was opened, as JSON.
    metadata: String,
    carried: CarriedPolicy,
    /// Who has joined, in that order, and what the script knows of them.
    clients: Vec<(ClientId, FactsState)>,
    room: CarriedRoom,
}

impl Homes {
    /// Whether the home of a room is on its way here.
    pub(super) fn comes_to(&self, room: RoomKey) -> bool {
        self.coming.contains_key(&room)
    }

    /// Whether what the home has known of a room is here: nobody that it names is forgotten before it is clear whose it is.
    pub(super) fn knows_all_of(&self, room: RoomKey) -> bool {
        self.coming.get(&room).is_some_and(|coming| coming.policy.is_some())
    }

    /// Whether another node is about to be the home of a room, or is it already: what is done here may not reach its clients.
    pub(super) fn is_given(&self, room: RoomKey) -> bool {
        self.leaving.get(&room).is_some_and(|leaving| leaving.step == Step::Given)
    }

    /// The rooms whose homes are on their way.
    pub(super) fn rooms(&self) -> impl Iterator<Item = RoomKey> {
        self.leaving.keys().chain(self.coming.keys()).copied()
    }
}

impl Shard {
    /// What a home that moves and its wings say to each other.
    pub(in crate::shard) fn hear_of_home(
        &mut self,
        now: Instant,
        (from, id): (PlaceId, &RoomId),
        message: HomeMessage,
    ) {
        if matches!(message, HomeMessage::Left) {
            return self.wing_has_left(now, id, from);
        }
        let Some(key) = self.index.rooms.get(id).copied() else {
            // It is gone here: the other side goes on as it is.
            match message {
                HomeMessage::Prepare | HomeMessage::Take(_) => self.refuse_to(id.clone(), from, "the room is gone"),
                HomeMessage::Moved(_) => self.say_of(id.clone(), from, PlaceMessage::Home(HomeMessage::Left)),
                _ => {}
            }
            return;
        };
        let is_leaving = self.homes.leaving.contains_key(&key);
        let is_to = self.homes.leaving.get(&key).is_some_and(|leaving| leaving.to == from);
        let is_coming = self.homes.coming.get(&key).is_some_and(|coming| coming.from == from);
        match message {
            HomeMessage::Prepare => self.prepare_home(key, from),
            HomeMessage::Ready if is_leaving => self.wing_is_ready(now, key, from),
            HomeMessage::Part(part) if is_coming => drop(self.take_part(now, key, &part)),
            HomeMessage::Take(part) if is_coming => self.take_home(now, key, &part),
            HomeMessage::Taken if is_to => self.home_is_gone(now, key),
            HomeMessage::Refused(words) if is_leaving => self.cancel_home(now, key, &words),
            HomeMessage::Cancelled if is_coming => self.home_comes_not(now, key),
            HomeMessage::Moved(home) => self.home_has_moved(now, (key, from), home),
            _ => {}
        }
    }

    fn refuse_to(&mut self, id: RoomId, home: PlaceId, words: &str) {
        self.say_of(id, home, PlaceMessage::Home(HomeMessage::Refused(words.to_owned())));
    }

    /// Holds back what would be asked of a home that is on its way.
    pub(in crate::shard) fn await_home(
        &mut self,
        room: RoomKey,
        asked: PendingHook,
        call: HookCall,
    ) -> Option<(PendingHook, HookCall)> {
        let coming = self.homes.coming.get_mut(&room).map(|coming| &mut coming.calls);
        let leaving = self.homes.leaving.get_mut(&room).filter(|leaving| leaving.step == Step::Given);
        match coming.or(leaving.map(|leaving| &mut leaving.calls)) {
            Some(calls) if calls.len() < MAX_CALLS => {
                calls.push((asked, call));
                None
            }
            _ => Some((asked, call)),
        }
    }

    /// At a wing: the home hears that a client is gone, behind all that it is asked of it.
    pub(in crate::shard) fn tell_gone(&mut self, room: RoomKey, client: ClientId) {
        match self.homes.coming.get_mut(&room) {
            Some(coming) => coming.gone.push(client),
            None => self.pass_to_home(room, || PlaceMessage::Gone(client)),
        }
    }

    /// Looks after homes on their way: what takes too long is called off, as far as it can be.
    pub(in crate::shard) fn sweep_homes(&mut self, now: Instant) {
        self.homes.coming.keys().copied().collect::<Vec<_>>().into_iter().for_each(|key| self.ready_for_home(key));
        self.give_homes(now);
        self.end_gone_homes(now);
        let late = self.homes.leaving.iter().filter(|(_, l)| l.step != Step::Given && l.until <= now);
        late.map(|(key, _)| *key).collect::<Vec<_>>().into_iter().for_each(|key| {
            self.cancel_home(now, key, "the other node, or a hook, takes too long");
        });
    }

    /// Whether a home is on its way.
    pub(in crate::shard) fn homes_are_under_way(&self) -> bool {
        !(self.homes.leaving.is_empty() && self.homes.coming.is_empty() && self.homes.gone.is_empty())
    }

    /// Another place is lost: what was on its way there stays, what was to come from there does not.
    pub(in crate::shard) fn homes_without(&mut self, now: Instant, place: PlaceId) {
        self.homes_stay_without(now, place);
        let lost = self.homes.coming.iter().filter(|(_, coming)| coming.from == place).map(|(key, _)| *key);
        lost.collect::<Vec<_>>().into_iter().for_each(|key| self.home_comes_not(now, key));
    }
}
