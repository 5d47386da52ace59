//! Reads ahead on a shard with more clients than the caches hold, and on one that sleeps most of the time: a core that sleeps
//! loses what its caches hold.

use super::Shard;
use crate::room::load::Load;
use crate::room::read_ahead::{CLIENTS, ROOMS, ReadAhead};
use moonring_wire::packet::AddressPair;

/// With fewer clients there is too little to read at once, asleep or not.
const LEAST_CLIENTS: usize = 16;

impl Shard {
    /// The next datagrams come from these addresses: what they touch on their way in is read ahead. May be left out.
    pub fn expect(&mut self, addresses: impl IntoIterator<Item = AddressPair>) {
        if !self.reads_ahead() {
            return;
        }
        let expected = &mut self.work.expected;
        expected.clear();
        expected.extend(addresses.into_iter().filter_map(|address| self.index.addresses.get(&address)));
        expected.dedup();
        for clients in expected.chunks(CLIENTS) {
            ReadAhead::clients(&self.world, clients);
        }
    }

    /// Reads ahead for the rooms that are next in turn; for how many.
    pub(super) fn expect_rooms(&mut self) -> usize {
        if self.reads_ahead() {
            self.work.read_ahead.rooms(&self.world, self.work.dirty_rooms.iter().take(ROOMS).copied());
        }
        ROOMS
    }

    pub(super) fn reads_ahead(&self) -> bool {
        is_worth_it(self.world.clients.len(), self.settings.read_ahead_from, &self.work.load)
    }
}

fn is_worth_it(clients: usize, always_from: usize, load: &Load) -> bool {
    clients >= always_from || (clients >= LEAST_CLIENTS && load.is_often_asleep())
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;
    use crate::room::load::Backlog;

    #[test]
    fn a_shard_reads_ahead_with_many_clients_and_with_some_when_it_is_often_asleep() {
        let t0 = Instant::now();
        let (awake, mut asleep) = (Load::new(t0), Load::new(t0));
        asleep.tick(t0 + Duration::from_secs(1), Duration::from_millis(30), Backlog::Little);
        for (clients, load, expected) in
            [(15, &asleep, false), (16, &asleep, true), (255, &awake, false), (256, &awake, true)]
        {
            assert_eq!(is_worth_it(clients, 256, load), expected, "{clients}");
        }
    }
}
