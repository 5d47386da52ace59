//! The sockets themselves: bound, given large buffers, asked how much they dropped.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::time::Duration;

use nix::sys::socket::{getsockopt, setsockopt, sockopt};
use rustix::net::sockopt::set_ipv6_v6only;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

const BIND_ATTEMPTS: u32 = 40;
const BIND_PAUSE: Duration = Duration::from_millis(50);
/// Index of the dropped datagrams in `SO_MEMINFO`'s answer: `SK_MEMINFO_DROPS` of linux/sock_diag.h.
const MEMINFO_DROPS: usize = 8;
/// Those of what the receive buffer holds, and may hold, in bytes of the kernel's: `SK_MEMINFO_RMEM_ALLOC` and `SK_MEMINFO_RCVBUF`.
const MEMINFO_RECEIVED: usize = 0;
const MEMINFO_RECEIVE_BUFFER: usize = 1;
const MEMINFO_WORDS: usize = 9;
/// `SO_MEMINFO` of asm-generic/socket.h.
const SO_MEMINFO: i32 = 55;
/// As in linux/tcp.h; libc does not have it.
const TCP_RTO_MAX_MS: i32 = 44;

/// A UDP address that cannot be had.
#[derive(Debug, thiserror::Error)]
#[error("UDP {address} cannot be bound: {error}{}", self.advice())]
pub struct BindError {
    address: SocketAddr,
    error: io::Error,
}

impl BindError {
    /// Whether this machine has no IPv6, if the address is of it.
    fn is_without_v6(&self) -> bool {
        matches!(self.error.raw_os_error(), Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL))
    }

    fn advice(&self) -> &'static str {
        match self.error.kind() {
            io::ErrorKind::AddrInUse => "; stop the program that has it, or choose other ports",
            io::ErrorKind::AddrNotAvailable => "; this machine does not have the address: choose one that it has",
            io::ErrorKind::PermissionDenied => "; choose ports from 1024 on",
            _ => "",
        }
    }
}

/// Binds `address` for one shard alone (no `SO_REUSEPORT`: two shards on one port would share traffic unnoticed).
/// `[::]` takes IPv4 too. A port that is in use is asked for again for two seconds: a ring holds its port for a moment
/// after its process is gone.
pub fn bind(address: SocketAddr) -> Result<UdpSocket, BindError> {
    bind_patiently(address, BIND_ATTEMPTS, BIND_PAUSE, UdpSocket::bind)
}

/// Binds a port at each of these addresses, of which one may be of each family. An unspecified IPv6 one beside an IPv4 one
/// is left out where there is no IPv6.
pub(crate) fn bind_all(ips: &[IpAddr], port: u16) -> Result<Vec<UdpSocket>, BindError> {
    let has_v4 = ips.iter().any(IpAddr::is_ipv4);
    let mut sockets = Vec::with_capacity(ips.len());
    for ip in ips {
        let address = SocketAddr::new(*ip, port);
        let bound = match ip.is_ipv6() && has_v4 {
            true => bind_patiently(address, BIND_ATTEMPTS, BIND_PAUSE, bind_v6_only),
            false => bind(address),
        };
        match bound {
            Ok(socket) => sockets.push(socket),
            Err(error) if has_v4 && ip.is_ipv6() && ip.is_unspecified() && error.is_without_v6() => {
                tracing::info!(%error, "no media over IPv6");
            }
            Err(error) => return Err(error),
        }
    }
    Ok(sockets)
}

/// A socket that leaves IPv4 to another one: `[::]` would ask for the port of that one, too, and not get it.
fn bind_v6_only(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = socket_with(AddressFamily::INET6, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    set_ipv6_v6only(&socket, true)?;
    rustix::net::bind(&socket, &address)?;
    Ok(socket.into())
}

fn bind_patiently(
    address: SocketAddr,
    attempts: u32,
    pause: Duration,
    bind: impl Fn(SocketAddr) -> io::Result<UdpSocket>,
) -> Result<UdpSocket, BindError> {
    for _ in 1..attempts {
        match bind(address) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => std::thread::sleep(pause),
            Err(error) => return Err(BindError { address, error }),
            Ok(socket) => return Ok(socket),
        }
    }
    bind(address).map_err(|error| BindError { address, error })
}

/// One of a socket's two buffers.
#[derive(Clone, Copy, Debug)]
pub(super) enum Buffer {
    Receive,
    Send,
}

impl Buffer {
    /// Asks for `bytes`, past the system's bound when `force` and allowed to; returns how many were granted.
    pub(super) fn set(self, socket: &UdpSocket, bytes: usize, force: bool) -> io::Result<usize> {
        // The kernel takes an int.
        let bytes = bytes.min(i32::MAX as usize);
        let granted = match self {
            Self::Receive => {
                if !force || setsockopt(socket, sockopt::RcvBufForce, &bytes).is_err() {
                    setsockopt(socket, sockopt::RcvBuf, &bytes)?;
                }
                getsockopt(socket, sockopt::RcvBuf)?
            }
            Self::Send => {
                if !force || setsockopt(socket, sockopt::SndBufForce, &bytes).is_err() {
                    setsockopt(socket, sockopt::SndBuf, &bytes)?;
                }
                getsockopt(socket, sockopt::SndBuf)?
            }
        };
        // socket(7): the kernel doubles the value for its bookkeeping and returns the doubled one.
        Ok(granted / 2)
    }

