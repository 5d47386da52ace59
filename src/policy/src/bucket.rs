//! How much of its shard a room's script may take for long, and how often it may fail.

use std::time::{Duration, Instant};

use super::settings::{PolicySettings, STRIKE_WINDOW};

/// CPU time as tokens: a room earns its share of the passing time, up to a burst, and pays for its hooks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CpuBucket {
    share: f64,
    burst: f64,
    /// Seconds of CPU; below zero after a hook that took more than was there.
    level: f64,
    since: Instant,
}

impl CpuBucket {
    pub(crate) fn new(settings: &PolicySettings, now: Instant) -> Self {
        let burst = settings.cpu_burst.as_secs_f64();
        Self { share: settings.cpu_share, burst, level: burst, since: now }
    }

    /// When the room may run its next hook: `now`, if there is something in the bucket.
    pub(crate) fn ready_at(&mut self, now: Instant) -> Instant {
        let passed = now.saturating_duration_since(self.since).as_secs_f64();
        self.since = self.since.max(now);
        self.level = (self.level + passed * self.share).min(self.burst);
        if self.level > 0.0 || self.share <= 0.0 {
            return now;
        }
        // A little more than nothing, so that rounding does not ask for the same moment again.
        now + Duration::from_secs_f64(((1e-6 - self.level) / self.share).min(3600.0))
    }

    pub(crate) fn pay(&mut self, cpu: Duration) {
        self.level -= cpu.as_secs_f64();
    }
}

/// Failures within the last minute or so.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Strikes {
    limit: u32,
    count: u32,
    since: Instant,
}

impl Strikes {
    pub(crate) fn new(settings: &PolicySettings, now: Instant) -> Self {
        Self { limit: settings.strikes, count: 0, since: now }
    }

    /// Adds strikes; true when it is enough.
    pub(crate) fn add(&mut self, now: Instant, strikes: u32) -> bool {
        if now.saturating_duration_since(self.since) >= STRIKE_WINDOW {
            (self.count, self.since) = (0, now);
        }
        self.count = self.count.saturating_add(strikes);
        self.limit > 0 && self.count >= self.limit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_room_that_used_its_burst_waits_for_its_share() {
        let start = Instant::now();
        let mut bucket = CpuBucket::new(&PolicySettings::default(), start);
        assert_eq!(bucket.ready_at(start), start);
        bucket.pay(Duration::from_millis(21));
        let ready = bucket.ready_at(start);
        assert_eq!((ready - start).as_millis(), 50, "1 ms at 2 %");
        assert_eq!(bucket.ready_at(ready), ready);
    }

    #[test]
    fn strikes_of_one_minute_do_not_count_in_the_next() {
        let start = Instant::now();
        let mut strikes = Strikes::new(&PolicySettings { strikes: 3, ..Default::default() }, start);
        assert!(!strikes.add(start, 2));
        assert!(!strikes.add(start + STRIKE_WINDOW, 2));
        assert!(strikes.add(start + STRIKE_WINDOW, 1));
    }
}
