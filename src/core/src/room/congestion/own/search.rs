//! The search for more than is told of.

use std::time::{Duration, Instant};

use super::{CONTENT, TRIAL};

/// What is tried where nothing can pad, relative to what is told.
const TRIED: f64 = 1.6;
/// Only who is told of so much more than is sent is tried: such estimates grow no further by themselves.
const TOLD_MORE: f64 = 1.35;
/// Who is sent so much more than before is in the middle of a trial.
const SENT_MORE: f64 = 1.25;
/// A trial after which so much more is told than before has found room, and there may be more.
const FOUND: f64 = 1.2;
/// An estimate that follows what comes is at most so many times what is sent.
const BY_ITSELF: f64 = 1.7;
/// A search that estimates have fallen in, to this part of the best, has found a queue.
const FALLEN: f64 = 0.9;
/// What has failed is more than this part of it carries.
const BELOW: f64 = 0.95;
/// Estimates that have not grown by this factor for so long do not count padding.
const GROWN: f64 = 1.02;
const PATIENCE: Duration = Duration::from_secs(4);
/// The rest after a search that found nothing: the first, and at most.
const REST: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(160));

/// What a search goes by.
#[derive(Clone, Copy, Debug)]
pub(super) struct Measured {
    /// All estimates together, in bit/s.
    pub told_bps: u64,
    /// What is sent of what they are of, in bit/s.
    pub sent_bps: f64,
    /// Padding is what more is sent with: otherwise it is more of what is wanted.
    pub is_padded: bool,
}

/// Looks for more room than is told of.
#[derive(Debug)]
pub(super) struct Search {
    stage: Stage,
    /// The next rest.
    rest: Duration,
    /// Since when all is sent, or when it was last, after something had been left out.
    content_since: Option<Instant>,
    /// The highest estimate since the search began, or since nothing has been left out.
    best_bps: u64,
}

#[derive(Clone, Copy, Debug)]
enum Stage {
    Idle,
    Running {
        /// When it began.
        began: Instant,
        /// What was told when more began to be sent, or is now, and what was sent when it began, in bit/s.
        from: u64,
        sent_bps: f64,
        /// The estimate that the next growth is measured from, with its time.
        mark: (u64, Instant),
    },
    /// More than this many bit/s is not believed: what estimates have fallen with has failed.
    Resting {
        until: Instant,
        ceiling_bps: u64,
    },
}

impl Default for Search {
    fn default() -> Self {
        Self { stage: Stage::Idle, rest: REST.0, content_since: None, best_bps: 0 }
    }
}

impl Search {
    /// One that goes on from another place, where it was resting for so much longer or not; the next rest takes `rest`.
    pub(super) fn resumed(now: Instant, rest: Duration, resting: Option<(Duration, u64)>) -> Self {
        let rested =
            |(left, ceiling_bps): (Duration, u64)| Stage::Resting { until: now + left.min(REST.1), ceiling_bps };
        Self { stage: resting.map_or(Stage::Idle, rested), rest: rest.clamp(REST.0, REST.1), ..Self::default() }
    }

    /// What of the estimates is believed, or of more than they tell tried, in bit/s.
    pub(super) fn believed_bps(&self, measured: Measured) -> u64 {
        let Measured { told_bps, sent_bps, is_padded } = measured;
        match self.stage {
            Stage::Running { from, .. } if !is_padded => told_bps.max((from as f64 * TRIED) as u64),
            // Who is told of more than any estimate grows to by itself has another path.
            Stage::Resting { ceiling_bps, .. } if told_bps as f64 <= BY_ITSELF * sent_bps => told_bps.min(ceiling_bps),
            _ => told_bps,
        }
    }

    /// All is sent from now on.
    pub(super) fn note_content(&mut self, now: Instant, measured: Measured) {
        (self.content_since, self.best_bps) = (Some(now), measured.told_bps);
    }

    /// Something is left out from now on that was sent.
    pub(super) fn note_want(&mut self, now: Instant, measured: Measured) {
        let is_new = self.content_since.is_some_and(|at| now.saturating_duration_since(at) < CONTENT);
        if !is_new {
            self.rest = REST.0;
        } else if self.has_fallen(measured) {
            self.give_up(now, measured);
        }
    }

    /// Begins while something is left out (`is_short`), and ends when that is over or nothing is found. True when padding has
    /// changed no estimate.
    pub(super) fn follow(&mut self, now: Instant, measured: Measured, is_short: bool) -> bool {
        let Measured { told_bps: told, sent_bps, is_padded } = measured;
        match self.stage {
            Stage::Idle if is_short && (is_padded || told as f64 >= TOLD_MORE * sent_bps) => {
                self.best_bps = told;
                self.stage = Stage::Running { began: now, from: told, sent_bps, mark: (told, now) };
            }
            Stage::Running { .. } if !is_short => self.stop(),
            Stage::Running { mark: (_, grew), .. } if is_padded && now >= grew + PATIENCE => {
                self.stop();
                return true;
            }
            // What was tried has come, and is told of: there may be more.
            Stage::Running { began, from, .. } if !is_padded && now >= began + TRIAL => {
                if told as f64 > from as f64 * FOUND {
                    self.stop();
                } else {
                    self.give_up(now, measured);
                }
            }
            Stage::Resting { until, .. } if now >= until => self.stop(),
            _ => {}
        }
        false
    }

    /// Takes in a new estimate.
    pub(super) fn judge(&mut self, now: Instant, measured: Measured) {
        let told = measured.told_bps;
        self.best_bps = self.best_bps.max(told);
        let has_fallen = self.has_fallen(measured);
        let Stage::Running { mark, from, sent_bps, .. } = &mut self.stage else { return };
        if measured.sent_bps < *sent_bps * SENT_MORE {
            *from = told.max(*from);
        }
        if told as f64 > mark.0 as f64 * GROWN {
            *mark = (told, now);
        }
        if has_fallen {
            self.give_up(now, measured);
        }
    }

    pub(super) fn stop(&mut self) {
        self.stage = Stage::Idle;
    }

    pub(super) fn is_running(&self) -> bool {
        matches!(self.stage, Stage::Running { .. })
    }

    /// Until when nothing is looked for.
    pub(super) fn rests_until(&self) -> Option<Instant> {
        self.resting().map(|(until, _)| until)
    }

    /// The same, with what is not believed meanwhile, in bit/s.
    pub(super) fn resting(&self) -> Option<(Instant, u64)> {
        match self.stage {
            Stage::Resting { until, ceiling_bps } => Some((until, ceiling_bps)),
            _ => None,
        }
    }

    /// How long the next rest is.
    pub(super) fn next_rest(&self) -> Duration {
        self.rest
    }

    fn has_fallen(&self, measured: Measured) -> bool {
        (measured.told_bps as f64) < self.best_bps as f64 * FALLEN
    }

    fn give_up(&mut self, now: Instant, measured: Measured) {
        let until = now + self.rest;
        let ceiling_bps = if self.has_fallen(measured) { (measured.sent_bps * BELOW) as u64 } else { u64::MAX };
        self.rest = (self.rest * 2).min(REST.1);
        self.stage = Stage::Resting { until, ceiling_bps };
    }
}
