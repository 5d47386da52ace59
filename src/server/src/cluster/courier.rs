//! Messages between the shards of two nodes, in their order and complete, over a bus that may lose them, without I/O.
//!
//! ```text
//! run u64 | shard u16 | stream u32 | seq u64 | acked stream u32 | acked u64 | a piece, or nothing
//! ```
//! Each pair of shards has a stream in each direction. Its pieces are numbered, are kept until the other side has said that it
//! has them, and are said again when it does not: while the bus is away they wait. When too much waits they are all lost, and a
//! new stream begins, which both shards are told: what is spread over the two then begins anew.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::messages::Run;
use moonring_core::command::empty_piece;
use moonring_wire::id::PlaceId;

/// Pieces that may wait for one shard.
const MAX_WAITING: usize = 16_384;
/// Their bytes.
const MAX_WAITING_BYTES: usize = 32 * 1024 * 1024;
/// Pieces that are under way at once.
const MAX_FLIGHT: usize = 64;
/// What has not been acknowledged for so long is said again.
const AGAIN: Duration = Duration::from_millis(250);
/// A shard that has not acknowledged for so long is away.
const AWAY: Duration = Duration::from_secs(2);
/// Bytes in front of a piece.
const HEAD: usize = 34;

/// A shard of this node, and one of another.
pub(super) type Pair = (u16, PlaceId);

/// All streams.
#[derive(Debug, Default)]
pub(super) struct Courier {
    streams: HashMap<Pair, Stream>,
}

/// Both directions between two shards.
#[derive(Debug, Default)]
struct Stream {
    /// Counts how often this direction has begun anew.
    number: u32,
    /// The number of the first piece that waits.
    first: u64,
    waiting: VecDeque<Piece>,
    bytes: usize,
    /// When something was last acknowledged, or began to wait.
    moved: Option<Instant>,
    is_away: bool,
    /// The other direction's stream, and the next piece of it.
    theirs: (u32, u64),
    /// The other side is to be told what has come.
    owes_word: bool,
    /// Everything that was spread over the two has ended here: what the other side has lost since is nobody's loss.
    has_ended: bool,
}

#[derive(Debug)]
struct Piece {
    bytes: Vec<u8>,
    said: Option<Instant>,
}

/// What stands in front of a piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    /// Who says it.
    pub run: Run,
    pub shard: u16,
    stream: u32,
    seq: u64,
    acked: (u32, u64),
}

/// What has come.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Came<'a> {
    /// The next piece: to be taken, which [`Courier::took`] notes.
    Next(&'a [u8]),
    /// Pieces before are lost for good; this is the first of a new stream.
    Lost(&'a [u8]),
    /// Nothing new.
    Nothing,
}

/// Something changed for a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum News {
    /// Messages do not reach the other shard, or do again.
    Away(Pair, bool),
    /// All that waited for it is lost.
    Lost(Pair),
}

impl Head {
    /// Reads what [`Courier::due`] has written.
    pub(super) fn read(bytes: &[u8]) -> Option<(Self, &[u8])> {
        let (head, piece) = bytes.split_at_checked(HEAD)?;
        let u64_at = |at: usize| Some(u64::from_be_bytes(*head[at..].first_chunk()?));
        let u32_at = |at: usize| Some(u32::from_be_bytes(*head[at..].first_chunk()?));
        let shard = u16::from_be_bytes(*head[8..].first_chunk()?);
        let acked = (u32_at(22)?, u64_at(26)?);
        Some((Self { run: Run(u64_at(0)?), shard, stream: u32_at(10)?, seq: u64_at(14)?, acked }, piece))
    }

    fn write(self, piece: &[u8]) -> Bytes {
        let mut bytes = Vec::with_capacity(HEAD + piece.len());
        bytes.extend_from_slice(&self.run.0.to_be_bytes());
        bytes.extend_from_slice(&self.shard.to_be_bytes());
        bytes.extend_from_slice(&self.stream.to_be_bytes());
        bytes.extend_from_slice(&self.seq.to_be_bytes());
        bytes.extend_from_slice(&self.acked.0.to_be_bytes());
        bytes.extend_from_slice(&self.acked.1.to_be_bytes());
        bytes.extend_from_slice(piece);
        bytes.into()
    }
}

impl Courier {
    /// Something to say; what is lost because of it.
    pub(super) fn say(&mut self, now: Instant, pair: Pair, pieces: Vec<Vec<u8>>) -> Option<News> {
        let stream = self.streams.entry(pair).or_default();
        let bytes: usize = pieces.iter().map(Vec::len).sum();
        let is_full = stream.waiting.len() + pieces.len() > MAX_WAITING || stream.bytes + bytes > MAX_WAITING_BYTES;
        if is_full && !stream.waiting.is_empty() {
            stream.begin_anew();
            return Some(News::Lost(pair));
        }
        if stream.waiting.is_empty() {
            stream.moved = Some(now);
        }
        stream.bytes += bytes;
        stream.waiting.extend(pieces.into_iter().map(|bytes| Piece { bytes, said: None }));
        None
    }

