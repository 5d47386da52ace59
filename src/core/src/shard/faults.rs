//! What ends when something goes wrong: after a panic what caused it, at shutdown everybody.

use std::net::SocketAddr;
use std::time::Instant;

use super::{Shard, Timer};
use crate::command::LeaveCause;
use moonring_wire::packet::SendBatch;

/// What a client is told whose packet or timer made the server panic.
const FAULT: &str = "internal error, please join again";

impl Shard {
    /// A datagram from `from` made the core panic: its client ends.
    pub fn end_client_at(&mut self, now: Instant, from: SocketAddr) {
        self.count_panic();
        if let Some(key) = self.index.addresses.get(&from).copied() {
            self.remove_client(now, key, LeaveCause::TransportFailed(FAULT.to_owned()), FAULT);
        }
    }

    /// Forwarding made the core panic: the room that was forwarded ends.
    pub fn end_forwarding_room(&mut self, now: Instant) {
        self.count_panic();
        let Some(key) = self.work.dirty_rooms.pop_front() else { return };
        let clients = self.world.rooms.get(key).map(|room| room.clients.clone()).unwrap_or_default();
        for client in clients {
            self.remove_client(now, client, LeaveCause::TransportFailed(FAULT.to_owned()), FAULT);
        }
    }

    /// A timer made the core panic: its client ends.
    pub fn end_timed_client(&mut self, now: Instant) {
        self.count_panic();
        match self.work.running_timer.take() {
            Some(Timer::Client(key)) => {
                self.remove_client(now, key, LeaveCause::TransportFailed(FAULT.to_owned()), FAULT);
            }
            // The room that panicked is off the queue; the others go on.
            Some(Timer::Reloads) => self.schedule_reloads(now),
            Some(Timer::Speakers(_) | Timer::Sound(_) | Timer::Report) | None => {}
        }
    }

    /// Counts a panic that was contained; the panic hook has logged it.
    pub fn count_panic(&mut self) {
        self.report.counters.panics += 1;
    }

    /// Says goodbye to everybody, over media and signalling.
    pub fn shut_down(&mut self, now: Instant, out: &mut SendBatch) {
        for key in self.world.clients.keys().collect::<Vec<_>>() {
            self.close_transport(now, key, out);
            self.remove_client(now, key, LeaveCause::Shutdown, "the server shuts down");
        }
    }
}
