//! How much is sent.

/// How long it is measured.
const SEND_WINDOW_US: i64 = 500_000;

/// What is sent, probes aside.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct SendRate {
    since: i64,
    bytes: u64,
    bps: f64,
}

impl SendRate {
    #[inline]
    pub(super) fn on_sent(&mut self, now: i64, bytes: usize) {
        self.advance(now);
        self.bytes += bytes as u64;
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
}
