//! Puts the observers together.

use std::time::{Duration, Instant};

use super::delay::{DelayObserver, Usage};
use super::feedback::{Feedback, FeedbackError, MAX_STATUSES};
use super::loss::LossObserver;
use super::probe::{Path, Probe, ProbeId, Prober};
use super::rate::{RateControl, Signals};
use super::sent::{Fate, SentRing};
use super::throughput::{Acked, Throughput};
use clock::ArrivalClock;
use probing::{PROBE_INTERVAL_US, Wanted};
use promises::Promises;
use report::Report;
use sending::SendRate;
use silence::{After, Silence};
use unprobed::GROWTH_INTERVAL_US;

mod clock;
mod outage;
mod probing;
mod promises;
mod report;
mod sending;
mod sharing;
mod silence;
mod unprobed;

pub use promises::{BUCKET_BYTES, NARROW_BPS};
pub use report::Acknowledged;

/// A shorter queue than this, in microseconds, is none.
const CALM_QUEUE_US: i64 = 15_000;
/// A longer one is none, up to this, while it is shorter than this part of what is tolerated: who sends little, and always behind
/// the frames of others, never sees the path without them, and would stay at little for ever.
const CALM_WITH_OTHERS_US: i64 = 30_000;
const CALM_OF_TOLERATED: f64 = 0.75;
/// Less than this part of the target sent: the sender, not the path, limits the rate.
const LIMITED_BELOW: f64 = 0.8;
/// For so long after transport-wide feedback REMB is ignored.
const REMB_AFTER_US: i64 = 10_000_000;
/// Statuses that may be told for each packet sent: each of them once, and some again after reordering.
const STATUSES_PER_PACKET: u32 = 4;
/// Statuses that may be told in advance of that.
const MAX_CREDIT: u32 = 2 * MAX_STATUSES as u32;
/// Between looks at the loss.
const LOSS_INTERVAL_US: i64 = 200_000;
/// Until the first feedback.
const FIRST_RTT_US: i64 = 200_000;
/// Windows of the arrival rate.
const RECENT_US: i64 = 150_000;
const STEADY_US: i64 = 500_000;

/// The range of the target, in bit/s.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Never below: what sound needs.
    pub min_bps: u64,
    /// Before anything is known.
    pub start_bps: u64,
    /// Never above.
    pub max_bps: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self { min_bps: 30_000, start_bps: 300_000, max_bps: 20_000_000 }
    }
}

/// Estimates how much may be sent to one receiver.
#[derive(Clone, Debug)]
pub struct Estimator {
    epoch: Instant,
    sent: SentRing,
    clock: ArrivalClock,
    delay: DelayObserver,
    throughput: Throughput,
    loss: LossObserver,
    probes: Prober,
    rate: RateControl,
    silence: Silence,
    sending: SendRate,
    /// Smoothed, in microseconds; `None`: no feedback so far.
    rtt: Option<i64>,
    start: f64,
    max: f64,
    wanted: Wanted,
    probe_interval: i64,
    promises: Promises,
    /// Bytes.
    arrived: u64,
    /// Nothing can be sent but media; until when its target has grown unheard.
    unprobed: Option<i64>,
    next_probe_at: i64,
    /// Statuses that may still be told.
    credit: u32,
    /// The index after the highest told of.
    told: u64,
    feedback_at: Option<i64>,
    /// When the newest packet was sent that was told of.
    acknowledged: i64,
    started: bool,
}

impl Estimator {
    /// An estimator that knows nothing. Allocates 4 KiB.
    pub fn new(now: Instant, settings: Settings) -> Self {
        let max = settings.max_bps.max(1) as f64;
        let min = (settings.min_bps as f64).min(max);
        let start = (settings.start_bps as f64).clamp(min, max);
        Self {
            epoch: now,
            sent: SentRing::new(),
            clock: ArrivalClock::default(),
            delay: DelayObserver::default(),
            throughput: Throughput::default(),
            loss: LossObserver::default(),
            probes: Prober::new(),
            rate: RateControl::new(0, start, min, max),
            silence: Silence::default(),
            sending: SendRate::default(),
            rtt: None,
            start,
            max,
            wanted: Wanted::default(),
            probe_interval: PROBE_INTERVAL_US,
            promises: Promises::default(),
            arrived: 0,
            unprobed: None,
            next_probe_at: PROBE_INTERVAL_US,
            credit: MAX_CREDIT,
            told: 0,
            feedback_at: None,
            acknowledged: 0,
            started: false,
        }
    }

    /// Notes a packet that goes out with the transport-wide number `sequence`. `bytes` is its size on the wire: the
    /// UDP payload and 28. `probe` is set for the packets of a probe. Numbers come in the order of sending.
    #[inline]
    pub fn on_sent(&mut self, now: Instant, sequence: u16, bytes: usize, probe: Option<ProbeId>) {
        let now = self.micros(now);
        let index = self.sent.push(now, sequence, bytes, probe);
        self.credit = (self.credit + STATUSES_PER_PACKET).min(MAX_CREDIT);
        self.silence.on_sent(now);
        match probe {
            Some(id) => self.probes.on_sent(id, index, bytes.min(usize::from(u16::MAX)) as u32),
            None => self.sending.on_sent(now, bytes, self.rate.target()),
        }
    }

