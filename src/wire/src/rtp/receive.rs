//! Statistics of one received stream, for its report blocks (RFC 3550 section 6.4.1, appendices A.3 and A.8).

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::rtcp::ReportBlock;
use super::sequence::Extender;
use crate::id::Ssrc;

/// A jump in transit time of this many seconds is a change of clock, not jitter.
const MAX_JUMP_SECS: u32 = 5;

/// How far a packet that is sent again may be behind the highest one, and ahead of it: nobody waits any more for what was sent before
/// that, and of what comes later nothing was lost.
const REPEATED: (u16, u16) = (3_000, 100);

/// What was received of one stream.
#[derive(Clone, Debug)]
pub struct ReceiveStats {
    clock_rate: u32,
    sequences: Extender,
    /// What an index here is more (wrapping) than in SRTP, where packets have come here.
    round: Option<u64>,
    /// The first packet's index.
    base: u64,
    received: u64,
    /// As of the last report.
    expected_prior: u64,
    received_prior: u64,
    /// The first packet's arrival: arrival times count from here.
    epoch: Option<Instant>,
    transit: u32,
    /// Jitter in 1/16 of the clock's units.
    jitter: u32,
    /// The middle bits of the last sender report's NTP time, and when it came.
    last_sr: Option<(u32, Instant)>,
    /// What comes next goes on behind this index: see [`Self::pass_over`].
    passed_over: Option<u64>,
}

/// The counts of a stream, to go on elsewhere: what its clock has to do with arrival times is found out anew there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReceiveCounts {
    /// The highest index so far.
    pub highest: Option<u64>,
    base: u64,
    received: u64,
    expected_prior: u64,
    received_prior: u64,
    jitter: u32,
}

impl ReceiveStats {
    /// What goes on elsewhere.
    pub fn counts(&self) -> ReceiveCounts {
        let Self { base, received, expected_prior, received_prior, jitter, .. } = *self;
        let highest = self.sequences.highest();
        ReceiveCounts { highest, base, received, expected_prior, received_prior, jitter }
    }

    /// Goes on with the counts of another place.
    pub fn resumed(clock_rate: u32, counts: ReceiveCounts) -> Self {
        let highest = counts.highest.unwrap_or_default();
        let (expected_prior, received_prior) = (counts.expected_prior, counts.received_prior);
        Self {
            sequences: Extender::resumed(counts.highest),
            base: counts.base.min(highest),
            received: counts.received,
            expected_prior: expected_prior.min(highest - counts.base.min(highest) + 1),
            received_prior: received_prior.min(counts.received),
            jitter: counts.jitter,
            ..Self::new(clock_rate)
        }
    }

    /// Reads what a packet touches of this: see `read_ahead` in moonring-core.
    pub fn glance(&self) -> u32 {
        self.jitter ^ self.received as u32
    }

    /// Statistics of a stream whose time stamps have `clock_rate` ticks per second.
    pub fn new(clock_rate: u32) -> Self {
        Self {
            clock_rate,
            sequences: Extender::default(),
            round: None,
            base: 0,
            received: 0,
            expected_prior: 0,
            received_prior: 0,
            epoch: None,
            transit: 0,
            jitter: 0,
            last_sr: None,
            passed_over: None,
        }
    }

    /// What is missing before the next packet was not looked at here: it counts neither as lost nor as expected.
    pub fn pass_over(&mut self) {
        self.passed_over = self.sequences.highest();
    }

