//! How a family of addresses is reached.

use std::net::SocketAddr;

use super::cmsg::Control;
use super::sockaddr::RawAddress;
use moonring_wire::packet::{Local, Run};

/// The socket that leads to a family of addresses.
#[derive(Clone, Copy)]
pub(super) struct Route {
    /// Its index among the shard's sockets.
    pub(super) socket: usize,
    /// IPv4 addresses over a dual-stack IPv6 socket are written as IPv6 addresses.
    pub(super) mapped: bool,
}

impl Route {
    /// The address as this socket takes it.
    pub(super) fn address(self, to: SocketAddr) -> RawAddress {
        RawAddress::new(to, self.mapped)
    }

    /// What a send of `piece` has to say beside its address: how long each datagram is, and where it leaves from.
    pub(super) fn control(self, piece: &Run) -> Control {
        let control = Control::EMPTY;
        let control = if piece.datagrams > 1 { control.segment(piece.segment) } else { control };
        match piece.to.local {
            Local::Address(local) => control.local(local, self.mapped),
            Local::Any | Local::Connection(_) => control,
        }
    }
}
