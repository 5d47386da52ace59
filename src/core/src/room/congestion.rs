//! What one client's path carries: the bandwidth estimate, the pacer that keeps to it, probes for more, and how much
//! of it may go to repairs.
//!
//! Until the first transport-wide feedback (or REMB) nothing is known and nothing is held back: clients that give no
//! feedback at all are served as they always were. [`Congestion::starts_low`] tells the allocation that feedback can
//! be expected, so that it begins with the lowest layers and climbs.

use std::time::{Duration, Instant};

mod raises;
mod state;
mod told;

pub use state::PathState;
pub use told::Told;

use super::rehearsal::{Rehearsals, Seen, Verdict};
use super::repairs::{ASSUMED_RTT, RepairBudget};
use crate::bandwidth::{Estimator, Pacer, Probe, ProbeId, Settings};

/// Bytes of IP and UDP headers around each datagram.
const DATAGRAM_OVERHEAD: usize = 28;
/// How long feedback is waited for after the first numbered packet, before a client is taken for one that gives none.
const FEEDBACK_PATIENCE: Duration = Duration::from_secs(2);
/// Least time between two looks at whether a probe is due.
const POLL_INTERVAL: Duration = Duration::from_millis(10);
/// How long nothing may be sent on a path that starves.
const TRICKLE_INTERVAL: Duration = Duration::from_millis(100);
/// More lost than this is not calm.
const TOLERATED_LOSS: f32 = 0.1;
/// What a path may lose of what it carries.
const UNNOTICED_LOSS: f32 = 0.03;
/// Between two slices of a probe.
const PROBE_SLICE: Duration = Duration::from_millis(1);
/// Between two slices of a rehearsal.
const REHEARSAL_SLICE: Duration = Duration::from_millis(5);
/// How long the lowest layers are sent at whatever rate they have, while the first probes find out what the path carries.
const RAMP: Duration = Duration::from_millis(1_500);
/// How long layers may follow the first probes up one after the other.
const CLIMB: Duration = Duration::from_secs(5);
/// How long a REMB counts: while pictures come, clients send one a second or more often.
const REMB_LIFE: Duration = Duration::from_secs(5);

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

/// An estimate of the receiver's own.
#[derive(Clone, Copy, Debug)]
struct Remb {
    at: Instant,
    /// It is of sound and pictures together, not of pictures alone.
    covers_sound: bool,
}

/// A probe that is being sent.
#[derive(Clone, Copy, Debug)]
struct RunningProbe {
    probe: Probe,
    began: Instant,
    bytes: u32,
    packets: u16,
    next_slice: Instant,
}

