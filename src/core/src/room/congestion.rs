//! What one client's path carries: the bandwidth estimate, the pacer that keeps to it, probes for more, and how much
//! of it may go to repairs.
//!
//! Until the first transport-wide feedback (or REMB) nothing is known and nothing is held back: clients that give no
//! feedback at all are served as they always were. [`Congestion::starts_low`] tells the allocation that feedback can
//! be expected, so that it begins with the lowest layers and climbs.

use std::time::{Duration, Instant};

mod own;
mod probes;
mod raises;
mod sharing;
mod state;
mod told;

use own::OwnEstimates;
pub use own::{Estimate, Served};
pub use probes::ProbeSlice;
use probes::{FEEDBACK_PATIENCE, RunningProbe};
pub use state::PathState;
pub use told::Told;

use super::rehearsal::{Rehearsals, Seen, Verdict};
use super::repairs::{ASSUMED_RTT, RepairBudget};
use crate::bandwidth::{Estimator, Pacer, ProbeId, Settings};

/// Bytes of IP and UDP headers around each datagram.
const DATAGRAM_OVERHEAD: usize = 28;
/// More lost than this is not calm.
const TOLERATED_LOSS: f32 = 0.1;
/// What a path may lose of what it carries.
const UNNOTICED_LOSS: f32 = 0.03;
/// How long the lowest layers are sent at whatever rate they have, while the first probes find out what the path carries.
const RAMP: Duration = Duration::from_millis(1_500);
/// How long layers may follow the first probes up one after the other.
const CLIMB: Duration = Duration::from_secs(5);
/// The least pace while more is rehearsed, relative to that.
const ROOM: f64 = 1.5;

/// What is known of how a client's path is controlled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Control {
    /// It negotiated no feedback, or gives none: nothing is held back.
    None,
    /// It negotiated transport-wide feedback; the first numbered packet left at this moment.
    Expected(Option<Instant>),
    /// Feedback comes.
    Estimated,
}

/// What would be sent to a client if it could, in bit/s.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Demand {
    /// What any picture at all takes.
    pub least_bps: u64,
    /// All.
    pub wanted_bps: u64,
    /// What must pass: the lowest layers, with room for their key frames.
    pub floor_bps: u64,
    /// What sound takes.
    pub sound_bps: u64,
}

/// One client's path.
#[derive(Debug)]
pub struct Congestion {
    estimator: Estimator,
    pacer: Pacer,
    control: Control,
    next_sequence: u16,
    running: Option<RunningProbe>,
    began: Option<Instant>,
    polled: Instant,
    last_sent: Option<Instant>,
    /// What the lowest layers take, with what their key frames take.
    floor_bps: u64,
    /// Transport-wide feedback has come: a REMB no longer counts.
    has_feedback: bool,
    /// The same of this path or of one before it.
    gives_feedback: bool,
    /// What REMBs tell, while they count.
    own: Option<Box<OwnEstimates>>,
    rehearsals: Rehearsals,
    /// What may be resent.
    pub repairs: RepairBudget,
}

impl Congestion {
    /// A path of which nothing is known.
    pub fn new(now: Instant) -> Self {
        Self {
            estimator: Estimator::new(now, Settings::default()),
            pacer: Pacer::new(now),
            control: Control::None,
            next_sequence: 0,
            running: None,
            began: None,
            polled: now,
            last_sent: None,
            floor_bps: 0,
            has_feedback: false,
            gives_feedback: false,
            own: None,
            rehearsals: Rehearsals::default(),
            repairs: RepairBudget::new(now),
        }
    }

    /// The client has negotiated transport-wide feedback: what it is sent is held to an estimate from now on.
    pub fn expect_feedback(&mut self) {
        if self.control == Control::None {
            self.control = Control::Expected(None);
        }
    }

    /// Reads what a packet touches of this.
    pub(super) fn glance(&self) -> u64 {
        u64::from(self.next_sequence)
            ^ self.pacer.glance()
            ^ self.estimator.glance()
            ^ self.floor_bps
            ^ self.repairs.glance()
    }

