//! Receiving: `recvmmsg` into one buffer a message, split in place into the datagrams that the kernel coalesced.
//!
//! Both I/O modes receive this way. A multishot `RECVMSG` on the ring measured 6 percent dearer a datagram, and its poll,
//! which never leaves the socket, made each send dearer as well.

use std::io;
use std::os::fd::RawFd;

use super::arrival::Arrival;
use super::cmsg::{CONTROL_BYTES, Control};
use super::pages::Pages;
use super::sockaddr::RawAddress;
use super::sockets::Sockets;
use super::table::EMPTY_HEADER;
use super::usual::UsualSources;
use super::{Received, Receiver, UdpSettings};
use moonring_core::report::IoStats;

/// Most messages in one call.
const BATCH: usize = 64;
const CACHE_LINE: usize = 64;

/// What was received and not handed over yet, and the memory for it.
pub(super) struct Inbox {
    fds: Vec<RawFd>,
    messages: Messages,
    usual: UsualSources,
    /// Sockets that gave less than was asked for in this call: asking again would be a call for nothing.
    drained: Vec<bool>,
    next_socket: usize,
    open: Option<Arrival>,
    /// What the last call brought, a message each; `None` where the sender's address is of no family we know.
    arrivals: Vec<Option<Arrival>>,
    /// Those of them that follow the open one: next and end.
    filled: (usize, usize),
}

/// Memory that `recvmmsg` fills.
struct Messages {
    headers: Box<[libc::mmsghdr]>,
    parts: Box<[libc::iovec]>,
    names: Box<[RawAddress]>,
    controls: Box<[Control]>,
    memory: Pages,
    stride: usize,
}

impl Inbox {
    pub(super) fn new(sockets: &Sockets, settings: &UdpSettings) -> io::Result<Self> {
        let buffers = BATCH.min(usize::from(settings.receive_buffers)).max(1);
        let fds = sockets.fds();
        Ok(Self {
            messages: Messages::new(buffers, stride(settings.buffer_bytes(sockets.gro)))?,
            usual: UsualSources::of_this_machine(),
            drained: vec![false; fds.len()],
            fds,
            next_socket: 0,
            open: None,
            arrivals: Vec::with_capacity(buffers),
            filled: (0, 0),
        })
    }

    /// True when there is nothing that was received and not handed over.
    pub(super) fn is_empty(&self) -> bool {
        self.open.is_none() && self.filled.0 == self.filled.1
    }

    /// Hands up to `limit` datagrams to `to`; stops after one for which it returns false.
    pub(super) fn receive(&mut self, limit: usize, stats: &mut IoStats, to: &mut impl Receiver) -> Received {
        let mut received = Received::default();
        self.drained.fill(false);
        while received.datagrams < limit && self.open_next(stats, to) {
            let (Some(arrival), Some(index)) = (&mut self.open, self.filled.0.checked_sub(1)) else { continue };
            match arrival.next() {
                None => {}
                Some(None) => stats.too_long += 1,
                Some(Some(range)) => {
                    received.datagrams += 1;
                    stats.datagrams_in += 1;
                    stats.bytes_in += range.len() as u64;
                    if !to.take(arrival.from, &mut self.messages.buffer(index)[range]) {
                        break;
                    }
                }
            }
        }
        self.open.take_if(|arrival| arrival.is_done());
        received.more = !self.is_empty() || received.datagrams >= limit;
        received
    }

    /// True when `open` holds a message to go on with.
    fn open_next(&mut self, stats: &mut IoStats, to: &mut impl Receiver) -> bool {
        self.open.take_if(|arrival| arrival.is_done());
        if self.open.is_some() {
            return true;
        }
        if self.filled.0 == self.filled.1 {
            if !self.fill(stats) {
                return false;
            }
            to.expect(self.arrivals.iter().flatten().map(|arrival| arrival.from));
        }
        self.open = self.arrivals[self.filled.0].take();
        self.filled.0 += 1;
        stats.receives += 1;
        stats.receive_errors += u64::from(self.open.is_none());
        true
    }

    /// Asks each socket that may have more, starting with another one each time.
    fn fill(&mut self, stats: &mut IoStats) -> bool {
        for _ in 0..self.fds.len() {
            let socket = self.next_socket;
            self.next_socket = (socket + 1) % self.fds.len();
            if self.drained[socket] {
                continue;
            }
            stats.enters += 1;
            match self.messages.fill(self.fds[socket]) {
                Ok(count) => {
                    self.drained[socket] = count < self.messages.headers.len();
                    self.filled = (0, count);
                    self.arrivals.clear();
                    self.arrivals.extend((0..count).map(|i| self.messages.arrival(i, self.usual)));
                    stats.out_of_buffers += u64::from(!self.drained[socket]);
                    if count > 0 {
                        return true;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.drained[socket] = true,
                // An ICMP error of somebody's address, cleared by reading it: the next call goes on.
                Err(_) => stats.receive_errors += 1,
            }
        }
        false
    }
}

/// Bytes from one buffer to the next: an odd number of cache lines, so that the beginnings of all buffers, which is all
/// that single datagrams fill, do not compete for the same few sets of the cache.
fn stride(buffer_bytes: usize) -> usize {
    (buffer_bytes.div_ceil(CACHE_LINE) | 1) * CACHE_LINE
}

impl Messages {
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

    /// What the `i`th message of the last call brought.
    fn arrival(&self, i: usize, usual: UsualSources) -> Option<Arrival> {
        let header = &self.headers[i];
        let name = self.names[i].bytes.get(..header.msg_hdr.msg_namelen as usize)?;
        let control = self.controls[i].bytes.get(..header.msg_hdr.msg_controllen)?;
        let len = self.stride.min(header.msg_len as usize);
        let mut arrival = Arrival::new(name, control, 0..len, header.msg_hdr.msg_flags & libc::MSG_TRUNC != 0)?;
        arrival.from = usual.without(arrival.from);
        Some(arrival)
    }

    fn buffer(&mut self, i: usize) -> &mut [u8] {
        let start = i * self.stride;
        assert!(start + self.stride <= self.memory.len(), "buffer {i}");
        // SAFETY: in bounds by the assertion; only `fill` lets the kernel write, which needs `&mut self` too.
        unsafe { std::slice::from_raw_parts_mut(self.memory.as_ptr().add(start), self.stride) }
    }
}
