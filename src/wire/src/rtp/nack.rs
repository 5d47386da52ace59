//! Which packets of a stream are missing, and when to ask for them again.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Most packets missed at a time: more is no loss to repair but an interruption.
pub const MAX_MISSING: usize = 250;
/// A packet is missed when this many later ones have come...
const REORDER_PACKETS: u64 = 2;
/// ...or this long after the first later one.
const REORDER_TIME: Duration = Duration::from_millis(10);
/// Shortest time between two requests for a packet; longer when the round trip is.
const MIN_RETRY: Duration = Duration::from_millis(20);
/// Requests for one packet.
const MAX_TRIES: u8 = 10;
/// How long a packet of pictures is waited for: others need it.
pub const PICTURE_PATIENCE: Duration = Duration::from_secs(1);
/// How long a packet of sound is waited for: what comes later than receivers hold sound back is not played.
pub const SOUND_PATIENCE: Duration = Duration::from_millis(200);

/// The missing packets of one stream.
#[derive(Clone, Debug)]
pub struct NackGenerator {
    highest: Option<u64>,
    /// In the order of their indices; never more than [`MAX_MISSING`].
    missing: VecDeque<Missing>,
    given_up: bool,
    /// When there may be something to do, not later than there is: all that is missing is looked at only then.
    next: Option<Instant>,
    patience: Duration,
}

#[derive(Clone, Copy, Debug)]
struct Missing {
    index: u64,
    since: Instant,
    tries: u8,
    /// When the last request was sent.
    asked: Instant,
}

impl Missing {
    /// When to ask next: at once after the tolerance, then after a round trip, each time half as long again.
    fn due(&self, highest: u64, rtt: Duration) -> Instant {
        match self.tries {
            0 if highest >= self.index + REORDER_PACKETS => self.since,
            0 => self.since + REORDER_TIME,
            tries => {
                let base = rtt.max(MIN_RETRY);
                let wait = (1..tries).fold(base, |wait, _| (wait + wait / 2).min(PICTURE_PATIENCE));
                self.asked + wait.min(PICTURE_PATIENCE)
            }
        }
    }

    /// It is too late, or the last request had its time.
    fn is_hopeless(&self, now: Instant, (highest, patience): (u64, Duration), rtt: Duration) -> bool {
        now >= self.since + patience || self.tries == MAX_TRIES && now >= self.due(highest, rtt)
    }
}

impl NackGenerator {
    /// Nothing received, nothing missing; what is missing is given up after `patience`. Most streams never miss anything: memory is allocated at the first gap, all
    /// that there will be.
    pub fn new(patience: Duration) -> Self {
        Self { highest: None, missing: VecDeque::new(), given_up: false, next: None, patience }
    }

    /// Takes note of the packet with `index` (its sequence number without wraps), first sent or repeated. True when
    /// [`NackGenerator::next_due`] is sooner than before.
    pub fn received(&mut self, index: u64, now: Instant) -> bool {
        let Some(highest) = self.highest else {
            self.highest = Some(index);
            return false;
        };
        if index <= highest {
            if let Ok(at) = self.missing.binary_search_by_key(&index, |m| m.index) {
                self.missing.remove(at);
            }
            return false;
        }
        self.highest = Some(index);
        let gap = index - highest - 1;
        if gap == 0 {
            // What is not asked for yet is the last of what is missing, but for what another shard has missed.
            let is_asked = self.missing.back().is_none_or(|last| last.tries > 0);
            return !is_asked && self.sooner(now);
        }
        if gap as usize > MAX_MISSING - self.missing.len() {
            self.give_up();
            return self.sooner(now);
        }
        self.missing.reserve_exact(MAX_MISSING - self.missing.len());
        self.missing.extend((highest + 1..index).map(|index| Missing { index, since: now, tries: 0, asked: now }));
        // Of more than one, the first has two later ones behind it when the last has one.
        let is_new_due = gap >= REORDER_PACKETS || self.missing.len() as u64 > gap;
        self.sooner(if is_new_due { now } else { now + REORDER_TIME })
    }

    fn sooner(&mut self, at: Instant) -> bool {
        let is_sooner = self.next.is_none_or(|next| at < next);
        if is_sooner {
            self.next = Some(at);
        }
        is_sooner
    }

    /// Appends the sequence numbers to ask for now to `out`, in their order. True once after packets were given up:
    /// decoding can't go on without a key frame.
    pub fn due(&mut self, now: Instant, rtt: Duration, out: &mut Vec<u16>) -> bool {
        let Some(highest) = self.highest else { return false };
        if self.next.is_none_or(|next| now < next) {
            return false;
        }
        let (before, patience) = (self.missing.len(), self.patience);
        // Some in front may be missed for a shorter time: see `miss`.
        self.missing.retain(|m| !m.is_hopeless(now, (highest, patience), rtt));
        self.given_up |= self.missing.len() < before;
        for missing in &mut self.missing {
            if missing.tries < MAX_TRIES && now >= missing.due(highest, rtt) {
                missing.tries += 1;
                missing.asked = now;
                out.push(missing.index as u16);
            }
        }
        let soonest = |m: &Missing| m.due(highest, rtt).min(m.since + patience);
        self.next = self.missing.iter().map(soonest).min();
        std::mem::take(&mut self.given_up)
    }

