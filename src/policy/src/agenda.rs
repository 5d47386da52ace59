//! What is due when: exact, and each entry can be taken back.

use std::collections::BTreeMap;
use std::time::Instant;

/// Names an entry.
pub(crate) type When = (Instant, u64);

/// Things to do, by time.
pub(crate) struct Agenda<T> {
    entries: BTreeMap<When, T>,
    next: u64,
}

impl<T> Agenda<T> {
    pub(crate) fn new() -> Self {
        Self { entries: BTreeMap::new(), next: 0 }
    }

    pub(crate) fn add(&mut self, at: Instant, what: T) -> When {
        let when = (at, self.next);
        self.next += 1;
        self.entries.insert(when, what);
        when
    }

    pub(crate) fn remove(&mut self, when: When) {
        self.entries.remove(&when);
    }

    pub(crate) fn next(&self) -> Option<Instant> {
        self.entries.first_key_value().map(|((at, _), _)| *at)
    }

    pub(crate) fn due(&mut self, now: Instant) -> Option<T> {
        let entry = self.entries.first_entry()?;
        (entry.key().0 <= now).then(|| entry.remove())
    }
}
