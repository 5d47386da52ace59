//! How much of what a client is sent may be resends: a share of its traffic and a small floor, and nothing twice
//! within a round trip. Without a budget the resends of a crowded link crowd it further.

use std::time::{Duration, Instant};

/// Share of what is sent that may be sent again.
const SHARE: f64 = 0.2;
/// Bytes a second that may be resent however little is sent: a lost key frame of a still picture comes again.
const FLOOR_BYTES_PER_S: f64 = 4_000.0;
/// Most that can be saved up: a burst loss within a large key frame.
const MAX_SAVED: f64 = 64.0 * 1024.0;
/// And what the path carries in this time: on a narrow one more would be a queue of its own.
const MAX_SAVED_S: f64 = 0.3;
/// But not less than some packets.
const LEAST_MAX_SAVED: f64 = 4.0 * 1024.0;
/// Saved up at the start.
const FIRST_SAVED: f64 = 16.0 * 1024.0;
/// Resends remembered, so that none is repeated within a round trip.
const REMEMBERED: usize = 64;
/// The round trip before one is measured.
pub const ASSUMED_RTT: Duration = Duration::from_millis(80);
/// Lost sound that is sent again after a longer round trip than this comes too late to be heard.
pub const MAX_SOUND_RTT: Duration = Duration::from_millis(150);
/// The shortest pause between two resends of a packet: a NACK is repeated by a receiver's timer sooner than that only
/// when the network repeats it.
const LEAST_PAUSE: Duration = Duration::from_millis(10);

/// The budget of one client.
#[derive(Debug)]
pub struct RepairBudget {
    saved: f64,
    most: f64,
    at: Instant,
    recent: Vec<(u32, u16, Instant)>,
    place: usize,
    refused: u64,
    resent: u64,
}

impl RepairBudget {
    /// A budget with something saved up.
    pub fn new(now: Instant) -> Self {
        Self { saved: FIRST_SAVED, most: MAX_SAVED, at: now, recent: Vec::new(), place: 0, refused: 0, resent: 0 }
    }

    /// Reads what a first send touches of this.
    pub(super) fn glance(&self) -> u64 {
        self.saved.to_bits() ^ self.most.to_bits()
    }

    /// Takes what the path carries, in bit/s.
    pub fn limit(&mut self, bps: u64) {
        self.most = (bps as f64 / 8.0 * MAX_SAVED_S).clamp(LEAST_MAX_SAVED, MAX_SAVED);
    }

    /// Notes `bytes` of first sends, a share of which may be sent again.
    pub fn earn(&mut self, bytes: u64) {
        self.saved = (self.saved + bytes as f64 * SHARE).min(self.most);
    }

    /// Bytes that may be sent again now, and at most after a while.
    pub fn bytes(&self) -> (usize, usize) {
        (self.saved as usize, self.most as usize)
    }

    /// Whether packet `sequence` of the stream `ssrc`, `bytes` long, may be sent again; it counts when it may.
    pub fn allow(&mut self, now: Instant, (ssrc, sequence): (u32, u16), bytes: usize, rtt: Option<Duration>) -> bool {
        let elapsed = now.saturating_duration_since(self.at).as_secs_f64();
        self.at = self.at.max(now);
        self.saved = (self.saved + elapsed * FLOOR_BYTES_PER_S).min(self.most);
        let pause = rtt.unwrap_or(ASSUMED_RTT).max(LEAST_PAUSE);
        let is_repeated = self
            .recent
            .iter()
            .any(|(s, n, at)| (*s, *n) == (ssrc, sequence) && now.saturating_duration_since(*at) < pause);
        if is_repeated || self.saved < bytes as f64 {
            self.refused += 1;
            return false;
        }
        self.saved -= bytes as f64;
        self.resent += 1;
        let entry = (ssrc, sequence, now);
        match self.recent.get_mut(self.place) {
            Some(place) => *place = entry,
            None => self.recent.push(entry),
        }
        self.place = (self.place + 1) % REMEMBERED;
        true
    }

    /// Resends so far.
    pub fn resent(&self) -> u64 {
        self.resent
    }

    /// Resends that were asked for and not sent.
    pub fn refused(&self) -> u64 {
        self.refused
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RTT: Option<Duration> = Some(Duration::from_millis(50));

    #[test]
    fn a_packet_is_not_sent_again_within_a_round_trip() {
        let t0 = Instant::now();
        let mut budget = RepairBudget::new(t0);
        for (ms, packet, expected) in
            [(0, (1, 7), true), (20, (1, 7), false), (20, (2, 7), true), (49, (1, 7), false), (50, (1, 7), true)]
        {
            assert_eq!(budget.allow(t0 + Duration::from_millis(ms), packet, 100, RTT), expected, "{ms} {packet:?}");
        }
        assert_eq!((budget.resent(), budget.refused()), (3, 2));
    }

    #[test]
    fn resends_are_a_fifth_of_what_is_sent_and_a_small_floor() {
        let t0 = Instant::now();
        let mut budget = RepairBudget::new(t0);
        let (mut resent, mut sequence) = (0, 0);
        for second in 0..60 {
            budget.earn(100_000);
            for ms in 0..100 {
                sequence += 1;
                let now = t0 + Duration::from_millis(second * 1000 + ms * 10);
                resent += if budget.allow(now, (1, sequence), 1_000, RTT) { 1_000 } else { 0 };
            }
        }
        // A fifth of 6 MB, 4 kB a second, and what was saved up at the start.
        let allowed = 1_200_000 + 240_000 + 16_384;
        assert!((allowed - 5_000..=allowed).contains(&resent), "{resent}");
    }
}
