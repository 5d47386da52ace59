//! The same path over `recvmmsg` and `sendmmsg`, for comparison and for kernels that refuse the ring's features.

use std::io;
use std::os::fd::RawFd;
use std::time::Duration;

use io_uring::{IoUring, opcode, types::Fd};

use super::arrival::Arrival;
use super::cmsg::{CONTROL_BYTES, Control};
use super::pages::Pages;
use super::ring::cancel_all;
use super::sockaddr::RawAddress;
use super::sockets::Sockets;
use super::table::{EMPTY_HEADER, SendTable};
use super::wake::{WakeFd, WakeRead, block};
use super::{Received, SendReport, UdpSettings};
use moonring_core::report::IoStats;
use moonring_wire::packet::{AddressPair, SendBatch};

/// Most receives in one call; the same for sends is the table's.
const BATCH: usize = 64;

/// See the module's words.
pub(super) struct Mmsg {
    fds: Vec<RawFd>,
    inbox: Inbox,
    table: SendTable,
    /// What the owner sleeps on: it polls the sockets and reads the eventfd; nothing else goes through it.
    sleep: IoUring,
    polled: Vec<bool>,
    /// Sockets that gave less than was asked for in this call: asking again would be a call for nothing.
    drained: Vec<bool>,
    next_socket: usize,
    open: Option<Arrival>,
    /// Filled receives that follow the open one: next and end.
    filled: (usize, usize),
    watch: WakeRead,
    pub(super) stats: IoStats,
}

/// Memory that `recvmmsg` fills.
struct Inbox {
    headers: Box<[libc::mmsghdr]>,
    parts: Box<[libc::iovec]>,
    names: Box<[RawAddress]>,
    controls: Box<[Control]>,
    memory: Pages,
    stride: usize,
}

impl Mmsg {
    pub(super) fn new(sockets: &Sockets, settings: &UdpSettings) -> io::Result<Self> {
        let buffers = BATCH.min(usize::from(settings.receive_buffers)).max(1);
        let fds = sockets.fds();
        let mut builder = IoUring::builder();
        builder.setup_single_issuer().setup_defer_taskrun().setup_taskrun_flag();
        let sleep: IoUring = builder.build(8.max(fds.len() as u32))?;
        Ok(Self {
            polled: vec![false; fds.len()],
            drained: vec![false; fds.len()],
            fds,
            inbox: Inbox::new(buffers, settings.buffer_bytes(sockets.gro).next_multiple_of(64))?,
            table: SendTable::new(),
            sleep,
            next_socket: 0,
            open: None,
            filled: (0, 0),
            watch: WakeRead::nothing(),
            stats: IoStats::default(),
        })
    }

    pub(super) fn watch(&mut self, wake: &WakeFd) {
        self.watch.set(wake);
    }

    pub(super) fn wait(&mut self, timeout: Duration) {
        if self.open.is_none() && self.filled.0 == self.filled.1 {
            self.watch.arm(&mut self.sleep);
            self.poll_sockets();
            self.stats.enters += 1;
            block(&self.sleep, timeout);
            self.reap();
        }
    }

    pub(super) fn receive(&mut self, limit: usize, mut each: impl FnMut(AddressPair, &mut [u8]) -> bool) -> Received {
        let mut received = Received::default();
        self.drained.fill(false);
        while received.datagrams < limit && self.open_next() {
            let (Some(arrival), Some(index)) = (&mut self.open, self.filled.0.checked_sub(1)) else { continue };
            match arrival.next() {
                None => {}
                Some(None) => self.stats.too_long += 1,
                Some(Some(range)) => {
                    received.datagrams += 1;
                    self.stats.datagrams_in += 1;
                    self.stats.bytes_in += range.len() as u64;
                    if !each(arrival.from, &mut self.inbox.buffer(index)[range]) {
                        break;
                    }
                }
            }
        }
        self.open.take_if(|arrival| arrival.is_done());
        received.more = self.open.is_some() || self.filled.0 < self.filled.1 || received.datagrams >= limit;
        received
    }

    pub(super) fn flush(&mut self, batch: &SendBatch, sockets: &mut Sockets) -> SendReport {
        let mut report = SendReport::default();
        sockets.begin_flush();
        let mut socket = 0;
        for run in batch.runs() {
            for piece in sockets.pieces(*run) {
                let Some(route) = sockets.route(piece.to.remote) else {
                    sockets.settle(batch, piece, libc::EAFNOSUPPORT, &mut report);
                    continue;
                };
                // One call has one socket.
                if self.table.is_full() || route.socket != socket {
                    self.send_table(socket, batch, sockets, &mut report);
                    socket = route.socket;
                }
                self.table.push(batch.bytes(), piece, route);
            }
        }
        self.send_table(socket, batch, sockets, &mut report);
        report
    }

    /// Begins a poll of each socket that has none.
    fn poll_sockets(&mut self) {
        for (socket, fd) in self.fds.iter().enumerate() {
            if !self.polled[socket] {
                let entry = opcode::PollAdd::new(Fd(*fd), libc::POLLIN as u32).build().user_data(socket as u64);
                // SAFETY: a poll points at no memory, and the sockets outlive the ring.
                self.polled[socket] = unsafe { self.sleep.submission().push(&entry) }.is_ok();
            }
        }
    }

    fn run_sleep(&mut self) {
        self.stats.enters += 1;
        let queued = self.sleep.submission().len() as u32;
        // SAFETY: polls point at no memory, the watch's read at memory that outlives it.
        let outcome = unsafe { self.sleep.submitter().enter::<libc::sigset_t>(queued, 0, 1, None) };
        if outcome.is_err() {
            self.stats.submit_errors += 1;
        }
        self.reap();
    }

