//! Sends over io_uring, in the call that the shard then sleeps in.
//!
//! A single datagram is a `SEND` with its address in the entry. A run of several, or one that has to leave from a certain
//! address, needs a control message and is a `SENDMSG`, which costs a ring more than `sendmmsg`: a batch that is mostly of
//! those goes by `sendmmsg`, all of it, so that it leaves in its order.
//!
//! Sends carry `MSG_DONTWAIT`, so a UDP send is over when `io_uring_enter` returns from submitting it: done, or failed with
//! a completion, which ends the sleep. That, and that an entry is copied when it is submitted, is why the batch may be
//! reused after [`Uring::flush`]. Entries that the kernel does not take, as it has no memory or no room for completions, are
//! made harmless, and until it has taken them all batches go by `sendmmsg`.

use std::io;
use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use io_uring::types::{Fd, Fixed};
use io_uring::{IoUring, opcode, squeue};

use super::Flush;
use super::mmsg::Sends;
use super::route::Route;
use super::sleep_ring::SleepRing;
use super::sockaddr::RawAddress;
use super::sockets::Sockets;
use super::table::{SendTable, TABLE_SENDS};
use super::wake::WakeFd;
use moonring_core::report::IoStats;
use moonring_wire::packet::{Local, Run};

/// Tries to hand a batch to the kernel before it is given up.
const SUBMIT_ATTEMPTS: u32 = 16;

/// See the module's words.
pub(super) struct Uring {
    // It stands first: the ring is closed before the memory that its entries point at goes away.
    sleep: SleepRing,
    /// For batches that are mostly runs.
    runs: Sends,
    table: SendTable,
    /// The table's sends as entries; they go to the kernel's queue together.
    entries: Vec<squeue::Entry>,
    /// Tables that entries which the kernel did not take still point into, made harmless; kept until it has taken them.
    abandoned: Vec<SendTable>,
    /// Index in the table and errno.
    failures: Vec<(usize, i32)>,
    /// Which filling of the table it is: of earlier ones nothing is wanted any more. Part of an entry's number.
    filling: u16,
}

/// Where the filling stands in an entry's number; the index in the table is below it.
const FILLING_SHIFT: u32 = 16;

