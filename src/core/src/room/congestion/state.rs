//! A path that begins anew, or goes on from another place.

use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::own::{OwnEstimates, OwnState};
use super::{Congestion, Control};
use crate::bandwidth::{Estimator, Settings};

/// What goes on of a path. The numbers of packets do, so that the receiver sees no loss; what is still told of packets that
/// left elsewhere counts for nothing.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PathState {
    next_sequence: u16,
    /// The client gives transport-wide feedback, or is expected to.
    is_expected: bool,
    /// What the path carried, in bit/s, as feedback has told.
    estimate_bps: Option<u64>,
    /// What REMBs have told of it, while they count.
    own: Option<OwnState>,
}

impl Congestion {
    /// The client is somewhere else now, and nothing came through to where it was: what was known is of another path. The
    /// numbers go on, and what is still told of packets sent before counts for nothing.
    pub fn restart(&mut self, now: Instant) {
        // Nobody says when the next REMB comes: until then it is as before the first one.
        let Self { gives_feedback, next_sequence, .. } = *self;
        let is_expected = gives_feedback || self.starts_low();
        let control = if is_expected { Control::Expected(None) } else { Control::None };
        *self = Self { control, gives_feedback, next_sequence, ..Self::new(now) };
    }

    /// What goes on elsewhere.
    pub fn state(&self, now: Instant) -> PathState {
        let is_expected = self.gives_feedback || self.starts_low();
        let estimate_bps = self.has_feedback.then(|| self.estimator.stable_bps());
        let own = self.own.as_ref().map(|own| own.state(now));
        PathState { next_sequence: self.next_sequence, is_expected, estimate_bps, own }
    }

    /// The path to a client that was sent to from elsewhere until now: another port of this server's, and all else as it was.
    pub fn resumed(now: Instant, state: PathState) -> Self {
        let fresh = Self { next_sequence: state.next_sequence, ..Self::new(now) };
        let limits = Settings::default();
        if let Some(bps) = state.estimate_bps {
            let start_bps = bps.clamp(limits.min_bps, limits.max_bps);
            let estimator = Estimator::new(now, Settings { start_bps, ..limits });
            return Self { estimator, control: Control::Estimated, has_feedback: true, gives_feedback: true, ..fresh };
        }
        if let Some(own) = state.own {
            return fresh.with_own(now, OwnEstimates::resumed(now, own));
        }
        let control = if state.is_expected { Control::Expected(None) } else { Control::None };
        Self { control, ..fresh }
    }

    fn with_own(mut self, now: Instant, own: OwnEstimates) -> Self {
        self.estimator.on_remb(now, own.bps());
        (self.own, self.control) = (Some(Box::new(own)), Control::Estimated);
        self.pace(now);
        self
    }
}
