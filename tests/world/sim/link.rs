//! What one direction of a path does to datagrams.

use std::time::{Duration, Instant};

/// One direction of one client's path.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Link {
    /// Share of datagrams that get lost.
    pub(crate) loss: f64,
    /// Share of datagrams that come twice.
    pub(crate) duplicates: f64,
    /// The shortest way.
    pub(crate) delay: Duration,
    /// Added at random: datagrams overtake each other.
    pub(crate) jitter: Duration,
    /// The bottleneck, if any; what waits longer than `queue` is lost.
    pub(crate) rate_bps: Option<u64>,
    pub(crate) queue: Duration,
    /// Bytes that pass the bottleneck at once after a pause, as through a token bucket.
    pub(crate) burst: usize,
    pub(crate) busy_until: Option<Instant>,
    /// Datagrams that passed the bottleneck, and that it dropped.
    pub(crate) passed: (u64, u64),
}

impl Link {
    pub(crate) const GOOD: Self = Self {
        loss: 0.0,
        duplicates: 0.0,
        delay: Duration::from_millis(10),
        jitter: Duration::ZERO,
        rate_bps: None,
        queue: Duration::from_millis(200),
        burst: 0,
        busy_until: None,
        passed: (0, 0),
    };

    pub(crate) fn lossy(loss: f64) -> Self {
        Self { loss, ..Self::GOOD }
    }

    /// When a datagram that leaves now comes out of the bottleneck; `None` when it does not.
    pub(super) fn pass(&mut self, now: Instant, datagram: &[u8]) -> Option<Instant> {
        let Some(rate) = self.rate_bps else { return Some(now) };
        let time = |bytes: usize| Duration::from_secs_f64(bytes as f64 * 8.0 / rate as f64);
        // A full bucket is time ahead: what it holds need not wait.
        let burst = time(self.burst);
        let start = self.busy_until.map_or(now, |at| at.max(now));
        if start.saturating_duration_since(now + burst) > self.queue {
            self.passed.1 += 1;
            return None;
        }
        self.passed.0 += 1;
        let end = start + time(weight(datagram));
        self.busy_until = Some(end);
        Some(end.checked_sub(burst).map_or(now, |at| at.max(now)))
    }
}

/// The bytes of a datagram that count on its way: those of the longest with its contents. An ECDSA signature is random, and so is
/// the length of its two numbers in DER (RFC 3279 section 2.2.3).
pub(super) fn weight(mut datagram: &[u8]) -> usize {
    const RECORD: usize = 13;
    const HANDSHAKE: usize = 12;
    const LONGEST_SIGNATURE: usize = 72;
    let mut weight = datagram.len();
    // A record of type 22 and epoch 0 is part of a handshake in the clear (RFC 6347 section 4.1).
    while let [20..=25, _, _, epoch @ .., _, _, _, _, _, _, long, short] = &datagram[..datagram.len().min(RECORD)] {
        let end = (RECORD + usize::from(u16::from_be_bytes([*long, *short]))).min(datagram.len());
        if datagram[0] == 22 && epoch == [0, 0] {
            let body = datagram[..end].get(RECORD + HANDSHAKE..).unwrap_or_default();
            // Before the signature stand its algorithm and length, and in a ServerKeyExchange a curve and a point.
            let before = match (datagram.get(RECORD), body) {
                (Some(12), [_, _, _, point, ..]) => Some(4 + usize::from(*point) + 4),
                (Some(15), _) => Some(4),
                _ => None,
            };
            weight += before.map_or(0, |before| (before + LONGEST_SIGNATURE).saturating_sub(body.len()));
        }
        datagram = &datagram[end..];
    }
    weight
}
