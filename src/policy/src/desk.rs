//! What the rooms of a shard share: settings, clock, agenda, output.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use super::agenda::Agenda;
use super::effects::TimerHandle;
use super::output::{PolicyKey, PolicyOutput, PolicyRequestId, Ticket};
use super::settings::{MAX_SHARD_COUNTERS, PolicySettings};
use super::state::State;
use super::stats::PolicyStats;

/// What becomes due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    /// A room's timer.
    Timer(PolicyKey, TimerHandle),
    /// A wait ends: the sleep is over, the reply is late, or there is CPU time again for the reply that came.
    Wait(PolicyKey, PolicyRequestId),
    /// A room has CPU time again.
    Pump(PolicyKey),
    /// A reload has waited long enough for the old version's hooks.
    Reload(PolicyKey),
    /// Closed states are to be freed further.
    Graves,
}

/// See the module.
pub(crate) struct Desk {
    pub(crate) settings: PolicySettings,
    pub(crate) agenda: Agenda<Due>,
    pub(crate) outputs: VecDeque<PolicyOutput>,
    /// The room of every request under way.
    pub(crate) requests: HashMap<PolicyRequestId, PolicyKey>,
    pub(crate) stats: PolicyStats,
    /// What scripts counted, all rooms together.
    pub(crate) counters: HashMap<String, f64>,
    /// Closed states, to be freed.
    pub(crate) closed: Vec<State>,
    clock: Option<(Instant, Duration)>,
    next_ticket: u64,
    next_request: u64,
    seeds: u64,
}

impl Desk {
    pub(crate) fn new(settings: PolicySettings, seed: u64) -> Self {
        Self {
            settings,
            agenda: Agenda::new(),
            outputs: VecDeque::new(),
            requests: HashMap::new(),
            stats: PolicyStats::default(),
            counters: HashMap::new(),
            closed: Vec::new(),
            clock: None,
            next_ticket: 0,
            next_request: 0,
            seeds: seed,
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

    /// Adds to a counter of all rooms; names beyond the bound are dropped.
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

    /// The next seed (SplitMix64): nearby seeds of engines give unrelated rooms.
    pub(crate) fn seed(&mut self) -> u64 {
        self.seeds = self.seeds.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.seeds;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}
