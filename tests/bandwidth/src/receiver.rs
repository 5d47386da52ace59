//! The receiving end of a flow: records arrivals and makes feedback of them, as libwebrtc does.

use std::collections::VecDeque;

use crate::link::Path;

/// Bytes of a typical feedback; it may take 5 % of what is received.
const FEEDBACK_BITS: f64 = 68.0 * 8.0;
/// Most packets told at once.
const MOST: u64 = 400;
const TICK_US: i64 = 250;

/// A feedback: each packet's number and when it arrived (rounded as on the wire), and the RTCP packet.
#[derive(Clone, Debug)]
pub struct Told {
    /// Number and arrival.
    pub statuses: Vec<(u64, Option<i64>)>,
    /// As it goes over the wire.
    pub packet: Vec<u8>,
}

/// Records arrivals.
#[derive(Debug, Default)]
pub struct Receiver {
    arrivals: VecDeque<Option<i64>>,
    /// Number of the first in `arrivals`.
    first: u64,
    base: u64,
    pending: bool,
    bytes: usize,
    next_at: i64,
    last_at: i64,
    count: u8,
    drift_ppm: i64,
    interval_us: i64,
}

impl Receiver {
    /// The receiver at the end of `path`.
    pub fn new(path: &Path) -> Self {
        Self { drift_ppm: path.drift_ppm, interval_us: path.feedback_us, ..Self::default() }
    }

    /// A packet has arrived.
    pub fn on_packet(&mut self, at: i64, sequence: u64, bytes: usize) {
        self.bytes += bytes;
        if sequence < self.first {
            return;
        }
        let place = (sequence - self.first) as usize;
        if place >= self.arrivals.len() {
            self.arrivals.resize(place + 1, None);
        }
        self.arrivals[place] = Some(at);
        self.base = self.base.min(sequence);
        self.pending = true;
        while self.arrivals.len() > 4096 {
            self.arrivals.pop_front();
            self.first += 1;
            self.base = self.base.max(self.first);
        }
    }

    /// The feedback that is due at `now`.
    pub fn feedback(&mut self, now: i64) -> Vec<Told> {
        if now < self.next_at {
            return Vec::new();
        }
        let rate = self.bytes as f64 * 8e6 / (now - self.last_at).max(1) as f64;
        (self.bytes, self.last_at) = (0, now);
        let usual = ((FEEDBACK_BITS / (0.05 * rate.max(1.0)) * 1e6) as i64).clamp(50_000, 250_000);
        self.next_at = now + if self.interval_us > 0 { self.interval_us } else { usual };
        let mut all = Vec::new();
        let end = self.first + self.arrivals.len() as u64;
        while self.pending && self.base < end {
            let until = end.min(self.base + MOST);
            all.extend(self.tell(self.base, until));
            self.base = until;
        }
        self.pending = false;
        all
    }

    fn tell(&mut self, from: u64, until: u64) -> Option<Told> {
        let ticks = |at: i64| (at + at / 1_000 * self.drift_ppm / 1_000).div_euclid(TICK_US);
        let statuses: Vec<_> = (from..until)
            .map(|sequence| (sequence, self.arrivals[(sequence - self.first) as usize].map(ticks)))
            .collect();
        let first = statuses.iter().find_map(|status| status.1)?;
        self.count = self.count.wrapping_add(1);
        let packet = encode(from, &statuses, first.div_euclid(256), self.count);
        let statuses = statuses.into_iter().map(|(sequence, at)| (sequence, at.map(|at| at * TICK_US))).collect();
        Some(Told { statuses, packet })
    }
}

/// Writes two-bit vectors only: long, but valid.
fn encode(base: u64, statuses: &[(u64, Option<i64>)], reference: i64, count: u8) -> Vec<u8> {
    let mut out = vec![0x8F, 205, 0, 0, 0, 0, 0, 1, 0, 0, 0, 2];
    out.extend((base as u16).to_be_bytes());
    out.extend((statuses.len() as u16).to_be_bytes());
    out.extend(&(reference as u32).to_be_bytes()[1..]);
    out.push(count);
    let mut last = reference * 256;
    let mut deltas = Vec::new();
    for seven in statuses.chunks(7) {
        let mut chunk = 0b11u16 << 14;
        for (n, (_, at)) in seven.iter().enumerate() {
            let Some(at) = at else { continue };
            let delta = at - last;
            last = *at;
            if (0..256).contains(&delta) {
                deltas.push(delta as u8);
                chunk |= 1 << (12 - 2 * n);
            } else {
                deltas.extend((delta as i16).to_be_bytes());
                chunk |= 2 << (12 - 2 * n);
            }
        }
        out.extend(chunk.to_be_bytes());
    }
    out.extend(deltas);
    out.resize(out.len().next_multiple_of(4), 0);
    let words = (out.len() / 4 - 1) as u16;
    out[2..4].copy_from_slice(&words.to_be_bytes());
    out
}
