//! The policy engine of a shard: rooms, events in, outcomes out.

mod carried;
pub(crate) mod replayed;

use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::SeedableRng;
use rand::rngs::StdRng;
use slotmap::SlotMap;

use super::budget::stopwatch;
use super::canary::{CanaryCounts, Side};
use super::deferred_free::DeferredFree;
use super::engine_context::{Deadline, EngineContext};
use super::failure::ReloadError;
use super::hook::{Action, HookCall, SCRIPT_ERROR};
use super::host::{Host, RoomFacts};
use super::library::ResolveError;
use super::output::{PolicyKey, PolicyOutput, PolicyReply, PolicyRequestId, Ticket};
use super::reload::{Request, new_state};
use super::room::Room;
use super::room::taping::{new_seeds, reseed};
use super::script::Script;
use super::settings::{MAX_DEADLINES, PolicySettings};
use super::stats::{PolicyStats, RoomStatus};
use super::tape::{Depth, Sink};
use moonring_wire::id::RoomId;
use moonring_wire::shared::SharedValue;

/// Runs the scripts of a shard's rooms. No I/O, no clock: what a script needs from outside goes out as
/// [`PolicyOutput::Request`]. After every call, drain [`PolicyEngine::poll_output`].
pub struct PolicyEngine {
    pub(crate) rooms: SlotMap<PolicyKey, Room>,
    pub(crate) context: EngineContext,
    closed: DeferredFree,
    /// True while [`Deadline::Free`] is set.
    is_freeing: bool,
}

impl PolicyEngine {
    /// An engine without rooms whose scripts' random numbers follow from `seed`: for tests and measurements.
    pub fn new(settings: PolicySettings, seed: u64) -> Self {
        Self::with_random(settings, StdRng::seed_from_u64(seed))
    }

    /// An engine without rooms. `seed` is where the scripts' random numbers and secrets come from: it must be
    /// unpredictable.
    pub fn seeded(settings: PolicySettings, seed: [u8; 32]) -> Self {
        Self::with_random(settings, StdRng::from_seed(seed))
    }

    fn with_random(settings: PolicySettings, random: StdRng) -> Self {
        Self {
            rooms: SlotMap::with_key(),
            context: EngineContext::new(settings, random),
            closed: DeferredFree::default(),
            is_freeing: false,
        }
    }

    /// Sets the time of day: `unix` is the time since 1970 at `now`. Without it the scripts' clock starts in 1970.
    pub fn set_clock(&mut self, now: Instant, unix: Duration) {
        self.context.set_clock(now, unix);
    }

    /// Opens a room with its script. An error has been logged; [`OpenError::reason`] is for the client that asked.
    pub fn open_room(
        &mut self,
        now: Instant,
        room: &RoomId,
        script: Result<Arc<Script>, ResolveError>,
    ) -> Result<PolicyKey, OpenError> {
        self.open_room_with(now, room, script, SharedValue::empty_object())
    }

    /// The same, of a room about which whoever opens it has something to say: an object, `sfu.room.metadata`.
    pub fn open_room_with(
        &mut self,
        now: Instant,
        room: &RoomId,
        script: Result<Arc<Script>, ResolveError>,
        metadata: SharedValue,
    ) -> Result<PolicyKey, OpenError> {
        self.open_recorded_room(now, (room, metadata), script, None)
    }

    /// The same; `sink` takes a recording from the room's first moment on.
    pub fn open_recorded_room(
        &mut self,
        now: Instant,
        (room, metadata): (&RoomId, SharedValue),
        script: Result<Arc<Script>, ResolveError>,
        sink: Option<Sink>,
    ) -> Result<PolicyKey, OpenError> {
        let recorded = sink.map(|sink| (sink, new_seeds(&mut self.context)));
        let tried = script.as_ref().ok().cloned();
        let opened = script.map_err(OpenError::from).and_then(|script| {
            let facts =
                RoomFacts::new(room.clone(), metadata, (now, self.context.unix(now)), self.context.random.clone());
            let host = Host::new(facts.clone(), script);
            let seed = match &recorded {
                Some((_, seeds)) => {
                    reseed(&facts, seeds);
                    seeds.math
                }
                None => self.context.seed(),
            };
            let state = new_state(&self.context.settings, seed, host, |_| Ok(()))?;
            Ok((facts, state))
        });
        let (facts, state) = opened.inspect_err(|error| {
            let (script, version) =
                tried.map_or_else(Default::default, |s| (s.name().to_owned(), format!("{:016x}", s.version())));
            tracing::error!(%room, script, version, "the room was not opened: {error}");
        })?;
        let context = &mut self.context;
        let key = self.rooms.insert_with_key(|key| Room::new(key, facts, state, context));
        if let Some((sink, seeds)) = recorded {
            self.rooms[key].record_from_its_start(context, now, sink, seeds);
        }
        self.rooms[key].start(context, now);
        Ok(key)
    }

