//! The policy engine of a shard: rooms, events in, outcomes out.

use std::sync::Arc;
use std::time::{Duration, Instant};

use slotmap::SlotMap;

use super::budget::stopwatch;
use super::desk::{Desk, Due};
use super::graveyard::Graveyard;
use super::hook::{HookCall, SCRIPT_ERROR};
use super::host::{Host, RoomFacts};
use super::output::{PolicyKey, PolicyOutput, PolicyReply, PolicyRequestId, Ticket};
use super::reload::new_state;
use super::room::Room;
use super::script::Script;
use super::settings::PolicySettings;
use super::stats::{PolicyStats, RoomStatus};
use moonring_wire::id::RoomId;

/// Runs the scripts of a shard's rooms. No I/O, no clock: what a script needs from outside goes out as
/// [`PolicyOutput::Request`]. After every call, drain [`PolicyEngine::poll_output`].
pub struct PolicyEngine {
    rooms: SlotMap<PolicyKey, Room>,
    desk: Desk,
    graveyard: Graveyard,
    digging: bool,
}

impl PolicyEngine {
    /// An engine without rooms. `seed` is where the scripts' random numbers come from.
    pub fn new(settings: PolicySettings, seed: u64) -> Self {
        Self {
            rooms: SlotMap::with_key(),
            desk: Desk::new(settings, seed),
            graveyard: Graveyard::default(),
            digging: false,
        }
    }

    /// Says what time of day it is (`unix` is the time since 1970 at `now`). Without it, scripts live in 1970.
    pub fn set_clock(&mut self, now: Instant, unix: Duration) {
        self.desk.set_clock(now, unix);
    }

    /// Opens a room with a script, or with the reason why there is none. An error is the words for who asked.
    pub fn open_room(
        &mut self,
        now: Instant,
        room: &RoomId,
        script: Result<Arc<Script>, String>,
    ) -> Result<PolicyKey, String> {
        let tried = script.as_ref().ok().cloned();
        let opened = script.and_then(|script| {
            let facts = RoomFacts::new(room.clone(), now, self.desk.unix(now));
            let host = Host::new(facts.clone(), script);
            let seed = self.desk.seed();
            new_state(&self.desk.settings, seed, host, |_| Ok(())).map(|state| (facts, state))
        });
        let (facts, state) = opened.map_err(|words| {
            let (script, version) =
                tried.map_or_else(Default::default, |s| (s.name().to_owned(), format!("{:016x}", s.version())));
            tracing::error!(%room, script, version, "the room was not opened: {words}");
            SCRIPT_ERROR.to_owned()
        })?;
        let desk = &mut self.desk;
        let key = self.rooms.insert_with_key(|key| Room::new(key, facts, state, desk, now));
        let room = &mut self.rooms[key];
        let asked = room.state.host.effects.take();
        let actions = room.commit(desk, now, asked);
        if !actions.is_empty() {
            desk.outputs.push_back(PolicyOutput::Actions { key, actions });
        }
        Ok(key)
    }

    /// Closes a room: its waits and timers end, outcomes still due never come.
    pub fn close_room(&mut self, now: Instant, key: PolicyKey) {
        if let Some(room) = self.rooms.remove(key) {
            room.close(&mut self.desk);
        }
        self.bury(now);
    }

    /// Asks the script about an event, or tells it of one. Runs as far as it can at once.
    pub fn submit(&mut self, now: Instant, key: PolicyKey, call: HookCall) -> Ticket {
        let ticket = self.desk.ticket();
        match self.rooms.get_mut(key) {
            Some(room) => room.submit(&mut self.desk, now, ticket, call),
            None => {
                let outcome = super::calls::failed(&call);
                self.desk.outputs.push_back(PolicyOutput::Outcome { ticket, key, outcome });
            }
        }
        self.bury(now);
        ticket
    }

    /// What happened since the last call, oldest first.
    pub fn poll_output(&mut self) -> Option<PolicyOutput> {
        self.desk.outputs.pop_front()
    }

    /// Brings the reply to a request. One that is no longer awaited is dropped.
    pub fn resume(&mut self, now: Instant, request: PolicyRequestId, reply: PolicyReply) {
        let room = self.desk.requests.get(&request).and_then(|key| self.rooms.get_mut(*key));
        if let Some(room) = room {
            room.resume(&mut self.desk, now, request, Some(reply));
        }
        self.bury(now);
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        // What a step makes due in turn is later than `now`, so this ends.
        while let Some(due) = self.desk.agenda.due(now) {
            let desk = &mut self.desk;
            match due {
                Due::Graves => {
                    self.digging = false;
                    self.graveyard.dig();
                }
                Due::Timer(key, handle) => self.with(key, |room, desk| room.ring(desk, now, handle)),
                Due::Wait(key, id) => {
                    if let Some(room) = self.rooms.get_mut(key) {
                        room.resume(desk, now, id, None);
                    }
                }
                Due::Pump(key) => self.with(key, |room, desk| room.woken(desk, now)),
                Due::Reload(key) => self.with(key, |room, desk| room.reload_now(desk, now)),
            }
        }
        self.bury(now);
    }

    /// When [`PolicyEngine::handle_timeout`] wants to be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.desk.agenda.next()
    }

    /// Replaces a room's script, with its state, or leaves all as it is; [`PolicyOutput::Reloaded`] says which. It
    /// happens at once unless hooks of the room wait; then within some seconds. Says how much CPU time it took.
    pub fn reload(&mut self, now: Instant, key: PolicyKey, script: Arc<Script>) -> Duration {
        let elapsed = stopwatch();
        self.with(key, |room, desk| room.reload(desk, now, script));
        self.bury(now);
        elapsed()
    }

    /// The script that a room runs.
    pub fn script(&self, key: PolicyKey) -> Option<&Arc<Script>> {
        self.rooms.get(key).map(|room| &room.state.host.script)
    }

    /// The script of a room's last reload, however it came out.
    pub fn last_tried(&self, key: PolicyKey) -> Option<&Arc<Script>> {
        self.rooms.get(key).and_then(|room| room.tried.as_ref())
    }

    /// Whether a reload with `script` would be something new: it is not what the room runs, nor what its last reload
    /// was about.
    pub fn is_new(&mut self, key: PolicyKey, script: &Script) -> bool {
        self.rooms.get_mut(key).is_some_and(|room| room.is_new(script))
    }

    /// What the policies have done, all rooms together.
    pub fn stats(&self) -> &PolicyStats {
        &self.desk.stats
    }

    /// What scripts counted with `sfu.count`, all rooms together.
    pub fn script_counters(&self) -> impl Iterator<Item = (&str, f64)> {
        self.desk.counters.iter().map(|(name, n)| (name.as_str(), *n))
    }

    /// What a room's policy is and has done.
    pub fn room_status(&self, key: PolicyKey) -> Option<RoomStatus> {
        self.rooms.get(key).map(Room::status)
    }

    fn with(&mut self, key: PolicyKey, act: impl FnOnce(&mut Room, &mut Desk)) {
        if let Some(room) = self.rooms.get_mut(key) {
            act(room, &mut self.desk);
        }
    }

    /// Frees closed states, big ones later.
    fn bury(&mut self, now: Instant) {
        for state in self.desk.closed.drain(..) {
            self.graveyard.bury(state);
        }
        if !self.digging && !self.graveyard.is_empty() {
            self.digging = true;
            self.desk.agenda.add(now + Graveyard::pause(), Due::Graves);
        }
    }
}
