//! How fast a client may send messages.

use std::time::Instant;

/// How many seconds' worth of messages may come at once.
const BURST_S: u32 = 10;

/// A token bucket: messages per second, with a burst.
#[derive(Debug)]
pub(super) struct Bucket {
    per_s: u32,
    tokens: f64,
    at: Instant,
}

impl Bucket {
    pub(super) fn new(now: Instant, per_s: u32) -> Self {
        Self { per_s, tokens: f64::from(per_s) * f64::from(BURST_S), at: now }
    }

    pub(super) fn take(&mut self, now: Instant) -> bool {
        let per_s = f64::from(self.per_s);
        let refill = now.saturating_duration_since(self.at).as_secs_f64() * per_s;
        self.tokens = (self.tokens + refill).min(per_s * f64::from(BURST_S));
        self.at = now;
        let allowed = self.tokens >= 1.0;
        if allowed {
            self.tokens -= 1.0;
        }
        allowed
    }
}
