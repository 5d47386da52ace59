//! A budget in bytes for what goes to one client, that lets runs of packets pass whole.

use std::time::{Duration, Instant};

/// A run that may overdraw the budget: what one GSO send takes.
pub const MAX_RUN: usize = 64 * 1024;
/// What has waited longer than this is stale: dropped rather than sent late. Not less, as the key frame that goes on behind it
/// takes a slow path as long, and its encoder, and with it everybody's picture, longer.
pub const MAX_QUEUE_TIME: Duration = Duration::from_secs(1);
/// The pace relative to the target, as libwebrtc's: frames leave in 40 % of their time, and what is ahead of the
/// estimate for an instant (key frames) is not held up.
pub const PACE_PER_TARGET: f64 = 2.5;
/// And the slowest, where packets get lost.
const LEAST_PER_TARGET: f64 = 1.25;
/// Loss from which on it gets slower, and below which it gets faster again: both in steps, the former large.
const LOSSY: f32 = 0.02;
const CLEAN: f32 = 0.005;
const SLOWER: f64 = 0.8;
const FASTER: f64 = 0.02;
const JUDGED_EVERY: Duration = Duration::from_millis(500);
/// How much budget can be saved up, in time at the pace. It covers the longest tick.
const BURST: Duration = Duration::from_millis(10);
/// The least that can be saved up: one packet.
const MIN_BURST_BYTES: f64 = 1500.0;
/// The slowest pace, in bytes a second, so that a debt is always paid off within seconds.
const MIN_PACE: f64 = 10_000.0;

/// A token bucket that may be overdrawn by one run.
#[derive(Clone, Debug)]
pub struct Pacer {
    /// Bytes a second.
    pace: f64,
    /// Relative to the target.
    factor: f64,
    /// When the factor was looked at last.
    judged: Instant,
    /// Bytes that may go at `at`; below zero: a debt.
    budget: f64,
    at: Instant,
}

impl Pacer {
    /// A pacer for 300 kbit/s, with a full budget.
    pub fn new(now: Instant) -> Self {
        let mut pacer = Self { pace: MIN_PACE, factor: PACE_PER_TARGET, judged: now, budget: f64::MAX, at: now };
        pacer.set_target(now, 300_000);
        pacer
    }

    /// Reads what a packet touches of this.
    pub fn glance(&self) -> u64 {
        self.budget.to_bits() ^ self.pace.to_bits()
    }

    /// The pace relative to the target.
    pub fn factor(&self) -> f64 {
        self.factor
    }

    /// Takes in the part of the packets that was lost lately. Where packets get lost, frames leave more slowly: a queue in front
    /// of the bottleneck that holds less than a frame drops its end when it comes at once.
    pub fn note_loss(&mut self, now: Instant, loss: f32) {
        if now.saturating_duration_since(self.judged) < JUDGED_EVERY {
            return;
        }
        self.judged = now;
        if loss > LOSSY {
            self.factor = (self.factor * SLOWER).max(LEAST_PER_TARGET);
        } else if loss < CLEAN {
            self.factor = (self.factor + FASTER).min(PACE_PER_TARGET);
        }
    }

    /// Sets the pace for `target_bps` from `now` on: 2.5 times as much, or less where packets get lost.
    pub fn set_target(&mut self, now: Instant, target_bps: u64) {
        self.refill(now);
        self.pace = (target_bps as f64 / 8.0 * self.factor).max(MIN_PACE);
        self.budget = self.budget.min(self.burst());
    }

    /// Asks for `bytes` to go at `now`: one packet, or a run of equally long ones. True when the budget is above zero;
    /// the bytes are counted then. A run can overdraw it, so that none is cut, and the debt delays what comes next.
    pub fn allow(&mut self, now: Instant, bytes: usize) -> bool {
        self.refill(now);
        let allowed = self.budget > 0.0;
        if allowed {
            self.budget -= bytes.min(MAX_RUN) as f64;
        }
        allowed
    }

    /// Counts what goes whatever the budget is: sound, the first packets of a key frame, probes. The debt is bounded
    /// by a run: what was forced does not stop the rest for long.
    pub fn force(&mut self, now: Instant, bytes: usize) {
        self.refill(now);
        self.budget = (self.budget - bytes as f64).max(self.budget.min(-(MAX_RUN as f64)));
    }

    /// Bytes by which the budget was overdrawn at the last call.
    pub fn debt(&self) -> usize {
        (-self.budget).max(0.0) as usize
    }

    /// When `allow` says yes again; not in the future when it does already.
    pub fn ready_at(&self) -> Instant {
        if self.budget > 0.0 {
            return self.at;
        }
        // A byte more than the debt, so that the budget is above zero then.
        self.at + Duration::from_secs_f64((1.0 - self.budget) / self.pace)
    }

    /// How long a run to form: what the pace lets through in 10 ms, one packet at least. Longer ones pass as well, but
    /// leave a debt that holds up what comes next.
    pub fn run_bytes(&self) -> usize {
        (self.burst() as usize).min(MAX_RUN)
    }

    fn refill(&mut self, now: Instant) {
        let elapsed = now.saturating_duration_since(self.at);
        self.at = self.at.max(now);
        self.budget = (self.budget + elapsed.as_secs_f64() * self.pace).min(self.burst());
    }

    fn burst(&self) -> f64 {
        (self.pace * BURST.as_secs_f64()).max(MIN_BURST_BYTES)
    }
}

#[cfg(test)]
mod tests;
