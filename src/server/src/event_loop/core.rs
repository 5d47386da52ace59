//! The shard's core as the event loop drives it.

use std::time::{Duration, Instant, SystemTime};

use super::{Core, Phase, Unloaded};
use moonring_core::command::{Command, Event};
use moonring_core::report::IoStats;
use moonring_core::room::load::Backlog;
use moonring_core::shard::Shard;
use moonring_core::shard::take_over::HandedOver;
use moonring_wire::packet::{AddressPair, SendBatch};

impl Core for Shard {
    fn expect(&mut self, from: impl Iterator<Item = AddressPair>) {
        Self::expect(self, from);
    }

    fn handle_datagram(&mut self, now: Instant, from: AddressPair, bytes: &mut [u8], out: &mut SendBatch) {
        Self::handle_datagram(self, now, from, bytes, out);
    }

    fn handle_command(&mut self, now: Instant, command: Command, out: &mut SendBatch) {
        Self::handle_command(self, now, command, out);
    }

    fn forward(&mut self, now: Instant, out: &mut SendBatch) -> bool {
        Self::forward(self, now, out)
    }

    fn handle_timeout(&mut self, now: Instant, out: &mut SendBatch) {
        // Scripts see the wall clock, also after it was set.
        let unix = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        self.set_clock(now, unix);
        Self::handle_timers(self, now, out);
    }

    fn has_scripts_due(&self, now: Instant) -> bool {
        Self::has_scripts_due(self, now)
    }

    fn run_scripts(&mut self, now: Instant, out: &mut SendBatch) {
        Self::run_scripts(self, now, out);
    }

    fn poll_timeout(&self) -> Option<Instant> {
        Self::poll_timeout(self)
    }

    fn poll_event(&mut self) -> Option<Event> {
        Self::poll_event(self)
    }

    fn is_backed_up(&self) -> bool {
        Self::is_backed_up(self)
    }

    fn is_known(&self, from: AddressPair) -> bool {
        Self::is_known(self, from)
    }

    fn is_at_rest(&self) -> bool {
        self.is_at_rest_for_hand_over()
    }

    fn forward_all(&mut self, now: Instant, out: &mut SendBatch) -> bool {
        Self::forward_all(self, now, out)
    }

    fn hand_over(&mut self, now: Instant) -> Option<HandedOver> {
        Some(Self::hand_over(self, now))
    }

    fn hand_over_policies(&mut self, now: Instant, each: &mut dyn FnMut(Unloaded)) {
        Self::hand_over_policies(self, now, |room, carried| each((room.clone(), carried)));
    }

    fn record_io(&mut self, io: &IoStats) {
        self.set_io(*io);
    }

    fn note_tick(&mut self, now: Instant, busy: Duration, backlog: Backlog) {
        Self::note_tick(self, now, busy, backlog);
    }

    fn coalescing(&self) -> Duration {
        Self::coalescing(self)
    }

    fn handle_panic(&mut self, now: Instant, phase: Phase, _out: &mut SendBatch) {
        match phase {
            Phase::Datagram(from) => self.end_client_at(now, from),
            Phase::Forward => self.end_forwarding_room(now),
            Phase::Timeout => self.end_timed_client(now),
            Phase::Command => self.end_commanded(now),
            Phase::Event | Phase::Stop => self.count_panic(),
        }
    }

    fn handle_second_panic(&mut self, now: Instant) {
        self.end_after_second_panic(now);
    }

    fn handle_stop(&mut self, now: Instant, out: &mut SendBatch) {
        self.shut_down(now, out);
    }
}