    /// Begins to trace a room, or to record it from the middle of its life. An error says why not.
    pub fn watch(&mut self, now: Instant, key: PolicyKey, sink: Sink, depth: Depth) -> Result<(), String> {
        let room = self.rooms.get_mut(key).ok_or("there is no such room")?;
        room.watch(&mut self.context, now, sink, depth)
    }

    /// An operator does something to a room, or to a client in it, past its script: who traces or records the room is told.
    pub fn note_operator(&mut self, now: Instant, key: PolicyKey, action: &Action) {
        self.with(key, |room, _| room.note_operator(now, action));
    }

    /// Closes a room: its waits and timers end, outcomes still due never come.
    pub fn close_room(&mut self, now: Instant, key: PolicyKey) {
        if let Some(room) = self.rooms.remove(key) {
            room.close(&mut self.context);
        }
        self.free_closed(now);
    }

    /// Asks the script about an event, or tells it of one. Runs as far as it can at once.
    pub fn submit(&mut self, now: Instant, key: PolicyKey, call: HookCall) -> Ticket {
        let ticket = self.context.ticket();
        match self.rooms.get_mut(key) {
            Some(room) => room.submit(&mut self.context, now, ticket, call),
            None => {
                let outcome = super::calls::failed(&call);
                self.context.outputs.push_back(PolicyOutput::Outcome { ticket, key, outcome });
            }
        }
        self.free_closed(now);
        ticket
    }

    /// What happened since the last call, oldest first.
    pub fn poll_output(&mut self) -> Option<PolicyOutput> {
        self.context.outputs.pop_front()
    }

    /// Brings the reply to a request. One that is no longer awaited is dropped.
    pub fn resume(&mut self, now: Instant, request: PolicyRequestId, reply: PolicyReply) {
        let room = self.context.requests.get(&request).and_then(|key| self.rooms.get_mut(*key));
        if let Some(room) = room {
            room.end_wait(&mut self.context, now, request, Some(reply));
        }
        self.free_closed(now);
    }

