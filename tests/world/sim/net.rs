//! A bad network on virtual time: loss, delay, reordering, duplicates and a bottleneck, from a seed.

use std::cmp::Reverse;
use std::collections::hash_map::DefaultHasher;
use std::collections::{BinaryHeap, HashMap};
use std::hash::{Hash, Hasher};
use std::net::SocketAddr;
use std::time::Instant;

use moonring_wire::rtp::sequence::Extender;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

pub(crate) use super::link::Link;
use super::trace::Trace;

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
    pub(super) trace: Trace,
    /// Members that come have one address, that of a home.
    pub(crate) is_home: bool,
}

impl Net {
    pub(crate) fn new(seed: u64, start: Instant) -> Self {
        Self {
            rng: SmallRng::seed_from_u64(seed),
            queue: BinaryHeap::new(),
            sent: 0,
            trace: Trace::new(start),
            is_home: false,
        }
    }

    pub(crate) fn send(&mut self, now: Instant, link: &mut Link, from: SocketAddr, to: SocketAddr, bytes: &[u8]) {
        let arrives = self.pass(now, link, bytes);
        self.trace.sent(now, (from, to), bytes, &arrives);
        for at in arrives {
            self.sent += 1;
            self.queue.push(Reverse(Datagram { at, order: self.sent, from, to, bytes: bytes.to_vec() }));
        }
    }

    /// When a datagram comes out of a link: never, once or twice.
    fn pass(&mut self, now: Instant, link: &mut Link, bytes: &[u8]) -> Vec<Instant> {
        if self.rng.random_bool(link.loss) {
            return Vec::new();
        }
        let Some(out) = link.pass(now, bytes) else { return Vec::new() };
        let copies = 1 + usize::from(self.rng.random_bool(link.duplicates));
        (0..copies).map(|_| out + link.delay + link.jitter.mul_f64(self.rng.random_range(0.0..1.0))).collect()
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
