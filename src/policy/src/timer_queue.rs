//! Deadlines in the order of their time. Every entry can be removed before it is due.

use std::collections::BTreeMap;
use std::time::Instant;

/// Names an entry of a [`TimerQueue`]: its time, and a number that tells entries of the same time apart.
pub(crate) type TimerId = (Instant, u64);

/// A queue of deadlines.
pub(crate) struct TimerQueue<T> {
    entries: BTreeMap<TimerId, T>,
    next: u64,
}

impl<T> TimerQueue<T> {
    pub(crate) fn new() -> Self {
        Self { entries: BTreeMap::new(), next: 0 }
    }

    pub(crate) fn add(&mut self, at: Instant, deadline: T) -> TimerId {
        let id = (at, self.next);
        self.next += 1;
        self.entries.insert(id, deadline);
        id
    }

    pub(crate) fn remove(&mut self, id: TimerId) {
        self.entries.remove(&id);
    }

    /// The time of the first entry.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.entries.first_key_value().map(|((at, _), _)| *at)
    }

    /// Takes the first entry out if it is due at `now`, with its time.
    pub(crate) fn pop_due(&mut self, now: Instant) -> Option<(Instant, T)> {
        let entry = self.entries.first_entry()?;
        let at = entry.key().0;
        (at <= now).then(|| (at, entry.remove()))
    }

    /// The entries that are due at `now`, in order.
    pub(crate) fn due(&self, now: Instant) -> impl Iterator<Item = (TimerId, &T)> {
        self.entries.iter().take_while(move |((at, _), _)| *at <= now).map(|(id, deadline)| (*id, deadline))
    }

    /// Takes an entry out.
    pub(crate) fn take(&mut self, id: TimerId) -> Option<T> {
        self.entries.remove(&id)
    }
}
