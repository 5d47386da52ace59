//! Message headers for a batch of sends, allocated once.

use super::cmsg::Control;
use super::route::Route;
use super::sockaddr::RawAddress;
use moonring_wire::packet::Run;

/// Sends in one system call.
pub(super) const TABLE_SENDS: usize = 64;

/// A header that points at nothing: sent, it fails without a destination.
pub(super) const EMPTY_HEADER: libc::msghdr = libc::msghdr {
    msg_name: std::ptr::null_mut(),
    msg_namelen: 0,
    msg_iov: std::ptr::null_mut(),
    msg_iovlen: 0,
    msg_control: std::ptr::null_mut(),
    msg_controllen: 0,
    msg_flags: 0,
};

/// An address family that no socket takes: a send to it fails before its payload is looked at.
const NO_FAMILY: [u8; 2] = [0xFF; 2];

/// Where a send of one datagram lies.
pub(super) struct Single {
    pub(super) bytes: *const u8,
    pub(super) name: *const libc::sockaddr,
    pub(super) name_len: libc::socklen_t,
}

/// Headers and all they point at but the payload. Boxed slices, so that nothing moves while the kernel reads.
pub(super) struct SendTable {
    headers: Box<[libc::mmsghdr]>,
    parts: Box<[libc::iovec]>,
    names: Box<[RawAddress]>,
    controls: Box<[Control]>,
    pieces: Vec<Run>,
}

impl SendTable {
    pub(super) fn new() -> Self {
        Self {
            headers: vec![libc::mmsghdr { msg_hdr: EMPTY_HEADER, msg_len: 0 }; TABLE_SENDS].into(),
            parts: vec![libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 }; TABLE_SENDS].into(),
            names: vec![RawAddress::EMPTY; TABLE_SENDS].into(),
            controls: vec![Control::EMPTY; TABLE_SENDS].into(),
            pieces: Vec::with_capacity(TABLE_SENDS),
        }
    }

    /// Adds a send of `piece` out of `bytes`; returns its header. The table must not be full.
    pub(super) fn push(&mut self, bytes: &[u8], piece: Run, route: Route) -> *const libc::msghdr {
        let i = self.pieces.len();
        let payload = &bytes[piece.start as usize..][..piece.len as usize];
        self.names[i] = route.address(piece.to.remote);
        // A send only reads what an iovec points at.
        self.parts[i] = libc::iovec { iov_base: payload.as_ptr().cast_mut().cast(), iov_len: payload.len() };
        let header = &mut self.headers[i].msg_hdr;
        header.msg_name = self.names[i].bytes.as_mut_ptr().cast();
        header.msg_namelen = self.names[i].len;
        header.msg_iov = &raw mut self.parts[i];
        header.msg_iovlen = 1;
        (header.msg_control, header.msg_controllen) = (std::ptr::null_mut(), 0);
        self.controls[i] = route.control(&piece);
        if self.controls[i].len > 0 {
            header.msg_control = self.controls[i].bytes.as_mut_ptr().cast();
            header.msg_controllen = self.controls[i].len;
        }
        self.pieces.push(piece);
        &raw const *header
    }

    /// Adds a send of one datagram that needs no header. The table must not be full.
    pub(super) fn push_single(&mut self, bytes: &[u8], piece: Run, route: Route) -> Single {
        let i = self.pieces.len();
        let payload = &bytes[piece.start as usize..][..piece.len as usize];
        self.names[i] = route.address(piece.to.remote);
        self.pieces.push(piece);
        let name = &self.names[i];
        Single { bytes: payload.as_ptr(), name: name.bytes.as_ptr().cast(), name_len: name.len }
    }

    pub(super) fn is_full(&self) -> bool {
        self.pieces.len() == TABLE_SENDS
    }

    pub(super) fn pieces(&self) -> &[Run] {
        &self.pieces
    }

    /// The headers from `first` on.
    pub(super) fn headers_from(&mut self, first: usize) -> &mut [libc::mmsghdr] {
        &mut self.headers[first..self.pieces.len()]
    }

    /// Makes every send fail: headers point at nothing, addresses are of no family.
    pub(super) fn defuse(&mut self) {
        self.headers.iter_mut().for_each(|header| header.msg_hdr = EMPTY_HEADER);
        self.names.iter_mut().for_each(|name| name.bytes[..2].copy_from_slice(&NO_FAMILY));
    }

    pub(super) fn clear(&mut self) {
        self.pieces.clear();
    }
}
