//! What a target is made of.

use crate::bandwidth::delay::Usage;

/// Noise beyond this is the path's: the delays of packets that must not overtake each other stay above the shortest one for
/// as long as a queue is looked for, which is taken for a queue of some times the noise.
const MUCH_NOISE_US: i64 = 4_000;

/// What the observers say after a feedback. Times in microseconds, rates in bit/s.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::bandwidth) struct Signals {
    pub(in crate::bandwidth) now: i64,
    /// The worst that any group of this feedback showed.
    pub(in crate::bandwidth) usage: Usage,
    pub(in crate::bandwidth) queue_us: i64,
    pub(in crate::bandwidth) jitter_us: i64,
    pub(in crate::bandwidth) rtt_us: i64,
    /// Arrived in the last 150 ms.
    pub(in crate::bandwidth) recent_bps: Option<f64>,
    /// Arrived in the last 500 ms.
    pub(in crate::bandwidth) steady_bps: Option<f64>,
    /// The part that is lost, if that is too much.
    pub(in crate::bandwidth) too_much_lost: Option<f64>,
    /// The part that is lost.
    pub(in crate::bandwidth) loss: f64,
}

impl Signals {
    /// What is added to the tolerated queue for the noise of its measurement.
    pub(super) fn slack_us(&self) -> i64 {
        self.jitter_us * 2 / 3 + 2 * (self.jitter_us - MUCH_NOISE_US).max(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_delays_packets_by_chance_may_seem_to_have_a_longer_queue() {
        for (jitter_us, expected) in [(0, 0), (3_000, 2_000), (4_500, 4_000), (6_000, 8_000), (9_000, 16_000)] {
            assert_eq!(Signals { jitter_us, ..Signals::default() }.slack_us(), expected, "{jitter_us}");
        }
    }
}
