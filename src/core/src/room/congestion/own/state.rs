//! What goes on of a receiver's estimates at another place.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::listed::Listed;
use super::search::Search;
use super::{Estimate, OwnEstimates, Sent};

/// Streams that are named in what goes on; each takes up to five bytes of a moving client's state.
const MAX_NAMES: usize = 1_024;

/// What is told, and what has failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in super::super) struct OwnState {
    told: Vec<Estimate>,
    is_padding_unheard: bool,
    next_rest: Duration,
    /// How long nothing more is looked for, and what is not believed meanwhile, in bit/s.
    resting: Option<(Duration, u64)>,
    /// Bit/s.
    sent_bps: u64,
}

impl OwnEstimates {
    /// What goes on of them: of the estimates the newest.
    pub(in super::super) fn state(&self, now: Instant) -> OwnState {
        let mut names = 0;
        let mut told: Vec<_> = self.listed.estimates().rev().cloned().collect();
        told.retain(|estimate| {
            names += estimate.streams.len();
            names <= MAX_NAMES
        });
        told.reverse();
        OwnState {
            told,
            is_padding_unheard: self.padding.is_unheard(),
            next_rest: self.search.next_rest(),
            resting: self.search.resting().map(|(until, bps)| (until.saturating_duration_since(now), bps)),
            sent_bps: self.sent.bps as u64,
        }
    }

    /// Goes on with them; what was being tried begins anew.
    pub(in super::super) fn resumed(now: Instant, state: OwnState) -> Self {
        let fresh = Self::new(now);
        let mut own = Self {
            listed: Listed::resumed(now, state.told),
            search: Search::resumed(now, state.next_rest, state.resting),
            sent: Sent { bps: state.sent_bps as f64, ..fresh.sent },
            ..fresh
        };
        if state.is_padding_unheard {
            own.padding.give_up();
        }
        own
    }
}