    /// Takes note of the packet with `index`, of which nobody minds what is missing; true when something is, right before it.
    pub fn pass(&mut self, index: u64) -> bool {
        self.forget_missing();
        let has_gap = self.highest.is_some_and(|highest| index > highest + 1);
        self.reach(index);
        has_gap
    }

    /// When [`NackGenerator::due`] may have something to do: after it was called, later than that.
    pub fn next_due(&self) -> Option<Instant> {
        self.next
    }

    /// Begins anew with the next packet, whatever its number.
    pub fn restart(&mut self) {
        self.highest = None;
        self.forget_missing();
    }

    /// Forgets what is missing, because a key frame makes it useless or nobody needs the stream.
    pub fn forget_missing(&mut self) {
        self.missing.clear();
        (self.given_up, self.next) = (false, None);
    }

    /// The packets that are missing, by their indexes, in order.
    pub fn missing_indexes(&self) -> impl Iterator<Item = u64> + '_ {
        self.missing.iter().map(|missing| missing.index)
    }

    /// The highest index that came; 0 before the first.
    pub fn highest(&self) -> u64 {
        self.highest.unwrap_or_default()
    }

    /// Goes on behind `highest`, with nothing missing: everything up to there came elsewhere.
    pub fn resume(&mut self, highest: Option<u64>) {
        self.forget_missing();
        self.highest = highest;
    }

    /// Another one for the same kind of packets, in which nothing is missing.
    pub fn emptied(&self) -> Self {
        Self::new(self.patience)
    }

    /// Goes on behind `highest` if nothing as high has come; what lies between is not missed.
    pub fn reach(&mut self, highest: u64) {
        self.highest = self.highest.max(Some(highest));
    }

    /// Others have seen that `highest` was sent: what lies between is missing, `highest` as well.
    pub fn expect(&mut self, highest: u64, now: Instant) {
        let first = self.highest.map_or(highest, |came| came + 1).max((highest + 1).saturating_sub(MAX_MISSING as u64));
        self.reach(highest);
        self.miss(first..=highest, now);
    }

    /// These are missing, too, if they are not behind the highest, and waited for from `now` on; of more than
    /// [`MAX_MISSING`] the last.
    pub fn miss(&mut self, indexes: impl IntoIterator<Item = u64>, now: Instant) {
        let Some(highest) = self.highest else { return };
        for index in indexes.into_iter().filter(|index| *index <= highest) {
            if self.missing.len() == MAX_MISSING {
                self.missing.pop_front();
            }
            if let Err(at) = self.missing.binary_search_by_key(&index, |m| m.index) {
                self.missing.insert(at, Missing { index, since: now, tries: 0, asked: now });
                self.sooner(now);
            }
        }
    }

    /// Number of packets that are missing.
    pub fn missing(&self) -> usize {
        self.missing.len()
    }

    fn give_up(&mut self) {
        self.missing.clear();
        self.given_up = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RTT: Duration = Duration::from_millis(50);

    enum Step {
        /// A packet comes.
        Got(u64),
        /// Time, in ms since the start → sequence numbers asked for, and whether a key frame is needed.
        Due(u64, &'static [u16], bool),
    }
    use Step::{Due, Got};

    fn check(rtt: Duration, steps: &[Step]) {
        let start = Instant::now();
        let (mut generator, mut now) = (NackGenerator::new(PICTURE_PATIENCE), start);
        for (n, step) in steps.iter().enumerate() {
            match step {
                Got(index) => {
                    generator.received(*index, now);
                }
                Due(at, sequences, key_frame) => {
                    now = start + Duration::from_millis(*at);
                    let mut out = Vec::new();
                    let needed = generator.due(now, rtt, &mut out);
                    assert_eq!((&out[..], needed), (*sequences, *key_frame), "step {n}, {at} ms");
                }
            }
        }
    }

    #[test]
    fn a_gap_is_asked_for_after_two_later_packets() {
        check(RTT, &[Got(65_534), Got(65_537), Due(0, &[65_535], false), Got(65_538), Due(0, &[0], false)]);
    }

    #[test]
    fn a_gap_is_asked_for_after_ten_milliseconds() {
        check(RTT, &[Got(1), Got(3), Due(9, &[], false), Due(10, &[2], false), Due(11, &[], false)]);
    }

    #[test]
    fn a_reordered_packet_is_not_asked_for() {
        check(RTT, &[Got(1), Got(3), Got(2), Got(4), Due(20, &[], false)]);
    }

    #[test]
    fn a_request_is_repeated_after_a_round_trip_and_then_less_often() {
        check(
            RTT,
            &[
                Got(1),
                Got(4),
                Got(3),
                Due(0, &[2], false),
                Due(49, &[], false),
                Due(50, &[2], false),
                Due(124, &[], false),
                Due(125, &[2], false),
                Got(2),
                Due(900, &[], false),
            ],
        );
        check(Duration::ZERO, &[Got(1), Got(4), Due(10, &[2, 3], false), Due(29, &[], false), Due(30, &[2, 3], false)]);
    }

    #[test]
    fn a_packet_is_given_up_after_a_second_and_a_key_frame_is_needed_once() {
        check(
            RTT,
            &[Got(1), Got(3), Due(10, &[2], false), Due(999, &[2], false), Due(1000, &[], true), Due(1001, &[], false)],
        );
    }

    #[test]
    fn sound_is_given_up_when_it_would_come_too_late() {
        let start = Instant::now();
        let mut generator = NackGenerator::new(SOUND_PATIENCE);
        generator.received(1, start);
        generator.received(3, start);
        for (ms, sequences, left) in [(10, &[2][..], 1), (60, &[2], 1), (199, &[2], 1), (200, &[], 0)] {
            let mut asked = Vec::new();
            generator.due(start + Duration::from_millis(ms), RTT, &mut asked);
            assert_eq!((&asked[..], generator.missing()), (sequences, left), "{ms} ms");
        }
    }

    #[test]
    fn a_packet_is_asked_for_ten_times_at_most() {
        let start = Instant::now();
        let mut generator = NackGenerator::new(PICTURE_PATIENCE);
        generator.received(1, start);
        generator.received(3, start);
        let mut asked = Vec::new();
        let given_up = (0..=1000).find(|ms| generator.due(start + Duration::from_millis(*ms), RTT, &mut asked));
        assert!(asked.len() <= usize::from(MAX_TRIES) && given_up.is_some(), "{} times", asked.len());
    }

    #[test]
    fn an_interruption_is_not_asked_for() {
        check(RTT, &[Got(1), Got(253), Due(500, &[], true), Due(501, &[], false), Got(254), Due(600, &[], false)]);
        let start = Instant::now();
        for (second, missing, capacity) in [(252, 250, MAX_MISSING), (253, 0, 0), (1 << 40, 0, 0)] {
            let mut generator = NackGenerator::new(PICTURE_PATIENCE);
            generator.received(1, start);
            generator.received(second, start);
            assert_eq!((generator.missing(), generator.given_up), (missing, missing == 0), "{second}");
            assert_eq!(generator.missing.capacity(), capacity, "{second}");
            generator.received(second + 2, start);
            assert!(generator.missing() <= MAX_MISSING);
            generator.received(second + 4, start);
            assert_eq!(generator.missing.capacity(), MAX_MISSING, "{second}: allocated once");
        }
    }

    #[test]
    fn the_next_time_is_when_something_is_due() {
        let start = Instant::now();
        let ms = |n| start + Duration::from_millis(n);
        let mut generator = NackGenerator::new(PICTURE_PATIENCE);
        assert_eq!(generator.next_due(), None);
        generator.received(1, start);
        generator.received(3, start);
        assert_eq!(generator.next_due(), Some(ms(10)));
        generator.due(ms(10), RTT, &mut Vec::new());
        assert_eq!(generator.next_due(), Some(ms(60)));
        generator.forget_missing();
        assert_eq!(generator.next_due(), None);
    }

    #[test]
    fn what_is_missed_later_in_front_of_others_holds_up_none_of_them() {
        let (start, mut generator) = (Instant::now(), NackGenerator::new(Duration::from_secs(1)));
        for index in [100, 105] {
            generator.received(index, start);
        }
        let later = start + Duration::from_millis(900);
        generator.miss([50], later);
        let end = start + Duration::from_millis(1_100);
        generator.due(end, RTT, &mut Vec::new());
        assert_eq!(generator.missing_indexes().collect::<Vec<_>>(), [50]);
        assert!(generator.next_due().is_some_and(|at| at > end), "it is not due again at once");
    }

    #[test]
    fn what_others_have_seen_sent_is_missed_up_to_there_and_no_more_of_it_than_fits() {
        let start = Instant::now();
        for (came, sent, missing) in [(10, 13, 11..14), (10, 10_000, 9_751..10_001), (10, 10, 11..11)] {
            let mut generator = NackGenerator::new(PICTURE_PATIENCE);
            generator.received(came, start);
            generator.expect(sent, start);
            assert_eq!(generator.missing_indexes().collect::<Vec<_>>(), missing.clone().collect::<Vec<_>>());
            assert_eq!(generator.next_due().is_some(), !missing.is_empty());
            // It may be on its way.
            generator.received(sent, start);
            assert!(generator.missing_indexes().all(|index| index < sent));
            assert_eq!(generator.highest(), sent);
        }
    }
}
