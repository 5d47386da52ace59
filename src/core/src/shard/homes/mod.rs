//! A room's home moves to its only wing: its clients are there, or behind it, and its script follows with its state.
//!
//! ```text
//!        home A, without clients of its own                         wing B, with all of them
//!   Command::MoveHome --------Prepare-------------------------->   asks nothing any more: what it would ask waits
//!                     <-------Ready---------------------------    behind all that it has asked
//!   answers what it was asked; `on_unload`
//!   (its timers wait)  -------Take: state, clients------------->   `on_init`, `on_load`
//!                                                                  claims the room: Event::ClaimHome
//!                     <-------Taken---------------------------    is the home, and asks its own script what has waited
//!   forgets the room
//! ```
//! It is a reload with the network in the middle: whatever fails on the way, up to the claim, leaves A the home, as if nothing
//! had been, and B asks it what has waited. The claim decides: there is one home.

mod arrive;

use std::collections::HashMap;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use zeroize::Zeroizing;

use super::carried_room::CarriedRoom;
use super::moves::FactsState;
use super::{PendingHook, Shard};
use crate::command::{HomeMessage, LeaveCause, PlaceMessage};
use crate::room::Seat;
use moonring_policy::client::Presence;
use moonring_policy::hook::HookCall;
use moonring_policy::{CarriedPolicy, PolicyKey};
use moonring_wire::id::{ClientId, ClientKey, PlaceId, RoomId, RoomKey};

/// How long each side waits for the other; A also for the hooks that are under way.
const PATIENCE: Duration = Duration::from_secs(5);
/// Longest state of a room, with the facts of its clients: in one message, as text, with what is around it.
const MAX_HOME: usize = 360 * 1024;
/// What somebody is told who comes in the moment in which the home goes.
const CHANGES: &str = "the room's home changes, please try again";
/// Hook calls of a room that wait for its script, as many as may wait for a hook.
const MAX_CALLS: usize = 1_024;

/// Homes on their way.
#[derive(Default)]
pub(super) struct Homes {
    /// From here.
    leaving: HashMap<RoomKey, LeavingHome>,
    /// To here.
    coming: HashMap<RoomKey, ComingHome>,
}

struct LeavingHome {
    /// The number of the order.
    id: u64,
    to: PlaceId,
    step: Step,
    until: Instant,
    /// What its script would have been asked since it was given.
    calls: Vec<(PendingHook, HookCall)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// The wing is told to ask nothing more.
    Prepared,
    /// It has said so: what it has asked is answered.
    Answering,
    /// It has the state: what becomes of it, it says.
    Given,
}

struct ComingHome {
    from: PlaceId,
    /// The script, once it has begun here.
    policy: Option<(PolicyKey, HomeState)>,
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

    /// The rooms whose homes are on their way.
    pub(super) fn rooms(&self) -> impl Iterator<Item = RoomKey> {
        self.leaving.keys().chain(self.coming.keys()).copied()
    }
}

impl Shard {
    /// At A: orders a home to move to its wing.
    pub(in crate::shard) fn move_home(&mut self, now: Instant, id: u64, room: &RoomId) {
        let found = self.index.rooms.get(room).copied();
        let (key, to) = match found.map(|key| (key, self.may_move_home(key))) {
            Some((key, Ok(to))) => (key, to),
            Some((_, Err(words))) => return self.called(id, Err(words.to_owned())),
            None => return self.called(id, Err("there is no such room".to_owned())),
        };
        let leaving = LeavingHome { id, to, step: Step::Prepared, until: now + PATIENCE, calls: Vec::new() };
        self.homes.leaving.insert(key, leaving);
        self.say(key, to, PlaceMessage::Home(HomeMessage::Prepare));
        self.schedule_places(now);
    }