    /// Reads where the next packet is noted.
    pub(super) fn glance_sent(&self) -> u64 {
        self.estimator.glance_sent()
    }

    /// The transport-wide number of the next packet; [`Self::sent`] uses it up.
    pub fn next_sequence(&self) -> u16 {
        self.next_sequence
    }

    /// Notes a datagram of `bytes` bytes; `numbered` if it went out with [`Self::next_sequence`].
    #[inline]
    pub fn sent(&mut self, now: Instant, bytes: usize, numbered: bool, probe: Option<ProbeId>) {
        let bytes = bytes + DATAGRAM_OVERHEAD;
        self.began.get_or_insert(now);
        self.last_sent = Some(now);
        self.rehearsals.sent(bytes);
        if let Some(own) = &mut self.own {
            own.sent(bytes);
        }
        if numbered {
            self.estimator.on_sent(now, self.next_sequence, bytes, probe);
            self.next_sequence = self.next_sequence.wrapping_add(1);
            if let Control::Expected(since) = &mut self.control {
                since.get_or_insert(now);
            }
        }
        if self.is_controlled() {
            self.pacer.force(now, bytes);
        }
        if let (Some(id), Some(running)) = (probe, &mut self.running)
            && running.probe.id == id
        {
            running.bytes += bytes as u32;
            running.packets += 1;
        }
    }

    /// Whether pictures may leave now. When not, [`Self::ready_at`] says when.
    pub fn may_send(&mut self, now: Instant) -> bool {
        !self.is_controlled() || self.pacer.allow(now, 0)
    }

    /// When [`Self::may_send`] says yes again.
    pub fn ready_at(&self) -> Instant {
        self.pacer.ready_at()
    }

    /// Takes in transport-wide feedback, whole, from its RTCP header on.
    pub fn feedback(&mut self, now: Instant, packet: &[u8]) -> Told {
        let was_silent = self.estimator.is_silent();
        let said = self.estimator.on_feedback(now, packet).unwrap_or_default();
        let told = Told::of(said, was_silent);
        if told != Told::Nothing {
            self.control = Control::Estimated;
            (self.has_feedback, self.gives_feedback, self.own) = (true, true, None);
            self.pacer.note_loss(now, self.estimator.loss());
            self.pace(now);
            let sent = self.estimator.acknowledged_until();
            let (queue, loss) = (self.estimator.queue(), self.estimator.loss());
            let seen = Seen { queue, loss, sent, is_draining: self.estimator.is_draining() };
            match self.rehearsals.observe(now, seen) {
                Some(Verdict::Passed(bps)) => self.estimator.confirm(now, bps),
                Some(Verdict::Failed) => self.estimator.probes_mislead(now),
                None => {}
            }
        }
        told
    }

    /// Takes in a REMB. It counts while no transport-wide feedback comes or is waited for, and for some seconds.
    pub fn remb(&mut self, now: Instant, estimate: Estimate) {
        // Who is about to give better feedback is probed at the start: an estimate of what comes says nothing of what could.
        if matches!(self.control, Control::Expected(Some(since)) if now < since + FEEDBACK_PATIENCE) {
            return;
        }
        let mut bps = estimate.bps;
        if !self.has_feedback {
            let own = self.own.get_or_insert_with(|| Box::new(OwnEstimates::new(now)));
            own.take_in(now, estimate);
            bps = own.bps();
        }
        self.estimator.on_remb(now, bps);
        self.control = Control::Estimated;
        self.pace(now);
    }

    /// Whether sound is beside what the estimate is for.
    pub fn leaves_out_sound(&self) -> bool {
        self.own.as_ref().is_some_and(|own| !own.covers_sound())
    }

    /// Takes in a round trip from a receiver report.
    pub fn round_trip(&mut self, rtt: Duration) {
        self.estimator.on_rtt(rtt);
    }

