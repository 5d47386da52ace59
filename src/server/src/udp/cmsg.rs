//! The control messages used, written and read as plain bytes: `UDP_SEGMENT` out (GSO), `UDP_GRO` in, and the address of
//! this machine both ways (`IP_PKTINFO`, `IPV6_PKTINFO`).
//!
//! ```text
//! cmsghdr      len:usize  level:i32  type:i32  data...   padded to 8
//! in_pktinfo   interface:i32  local address:4  destination in the header:4
//! in6_pktinfo  address:16  interface:i32
//! ```

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// `SOL_UDP` of linux/udp.h.
pub(super) const SOL_UDP: i32 = 17;
/// `UDP_SEGMENT` of linux/udp.h: the length of each datagram in one send.
pub(super) const UDP_SEGMENT: i32 = 103;
/// `UDP_GRO` of linux/udp.h: as a socket option wants coalesced datagrams, as a control message says how long each is.
pub(super) const UDP_GRO: i32 = 104;

/// Bytes of the two control messages that a datagram comes or leaves with at most: `CMSG_SPACE` of a length, which has
/// two or four bytes, and of an `in6_pktinfo`.
pub(super) const CONTROL_BYTES: usize = HEADER + 8 + HEADER + 24;
const HEADER: usize = size_of::<usize>() + 8;

/// Room for the control messages.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(8))]
pub(super) struct Control {
    pub(super) bytes: [u8; CONTROL_BYTES],
    /// Bytes of what was added.
    pub(super) len: usize,
}

impl Control {
    pub(super) const EMPTY: Self = Self { bytes: [0; CONTROL_BYTES], len: 0 };

    /// Tells the kernel to cut a send into datagrams of `segment` bytes.
    pub(super) fn segment(self, segment: u16) -> Self {
        self.with(SOL_UDP, UDP_SEGMENT, &segment.to_ne_bytes())
    }

    /// Tells the kernel to send from `local`; `mapped` as in [`super::sockaddr::RawAddress::new`].
    pub(super) fn local(self, local: IpAddr, mapped: bool) -> Self {
        let v6 = |ip: Ipv6Addr| {
            let mut info = [0; 20];
            info[..16].copy_from_slice(&ip.octets());
            self.with(libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, &info)
        };
        match local {
            IpAddr::V4(ip) if mapped => v6(ip.to_ipv6_mapped()),
            IpAddr::V6(ip) => v6(ip),
            IpAddr::V4(ip) => {
                let mut info = [0; 12];
                info[4..8].copy_from_slice(&ip.octets());
                self.with(libc::IPPROTO_IP, libc::IP_PKTINFO, &info)
            }
        }
    }

    fn with(mut self, level: i32, kind: i32, data: &[u8]) -> Self {
        let message = &mut self.bytes[self.len..];
        message[..8].copy_from_slice(&(HEADER + data.len()).to_ne_bytes());
        message[8..12].copy_from_slice(&level.to_ne_bytes());
        message[12..16].copy_from_slice(&kind.to_ne_bytes());
        message[HEADER..HEADER + data.len()].copy_from_slice(data);
        self.len += (HEADER + data.len()).next_multiple_of(8);
        self
    }
}

/// What the kernel says of a receive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Received {
    /// The length of each of several datagrams; `None` when the buffer holds a single one.
    pub(super) segment: Option<usize>,
    /// The address that it came to, where the socket asks for it.
    pub(super) local: Option<IpAddr>,
}

/// Reads the control messages of a receive.
pub(super) fn read(mut control: &[u8]) -> Received {
    let mut received = Received::default();
    while let Some((len, level, kind)) = header(control) {
        let data = control.get(HEADER..len).unwrap_or_default();
        match (level, kind) {
            (SOL_UDP, UDP_GRO) => {
                let value = data.first_chunk::<4>().map(|bytes| i32::from_ne_bytes(*bytes));
                received.segment = value.and_then(|n| usize::try_from(n).ok()).filter(|segment| *segment > 0);
            }
            (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                let ip = data.get(4..8).and_then(|bytes| <[u8; 4]>::try_from(bytes).ok());
                received.local = ip.map(|octets| Ipv4Addr::from(octets).into());
            }
            (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                let ip = data.first_chunk::<16>();
                received.local = ip.map(|octets| IpAddr::from(Ipv6Addr::from(*octets)).to_canonical());
            }
            _ => {}
        }
        let Some(rest) = len.max(HEADER).checked_next_multiple_of(8).and_then(|next| control.get(next..)) else {
            break;
        };
        control = rest;
    }
    received
}

/// Length, level and type of the first message.
fn header(control: &[u8]) -> Option<(usize, i32, i32)> {
    let word = |at: usize| control.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).map(i32::from_ne_bytes);
    let len = usize::from_ne_bytes(control.get(..8)?.try_into().ok()?);
    Some((len, word(8)?, word(12)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(level: i32, kind: i32, data: &[u8]) -> Vec<u8> {
        let mut bytes = (HEADER + data.len()).to_ne_bytes().to_vec();
        bytes.extend(level.to_ne_bytes());
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(data);
        bytes.resize(bytes.len().next_multiple_of(8), 0);
        bytes
    }

    #[test]
    fn the_segment_length_is_found_among_other_messages() {
        let gro = message(SOL_UDP, UDP_GRO, &1200i32.to_ne_bytes());
        let other = message(libc::SOL_SOCKET, 40, &7u32.to_ne_bytes());
        for (control, expected) in [
            (gro.clone(), Some(1200)),
            ([other.clone(), gro.clone()].concat(), Some(1200)),
            (other, None),
            (vec![], None),
            (gro[..HEADER + 3].to_vec(), None),
            (message(SOL_UDP, UDP_GRO, &0i32.to_ne_bytes()), None),
            (message(SOL_UDP, UDP_GRO, &(-5i32).to_ne_bytes()), None),
            (vec![255; 24], None),
            (vec![0; 24], None),
        ] {
            assert_eq!(read(&control).segment, expected, "{control:?}");
        }
    }

    #[test]
    fn messages_are_laid_out_as_the_kernel_reads_them() {
        let segment = Control::EMPTY.segment(1200);
        assert_eq!(segment.bytes[..segment.len], message(SOL_UDP, UDP_SEGMENT, &1200u16.to_ne_bytes()));
        let v4 = segment.local([127, 0, 0, 2].into(), false);
        let info = message(libc::IPPROTO_IP, libc::IP_PKTINFO, &[0, 0, 0, 0, 127, 0, 0, 2, 0, 0, 0, 0]);
        assert_eq!(v4.bytes[segment.len..v4.len], info);
    }

    #[test]
    fn a_local_address_comes_back_as_it_went() {
        for text in ["127.0.0.2", "203.0.113.9", "::1", "2001:db8::1"] {
            let local: IpAddr = text.parse().unwrap();
            for mapped in [false, true] {
                let control = Control::EMPTY.segment(1000).local(local, mapped);
                // In an `in_pktinfo` that comes, the place of the source to send from has the local address, too.
                assert_eq!(read(&control.bytes[..control.len]).local, Some(local), "{text} mapped {mapped}");
            }
        }
        assert_eq!(read(&message(libc::IPPROTO_IP, libc::IP_PKTINFO, &[1, 2, 3])).local, None);
        assert_eq!(read(&message(libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, &[1; 15])).local, None);
    }
}
