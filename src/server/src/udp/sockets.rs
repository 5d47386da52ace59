//! The shard's sockets: which one leads to an address, and the plain calls for what a batch could not send.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::time::Instant;

use super::refusals::Refusals;
use super::route::Route;
use super::socket::{self, Buffer, Fragments};
use super::{SendReport, UdpSettings};
use moonring_wire::packet::{Local, Run, SendBatch};

/// Sends tried a second time in one flush after the socket's buffer was full; the rest is dropped, so that a full
/// socket cannot hold up a tick.
const RETRIES_PER_FLUSH: u32 = 8;

/// One or more bound sockets.
pub(super) struct Sockets {
    sockets: Vec<UdpSocket>,
    v4: Option<Route>,
    v6: Option<Route>,
    gso: bool,
    pub(super) gro: bool,
    retries: u32,
    refusals: Refusals,
}

impl Sockets {
    pub(super) fn new(sockets: Vec<UdpSocket>, settings: &UdpSettings) -> io::Result<Self> {
        let mut families = Vec::with_capacity(sockets.len());
        let mut gro = settings.gro;
        for socket in &sockets {
            let bound = socket.local_addr()?.ip();
            families.push(bound.is_ipv4());
            if bound.is_unspecified() {
                socket::ask_for_local_addresses(socket, bound.is_ipv4())?;
            }
            for (buffer, bytes) in
                [(Buffer::Receive, settings.socket_receive_bytes), (Buffer::Send, settings.socket_send_bytes)]
            {
                let granted = buffer.set(socket, bytes, true)?;
                if let Some(warning) = buffer.refused(bytes, granted) {
                    tracing::warn!("{warning}");
                }
            }
            if families.last() == Some(&true)
                && let Err(error) = socket::set_fragments(socket, Fragments::Never)
            {
                tracing::warn!(%error, "IP_MTU_DISCOVER is refused: each datagram costs a little more");
            }
            if gro && let Err(error) = socket::enable_gro(socket) {
                tracing::warn!(%error, "UDP_GRO is refused: datagrams come in one by one");
                gro = false;
            }
        }
        let of = |v4: bool| families.iter().position(|family| *family == v4);
        let v6 = of(false).map(|socket| Route { socket, mapped: false });
        let v4 = of(true).map(|socket| Route { socket, mapped: false });
        // An IPv6 socket is dual-stack unless told otherwise.
        let v4 = v4.or(v6.map(|route| Route { mapped: true, ..route }));
        Ok(Self { sockets, v4, v6, gso: settings.gso, gro, retries: 0, refusals: Refusals::default() })
    }

    pub(super) fn fds(&self) -> Vec<RawFd> {
        self.sockets.iter().map(AsRawFd::as_raw_fd).collect()
    }

    /// The same sockets under further descriptors.
    pub(super) fn share(&self) -> io::Result<Vec<OwnedFd>> {
        self.sockets.iter().map(|socket| socket.as_fd().try_clone_to_owned()).collect()
    }

    /// Asks for receive buffers of this size; the system may grant less, which costs packets in a pause only.
    pub(super) fn set_receive_buffers(&self, bytes: usize) {
        for socket in &self.sockets {
            if let Err(error) = Buffer::Receive.set(socket, bytes, true) {
                tracing::debug!(%error, bytes, "a receive buffer keeps its size");
            }
        }
    }

    pub(super) fn route(&self, to: SocketAddr) -> Option<Route> {
        if to.is_ipv4() { self.v4 } else { self.v6 }
    }

    pub(super) fn kernel_drops(&self) -> u64 {
        self.sockets.iter().map(socket::kernel_drops).sum()
    }

    /// The fullest receive buffer, in per cent.
    pub(super) fn receive_fill(&self) -> u8 {
        self.sockets.iter().map(socket::receive_fill).max().unwrap_or(0)
    }

    /// What one send can carry of `run`: all of it, or one datagram after another where GSO does not work.
    pub(super) fn pieces(&self, run: Run) -> Pieces {
        if self.gso { Pieces { rest: run, step: run.datagrams } } else { Pieces { rest: run, step: 1 } }
    }

