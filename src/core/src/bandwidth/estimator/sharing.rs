//! What an estimator tells of itself to those that may share its bottleneck, and what it makes of being told.

use std::time::Duration;

use super::Estimator;
use super::probing::ABOVE_WANTED;
use crate::bandwidth::sharing::{FlowView, Share};

/// No probe so soon after one of another flow: it would fill the same queue.
const PROBES_APART: Duration = Duration::from_secs(2);

impl Estimator {
    /// What may be told to flows through the same bottleneck.
    pub fn view(&self) -> FlowView {
        let at = |us: i64| self.epoch + Duration::from_micros(us.max(0) as u64);
        FlowView {
            queue: self.queue(),
            claim_bps: self.rate.claim(),
            least_bps: self.wanted.least_bps,
            wish_bps: self.wanted.bps * ABOVE_WANTED,
            is_growing: self.rate.is_growing(),
            probed: self.probes.last_at().map(at),
            misled_until: self.promises.misled_until().map(at),
        }
    }

    /// Takes in what is known of flows that share the bottleneck; `None`: of none.
    pub fn set_share(&mut self, share: Option<Share>) {
        self.rate.set_share(share);
        if let Some(until) = share.and_then(|share| share.misled_until) {
            self.promises.mislead_until(self.micros(until));
        }
    }

    /// What is known of those.
    pub fn share(&self) -> Option<&Share> {
        self.rate.share()
    }

    /// Until when a probe has to wait for those of others; not where something is paused, which comes back no later than alone.
    pub(super) fn others_probe_until(&self) -> Option<i64> {
        if self.wanted.is_starved {
            return None;
        }
        let probed = self.share().and_then(|share| share.probed)?;
        Some(self.micros(probed + PROBES_APART))
    }
}
