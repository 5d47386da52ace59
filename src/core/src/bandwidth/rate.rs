//! The target: up while nothing speaks against it, down to what got through when a queue grows (additive increase and
//! multiplicative decrease, with a memory of what the link carried).

use super::delay::Usage;
use super::probe::{ProbeResult, Purpose};
use super::sharing::Share;

mod sharing;
mod signals;

pub(super) use signals::Signals;

/// Decrease: the target while the queue drains, as a part of what arrived. A longer queue drains faster.
const DRAIN: (f64, f64) = (0.55, 0.88);
/// A queue of this length is drained at the lowest rate.
const LONG_QUEUE_US: f64 = 300_000.0;
/// The target after draining, as a part of what arrived when the queue grew: the lower the farther the queue is beyond
/// what is tolerated.
const RESUME: (f64, f64) = (0.91, 0.97);
/// A probe that got through less than this part of the target proves it wrong.
const SHOWN_LESS: f64 = 0.9;
/// A target is used if so much of it arrives.
const USED: f64 = 0.8;
/// A probe beyond this factor of what the link carried says that it is another link by now.
const NEWS: f64 = 1.4;
/// Nothing is familiar to a newcomer: that lets it find its place among others.
const SETTLED_US: i64 = 8_000_000;
/// The most that the target rises by in one step otherwise.
const FAMILIAR_STEP: f64 = 1.08;
/// No probe so soon after a decrease.
const CALM_US: i64 = 1_000_000;
/// The target while the queue drains that a probe left behind.
const AFTER_PROBE: f64 = 0.8;
/// Draining ends after this many round trips, even if the queue is still there: it is somebody else's.
const DRAIN_ROUND_TRIPS: i64 = 3;
/// Growth far from the rate at which the link was full, per second.
const FAR_GROWTH: f64 = 0.098;
/// Growth gets faster with every second without a decrease, as H-TCP's does: what the others gave way for is to be
/// taken, and the smaller flow is the one that gives way less often.
const FASTER_PER_SECOND: f64 = 0.3;
const FASTER_AFTER_US: i64 = 1_500_000;
const FASTEST: f64 = 4.0;
/// Growth slows down as the queue comes up to what is tolerated, to no less than this part.
const LEAST_ROOM: f64 = 0.3;
/// Growth near it, per second, of a rate of 1 Mbit/s; it goes with the square root of the rate, so that the smaller of
/// two flows catches up, and neither takes minutes to find out.
const NEAR_GROWTH_BPS: f64 = 60_000.0;
/// The queue that a flow of 1 Mbit/s tolerates. It falls with the rate, as the target delay of Swift (SIGCOMM 2020)
/// does: all flows through a bottleneck see the same queue, the largest gives way first, and the others do not have to
/// any more. That is what makes them fair.
const TOLERATED_QUEUE_US: f64 = 25_000.0;
const TOLERATED_POWER: f64 = -0.7;
const TOLERATED_RANGE_US: (f64, f64) = (3_500.0, 80_000.0);
/// A probe may leave this times the tolerated queue before others than the probe are to blame.
const PROBE_QUEUE: i64 = 3;
/// A queue this much shorter than the tolerated one is drained.
const DRAINED: i64 = 8;
/// A queue longer than the tolerated one for so long is overuse even if it does not grow.
const PERSISTENT_US: i64 = 200_000;
/// And for this many times the noise of its measurement.
const PERSISTENT_PER_NOISE: i64 = 40;
/// A queue that stayed for so long, although the target fell to this part of what it was, is not ours.
const PATIENCE_US: i64 = 3_000_000;
const YIELDED: f64 = 0.35;
/// Loss is answered by this much more than what was lost.
const LOSS_MARGIN: f64 = 0.97;
/// How long the target is held then, besides a round trip: until the loss is known that is left.
const LOSS_HOLD_US: i64 = 1_300_000;
/// What is this close to the rate at which the link was full is the same; what is farther off is another link.
const LINK_RANGE: f64 = 0.15;
/// Weight of a new observation of it.
const LINK_WEIGHT: f64 = 0.3;
/// The target does not grow beyond this factor of what is used of it (plus 10 kbit/s): nothing speaks for more. Where nothing
/// can be sent but media, a step up to the next layer is all that can tell.
const AHEAD: f64 = 1.2;
const AHEAD_UNPROBED: f64 = 5.0;
const AHEAD_BPS: f64 = 10_000.0;