    /// Something has come, for this pair.
    pub(super) fn hear<'a>(&mut self, now: Instant, pair: Pair, head: &Head, piece: &'a [u8]) -> Came<'a> {
        let stream = self.streams.entry(pair).or_default();
        stream.acknowledged(now, head.acked);
        if piece.is_empty() {
            return Came::Nothing;
        }
        stream.owes_word = true;
        let (number, next) = stream.theirs;
        match (head.stream.cmp(&number), head.seq == next, head.seq == 0) {
            (std::cmp::Ordering::Equal, true, _) => Came::Next(piece),
            (std::cmp::Ordering::Greater, _, true) if stream.has_ended => Came::Next(piece),
            // What came before it is still on its way, or is said again.
            (std::cmp::Ordering::Greater, _, true) => Came::Lost(piece),
            _ => Came::Nothing,
        }
    }

    /// A piece was taken.
    pub(super) fn took(&mut self, pair: Pair, head: &Head) {
        if let Some(stream) = self.streams.get_mut(&pair) {
            stream.theirs = (head.stream, head.seq + 1);
            stream.has_ended = false;
        }
    }

    /// A place is thought to be gone, and may come back: what waits for it is lost, and a new stream begins then.
    pub(super) fn suspend(&mut self, place: PlaceId) {
        for (_, stream) in self.streams.iter_mut().filter(|((_, of), _)| *of == place) {
            stream.begin_anew();
            (stream.is_away, stream.owes_word, stream.has_ended) = (false, false, true);
        }
    }

    /// A place that was thought to be gone is there: it is to learn at once what it has missed, not with the next message of a room.
    pub(super) fn greet(&mut self, now: Instant, place: PlaceId) {
        let pairs: Vec<Pair> = self.streams.keys().filter(|(_, of)| *of == place).copied().collect();
        for pair in pairs {
            // Nothing waits for it yet.
            let _ = self.say(now, pair, vec![empty_piece()]);
        }
    }

    /// A place is gone.
    pub(super) fn forget(&mut self, place: PlaceId) {
        self.streams.retain(|(_, of), _| *of != place);
    }

    /// What is to be said now, `run` being this process.
    pub(super) fn due(&mut self, now: Instant, run: Run) -> Vec<(Pair, Bytes)> {
        let mut due = Vec::new();
        for (pair, stream) in &mut self.streams {
            let (number, first, acked) = (stream.number, stream.first, stream.theirs);
            let is_lost = |said: Option<Instant>| said.is_none_or(|at| now.saturating_duration_since(at) >= AGAIN);
            let head = |seq| Head { run, shard: pair.0, stream: number, seq, acked };
            // When the first is to be said again, so are those behind it.
            let again = stream.waiting.front().is_some_and(|piece| piece.said.is_some() && is_lost(piece.said));
            let before = due.len();
            for (n, piece) in stream.waiting.iter_mut().take(MAX_FLIGHT).enumerate() {
                if again || piece.said.is_none() {
                    piece.said = Some(now);
                    due.push((*pair, head(first + n as u64).write(&piece.bytes)));
                }
            }
            if std::mem::take(&mut stream.owes_word) && due.len() == before {
                due.push((*pair, head(first).write(&[])));
            }
        }
        due
    }

    /// Who is away now, or is not any more.
    pub(super) fn changes(&mut self, now: Instant) -> Vec<News> {
        let mut changes = Vec::new();
        for (pair, stream) in &mut self.streams {
            let waits = stream.moved.filter(|_| !stream.waiting.is_empty());
            let is_away = waits.is_some_and(|since| now.saturating_duration_since(since) >= AWAY);
            if std::mem::replace(&mut stream.is_away, is_away) != is_away {
                changes.push(News::Away(*pair, is_away));
            }
        }
        changes
    }
}

impl Stream {
    fn begin_anew(&mut self) {
        (self.number, self.first, self.bytes) = (self.number + 1, 0, 0);
        self.waiting.clear();
    }