/// Sends a datagram from a socket to itself, as [`Uring`] does it: kernels before 6.1 refuse the address.
pub(super) fn check_send() -> io::Result<()> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    let to = RawAddress::new(socket.local_addr()?, false);
    let mut ring = IoUring::new(1)?;
    let bytes = [0_u8; 1];
    let entry = opcode::Send::new(Fd(socket.as_raw_fd()), bytes.as_ptr(), 1)
        .flags(libc::MSG_DONTWAIT)
        .dest_addr(to.bytes.as_ptr().cast())
        .dest_addr_len(to.len)
        .build();
    // SAFETY: the bytes, the address and the socket live until the send's completion, which is waited for.
    unsafe { ring.submission().push(&entry) }.map_err(io::Error::other)?;
    ring.submit_and_wait(1)?;
    match ring.completion().next().map(|completion| completion.result()) {
        Some(1) => Ok(()),
        Some(error) => Err(io::Error::from_raw_os_error(-error)),
        None => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

/// Whether half of the sends or more need a header.
fn is_mostly_runs(flush: &Flush<'_>) -> bool {
    let runs = flush.batch.runs();
    2 * runs.iter().filter(|run| flush.sockets.needs_header(run)).count() >= runs.len()
}

impl Uring {
    /// Must be made on the thread that uses it.
    pub(super) fn new(sockets: &Sockets) -> io::Result<Self> {
        Ok(Self {
            sleep: SleepRing::new(&sockets.fds(), TABLE_SENDS as u32)?,
            runs: Sends::new(sockets),
            table: SendTable::new(),
            entries: Vec::with_capacity(TABLE_SENDS),
            abandoned: Vec::new(),
            failures: Vec::with_capacity(TABLE_SENDS),
            filling: 0,
        })
    }

    pub(super) fn poll_also(&mut self, also: OwnedFd) {
        self.sleep.poll_also(also);
    }

    pub(super) fn watch(&mut self, wake: &WakeFd) {
        self.sleep.watch(wake);
    }

    pub(super) fn wait(&mut self, timeout: Duration, stats: &mut IoStats) {
        self.submit_and_wait(timeout, stats);
    }

    pub(super) fn flush(&mut self, flush: &mut Flush<'_>) {
        if is_mostly_runs(flush) || self.is_stuck(flush.stats) {
            return self.runs.flush(flush);
        }
        self.queue(flush);
        self.send_table(flush);
    }

    /// [`Uring::flush`] and [`Uring::wait`] in one system call.
    pub(super) fn flush_and_wait(&mut self, flush: &mut Flush<'_>, timeout: Duration) {
        if is_mostly_runs(flush) || self.is_stuck(flush.stats) {
            self.runs.flush(flush);
            return self.wait(timeout, flush.stats);
        }
        self.queue(flush);
        let is_queued = self.push_entries(flush.stats);
        let behind = self.submit_and_wait(timeout, flush.stats);
        self.finish_table(flush, is_queued, behind);
    }

    /// Returns how many entries that are not sends it has queued.
    fn submit_and_wait(&mut self, timeout: Duration, stats: &mut IoStats) -> usize {
        stats.enters += 1;
        let own = self.sleep.sleep(timeout);
        self.reap();
        own
    }

    /// Whether the kernel has not taken all of an earlier batch, and does not now.
    fn is_stuck(&mut self, stats: &mut IoStats) -> bool {
        if self.abandoned.is_empty() {
            return false;
        }
        let is_stuck = self.submit(stats) > 0;
        if !is_stuck {
            self.abandoned.clear();
        }
        is_stuck
    }

    /// Puts the batch into the table and the submission queue; full tables are sent, the last one is yet to be.
    fn queue(&mut self, flush: &mut Flush<'_>) {
        for run in flush.batch.runs() {
            for piece in flush.sockets.pieces(*run) {
                if self.table.is_full() {
                    self.send_table(flush);
                }
                match flush.sockets.route(piece.to.remote) {
                    Some(route) => self.add(flush.batch.bytes(), piece, route),
                    None => flush.settle(piece, libc::EAFNOSUPPORT),
                }
            }
        }
    }

    fn add(&mut self, bytes: &[u8], piece: Run, route: Route) {
        let index = self.table.pieces().len();
        let socket = Fixed(route.socket as u32);
        let entry = if piece.datagrams == 1 && piece.to.local == Local::Any {
            let single = self.table.push_single(bytes, piece, route);
            opcode::Send::new(socket, single.bytes, piece.len)
                .flags(libc::MSG_DONTWAIT)
                .dest_addr(single.name)
                .dest_addr_len(single.name_len)
                .build()
        } else {
            let header = self.table.push(bytes, piece, route);
            opcode::SendMsg::new(socket, header).flags(libc::MSG_DONTWAIT as u32).build()
        };
        let number = u64::from(self.filling) << FILLING_SHIFT | index as u64;
        self.entries.push(entry.flags(squeue::Flags::SKIP_SUCCESS).user_data(number));
    }

    /// Hands the table to the kernel at once.
    fn send_table(&mut self, flush: &mut Flush<'_>) {
        let is_queued = self.push_entries(flush.stats);
        self.finish_table(flush, is_queued, 0);
    }

    /// Moves the table's entries into the kernel's queue; false when it has no room for them.
    fn push_entries(&mut self, stats: &mut IoStats) -> bool {
        // SAFETY: what the entries point at is in the table, which is boxed, or in the batch of this flush, which submits
        // them before it returns or makes them harmless.
        let pushed = unsafe { self.sleep.ring.submission().push_multiple(&self.entries) };
        // It has room for a table; not when entries of another one are left.
        if pushed.is_err() {
            stats.submit_errors += 1;
        }
        self.entries.clear();
        pushed.is_ok()
    }

    /// Submits what is not submitted yet, and settles what failed of the table. `is_queued`: its entries are in the kernel's
    /// queue, and `behind` others behind them.
    fn finish_table(&mut self, flush: &mut Flush<'_>, is_queued: bool, behind: usize) {
        let all = self.table.pieces().len();
        if all == 0 {
            return;
        }
        let left = self.submit(flush.stats);
        let unsent = if is_queued { left.saturating_sub(behind).min(all) } else { all };
        let submitted = all - unsent;
        flush.stats.sends += submitted as u64;
        for (index, piece) in self.table.pieces().iter().enumerate() {
            match index < submitted {
                true => flush.report.sent += usize::from(piece.datagrams),
                false => flush.report.drop_for_room(*piece),
            }
        }
        while let Some((index, errno)) = self.failures.pop() {
            if let Some(piece) = self.table.pieces().get(index).filter(|_| index < submitted) {
                flush.report.sent -= usize::from(piece.datagrams);
                flush.settle(*piece, errno);
            }
        }
        self.filling = self.filling.wrapping_add(1);
        if unsent > 0 && is_queued {
            // The batch that its entries point into is reused.
            let mut table = std::mem::replace(&mut self.table, SendTable::new());
            table.defuse();
            self.abandoned.push(table);
        }
        self.table.clear();
    }

    /// Hands the queue to the kernel; returns how many entries it did not take.
    fn submit(&mut self, stats: &mut IoStats) -> usize {
        let mut attempts = 0..SUBMIT_ATTEMPTS;
        while !self.sleep.ring.submission().is_empty() && attempts.next().is_some() {
            stats.enters += 1;
            if self.sleep.ring.submit().is_err() {
                stats.submit_errors += 1;
            }
            self.reap();
        }
        self.sleep.ring.submission().len()
    }

    /// Takes completions; those of earlier fillings are of sends that were given up.
    fn reap(&mut self) {
        let (failures, filling) = (&mut self.failures, u64::from(self.filling));
        self.sleep.reap(|entry| {
            let (of, index) = (entry.user_data() >> FILLING_SHIFT, entry.user_data() & ((1 << FILLING_SHIFT) - 1));
            if of == filling {
                failures.push((index as usize, -entry.result()));
            }
        });
    }
}