/// What the rate control wants its caller to do.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Wishes {
    /// The standing queue is to be taken for the empty path.
    pub(super) accept_queue: bool,
    /// The target has been lowered, as a queue of its own has grown.
    pub(super) decreased: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Phase {
    Grow,
    Drain {
        until: i64,
        resume_bps: f64,
        /// The queue when draining began.
        queue_us: i64,
        /// It was a probe that left the queue.
        probe: bool,
    },
}

fn drain_until(signals: &Signals) -> i64 {
    signals.now + (signals.rtt_us * DRAIN_ROUND_TRIPS).clamp(300_000, 2_000_000)
}

/// Holds the target.
#[derive(Clone, Debug)]
pub(super) struct RateControl {
    target: f64,
    stable: f64,
    min: f64,
    max: f64,
    /// How far ahead of what is used of it the target may be.
    ahead: f64,
    /// The rate at which the link was full, over the last times.
    link: Option<f64>,
    phase: Phase,
    began_at: i64,
    changed_at: i64,
    decreased_at: i64,
    /// No growth before, so that the effect of a cut for loss can be seen.
    hold_until: i64,
    /// Since when the queue has been longer than tolerated.
    standing_since: Option<i64>,
    /// Since when decreases have not brought the queue down, and the target before them.
    in_vain: Option<(i64, f64)>,
    /// Of flows through the same bottleneck.
    share: Option<Share>,
}

impl RateControl {
    pub(super) fn new(now: i64, start: f64, min: f64, max: f64) -> Self {
        Self {
            target: start,
            stable: start,
            min,
            max,
            ahead: AHEAD,
            link: None,
            phase: Phase::Grow,
            began_at: now,
            changed_at: now,
            decreased_at: now - 10_000_000,
            hold_until: now,
            standing_since: None,
            in_vain: None,
            share: None,
        }
    }

    pub(super) fn target(&self) -> f64 {
        self.target
    }

    pub(super) fn stable(&self) -> f64 {
        self.stable
    }

    /// True when no queue is being drained: what is lost is not lost in our own.
    pub(super) fn is_growing(&self) -> bool {
        self.phase == Phase::Grow
    }

    /// True when nothing was wrong for a while, and a probe disturbs nothing.
    pub(super) fn is_calm(&self, now: i64) -> bool {
        self.phase == Phase::Grow && now > self.hold_until && now - self.decreased_at > CALM_US
    }

    /// Ends draining that took too long. Feedback does that as well, but there is none when nothing fits any more.
    pub(super) fn advance(&mut self, now: i64) {
        if let Phase::Drain { until, resume_bps, .. } = self.phase
            && now > until
        {
            self.phase = Phase::Grow;
            self.set(self.target.max(resume_bps));
        }
    }

    /// Whether probes can be sent.
    pub(super) fn set_probed(&mut self, is_probed: bool) {
        self.ahead = if is_probed { AHEAD } else { AHEAD_UNPROBED };
    }

    /// Grows although nothing is heard, up to `most`: nothing is sent that could be heard of, as nothing fits.
    pub(super) fn grow_unheard(&mut self, seconds: f64, most: f64) {
        if self.phase == Phase::Grow && self.target < most {
            self.set((self.target * (1.0 + FAR_GROWTH * seconds)).min(most));
        }
    }

    /// Makes a new target after a feedback.
    pub(super) fn on_report(&mut self, signals: &Signals) -> Wishes {
        let mut wishes = Wishes::default();
        let tolerated = self.tolerated_us(signals);
        let over = signals.usage == Usage::Over && signals.queue_us > tolerated * 3 / 4;
        let standing = self.is_standing(signals);
        if (over || standing) && self.may_decrease(signals, tolerated) {
            let (since, from) = *self.in_vain.get_or_insert((signals.now, self.target));
            if signals.now - since > PATIENCE_US && self.target <= (YIELDED * from).max(self.min) {
                self.in_vain = None;
                wishes.accept_queue = true;
            } else {
                self.decrease(signals);
                wishes.decreased = true;
            }
        } else if let Phase::Drain { until, resume_bps, .. } = self.phase {
            self.changed_at = signals.now;
            let drained = signals.queue_us <= tolerated / DRAINED + signals.slack_us();
            if drained || signals.now > until {
                self.phase = Phase::Grow;
                self.set(self.target.max(resume_bps));
            }
        } else {
            self.grow(signals);
        }
        // What a queue that is being drained has lost is answered already, by what arrived.
        if let Some(lost) = signals.too_much_lost.filter(|_| self.is_growing()) {
            self.lower(self.target * (1.0 - lost) * LOSS_MARGIN);
            self.decreased_at = signals.now;
            self.hold_until = signals.now + LOSS_HOLD_US + signals.rtt_us.min(1_000_000);
        }
        wishes
    }

