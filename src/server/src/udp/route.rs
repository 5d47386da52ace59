//! How a family of addresses is reached.

use std::net::SocketAddr;

use super::sockaddr::RawAddress;

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
}
