//! State that all rooms of a shard share and that a room needs while it runs: settings, clock, deadlines, output.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::rc::Rc;
use std::time::{Duration, Instant};

use rand::RngCore;
use rand::rngs::StdRng;

use super::canary::{CanaryCounts, Side, SideCounts};
use super::effects::TimerHandle;
use super::host::Random;
use super::output::{PolicyKey, PolicyOutput, PolicyRequestId, Ticket};
use super::settings::{MAX_SHARD_COUNTERS, PolicySettings};
use super::state::State;
use super::stats::PolicyStats;
use super::timer_queue::TimerQueue;
use super::turns::Turns;

/// What the engine does at a time that has been set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Deadline {
    /// Calls the function of a room's timer.
    Timer(PolicyKey, TimerHandle),
    /// Resumes a hook that waits: its sleep is over, its reply is late, or there is CPU time for the reply that came.
    Wait(PolicyKey, PolicyRequestId),
    /// Runs the queued events of a room that has CPU time again.
    Pump(PolicyKey),
    /// Reloads a room although hooks of its old version still wait.
    Reload(PolicyKey),
    /// Ends the pause of a suspended script.
    Resume(PolicyKey),
    /// Makes a checkpoint of a room.
    Checkpoint(PolicyKey),
    /// Frees the next slice of closed states.
    Free,
}

/// What a replay decides in the place of chance and of the clock.
#[derive(Default)]
pub(crate) struct Pinned {
    /// The seed of the next state.
    pub(crate) seed: Option<u64>,
}

/// See the module.
pub(crate) struct EngineContext {
    pub(crate) settings: PolicySettings,
    pub(crate) deadlines: TimerQueue<Deadline>,
    pub(crate) turns: Turns,
    pub(crate) outputs: VecDeque<PolicyOutput>,
    /// The room of every request that waits for its reply.
    pub(crate) requests: HashMap<PolicyRequestId, PolicyKey>,
    pub(crate) stats: PolicyStats,
    /// The sums of `sfu.count` over all rooms.
    pub(crate) counters: HashMap<String, f64>,
    /// What both sides of the canary have done, if there is one.
    pub(crate) canary: Option<CanaryCounts>,
    /// A replay decides which steps run, and where random numbers begin.
    pub(crate) replay: Option<Pinned>,
    /// Closed states that are still to be freed.
    pub(crate) closed: Vec<State>,
    clock: Option<(Instant, Duration)>,
    next_ticket: u64,
    next_request: u64,
    pub(crate) random: Random,
}

impl EngineContext {
    pub(crate) fn new(settings: PolicySettings, random: StdRng) -> Self {
        Self {
            turns: Turns::new(&settings),
            settings,
            deadlines: TimerQueue::new(),
            outputs: VecDeque::new(),
            requests: HashMap::new(),
            stats: PolicyStats::default(),
            counters: HashMap::new(),
            canary: None,
            replay: None,
            closed: Vec::new(),
            clock: None,
            next_ticket: 0,
            next_request: 0,
            random: Rc::new(RefCell::new(random)),
        }
    }

    pub(crate) fn set_clock(&mut self, now: Instant, unix: Duration) {
        self.clock = Some((now, unix));
    }

    /// Time since 1970 at `now`.
    pub(crate) fn unix(&mut self, now: Instant) -> Duration {
        let (at, unix) = *self.clock.get_or_insert((now, Duration::ZERO));
        match now.checked_duration_since(at) {
            Some(passed) => unix + passed,
            None => unix.saturating_sub(at - now),
        }
    }

    /// Adds to a counter of all rooms. Names beyond the bound are dropped.
    pub(crate) fn count(&mut self, name: &str, n: f64) {
        if let Some(sum) = self.counters.get_mut(name) {
            *sum += n;
        } else if self.counters.len() < MAX_SHARD_COUNTERS {
            self.counters.insert(name.to_owned(), n);
        }
    }

    pub(crate) fn ticket(&mut self) -> Ticket {
        self.next_ticket += 1;
        Ticket(self.next_ticket)
    }

    pub(crate) fn request_id(&mut self) -> PolicyRequestId {
        self.next_request += 1;
        PolicyRequestId(self.next_request)
    }

    /// The counts of a side of the canary.
    pub(crate) fn side(&mut self, side: Option<Side>) -> Option<&mut SideCounts> {
        let (canary, side) = (self.canary.as_mut()?, side?);
        Some(canary.side(side))
    }

    /// The number that the next event will have.
    pub(crate) fn next_ticket(&self) -> u64 {
        self.next_ticket + 1
    }

    /// The number that the next request will have.
    pub(crate) fn next_request_id(&self) -> PolicyRequestId {
        PolicyRequestId(self.next_request + 1)
    }

    /// A seed for the random numbers of a state.
    pub(crate) fn seed(&mut self) -> u64 {
        if let Some(seed) = self.replay.as_mut().and_then(|pinned| pinned.seed.take()) {
            return seed;
        }
        self.random.borrow_mut().next_u64()
    }
}