    /// Once a round trip, and not while what was done last is working.
    fn may_decrease(&self, signals: &Signals, tolerated: i64) -> bool {
        let waited = signals.now - self.decreased_at > signals.rtt_us.min(1_000_000) + 100_000;
        waited
            && match self.phase {
                Phase::Grow => true,
                Phase::Drain { probe: true, .. } => signals.queue_us > PROBE_QUEUE * tolerated,
                Phase::Drain { queue_us, .. } => signals.queue_us > queue_us - queue_us / 8,
            }
    }

    /// The queue that is tolerated at this rate, in microseconds.
    fn tolerated_us(&self, signals: &Signals) -> i64 {
        self.tolerated_queue_us() as i64 + signals.slack_us()
    }

    /// The same without what the noise of its measurement adds.
    pub(super) fn tolerated_queue_us(&self) -> f64 {
        let queue = TOLERATED_QUEUE_US * (self.target / 1e6).powf(TOLERATED_POWER);
        queue.clamp(TOLERATED_RANGE_US.0, TOLERATED_RANGE_US.1)
    }

    fn is_standing(&mut self, signals: &Signals) -> bool {
        if signals.queue_us < self.tolerated_us(signals) {
            (self.standing_since, self.in_vain) = (None, None);
            return false;
        }
        let since = *self.standing_since.get_or_insert(signals.now);
        signals.now - since >= PERSISTENT_US + PERSISTENT_PER_NOISE * signals.jitter_us
    }

    fn decrease(&mut self, signals: &Signals) {
        let arrived = signals.recent_bps.unwrap_or(self.target);
        self.learn(arrived);
        let queue = (signals.queue_us as f64 / LONG_QUEUE_US).min(1.0);
        let factor = DRAIN.1 - (DRAIN.1 - DRAIN.0) * queue;
        let beyond = (signals.queue_us as f64 / self.tolerated_us(signals) as f64 - 0.75).clamp(0.0, 0.75) / 0.75;
        let resume = RESUME.1 - (RESUME.1 - RESUME.0) * beyond;
        let before = match self.phase {
            Phase::Drain { resume_bps, probe: true, .. } => resume_bps,
            _ => self.target,
        };
        let resume_bps = (resume * arrived).min(before);
        let queue_us = signals.queue_us;
        self.phase = Phase::Drain { until: drain_until(signals), resume_bps, queue_us, probe: false };
        // Who sends less than it may cannot tell a queue of its own from somebody else's: what arrived of it fits.
        let is_used = signals.steady_bps.is_none_or(|steady| steady >= USED * self.target);
        let keep = if is_used { resume * arrived } else { arrived };
        self.stable = self.stable.min(keep).max(self.min);
        self.target = self.target.min(factor * arrived).max(self.min);
        (self.decreased_at, self.changed_at) = (signals.now, signals.now);
        self.standing_since = self.standing_since.map(|_| signals.now);
    }

    fn learn(&mut self, arrived: f64) {
        let similar = self.link.filter(|link| (arrived / link - 1.0).abs() < LINK_RANGE);
        self.link = Some(similar.map_or(arrived, |link| link + LINK_WEIGHT * (arrived - link)));
    }

    fn grow(&mut self, signals: &Signals) {
        let seconds = ((signals.now - self.changed_at) as f64 / 1e6).clamp(0.0, 1.0);
        self.changed_at = signals.now;
        self.exchange(seconds);
        let tolerated = self.tolerated_us(signals);
        if signals.now < self.hold_until || signals.queue_us >= tolerated {
            return;
        }
        if self.link.zip(signals.steady_bps).is_some_and(|(link, arrived)| arrived > (1.0 + LINK_RANGE) * link) {
            self.link = None;
        }
        let near = self.link.is_some_and(|link| self.target > (1.0 - LINK_RANGE) * link);
        let calm = (signals.now - self.decreased_at - FASTER_AFTER_US).max(0) as f64 / 1e6;
        let faster = (1.0 + FASTER_PER_SECOND * calm).min(FASTEST);
        let room = 1.0 - signals.queue_us as f64 / tolerated as f64;
        let per_second = if near { (self.target / 1e6).sqrt() * NEAR_GROWTH_BPS } else { self.target * FAR_GROWTH };
        let step = faster * room.max(LEAST_ROOM) * per_second * seconds;
        let used = signals.steady_bps.map(|arrived| arrived / (1.0 - signals.loss.min(0.5)));
        let limit = used.map_or(self.target, |used| self.ahead * used + AHEAD_BPS);
        if self.target < limit {
            self.set((self.target + step).min(limit));
        }
    }

