//! A path on which nothing can be sent but media: no probe tells whether it carries more. Its target may be further ahead of
//! what is sent, so that a higher layer is tried, and it grows with time while nothing fits, as nothing would ever be heard.

use std::time::Instant;

use super::Estimator;

/// How often the target grows while nothing is heard.
pub(super) const GROWTH_INTERVAL_US: i64 = 200_000;

impl Estimator {
    /// Says whether anything but media can be sent: probes, and what keeps feedback coming. It can by default.
    pub fn set_probed(&mut self, now: Instant, is_probed: bool) {
        if is_probed != self.is_probed() {
            self.unprobed = (!is_probed).then(|| self.micros(now));
            self.rate.set_probed(is_probed);
            self.probes.cancel();
        }
    }

    /// Whether anything but media can be sent.
    pub fn is_probed(&self) -> bool {
        self.unprobed.is_none()
    }

    /// Lets the target of such a path grow while nothing fits into it; false for a path that is probed.
    pub(super) fn grow_unprobed(&mut self, now: i64) -> bool {
        let rtt_us = self.rtt_us();
        let Some(until) = self.unprobed.as_mut() else { return false };
        let seconds = (now - std::mem::replace(until, now)).clamp(0, 1_000_000) as f64 / 1e6;
        // While something is sent of which nothing is heard, there may be nobody.
        if self.wanted.is_starved && self.silence.due(rtt_us).is_none() {
            self.rate.grow_unheard(seconds, self.wanted.bps);
        }
        true
    }
}
