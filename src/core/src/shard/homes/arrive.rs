//! At the wing that becomes the home.

use std::rc::Rc;
use std::time::Instant;

use serde_json::Value;

use super::{ComingHome, HomeState};
use crate::command::{Event, HomeMessage, PlaceMessage};
use crate::room::{Room, Seat};
use crate::shard::moves::FactsState;
use crate::shard::{Shard, Timer};
use moonring_policy::PolicyKey;
use moonring_policy::client::{ClientFacts, Presence};
use moonring_policy::hook::HookCall;
use moonring_wire::id::{ClientId, PlaceId, RoomId, RoomKey};
use moonring_wire::shared::SharedValue;

impl Shard {
    pub(super) fn prepare_home(&mut self, key: RoomKey, from: PlaceId) {
        let is_home =
            self.world.rooms.get(key).is_some_and(|room| room.home() == Some(from) && room.life.ending.is_none());
        let answer = match is_home && !self.homes.coming.contains_key(&key) {
            true => {
                self.homes.coming.insert(key, ComingHome { from, policy: None, calls: Vec::new(), gone: Vec::new() });
                HomeMessage::Ready
            }
            false => HomeMessage::Refused("the room is not there with this home".to_owned()),
        };
        self.say(key, from, PlaceMessage::Home(answer));
    }

    /// At B: the script begins with what it has had, and the room is claimed.
    pub(super) fn take_home(&mut self, now: Instant, key: RoomKey, state: &[u8]) {
        let Some(id) = self.world.rooms.get(key).map(|room| room.id.clone()) else { return };
        let Ok(state) = postcard::from_bytes::<HomeState>(state) else {
            return self.refuse_home(now, key, "the state cannot be read");
        };
        for (client, facts) in &state.clients {
            self.know_client(now, key, client, facts);
        }
        let known = state.clients.iter();
        let known = known
            .filter_map(|(id, facts)| self.joined_facts(key, id).or_else(|| self.know_leaver(now, key, id, facts)));
        let roster = known.collect();
        let metadata: Value = serde_json::from_str(&state.metadata).unwrap_or_default();
        let script = self.policy.scripts.resolve(&id);
        let opened =
            self.policy.engine.open_moved(now, (&id, SharedValue::from(metadata), roster), script, &state.carried);
        match opened {
            Ok(policy) => {
                self.policy.engine.hold(policy, true);
                if let Some(coming) = self.homes.coming.get_mut(&key) {
                    coming.policy = Some((policy, state));
                }
                self.work.events.push(Event::ClaimHome(id));
            }
            Err(words) => self.refuse_home(now, key, &words),
        }
    }

    fn joined_facts(&self, room: RoomKey, id: &ClientId) -> Option<Rc<ClientFacts>> {
        let client = self.world.clients.get(self.member(room, id)?)?;
        (client.facts.presence.get() == Presence::Joined).then(|| client.facts.clone())
    }

    /// Of a client that has left meanwhile the script has yet to hear.
    fn know_leaver(
        &mut self,
        now: Instant,
        room: RoomKey,
        id: &ClientId,
        state: &FactsState,
    ) -> Option<Rc<ClientFacts>> {
        let calls = &mut self.homes.coming.get_mut(&room)?.calls;
        let known = calls.iter_mut().find_map(|(_, call)| match call {
            HookCall::ClientDisconnect { client, .. } if client.id == *id => Some(client),
            _ => None,
        })?;
        let facts = state.facts(now, id.clone()).ok()?;
        facts.presence.set(Presence::Gone);
        *known = facts;
        Some(known.clone())
    }

    /// What the home's script knows of a client that is at another shard of this node, or here.
    fn know_client(&mut self, now: Instant, room: RoomKey, id: &ClientId, state: &FactsState) {
        let Some(client) = self.member(room, id).and_then(|key| self.world.clients.get_mut(key)) else { return };
        if client.far.is_some()
            && let Ok(facts) = state.facts(now, id.clone())
        {
            facts.presence.set(client.facts.presence.get());
            let tracks = client.facts.tracks.borrow().clone();
            facts.tracks.replace(tracks);
            client.facts = facts;
        }
    }

    /// At B: the room's claim is this node's now, or is not.
    pub(in crate::shard) fn home_claimed(&mut self, now: Instant, id: &RoomId, is_ours: bool) {
        let Some(key) = self.index.rooms.get(id).copied() else { return };
        let Some(Some((policy, state))) = self.homes.coming.get_mut(&key).map(|coming| coming.policy.take()) else {
            return;
        };
        if !is_ours {
            self.policy.engine.close_room(now, policy);
            return self.refuse_home(now, key, "the room could not be claimed");
        }
        let Some(ComingHome { from, calls, .. }) = self.homes.coming.remove(&key) else { return };
        self.say(key, from, PlaceMessage::Home(HomeMessage::Taken));
        self.become_home_with(now, key, policy, &state);
        for (asked, call) in calls {
            self.ask(now, key, asked, call);
        }
        tracing::info!(room = %id, "has its home here now");
        self.close_room_if_empty(now, key);
    }

    fn become_home_with(&mut self, now: Instant, key: RoomKey, policy: PolicyKey, state: &HomeState) {
        let joined = |room: &Room| {
            let clients = room.clients.iter().filter_map(|client| self.world.clients.get(*client));
            clients.filter(|client| client.facts.presence.get() == Presence::Joined).count()
        };
        let Some(members) = self.world.rooms.get(key).map(joined) else { return };
        let Some(room) = self.world.rooms.get_mut(key) else { return };
        let wings = room.wings().to_vec();
        room.seat = Seat::Home { policy, wings };
        room.members = members;
        self.carry_on(now, key, &state.room);
        self.policy.rooms.insert(policy, key);
        self.policy.engine.hold(policy, false);
        self.set_timer(now, Timer::Speakers(key));
    }

    /// At B: it does not become the home, and asks the home what has waited.
    fn refuse_home(&mut self, now: Instant, key: RoomKey, words: &str) {
        if let Some(from) = self.homes.coming.get(&key).map(|coming| coming.from) {
            self.say(key, from, PlaceMessage::Home(HomeMessage::Refused(words.to_owned())));
        }
        self.home_comes_not(now, key);
    }

    pub(super) fn home_comes_not(&mut self, now: Instant, key: RoomKey) {
        let Some(coming) = self.homes.coming.remove(&key) else { return };
        if let Some((policy, _)) = coming.policy {
            self.policy.engine.close_room(now, policy);
        }
        for (asked, call) in coming.calls {
            self.ask(now, key, asked, call);
        }
        coming.gone.into_iter().for_each(|client| self.tell_gone(key, client));
        self.close_room_if_empty(now, key);
    }
}
