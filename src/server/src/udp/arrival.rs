//! What came in with one receive: one datagram, or several of one sender that the kernel coalesced.

use std::ops::Range;

use super::{cmsg, sockaddr};
use moonring_wire::packet::{AddressPair, Local};

/// A filled receive buffer being split, in place, into datagrams.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Arrival {
    pub(super) from: AddressPair,
    payload: Range<usize>,
    segment: usize,
    left: usize,
    truncated: bool,
}

impl Arrival {
    /// `payload` is where the bytes lie in the buffer. `None` when the address is of no family we know.
    pub(super) fn new(name: &[u8], control: &[u8], payload: Range<usize>, truncated: bool) -> Option<Self> {
        let said = cmsg::read(control);
        let local = said.local.map_or(Local::Any, Local::Address);
        let from = AddressPair { remote: sockaddr::decode(name)?, local };
        let segment = said.segment.unwrap_or(payload.len()).max(1);
        // A datagram of no bytes is a datagram too.
        let left = payload.len().div_ceil(segment).max(1);
        Some(Self { from, payload, segment, left, truncated })
    }

    /// Where the next datagram lies in the buffer; the cursor moves before the datagram is handled, so that a panic
    /// over one does not repeat it. `Some(None)` is a datagram that was cut off.
    pub(super) fn next(&mut self) -> Option<Option<Range<usize>>> {
        if self.left == 0 {
            return None;
        }
        self.left -= 1;
        let at = self.payload.start;
        self.payload.start = self.payload.end.min(at + self.segment);
        if self.left == 0 && self.truncated {
            return Some(None);
        }
        Some(Some(at..self.payload.start))
    }

    pub(super) fn is_done(&self) -> bool {
        self.left == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::udp::sockaddr::RawAddress;

    /// (payload length, GRO segment or 0, truncated) in → lengths of the datagrams out, `None` for one cut off.
    fn split(len: usize, segment: i32, truncated: bool) -> Vec<Option<usize>> {
        let name = RawAddress::new("127.0.0.1:9".parse().unwrap(), false);
        let mut control = cmsg::Control::EMPTY.segment(0).bytes;
        control[12..16].copy_from_slice(&cmsg::UDP_GRO.to_ne_bytes());
        control[16..20].copy_from_slice(&segment.to_ne_bytes());
        control[..8].copy_from_slice(&20_usize.to_ne_bytes());
        let mut arrival = Arrival::new(&name.bytes, &control, 100..100 + len, truncated).unwrap();
        let mut at = 100;
        let mut lengths = vec![];
        while let Some(piece) = arrival.next() {
            lengths.push(piece.map(|piece| {
                assert_eq!(piece.start, at);
                at = piece.end;
                piece.len()
            }));
        }
        assert!(arrival.is_done());
        lengths
    }

    #[test]
    fn a_buffer_is_split_into_its_datagrams() {
        assert_eq!(split(0, 0, false), [Some(0)]);
        assert_eq!(split(10, 0, false), [Some(10)]);
        assert_eq!(split(10, 10, false), [Some(10)]);
        assert_eq!(split(30, 10, false), [Some(10); 3]);
        assert_eq!(split(31, 10, false), [Some(10), Some(10), Some(10), Some(1)]);
        assert_eq!(split(5, 10, false), [Some(5)]);
        assert_eq!(split(3, 1, false), [Some(1); 3]);
    }

    #[test]
    fn only_the_last_datagram_of_a_cut_off_buffer_is_lost() {
        assert_eq!(split(10, 0, true), [None]);
        assert_eq!(split(25, 10, true), [Some(10), Some(10), None]);
    }
}
