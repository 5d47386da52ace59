//! What the rate control is told.

use crate::bandwidth::delay::Usage;

/// What the observers say after a feedback. Times in microseconds, rates in bit/s.
#[derive(Clone, Copy, Debug)]
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
        self.jitter_us * 2 / 3
    }
}
