//! How long what comes waits for others, when there is little time ([`super::load::Load::coalescing`]).

use std::time::{Duration, Instant};

/// What may come in a pause, in per cent of the receive buffer: the rest is for bursts, such as key frames.
const MOST_FILL: u32 = 25;

/// The pauses between ticks.
#[derive(Clone, Debug)]
pub struct Pauses {
    began: Instant,
    /// What the receive buffer has room for.
    longest: Duration,
}

impl Pauses {
    /// The first tick begins at `now`.
    pub fn new(now: Instant) -> Self {
        Self { began: now, longest: Duration::MAX }
    }

    /// A tick begins at `now`; so many per cent of the receive buffer have been filled since the last one began.
    pub fn begin(&mut self, now: Instant, fill: u8) {
        let passed = now.saturating_duration_since(std::mem::replace(&mut self.began, now));
        self.longest = (passed * MOST_FILL).checked_div(fill.into()).unwrap_or(Duration::MAX);
    }

    /// When the next tick is to begin of a core that asks for `wanted`.
    pub fn next(&self, wanted: Duration) -> Instant {
        self.began + wanted.min(self.longest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_is_as_long_as_asked_for_and_ends_before_the_buffer_is_full() {
        let ms = Duration::from_millis;
        let start = Instant::now();
        let mut pauses = Pauses::new(start);
        assert_eq!(pauses.next(ms(20)), start + ms(20));
        for (passed, fill, expected) in [(20, 10, 20), (20, 25, 20), (20, 50, 10), (8, 100, 2), (10, 0, 20)] {
            let began = pauses.began + ms(passed);
            pauses.begin(began, fill);
            assert_eq!(pauses.next(ms(20)) - began, ms(expected), "{fill} % in {passed} ms");
        }
    }
}
