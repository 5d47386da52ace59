//! The hostile network: a namespace in which every address of a subnet is this machine's, so that attackers come from many
//! and can claim any.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::process::Command;

use anyhow::{Context, bail};
use socket2::{Domain, Protocol, Socket, Type};

/// The argument of the process inside.
pub(crate) const INSIDE: &str = "--inside";
/// The server.
pub(crate) const SERVER: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
/// Its port of signalling.
pub(crate) const HTTP_PORT: u16 = 8080;
/// Its port of media.
pub(crate) const MEDIA_PORT: u16 = 40_000;

/// Where media goes.
pub(crate) fn media() -> SocketAddr {
    SocketAddr::from((SERVER, MEDIA_PORT))
}

/// Where signalling goes.
pub(crate) fn http() -> SocketAddr {
    SocketAddr::from((SERVER, HTTP_PORT))
}

/// An attacker's address.
pub(crate) fn attacker(n: u8) -> Ipv4Addr {
    Ipv4Addr::new(198, 51, 100, 100_u8.wrapping_add(n % 150))
}

/// Runs this program again in a network namespace of its own; whether it ended well.
pub(crate) fn enter_namespace(names: &[String]) -> anyhow::Result<bool> {
    let own = std::env::current_exe()?;
    let status = Command::new("unshare").arg("--net").arg("--").arg(own).arg(INSIDE).args(names).status();
    let status = status.context("unshare (util-linux) makes the network namespace, which needs root")?;
    Ok(status.success())
}

/// Gives the namespace its addresses.
pub(crate) fn set_up() -> anyhow::Result<()> {
    for arguments in [&["link", "set", "lo", "up"][..], &["route", "add", "local", "198.51.100.0/24", "dev", "lo"]] {
        let status = Command::new("ip").args(arguments).status().context("ip (iproute2) sets up the network")?;
        if !status.success() {
            bail!("ip {} failed", arguments.join(" "));
        }
    }
    Ok(())
}

/// A socket of an attacker's.
pub(crate) fn socket(n: u8) -> anyhow::Result<UdpSocket> {
    let socket = UdpSocket::bind((attacker(n), 0))?;
    socket.connect(media())?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// Sends datagrams from addresses that are somebody else's.
pub(crate) struct Spoofer(Socket);

impl Spoofer {
    pub(crate) fn new() -> anyhow::Result<Self> {
        // IPPROTO_RAW: the IP header is the sender's.
        let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(255)));
        Ok(Self(socket.context("a raw socket, for forged sources, needs root")?))
    }

    /// Sends a datagram to the server's media port that seems to come `from` there.
    pub(crate) fn send(&self, from: SocketAddrV4, payload: &[u8]) -> anyhow::Result<()> {
        let udp_len = 8 + payload.len();
        let mut packet = vec![0x45, 0, 0, 0, 0, 0, 0, 0, 64, 17, 0, 0];
        packet[2..4].copy_from_slice(&((20 + udp_len) as u16).to_be_bytes());
        packet.extend(from.ip().octets());
        packet.extend(SERVER.octets());
        packet.extend(from.port().to_be_bytes());
        packet.extend(MEDIA_PORT.to_be_bytes());
        packet.extend((udp_len as u16).to_be_bytes());
        // A UDP checksum of 0 is none (RFC 768).
        packet.extend([0, 0]);
        packet.extend(payload);
        self.0.send_to(&packet, &SocketAddr::from((SERVER, MEDIA_PORT)).into())?;
        Ok(())
    }
}
