//! At the home that goes.

use std::time::Instant;

use serde_json::Value;
use zeroize::Zeroizing;

use super::{CHANGES, GoneHome, HomeState, LeavingHome, MAX_HOME, PATIENCE, Step};
use crate::command::{HomeMessage, LeaveCause, PlaceMessage};
use crate::room::Seat;
use crate::shard::carried_room::CarriedRoom;
use crate::shard::moves::FactsState;
use crate::shard::{PendingHook, Shard};
use moonring_policy::CarriedPolicy;
use moonring_policy::PolicyKey;
use moonring_policy::client::Presence;
use moonring_wire::id::{ClientKey, PlaceId, RoomId, RoomKey};

impl Shard {
    /// Orders a home to move to one of its wings.
    pub(in crate::shard) fn move_home(&mut self, now: Instant, id: u64, (room, to): (&RoomId, PlaceId)) {
        let Some(key) = self.index.rooms.get(room).copied() else {
            return self.called(id, Err("there is no such room".to_owned()));
        };
        let wings = match self.may_move_home(key, to) {
            Ok(wings) => wings,
            Err(words) => return self.called(id, Err(words.to_owned())),
        };
        self.tell_wings(key, || HomeMessage::Prepare);
        let leaving =
            LeavingHome { id, to, step: Step::Prepared, until: now + PATIENCE, asking: wings, calls: Vec::new() };
        self.homes.leaving.insert(key, leaving);
        self.schedule_places(now);
    }

    /// The wings of a home that may move to `to`, which is one of them.
    fn may_move_home(&self, key: RoomKey, to: PlaceId) -> Result<Vec<PlaceId>, &'static str> {
        let Some(room) = self.world.rooms.get(key) else { return Err("there is no such room") };
        let Seat::Home { wings, .. } = &room.seat else { return Err("the room's home is another node") };
        match () {
            () if room.life.ending.is_some() => Err("the room ends"),
            () if room.here > 0 => Err("clients of the room are still here"),
            () if self.policy.awaited.contains_key(&key) => Err("the room's script is not here yet"),
            () if self.homes.leaving.contains_key(&key) => Err("the room's home moves already"),
            () if wings.is_empty() => Err("nobody is in the room"),
            () if wings.iter().any(|wing| self.world.links.is_near(*wing)) => {
                Err("clients of the room are still at other shards of this node")
            }
            () if wings.iter().any(|wing| self.policy.away.contains(wing)) => {
                Err("messages do not reach another node of the room now")
            }
            () if !wings.contains(&to) => Err("nobody of the room is at that node"),
            () => Ok(wings.clone()),
        }
    }

    fn tell_wings(&mut self, key: RoomKey, message: impl Fn() -> HomeMessage) {
        let wings = self.world.rooms.get(key).map(|room| room.wings().to_vec()).unwrap_or_default();
        for wing in wings {
            self.say(key, wing, PlaceMessage::Home(message()));
        }
    }

    /// A wing asks nothing more until it is told where the home is.
    pub(super) fn wing_is_ready(&mut self, now: Instant, key: RoomKey, wing: PlaceId) {
        if let Some(leaving) = self.homes.leaving.get_mut(&key) {
            leaving.asking.retain(|asking| *asking != wing);
        }
        self.give_home(now, key);
    }

    /// Gives the rooms in whose scripts nothing is under way any more.
    pub(in crate::shard) fn give_homes(&mut self, now: Instant) {
        let ready: Vec<_> = self.homes.leaving.keys().copied().collect();
        ready.into_iter().for_each(|key| self.give_home(now, key));
    }

    /// Goes on with a home that leaves, as far as that can be.
    fn give_home(&mut self, now: Instant, key: RoomKey) {
        let (Some(room), Some(leaving)) = (self.world.rooms.get(key), self.homes.leaving.get_mut(&key)) else {
            return;
        };
        if leaving.step == Step::Prepared {
            leaving.asking.retain(|wing| room.wings().contains(wing));
            if !leaving.asking.is_empty() {
                return;
            }
            (leaving.step, leaving.until) = (Step::Answering, now + PATIENCE);
        }
        if leaving.step == Step::Given || room.hooks > 0 {
            return;
        }
        let to = leaving.to;
        let is_near = |wing: &PlaceId| self.world.links.is_near(*wing);
        let is_ready = room.here == 0 && room.wings().contains(&to) && !room.wings().iter().any(is_near);
        let Some(policy) = room.policy().filter(|_| is_ready && room.life.ending.is_none()) else {
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

    /// The home stays, before it is another's: the wings ask it again.
    pub(super) fn cancel_home(&mut self, now: Instant, key: RoomKey, words: &str) {
        let Some(leaving) = self.homes.leaving.remove(&key) else { return };
        self.tell_wings(key, || HomeMessage::Cancelled);
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

    /// Another node is the home, and nobody is here.
    pub(super) fn home_is_gone(&mut self, now: Instant, key: RoomKey) {
        let Some(LeavingHome { id, to, calls, .. }) = self.homes.leaving.remove(&key) else { return };
        let further: Vec<_> = self.world.rooms[key].wings().iter().copied().filter(|wing| *wing != to).collect();
        for wing in &further {
            self.say(key, *wing, PlaceMessage::Home(HomeMessage::Moved(to)));
        }
        let clients = self.world.rooms.get(key).map(|room| room.clients.clone()).unwrap_or_default();
        for client in clients {
            match self.world.clients.get(client).is_some_and(|client| client.far.is_some()) {
                true => self.remove_far_client(now, client),
                // It has come just then, and nothing has been decided.
                false => self.remove_client(now, client, LeaveCause::Later(CHANGES.to_owned()), CHANGES),
            }
        }
        let Some(room) = self.take_out_room(key) else { return };
        tracing::info!(room = %room.id, "has its home at another node now");
        self.close_home(now, key, &room);
        for (asked, _) in calls {
            if let PendingHook::Call(id) = asked {
                self.called(id, Err("the room has its home at another node now".to_owned()));
            }
        }
        self.homes.gone.insert(room.id.clone(), GoneHome { id, untold: further, until: now + PATIENCE });
        self.end_gone_homes(now);
    }

    /// A wing of a room that has gone speaks to its new home.
    pub(super) fn wing_has_left(&mut self, now: Instant, room: &RoomId, wing: PlaceId) {
        if let Some(gone) = self.homes.gone.get_mut(room) {
            gone.untold.retain(|untold| *untold != wing);
        }
        self.end_gone_homes(now);
    }

    /// Says that homes have gone, once all their wings have heard where to, or do not hear it any more.
    pub(super) fn end_gone_homes(&mut self, now: Instant) {
        let over: Vec<_> = self.homes.gone.extract_if(.., |_, gone| gone.is_over(now)).collect();
        over.into_iter().for_each(|(_, gone)| self.called(gone.id, Ok(Value::Null)));
    }

    /// Another place is lost: what was on its way there stays, and so does what it may still ask.
    pub(super) fn homes_stay_without(&mut self, now: Instant, place: PlaceId) {
        let is_bound = |leaving: &LeavingHome| leaving.to == place || leaving.asking.contains(&place);
        let staying = self.homes.leaving.iter().filter(|(_, leaving)| is_bound(leaving)).map(|(key, _)| *key);
        for key in staying.collect::<Vec<_>>() {
            self.cancel_home(now, key, "the other node is lost");
        }
        self.homes.gone.values_mut().for_each(|gone| gone.untold.retain(|untold| *untold != place));
        self.end_gone_homes(now);
    }
}
