//! The clock of a publisher, from its sender reports.

use std::time::Instant;

/// The publisher's wall clock at one of its time stamps, from a sender report (RFC 3550 section 6.4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SenderClock {
    /// NTP, 32.32 bits.
    pub ntp: u64,
    /// The RTP time stamp of the same moment.
    pub timestamp: u32,
    /// When the report came.
    pub at: Instant,
}

impl SenderClock {
    /// (NTP, RTP time stamp) of `now`, with `rate` ticks per second.
    pub fn at(&self, now: Instant, rate: u32) -> (u64, u32) {
        let elapsed = now.saturating_duration_since(self.at).as_secs_f64();
        let ntp = self.ntp.wrapping_add((elapsed * 4_294_967_296.0) as u64);
        (ntp, self.timestamp.wrapping_add((elapsed * f64::from(rate)) as u64 as u32))
    }

    /// What to subtract from a time stamp of `other` to get this clock's time stamp of the same moment.
    pub fn shift_to(&self, other: &Self, rate: u32) -> u32 {
        let seconds = (other.ntp.wrapping_sub(self.ntp) as i64) as f64 / 4_294_967_296.0;
        let expected = self.timestamp.wrapping_add((seconds * f64::from(rate)).round() as i64 as u32);
        other.timestamp.wrapping_sub(expected)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_senders_clock_runs_on_between_its_reports() {
        let at = Instant::now();
        let clock = SenderClock { ntp: 5 << 32, timestamp: u32::MAX - 44_999, at };
        assert_eq!(clock.at(at + Duration::from_secs(1), 90_000), (6 << 32, 45_000));
    }

    #[test]
    fn two_layers_with_unlike_time_stamps_are_aligned_by_their_reports() {
        let at = Instant::now();
        let low = SenderClock { ntp: 10 << 32, timestamp: 1_000, at };
        let high = SenderClock { ntp: 11 << 32, timestamp: 500_000, at };
        // At NTP 11 the low layer is at 1,000 + 90,000.
        assert_eq!(high.timestamp.wrapping_sub(low.shift_to(&high, 90_000)), 91_000);
        let earlier = SenderClock { ntp: 9 << 32, timestamp: 7, at };
        assert_eq!(7u32.wrapping_sub(low.shift_to(&earlier, 90_000)), 1_000u32.wrapping_sub(90_000));
    }
}
