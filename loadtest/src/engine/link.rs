//! Slow links in front of subscribers: each a bottleneck with a drop-tail queue that some of them share. The clock is an
//! argument; datagrams are copied, and due when their last bit has passed.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

/// What a datagram takes of a link beyond its payload: the headers of IPv4 and UDP.
pub const IP_UDP_BYTES: usize = 28;
/// Datagrams in the queues of all links of an engine; more are dropped, whatever the queues' lengths.
const MAX_WAITING: usize = 1 << 16;
/// Longest time in a queue told apart.
const LONGEST_US: u64 = 60_000_000;

/// What a link is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkSettings {
    /// What passes in a second; `None` is no limit.
    pub rate_bps: Option<u64>,
    /// What would wait for longer than this is dropped.
    pub queue: Duration,
}

/// What came to a link while it was limited.
#[derive(Clone, Debug)]
pub struct LinkCounts {
    /// Datagrams that came.
    pub datagrams: u64,
    /// Those of them that found the queue full.
    pub dropped: u64,
    /// From coming to having passed, of the others, in microseconds.
    pub delays: Histogram<u64>,
}

impl Default for LinkCounts {
    fn default() -> Self {
        let delays = Histogram::new_with_bounds(1, LONGEST_US, 2).expect("the bounds are in order");
        Self { datagrams: 0, dropped: 0, delays }
    }
}

impl LinkCounts {
    /// Adds another link's.
    pub fn merge(&mut self, other: &Self) {
        self.datagrams += other.datagrams;
        self.dropped += other.dropped;
        self.delays.add(&other.delays).expect("all have the same bounds");
    }
}

/// A datagram that has passed its link.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Passed {
    /// When its last bit had passed.
    pub(super) at: Instant,
    order: u64,
    /// Whose it is.
    pub(super) client: usize,
    /// When it came to this machine.
    pub(super) arrived_ns: u64,
    pub(super) bytes: Vec<u8>,
}

/// All links of an engine.
#[derive(Debug, Default)]
pub(super) struct Links {
    links: Vec<Link>,
    waiting: BinaryHeap<Reverse<Passed>>,
    taken: u64,
    lifted: bool,
}

#[derive(Debug)]
struct Link {
    settings: LinkSettings,
    /// When the last bit of all that waits will have passed.
    free_at: Option<Instant>,
    counts: LinkCounts,
}

impl Links {
    pub(super) fn new(links: &[LinkSettings]) -> Self {
        let link = |settings: &LinkSettings| Link { settings: *settings, free_at: None, counts: LinkCounts::default() };
        Self { links: links.iter().map(link).collect(), ..Self::default() }
    }

    /// Takes a datagram for `client`, which came to the link `link` at `now`; false when there is no limit and it need not
    /// wait.
    pub(super) fn take(&mut self, link: usize, now: Instant, (client, arrived_ns): (usize, u64), bytes: &[u8]) -> bool {
        let Some(link) = self.links.get_mut(link).filter(|link| link.settings.rate_bps.is_some()) else { return false };
        let has_room = self.waiting.len() < MAX_WAITING;
        link.counts.datagrams += 1;
        match link.pass(now, bytes.len() + IP_UDP_BYTES).filter(|_| has_room) {
            Some(at) => {
                self.taken += 1;
                self.waiting.push(Reverse(Passed { at, order: self.taken, client, arrived_ns, bytes: bytes.into() }));
            }
            None => link.counts.dropped += 1,
        }
        true
    }

    /// When the next datagram will have passed.
    pub(super) fn next_at(&self) -> Option<Instant> {
        self.waiting.peek().map(|Reverse(passed)| passed.at)
    }

    /// The next datagram that has passed, in the order in which they do.
    pub(super) fn due(&mut self, now: Instant) -> Option<Passed> {
        if self.next_at()? > now {
            return None;
        }
        self.waiting.pop().map(|Reverse(passed)| passed)
    }

    /// Nothing is limited from now on; what waits is due at once.
    pub(super) fn lift(&mut self, now: Instant) {
        self.lifted = true;
        self.links.iter_mut().for_each(|link| link.settings.rate_bps = None);
        let waiting = std::mem::take(&mut self.waiting).into_iter();
        self.waiting = waiting.map(|Reverse(passed)| Reverse(Passed { at: passed.at.min(now), ..passed })).collect();
    }

    /// Whether [`Links::lift`] was called.
    pub(super) fn are_lifted(&self) -> bool {
        self.lifted
    }

    pub(super) fn counts(&self) -> impl Iterator<Item = &LinkCounts> {
        self.links.iter().map(|link| &link.counts)
    }
}

