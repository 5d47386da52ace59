//! Socket addresses as the kernel lays them out, written and read as plain bytes.
//!
//! ```text
//! sockaddr_in   family:u16  port:be16  address:4                          zero:8      (16 bytes)
//! sockaddr_in6  family:u16  port:be16  flowinfo:be32  address:16  scope:u32           (28 bytes)
//! ```

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

/// Bytes of the longest address.
pub(super) const ADDRESS_BYTES: usize = 28;
const V4_BYTES: u32 = 16;
const V6_BYTES: u32 = 28;

/// An address ready to be pointed at by a message header.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(8))]
pub(super) struct RawAddress {
    pub(super) bytes: [u8; ADDRESS_BYTES],
    pub(super) len: u32,
}

impl RawAddress {
    pub(super) const EMPTY: Self = Self { bytes: [0; ADDRESS_BYTES], len: 0 };

    /// `to` as the kernel wants it; `mapped` writes an IPv4 address as `::ffff:a.b.c.d`, for a dual-stack socket.
    pub(super) fn new(to: SocketAddr, mapped: bool) -> Self {
        match to {
            SocketAddr::V4(v4) if mapped => Self::v6(&SocketAddrV6::new(v4.ip().to_ipv6_mapped(), v4.port(), 0, 0)),
            SocketAddr::V4(v4) => Self::v4(&v4),
            SocketAddr::V6(v6) => Self::v6(&v6),
        }
    }

    fn v4(to: &SocketAddrV4) -> Self {
        let mut bytes = [0; ADDRESS_BYTES];
        bytes[..2].copy_from_slice(&(libc::AF_INET as u16).to_ne_bytes());
        bytes[2..4].copy_from_slice(&to.port().to_be_bytes());
        bytes[4..8].copy_from_slice(&to.ip().octets());
        Self { bytes, len: V4_BYTES }
    }

    fn v6(to: &SocketAddrV6) -> Self {
        let mut bytes = [0; ADDRESS_BYTES];
        bytes[..2].copy_from_slice(&(libc::AF_INET6 as u16).to_ne_bytes());
        bytes[2..4].copy_from_slice(&to.port().to_be_bytes());
        bytes[8..24].copy_from_slice(&to.ip().octets());
        bytes[24..28].copy_from_slice(&to.scope_id().to_ne_bytes());
        Self { bytes, len: V6_BYTES }
    }
}

/// The address in `bytes`; an IPv4-mapped one comes out as IPv4, so that a client has one address whatever the socket.
pub(super) fn decode(bytes: &[u8]) -> Option<SocketAddr> {
    let family = i32::from(u16::from_ne_bytes(bytes.get(..2)?.try_into().ok()?));
    let port = u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?);
    match family {
        libc::AF_INET => {
            let ip: [u8; 4] = bytes.get(4..8)?.try_into().ok()?;
            Some(SocketAddr::from((Ipv4Addr::from(ip), port)))
        }
        libc::AF_INET6 => {
            let ip = Ipv6Addr::from(<[u8; 16]>::try_from(bytes.get(8..24)?).ok()?);
            let scope = u32::from_ne_bytes(bytes.get(24..28)?.try_into().ok()?);
            Some(match ip.to_ipv4_mapped() {
                Some(v4) => SocketAddr::from((v4, port)),
                None => SocketAddr::V6(SocketAddrV6::new(ip, port, 0, scope)),
            })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_comes_back_as_it_went() {
        for text in ["127.0.0.1:1", "203.0.113.9:65535", "[::1]:7", "[2001:db8::1]:443"] {
            let to: SocketAddr = text.parse().unwrap();
            for mapped in [false, true] {
                let raw = RawAddress::new(to, mapped);
                assert_eq!(decode(&raw.bytes[..raw.len as usize]), Some(to), "{text} mapped {mapped}");
            }
        }
        let scoped = SocketAddr::V6(SocketAddrV6::new("fe80::1".parse().unwrap(), 9, 0, 3));
        let raw = RawAddress::new(scoped, false);
        assert_eq!(decode(&raw.bytes[..raw.len as usize]), Some(scoped));
    }

    #[test]
    fn a_mapped_address_is_written_for_an_ipv6_socket() {
        let to = "10.1.2.3:80".parse().unwrap();
        assert_eq!((RawAddress::new(to, true).len, RawAddress::new(to, false).len), (V6_BYTES, V4_BYTES));
    }

    #[test]
    fn a_short_or_foreign_address_is_none() {
        let v6 = RawAddress::new("[::1]:7".parse().unwrap(), false);
        let v4 = RawAddress::new("1.2.3.4:7".parse().unwrap(), false);
        for bytes in [&[][..], &[2], &v4.bytes[..7], &v6.bytes[..27], &[1, 0, 0, 0, 0, 0, 0, 0]] {
            assert_eq!(decode(bytes), None, "{bytes:?}");
        }
    }
}
