//! Rooms that wait for what is kept of them, and whether the store answers at all.
//!
//! ```text
//! a room asks ──▶ the store works: it is asked ──▶ an answer                          ──▶ the room has it
//!                                              └─▶ an error, or none in time: it fails
//!                 it fails: one room's question at a time is asked again, until one is answered; then all that wait are
//! ```
//! A room whose question fails is not told that there is nothing, which would be the end of its state: it waits. But it does not wait
//! for long where others have waited in vain before it: all of an outage's first rooms wait until [`FIRST`] after its begin, and each
//! later one [`LATER`].

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use moonring_core::shard::take_over::STATE_PATIENCE;
use moonring_wire::id::RoomId;

/// How long the first rooms wait that a store does not answer: as a leader of NATS is lost with a machine, another one is elected
/// meanwhile.
pub(super) const FIRST: Duration = Duration::from_secs(4);
/// How long a room waits that comes when the store has not answered for longer than that: for a question or two.
pub(super) const LATER: Duration = Duration::from_secs(1);
/// Between an error and the next question.
pub(super) const PAUSE: Duration = Duration::from_millis(250);

// The shard would give up first, and say so for each room.
const _: () = assert!(FIRST.as_millis() < STATE_PATIENCE.as_millis() && LATER.as_millis() < FIRST.as_millis());

/// A question for the store: its number, and the room that it is about.
pub(super) type Question = (u64, RoomId);

/// See the module; `T` is who waits.
#[derive(Debug)]
pub(super) struct Search<T> {
    waiting: BTreeMap<u64, Waiting<T>>,
    next: u64,
    outage: Option<Outage>,
    probe: Probe,
}

#[derive(Debug)]
pub(super) struct Waiting<T> {
    pub(super) room: RoomId,
    pub(super) who: T,
    since: Instant,
    is_asked: bool,
}

/// The time in which the store does not answer.
#[derive(Clone, Copy, Debug)]
struct Outage {
    since: Instant,
    /// Rooms that have begun without.
    without: u64,
}

/// The one question that is asked while the store fails.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Probe {
    #[default]
    None,
    UnderWay(u64),
    Pauses,
}

/// What an error means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Failed {
    /// The store has worked until now.
    pub(super) is_new: bool,
    /// After [`PAUSE`], [`Search::again`] is to be called.
    pub(super) pauses: bool,
}

impl<T> Default for Search<T> {
    fn default() -> Self {
        Self { waiting: BTreeMap::new(), next: 0, outage: None, probe: Probe::None }
    }
}

impl<T> Search<T> {
    /// A room asks: the number of its question, how long it may wait for [`Self::late`], and what to ask the store now.
    pub(super) fn begin(&mut self, now: Instant, room: RoomId, who: T) -> (u64, Duration, Option<Question>) {
        let number = self.next;
        self.next += 1;
        let patience =
            self.outage.map_or(FIRST, |outage| LATER.max((outage.since + FIRST).saturating_duration_since(now)));
        self.waiting.insert(number, Waiting { room, who, since: now, is_asked: false });
        let question = match self.outage {
            None => self.ask(number),
            Some(_) => self.ask_one(),
        };
        (number, patience, question)
    }

    /// The store has answered something: all that wait are asked about now. With it, how many rooms have begun without, if the store
    /// had failed.
    pub(super) fn works(&mut self) -> (Vec<Question>, Option<u64>) {
        let Some(outage) = self.outage.take() else { return (Vec::new(), None) };
        self.probe = Probe::None;
        let waiting: Vec<u64> = self.waiting.iter().filter(|(_, of)| !of.is_asked).map(|(number, _)| *number).collect();
        (waiting.into_iter().filter_map(|number| self.ask(number)).collect(), Some(outage.without))
    }

    /// The store could not answer a question.
    pub(super) fn fails(&mut self, now: Instant, number: u64) -> Failed {
        if let Some(waiting) = self.waiting.get_mut(&number) {
            waiting.is_asked = false;
        }
        let is_new = self.outage.is_none();
        self.outage.get_or_insert(Outage { since: now, without: 0 });
        let pauses = matches!(self.probe, Probe::None) || self.probe == Probe::UnderWay(number);
        if pauses {
            self.probe = Probe::Pauses;
        }
        Failed { is_new, pauses }
    }

    /// The pause after an error is over: what to ask the store, if somebody waits and it has not worked meanwhile.
    pub(super) fn again(&mut self) -> Option<Question> {
        if self.probe == Probe::Pauses {
            self.probe = Probe::None;
        }
        self.outage.and_then(|_| self.ask_one())
    }

