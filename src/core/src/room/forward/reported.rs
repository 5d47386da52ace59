//! When a client was sent reports, for the round trip that its own reports tell of.

use std::time::{Duration, Instant};

/// Reports remembered: one a second, and the answer to one may take some.
const REMEMBERED: usize = 4;

/// The last sender reports of a forward. Their NTP time is the publisher's, which says nothing of this server's clock: it
/// only names the report.
#[derive(Clone, Copy, Debug, Default)]
pub struct Reported {
    /// The middle 32 bits of the NTP time, and when it left.
    all: [Option<(u32, Instant)>; REMEMBERED],
    next: usize,
}

impl Reported {
    /// A report with this NTP time leaves.
    pub fn note(&mut self, now: Instant, ntp: u64) {
        self.all[self.next] = Some(((ntp >> 16) as u32, now));
        self.next = (self.next + 1) % REMEMBERED;
    }

    /// The time since the report that `last_sr` names left, without the `delay` (in 1/65,536 s) that its receiver had it (RFC 3550
    /// section 6.4.1). `None` where it names none, or more than one.
    pub fn round_trip(&self, now: Instant, (last_sr, delay): (u32, u32)) -> Option<Duration> {
        let mut named = self.all.iter().flatten().filter(|(ntp, _)| *ntp == last_sr);
        let (_, at) = named.next().filter(|_| named.next().is_none())?;
        now.checked_duration_since(*at)?.checked_sub(Duration::from_secs_f64(f64::from(delay) / 65_536.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_known_by_its_time_for_a_few_seconds() {
        let (start, mut reported) = (Instant::now(), Reported::default());
        let ms = |n: u64| start + Duration::from_millis(n);
        for n in 0..6 {
            reported.note(ms(n * 1_000), (n.min(4) + 7) << 32);
        }
        for (at, last_sr, delay, expected) in [
            (3_050, 10 << 16, 0, Some(50)),
            (3_550, 10 << 16, 1 << 15, Some(50)),
            (3_550, 10 << 16, 1 << 16, None),
            (3_050, 8 << 16, 0, None),
            (5_050, 11 << 16, 0, None),
            (5_050, 12 << 16, 0, None),
        ] {
            let told = reported.round_trip(ms(at), (last_sr, delay));
            assert_eq!(told, expected.map(Duration::from_millis), "{last_sr:x} at {at} ms");
        }
    }
}