    /// Says what would be sent if it could; probes go no further.
    pub fn set_wanted(&mut self, now: Instant, demand: Demand) {
        let Demand { least_bps, wanted_bps, floor_bps, sound_bps } = demand;
        if let Some(own) = &mut self.own {
            own.set_wanted(wanted_bps, sound_bps);
            match own.expire(now, least_bps) {
                true => self.estimator.on_remb(now, own.bps()),
                false => (self.own, self.control) = (None, Control::None),
            }
        }
        self.estimator.set_wanted(now, wanted_bps);
        self.estimator.set_least(least_bps);
        self.floor_bps = floor_bps;
        self.pace(now);
    }

    /// Says whether something is paused because it does not fit: the path is kept measured then. And what is sent of all.
    pub fn set_starved(&mut self, now: Instant, is_starved: bool, served: Served) {
        self.estimator.set_starved(now, is_starved);
        if let Some(own) = &mut self.own {
            own.set_served(now, served);
        }
    }

    fn pace(&mut self, now: Instant) {
        // The lowest layers are not held up by a dip of the estimate: what is paused on the way is a freeze for sure.
        let ramping = self.began.is_none_or(|at| now.saturating_duration_since(at) < RAMP);
        let least = if ramping { self.floor_bps } else { (self.floor_bps as f64 / self.pacer.factor()) as u64 };
        // Nor are pictures by what is added for a rehearsal: where packets were lost the pace is hardly more than the target.
        let rehearsed = self.rehearsals.running_bps().map_or(0, |bps| (bps as f64 * ROOM / self.pacer.factor()) as u64);
        self.pacer.set_target(now, self.estimator.target_bps().max(least).max(rehearsed));
        self.repairs.limit(self.estimator.target_bps());
    }

    /// True when what is sent is held to an estimate.
    pub fn is_controlled(&self) -> bool {
        self.control != Control::None
    }

    /// True for a client that is to begin with the lowest layers: it will tell what its path carries.
    pub fn starts_low(&self) -> bool {
        matches!(self.control, Control::Expected(_))
    }

    /// True while the first probes are under way and the lowest layers are sent whatever they take.
    pub fn is_ramping(&self, now: Instant) -> bool {
        self.is_controlled() && self.began.is_none_or(|at| now.saturating_duration_since(at) < RAMP)
    }

    /// True at the beginning: the way up is not held up then.
    pub fn is_new(&self, now: Instant) -> bool {
        self.began.is_none_or(|at| now.saturating_duration_since(at) < CLIMB)
    }

    /// What layers may be chosen for, in bit/s; `None` when nothing limits them.
    pub fn stable_bps(&self) -> Option<u64> {
        self.is_controlled().then(|| self.estimator.stable_bps())
    }

    /// The most to send right now, in bit/s.
    pub fn target_bps(&self) -> Option<u64> {
        self.is_controlled().then(|| self.estimator.target_bps())
    }

    /// True when what is sent gets through without a queue, as transport-wide feedback tells.
    pub fn is_calm(&self) -> bool {
        self.has_feedback && self.estimator.is_calm() && self.estimator.loss() < TOLERATED_LOSS
    }

    /// True when nothing of what is sent waits or is lost.
    pub fn carries_what_is_sent(&self) -> bool {
        self.has_feedback
            && self.estimator.is_calm()
            && !self.estimator.is_draining()
            && self.estimator.loss() < UNNOTICED_LOSS
    }

    /// True when the path may carry more than the estimate: only a rehearsal can tell.
    pub fn promises_more(&self, now: Instant) -> bool {
        self.estimator.promises_more(now)
    }

    /// The smoothed round trip, once measured.
    pub fn rtt(&self) -> Option<Duration> {
        self.estimator.rtt()
    }

    /// The same, or a guess, of a client that tells what arrives; `None` of others.
    pub fn told_rtt(&self) -> Option<Duration> {
        self.has_feedback.then(|| self.rtt().unwrap_or(ASSUMED_RTT))
    }

    /// The part of the packets that was lost lately, 0 to 1.
    pub fn loss(&self) -> f32 {
        self.estimator.loss()
    }
}

#[cfg(test)]
mod tests;
