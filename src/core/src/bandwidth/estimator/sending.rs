//! How much is sent.

use super::Estimator;

/// How long it is measured.
const SEND_WINDOW_US: i64 = 500_000;
/// The path is taken to carry this many times what is sent all the time, if that is more than the target: the target is wrong.
const USUAL: f64 = 1.25;

/// What is sent, probes aside.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct SendRate {
    since: i64,
    bytes: u64,
    bps: f64,
    /// What of it a path that carries the target, or what is usual, has not carried yet, in bytes at `at`.
    ahead: f64,
    at: i64,
}

impl SendRate {
    #[inline]
    pub(super) fn on_sent(&mut self, now: i64, bytes: usize, target_bps: f64) {
        self.advance(now);
        self.bytes += bytes as u64;
        self.ahead = self.ahead_at(now, target_bps) + bytes as f64;
        self.at = now;
    }

    pub(super) fn advance(&mut self, now: i64) {
        let passed = now - self.since;
        if passed >= SEND_WINDOW_US {
            self.bps = self.bytes as f64 * 8e6 / passed as f64;
            (self.since, self.bytes) = (now, 0);
        }
    }

    /// Bit/s over the last window.
    pub(super) fn bps(&self) -> f64 {
        self.bps
    }

    /// How long a path takes for what is sent beyond that: a key frame is on its way. In microseconds.
    pub(super) fn waiting_us(&self, now: i64, target_bps: f64) -> f64 {
        self.ahead_at(now, target_bps) / self.carried(target_bps)
    }

    fn ahead_at(&self, now: i64, target_bps: f64) -> f64 {
        (self.ahead - (now - self.at) as f64 * self.carried(target_bps)).max(0.0)
    }

    /// Bytes in a microsecond.
    fn carried(&self, target_bps: f64) -> f64 {
        target_bps.max(USUAL * self.bps) / 8e6
    }
}

impl Estimator {
    /// What has been sent over the last half a second, probes aside, in bit/s; `None` while nothing is known of that.
    pub fn sent_bps(&self) -> Option<u64> {
        Some(self.sending.bps() as u64).filter(|bps| *bps > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sent_at_once_waits_as_long_as_the_target_takes_for_it() {
        let mut sending = SendRate::default();
        for (at, bytes, expected_us) in
            [(0, 7_500, 100_000), (50_000, 0, 50_000), (50_000, 1_500, 70_000), (200_000, 0, 0)]
        {
            sending.on_sent(at, bytes, 600_000.0);
            assert_eq!(sending.waiting_us(at, 600_000.0) as i64, expected_us, "{at} {bytes}");
        }
    }

    #[test]
    fn what_is_sent_beyond_the_target_all_the_time_does_not_wait() {
        let mut sending = SendRate::default();
        for at in (0..3_000_000).step_by(10_000) {
            sending.on_sent(at, 1_000, 400_000.0);
        }
        assert!(sending.waiting_us(3_000_000, 400_000.0) < 10_000.0);
    }
}