    /// Does what is due at `now`, as far as the scripts' share of the shard allows; the rest stays due. Media should
    /// have its turn between two calls.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.context.turns.begin_slice(now);
        for _ in 0..MAX_DEADLINES {
            let Some((at, deadline)) = self.context.deadlines.pop_due(now) else { break };
            self.meet(now, at, deadline);
        }
        while let Some((used, key)) = self.context.turns.pop(now) {
            self.with(key, |room, context| room.take_turn(context, now, used));
        }
        self.free_closed(now);
    }

    /// Does what was to be done `at` this time.
    pub(crate) fn meet(&mut self, now: Instant, at: Instant, deadline: Deadline) {
        match deadline {
            Deadline::Free => {
                self.is_freeing = false;
                self.closed.free_slice();
            }
            Deadline::Timer(key, handle) => self.with(key, |room, context| {
                room.note_due(now, at, Some(handle), None);
                room.timer_due(context, now, handle);
            }),
            Deadline::Wait(key, id) => self.with(key, |room, context| {
                room.note_due(now, at, None, Some(id));
                room.end_wait(context, now, id, None);
            }),
            Deadline::Pump(key) => self.with(key, |room, context| room.wake(context, now)),
            Deadline::Checkpoint(key) => self.with(key, |room, context| room.checkpoint_due(context, now)),
            Deadline::Reload(key) => self.with(key, |room, context| room.reload_now(context, now)),
            Deadline::Resume(key) => self.with(key, |room, context| {
                room.note_due(now, at, None, None);
                room.resume_script(context, now);
            }),
        }
    }

    /// When [`PolicyEngine::handle_timeout`] wants to be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        [self.context.deadlines.next(), self.context.turns.due()].into_iter().flatten().min()
    }

    /// Replaces a room's script, with its state, or leaves all as it is; [`PolicyOutput::Reloaded`] says which. It
    /// happens at once unless hooks of the room wait; then within a second. Returns the CPU time that it took.
    pub fn reload(&mut self, now: Instant, key: PolicyKey, script: Arc<Script>) -> Duration {
        self.reload_with(now, key, Request { script, drops_state: false })
    }

    /// The same, but the new version starts without the old one's state: the way out when `on_unload` fails.
    pub fn reload_without_state(&mut self, now: Instant, key: PolicyKey, script: Arc<Script>) -> Duration {
        self.reload_with(now, key, Request { script, drops_state: true })
    }

    fn reload_with(&mut self, now: Instant, key: PolicyKey, request: Request) -> Duration {
        let elapsed = stopwatch();
        self.with(key, |room, context| room.reload(context, now, request));
        self.free_closed(now);
        elapsed()
    }

    /// Lets a suspended script run again. False when there is no such room, or its script is not suspended.
    pub fn resume_script(&mut self, now: Instant, key: PolicyKey) -> bool {
        let room = self.rooms.get_mut(key);
        room.is_some_and(|room| room.resume_script(&mut self.context, now))
    }

    /// How long a room is to be kept without clients, by its script's `EMPTY_TIMEOUT_S`; at most
    /// [`MAX_EMPTY_TIMEOUT`](super::settings::MAX_EMPTY_TIMEOUT).
    pub fn empty_timeout(&self, key: PolicyKey) -> Duration {
        self.rooms.get(key).map_or(Duration::ZERO, Room::empty_timeout)
    }

    /// The script that a room runs.
    pub fn script(&self, key: PolicyKey) -> Option<&Arc<Script>> {
        self.rooms.get(key).map(Room::script)
    }

    /// The script of a room's last reload, however it came out.
    pub fn last_tried(&self, key: PolicyKey) -> Option<&Arc<Script>> {
        self.rooms.get(key).and_then(Room::last_tried)
    }

    /// Whether a room is to be reloaded with `script`: it is not what the room runs, nor what its last reload was about.
    /// When operators order it, a script that failed is due again: one that could not be loaded, or is suspended.
    pub fn is_due(&mut self, key: PolicyKey, script: &Script, is_ordered: bool) -> bool {
        self.rooms.get_mut(key).is_some_and(|room| room.is_due(script, is_ordered))
    }

    /// Begins to count for a canary, or ends it.
    pub fn set_canary(&mut self, number: Option<u64>) {
        self.context.canary = number.map(|number| CanaryCounts { number, ..CanaryCounts::default() });
        self.rooms.values_mut().for_each(|room| room.side = None);
    }

    /// Puts a room on a side of the canary.
    pub fn set_side(&mut self, key: PolicyKey, side: Option<Side>) {
        self.with(key, |room, context| room.set_side(context, side));
    }

    /// A room of this side could not be opened.
    pub fn count_unopened(&mut self, side: Option<Side>) {
        if let Some(counts) = self.context.side(side) {
            counts.unopened += 1;
        }
    }

    /// What both sides of the canary have done, if there is one.
    pub fn canary(&self) -> Option<&CanaryCounts> {
        self.context.canary.as_ref()
    }

    /// What the policies have done, all rooms together.
    pub fn stats(&self) -> &PolicyStats {
        &self.context.stats
    }

    /// What scripts counted with `sfu.count`, all rooms together.
    pub fn script_counters(&self) -> impl Iterator<Item = (&str, f64)> {
        self.context.counters.iter().map(|(name, n)| (name.as_str(), *n))
    }

    /// What a room's policy is and has done.
    pub fn room_status(&self, key: PolicyKey) -> Option<RoomStatus> {
        self.rooms.get(key).map(Room::status)
    }

    pub(crate) fn with(&mut self, key: PolicyKey, act: impl FnOnce(&mut Room, &mut EngineContext)) {
        if let Some(room) = self.rooms.get_mut(key) {
            act(room, &mut self.context);
        }
    }

    /// Frees closed states, large ones in slices.
    fn free_closed(&mut self, now: Instant) {
        for state in self.context.closed.drain(..) {
            self.closed.add(state);
        }
        if !self.is_freeing && !self.closed.is_empty() {
            self.is_freeing = true;
            self.context.deadlines.add(now + DeferredFree::interval(), Deadline::Free);
        }
    }
}

/// Why a room was not opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// There is no script for it.
    #[error(transparent)]
    NoScript(#[from] ResolveError),
    /// Its script did not start.
    #[error(transparent)]
    Script(#[from] ReloadError),
}

impl OpenError {
    /// The reason for the client that asked for the room; the details are for the operator.
    pub fn reason(&self) -> &'static str {
        SCRIPT_ERROR
    }
}