    fn acknowledged(&mut self, now: Instant, (number, next): (u32, u64)) {
        if number != self.number || next <= self.first || next > self.first + self.waiting.len() as u64 {
            return;
        }
        for _ in self.first..next {
            self.bytes -= self.waiting.pop_front().map_or(0, |piece| piece.bytes.len());
        }
        (self.first, self.moved) = (next, Some(now));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Pair = (0, PlaceId(2));
    const B: Pair = (1, PlaceId(3));
    const RUNS: [Run; 2] = [Run(7), Run(8)];

    /// Two nodes on a bus: what each has taken.
    struct Two {
        now: Instant,
        sides: [Courier; 2],
        took: [Vec<String>; 2],
    }

    impl Two {
        fn new() -> Self {
            Self { now: Instant::now(), sides: Default::default(), took: Default::default() }
        }

        fn pair(side: usize) -> Pair {
            [A, B][side]
        }

        fn say(&mut self, side: usize, words: &str) -> Option<News> {
            self.sides[side].say(self.now, Self::pair(side), vec![words.as_bytes().to_vec()])
        }

        /// Lets a moment pass; `passes` says which messages of a side arrive, by their number in this moment.
        fn pass(&mut self, passes: impl Fn(usize, usize) -> bool) {
            self.now += Duration::from_millis(50);
            for side in [0, 1] {
                for (n, (_, bytes)) in self.sides[side].due(self.now, RUNS[side]).into_iter().enumerate() {
                    if !passes(side, n) {
                        continue;
                    }
                    let (head, piece) = Head::read(&bytes).unwrap();
                    assert_eq!((head.run, head.shard), (RUNS[side], Self::pair(side).0));
                    let other = &mut self.sides[1 - side];
                    let words = match other.hear(self.now, Self::pair(1 - side), &head, piece) {
                        Came::Next(words) => String::from_utf8(words.to_vec()).unwrap(),
                        Came::Lost(words) => format!("lost, {}", String::from_utf8(words.to_vec()).unwrap()),
                        Came::Nothing => continue,
                    };
                    self.took[1 - side].push(words);
                    other.took(Self::pair(1 - side), &head);
                }
            }
        }
    }

    #[test]
    fn pieces_come_once_and_in_order_whatever_the_bus_loses() {
        let mut two = Two::new();
        for n in 0..200 {
            two.say(0, &format!("{n}"));
            two.say(1, &format!("{n}"));
            let lost = |side: usize, at: usize| (n * 7 + side * 3 + at * 5).is_multiple_of(3);
            two.pass(|side, at| !lost(side, at));
        }
        (0..2_000).for_each(|n| two.pass(|_, at| !(n + at).is_multiple_of(4)));
        let all: Vec<_> = (0..200).map(|n| n.to_string()).collect();
        assert_eq!(two.took, [all.clone(), all]);
        let idle = two.sides.iter_mut().map(|side| side.due(two.now + AGAIN * 4, Run(1)).len()).collect::<Vec<_>>();
        assert_eq!(idle, [0, 0], "nothing is said again that has come");
    }

    #[test]
    fn who_does_not_acknowledge_for_two_seconds_is_away_until_it_does() {
        let mut two = Two::new();
        two.pass(|_, _| true);
        two.say(0, "a");
        (0..39).for_each(|_| two.pass(|_, _| false));
        assert_eq!(two.sides[0].changes(two.now), []);
        two.pass(|_, _| false);
        assert_eq!(two.sides[0].changes(two.now), [News::Away(A, true)]);
        assert_eq!(two.sides[0].changes(two.now), []);
        (0..10).for_each(|_| two.pass(|_, _| true));
        assert_eq!((two.took[1].join(" "), two.sides[0].changes(two.now)), ("a".into(), vec![News::Away(A, false)]));
    }

    #[test]
    fn when_too_much_waits_all_of_it_is_lost_and_both_sides_are_told() {
        let mut two = Two::new();
        two.say(0, "first");
        (0..3).for_each(|_| two.pass(|_, _| true));
        let long = "x".repeat(1024 * 1024);
        let lost: Vec<_> = (0..33).filter_map(|_| two.say(0, &long)).collect();
        assert_eq!(lost, [News::Lost(A)]);
        two.say(0, "anew");
        two.say(0, "and on");
        (0..10).for_each(|_| two.pass(|_, _| true));
        assert_eq!(two.took[1], ["first", "lost, anew", "and on"]);
    }

    #[test]
    fn with_a_shard_that_was_only_thought_to_be_gone_both_directions_go_on() {
        let mut two = Two::new();
        for side in [0, 1] {
            two.say(side, "before");
        }
        (0..3).for_each(|_| two.pass(|_, _| true));
        // One of them does not see the other any more, which speaks on.
        two.say(0, "lost");
        two.sides[0].suspend(A.1);
        two.say(1, "meanwhile");
        (0..3).for_each(|_| two.pass(|_, _| false));
        two.sides[0].greet(two.now, A.1);
        two.say(0, "afterwards");
        (0..20).for_each(|_| two.pass(|_, _| true));
        assert_eq!(two.took[0], ["before", "meanwhile"]);
        let greeting = String::from_utf8(empty_piece()).unwrap();
        assert_eq!(two.took[1], ["before", &format!("lost, {greeting}"), "afterwards"]);
        // When both have ended what they had in common, nothing is lost.
        two.sides[0].suspend(A.1);
        two.sides[1].suspend(B.1);
        two.say(0, "new");
        two.say(1, "new");
        (0..20).for_each(|_| two.pass(|_, _| true));
        assert_eq!(
            [two.took[0].last(), two.took[1].last()].map(|last| last.map(String::as_str)),
            [Some("new"), Some("new")]
        );
    }

    #[test]
    fn what_is_too_short_is_no_message() {
        for len in 0..HEAD {
            assert_eq!(Head::read(&vec![1; len]), None);
        }
        assert!(Head::read(&[1; HEAD]).is_some());
    }
}