impl Link {
    /// When `bytes` that come now have passed; `None` when the queue is too long.
    fn pass(&mut self, now: Instant, bytes: usize) -> Option<Instant> {
        let rate = self.settings.rate_bps?.max(1);
        let start = self.free_at.map_or(now, |at| at.max(now));
        if start.saturating_duration_since(now) > self.settings.queue {
            return None;
        }
        let at = start + Duration::from_nanos((bytes as u64 * 8).saturating_mul(1_000_000_000) / rate);
        self.free_at = Some(at);
        self.counts.delays.saturating_record((at - now).as_micros() as u64);
        Some(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 1,000 bytes with their headers take 100 ms.
    const SLOW: LinkSettings = LinkSettings { rate_bps: Some(80_000), queue: Duration::from_millis(250) };
    const BYTES: [u8; 1_000 - IP_UDP_BYTES] = [7; 1_000 - IP_UDP_BYTES];

    /// (ms, client) of all that has passed `ms` milliseconds after `start`.
    fn passed(links: &mut Links, start: Instant, ms: u64) -> Vec<(u128, usize)> {
        let now = start + Duration::from_millis(ms);
        std::iter::from_fn(|| links.due(now)).map(|p| ((p.at - start).as_millis(), p.client)).collect()
    }

    #[test]
    fn datagrams_pass_in_order_when_their_last_bit_has() {
        let (start, mut links) = (Instant::now(), Links::new(&[SLOW]));
        for client in [3, 4] {
            assert!(links.take(0, start, (client, 5), &BYTES));
        }
        assert_eq!(links.next_at(), Some(start + Duration::from_millis(100)));
        assert_eq!(passed(&mut links, start, 99), []);
        assert_eq!(passed(&mut links, start, 150), [(100, 3)]);
        assert_eq!(passed(&mut links, start, 1_000), [(200, 4)]);
        // After a pause the link is free at once.
        assert!(links.take(0, start + Duration::from_millis(700), (9, 5), &BYTES));
        assert_eq!(passed(&mut links, start, 1_000), [(800, 9)]);
        assert_eq!(links.next_at(), None);
    }

    #[test]
    fn what_finds_a_full_queue_is_dropped_and_counted() {
        let (start, mut links) = (Instant::now(), Links::new(&[SLOW]));
        (0..8).for_each(|client| assert!(links.take(0, start, (client, 0), &BYTES)));
        // Those that would wait for 300 ms and longer.
        assert_eq!(passed(&mut links, start, 5_000), [(100, 0), (200, 1), (300, 2)]);
        let counts = links.counts().next().unwrap();
        assert_eq!((counts.datagrams, counts.dropped), (8, 5));
        assert_eq!((counts.delays.len(), counts.delays.max() / 10_000), (3, 30));
    }

    #[test]
    fn clients_of_one_link_share_it_and_those_of_others_do_not() {
        let (start, mut links) = (Instant::now(), Links::new(&[SLOW, SLOW]));
        for (link, client) in [(0, 1), (1, 2), (0, 3)] {
            assert!(links.take(link, start, (client, 0), &BYTES));
        }
        assert_eq!(passed(&mut links, start, 1_000), [(100, 1), (100, 2), (200, 3)]);
    }

    #[test]
    fn without_a_limit_nothing_is_held_and_lifting_one_lets_everything_through() {
        let free = LinkSettings { rate_bps: None, ..SLOW };
        let (start, mut links) = (Instant::now(), Links::new(&[free, SLOW]));
        assert!(!links.take(0, start, (1, 0), &BYTES));
        assert!(!links.take(7, start, (1, 0), &BYTES));
        for client in [2, 3] {
            assert!(links.take(1, start, (client, 0), &BYTES));
        }
        links.lift(start + Duration::from_millis(10));
        assert!(!links.take(1, start, (4, 0), &BYTES));
        assert_eq!(passed(&mut links, start, 10), [(10, 2), (10, 3)]);
    }

    #[test]
    fn a_link_carries_its_rate() {
        let settings = LinkSettings { rate_bps: Some(600_000), queue: Duration::from_millis(400) };
        let (start, mut links) = (Instant::now(), Links::new(&[settings]));
        let mut bytes = 0;
        for ms in 0..20_000 {
            let now = start + Duration::from_millis(ms);
            links.take(0, now, (0, 0), &BYTES[..300]);
            bytes += std::iter::from_fn(|| links.due(now)).map(|p| p.bytes.len() + IP_UDP_BYTES).sum::<usize>();
            assert!(links.waiting.len() * 328 * 8 <= 600 * 420, "{} ms", ms);
        }
        assert!((595_000..=600_000).contains(&(bytes * 8 / 20)), "{}", bytes * 8 / 20);
    }
}
