//! The media ring: multishot `recvmsg` into provided buffers, batches of `sendmsg`, one io_uring per shard.
//!
//! Sends carry `MSG_DONTWAIT`, so a UDP send is over when `io_uring_enter` returns: done, or failed with a completion.
//! That, and that an entry is copied when it is submitted, is why the batch may be reused after [`Uring::flush`].

use std::collections::VecDeque;
use std::io;
use std::time::Duration;

use io_uring::types::{CancelBuilder, Fixed, RecvMsgOut, Timespec};
use io_uring::{IoUring, cqueue, opcode, squeue};

use super::arrival::Arrival;
use super::buf_ring::{self, BufRing};
use super::cmsg::CONTROL_BYTES;
use super::sockaddr::ADDRESS_BYTES;
use super::sockets::Sockets;
use super::table::{EMPTY_HEADER, SendTable, TABLE_SENDS};
use super::wake::{WakeFd, WakeRead, block};
use super::{Received, SendReport, UdpSettings};
use moonring_core::report::IoStats;
use moonring_wire::packet::{AddressPair, Run, SendBatch};

/// `io_uring_recvmsg_out`, the address and the control messages in front of the payload.
const FRONT: usize = 16 + ADDRESS_BYTES.next_multiple_of(4) + CONTROL_BYTES;
/// Completions with this bit are of sends; the rest of their number is the index in the table.
const SEND: u64 = 1 << 32;
/// `IORING_ENTER_GETEVENTS`: runs the work that DEFER_TASKRUN holds back.
const GETEVENTS: u32 = 1;
/// Tries to hand a batch to the kernel before it is given up.
const SUBMIT_ATTEMPTS: u32 = 16;
const CANCEL_WITHIN: Duration = Duration::from_secs(1);

/// See the module's words.
pub(super) struct Uring {
    // The ring stands first: it is closed before the memory that it points at goes away.
    ring: IoUring,
    buffers: BufRing,
    receive_header: Box<libc::msghdr>,
    table: SendTable,
    receives: Vec<Receive>,
    filled: VecDeque<Filled>,
    open: Option<Open>,
    failures: Vec<(usize, i32)>,
    watch: WakeRead,
    pub(super) stats: IoStats,
}

/// The state of one socket's multishot receive.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Receive {
    Armed,
    /// Out of buffers: goes on as soon as there are some.
    Starved,
    /// Ended or failed: goes on at the next call, not in this one, so that a lasting error does not spin.
    Ended,
}

/// A buffer that the kernel filled.
struct Filled {
    buffer: u16,
    len: usize,
}

/// The buffer being split.
struct Open {
    buffer: u16,
    arrival: Option<Arrival>,
}

impl Uring {
    /// Must be made on the thread that uses it.
    pub(super) fn new(sockets: &Sockets, settings: &UdpSettings) -> io::Result<Self> {
        let entries = settings.receive_buffers.next_power_of_two();
        let stride = (FRONT + settings.buffer_bytes(sockets.gro)).next_multiple_of(64);
        let completions = (u32::from(entries) + TABLE_SENDS as u32 + 16).next_power_of_two();
        let mut builder = IoUring::builder();
        builder.setup_single_issuer().setup_defer_taskrun().setup_taskrun_flag();
        builder.setup_submit_all().setup_cqsize(completions);
        let ring = builder.build(TABLE_SENDS as u32 + 16)?;
        ring.submitter().register_files(&sockets.fds())?;
        // SAFETY: `Drop` cancels the receives, and the field order closes the ring first.
        let buffers = unsafe { BufRing::new(&ring.submitter(), entries, stride)? };
        let mut receive_header = Box::new(EMPTY_HEADER);
        receive_header.msg_namelen = ADDRESS_BYTES as u32;
        receive_header.msg_controllen = CONTROL_BYTES;
        let mut uring = Self {
            ring,
            buffers,
            receive_header,
            table: SendTable::new(),
            receives: vec![Receive::Ended; sockets.len()],
            filled: VecDeque::with_capacity(usize::from(entries)),
            open: None,
            failures: Vec::with_capacity(TABLE_SENDS),
            watch: WakeRead::nothing(),
            stats: IoStats::default(),
        };
        uring.arm(Receive::Ended);
        Ok(uring)
    }

    /// A write to `wake` ends a wait.
    pub(super) fn watch(&mut self, wake: &WakeFd) {
        self.watch.set(wake);
    }

