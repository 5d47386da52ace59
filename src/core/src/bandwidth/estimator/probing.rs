//! When to probe, for how much, and what to make of the results.

use std::time::Instant;

use super::{Estimator, LIMITED_BELOW};
use crate::bandwidth::delay::Usage;
use crate::bandwidth::probe::Purpose;
use crate::bandwidth::rate::Signals;

/// The first probes, relative to the rate it starts with.
const FIRST_PROBES: [f64; 2] = [3.0, 6.0];
/// A probe for more: every so often, and longer after one that found nothing, up to [`MAX_PROBE_INTERVAL_US`].
pub(super) const PROBE_INTERVAL_US: i64 = 2_200_000;
const MAX_PROBE_INTERVAL_US: i64 = 2_800_000;
/// The soonest that a greater wish is probed for after the last probe.
const WISH_INTERVAL_US: i64 = 500_000;
/// A wish is another one from this factor on.
const OTHER_WISH: f64 = 1.2;
/// A probe waits for what was sent beyond the target, a key frame perhaps, while that takes longer than this, ...
const WAITING_US: f64 = 90_000.0;
/// ... but not for long: who is sent more than the target all the time would never learn that it is wrong.
const PATIENCE_US: i64 = 500_000;
/// A probe relative to the target: when the target is used up, and when it is not.
const PROBE_STEP: (f64, f64) = (1.5, 2.0);
/// A probe for less than this factor of the target is not worth it: to verify, and to search.
const LEAST_STEP: (f64, f64) = (1.02, 1.1);
/// The highest probe relative to what is wanted, so that there is a gap above what is sent.
pub(super) const ABOVE_WANTED: f64 = 1.25;
/// Between probes while something is paused because it does not fit.
const STARVED_INTERVAL_US: i64 = 700_000;
/// What would be sent if it could.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Wanted {
    pub(super) bps: f64,
    /// The same without its small changes: the rates of layers vary all the time.
    wish: f64,
    /// With less nothing of it can be sent.
    pub(super) least_bps: f64,
    /// Something is paused, as it does not fit.
    pub(super) is_starved: bool,
}

impl Wanted {
    /// Says whether that is clearly more than it was.
    fn set(&mut self, bps: f64) -> bool {
        self.bps = bps;
        let more = bps > self.wish * OTHER_WISH;
        if more || bps * OTHER_WISH < self.wish {
            self.wish = bps;
        }
        more
    }
}

impl Estimator {
    /// Sets what would be sent if it could, in bit/s. Nothing is probed for beyond it.
    pub fn set_wanted(&mut self, now: Instant, bps: u64) {
        let now = self.micros(now);
        let more = self.wanted.set(bps as f64);
        let last = self.probes.last_at().unwrap_or(now - WISH_INTERVAL_US);
        if more && self.started && self.wanted.bps > self.rate.target() {
            self.next_probe_at = self.next_probe_at.min(last + WISH_INTERVAL_US);
        }
    }

    /// Sets what the least of it takes, in bit/s: with less there is nothing to send.
    pub fn set_least(&mut self, bps: u64) {
        self.wanted.least_bps = bps as f64;
    }

    /// Says whether something is paused because it does not fit: probes follow each other faster then.
    pub fn set_starved(&mut self, now: Instant, is_starved: bool) {
        let now = self.micros(now);
        if is_starved {
            let last = self.probes.last_at().unwrap_or(now - STARVED_INTERVAL_US);
            self.next_probe_at = self.next_probe_at.min(last + STARVED_INTERVAL_US);
        }
        self.wanted.is_starved = is_starved;
    }

    /// Whether something is paused because it does not fit.
    pub fn is_starved(&self) -> bool {
        self.wanted.is_starved
    }

    /// Takes in the probes of which a feedback has told.
    pub(super) fn take_probes(&mut self, now: i64, signals: &Signals) {
        while let Some(result) = self.probes.result(now, self.told) {
            let before = self.rate.target();
            let is_used = signals.steady_bps.is_some_and(|bps| bps > LIMITED_BELOW * before);
            let result = self.promises.doubt(now, result, (before, is_used));
            if let Some((bps, purpose)) = self.rate.on_probe(&result, signals) {
                self.plan(bps, purpose);
            }
            let after = self.rate.target();
            self.promises.probed(now, (before, after));
            let found = after > before * 1.02;
            self.probe_interval =
                if found { PROBE_INTERVAL_US } else { (self.probe_interval * 5 / 4).min(MAX_PROBE_INTERVAL_US) };
        }
    }

    fn plan(&mut self, bps: f64, purpose: Purpose) {
        let highest = (self.wanted.bps * ABOVE_WANTED).min(self.max);
        let bps = bps.min(highest);
        let least = if purpose == Purpose::Verify { LEAST_STEP.0 } else { LEAST_STEP.1 };
        if bps > self.rate.target() * least {
            self.probes.plan(bps, purpose);
        }
    }

    pub(super) fn plan_when_due(&mut self, now: i64) {
        if !self.started {
            if self.wanted.bps > 0.0 {
                self.started = true;
                FIRST_PROBES.iter().for_each(|factor| self.plan(self.start * factor, Purpose::Start));
            }
            return;
        }
        if now < self.next_probe_at || self.probes.is_busy() {
            return;
        }
        if let Some(until) = self.others_probe_until().filter(|until| now < *until) {
            self.next_probe_at = until;
            return;
        }
        let calm = !self.silence.is_silent()
            && self.rate.is_calm(now)
            && self.delay.usage() != Usage::Over
            && self.is_calm_for_probes()
            && (now >= self.next_probe_at + PATIENCE_US
                || self.sending.waiting_us(now, self.rate.target()) < WAITING_US);
        if calm && self.feedback_at.is_some() {
            let step = if self.is_application_limited() { PROBE_STEP.1 } else { PROBE_STEP.0 };
            self.plan(self.rate.target() * step, Purpose::Search);
            // Several senders should not probe at the same time for ever.
            let spread = (now.wrapping_mul(0x9E37_79B9) >> 8 & 0xFF) * self.probe_interval / 1024;
            let interval = if self.wanted.is_starved { STARVED_INTERVAL_US } else { self.probe_interval };
            self.next_probe_at = now + interval - spread;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_wish_that_is_clearly_greater_is_another_one() {
        let mut wanted = Wanted::default();
        let more = [1e6, 1.1e6, 1.19e6, 0.9e6, 1.19e6, 1.21e6, 0.5e6, 0.7e6].map(|bps| wanted.set(bps));
        assert_eq!(more, [true, false, false, false, false, true, false, true]);
        assert_eq!(wanted.bps, 0.7e6);
    }
}
