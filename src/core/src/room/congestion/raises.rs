//! What a path is to carry more of is rehearsed first.

use std::time::{Duration, Instant};

use super::Congestion;

impl Congestion {
    /// Whether layers that take `bps` together may be sent instead of lower ones, that take `before`. If that is more
    /// than the path has carried of late, it is rehearsed first, and the answer is yes some tenths of a second later. Where
    /// it is not known what the lower ones take, the rehearsal begins with what has been sent, once that is.
    pub fn may_raise_to(&mut self, now: Instant, bps: u64, before: Option<u64>) -> bool {
        // Without transport-wide feedback nothing would tell how it went.
        if !self.has_feedback {
            return true;
        }
        if !self.estimator.is_probed() {
            return self.estimator.is_calm();
        }
        // What a rehearsal adds counts when it is over.
        let carried = self.estimator.has_carried(now, bps);
        // While a probe is under way the answer may be another in a moment.
        let is_calm = self.running.is_none() && self.estimator.is_calm() && !self.estimator.is_starved();
        let before = before.or_else(|| self.estimator.sent_bps());
        self.rehearsals.bucket = self.estimator.bucket_bytes(now);
        self.rehearsals.is_new = self.is_new(now);
        let was_running = self.rehearsals.is_running();
        let may =
            (carried && is_calm) || before.is_some_and(|before| self.rehearsals.may_send(now, bps, before, is_calm));
        if !was_running && self.rehearsals.is_running() {
            self.estimator.rehearsal_begins(now);
        }
        may
    }

    /// The same for a stream that its publisher makes larger, little by little, and for what did not stay when it was tried last.
    pub fn may_grow_to(&mut self, now: Instant, bps: u64, before: Option<u64>) -> bool {
        self.rehearsals.is_thorough = true;
        let may = self.may_raise_to(now, bps, before);
        self.rehearsals.is_thorough = false;
        may
    }

    /// What all that is sent together may take, as a rehearsal has shown of late, in bit/s.
    pub fn rehearsed_bps(&self, now: Instant) -> Option<u64> {
        self.rehearsals.passed_bps(now)
    }

    /// How long it takes until [`Self::may_raise_to`] says yes, if the path carries that much.
    pub fn rehearsal_time(&self, now: Instant, bps: u64, before: Option<u64>) -> Duration {
        let before = before.or_else(|| self.estimator.sent_bps());
        self.rehearsals.time_for(now, bps, before.unwrap_or_default())
    }
}