    /// Takes in a feedback packet, whole, from its RTCP header on. An error means that nothing in it was used.
    pub fn on_feedback(&mut self, now: Instant, packet: &[u8]) -> Result<Acknowledged, FeedbackError> {
        let now = self.micros(now);
        // First of all: a few bytes may tell of thousands, again and again.
        let count = u32::from(Feedback::count(packet)?);
        self.credit = self.credit.checked_sub(count).ok_or(FeedbackError::TooMuch)?;
        let report = self.take_in(now, Feedback::parse(packet)?);
        let said = report.said;
        if said.received + said.lost > 0 {
            self.conclude(now, &report);
        }
        Ok(said)
    }

    fn take_in(&mut self, now: i64, feedback: Feedback<'_>) -> Report {
        let mut report = Report::default();
        for arrival in feedback {
            let Some(packet) = self.sent.report(arrival.sequence, arrival.at.is_some()) else {
                report.said.unknown += 1;
                continue;
            };
            if !report.begun {
                report.begun = true;
                self.throughput.begin(packet.index <= self.told);
            }
            self.told = self.told.max(packet.index + 1);
            let Some(ticks) = arrival.at else {
                report.said.lost += 1;
                self.silence.outages.on_lost(packet.index, packet.at);
                continue;
            };
            let Some(arrived) = self.clock.micros(now, ticks) else {
                self.delay.reset();
                self.throughput.reset();
                self.throughput.begin(false);
                continue;
            };
            report.said.received += 1;
            report.said.lost_in_outage += self.silence.outages.on_arrived(packet.index, packet.at);
            report.recovered += u32::from(packet.before == Fate::Lost);
            report.newest_sent = report.newest_sent.max(Some(packet.at));
            report.over |= self.delay.on_packet(packet.at, arrived);
            let (sent, bytes) = (packet.at, packet.bytes);
            self.arrived += u64::from(bytes);
            self.throughput.on_packet(Acked { sent, arrived, bytes });
            if let Some(id) = packet.probe {
                self.probes.on_packet(id, sent, arrived, bytes);
            }
        }
        report
    }

    /// Makes a target of what a feedback told.
    fn conclude(&mut self, now: i64, report: &Report) {
        self.throughput.end();
        self.sent.grow_if_needed();
        self.feedback_at = Some(now);
        self.promises.mark(now, self.arrived);
        self.loss.on_report(now, report.said.received, report.lost_otherwise(), report.recovered);
        if let Some(sent) = report.newest_sent {
            let sample = (now - sent).max(0);
            self.acknowledged = self.acknowledged.max(sent);
            self.rtt = Some(self.rtt.map_or(sample, |rtt| rtt + (sample - rtt) / 8));
        }
        let is_heard = report.said.received > 0;
        match is_heard.then(|| self.silence.on_feedback(now, report.lost_much())).flatten() {
            Some(After::Same(before)) => {
                self.rate.replace(before);
                self.next_probe_at = now;
            }
            Some(After::Another) => self.rate.lower(self.rate.target()),
            None => {}
        }
        let (rtt_us, queue_us) = (self.rtt_us(), self.delay.standing_queue_us());
        if !self.rate.is_growing() {
            self.loss.skip(now);
        }
        let too_much_lost = self.loss.evaluate(now, LOSS_INTERVAL_US, rtt_us.min(1_000_000));
        let signals = Signals {
            now,
            usage: if report.over { Usage::Over } else { self.delay.usage() },
            queue_us,
            jitter_us: self.delay.jitter_us(),
            rtt_us,
            recent_bps: self.throughput.bps(RECENT_US),
            steady_bps: self.throughput.bps(STEADY_US),
            too_much_lost,
            loss: self.loss.fraction(),
        };
        let wishes = self.rate.on_report(&signals);
        if wishes.accept_queue {
            self.delay.accept_queue();
            self.loss.be_strict(now);
        }
        if wishes.decreased {
            self.judge_promises(now, signals.recent_bps);
        }
        self.take_probes(now, &signals);
    }

    /// Takes in a REMB of `bps`. It is the target while no transport-wide feedback comes.
    pub fn on_remb(&mut self, now: Instant, bps: u64) {
        let now = self.micros(now);
        if self.feedback_at.is_none_or(|at| now - at > REMB_AFTER_US) {
            self.rate.replace(bps as f64);
            self.silence.stop();
        }
    }

    /// Takes in a round trip from receiver reports. It counts until transport-wide feedback tells of one.
    pub fn on_rtt(&mut self, rtt: Duration) {
        if self.feedback_at.is_none() {
            self.rtt = Some(rtt.as_micros().min(10_000_000) as i64);
        }
    }

