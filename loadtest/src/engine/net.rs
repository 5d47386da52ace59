//! The sockets of many peers. A server tells its clients apart by their addresses: on loopback each peer has an
//! address of its own in 127/8, and one socket serves them all; elsewhere each peer has a socket.

use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use moonring_wire::packet::{Run, SendBatch};
use nix::sys::socket::{setsockopt, sockopt};
use quinn_udp::{RecvMeta, Transmit, UdpSockRef, UdpSocketState};

/// What is asked of the kernel for the one socket of all; twice the server's.
const SHARED_BUFFER: usize = 32 << 20;
const OWN_BUFFER: usize = 1 << 20;
/// Bytes of what the kernel coalesces.
const RECEIVE_BYTES: usize = 64 << 10;
/// The first peer's address: 127.64.0.1.
const FIRST_ADDRESS: u32 = 0x7F40_0001;

/// How peers get their addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Addresses {
    /// One socket, an address of 127/8 for each peer: cheap, on loopback only.
    Shared,
    /// A socket for each peer, for IPv4.
    OwnV4,
    /// A socket for each peer, for IPv6.
    OwnV6,
}

/// A socket and quinn-udp's view of it.
pub(super) struct Socket {
    pub(super) socket: UdpSocket,
    state: UdpSocketState,
}

/// Memory that receives fill; shared by all sockets of a thread.
pub(super) struct Inbox {
    buffers: Vec<Vec<u8>>,
    metas: Vec<RecvMeta>,
}

impl Socket {
    /// `gro`: take datagrams of one sender coalesced, as they left.
    pub(super) fn bind(addresses: Addresses, gro: bool) -> io::Result<Self> {
        let any: IpAddr = match addresses {
            Addresses::OwnV6 => Ipv6Addr::UNSPECIFIED.into(),
            Addresses::Shared | Addresses::OwnV4 => Ipv4Addr::UNSPECIFIED.into(),
        };
        let socket = UdpSocket::bind(SocketAddr::new(any, 0))?;
        let state = UdpSocketState::new(UdpSockRef::from(&socket))?;
        if !gro {
            // quinn-udp asks for it by itself; without it, it finds one datagram in each receive.
            setsockopt(&socket, sockopt::UdpGroSegment, &false)?;
        }
        let bytes = if addresses == Addresses::Shared { SHARED_BUFFER } else { OWN_BUFFER };
        // Past the system's bound where that is allowed.
        if setsockopt(&socket, sockopt::RcvBufForce, &bytes).is_err() {
            state.set_recv_buffer_size(UdpSockRef::from(&socket), bytes)?;
        }
        if setsockopt(&socket, sockopt::SndBufForce, &bytes).is_err() {
            state.set_send_buffer_size(UdpSockRef::from(&socket), bytes)?;
        }
        Ok(Self { socket, state })
    }

    pub(super) fn port(&self) -> Option<u16> {
        self.socket.local_addr().ok().map(|address| address.port())
    }

    /// Receives what is there, up to the inbox's size: (peer, when the kernel got it, datagram). False when the socket
    /// had less than that.
    pub(super) fn receive(
        &self,
        inbox: &mut Inbox,
        mut each: impl FnMut(Option<usize>, Option<std::time::Duration>, &mut [u8]),
    ) -> io::Result<bool> {
        let mut slices: Vec<IoSliceMut<'_>> = inbox.buffers.iter_mut().map(|buffer| IoSliceMut::new(buffer)).collect();
        let count = match self.state.recv(UdpSockRef::from(&self.socket), &mut slices, &mut inbox.metas) {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            // An ICMP error of the server's port: the next receive goes on.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => return Ok(true),
            Err(error) => return Err(error),
        };
        for (meta, buffer) in inbox.metas.iter().zip(&mut inbox.buffers).take(count) {
            let peer = meta.dst_ip.and_then(peer_of);
            for datagram in buffer[..meta.len].chunks_mut(meta.stride.max(1)) {
                each(peer, meta.timestamp, datagram);
            }
        }
        Ok(count == inbox.buffers.len())
    }

    /// Sends a peer's datagrams; returns how many did not go.
    pub(super) fn send(&self, from: Option<IpAddr>, batch: &SendBatch) -> usize {
        let refused = |run: &&Run| {
            let transmit = Transmit {
                destination: run.to,
                ecn: None,
                contents: &batch.bytes()[run.start as usize..][..run.len as usize],
                segment_size: (run.datagrams > 1).then_some(usize::from(run.segment)),
                src_ip: from,
            };
            self.state.try_send(UdpSockRef::from(&self.socket), &transmit).is_err()
        };
        batch.runs().iter().filter(refused).map(|run| usize::from(run.datagrams)).sum()
    }
}

impl Inbox {
    /// Room for `receives` receives at a time.
    pub(super) fn new(receives: usize) -> Self {
        Self { buffers: vec![vec![0; RECEIVE_BYTES]; receives], metas: vec![RecvMeta::default(); receives] }
    }
}

/// The address of a peer on the shared socket.
pub(super) fn address_of(peer: usize) -> IpAddr {
    Ipv4Addr::from_bits(FIRST_ADDRESS + peer as u32).into()
}

/// The peer that has this address.
fn peer_of(address: IpAddr) -> Option<usize> {
    let IpAddr::V4(address) = address else { return None };
    address.to_bits().checked_sub(FIRST_ADDRESS).map(|peer| peer as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peers_of_one_socket_are_told_apart_by_their_addresses() {
        let sockets = [true, false].map(|gro| Socket::bind(Addresses::Shared, gro).unwrap());
        let port = sockets[0].socket.local_addr().unwrap().port();
        let mut inbox = Inbox::new(8);
        for peer in [0, 5, 300, 70_000] {
            let mut batch = SendBatch::new(1 << 16, 16);
            (0..3).for_each(|n| assert!(batch.push(SocketAddr::new(address_of(peer), port), &[n; 100])));
            assert_eq!(sockets[1].send(Some(address_of(9)), &batch), 0);
            let mut got = Vec::new();
            sockets[0].receive(&mut inbox, |to, at, bytes| got.push((to, at.is_some(), bytes[0]))).unwrap();
            assert_eq!(got, [(Some(peer), true, 0), (Some(peer), true, 1), (Some(peer), true, 2)]);
        }
        assert!(!sockets[0].receive(&mut inbox, |_, _, _| {}).unwrap());
    }
}
