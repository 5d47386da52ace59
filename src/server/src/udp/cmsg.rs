//! The two control messages used: `UDP_SEGMENT` out (GSO), `UDP_GRO` in, written and read as plain bytes.
//!
//! ```text
//! cmsghdr  len:usize  level:i32  type:i32  data...   padded to 8
//! ```

/// `SOL_UDP` of linux/udp.h.
pub(super) const SOL_UDP: i32 = 17;
/// `UDP_SEGMENT` of linux/udp.h: the length of each datagram in one send.
pub(super) const UDP_SEGMENT: i32 = 103;
/// `UDP_GRO` of linux/udp.h: as a socket option wants coalesced datagrams, as a control message says how long each is.
pub(super) const UDP_GRO: i32 = 104;

/// Bytes of a control message of two or four bytes of data: `CMSG_SPACE`.
pub(super) const CONTROL_BYTES: usize = HEADER + 8;
const HEADER: usize = size_of::<usize>() + 8;

/// Room for one control message.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(8))]
pub(super) struct Control(pub(super) [u8; CONTROL_BYTES]);

impl Control {
    pub(super) const EMPTY: Self = Self([0; CONTROL_BYTES]);

    /// Tells the kernel to cut a send into datagrams of `segment` bytes.
    pub(super) fn segment(segment: u16) -> Self {
        let mut bytes = [0; CONTROL_BYTES];
        bytes[..8].copy_from_slice(&(HEADER + 2).to_ne_bytes());
        bytes[8..12].copy_from_slice(&SOL_UDP.to_ne_bytes());
        bytes[12..16].copy_from_slice(&UDP_SEGMENT.to_ne_bytes());
        bytes[HEADER..HEADER + 2].copy_from_slice(&segment.to_ne_bytes());
        Self(bytes)
    }
}

/// The datagram length that `UDP_GRO` reports; `None` when the buffer holds a single datagram.
pub(super) fn gro_segment(mut control: &[u8]) -> Option<usize> {
    while control.len() >= HEADER {
        let len = usize::from_ne_bytes(control[..8].try_into().ok()?);
        let level = i32::from_ne_bytes(control[8..12].try_into().ok()?);
        let kind = i32::from_ne_bytes(control[12..16].try_into().ok()?);
        if level == SOL_UDP && kind == UDP_GRO {
            let value: [u8; 4] = control.get(HEADER..HEADER + 4)?.try_into().ok()?;
            return usize::try_from(i32::from_ne_bytes(value)).ok().filter(|segment| *segment > 0);
        }
        control = control.get(len.max(HEADER).checked_next_multiple_of(8)?..)?;
    }
    None
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
            assert_eq!(gro_segment(&control), expected, "{control:?}");
        }
    }

    #[test]
    fn a_segment_message_is_laid_out_as_the_kernel_reads_it() {
        assert_eq!(Control::segment(1200).0.as_slice(), message(SOL_UDP, UDP_SEGMENT, &1200u16.to_ne_bytes()));
    }
}