    /// The warning for a buffer that came out smaller.
    pub(super) fn refused(self, wanted: usize, granted: usize) -> Option<String> {
        let sysctl = match self {
            Self::Receive => "net.core.rmem_max",
            Self::Send => "net.core.wmem_max",
        };
        (granted < wanted).then(|| {
            format!("the UDP buffer has {granted} bytes instead of {wanted}: set `sysctl -w {sysctl}={wanted}`, or bursts will be lost")
        })
    }
}

/// Asks for coalesced datagrams (`UDP_GRO`); an old kernel that refuses costs speed, nothing else.
pub(super) fn enable_gro(socket: &UdpSocket) -> io::Result<()> {
    Ok(setsockopt(socket, sockopt::UdpGroSegment, &true)?)
}

/// Whether IPv4 datagrams may be cut on their way.
#[derive(Clone, Copy, Debug)]
pub(super) enum Fragments {
    /// The "do not fragment" bit on all of them, whatever is known of the path: the kernel need not number them, which
    /// saves some of a short datagram's send. One that is longer than the interface's MTU is refused with `EMSGSIZE`.
    Never,
    /// The kernel's default: those that are longer than the path's MTU.
    IfNeeded,
}

/// Sets `IP_MTU_DISCOVER` (ip(7)) of an IPv4 socket.
pub(super) fn set_fragments(socket: &UdpSocket, fragments: Fragments) -> io::Result<()> {
    let mode = match fragments {
        Fragments::Never => libc::IP_PMTUDISC_PROBE,
        Fragments::IfNeeded => libc::IP_PMTUDISC_WANT,
    };
    set_option(socket.as_fd(), (libc::IPPROTO_IP, libc::IP_MTU_DISCOVER), mode)
}

/// Lets the kernel take no more for a connection while it holds so many bytes that it has not sent (`TCP_NOTSENT_LOWAT`, tcp(7)).
pub(crate) fn limit_unsent(connection: &TcpStream, bytes: u32) -> io::Result<()> {
    set_option(connection.as_fd(), (libc::IPPROTO_TCP, libc::TCP_NOTSENT_LOWAT), bytes as i32)
}

/// Has the kernel wait no longer than so before it sends again what is not acknowledged, one second at least (`TCP_RTO_MAX_MS`,
/// Linux 6.15; its default is two minutes).
pub(crate) fn limit_retries(connection: &TcpStream, longest: Duration) -> io::Result<()> {
    set_option(connection.as_fd(), (libc::IPPROTO_TCP, TCP_RTO_MAX_MS), longest.as_millis() as i32)
}