    /// Takes in the result of a probe. Returns the next probe worth sending.
    pub(super) fn on_probe(&mut self, result: &ProbeResult, signals: &Signals) -> Option<(f64, Purpose)> {
        if self.phase != Phase::Grow {
            return None;
        }
        // Near the rate at which the link was full, what a probe finds is what others have just left: growth shares it.
        let used = signals.steady_bps.is_some_and(|arrived| arrived > USED * self.target);
        let settled = signals.now - self.began_at > SETTLED_US;
        let familiar = settled && used && self.link.is_some_and(|link| result.bps < NEWS * link);
        let capped = ProbeResult { bps: result.bps.min(self.target * FAMILIAR_STEP), ..*result };
        let result = if familiar { &capped } else { result };
        let more = result.bps > self.target;
        let next = self.accept(result, more);
        if result.congested && (result.purpose != Purpose::Start || result.bps < SHOWN_LESS * self.target) {
            // The queue that the probe left is ours to drain: others should not have to give way for it.
            let (until, resume_bps, queue_us) = (drain_until(signals), self.target, signals.queue_us);
            self.phase = Phase::Drain { until, resume_bps, queue_us, probe: true };
            self.target = (self.target * AFTER_PROBE).max(self.min);
            // A train gets at least our share through. Less than the target: nobody has used the target lately.
            let shown = result.bps.max(signals.steady_bps.unwrap_or(0.0));
            if shown < SHOWN_LESS * self.target / AFTER_PROBE {
                self.phase = Phase::Drain { until, resume_bps: shown, queue_us, probe: true };
                self.lower(shown * AFTER_PROBE);
                self.stable = self.stable.max(shown * RESUME.0).min(shown);
            }
        }
        next
    }

    fn accept(&mut self, result: &ProbeResult, more: bool) -> Option<(f64, Purpose)> {
        match (result.purpose, result.congested) {
            (Purpose::Search, true) => (result.bps > self.target * 1.05).then_some((result.bps, Purpose::Verify)),
            (Purpose::Verify, true) => None,
            (purpose, congested) => {
                if more {
                    self.set(result.bps);
                }
                let next = if purpose == Purpose::Start { Purpose::Start } else { Purpose::Search };
                let further = !congested && purpose != Purpose::Verify && result.bps > 0.7 * result.asked_bps;
                further.then_some((2.0 * result.bps, next))
            }
        }
    }

    /// Takes a rate given from outside: REMB.
    pub(super) fn replace(&mut self, bps: f64) {
        self.target = bps.clamp(self.min, self.max);
        self.stable = self.target;
        self.phase = Phase::Grow;
    }

    /// The path has carried `bps` for a while, without a queue: it is not the link that was full at less.
    pub(super) fn confirm(&mut self, bps: f64) {
        self.link = self.link.filter(|link| bps < *link * (1.0 + LINK_RANGE));
        if self.phase == Phase::Grow && bps > self.target {
            self.set(bps);
        }
    }

    /// Lowers the target, but to no less than the minimum.
    pub(super) fn lower(&mut self, bps: f64) {
        self.target = self.target.min(bps).max(self.min);
        self.stable = self.stable.min(self.target);
    }

    /// Lowers the target for the moment: layers are chosen by what it was.
    pub(super) fn hold_back(&mut self, bps: f64) {
        self.target = self.target.min(bps).max(self.min);
    }

    /// Raises the target.
    fn set(&mut self, bps: f64) {
        self.target = bps.clamp(self.min, self.max);
        let ceiling = self.link.map_or(self.target, |link| self.target.min(0.95 * link.max(self.target * 0.9)));
        self.stable = self.stable.max(ceiling);
    }
}