    /// Whether the sends of `run` carry a control message: how long the datagrams of a run are, or where they leave from.
    pub(super) fn needs_header(&self, run: &Run) -> bool {
        (self.gso && run.datagrams > 1) || run.to.local != Local::Any
    }

    pub(super) fn begin_flush(&mut self) {
        self.retries = RETRIES_PER_FLUSH;
    }

    /// A send of `piece` failed with `errno`: what can be saved is sent, the rest counted.
    pub(super) fn settle(&mut self, batch: &SendBatch, piece: Run, errno: i32, report: &mut SendReport) {
        let datagrams = usize::from(piece.datagrams);
        match errno {
            libc::EAGAIN | libc::ENOBUFS if self.retries > 0 => {
                self.retries -= 1;
                match self.send(batch, piece) {
                    Ok(()) => report.sent += datagrams,
                    Err(_) => report.drop_for_room(piece),
                }
            }
            libc::EAGAIN | libc::ENOBUFS => report.drop_for_room(piece),
            // The interface cannot compute checksums, so the kernel refuses GSO: for good.
            libc::EIO if datagrams > 1 => {
                if self.gso {
                    self.gso = false;
                    tracing::warn!("the network interface refuses UDP GSO: datagrams leave one by one");
                }
                self.send_each(batch, piece, report);
            }
            // A segment over the path MTU: alone it may be fragmented.
            libc::EINVAL | libc::EMSGSIZE if datagrams > 1 => self.send_each(batch, piece, report),
            libc::EMSGSIZE if self.send_in_fragments(batch, piece) => report.sent += datagrams,
            _ => self.refuse(piece, errno, report),
        }
    }

    #[cold]
    fn refuse(&mut self, piece: Run, errno: i32, report: &mut SendReport) {
        let datagrams = usize::from(piece.datagrams);
        report.failed += datagrams;
        report.unsent_bytes += piece.len as usize;
        report.last_error = errno;
        self.refusals.note(Instant::now(), (datagrams, piece.to.remote), errno);
    }

    /// One datagram that is longer than the interface's MTU; true when it has left.
    fn send_in_fragments(&self, batch: &SendBatch, piece: Run) -> bool {
        let Some(route) = self.route(piece.to.remote) else { return false };
        let socket = &self.sockets[route.socket];
        let sent = socket::set_fragments(socket, Fragments::IfNeeded).is_ok() && self.send(batch, piece).is_ok();
        // Setting it back can fail only where it could not be set at all.
        let _ = socket::set_fragments(socket, Fragments::Never);
        sent
    }

    fn send_each(&mut self, batch: &SendBatch, run: Run, report: &mut SendReport) {
        report.without_gso += usize::from(run.datagrams);
        for piece in (Pieces { rest: run, step: 1 }) {
            match self.send(batch, piece) {
                Ok(()) => report.sent += 1,
                Err(libc::EAGAIN | libc::ENOBUFS) => report.drop_for_room(piece),
                Err(libc::EMSGSIZE) if self.send_in_fragments(batch, piece) => report.sent += 1,
                Err(errno) => self.refuse(piece, errno, report),
            }
        }
    }

    /// One plain `sendmsg` that does not wait; the error is an errno.
    fn send(&self, batch: &SendBatch, piece: Run) -> Result<(), i32> {
        let route = self.route(piece.to.remote).ok_or(libc::EAFNOSUPPORT)?;
        let address = route.address(piece.to.remote);
        let control = route.control(&piece);
        let bytes = &batch.bytes()[piece.start as usize..][..piece.len as usize];
        let mut part = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
        let mut header = super::table::EMPTY_HEADER;
        header.msg_name = address.bytes.as_ptr().cast_mut().cast();
        header.msg_namelen = address.len;
        header.msg_iov = &raw mut part;
        header.msg_iovlen = 1;
        if control.len > 0 {
            header.msg_control = control.bytes.as_ptr().cast_mut().cast();
            header.msg_controllen = control.len;
        }
        // SAFETY: all the header points at lives through the call, and a send only reads it.
        match unsafe { libc::sendmsg(self.sockets[route.socket].as_raw_fd(), &raw const header, libc::MSG_DONTWAIT) } {
            0.. => Ok(()),
            _ => Err(io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO)),
        }
    }
}