    /// Lets time pass: backs off when feedback has stopped, and returns a probe to send when one is due.
    pub fn poll_probe(&mut self, now: Instant) -> Option<Probe> {
        let now = self.micros(now);
        self.sending.advance(now);
        self.rate.advance(now);
        if let Some(step) = self.silence.poll(now, self.rtt_us(), self.rate.target()) {
            self.probes.cancel();
            if step.is_for_good { self.rate.lower(step.bps) } else { self.rate.hold_back(step.bps) }
        }
        if self.grow_unprobed(now) {
            return None;
        }
        self.probes.expire(now);
        self.plan_when_due(now);
        if !self.probes.has_planned() {
            return None;
        }
        let carried_bps = self.throughput.bps(STEADY_US).unwrap_or(f64::MAX);
        let (jitter_us, target_bps) = (self.delay.variation_us(), self.rate.target());
        let probe = self.probes.take(now, Path { jitter_us, carried_bps, target_bps });
        probe.inspect(|_| self.promises.probe_begins(now, self.arrived))
    }

    /// When `poll_probe` has something to do next; `None`: nothing has been sent or wanted.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let probe = if let Some(until) = self.unprobed {
            self.wanted.is_starved.then_some(until + GROWTH_INTERVAL_US)
        } else if self.probes.has_planned() || (!self.started && self.wanted.bps > 0.0) {
            Some(0)
        } else {
            let is_told = self.started && self.feedback_at.is_some();
            (is_told && self.wanted.bps > self.rate.target()).then_some(self.next_probe_at)
        };
        let silence = self.silence.due(self.rtt_us());
        let at = probe.into_iter().chain(silence).min()?;
        Some(self.epoch + Duration::from_micros(at.max(0) as u64))
    }

    /// The rate to pace by, and the most to send for more than a few tenths of a second, in bit/s.
    pub fn target_bps(&self) -> u64 {
        self.rate.target() as u64
    }

    /// The rate to choose layers by, in bit/s: it does not follow the target down while a short queue drains.
    pub fn stable_bps(&self) -> u64 {
        self.rate.stable() as u64
    }

    /// Reads what a packet touches of this.
    pub fn glance(&self) -> u64 {
        self.sent.glance_head()
            ^ self.sending.bps().to_bits()
            ^ u64::from(self.started)
            ^ u64::from(self.wanted.is_starved)
    }

    /// Reads where the next packet is noted.
    pub fn glance_sent(&self) -> u64 {
        self.sent.glance()
    }

    /// The round trip, smoothed. The time that the receiver waits before it sends feedback is part of it.
    pub fn rtt(&self) -> Option<Duration> {
        self.rtt.map(|rtt| Duration::from_micros(rtt as u64))
    }

    /// The part of the packets that was lost over the last second or so, 0 to 1.
    pub fn loss(&self) -> f32 {
        self.loss.fraction() as f32
    }

    /// How long packets wait in front of the bottleneck beyond the shortest wait of the last 20 seconds.
    pub fn queue(&self) -> Duration {
        Duration::from_micros(self.delay.standing_queue_us() as u64)
    }

    /// When the newest packet was sent that feedback has told of.
    pub fn acknowledged_until(&self) -> Instant {
        self.epoch + Duration::from_micros(self.acknowledged.max(0) as u64)
    }

    /// True while less is sent than what arrives, so that a queue drains.
    pub fn is_draining(&self) -> bool {
        !self.rate.is_growing()
    }

    /// True when no queue stands in front of the bottleneck, beyond what the noise of the path's delay and others' frames explain.
    pub fn is_calm(&self) -> bool {
        let tolerated = (CALM_OF_TOLERATED * self.rate.tolerated_queue_us()) as i64;
        self.is_shorter_than(tolerated.clamp(CALM_QUEUE_US, CALM_WITH_OTHERS_US))
    }

    /// The same before a probe: who uses up the target has a queue of its own.
    fn is_calm_for_probes(&self) -> bool {
        if self.is_application_limited() { self.is_calm() } else { self.is_shorter_than(CALM_QUEUE_US) }
    }

    fn is_shorter_than(&self, queue_us: i64) -> bool {
        self.delay.standing_queue_us() < queue_us + self.delay.jitter_us()
    }

    /// True when clearly less is sent than the target would allow.
    pub fn is_application_limited(&self) -> bool {
        self.sending.bps() < LIMITED_BELOW * self.rate.target()
    }

    /// True when packets are sent and feedback has stopped coming: there may be nobody.
    pub fn is_silent(&self) -> bool {
        self.silence.is_silent()
    }

    fn rtt_us(&self) -> i64 {
        self.rtt.unwrap_or(FIRST_RTT_US)
    }

    fn micros(&self, now: Instant) -> i64 {
        now.saturating_duration_since(self.epoch).as_micros() as i64
    }
}

#[cfg(test)]
mod tests;
