//! How fast a client may send messages.

use std::time::Instant;

/// How many seconds' worth of messages may come at once.
const BURST_S: u32 = 10;

/// So many bytes count as one message more.
pub(super) const BYTES_PER_TOKEN: usize = 16 * 1024;

/// A token bucket: messages per second, with a burst; long ones count as several.
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

    pub(super) fn take(&mut self, now: Instant, bytes: usize) -> bool {
        let per_s = f64::from(self.per_s);
        let refill = now.saturating_duration_since(self.at).as_secs_f64() * per_s;
        self.tokens = (self.tokens + refill).min(per_s * f64::from(BURST_S));
        self.at = now;
        let allowed = self.tokens >= 1.0;
        if allowed {
            // What has come has come: a long one may take the bucket below zero, and the next ones wait for longer.
            self.tokens -= 1.0 + (bytes / BYTES_PER_TOKEN) as f64;
        }
        allowed
    }
}
