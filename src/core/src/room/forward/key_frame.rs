//! The key frame that a forward has sent last, or is sending. It is several times as large as other pictures: on a slow path
//! it takes long to leave and to arrive, and the pictures behind it wait. Who drops them, or asks for another because this
//! one is not there yet, makes the path fuller, and everybody's encoder begin anew.

use std::time::{Duration, Instant};

use crate::room::history::Packet;

/// The most that pictures may wait behind one, beyond what is stale otherwise.
const MAX_DELAY: Duration = Duration::from_secs(2);
/// What a key frame has delayed catches up in so many times that delay at the slowest pace (a quarter above the target).
const CATCHES_UP_IN: u32 = 4;
/// It, or what was lost of it, may come within so many round trips, and the time that the path takes for its bytes.
const ROUND_TRIPS: u32 = 2;
/// The range of that time.
const ARRIVES_IN: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));

/// See the module's words.
#[derive(Clone, Copy, Debug)]
pub(super) struct SentKeyFrame {
    /// The publisher's.
    timestamp: u32,
    /// The index of its first packet, as it left.
    begins: u64,
    /// When its last packet left, so far, and how long that had waited here.
    left: Instant,
    delay: Duration,
    /// Of its payloads, so far.
    bytes: usize,
}

impl SentKeyFrame {
    /// Takes in a packet that leaves now as number `index`, of whichever picture.
    pub(super) fn note(last: &mut Option<Self>, now: Instant, (packet, index): (&Packet, u64)) {
        let of_it = last.filter(|key_frame| key_frame.has(packet));
        if of_it.is_some() || packet.info.begins_key_frame() {
            let delay = now.saturating_duration_since(packet.arrival).min(MAX_DELAY);
            let (begins, before) = of_it.map_or((index, 0), |key_frame| (key_frame.begins, key_frame.bytes));
            let bytes = before + packet.payload_len();
            *last = Some(Self { timestamp: packet.timestamp, begins, left: now, delay, bytes });
        }
    }

    /// The index of its first packet, as it left.
    pub(super) fn begins(&self) -> u64 {
        self.begins
    }

    /// How long ago its last packet left, so far.
    pub(super) fn age(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.left)
    }

    /// True for one of its packets.
    pub(super) fn has(&self, packet: &Packet) -> bool {
        self.timestamp == packet.timestamp
    }

    /// How much longer than others the pictures behind it may wait.
    pub(super) fn patience(&self, now: Instant) -> Duration {
        self.delay.saturating_sub(self.age(now) / CATCHES_UP_IN)
    }

    /// True while it may still be on its way, or a packet of it that was lost, on a path of this round trip and rate in bit/s.
    pub(super) fn is_under_way(&self, now: Instant, rtt: Duration, bps: u64) -> bool {
        let (least, most) = ARRIVES_IN;
        let takes = Duration::from_millis(self.bytes as u64 * 8_000 / bps.max(1));
        self.age(now) < (rtt * ROUND_TRIPS + takes).clamp(least, most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::room::history::{History, HistoryLimits};

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn packet(arrival: Instant, timestamp: u32, begins: bool) -> Packet {
        let mut packet = Packet::new(arrival);
        packet.timestamp = timestamp;
        (packet.info.key_frame, packet.info.frame_start) = (begins, begins);
        packet
    }

    #[test]
    fn what_a_key_frame_has_delayed_may_catch_up() {
        let t0 = Instant::now();
        let mut last = None;
        SentKeyFrame::note(&mut last, t0, (&packet(t0, 7, false), 0));
        assert!(last.is_none(), "a picture between is none");
        SentKeyFrame::note(&mut last, t0 + ms(10), (&packet(t0, 10, true), 1));
        SentKeyFrame::note(&mut last, t0 + ms(410), (&packet(t0 + ms(10), 10, false), 2));
        SentKeyFrame::note(&mut last, t0 + ms(600), (&packet(t0 + ms(100), 11, false), 3));
        let last = last.expect("noted");
        assert!(last.has(&packet(t0, 10, false)) && !last.has(&packet(t0, 11, false)));
        assert_eq!((last.begins(), last.age(t0 + ms(450))), (1, ms(40)));
        let patience = [410, 810, 2_010, 9_000].map(|at| last.patience(t0 + ms(at)));
        assert_eq!(patience, [ms(400), ms(300), ms(0), ms(0)]);
        // However long it took.
        let mut slow = None;
        SentKeyFrame::note(&mut slow, t0 + ms(9_000), (&packet(t0, 10, true), 0));
        assert_eq!(slow.expect("noted").patience(t0 + ms(9_000)), MAX_DELAY);
    }

    #[test]
    fn a_key_frame_is_under_way_for_two_round_trips_and_as_long_as_the_path_takes_for_its_bytes() {
        let t0 = Instant::now();
        let mut history = History::new(HistoryLimits { age: ms(1_000), bytes: 65_536 });
        for _ in 0..15 {
            history.push(packet(t0, 10, history.end() == 0), &[], &[0; 1_000]);
        }
        let mut last = None;
        (0..15).for_each(|n| SentKeyFrame::note(&mut last, t0, (history.get(n).expect("kept"), n)));
        let last = last.expect("noted");
        for (rtt, bps, until) in
            [(10, 100_000_000, 100), (200, 100_000_000, 401), (10, 200_000, 620), (3_000, 10_000, 2_000)]
        {
            assert!(last.is_under_way(t0 + ms(until - 1), ms(rtt), bps), "{rtt} ms");
            assert!(!last.is_under_way(t0 + ms(until + 1), ms(rtt), bps), "{rtt} ms");
        }
    }
}
