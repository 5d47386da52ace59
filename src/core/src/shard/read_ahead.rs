//! Reads ahead on a shard with more clients than the caches hold.

use super::Shard;
use crate::room::read_ahead::{CLIENTS, ROOMS, ReadAhead};
use moonring_wire::packet::AddressPair;

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
        self.world.clients.len() >= self.settings.read_ahead_from
    }
}
