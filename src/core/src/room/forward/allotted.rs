//! What the allocation keeps with a forward.

use std::time::{Duration, Instant};

use crate::room::cap::Room;
use moonring_wire::media::PauseReason;

/// What the allocation has decided on a forward.
#[derive(Clone, Copy, Debug, Default)]
pub struct Allotted {
    /// Nothing is sent: it does not fit, or the client does not show it.
    pub paused: Option<PauseReason>,
    /// When its layer was last changed, unless somebody has changed its limits since.
    pub changed: Option<Instant>,
    /// Since when not even its lowest layer fits.
    pub tight: Option<Instant>,
    /// Since when the layer that is sent has not fit.
    pub squeezed: Option<Instant>,
    /// The size at which the client shows it, in pixels; `None` until it says.
    pub view: Option<(u32, u32)>,
    /// What the path has room for of a single encoding; `None` while that is not known.
    pub room: Option<Room>,
    /// What of it the path has shown in a rehearsal to carry, in bit/s, and when.
    pub shown: Option<(Instant, u64)>,
}

impl Allotted {
    /// Whether its layer has not changed for so long, or its limits have changed since.
    pub fn has_rested(&self, now: Instant, interval: Duration) -> bool {
        self.changed.is_none_or(|at| now.saturating_duration_since(at) >= interval)
    }
}