    /// Counts a packet. Returns its index: the sequence number without wraps.
    pub fn received(&mut self, sequence: u16, timestamp: u32, now: Instant) -> u64 {
        let index = self.sequences.extend(sequence);
        self.received += 1;
        let is_first_here = self.epoch.is_none();
        let epoch = *self.epoch.get_or_insert(now);
        let transit = ticks(now.saturating_duration_since(epoch), self.clock_rate).wrapping_sub(timestamp);
        if self.received == 1 {
            self.base = index;
        } else if !is_first_here {
            let change = (transit.wrapping_sub(self.transit) as i32).unsigned_abs();
            if change < self.clock_rate.saturating_mul(MAX_JUMP_SECS) {
                // RFC 3550 appendix A.8: J += (|D| - J) / 16, kept in sixteenths.
                self.jitter = self.jitter + change - ((self.jitter + 8) >> 4);
            }
        }
        self.transit = transit;
        // The first packet that comes at all, behind those that came again, begins at its own index anyhow.
        if let Some(before) = self.passed_over.take_if(|before| index > *before)
            && self.received > 1
        {
            self.base += index - before - 1;
        }
        index
    }

    /// Looks at a packet's SRTP index before [`Self::received`]: sequence numbers alone do not tell how many packets are missing
    /// when it is half a round of them or more. False then, and what follows has the indexes that it would have without the gap.
    pub fn follows(&mut self, sequence: u16, sealed: u64) -> bool {
        let round = self.sequences.peek(sequence).wrapping_sub(sealed);
        let known = *self.round.get_or_insert(round);
        if known != round {
            self.sequences.jump(sealed.wrapping_add(known));
        }
        known == round
    }

    /// The index of a packet that came again in a stream of its own (RFC 4588). It counts nowhere: reports tell how packets came the
    /// first time, as those of libwebrtc do. `None` for one that cannot be of this stream, as what was asked for of one before it in
    /// the same place: its number would take the stream to where it is not.
    pub fn repeated(&mut self, sequence: u16) -> Option<u64> {
        let highest = self.sequences.highest()? as u16;
        let (most_behind, most_ahead) = REPEATED;
        let is_of_it = highest.wrapping_sub(sequence) <= most_behind || sequence.wrapping_sub(highest) <= most_ahead;
        is_of_it.then(|| self.sequences.extend(sequence))
    }

    /// Takes note of a sender report's NTP time.
    pub fn sender_report(&mut self, ntp: u64, now: Instant) {
        self.last_sr = Some(((ntp >> 16) as u32, now));
    }

    /// Packets received, duplicates too.
    pub fn packets(&self) -> u64 {
        self.received
    }

    /// Interarrival jitter, in the clock's units.
    pub fn jitter(&self) -> u32 {
        self.jitter >> 4
    }

    /// Packets lost so far; below zero when duplicates outnumber them.
    pub fn lost(&self) -> i64 {
        self.expected() as i64 - self.received as i64
    }

    /// The block for the next report; `None` before the first packet. The share of lost packets is since the last call.
    pub fn report(&mut self, about: Ssrc, now: Instant) -> Option<ReportBlock> {
        let highest = self.sequences.highest()?;
        let expected = self.expected();
        let expected_interval = expected - self.expected_prior;
        let lost_interval = expected_interval.saturating_sub(self.received - self.received_prior);
        (self.expected_prior, self.received_prior) = (expected, self.received);
        // RFC 3550 appendix A.3: a fixed point number with the binary point at the left edge.
        let fraction = (lost_interval << 8).checked_div(expected_interval).unwrap_or(0);
        let (last_sr, since) = match self.last_sr {
            Some((ntp, at)) => (ntp, now.saturating_duration_since(at)),
            None => (0, Duration::ZERO),
        };
        Some(ReportBlock {
            about,
            fraction_lost: fraction.min(255) as u8,
            cumulative_lost: self.lost().clamp(-0x80_0000, 0x7F_FFFF) as i32,
            // An index starts one round up.
            highest_sequence: (highest - (1 << 16)) as u32,
            jitter: self.jitter(),
            last_sr,
            delay_since_last_sr: ticks(since, 1 << 16),
        })
    }

    fn expected(&self) -> u64 {
        // Packets from before the first received count as received, not as expected, as in the RFC's own code.
        self.sequences.highest().map_or(0, |highest| highest - self.base + 1)
    }
}

