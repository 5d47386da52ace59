//! A bad network on virtual time: loss, delay, reordering, duplicates and a bottleneck, from a seed.

use std::cmp::Reverse;
use std::collections::hash_map::DefaultHasher;
use std::collections::{BinaryHeap, HashMap};
use std::hash::{Hash, Hasher};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use moonring_wire::rtp::sequence::Extender;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

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
    fn pass(&mut self, now: Instant, len: usize) -> Option<Instant> {
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
        let end = start + time(len);
        self.busy_until = Some(end);
        Some(end.checked_sub(burst).map_or(now, |at| at.max(now)))
    }
}

/// A datagram under way.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Datagram {
    pub(crate) at: Instant,
    order: u64,
    pub(crate) from: SocketAddr,
    pub(crate) to: SocketAddr,
    pub(crate) bytes: Vec<u8>,
}

/// What is under way.
pub(crate) struct Net {
    rng: SmallRng,
    queue: BinaryHeap<Reverse<Datagram>>,
    sent: u64,
}

impl Net {
    pub(crate) fn new(seed: u64) -> Self {
        Self { rng: SmallRng::seed_from_u64(seed), queue: BinaryHeap::new(), sent: 0 }
    }

    pub(crate) fn send(&mut self, now: Instant, link: &mut Link, from: SocketAddr, to: SocketAddr, bytes: &[u8]) {
        if self.rng.random_bool(link.loss) {
            return;
        }
        let Some(out) = link.pass(now, bytes.len()) else { return };
        let copies = 1 + usize::from(self.rng.random_bool(link.duplicates));
        for _ in 0..copies {
            let jitter = link.jitter.mul_f64(self.rng.random_range(0.0..1.0));
            self.sent += 1;
            let at = out + link.delay + jitter;
            self.queue.push(Reverse(Datagram { at, order: self.sent, from, to, bytes: bytes.to_vec() }));
        }
    }

    pub(crate) fn next_at(&self) -> Option<Instant> {
        self.queue.peek().map(|Reverse(datagram)| datagram.at)
    }

    pub(crate) fn due(&mut self, now: Instant) -> Option<Datagram> {
        if self.next_at()? > now {
            return None;
        }
        self.queue.pop().map(|Reverse(datagram)| datagram)
    }
}

/// The packets that the server has sealed: none may be sealed twice under one key and index with other bytes. SSRCs are
/// random, so that one stands for one key, and of reports the address does.
#[derive(Debug, Default)]
pub(crate) struct Seals {
    seen: HashMap<(u32, u64), u64>,
    /// Sequence numbers go round.
    streams: HashMap<u32, Extender>,
    reports: HashMap<(SocketAddr, u32), u64>,
    repeated: Vec<u32>,
}

impl Seals {
    pub(crate) fn note(&mut self, to: SocketAddr, datagram: &[u8]) {
        if !matches!(datagram.first(), Some(128..=191)) || datagram.len() <= 12 {
            return;
        }
        let mut hasher = DefaultHasher::new();
        datagram.hash(&mut hasher);
        let hash = hasher.finish();
        let word = |at: usize| u32::from_be_bytes([datagram[at], datagram[at + 1], datagram[at + 2], datagram[at + 3]]);
        let (before, stream) = if (192..=223).contains(&datagram[1]) {
            // With AES-GCM, which all peers negotiate, the index is the last word.
            let key = (to, word(datagram.len() - 4));
            (*self.reports.entry(key).or_insert(hash), 0)
        } else {
            let ssrc = word(8);
            let index = self.streams.entry(ssrc).or_default().extend(u16::from_be_bytes([datagram[2], datagram[3]]));
            (*self.seen.entry((ssrc, index)).or_insert(hash), ssrc)
        };
        if before != hash {
            self.repeated.push(stream);
        }
    }

    /// How many were sealed.
    pub(crate) fn sealed(&self) -> usize {
        self.seen.len() + self.reports.len()
    }

    pub(crate) fn repeated(&self) -> impl Iterator<Item = u32> + '_ {
        self.repeated.iter().copied()
    }
}

/// The seed of a test's world: fixed, or random to search for failures.
pub(crate) fn seed(fixed: u64) -> u64 {
    match std::env::var("WORLD_SEED").as_deref() {
        Ok("random") => {
            let seed = rand::random();
            eprintln!("WORLD_SEED={seed}");
            seed
        }
        Ok(text) => text.parse().expect("WORLD_SEED is a number or `random`"),
        Err(_) => fixed,
    }
}
