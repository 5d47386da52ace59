//! A shard whose work takes time: what comes meanwhile waits in a receive queue that has an end.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use moonring_core::room::load::Backlog;
use moonring_core::room::pauses::Pauses;
use moonring_wire::drops::DropReason;

use super::World;
use super::link::weight;
use super::net::Datagram;

/// Datagrams that one tick takes in, as the event loop's.
const PER_TICK: usize = 256;
/// Dropping a packet takes this part of the time that a packet takes.
const DROP_PART: u32 = 8;

/// The shard's processor and the socket's receive buffer.
pub(crate) struct Cpu {
    /// What a datagram takes that comes or leaves.
    pub(crate) per_datagram: Duration,
    /// Datagrams that one tick takes in.
    pub(crate) per_tick: usize,
    /// Bytes that may wait.
    pub(crate) buffer: usize,
    /// What the kernel dropped because of that.
    pub(crate) dropped: u64,
    busy_until: Instant,
    inbox: VecDeque<Datagram>,
    bytes: usize,
    pauses: Pauses,
}

impl Cpu {
    pub(crate) fn new(now: Instant, per_datagram: Duration, buffer: usize) -> Self {
        let (dropped, bytes, inbox) = Default::default();
        let pauses = Pauses::new(now);
        Self { per_datagram, per_tick: PER_TICK, buffer, dropped, busy_until: now, inbox, bytes, pauses }
    }

    fn receive(&mut self, datagram: Datagram) {
        let bytes = weight(&datagram.bytes);
        if self.bytes + bytes > self.buffer {
            self.dropped += 1;
            return;
        }
        self.bytes += bytes;
        self.inbox.push_back(datagram);
    }

    /// How full the receive buffer is, in per cent.
    fn fill(&self) -> u8 {
        (100 * self.bytes / self.buffer) as u8
    }
}

impl World {
    /// A datagram has come to the server.
    pub(super) fn arrive(&mut self, mut datagram: Datagram) {
        match &mut self.cpu {
            Some(cpu) => cpu.receive(datagram),
            None => {
                self.shard.expect([datagram.from.into()]);
                self.shard.handle_datagram(self.now, datagram.from, &mut datagram.bytes, &mut self.out);
            }
        }
    }

    /// When the shard has something to do.
    pub(super) fn served_at(&self) -> Option<Instant> {
        let timer = self.shard.poll_timeout();
        let Some(cpu) = &self.cpu else { return timer };
        let waiting = (!cpu.inbox.is_empty()).then_some(self.now);
        timer.into_iter().chain(waiting).min().map(|at| at.max(cpu.busy_until))
    }

    /// What the event loop does in a tick.
    pub(super) fn serve(&mut self, server: SocketAddr) {
        let now = self.now;
        if self.cpu.as_ref().is_some_and(|cpu| now < cpu.busy_until) {
            return;
        }
        if let Some(cpu) = &mut self.cpu {
            let fill = cpu.fill();
            cpu.pauses.begin(now, fill);
        }
        let dropped = self.drops(DropReason::Shed);
        let mut taken = 0;
        while let Some(mut datagram) =
            self.cpu.as_mut().filter(|cpu| taken < cpu.per_tick).and_then(|cpu| cpu.inbox.pop_front())
        {
            taken += 1;
            self.cpu.iter_mut().for_each(|cpu| cpu.bytes -= weight(&datagram.bytes));
            self.shard.handle_datagram(now, datagram.from, &mut datagram.bytes, &mut self.out);
        }
        let mut sent = self.forward(server);
        if self.shard.poll_timeout().is_some_and(|at| at <= now) {
            self.shard.handle_timeout(now, &mut self.out);
            sent += self.forward(server);
        }
        sent += self.out.datagrams();
        self.flush(server);
        let dropped = (self.drops(DropReason::Shed) - dropped) as u32;
        if let Some(cpu) = &mut self.cpu {
            let whole = (taken + sent) as u32 - dropped.min(taken as u32);
            let busy = cpu.per_datagram * whole + cpu.per_datagram * dropped / DROP_PART;
            cpu.busy_until = now + busy;
            self.shard.note_tick(cpu.busy_until, busy, Backlog::with_fill(cpu.fill()));
            if cpu.inbox.is_empty() {
                cpu.busy_until = cpu.busy_until.max(cpu.pauses.next(self.shard.coalescing()));
            }
        }
    }

    /// Lets the shard forward; the datagrams that have been flushed.
    fn forward(&mut self, server: SocketAddr) -> usize {
        let mut sent = 0;
        while self.shard.forward(self.now, &mut self.out) {
            sent += self.out.datagrams();
            self.flush(server);
        }
        sent
    }
}
