//! What leaves on a path beyond the media: probes, rehearsals, and packets that only keep feedback coming.

use std::time::{Duration, Instant};

use super::{Congestion, Control};
use crate::bandwidth::{Probe, ProbeId};
use crate::room::repairs::ASSUMED_RTT;

/// Least time between two looks at whether a probe is due.
const POLL_INTERVAL: Duration = Duration::from_millis(10);
/// How long nothing may be sent on a path that starves.
const TRICKLE_INTERVAL: Duration = Duration::from_millis(100);
/// Between two slices of a probe.
const PROBE_SLICE: Duration = Duration::from_millis(1);
/// Between two slices of a rehearsal.
const REHEARSAL_SLICE: Duration = Duration::from_millis(5);
/// How long feedback is waited for after the first numbered packet, before a client is taken for one that gives none.
pub(super) const FEEDBACK_PATIENCE: Duration = Duration::from_secs(2);

/// A probe that is being sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct RunningProbe {
    pub(super) probe: Probe,
    began: Instant,
    pub(super) bytes: u32,
    pub(super) packets: u16,
    next_slice: Instant,
}

/// What is to leave now beyond the media.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProbeSlice {
    /// The probe it belongs to; none for a trickle, that only keeps the feedback coming, and what fills up to a receiver's own
    /// estimate.
    pub probe: Option<ProbeId>,
    /// How much.
    pub bytes: usize,
    /// How long its packets may be: a probe that is to be short takes no more than so many bytes in each.
    pub packet_bytes: usize,
}

impl Congestion {
    /// Says whether anything can be sent but media: without a stream of retransmissions padding would take the media's numbers.
    pub fn set_probed(&mut self, now: Instant, is_probed: bool) {
        if !is_probed {
            self.running = None;
            self.rehearsals.give_up();
        }
        self.estimator.set_probed(now, is_probed);
        if let Some(own) = &mut self.own {
            own.set_padded(is_probed);
        }
    }

    /// Whether it goes by the receiver's own estimates: what pads needs no transport-wide numbers.
    pub fn goes_by_own_estimates(&self) -> bool {
        self.own.is_some()
    }

    /// Lets time pass. What of a probe is to leave now; the rest later.
    pub fn poll_probe(&mut self, now: Instant) -> Option<ProbeSlice> {
        self.polled = now;
        if let Control::Expected(Some(since)) = self.control
            && now.saturating_duration_since(since) > FEEDBACK_PATIENCE
        {
            // One that has given feedback before is silent, not without it.
            self.control = if self.gives_feedback { Control::Estimated } else { Control::None };
        }
        if !self.is_controlled() {
            return None;
        }
        if let Some(own) = &mut self.own {
            let before = own.bps();
            let bytes = own.poll(now);
            if own.bps() != before {
                self.estimator.on_remb(now, own.bps());
            }
            return (bytes > 0).then_some(ProbeSlice { probe: None, bytes, packet_bytes: 0 });
        }
        if !self.estimator.is_probed() {
            return self.estimator.poll_probe(now).and(None);
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
        self.is_controlled() && self.estimator.is_silent()
    }

    /// While all that is wanted is paused or waits, nothing would tell that the path has recovered.
    fn is_kept_measured(&self) -> bool {
        self.estimator.is_probed() && (self.estimator.is_starved() || self.is_silent())
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
        if let Some(own) = &self.own {
            return own.poll_timeout();
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
