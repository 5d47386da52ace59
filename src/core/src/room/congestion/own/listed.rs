//! The estimates that count, and which way they go.

use std::time::Instant;

use moonring_wire::id::Ssrc;

use super::{Estimate, LIFE};

/// Estimates of different streams that are kept.
pub(super) const MAX_ESTIMATES: usize = 64;
/// An estimate that has risen by this factor since it fell last, to less than this part of what it was, is of a path without a queue.
const RISEN: f64 = 1.15;
const LOWER: f64 = 0.98;

/// What is told.
#[derive(Debug)]
pub(super) struct Listed {
    told: Vec<(Instant, Estimate)>,
    covers_sound: bool,
    /// All of them together after the last one, and the lowest since that fell last, in bit/s.
    last: u64,
    low: u64,
}

impl Default for Listed {
    fn default() -> Self {
        Self { told: Vec::new(), covers_sound: true, last: 0, low: 0 }
    }
}

impl Listed {
    /// Takes in an estimate, in the place of what the same estimator has told of one of its streams. True when less is told now.
    pub(super) fn take_in(&mut self, now: Instant, estimate: Estimate) -> bool {
        let is_of_all = |of: &Estimate| of.streams.is_empty();
        let is_of_others = |of: &Estimate| !of.streams.iter().any(|stream| estimate.streams.contains(stream));
        // Of one sender no stream is kept twice, so that all that are compared are no more than the client's.
        let stays = |of: &Estimate| {
            !is_of_all(&estimate) && !is_of_all(of) && (of.sender != estimate.sender || is_of_others(of))
        };
        let before = self.told.len();
        self.told.retain(|(_, of)| stays(of));
        if self.told.len() == before {
            // One of another stream: more is told of, and nothing has risen.
            self.low = u64::MAX;
        }
        if self.told.len() < MAX_ESTIMATES {
            self.told.push((now, estimate));
        }
        self.covers_sound = self.told.iter().any(|(_, estimate)| estimate.covers_sound);
        let told = self.bps();
        let has_fallen = (told as f64) < self.last as f64 * LOWER;
        self.low = if has_fallen { told } else { self.low.min(told) };
        self.last = told;
        has_fallen
    }

    /// Begins with what nobody has told.
    pub(super) fn begin_with(&mut self, now: Instant, bps: u64) {
        (self.last, self.low) = (0, u64::MAX);
        let estimate = Estimate { sender: Ssrc(0), bps, streams: Vec::new(), covers_sound: self.covers_sound };
        self.told.push((now, estimate));
    }

    /// Goes on with what was told at another place.
    pub(super) fn resumed(now: Instant, told: Vec<Estimate>) -> Self {
        let mut listed = Self::default();
        told.into_iter().for_each(|estimate| _ = listed.take_in(now, estimate));
        listed
    }

    /// Forgets what is old.
    pub(super) fn expire(&mut self, now: Instant) {
        self.told.retain(|(at, _)| now.saturating_duration_since(*at) < LIFE);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.told.is_empty()
    }

    /// What counts, the newest last.
    pub(super) fn estimates(&self) -> impl DoubleEndedIterator<Item = &Estimate> {
        self.told.iter().map(|(_, estimate)| estimate)
    }

    /// All of them together, in bit/s.
    pub(super) fn bps(&self) -> u64 {
        self.estimates().fold(0, |sum: u64, estimate| sum.saturating_add(estimate.bps))
    }

    /// True where sound is part of what is told of.
    pub(super) fn covers_sound(&self) -> bool {
        self.covers_sound
    }

    /// True where they have only risen of late.
    pub(super) fn is_rising(&self) -> bool {
        self.low > 0 && self.bps() as f64 >= RISEN * self.low as f64
    }
}
