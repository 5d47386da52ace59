//! Padding that fills up what is sent to what is told.

use std::time::{Duration, Instant};

/// What is sent is filled up to this part of what is told.
const FILLED: f64 = 0.95;
/// Between two slices.
const SLICE: Duration = Duration::from_millis(20);
/// Less than this waits for more: about a packet.
const LEAST_BYTES: f64 = 300.0;
/// How much may have been saved up, and how much of what is sent may be ahead of it, in seconds.
const SAVED_S: f64 = 0.04;
const AHEAD_S: f64 = 1.0;

/// How much of it is due.
#[derive(Debug)]
pub(super) struct Padding {
    is_possible: bool,
    /// It has changed no estimate: some count no retransmissions. It is not tried again.
    is_unheard: bool,
    /// What all that is wanted takes, in bit/s: it goes no further.
    wanted_bps: u64,
    /// Bytes that may leave at `refilled`.
    room: f64,
    refilled: Instant,
}

impl Padding {
    pub(super) fn new(now: Instant) -> Self {
        Self { is_possible: false, is_unheard: false, wanted_bps: 0, room: 0.0, refilled: now }
    }

    /// Whether there is anything to pad with.
    pub(super) fn set_possible(&mut self, is_possible: bool) {
        self.is_possible = is_possible;
    }

    /// What all that is wanted takes, in bit/s.
    pub(super) fn set_wanted(&mut self, wanted_bps: u64) {
        self.wanted_bps = wanted_bps;
    }

    /// Tries it no more.
    pub(super) fn give_up(&mut self) {
        self.is_unheard = true;
    }

    pub(super) fn is_unheard(&self) -> bool {
        self.is_unheard
    }

    /// True where it can be sent and, as far as is known, counts.
    pub(super) fn is_heard(&self) -> bool {
        self.is_possible && !self.is_unheard
    }

    /// Takes away what leaves of anything.
    #[inline]
    pub(super) fn sent(&mut self, bytes: usize) {
        self.room -= bytes as f64;
    }

    /// Lets time pass, of a path of which `told_bps` is told and that carries `untold_bps` besides.
    pub(super) fn refill(&mut self, now: Instant, told_bps: u64, untold_bps: f64) {
        let passed = now.saturating_duration_since(std::mem::replace(&mut self.refilled, now)).as_secs_f64();
        let bps = FILLED * told_bps.min(self.wanted_bps) as f64 + untold_bps;
        self.room = (self.room + bps / 8.0 * passed).clamp(-bps / 8.0 * AHEAD_S, bps / 8.0 * SAVED_S);
    }

    /// How many bytes are to leave now.
    pub(super) fn due(&self) -> usize {
        if self.is_heard() && self.room >= LEAST_BYTES { self.room as usize } else { 0 }
    }

    /// When more is due.
    pub(super) fn next_slice(&self) -> Instant {
        self.refilled + SLICE
    }
}