/// A time in ticks of a clock, modulo 2^32.
fn ticks(time: Duration, clock_rate: u32) -> u32 {
    let whole = time.as_secs().wrapping_mul(u64::from(clock_rate));
    let part = u64::from(time.subsec_nanos()) * u64::from(clock_rate) / 1_000_000_000;
    whole.wrapping_add(part) as u32
}

/// The round-trip time that a report block tells (RFC 3550 section 6.4.1): the middle 32 bits of the NTP time at which
/// it came, less its last sender report and its delay. `None` when it knows no sender report or the sum makes no sense.
pub fn round_trip(block: &ReportBlock, ntp_now: u64) -> Option<Duration> {
    if block.last_sr == 0 {
        return None;
    }
    let units = ((ntp_now >> 16) as u32).wrapping_sub(block.last_sr).wrapping_sub(block.delay_since_last_sr);
    // A clock that was set back, or a lie.
    (units < 0x8000_0000).then(|| Duration::from_nanos((u64::from(units) * 1_000_000_000) >> 16))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ABOUT: Ssrc = Ssrc(7);

    #[test]
    fn srtps_index_tells_how_long_a_gap_is_that_sequence_numbers_do_not() {
        let now = Instant::now();
        let mut stats = ReceiveStats::new(90_000);
        let first = 3 << 16 | 0xFFF0;
        for (ahead, follows) in [
            (0, true),
            (20, true),
            (18, true),
            (20 + 32_767, true),
            (20 + 32_767 + 32_768, false),
            (20 + 32_767 + 32_767, true),
            (200_000, false),
            (200_000 + 65_536, false),
            (200_000 + 65_535, true),
        ] {
            let sealed: u64 = first + ahead;
            assert_eq!(stats.follows(sealed as u16, sealed), follows, "{ahead}");
            // The first one's is 65,536 and its sequence number.
            assert_eq!(stats.received(sealed as u16, 0, now), 0x1_FFF0 + ahead, "{ahead}");
        }
    }

    #[test]
    fn a_report_counts_what_is_missing_since_the_last_one() {
        let now = Instant::now();
        let mut stats = ReceiveStats::new(90_000);
        assert_eq!(stats.report(ABOUT, now), None);
        for (sequences, expected) in [
            // (fraction, cumulative, highest)
            (&[65_534u16, 65_535, 0, 1][..], (0, 0, 0x1_0001)),
            (&[2, 4, 5], (64, 1, 0x1_0005)),
            (&[3], (0, 0, 0x1_0005)),
            (&[5, 5], (0, -2, 0x1_0005)),
            (&[], (0, -2, 0x1_0005)),
            (&[9], (192, 1, 0x1_0009)),
            (&[1009], (255, 1000, 0x1_03F1)),
        ] {
            sequences.iter().for_each(|s| _ = stats.received(*s, 0, now));
            let block = stats.report(ABOUT, now).unwrap();
            assert_eq!((block.fraction_lost, block.cumulative_lost, block.highest_sequence), expected, "{sequences:?}");
        }
        assert_eq!((stats.packets(), stats.lost()), (12, 1000));
    }

    #[test]
    fn a_packet_that_is_sent_again_counts_nowhere_and_is_of_the_stream_if_its_number_is_near() {
        let start = Instant::now();
        let mut stats = ReceiveStats::new(8_000);
        assert_eq!(stats.repeated(7), None, "nothing was lost yet");
        for (n, sequence) in [65_530_u16, 65_531, 65_533, 2].into_iter().enumerate() {
            let ms = n as u32 * 20;
            stats.received(sequence, ms * 8, start + Duration::from_millis(ms.into()));
        }
        let highest = stats.sequences.highest().unwrap();
        for (sequence, expected) in [
            (65_532, Some(highest - 6)),
            (2, Some(highest)),
            (2_u16.wrapping_sub(3_000), Some(highest - 3_000)),
            (2_u16.wrapping_sub(3_001), None),
            (103, None),
            (20_000, None),
            (40_000, None),
            (102, Some(highest + 100)),
        ] {
            assert_eq!(stats.repeated(sequence), expected, "{sequence}");
        }
        assert_eq!((stats.packets(), stats.jitter(), stats.lost()), (4, 0, 105));
    }

    #[test]
    fn a_first_packet_overtaken_by_its_successor_gives_no_negative_sequence() {
        let now = Instant::now();
        let mut stats = ReceiveStats::new(90_000);
        stats.received(0, 0, now);
        stats.received(65_535, 0, now);
        assert_eq!(stats.report(ABOUT, now).unwrap().highest_sequence, 0);
    }

    #[test]
    fn jitter_is_the_smoothed_change_of_transit_time() {
        let start = Instant::now();
        let mut stats = ReceiveStats::new(8_000);
        // 20 ms of 8 kHz sound per packet; arrivals in ms, and the jitter after each by hand from appendix A.8.
        for (n, (arrival, jitter)) in
            [(0, 0), (20, 0), (50, 5), (60, 9), (80, 9), (100, 8), (120, 7)].into_iter().enumerate()
        {
            stats.received(n as u16, n as u32 * 160, start + Duration::from_millis(arrival));
            assert_eq!(stats.jitter(), jitter, "packet {n}");
        }
        stats.received(7, 0x8000_0000, start + Duration::from_millis(140));
        assert_eq!(stats.jitter(), 7, "a jump of the clock is no jitter");
    }

    #[test]
    fn a_report_names_the_last_sender_report_and_its_age() {
        let start = Instant::now();
        let mut stats = ReceiveStats::new(90_000);
        stats.received(1, 0, start);
        let block = stats.report(ABOUT, start).unwrap();
        assert_eq!((block.last_sr, block.delay_since_last_sr), (0, 0));
        stats.sender_report(0x1111_2222_3333_4444, start);
        let block = stats.report(ABOUT, start + Duration::from_millis(1_500)).unwrap();
        assert_eq!((block.last_sr, block.delay_since_last_sr), (0x2222_3333, 0x1_8000));
    }

    #[test]
    fn the_round_trip_is_the_example_of_the_rfc() {
        // RFC 3550 section 6.4.1, figure 2.
        let block = ReportBlock {
            about: ABOUT,
            fraction_lost: 0,
            cumulative_lost: 0,
            highest_sequence: 0,
            jitter: 0,
            last_sr: 0xB705_2000,
            delay_since_last_sr: 0x0005_4000,
        };
        let now = 0x0000_B710_8000_0000;
        assert_eq!(round_trip(&block, now), Some(Duration::from_millis(6_125)));
        assert_eq!(round_trip(&block, 0x0000_B705_3000_0000), None);
        assert_eq!(round_trip(&ReportBlock { last_sr: 0, ..block }, now), None);
    }

    #[test]
    fn what_was_passed_over_is_neither_lost_nor_expected() {
        let t0 = Instant::now();
        let mut stats = ReceiveStats::new(90_000);
        let mut told = |sequences: &[u16], is_passed_over: bool| {
            if is_passed_over {
                stats.pass_over();
            }
            sequences.iter().for_each(|sequence| _ = stats.received(*sequence, 0, t0));
            let block = stats.report(Ssrc(1), t0).unwrap();
            (block.cumulative_lost, block.fraction_lost, block.highest_sequence)
        };
        assert_eq!(told(&[0, 1, 2, 4], false), (1, 51, 4), "one of five");
        assert_eq!(told(&[104, 105], true), (1, 0, 105), "99 were passed over");
        assert_eq!(told(&[107], false), (2, 128, 107), "and one of two is lost");
        assert_eq!(told(&[106, 208], true), (1, 0, 208), "what comes late does not end it");
    }
}
