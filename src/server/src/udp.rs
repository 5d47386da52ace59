//! A shard's way to the network: datagrams in by callback, batches out, over io_uring or plain batched calls.
//!
//! All system calls and all `unsafe` of the packet path are here and below.

mod arrival;
mod cmsg;
pub(crate) mod heap;
mod inbox;
mod mmsg;
mod pages;
mod refusals;
mod ring;
mod route;
mod sleep_ring;
mod sockaddr;
mod socket;
mod sockets;
mod table;
#[cfg(test)]
mod tests;
mod usual;
mod wake;

use std::io;
use std::net::UdpSocket;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::Duration;

use crate::io_mode::IoMode;
use inbox::Inbox;
use mmsg::Mmsg;
use moonring_core::report::IoStats;
use moonring_wire::packet::{AddressPair, Run, SendBatch};
use ring::Uring;
use sockets::Sockets;

pub use socket::bind;
pub(crate) use socket::{bind_all, limit_retries, limit_unsent};
pub(crate) use wake::WakeFd;

/// The longest payload of a UDP datagram, and of what the kernel coalesces (over IPv6 a little more than IPv4's 65,507).
const LONGEST_PAYLOAD: usize = 65_535;

/// Receive buffer while one process hands a socket to another: a tenth of a second at 100,000 datagrams/s.
const HAND_OVER_RECEIVE_BYTES: usize = 32 << 20;

/// How a shard's sockets are used.
#[derive(Clone, Debug)]
pub struct UdpSettings {
    /// Which system calls.
    pub io: IoMode,
    /// Number of receive buffers, at most 64: as many messages come with one call. Few stay in the cache.
    pub receive_buffers: u16,
    /// Longest datagram received, in bytes; with `gro` a buffer has 64 KiB anyway.
    pub receive_buffer_bytes: usize,
    /// Receive datagrams of one sender coalesced.
    pub gro: bool,
    /// Send datagrams to one client as one.
    pub gso: bool,
    /// `SO_RCVBUF` in bytes.
    pub socket_receive_bytes: usize,
    /// `SO_SNDBUF` in bytes.
    pub socket_send_bytes: usize,
}

impl Default for UdpSettings {
    fn default() -> Self {
        Self {
            io: IoMode::default(),
            receive_buffers: 16,
            receive_buffer_bytes: 2_048,
            gro: true,
            gso: true,
            socket_receive_bytes: 4 << 20,
            socket_send_bytes: 4 << 20,
        }
    }
}

impl UdpSettings {
    /// The same with receive buffers for the time in which one process hands a socket to another.
    pub(crate) fn with_much_room(&self) -> Self {
        let socket_receive_bytes = self.socket_receive_bytes.max(HAND_OVER_RECEIVE_BYTES);
        Self { socket_receive_bytes, ..self.clone() }
    }

    /// Bytes of payload that a receive buffer holds. A coalesced receive that does not fit would be cut off.
    fn buffer_bytes(&self, gro: bool) -> usize {
        if gro { LONGEST_PAYLOAD } else { self.receive_buffer_bytes.clamp(1, LONGEST_PAYLOAD) }
    }
}

/// What one call of [`Udp::receive`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Received {
    /// Datagrams handed over.
    pub datagrams: usize,
    /// True when more may be waiting.
    pub more: bool,
}

/// What became of a batch, in datagrams.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SendReport {
    /// Taken by the kernel.
    pub sent: usize,
    /// Refused by the kernel and dropped.
    pub failed: usize,
    /// Dropped because the socket's buffer was full.
    pub would_block: usize,
    /// Of all these, sent one by one because the kernel refused a GSO send.
    pub without_gso: usize,
    /// Bytes of those that were refused or dropped.
    pub unsent_bytes: usize,
    /// The last refusal's errno, 0 for none.
    pub last_error: i32,
}

impl SendReport {
    /// The socket's buffer has no room for `piece`.
    fn drop_for_room(&mut self, piece: Run) {
        self.would_block += usize::from(piece.datagrams);
        self.unsent_bytes += piece.len as usize;
    }
}

/// A shard's sockets. Made and used on one thread.
pub struct Udp {
    // Before the sockets: it refers to them.
    calls: Calls,
    inbox: Inbox,
    sockets: Sockets,
    stats: IoStats,
}

enum Calls {
    Uring(Box<Uring>),
    Mmsg(Box<Mmsg>),
}

/// One flush: what it sends and what became of it.
struct Flush<'a> {
    batch: &'a SendBatch,
    sockets: &'a mut Sockets,
    stats: &'a mut IoStats,
    report: SendReport,
}

impl Flush<'_> {
    /// A send of `piece` failed with `errno`.
    fn settle(&mut self, piece: Run, errno: i32) {
        self.sockets.settle(self.batch, piece, errno, &mut self.report);
    }

    fn finish(self) -> SendReport {
        self.stats.datagrams_out += self.report.sent as u64;
        self.stats.bytes_out += self.batch.len_bytes().saturating_sub(self.report.unsent_bytes) as u64;
        self.stats.send_failed += self.report.failed as u64;
        self.stats.would_block += self.report.would_block as u64;
        self.stats.without_gso += self.report.without_gso as u64;
        self.report
    }
}

macro_rules! either {
    ($self:expr, $io:ident => $then:expr) => {
        match $self {
            Calls::Uring($io) => $then,
            Calls::Mmsg($io) => $then,
        }
    };
}

