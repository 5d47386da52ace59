//! The events and timers of a room that wait for their turn.
//!
//! Work of one lane runs in the order in which it came, and only when no earlier work of the lane waits. Work of other
//! lanes goes on meanwhile. Joins have a queue of their own: a crowd at the door does not hold up the members' events,
//! and the other way round.

use std::collections::{HashSet, VecDeque};

use super::hook::ClientFacts;
use super::waits::Waits;
use super::work::{Lane, Work};

/// The queues of one room.
#[derive(Default)]
pub(crate) struct Mailbox {
    joins: VecDeque<Queued>,
    events: VecDeque<Queued>,
    bytes: usize,
    /// True when an event ran last: joins and events take turns.
    is_joins_turn: bool,
}

struct Queued {
    work: Work,
    bytes: usize,
}

/// Where work that can start stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Join(usize),
    Event(usize),
}

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

    pub(crate) fn push(&mut self, work: Work, bytes: usize) {
        self.bytes += bytes;
        let queue = if work.is_join() { &mut self.joins } else { &mut self.events };
        queue.push_back(Queued { work, bytes });
    }

    pub(crate) fn has_lane(&self, lane: &Lane) -> bool {
        self.events.iter().any(|queued| queued.work.lane() == *lane)
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
        let mut busy: HashSet<Lane> = waits.lanes().collect();
        self.events.iter().position(|queued| busy.insert(queued.work.lane()))
    }

    pub(crate) fn take(&mut self, place: Place) -> Option<Work> {
        self.is_joins_turn = matches!(place, Place::Event(_));
        let queued = match place {
            Place::Join(at) => self.joins.remove(at)?,
            Place::Event(at) => self.events.remove(at)?,
        };
        self.bytes -= queued.bytes;
        Some(queued.work)
    }

    /// Everything that waits.
    pub(crate) fn works(&self) -> impl Iterator<Item = &Work> {
        self.joins.iter().chain(&self.events).map(|queued| &queued.work)
    }

    /// The work that may start now: of each lane the first, unless something of the lane waits.
    pub(crate) fn startables<'a>(&'a self, waits: &'a Waits) -> impl Iterator<Item = &'a Work> {
        let mut busy: HashSet<Lane> = waits.lanes().collect();
        self.works().filter(move |work| busy.insert(work.lane()))
    }

    /// Takes out the first work that is meant.
    pub(crate) fn take_chosen(&mut self, is_meant: impl Fn(&Work) -> bool) -> Option<Work> {
        for queue in [&mut self.joins, &mut self.events] {
            if let Some(at) = queue.iter().position(|queued| is_meant(&queued.work)) {
                let queued = queue.remove(at)?;
                self.bytes -= queued.bytes;
                return Some(queued.work);
            }
        }
        None
    }

    /// Takes out everything that is about a client.
    pub(crate) fn take_of(&mut self, client: &ClientFacts) -> Vec<Work> {
        let mut taken = Vec::new();
        for queue in [&mut self.joins, &mut self.events] {
            let (of_client, kept) = queue.drain(..).partition(|queued| queued.work.is_of(client));
            *queue = kept;
            taken.extend::<VecDeque<Queued>>(of_client);
        }
        self.bytes -= taken.iter().map(|queued| queued.bytes).sum::<usize>();
        taken.into_iter().map(|queued| queued.work).collect()
    }

    pub(crate) fn take_all(&mut self) -> Vec<Work> {
        let queued = self.joins.drain(..).chain(self.events.drain(..));
        self.bytes = 0;
        queued.map(|queued| queued.work).collect()
    }
}
