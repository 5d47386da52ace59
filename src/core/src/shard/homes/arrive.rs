//! At the wings: the one that becomes the home, and those that learn which one does.

use std::rc::Rc;
use std::time::Instant;

use serde_json::Value;
use zeroize::Zeroizing;

use super::{ComingHome, HomeState, MAX_HOME};
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
        let room = self.world.rooms.get(key).filter(|room| room.home() == Some(from) && room.life.ending.is_none());
        let Some(room) = room.filter(|_| !self.homes.coming.contains_key(&key)) else {
            if let Some(id) = self.world.rooms.get(key).map(|room| room.id.clone()) {
                self.refuse_to(id, from, "the room is not there with this home");
            }
            return;
        };
        tracing::debug!(room = %room.id, "its home is about to move");
        let coming = ComingHome {
            from,
            is_ready: false,
            parts: Zeroizing::default(),
            policy: None,
            strangers: Vec::new(),
            calls: Vec::new(),
            gone: Vec::new(),
        };
        self.homes.coming.insert(key, coming);
        self.ready_for_home(key);
    }

    /// At a wing: says that nothing more is asked once all has been answered that was.
    pub(in crate::shard) fn ready_for_home(&mut self, key: RoomKey) {
        let (Some(coming), Some(room)) = (self.homes.coming.get_mut(&key), self.world.rooms.get(key)) else { return };
        if room.hooks == 0 && !std::mem::replace(&mut coming.is_ready, true) {
            let from = coming.from;
            self.say(key, from, PlaceMessage::Home(HomeMessage::Ready));
        }
    }

    /// At B: a part of the state.
    pub(super) fn take_part(&mut self, now: Instant, key: RoomKey, part: &[u8]) -> bool {
        let Some(coming) = self.homes.coming.get_mut(&key) else { return false };
        let fits = coming.parts.len() + part.len() <= MAX_HOME;
        match fits {
            true => coming.parts.extend_from_slice(part),
            false => self.refuse_home(now, key, "the state is too long"),
        }
        fits
    }

    /// At B: the script begins with what it has had, and the room is claimed.
    pub(super) fn take_home(&mut self, now: Instant, key: RoomKey, last: &[u8]) {
        let Some(id) = self.world.rooms.get(key).map(|room| room.id.clone()) else { return };
        if !self.take_part(now, key, last) {
            return;
        }
        let parts = self.homes.coming.get_mut(&key).map(|coming| std::mem::take(&mut coming.parts));
        let Some(Ok(state)) = parts.map(|parts| postcard::from_bytes::<HomeState>(&parts)) else {
            return self.refuse_home(now, key, "the state cannot be read");
        };
        for (client, facts) in &state.clients {
            self.know_client(now, key, client, facts);
        }
        let known = state.clients.iter();
        let known = known
            .filter_map(|(id, facts)| self.joined_facts(key, id).or_else(|| self.know_unseen(now, key, id, facts)));
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

    /// What only the home has known: of a client that has left meanwhile the script has yet to hear, and one of another wing nobody
    /// may have been told of.
    fn know_unseen(
        &mut self,
        now: Instant,
        room: RoomKey,
        id: &ClientId,
        state: &FactsState,
    ) -> Option<Rc<ClientFacts>> {
        let coming = self.homes.coming.get_mut(&room)?;
        let facts = state.facts(now, id.clone()).ok()?;
        let leaver = coming.calls.iter_mut().find_map(|(_, call)| match call {
            HookCall::ClientDisconnect { client, .. } if client.id == *id => Some(client),
            _ => None,
        });
        match leaver {
            Some(leaver) => {
                facts.presence.set(Presence::Gone);
                *leaver = facts.clone();
            }
            None => coming.strangers.push(facts.clone()),
        }
        Some(facts)
    }

    /// What the home's script knows of a client that is elsewhere.
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
        let Some(ComingHome { from, calls, strangers, .. }) = self.homes.coming.remove(&key) else { return };
        self.say(key, from, PlaceMessage::Home(HomeMessage::Taken));
        self.home_says_no_more(now, id);
        self.meet(now, (key, from), strangers);
        self.await_members(now, key, from);
        self.become_home_with(now, key, policy, &state);
        for (asked, call) in calls {
            self.ask(now, key, asked, call);
        }
        tracing::info!(room = %id, "has its home here now");
        self.close_room_if_empty(now, key);
    }

    /// Clients that the script knows are known here, too.
    fn meet(&mut self, now: Instant, (key, from): (RoomKey, PlaceId), strangers: Vec<Rc<ClientFacts>>) {
        for facts in strangers {
            let known = match self.index.clients.get(&facts.id) {
                Some(known) => *known,
                None => self.add_far_client(now, key, from, facts.clone()),
            };
            let it = self.world.clients.get_mut(known).filter(|client| client.room == key && client.far.is_some());
            if let Some(client) = it {
                // It may have begun to publish meanwhile.
                client.know_as(facts);
            }
        }
    }

    /// At C: another wing is the home, and is asked what has waited.
    pub(super) fn home_has_moved(&mut self, now: Instant, (key, from): (RoomKey, PlaceId), home: PlaceId) {
        let Some(room) = self.world.rooms.get(key).filter(|room| room.home() == Some(from)) else { return };
        let id = room.id.clone();
        self.work.events.push(Event::HomeMoved { room: id.clone(), home });
        self.home_is(now, &id, home);
        self.say_of(id, from, PlaceMessage::Home(HomeMessage::Left));
    }

    fn become_home_with(&mut self, now: Instant, key: RoomKey, policy: PolicyKey, state: &HomeState) {
        let joined = |room: &Room| {
            let clients = room.clients.iter().filter_map(|client| self.world.clients.get(*client));
            clients.filter(|client| client.facts.presence.get() == Presence::Joined).count()
        };
        let Some(members) = self.world.rooms.get(key).map(joined) else { return };
        let Some(room) = self.world.rooms.get_mut(key) else { return };
        let wings = room.wings().to_vec();
        room.seat = Seat::Home { policy, wings: wings.clone() };
        room.members = members;
        // Whoever moves on from them names it.
        for wing in wings {
            self.say(key, wing, PlaceMessage::HomeIs(None));
        }
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

    /// At a wing: it is not the home, and asks who is what has waited.
    pub(in crate::shard) fn home_comes_not(&mut self, now: Instant, key: RoomKey) {
        let Some(coming) = self.homes.coming.remove(&key) else { return };
        if let Some((policy, _)) = coming.policy {
            self.policy.engine.close_room(now, policy);
        }
        // Those who have left meanwhile, while it was not clear whose they are.
        self.forget_all_unknown(now, key);
        for (asked, call) in coming.calls {
            self.ask(now, key, asked, call);
        }
        coming.gone.into_iter().for_each(|client| self.tell_gone(key, client));
        self.close_room_if_empty(now, key);
    }
}