/// Takes what is received.
pub trait Receiver {
    /// The messages that follow, each of one datagram or several, come from these addresses.
    fn expect(&mut self, from: impl Iterator<Item = AddressPair>);
    /// One datagram; false: no other for now.
    fn take(&mut self, from: AddressPair, bytes: &mut [u8]) -> bool;
    /// Whether a client has proven to be at the other end.
    fn is_known(&self, _from: AddressPair) -> bool {
        false
    }
}

/// A function that is [`Receiver::take`].
struct Each<F>(F);

impl<F: FnMut(AddressPair, &mut [u8]) -> bool> Receiver for Each<F> {
    fn expect(&mut self, _from: impl Iterator<Item = AddressPair>) {}

    fn take(&mut self, from: AddressPair, bytes: &mut [u8]) -> bool {
        self.0(from, bytes)
    }
}

impl Udp {
    /// Takes over bound sockets: one IPv4 or dual-stack IPv6 socket, or one of each. Must be called on the thread that
    /// uses the result.
    pub fn new(sockets: Vec<UdpSocket>, settings: &UdpSettings) -> io::Result<Self> {
        let sockets = Sockets::new(sockets, settings)?;
        let calls = match ring_or_mmsg(settings.io) {
            IoMode::Uring => Calls::Uring(Box::new(Uring::new(&sockets)?)),
            IoMode::Mmsg => Calls::Mmsg(Box::new(Mmsg::new(&sockets)?)),
        };
        Ok(Self { calls, inbox: Inbox::new(&sockets, settings)?, sockets, stats: IoStats::default() })
    }

    /// Hands up to `limit` datagrams to `each`, in place; stops after one for which it returns false. Never waits.
    pub fn receive(&mut self, limit: usize, each: impl FnMut(AddressPair, &mut [u8]) -> bool) -> Received {
        self.receive_into(limit, &mut Each(each))
    }

    /// [`Udp::receive`] for a receiver that is told beforehand where they come from.
    pub fn receive_into(&mut self, limit: usize, to: &mut impl Receiver) -> Received {
        self.inbox.receive(limit, &mut self.stats, to)
    }

    /// Sends the batch, a run a send. Never waits: what the socket does not take is dropped and counted. The batch may
    /// be cleared and reused afterwards.
    pub fn flush(&mut self, batch: &SendBatch) -> SendReport {
        if batch.is_empty() {
            return SendReport::default();
        }
        let mut flush = begin(batch, &mut self.sockets, &mut self.stats);
        either!(&mut self.calls, io => io.flush(&mut flush));
        flush.finish()
    }

    /// [`Udp::flush`], then [`Udp::wait`]; over io_uring both are one system call.
    pub fn flush_and_wait(&mut self, batch: &SendBatch, timeout: Duration) -> SendReport {
        if batch.is_empty() || !self.inbox.is_empty() {
            let report = self.flush(batch);
            self.wait(timeout);
            return report;
        }
        let mut flush = begin(batch, &mut self.sockets, &mut self.stats);
        either!(&mut self.calls, io => io.flush_and_wait(&mut flush, timeout));
        flush.finish()
    }

    /// Lets what becomes readable at `also` end each [`Udp::wait`].
    pub(crate) fn poll_also(&mut self, also: BorrowedFd<'_>) -> io::Result<()> {
        let also = also.try_clone_to_owned()?;
        either!(&mut self.calls, io => io.poll_also(also));
        Ok(())
    }

    /// Lets `wake` end each [`Udp::wait`].
    pub fn watch(&mut self, wake: &WakeFd) {
        either!(&mut self.calls, io => io.watch(wake));
    }

    /// Blocks the thread until there is something to receive, the watched wake-up descriptor is written or `timeout` is over.
    pub fn wait(&mut self, timeout: Duration) {
        if self.inbox.is_empty() {
            either!(&mut self.calls, io => io.wait(timeout, &mut self.stats));
        }
    }

    /// Whether something was received that nobody has taken yet.
    pub fn holds_received(&self) -> bool {
        !self.inbox.is_empty()
    }

    /// The sockets once more, for another process.
    pub fn share_sockets(&self) -> io::Result<Vec<OwnedFd>> {
        self.sockets.share()
    }

    /// Makes room for what comes while nobody receives.
    pub fn enlarge_receive_buffers(&self) {
        self.sockets.set_receive_buffers(HAND_OVER_RECEIVE_BYTES);
    }

    /// Gives that room back.
    pub fn restore_receive_buffers(&self, settings: &UdpSettings) {
        self.sockets.set_receive_buffers(settings.socket_receive_bytes);
    }

    /// Asks the kernel how many datagrams it dropped: a system call a socket, for once a second.
    pub fn poll_kernel_drops(&mut self) {
        self.stats.kernel_drops = self.sockets.kernel_drops();
    }

    /// How much of a socket's receive buffer is full, in per cent; of several sockets the fullest. A system call each.
    pub fn receive_fill(&self) -> u8 {
        self.sockets.receive_fill()
    }

    /// The counters.
    pub fn stats(&self) -> IoStats {
        self.stats
    }
}

/// `asked`, or `mmsg` where the kernel's io_uring cannot do what the ring needs.
fn ring_or_mmsg(asked: IoMode) -> IoMode {
    if asked == IoMode::Uring
        && let Err(error) = ring::check_send()
    {
        tracing::warn!(%error, "this kernel's io_uring does not send to an address (Linux 6.1 does): sendmmsg is used, as with io = \"mmsg\"");
        return IoMode::Mmsg;
    }
    asked
}

fn begin<'a>(batch: &'a SendBatch, sockets: &'a mut Sockets, stats: &'a mut IoStats) -> Flush<'a> {
    sockets.begin_flush();
    Flush { batch, sockets, stats, report: SendReport::default() }
}