    fn may_move_home(&self, key: RoomKey) -> Result<PlaceId, &'static str> {
        let Some(room) = self.world.rooms.get(key) else { return Err("there is no such room") };
        let Seat::Home { wings, .. } = &room.seat else { return Err("the room's home is another node") };
        match wings[..] {
            _ if room.life.ending.is_some() => Err("the room ends"),
            _ if room.here > 0 => Err("clients of the room are still here"),
            _ if self.policy.awaited.contains_key(&key) => Err("the room's script is not here yet"),
            _ if self.homes.leaving.contains_key(&key) => Err("the room's home moves already"),
            [to] if self.policy.away.contains(&to) => Err("messages do not reach the room's other node now"),
            [to] if !self.world.links.is_near(to) => Ok(to),
            [] => Err("nobody is in the room"),
            _ => Err("the room is at more than one other place"),
        }
    }

    /// What the home and the wing that it moves to say to each other.
    pub(in crate::shard) fn hear_of_home(
        &mut self,
        now: Instant,
        (from, id): (PlaceId, &RoomId),
        message: HomeMessage,
    ) {
        let Some(key) = self.index.rooms.get(id).copied() else {
            // It is gone here: the other side goes on as it is.
            if matches!(message, HomeMessage::Prepare | HomeMessage::Take(_)) {
                self.say_of(id.clone(), from, PlaceMessage::Home(HomeMessage::Refused("the room is gone".to_owned())));
            }
            return;
        };
        let is_leaving = self.homes.leaving.get(&key).is_some_and(|leaving| leaving.to == from);
        let is_coming = self.homes.coming.get(&key).is_some_and(|coming| coming.from == from);
        match message {
            HomeMessage::Prepare => self.prepare_home(key, from),
            HomeMessage::Ready if is_leaving => {
                if let Some(leaving) = self.homes.leaving.get_mut(&key).filter(|l| l.step == Step::Prepared) {
                    (leaving.step, leaving.until) = (Step::Answering, now + PATIENCE);
                }
                self.give_home(now, key);
            }
            HomeMessage::Take(state) if is_coming => self.take_home(now, key, &state),
            HomeMessage::Taken if is_leaving => self.home_is_gone(now, key),
            HomeMessage::Refused(words) if is_leaving => self.home_stays(now, key, &words),
            HomeMessage::Cancelled if is_coming => self.home_comes_not(now, key),
            _ => {}
        }
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

    /// At A: gives the room once nothing is under way in its script.
    pub(in crate::shard) fn give_homes(&mut self, now: Instant) {
        let ready: Vec<_> =
            self.homes.leaving.iter().filter(|(_, l)| l.step == Step::Answering).map(|(k, _)| *k).collect();
        ready.into_iter().for_each(|key| self.give_home(now, key));
    }

    fn give_home(&mut self, now: Instant, key: RoomKey) {
        let Some(room) = self.world.rooms.get(key).filter(|room| room.hooks == 0) else { return };
        let Some(leaving) = self.homes.leaving.get(&key).filter(|leaving| leaving.step == Step::Answering) else {
            return;
        };
        let (to, policy) = (leaving.to, room.policy());
        let is_ready = room.here == 0 && room.wings() == [to] && room.life.ending.is_none();
        let Some(policy) = policy.filter(|_| is_ready) else {
            return self.cancel_home(now, key, "the room has changed");
        };
        let carried = match self.policy.engine.hand_over(now, policy) {
            Some(Ok(carried)) => carried,
            Some(Err(error)) => return self.cancel_home(now, key, &error.to_string()),
            None => return self.cancel_home(now, key, "the room has no script"),
        };
        let state = self.home_state(now, key, policy, carried);
        let bytes = postcard::to_extend(&state, Vec::new()).map(Zeroizing::new);
        let Some(bytes) = bytes.ok().filter(|bytes| bytes.len() <= MAX_HOME) else {
            return self.cancel_home(now, key, "the room has too much state to move");
        };
        self.policy.engine.hold(policy, true);
        if let Some(leaving) = self.homes.leaving.get_mut(&key) {
            leaving.step = Step::Given;
        }
        self.say(key, to, PlaceMessage::Home(HomeMessage::Take(bytes)));
    }

    fn home_state(&self, now: Instant, key: RoomKey, policy: PolicyKey, carried: CarriedPolicy) -> HomeState {
        let room = &self.world.rooms[key];
        let client = |key: &ClientKey| self.world.clients.get(*key);
        let joined = room.clients.iter().filter_map(client).filter(|c| c.facts.presence.get() == Presence::Joined);
        let announced = room.announced.iter().filter_map(client);
        HomeState {
            metadata: self
                .policy
                .engine
                .metadata(policy)
                .map_or_else(|| "{}".to_owned(), |metadata| metadata.to_string()),
            carried,
            clients: joined.map(|client| (client.id.clone(), FactsState::of(now, &client.facts))).collect(),
            room: CarriedRoom::of(room, announced.map(|client| client.id.clone()).collect()),
        }
    }

    /// At A: the home stays, before the wing has been given anything.
    fn cancel_home(&mut self, now: Instant, key: RoomKey, words: &str) {
        let Some(to) = self.homes.leaving.get(&key).map(|leaving| leaving.to) else { return };
        self.say(key, to, PlaceMessage::Home(HomeMessage::Cancelled));
        self.home_stays(now, key, words);
    }

    /// At A: the home stays.
    fn home_stays(&mut self, now: Instant, key: RoomKey, words: &str) {
        let Some(leaving) = self.homes.leaving.remove(&key) else { return };
        if let Some(room) = self.world.rooms.get(key) {
            tracing::info!(room = %room.id, "the home stays: {words}");
            if let Some(policy) = room.policy() {
                self.policy.engine.hold(policy, false);
            }
        }
        for (asked, call) in leaving.calls {
            self.ask(now, key, asked, call);
        }
        self.called(leaving.id, Err(words.to_owned()));
    }

    /// At A: another node is the home, and nobody is here.
    fn home_is_gone(&mut self, now: Instant, key: RoomKey) {
        let clients = self.world.rooms.get(key).map(|room| room.clients.clone()).unwrap_or_default();
        for client in clients {
            match self.world.clients.get(client).is_some_and(|client| client.far.is_some()) {
                true => self.remove_far_client(now, client),
                // It has come just then, and nothing has been decided.
                false => self.remove_client(now, client, LeaveCause::Limit(CHANGES.to_owned()), CHANGES),
            }
        }
        let Some(leaving) = self.homes.leaving.remove(&key) else { return };
        let Some(room) = self.take_out_room(key) else { return };
        tracing::info!(room = %room.id, "has its home at another node now");
        self.close_home(now, key, &room);
        for (asked, _) in leaving.calls {
            if let PendingHook::Call(id) = asked {
                self.called(id, Err("the room has its home at another node now".to_owned()));
            }
        }
        self.called(leaving.id, Ok(Value::Null));
    }

    /// Looks after homes on their way: what takes too long is called off, as far as it can be.
    pub(in crate::shard) fn sweep_homes(&mut self, now: Instant) {
        self.give_homes(now);
        let late = self.homes.leaving.iter().filter(|(_, l)| l.step != Step::Given && l.until <= now);
        late.map(|(key, _)| *key).collect::<Vec<_>>().into_iter().for_each(|key| {
            self.cancel_home(now, key, "the other node, or a hook, takes too long");
        });
    }

    /// Whether a home is on its way.
    pub(in crate::shard) fn homes_are_under_way(&self) -> bool {
        !(self.homes.leaving.is_empty() && self.homes.coming.is_empty())
    }

    /// Another place is lost: what was on its way there stays, what was to come from there does not.
    pub(in crate::shard) fn homes_without(&mut self, now: Instant, place: PlaceId) {
        let staying = self.homes.leaving.iter().filter(|(_, leaving)| leaving.to == place).map(|(key, _)| *key);
        staying.collect::<Vec<_>>().into_iter().for_each(|key| self.home_stays(now, key, "the other node is lost"));
        let lost = self.homes.coming.iter().filter(|(_, coming)| coming.from == place).map(|(key, _)| *key);
        lost.collect::<Vec<_>>().into_iter().for_each(|key| self.home_comes_not(now, key));
    }
}