    /// Blocks until there is something to receive, the watched [`WakeFd`] is written or the time is over.
    pub(super) fn wait(&mut self, timeout: Duration) {
        if self.filled.is_empty() && self.open.is_none() {
            self.watch.arm(&mut self.ring);
            self.stats.enters += 1;
            block(&self.ring, timeout);
            self.reap();
        }
    }

    pub(super) fn receive(&mut self, limit: usize, mut each: impl FnMut(AddressPair, &mut [u8]) -> bool) -> Received {
        self.arm(Receive::Ended);
        let mut received = Received::default();
        if self.filled.is_empty() && self.open.is_none() {
            self.poll();
        }
        while received.datagrams < limit && self.open_next() {
            let Some(Open { buffer, arrival: Some(arrival) }) = &mut self.open else { continue };
            match arrival.next() {
                None => {}
                Some(None) => self.stats.too_long += 1,
                Some(Some(range)) => {
                    received.datagrams += 1;
                    self.stats.datagrams_in += 1;
                    self.stats.bytes_in += range.len() as u64;
                    if !each(arrival.from, &mut self.buffers.get(*buffer)[range]) {
                        break;
                    }
                }
            }
        }
        self.close_done();
        self.buffers.publish();
        self.arm(Receive::Starved);
        received.more = self.open.is_some() || !self.filled.is_empty();
        received
    }

    pub(super) fn flush(&mut self, batch: &SendBatch, sockets: &mut Sockets) -> SendReport {
        let mut report = SendReport::default();
        sockets.begin_flush();
        for run in batch.runs() {
            for piece in sockets.pieces(*run) {
                self.queue_send(batch, piece, sockets, &mut report);
            }
        }
        self.send_table(batch, sockets, &mut report);
        report
    }

    fn queue_send(&mut self, batch: &SendBatch, piece: Run, sockets: &mut Sockets, report: &mut SendReport) {
        if self.table.is_full() {
            self.send_table(batch, sockets, report);
        }
        let Some(route) = sockets.route(piece.to.remote) else {
            return sockets.settle(batch, piece, libc::EAFNOSUPPORT, report);
        };
        let index = self.table.pieces().len();
        self.table.push(batch.bytes(), piece, route);
        let entry = opcode::SendMsg::new(Fixed(route.socket as u32), self.table.header(index))
            .flags(libc::MSG_DONTWAIT as u32)
            .build()
            .flags(squeue::Flags::SKIP_SUCCESS)
            .user_data(SEND | index as u64);
        self.push(&entry);
    }

    /// Sends what the table holds and settles what failed.
    fn send_table(&mut self, batch: &SendBatch, sockets: &mut Sockets, report: &mut SendReport) {
        if self.table.pieces().is_empty() {
            return;
        }
        let unsent = self.submit();
        let submitted = self.table.pieces().len().saturating_sub(unsent);
        self.stats.sends += submitted as u64;
        report.sent += self.table.pieces()[..submitted].iter().map(|p| usize::from(p.datagrams)).sum::<usize>();
        for piece in &self.table.pieces()[submitted..] {
            report.would_block += usize::from(piece.datagrams);
        }
        while let Some((index, errno)) = self.failures.pop() {
            if let Some(piece) = self.table.pieces().get(index).filter(|_| index < submitted) {
                report.sent -= usize::from(piece.datagrams);
                sockets.settle(batch, *piece, errno, report);
            }
        }
        self.table.clear();
    }

    /// Hands the queue to the kernel; returns how many entries it did not take. Those are made harmless: the batch that
    /// they point into is reused.
    fn submit(&mut self) -> usize {
        for _ in 0..SUBMIT_ATTEMPTS {
            self.stats.enters += 1;
            let outcome = self.ring.submit();
            self.reap();
            if self.ring.submission().is_empty() {
                return 0;
            }
            if outcome.is_err() {
                self.stats.submit_errors += 1;
            }
        }
        self.table.defuse();
        self.ring.submission().len()
    }

    /// Looks for completions, with a system call only when the kernel says that there is work.
    fn poll(&mut self) {
        let queue = self.ring.submission();
        if queue.taskrun() || queue.cq_overflow() || !queue.is_empty() {
            drop(queue);
            self.enter();
        } else {
            drop(queue);
            self.reap();
        }
    }

