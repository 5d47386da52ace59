//! A shard's way to the network: datagrams in by callback, batches out, over io_uring or plain batched calls.
//!
//! All system calls and all `unsafe` of the packet path are here and below.

mod arrival;
mod buf_ring;
mod cmsg;
mod mmsg;
mod pages;
mod ring;
mod route;
mod sockaddr;
mod socket;
mod sockets;
mod table;
#[cfg(test)]
mod tests;
mod wake;

use std::io;
use std::net::UdpSocket;
use std::time::Duration;

use crate::io_mode::IoMode;
use mmsg::Mmsg;
use moonring_core::report::IoStats;
use moonring_wire::packet::{AddressPair, SendBatch};
use ring::Uring;
use sockets::Sockets;

pub use socket::bind;
pub(crate) use wake::WakeFd;

/// The longest payload of a UDP datagram, and of what the kernel coalesces (over IPv6 a little more than IPv4's 65,507).
const LONGEST_PAYLOAD: usize = 65_535;

/// How a shard's sockets are used.
#[derive(Clone, Debug)]
pub struct UdpSettings {
    /// Which system calls.
    pub io: IoMode,
    /// Number of receive buffers, rounded up to a power of two (`mmsg` uses at most 64).
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
            receive_buffers: 64,
            receive_buffer_bytes: 2_048,
            gro: true,
            gso: true,
            socket_receive_bytes: 4 << 20,
            socket_send_bytes: 4 << 20,
        }
    }
}

impl UdpSettings {
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
    /// The last refusal's errno, 0 for none.
    pub last_error: i32,
}

/// A shard's sockets. Made and used on one thread.
pub struct Udp {
    // Before the sockets: it refers to them.
    calls: Calls,
    sockets: Sockets,
    out: Out,
}

enum Calls {
    Uring(Box<Uring>),
    Mmsg(Box<Mmsg>),
}

/// What was sent, in datagrams and bytes.
#[derive(Default)]
struct Out {
    datagrams: u64,
    bytes: u64,
    failed: u64,
    would_block: u64,
    without_gso: u64,
    kernel_drops: u64,
}

macro_rules! either {
    ($self:expr, $io:ident => $then:expr) => {
        match $self {
            Calls::Uring($io) => $then,
            Calls::Mmsg($io) => $then,
        }
    };
}

impl Udp {
    /// Takes over bound sockets: one IPv4 or dual-stack IPv6 socket, or one of each. Must be called on the thread that
    /// uses the result.
    pub fn new(sockets: Vec<UdpSocket>, settings: &UdpSettings) -> io::Result<Self> {
        let sockets = Sockets::new(sockets, settings)?;
        let calls = match settings.io {
            IoMode::Uring => Calls::Uring(Box::new(Uring::new(&sockets, settings)?)),
            IoMode::Mmsg => Calls::Mmsg(Box::new(Mmsg::new(&sockets, settings)?)),
        };
        Ok(Self { calls, sockets, out: Out::default() })
    }

    /// Hands up to `limit` datagrams to `each`, in place; stops after one for which it returns false. Never waits.
    pub fn receive(&mut self, limit: usize, each: impl FnMut(AddressPair, &mut [u8]) -> bool) -> Received {
        either!(&mut self.calls, io => io.receive(limit, each))
    }

    /// Sends the batch, a run a send. Never waits: what the socket does not take is dropped and counted. The batch may
    /// be cleared and reused afterwards.
    pub fn flush(&mut self, batch: &SendBatch) -> SendReport {
        if batch.is_empty() {
            return SendReport::default();
        }
        let report = either!(&mut self.calls, io => io.flush(batch, &mut self.sockets));
        self.out.datagrams += report.sent as u64;
        self.out.bytes += batch.bytes().len() as u64;
        self.out.failed += report.failed as u64;
        self.out.would_block += report.would_block as u64;
        self.out.without_gso += report.without_gso as u64;
        report
    }

    /// Lets `wake` end each [`Udp::wait`].
    pub fn watch(&mut self, wake: &WakeFd) {
        either!(&mut self.calls, io => io.watch(wake));
    }

    /// Blocks the thread until there is something to receive, the watched wake-up descriptor is written or `timeout` is over.
    pub fn wait(&mut self, timeout: Duration) {
        either!(&mut self.calls, io => io.wait(timeout));
    }

    /// Asks the kernel how many datagrams it dropped: a system call a socket, for once a second.
    pub fn poll_kernel_drops(&mut self) {
        self.out.kernel_drops = self.sockets.kernel_drops();
    }

    /// The counters.
    pub fn stats(&self) -> IoStats {
        IoStats {
            datagrams_out: self.out.datagrams,
            bytes_out: self.out.bytes,
            send_failed: self.out.failed,
            would_block: self.out.would_block,
            without_gso: self.out.without_gso,
            kernel_drops: self.out.kernel_drops,
            ..either!(&self.calls, io => io.stats)
        }
    }
}
