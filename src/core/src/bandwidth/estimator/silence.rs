//! Feedback that stops while packets are sent: the target is held for a moment, then halved again and again, so that
//! a dead link is not flooded. Back at once when it was the feedback that got lost and not what was sent.

use super::outage::Outages;

/// The target is held for this long, or three round trips if they are longer, up to [`MAX_HOLD_US`], and for that long before the first.
const HOLD_US: i64 = 500_000;
const MAX_HOLD_US: i64 = 1_500_000;
/// Or for so many times as long as feedback is waited for usually, up to [`MAX_RARE_HOLD_US`]: some receivers send it once a second.
const HOLD_PER_USUAL: i64 = 2;
const MAX_RARE_HOLD_US: i64 = 3_000_000;
/// Between halvings.
const STEP_US: i64 = 400_000;
const STEP: f64 = 0.5;
/// The target is restored to this part of what it was.
const RESTORE: f64 = 0.85;
/// After a longer silence the path may be another.
const RESTORE_WITHIN_US: i64 = 10_000_000;

/// Silence does not count when nothing has been sent for so long.
const IDLE_US: i64 = 300_000;

/// What to do about a silence.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Step {
    /// The target.
    pub(super) bps: f64,
    /// The silence is so long that nothing can be expected of the path any more. Before that only what is sent is held back, and
    /// nothing is paused: most silences are over soon, and the path is what it was.
    pub(super) is_for_good: bool,
}

/// The path after a silence.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum After {
    /// It is as good as before: the target to go back to.
    Same(f64),
    /// What was lost or how long it took says that it may be another.
    Another,
}

/// Watches for feedback.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Silence {
    /// What feedback tells of it afterwards.
    pub(super) outages: Outages,
    /// The first packet sent since the last feedback.
    waiting_since: Option<i64>,
    sent_at: i64,
    stepped_at: Option<i64>,
    /// Target before the first step, and when that was.
    before: Option<(f64, i64)>,
    /// Until the next feedback nothing is waited for.
    is_stopped: bool,
    /// How long feedback was waited for lately, and was not late; `None` before the first.
    usual: Option<i64>,
}

impl Silence {
    #[inline]
    pub(super) fn on_sent(&mut self, now: i64) {
        self.sent_at = now;
        if self.waiting_since.is_none() && !self.is_stopped {
            self.waiting_since = Some(now);
        }
    }

    /// Feedback came. Returns how the path is after a silence for which the target was lowered.
    pub(super) fn on_feedback(&mut self, now: i64, lost_much: bool) -> Option<After> {
        let waited = self.waiting_since.map_or(0, |since| now - since);
        if waited <= MAX_RARE_HOLD_US {
            self.usual = Some(self.usual.map_or(waited, |usual| usual + (waited - usual) / 4));
        }
        (self.waiting_since, self.stepped_at, self.is_stopped) = (None, None, false);
        let (bps, at) = self.before.take()?;
        let is_same = !lost_much && now - at < RESTORE_WITHIN_US;
        Some(if is_same { After::Same(bps * RESTORE) } else { After::Another })
    }

    /// The step to take now.
    pub(super) fn poll(&mut self, now: i64, rtt_us: i64, target: f64) -> Option<Step> {
        if self.due(rtt_us)? > now {
            return None;
        }
        let (_, since) = *self.before.get_or_insert((target, now));
        self.stepped_at = Some(now);
        Some(Step { bps: target * STEP, is_for_good: now - since >= RESTORE_WITHIN_US })
    }

    /// When the next step is due, in microseconds; `None` while nothing is sent that feedback could tell of.
    pub(super) fn due(&self, rtt_us: i64) -> Option<i64> {
        let rare = self.usual.map_or(MAX_HOLD_US, |usual| (HOLD_PER_USUAL * usual).min(MAX_RARE_HOLD_US));
        let hold = (3 * rtt_us).clamp(HOLD_US, MAX_HOLD_US).max(rare);
        let at = self.stepped_at.map_or(self.waiting_since? + hold, |at| at + STEP_US);
        (at <= self.sent_at + IDLE_US).then_some(at)
    }

    /// Stops waiting until feedback comes: the receiver says otherwise how its path is.
    pub(super) fn stop(&mut self) {
        *self = Self { is_stopped: true, ..Self::default() };
    }

    pub(super) fn is_silent(&self) -> bool {
        self.stepped_at.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feedback once a second: the first target was halved twice before the first of it, and the first probes were given up.
    #[test]
    fn the_first_feedback_is_waited_for_longer_and_later_ones_for_twice_as_long_as_usual() {
        let rtt = 50_000;
        for (waited, expected) in [(None, 1_500_000), (Some(50_000), 500_000), (Some(1_000_000), 2_000_000)] {
            let mut silence = Silence::default();
            if let Some(waited) = waited {
                silence.on_sent(0);
                silence.on_feedback(waited, false);
            }
            silence.on_sent(5_000_000);
            silence.sent_at = 10_000_000;
            assert_eq!(silence.due(rtt).map(|at| at - 5_000_000), Some(expected), "{waited:?}");
        }
    }
}