    /// The answer to a question is there: who waits for it, if anybody does still.
    pub(super) fn answered(&mut self, number: u64) -> Option<Waiting<T>> {
        self.waiting.remove(&number)
    }

    /// A room has waited for as long as it may: who is to be told that nothing is known, if it is not told already; and whether that is the
    /// first word of a store that does not answer.
    pub(super) fn late(&mut self, number: u64) -> Option<(Waiting<T>, bool)> {
        let waiting = self.waiting.remove(&number)?;
        let is_new = self.outage.is_none();
        let outage = self.outage.get_or_insert(Outage { since: waiting.since, without: 0 });
        outage.without += 1;
        if is_new && waiting.is_asked {
            self.probe = Probe::UnderWay(number);
        }
        Some((waiting, is_new))
    }

    fn ask_one(&mut self) -> Option<Question> {
        if self.probe != Probe::None {
            return None;
        }
        let number = self.waiting.iter().find(|(_, of)| !of.is_asked).map(|(number, _)| *number)?;
        self.probe = Probe::UnderWay(number);
        self.ask(number)
    }

    fn ask(&mut self, number: u64) -> Option<Question> {
        let waiting = self.waiting.get_mut(&number)?;
        waiting.is_asked = true;
        Some((number, waiting.room.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn room(n: u64) -> RoomId {
        RoomId::parse(&format!("r{n}")).unwrap()
    }

    /// A search, and the time.
    struct World {
        search: Search<u64>,
        now: Instant,
    }

    impl World {
        fn new() -> Self {
            Self { search: Search::default(), now: Instant::now() }
        }

        fn after(&mut self, time: Duration) -> &mut Self {
            self.now += time;
            self
        }

        /// A room comes: how long it waits at most, and what is asked.
        fn begin(&mut self, n: u64) -> (Duration, Option<u64>) {
            let (number, patience, question) = self.search.begin(self.now, room(n), n);
            assert_eq!(number, n);
            (patience, question.map(|(number, _)| number))
        }

        fn fails(&mut self, n: u64) -> (bool, bool) {
            let Failed { is_new, pauses } = self.search.fails(self.now, n);
            (is_new, pauses)
        }

        fn again(&mut self) -> Option<u64> {
            self.search.again().map(|(number, _)| number)
        }
    }

    #[test]
    fn a_question_that_fails_is_asked_again_and_with_the_first_answer_all_that_wait_are() {
        let mut world = World::new();
        assert_eq!([world.begin(0), world.begin(1)], [(FIRST, Some(0)), (FIRST, Some(1))]);
        assert_eq!([world.fails(0), world.fails(1)], [(true, true), (false, false)]);
        assert_eq!(world.begin(2).1, None, "a pause goes on");
        assert_eq!((world.again(), world.again()), (Some(0), None), "one at a time");
        assert_eq!(world.fails(0), (false, true));
        assert_eq!(world.again(), Some(0));
        let (questions, without) = world.search.works();
        let asked: Vec<u64> = questions.into_iter().map(|(number, _)| number).collect();
        assert_eq!((asked, without), (vec![1, 2], Some(0)));
        assert_eq!(
            [0, 1, 2].map(|n| world.search.answered(n).map(|of| (of.room, of.who))),
            [0, 1, 2].map(|n| Some((room(n), n)))
        );
        assert_eq!((world.search.works(), world.again()), ((vec![], None), None));
    }

    #[test]
    fn a_store_that_is_known_to_fail_costs_a_room_a_second_and_the_first_ones_four_together() {
        let mut world = World::new();
        world.begin(0);
        world.fails(0);
        let mut n = 0;
        let waits = [0, 1_000, 1_500, 1_000, 600_000].map(|ms| {
            n += 1;
            world.after(Duration::from_millis(ms)).begin(n).0.as_millis()
        });
        assert_eq!(waits, [4_000, 3_000, 1_500, 1_000, 1_000]);
    }

    #[test]
    fn an_answer_that_does_not_come_in_time_is_an_outage_that_began_with_its_question() {
        let mut world = World::new();
        world.begin(0);
        world.begin(1);
        world.after(FIRST);
        assert_eq!(world.search.late(0).map(|(of, is_new)| (of.who, is_new)), Some((0, true)));
        assert_eq!(world.search.late(1).map(|(of, is_new)| (of.who, is_new)), Some((1, false)));
        assert!(world.search.late(1).is_none() && world.search.answered(1).is_none(), "it was told");
        assert_eq!(world.begin(2), (LATER, None), "one question is under way still");
        assert_eq!(world.fails(0), (false, true));
        assert_eq!(world.again(), Some(2));
        assert_eq!(world.search.works().1, Some(2), "so many have begun without");
    }
}