/// What is to leave now beyond the media.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProbeSlice {
    /// The probe it belongs to; none for a trickle, that only keeps the feedback coming.
    pub probe: Option<ProbeId>,
    /// How much.
    pub bytes: usize,
    /// How long its packets may be: a probe that is to be short takes no more than so many bytes in each.
    pub packet_bytes: usize,
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
    /// The last REMB, while it counts.
    remb: Option<Remb>,
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
            remb: None,
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
    pub fn sent(&mut self, now: Instant, bytes: usize, numbered: bool, probe: Option<ProbeId>) {
        let bytes = bytes + DATAGRAM_OVERHEAD;
        self.began.get_or_insert(now);
        self.last_sent = Some(now);
        self.rehearsals.sent(bytes);
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
            (self.has_feedback, self.remb) = (true, None);
            self.pacer.note_loss(now, self.estimator.loss());
            self.pace(now);
            let sent = self.estimator.acknowledged_until();
            let (queue, loss) = (self.estimator.queue(), self.estimator.loss());
            let seen = Seen { queue, loss, sent, is_draining: self.estimator.is_draining() };
            match self.rehearsals.observe(now, seen) {
                Some(Verdict::Passed(bps)) => self.estimator.confirm(bps),
                Some(Verdict::Failed) => self.estimator.probes_mislead(now),
                None => {}
            }
        }
        told
    }

    /// Takes in a REMB. It counts while no transport-wide feedback comes, and for [`REMB_LIFE`]. `covers_sound`: it is an
    /// estimate for sound and pictures together, not for pictures alone.
    pub fn remb(&mut self, now: Instant, bps: u64, covers_sound: bool) {
        self.estimator.on_remb(now, bps);
        if !self.has_feedback {
            self.remb = Some(Remb { at: now, covers_sound });
        }
        self.control = Control::Estimated;
        self.pace(now);
    }

    /// Whether sound is beside what the estimate is for.
    pub fn leaves_out_sound(&self) -> bool {
        self.remb.is_some_and(|remb| !remb.covers_sound)
    }

    /// Takes in a round trip from a receiver report.
    pub fn round_trip(&mut self, rtt: Duration) {
        self.estimator.on_rtt(rtt);
    }

    /// Says what would be sent if it could; probes go no further. `floor_bps` is what must pass: the lowest layers, with
    /// room for their key frames.
    pub fn set_wanted(&mut self, now: Instant, wanted_bps: u64, floor_bps: u64) {
        // Who is sent no pictures says nothing new of them: what is paused by an old estimate would be so for ever.
        if self.remb.is_some_and(|remb| now.saturating_duration_since(remb.at) >= REMB_LIFE) {
            (self.remb, self.control) = (None, Control::None);
        }
        self.estimator.set_wanted(now, wanted_bps);
        self.floor_bps = floor_bps;
        self.pace(now);
    }

    /// Says whether something is paused because it does not fit: the path is kept measured then.
    pub fn set_starved(&mut self, now: Instant, is_starved: bool) {
        self.estimator.set_starved(now, is_starved);
    }

    fn pace(&mut self, now: Instant) {
        // The lowest layers are not held up by a dip of the estimate: what is paused on the way is a freeze for sure.
        let ramping = self.began.is_none_or(|at| now.saturating_duration_since(at) < RAMP);
        let least = if ramping { self.floor_bps } else { (self.floor_bps as f64 / self.pacer.factor()) as u64 };
        self.pacer.set_target(now, self.estimator.target_bps().max(least));
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

    /// Lets time pass. What of a probe is to leave now; the rest later.
    pub fn poll_probe(&mut self, now: Instant) -> Option<ProbeSlice> {
        self.polled = now;
        if let Control::Expected(Some(since)) = self.control
            && now.saturating_duration_since(since) > FEEDBACK_PATIENCE
        {
            self.control = Control::None;
        }
        if !self.is_controlled() {
            return None;
        }
        self.rehearsals.expire(now);
        if let Some(bytes) = self.rehearsals.due(now, self.estimator.rtt().unwrap_or(ASSUMED_RTT)) {
            let slice = ProbeSlice { probe: None, bytes, packet_bytes: 0 };
            return if bytes > 0 { Some(slice) } else { self.trickle(now) };
        }
        if self.running.is_none() {
            let Some(probe) = self.estimator.poll_probe(now) else { return self.trickle(now) };
            self.running = Some(RunningProbe { probe, began: now, bytes: 0, packets: 0, next_slice: now });
        }
        let running = self.running.as_mut()?;
        running.next_slice = now + PROBE_SLICE;
        let RunningProbe { probe, began, bytes, packets, .. } = *running;
        let elapsed = now.saturating_duration_since(began) + PROBE_SLICE;
        let due = (probe.bps as f64 / 8.0 * elapsed.as_secs_f64()) as u32;
        let is_over = bytes >= probe.min_bytes && packets >= probe.min_packets;
        // Nothing could be sent for it: given up rather than tried for ever.
        let is_stuck = elapsed > Duration::from_millis(200);
        if is_over || is_stuck {
            self.running = None;
            return None;
        }
        let packet_bytes = (probe.min_bytes / u32::from(probe.min_packets)) as usize;
        Some(ProbeSlice { probe: Some(probe.id), bytes: due.saturating_sub(bytes) as usize, packet_bytes })
    }

    /// True while feedback has stopped: there may be nobody.
    pub fn is_silent(&self) -> bool {
        self.estimator.is_silent()
    }

    /// While all that is wanted is paused or waits, nothing would tell that the path has recovered.
    fn is_kept_measured(&self) -> bool {
        self.estimator.is_starved() || self.is_silent()
    }

    fn trickle(&self, now: Instant) -> Option<ProbeSlice> {
        let is_quiet = self.last_sent.is_none_or(|at| now.saturating_duration_since(at) >= TRICKLE_INTERVAL);
        (self.is_kept_measured() && is_quiet).then_some(ProbeSlice { probe: None, bytes: 1, packet_bytes: 0 })
    }

    /// When [`Self::poll_probe`] has something to do.
    pub fn poll_timeout(&self) -> Option<Instant> {
        if !self.is_controlled() {
            return None;
        }
        if self.rehearsals.is_running() {
            return Some(self.polled + REHEARSAL_SLICE);
        }
        if let Some(running) = &self.running {
            return Some(running.next_slice);
        }
        let patience = match self.control {
            Control::Expected(Some(since)) => Some(since + FEEDBACK_PATIENCE + PROBE_SLICE),
            _ => None,
        };
        // A probe that is due waits for a calm moment, which time alone does not bring.
        let least = self.polled + POLL_INTERVAL;
        let trickle = self.last_sent.filter(|_| self.is_kept_measured()).map(|at| at + TRICKLE_INTERVAL);
        [self.estimator.poll_timeout(), patience, trickle].into_iter().flatten().min().map(|at| at.max(least))
    }
}

#[cfg(test)]
mod tests;