    fn enter(&mut self) {
        self.stats.enters += 1;
        let queued = self.ring.submission().len() as u32;
        // SAFETY: all queued entries point at memory of this value (sends are queued and submitted within a flush).
        let outcome = unsafe { self.ring.submitter().enter::<libc::sigset_t>(queued, 0, GETEVENTS, None) };
        if outcome.is_err() {
            self.stats.submit_errors += 1;
        }
        self.reap();
    }

    /// Takes every completion: receives into `filled`, failed sends into `failures`.
    fn reap(&mut self) {
        for entry in self.ring.completion() {
            if entry.user_data() & SEND != 0 {
                self.failures.push(((entry.user_data() & !SEND) as usize, -entry.result()));
                continue;
            }
            if entry.user_data() == WakeRead::USER_DATA {
                self.watch.done();
                continue;
            }
            let Some(receive) = self.receives.get_mut(entry.user_data() as usize) else { continue };
            if !cqueue::more(entry.flags()) {
                *receive = if entry.result() == -libc::ENOBUFS { Receive::Starved } else { Receive::Ended };
            }
            match (cqueue::buffer_select(entry.flags()), usize::try_from(entry.result())) {
                (Some(buffer), Ok(len)) => self.filled.push_back(Filled { buffer, len }),
                (Some(buffer), Err(_)) => self.filled.push_back(Filled { buffer, len: 0 }),
                (None, _) if entry.result() == -libc::ENOBUFS => self.stats.out_of_buffers += 1,
                (None, Err(_)) => self.stats.receive_errors += 1,
                (None, Ok(_)) => {}
            }
        }
    }

    /// Arms the receives that ended that way.
    fn arm(&mut self, ended: Receive) {
        if !self.receives.contains(&ended) {
            return;
        }
        for socket in 0..self.receives.len() {
            if self.receives[socket] == ended {
                let entry =
                    opcode::RecvMsgMulti::new(Fixed(socket as u32), &raw const *self.receive_header, buf_ring::GROUP)
                        .build()
                        .user_data(socket as u64);
                self.receives[socket] = Receive::Armed;
                self.stats.arms += 1;
                self.push(&entry);
            }
        }
        self.enter();
    }

    fn push(&mut self, entry: &squeue::Entry) {
        // SAFETY: what entries point at is boxed in this value, or in the batch of a flush, which submits before it
        // returns or points the entry's header elsewhere.
        let pushed = unsafe { self.ring.submission().push(entry) };
        // The queue is longer than the table and the receives together, and both submit what they push.
        if pushed.is_err() {
            self.stats.submit_errors += 1;
        }
    }

    /// True when `open` holds a buffer to go on with; gives the one before back.
    fn open_next(&mut self) -> bool {
        self.close_done();
        if self.open.is_none() {
            self.open = self.filled.pop_front().map(|filled| self.open(&filled));
        }
        self.open.is_some()
    }

    fn close_done(&mut self) {
        if let Some(open) = &self.open
            && open.arrival.as_ref().is_none_or(Arrival::is_done)
        {
            self.buffers.put(open.buffer);
            self.open = None;
        }
    }

    fn open(&mut self, filled: &Filled) -> Open {
        self.stats.receives += 1;
        let bytes = self.buffers.get(filled.buffer);
        let end = filled.len.min(bytes.len());
        let arrival = RecvMsgOut::parse(&bytes[..end], &self.receive_header).ok().and_then(|out| {
            let payload = end - out.payload_data().len()..end;
            Arrival::new(out.name_data(), out.control_data(), payload, out.is_payload_truncated())
        });
        if arrival.is_none() {
            self.stats.receive_errors += 1;
        }
        Open { buffer: filled.buffer, arrival }
    }
}

impl Drop for Uring {
    /// Takes sockets and memory from the kernel at once: a ring that is merely closed may hold its port for a moment.
    fn drop(&mut self) {
        cancel_all(&self.ring);
        self.enter();
        // Either may be refused by an older kernel; closing the ring does the same, later.
        let _ = self.buffers.unregister(&self.ring);
        let _ = self.ring.submitter().unregister_files();
    }
}

/// Cancels what is under way on `ring` and waits for it.
pub(super) fn cancel_all(ring: &IoUring) {
    let within = Timespec::new().sec(CANCEL_WITHIN.as_secs());
    // Refused by kernels before 6.0; there the ring's end does it, later.
    let _ = ring.submitter().register_sync_cancel(Some(within), CancelBuilder::any());
}