    fn reap(&mut self) {
        for entry in self.sleep.completion() {
            if entry.user_data() == WakeRead::USER_DATA {
                self.watch.done();
            } else if let Some(polled) = self.polled.get_mut(entry.user_data() as usize) {
                *polled = false;
            }
        }
    }

    fn send_table(&mut self, socket: usize, batch: &SendBatch, sockets: &mut Sockets, report: &mut SendReport) {
        let (mut done, total) = (0, self.table.pieces().len());
        while done < total {
            self.stats.enters += 1;
            let headers = self.table.headers_from(done);
            let (first, count) = (headers.as_mut_ptr(), headers.len() as u32);
            // SAFETY: `count` headers from `first` on point at the table's memory and the batch, both of which live
            // through the call.
            let sent = unsafe { libc::sendmmsg(self.fds[socket], first, count, libc::MSG_DONTWAIT) };
            let taken = usize::try_from(sent).unwrap_or(0).min(total - done);
            self.stats.sends += taken as u64;
            for piece in &self.table.pieces()[done..done + taken] {
                report.sent += usize::from(piece.datagrams);
            }
            done += taken;
            if taken == 0 {
                // The call reports an error only for its first message: settle that one, go on behind it.
                let errno = io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO);
                sockets.settle(batch, self.table.pieces()[done], errno, report);
                done += 1;
            }
        }
        self.table.clear();
    }

    /// True when `open` holds a receive to go on with.
    fn open_next(&mut self) -> bool {
        self.open.take_if(|arrival| arrival.is_done());
        if self.open.is_some() {
            return true;
        }
        if self.filled.0 == self.filled.1 && !self.fill() {
            return false;
        }
        self.open = self.inbox.arrival(self.filled.0);
        self.filled.0 += 1;
        self.stats.receives += 1;
        if self.open.is_none() {
            self.stats.receive_errors += 1;
        }
        true
    }

    /// Asks each socket that may have more, starting with another one each time.
    fn fill(&mut self) -> bool {
        for _ in 0..self.fds.len() {
            let socket = self.next_socket;
            self.next_socket = (socket + 1) % self.fds.len();
            if self.drained[socket] {
                continue;
            }
            self.stats.enters += 1;
            match self.inbox.fill(self.fds[socket]) {
                Ok(count) => {
                    self.drained[socket] = count < self.inbox.headers.len();
                    self.filled = (0, count);
                    if count > 0 {
                        return true;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.drained[socket] = true,
                // An ICMP error of somebody's address, cleared by reading it: the next call goes on.
                Err(_) => self.stats.receive_errors += 1,
            }
        }
        false
    }
}

impl Drop for Mmsg {
    /// A poll that is under way holds the port.
    fn drop(&mut self) {
        cancel_all(&self.sleep);
        self.run_sleep();
    }
}

impl Inbox {
    fn new(buffers: usize, stride: usize) -> io::Result<Self> {
        Ok(Self {
            headers: vec![libc::mmsghdr { msg_hdr: EMPTY_HEADER, msg_len: 0 }; buffers].into(),
            parts: vec![libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 }; buffers].into(),
            names: vec![RawAddress::EMPTY; buffers].into(),
            controls: vec![Control::EMPTY; buffers].into(),
            memory: Pages::new(buffers * stride)?,
            stride,
        })
    }

    fn fill(&mut self, fd: RawFd) -> io::Result<usize> {
        for i in 0..self.headers.len() {
            self.parts[i] = libc::iovec {
                iov_base: self.memory.as_ptr().wrapping_add(i * self.stride).cast(),
                iov_len: self.stride,
            };
            let header = &mut self.headers[i].msg_hdr;
            header.msg_name = self.names[i].bytes.as_mut_ptr().cast();
            header.msg_namelen = self.names[i].bytes.len() as u32;
            header.msg_iov = &raw mut self.parts[i];
            header.msg_iovlen = 1;
            header.msg_control = self.controls[i].bytes.as_mut_ptr().cast();
            header.msg_controllen = CONTROL_BYTES;
        }
        let count = self.headers.len() as u32;
        // SAFETY: each header points at its own buffer, name and control, all of which live through the call.
        let received =
            unsafe { libc::recvmmsg(fd, self.headers.as_mut_ptr(), count, libc::MSG_DONTWAIT, std::ptr::null_mut()) };
        usize::try_from(received).map_err(|_| io::Error::last_os_error())
    }

    /// What the `i`th receive of the last call brought.
    fn arrival(&self, i: usize) -> Option<Arrival> {
        let header = &self.headers[i];
        let name = self.names[i].bytes.get(..header.msg_hdr.msg_namelen as usize)?;
        let control = self.controls[i].bytes.get(..header.msg_hdr.msg_controllen)?;
        let len = self.stride.min(header.msg_len as usize);
        Arrival::new(name, control, 0..len, header.msg_hdr.msg_flags & libc::MSG_TRUNC != 0)
    }

    fn buffer(&mut self, i: usize) -> &mut [u8] {
        let start = i * self.stride;
        assert!(start + self.stride <= self.memory.len(), "buffer {i}");
        // SAFETY: in bounds by the assertion; only `fill` lets the kernel write, which needs `&mut self` too.
        unsafe { std::slice::from_raw_parts_mut(self.memory.as_ptr().add(start), self.stride) }
    }
}
