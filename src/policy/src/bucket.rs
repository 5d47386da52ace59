//! A share of CPU time as a token bucket.

use std::time::{Duration, Instant};

/// CPU time as tokens: its owner earns a share of the passing time, up to a burst, and pays for its hooks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CpuBucket {
    share: f64,
    burst: f64,
    /// Nanoseconds of CPU; below zero after a hook that took more than was there.
    level: f64,
    since: Instant,
}

impl CpuBucket {
    /// A full bucket. A share of 0 is no limit.
    pub(crate) fn new(share: f64, burst: Duration, now: Instant) -> Self {
        let burst = nanoseconds(burst);
        Self { share, burst, level: burst, since: now }
    }

    /// When the next hook may run: `now`, if there is something in the bucket.
    pub(crate) fn ready_at(&mut self, now: Instant) -> Instant {
        if self.since < now {
            let passed = nanoseconds(now.saturating_duration_since(self.since));
            self.since = now;
            self.level = (self.level + passed * self.share).min(self.burst);
        }
        if self.level > 0.0 || self.share <= 0.0 {
            return now;
        }
        // A little more than nothing, so that rounding does not ask for the same moment again.
        now + Duration::from_secs_f64(((1e3 - self.level) / self.share / 1e9).min(3600.0))
    }

    pub(crate) fn pay(&mut self, cpu: Duration) {
        self.level -= nanoseconds(cpu);
    }
}

/// Without a division, unlike `as_secs_f64`: this runs for each hook.
fn nanoseconds(time: Duration) -> f64 {
    time.as_secs() as f64 * 1e9 + f64::from(time.subsec_nanos())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_room_that_used_its_burst_waits_for_its_share() {
        let start = Instant::now();
        let mut bucket = CpuBucket::new(0.02, Duration::from_millis(20), start);
        assert_eq!(bucket.ready_at(start), start);
        bucket.pay(Duration::from_millis(21));
        let ready = bucket.ready_at(start);
        assert_eq!((ready - start).as_millis(), 50, "1 ms at 2 %");
        assert_eq!(bucket.ready_at(ready), ready);
    }
}