/// The sends that carry a run.
pub(super) struct Pieces {
    rest: Run,
    step: u16,
}

impl Iterator for Pieces {
    type Item = Run;

    fn next(&mut self) -> Option<Run> {
        let run = self.rest;
        if run.datagrams == 0 {
            return None;
        }
        let datagrams = self.step.min(run.datagrams);
        let len = run.len.min(u32::from(run.segment) * u32::from(datagrams));
        self.rest = Run { start: run.start + len, len: run.len - len, datagrams: run.datagrams - datagrams, ..run };
        Some(Run { len, datagrams, ..run })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_cut_into_single_datagrams_with_a_shorter_last_one() {
        let run =
            Run { to: SocketAddr::from(([127, 0, 0, 1], 1)).into(), start: 50, len: 25, segment: 10, datagrams: 3 };
        let whole: Vec<_> = Pieces { rest: run, step: 3 }.collect();
        assert_eq!(whole, [run]);
        let singles: Vec<_> = Pieces { rest: run, step: 1 }.map(|p| (p.start, p.len, p.datagrams)).collect();
        assert_eq!(singles, [(50, 10, 1), (60, 10, 1), (70, 5, 1)]);
    }

    /// The report over a run of `count` datagrams whose send failed, and how many of them arrived.
    fn settled(sockets: &mut Sockets, errno: i32, count: u16) -> (SendReport, usize) {
        let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
        let to = receiver.local_addr().unwrap();
        let mut batch = SendBatch::new(1 << 16, 64);
        (0..count).for_each(|n| assert!(batch.push(to, &[n as u8; 100])));
        let mut report = SendReport::default();
        sockets.settle(&batch, batch.runs()[0], errno, &mut report);
        receiver.set_nonblocking(true).unwrap();
        (report, std::iter::from_fn(|| receiver.recv(&mut [0; 200]).ok()).filter(|len| *len == 100).count())
    }

    fn sockets() -> Sockets {
        Sockets::new(vec![UdpSocket::bind("127.0.0.1:0").unwrap()], &UdpSettings::default()).unwrap()
    }

    #[test]
    fn a_refused_gso_send_leaves_datagram_by_datagram() {
        let expected = (SendReport { sent: 5, without_gso: 5, ..SendReport::default() }, 5);
        for (errno, gso_afterwards) in [(libc::EIO, false), (libc::EINVAL, true), (libc::EMSGSIZE, true)] {
            let mut sockets = sockets();
            assert_eq!(settled(&mut sockets, errno, 5), expected, "errno {errno}");
            assert_eq!(sockets.gso, gso_afterwards, "errno {errno}");
        }
    }

    #[test]
    fn a_single_datagram_that_is_refused_is_a_failure() {
        for errno in [libc::EIO, libc::EINVAL, libc::EPERM, libc::ENETUNREACH] {
            let expected = SendReport { failed: 1, unsent_bytes: 100, last_error: errno, ..SendReport::default() };
            assert_eq!(settled(&mut sockets(), errno, 1), (expected, 0));
        }
    }

    #[test]
    fn a_single_datagram_over_the_mtu_leaves_in_fragments() {
        let mut sockets = sockets();
        let expected = (SendReport { sent: 1, ..SendReport::default() }, 1);
        assert_eq!(settled(&mut sockets, libc::EMSGSIZE, 1), expected);
    }

    #[test]
    fn a_full_socket_is_tried_again_a_bounded_number_of_times() {
        let mut sockets = sockets();
        sockets.begin_flush();
        let sent = (SendReport { sent: 3, ..SendReport::default() }, 3);
        let dropped = (SendReport { would_block: 3, unsent_bytes: 300, ..SendReport::default() }, 0);
        for errno in [libc::EAGAIN, libc::ENOBUFS].repeat(RETRIES_PER_FLUSH as usize / 2) {
            assert_eq!(settled(&mut sockets, errno, 3), sent);
        }
        assert_eq!(settled(&mut sockets, libc::EAGAIN, 3), dropped);
        sockets.begin_flush();
        assert_eq!(settled(&mut sockets, libc::EAGAIN, 3), sent);
    }
}
