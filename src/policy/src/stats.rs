//! Counters of the policies of a shard, or of one room.

use std::time::Duration;

use super::failure::HookFailure;

/// Upper bounds of the latency histogram's buckets, in nanoseconds; one more bucket holds the rest.
pub const LATENCY_BOUNDS_NS: [u64; 10] =
    [500, 1_000, 2_000, 5_000, 10_000, 50_000, 100_000, 1_000_000, 5_000_000, 20_000_000];

/// How long the steps of hooks took, in CPU time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Latency {
    /// Steps per bucket of [`LATENCY_BOUNDS_NS`]; the last one is beyond all bounds.
    pub buckets: [u64; LATENCY_BOUNDS_NS.len() + 1],
    /// The sum, in nanoseconds.
    pub sum_ns: u64,
    /// The longest one, in nanoseconds.
    pub max_ns: u64,
}

impl Latency {
    /// The time in nanoseconds that a share of the steps did not exceed, as exact as the buckets are; 0 without steps.
    pub fn quantile_ns(&self, share: f64) -> u64 {
        let steps: u64 = self.buckets.iter().sum();
        let wanted = (steps as f64 * share).ceil().max(1.0) as u64;
        let mut seen = 0;
        for (n, steps) in self.buckets.iter().enumerate() {
            seen += steps;
            if seen >= wanted {
                return LATENCY_BOUNDS_NS.get(n).map_or(self.max_ns, |bound| (*bound).min(self.max_ns));
            }
        }
        0
    }

    fn record(&mut self, cpu: Duration) {
        let ns = u64::try_from(cpu.as_nanos()).unwrap_or(u64::MAX);
        self.buckets[LATENCY_BOUNDS_NS.partition_point(|bound| *bound < ns)] += 1;
        self.sum_ns = self.sum_ns.saturating_add(ns);
        self.max_ns = self.max_ns.max(ns);
    }
}

/// Counters of one room, or of a shard's rooms together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PolicyStats {
    /// Steps of hooks and timers that ran.
    pub steps: u64,
    /// Hooks that ended, well or not.
    pub hooks: u64,
    /// Deciding hooks that allowed.
    pub allowed: u64,
    /// Deciding hooks that rejected.
    pub rejected: u64,
    /// Calls for which the script has no hook.
    pub missing: u64,
    /// Hooks that ended with an error.
    pub errors: u64,
    /// Hooks stopped for their time.
    pub kills: u64,
    /// Hooks that met the memory cap.
    pub memory: u64,
    /// Hooks in which the host panicked.
    pub panics: u64,
    /// Events that did not fit into a room's queue.
    pub overflows: u64,
    /// Events refused before any hook ran: they did not fit, or were beyond a bound.
    pub refused: u64,
    /// Clients disconnected because their events made hooks fail.
    pub disconnected: u64,
    /// Times a room had to wait for its share of CPU.
    pub throttled: u64,
    /// Times a script was suspended after too many failures.
    pub suspensions: u64,
    /// Reloads that took effect.
    pub reloads: u64,
    /// Reloads rolled back.
    pub reloads_failed: u64,
    /// How long steps took.
    pub latency: Latency,
}

impl PolicyStats {
    /// Adds other rooms' counters.
    pub fn add(&mut self, other: &Self) {
        let Self { latency, .. } = other;
        for (sum, more) in [
            (&mut self.steps, other.steps),
            (&mut self.hooks, other.hooks),
            (&mut self.allowed, other.allowed),
            (&mut self.rejected, other.rejected),
            (&mut self.missing, other.missing),
            (&mut self.errors, other.errors),
            (&mut self.kills, other.kills),
            (&mut self.memory, other.memory),
            (&mut self.panics, other.panics),
            (&mut self.overflows, other.overflows),
            (&mut self.refused, other.refused),
            (&mut self.disconnected, other.disconnected),
            (&mut self.throttled, other.throttled),
            (&mut self.suspensions, other.suspensions),
            (&mut self.reloads, other.reloads),
            (&mut self.reloads_failed, other.reloads_failed),
            (&mut self.latency.sum_ns, latency.sum_ns),
        ] {
            *sum = sum.saturating_add(more);
        }
        self.latency.max_ns = self.latency.max_ns.max(latency.max_ns);
        self.latency.buckets.iter_mut().zip(latency.buckets).for_each(|(sum, more)| *sum += more);
    }

    pub(crate) fn step(&mut self, cpu: Duration) {
        self.steps += 1;
        self.latency.record(cpu);
    }

    pub(crate) fn failure(&mut self, failure: &HookFailure) {
        match failure {
            HookFailure::Error(_) => self.errors += 1,
            HookFailure::Time(..) => self.kills += 1,
            HookFailure::Memory(..) => self.memory += 1,
            HookFailure::Panic(_) => self.panics += 1,
        }
    }

    /// Hooks that failed, whatever the reason.
    pub fn failures(&self) -> u64 {
        self.errors + self.kills + self.memory + self.panics
    }
}

/// The state of a room's policy, for the admin interface.
#[derive(Clone, Debug, PartialEq)]
pub struct RoomStatus {
    /// The script's name.
    pub script: String,
    /// The version that runs.
    pub version: u64,
    /// How the last reload ended: with this version in charge, or with an error that left the old one.
    pub last_reload: Option<Result<u64, String>>,
    /// True while the script is suspended.
    pub is_suspended: bool,
    /// Bytes of the Lua state.
    pub memory: usize,
    /// Events that wait for their hook.
    pub queued: usize,
    /// Joins that wait for their hook.
    pub queued_joins: usize,
    /// Bytes that the host holds for the room: queued events, unsent actions, requests and replies.
    pub host_bytes: usize,
    /// Hooks that wait for something.
    pub waiting: usize,
    /// Timers that are set.
    pub timers: usize,
    /// Counters since the room was opened.
    pub stats: PolicyStats,
    /// The script's own counters.
    pub counters: Vec<(String, f64)>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_its_buckets_bound_or_the_longest_step() {
        let mut latency = Latency::default();
        assert_eq!(latency.quantile_ns(0.5), 0);
        for ns in [[900; 98].as_slice(), &[90_000, 30_000_000]].concat() {
            latency.record(Duration::from_nanos(ns));
        }
        for (share, expected) in [(0.5, 1_000), (0.98, 1_000), (0.99, 100_000), (1.0, 30_000_000)] {
            assert_eq!(latency.quantile_ns(share), expected, "{share}");
        }
    }
}
