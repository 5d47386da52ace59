//! The target among those of other flows through the same bottleneck.

use super::{Phase, RateControl};
use crate::bandwidth::sharing::Share;

impl RateControl {
    pub(in crate::bandwidth) fn set_share(&mut self, share: Option<Share>) {
        self.share = share;
    }

    pub(in crate::bandwidth) fn share(&self) -> Option<&Share> {
        self.share.as_ref()
    }

    /// What the flow takes for its own: the target, or while a queue drains what it is to be then.
    pub(in crate::bandwidth) fn claim(&self) -> f64 {
        match self.phase {
            Phase::Drain { resume_bps, .. } => self.target.max(resume_bps),
            Phase::Grow => self.target,
        }
    }

    /// Takes from others through the same bottleneck, or gives to them: it carries as much as before, and nobody has to find out whether
    /// there is room.
    pub(super) fn exchange(&mut self, seconds: f64) {
        let Some(share) = self.share else { return };
        let to = (self.target + share.change_bps * seconds).clamp(self.min, self.max);
        // The link is as full as it was when it carries so much of this flow.
        self.link = self.link.map(|link| link * to / self.target);
        match to {
            to if to < self.target => self.lower(to),
            to if to > self.target => self.set(to),
            _ => {}
        }
    }
}
