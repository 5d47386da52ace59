//! The events and timers of a room that wait for their turn.
//!
//! Work of one lane runs in the order in which it came, and only when no earlier work of the lane waits. Work of other
//! lanes goes on meanwhile. Joins have a queue of their own: a crowd at the door does not hold up the members' events,
//! and the other way round. What members can send as they like, messages, is counted for each person, so that nobody's
//! messages take all the room there is.

use std::collections::{HashMap, HashSet, VecDeque};

use super::admission::EVENT_BYTES;
use super::hook::ClientFacts;
use super::person::Person;
use super::waits::Waits;
use super::work::{LANE_BYTES, Lane, Work};

/// The queues of one room.
#[derive(Default)]
pub(crate) struct Mailbox {
    joins: VecDeque<Queued>,
    events: VecDeque<Queued>,
    bytes: usize,
    /// What waits of each person's messages.
    shares: HashMap<Person, Share>,
    /// True when an event ran last: joins and events take turns.
    is_joins_turn: bool,
}

struct Queued {
    work: Work,
    bytes: usize,
    /// Whose share it is counted in, if it is a message.
    person: Option<Person>,
}

/// The messages of one person that wait.
#[derive(Clone, Copy, Default)]
pub(crate) struct Share {
    pub(crate) messages: usize,
    pub(crate) bytes: usize,
}

/// Where work that can start stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Join(usize),
    Event(usize),
}

const _: () = assert!(
    size_of::<Queued>() + LANE_BYTES <= EVENT_BYTES,
    "what is charged for an event is no less than it takes, its place in a set of lanes included"
);

impl Mailbox {
    /// Joins that wait.
    pub(crate) fn joins(&self) -> usize {
        self.joins.len()
    }

    /// Events and timers that wait.
    pub(crate) fn events(&self) -> usize {
        self.events.len()
    }

    /// True when nothing waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.events.is_empty() && self.joins.is_empty()
    }

    /// Bytes of the host that they take.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn push(&mut self, work: Work) {
        let bytes = work.bytes();
        self.bytes += bytes;
        let person = work.sender().map(|client| Person::of(client));
        if let Some(person) = &person {
            let share = self.shares.entry(person.clone()).or_default();
            (share.messages, share.bytes) = (share.messages + 1, share.bytes + bytes);
        }
        let queue = if work.is_join() { &mut self.joins } else { &mut self.events };
        queue.push_back(Queued { work, bytes, person });
    }

    /// What waits of the messages of the person behind a client.
    pub(crate) fn share_of(&self, client: &ClientFacts) -> Share {
        self.shares.get(&Person::of(client)).copied().unwrap_or_default()
    }

    /// Counts what is no longer queued.
    fn taken(&mut self, queued: Queued) -> Work {
        self.bytes -= queued.bytes;
        if let Some(person) = queued.person
            && let Some(share) = self.shares.get_mut(&person)
        {
            (share.messages, share.bytes) = (share.messages - 1, share.bytes - queued.bytes);
            if share.messages == 0 {
                self.shares.remove(&person);
            }
        }
        queued.work
    }

    pub(crate) fn has_lane(&self, lane: Lane<'_>) -> bool {
        self.events.iter().any(|queued| queued.work.lane() == lane)
    }

    /// The work that may start next. Nothing of a client can be before its join.
    pub(crate) fn startable(&self, waits: &Waits) -> Option<Place> {
        let join = if waits.has_room_for_join() { self.fair_join(waits) } else { None };
        if self.events.is_empty() || !waits.has_room_for_event() {
            return join;
        }
        let event = if waits.is_empty() { Some(0) } else { self.first_free(waits) }.map(Place::Event);
        if self.is_joins_turn { join.or(event) } else { event.or(join) }
    }

    /// The first join of an address that has the fewest of them under way: who comes from few addresses keeps nobody
    /// else waiting.
    fn fair_join(&self, waits: &Waits) -> Option<Place> {
        if self.joins.is_empty() {
            return None;
        }
        let under_way = waits.joins_by_network();
        if under_way.is_empty() {
            return Some(Place::Join(0));
        }
        let crowd = |queued: &Queued| under_way.get(&queued.work.network()).copied().unwrap_or(0);
        let fairest = self.joins.iter().enumerate().min_by_key(|(_, queued)| crowd(queued));
        fairest.map(|(at, _)| Place::Join(at))
    }

    /// The first event that has nothing of its lane before it.
    fn first_free(&self, waits: &Waits) -> Option<usize> {
        let mut busy: HashSet<Lane<'_>> = waits.lanes().collect();
        self.events.iter().position(|queued| busy.insert(queued.work.lane()))
    }

    pub(crate) fn take(&mut self, place: Place) -> Option<Work> {
        self.is_joins_turn = matches!(place, Place::Event(_));
        let queued = match place {
            Place::Join(at) => self.joins.remove(at)?,
            Place::Event(at) => self.events.remove(at)?,
        };
        Some(self.taken(queued))
    }

    /// Everything that waits.
    pub(crate) fn works(&self) -> impl Iterator<Item = &Work> {
        self.joins.iter().chain(&self.events).map(|queued| &queued.work)
    }

    /// The work that may start now: of each lane the first, unless something of the lane waits.
    pub(crate) fn startables<'a>(&'a self, waits: &'a Waits) -> impl Iterator<Item = &'a Work> {
        let mut busy: HashSet<Lane<'_>> = waits.lanes().collect();
        self.works().filter(move |work| busy.insert(work.lane()))
    }

    /// Takes out the first work that is meant.
    pub(crate) fn take_chosen(&mut self, is_meant: impl Fn(&Work) -> bool) -> Option<Work> {
        let place = |queue: &VecDeque<Queued>| queue.iter().position(|queued| is_meant(&queued.work));
        let queued = match place(&self.joins) {
            Some(at) => self.joins.remove(at),
            None => place(&self.events).and_then(|at| self.events.remove(at)),
        };
        queued.map(|queued| self.taken(queued))
    }

    /// Takes out a list of who speaks that waits.
    pub(crate) fn take_speakers(&mut self) -> Option<Work> {
        let at = self.events.iter().position(|queued| queued.work.is_of_speakers())?;
        let queued = self.events.remove(at)?;
        Some(self.taken(queued))
    }

    /// Takes out everything that is about a client.
    pub(crate) fn take_of(&mut self, client: &ClientFacts) -> Vec<Work> {
        let mut taken = Vec::new();
        for queue in [&mut self.joins, &mut self.events] {
            let (of_client, kept) = queue.drain(..).partition(|queued| queued.work.is_of(client));
            *queue = kept;
            taken.extend::<VecDeque<Queued>>(of_client);
        }
        taken.into_iter().map(|queued| self.taken(queued)).collect()
    }

    pub(crate) fn take_all(&mut self) -> Vec<Work> {
        let queued: Vec<_> = self.joins.drain(..).chain(self.events.drain(..)).collect();
        queued.into_iter().map(|queued| self.taken(queued)).collect()
    }
}
