//! The events and timers of a room that wait for their turn.
//!
//! Work of one lane runs in the order in which it came, and only when no earlier work of the lane waits. Work of other
//! lanes goes on meanwhile.

use std::collections::{HashSet, VecDeque};
use std::rc::Rc;

use super::effects::TimerHandle;
use super::hook::{ClientFacts, HookCall};
use super::output::Ticket;
use moonring_wire::id::ClientId;

/// One call of a hook or of a timer's function.
#[derive(Debug)]
pub(crate) enum Work {
    Call { ticket: Ticket, call: HookCall },
    Timer(TimerHandle),
}

/// Work of one lane keeps its order.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) enum Lane {
    Client(ClientId),
    Speakers,
    Timer(TimerHandle),
}

impl Work {
    pub(crate) fn lane(&self) -> Lane {
        match self {
            Self::Call { call, .. } => call.client().map_or(Lane::Speakers, |client| Lane::Client(client.id.clone())),
            Self::Timer(handle) => Lane::Timer(*handle),
        }
    }

    /// The name in log lines.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Call { call, .. } => call.name(),
            Self::Timer(_) => "timer",
        }
    }

    pub(crate) fn client(&self) -> Option<&Rc<ClientFacts>> {
        match self {
            Self::Call { call, .. } => call.client(),
            Self::Timer(_) => None,
        }
    }

    pub(crate) fn is_of(&self, client: &ClientFacts) -> bool {
        self.client().is_some_and(|other| other.id == client.id)
    }
}

/// The queue of one room.
#[derive(Default)]
pub(crate) struct Mailbox {
    queue: VecDeque<Work>,
}

impl Mailbox {
    pub(crate) fn len(&self) -> usize {
        self.queue.len()
    }

    pub(crate) fn push(&mut self, work: Work) {
        self.queue.push_back(work);
    }

    pub(crate) fn has_lane(&self, lane: &Lane) -> bool {
        self.queue.iter().any(|work| work.lane() == *lane)
    }

    /// The place of the first work that has nothing of its lane before it. `waiting` are the lanes whose hooks wait.
    pub(crate) fn startable(&self, waiting: impl ExactSizeIterator<Item = Lane>) -> Option<usize> {
        if self.queue.is_empty() || waiting.len() == 0 {
            return (!self.queue.is_empty()).then_some(0);
        }
        let mut busy: HashSet<Lane> = waiting.collect();
        self.queue.iter().position(|work| busy.insert(work.lane()))
    }

    pub(crate) fn take(&mut self, place: usize) -> Option<Work> {
        self.queue.remove(place)
    }

    /// Takes out everything that is about a client.
    pub(crate) fn take_of(&mut self, client: &ClientFacts) -> VecDeque<Work> {
        let (taken, kept) = self.queue.drain(..).partition(|work| work.is_of(client));
        self.queue = kept;
        taken
    }

    pub(crate) fn take_all(&mut self) -> VecDeque<Work> {
        std::mem::take(&mut self.queue)
    }
}