/// Sets a socket option that nix does not know.
fn set_option(socket: BorrowedFd<'_>, (level, option): (i32, i32), value: i32) -> io::Result<()> {
    let len = size_of_val(&value) as libc::socklen_t;
    // SAFETY: the pointer and the length are those of `value`.
    let set = unsafe { libc::setsockopt(socket.as_raw_fd(), level, option, (&raw const value).cast(), len) };
    if set == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Asks for the address that each datagram came to, as a machine has several: what answers it leaves from there.
pub(super) fn ask_for_local_addresses(socket: &UdpSocket, is_ipv4: bool) -> io::Result<()> {
    if is_ipv4 {
        return Ok(setsockopt(socket, sockopt::Ipv4PacketInfo, &true)?);
    }
    // Of a dual-stack socket, this is for datagrams over IPv4 too.
    Ok(setsockopt(socket, sockopt::Ipv6RecvPacketInfo, &true)?)
}

/// How many datagrams the kernel dropped because the socket's buffer was full.
pub(super) fn kernel_drops(socket: &UdpSocket) -> u64 {
    memory_of(socket).map_or(0, |words| u64::from(words[MEMINFO_DROPS]))
}

/// How much of the receive buffer is full, in per cent, up to 100; where the kernel does not say, half of it.
pub(super) fn receive_fill(socket: &UdpSocket) -> u8 {
    let Some(words) = memory_of(socket) else { return 50 };
    let (used, size) = (u64::from(words[MEMINFO_RECEIVED]), u64::from(words[MEMINFO_RECEIVE_BUFFER]));
    (100 * used / size.max(1)).min(100) as u8
}

fn memory_of(socket: &UdpSocket) -> Option<[u32; MEMINFO_WORDS]> {
    let mut words = [0u32; MEMINFO_WORDS];
    read_option(socket.as_raw_fd(), SO_MEMINFO, &mut words).ok().map(|()| words)
}

/// Reads a socket option that nix does not know.
fn read_option(fd: RawFd, option: i32, words: &mut [u32]) -> io::Result<()> {
    let mut len = size_of_val(words) as libc::socklen_t;
    // SAFETY: the pointer and the length are those of `words`; any bytes the kernel writes are valid u32s.
    match unsafe { libc::getsockopt(fd, libc::SOL_SOCKET, option, words.as_mut_ptr().cast(), &raw mut len) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_over_the_systems_bound_is_cut_and_the_warning_names_the_sysctl() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        for (buffer, sysctl) in [(Buffer::Receive, "net.core.rmem_max"), (Buffer::Send, "net.core.wmem_max")] {
            let wanted = 1 << 30;
            let granted = buffer.set(&socket, wanted, false).unwrap();
            assert!(granted > 0 && granted < wanted, "{granted}");
            let warning = buffer.refused(wanted, granted).unwrap();
            assert!(warning.contains(&format!("sysctl -w {sysctl}={wanted}")), "{warning}");
        }
    }

    #[test]
    fn a_buffer_within_the_bound_is_granted_without_a_warning() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let granted = Buffer::Receive.set(&socket, 100_000, false).unwrap();
        assert_eq!((granted, Buffer::Receive.refused(100_000, granted)), (100_000, None));
    }

    #[test]
    fn a_port_that_cannot_be_had_is_an_error_of_one_line_that_says_which_and_what_to_do() {
        let first = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = first.local_addr().unwrap();
        let error = anyhow::Error::from(bind_patiently(address, 2, Duration::ZERO, UdpSocket::bind).unwrap_err());
        // With its causes, as it is shown.
        assert_eq!(
            format!("{error:#}"),
            format!(
                "UDP {address} cannot be bound: Address already in use (os error 98); stop the program that has it, or choose other ports"
            )
        );
        let nowhere = "192.0.2.1:0".parse().unwrap();
        let error = bind_patiently(nowhere, 2, Duration::ZERO, UdpSocket::bind).unwrap_err().to_string();
        assert!(error.ends_with("; this machine does not have the address: choose one that it has"), "{error}");
    }

    /// A port that no socket has, neither of IPv4 nor of IPv6.
    fn free_port() -> u16 {
        UdpSocket::bind("[::]:0").unwrap().local_addr().unwrap().port()
    }

    #[test]
    fn unspecified_addresses_of_both_families_share_a_port() {
        if UdpSocket::bind("[::1]:0").is_err() {
            return eprintln!("skipped: there is no IPv6 here");
        }
        let ips = ["0.0.0.0", "::"].map(|ip| ip.parse::<IpAddr>().unwrap());
        for order in [ips, [ips[1], ips[0]]] {
            let port = free_port();
            let sockets = bind_all(&order, port).unwrap();
            let bound: Vec<_> = sockets.iter().map(|socket| socket.local_addr().unwrap()).collect();
            assert_eq!(bound, order.map(|ip| SocketAddr::new(ip, port)));
            for (socket, from) in sockets.iter().zip(order.map(|ip| if ip.is_ipv4() { "127.0.0.1" } else { "::1" })) {
                socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
                let peer = UdpSocket::bind((from, 0)).unwrap();
                peer.send_to(b"ping", (from, port)).unwrap();
                assert_eq!(socket.recv_from(&mut [0; 9]).unwrap(), (4, peer.local_addr().unwrap()));
            }
        }
    }

    #[test]
    fn an_ipv6_port_that_is_in_use_is_no_want_of_ipv6() {
        let Ok(other) = UdpSocket::bind("[::1]:0") else { return eprintln!("skipped: there is no IPv6 here") };
        let address = other.local_addr().unwrap();
        let ips = ["0.0.0.0", "::"].map(|ip| ip.parse().unwrap());
        let error = bind_all(&ips, address.port()).unwrap_err().to_string();
        assert!(
            error.contains(&format!("UDP [::]:{} cannot be bound: Address already in use", address.port())),
            "{error}"
        );
    }

    #[test]
    fn datagrams_that_the_kernel_dropped_are_counted() {
        let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
        Buffer::Receive.set(&receiver, 8_192, false).unwrap();
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        assert_eq!(kernel_drops(&receiver), 0);
        for _ in 0..100 {
            sender.send_to(&[0; 1_200], receiver.local_addr().unwrap()).unwrap();
        }
        let drops = kernel_drops(&receiver);
        assert!(drops > 0 && drops < 100, "{drops}");
    }

    #[test]
    fn a_receive_buffer_fills_with_what_waits_in_it() {
        let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
        Buffer::Receive.set(&receiver, 100_000, false).unwrap();
        assert_eq!(receive_fill(&receiver), 0);
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        let fills: Vec<u8> = (0..200)
            .map(|_| {
                sender.send_to(&[0; 1_200], receiver.local_addr().unwrap()).unwrap();
                receive_fill(&receiver)
            })
            .collect();
        assert!(fills[0] < 5 && fills.is_sorted() && fills[199] > 90, "{fills:?}");
    }
}
