//! Redundant sound (RFC 2198, `audio/red`): a packet that has some packets of the past besides its own, each behind a header.
//!
//! ```text
//! |1| payload type | time stamp offset (14) | length (10) |  for each of the past
//! |0| payload type |                                         for its own, whose length is the rest
//! ```

use crate::id::Pt;

/// Most packets of the past in one; libwebrtc sends one or two.
const MAX_BLOCKS: usize = 32;
/// Bytes of a header of the past.
const HEADER: usize = 4;

/// A packet's own payload, without those of the past; `None` when there is no such thing.
pub fn primary(payload: &[u8]) -> Option<&[u8]> {
    let (mut at, mut past) = (0, 0);
    for _ in 0..=MAX_BLOCKS {
        if payload.get(at)? & 0x80 == 0 {
            return payload.get(at + 1 + past..).filter(|own| !own.is_empty());
        }
        let [.., high, low] = *payload.get(at..)?.first_chunk::<HEADER>()?;
        past += usize::from(u16::from_be_bytes([high, low]) & 0x3FF);
        at += HEADER;
    }
    None
}

/// Gives all that is in a packet the payload type `pt`: that of the receiver.
pub fn renumber(payload: &mut [u8], pt: Pt) {
    let mut at = 0;
    for _ in 0..=MAX_BLOCKS {
        let Some(head) = payload.get_mut(at) else { return };
        let is_last = *head & 0x80 == 0;
        *head = (*head & 0x80) | (pt.0 & 0x7F);
        if is_last {
            return;
        }
        at += HEADER;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_is_told_from_those_of_the_past() {
        for (payload, expected) in [
            (&[111, 7, 8][..], Some(&[7, 8][..])),
            (&[0xEF, 0x0F, 0x00, 2, 111, 1, 2, 7, 8], Some(&[7, 8])),
            (&[0xEF, 0x1E, 0x00, 1, 0xEF, 0x0F, 0x00, 2, 111, 1, 2, 3, 9], Some(&[9])),
            (&[0xEF, 0x0F, 0x00, 2, 111, 1, 2], None),
            (&[0xEF, 0x0F, 0x03, 0xFF, 111, 1], None),
            (&[0xEF, 0x0F, 0x00], None),
            (&[111], None),
            (&[], None),
            (&[0x80; 400], None),
        ] {
            assert_eq!(primary(payload), expected, "{payload:?}");
        }
    }

    #[test]
    fn every_payload_type_becomes_the_receivers_and_nothing_else_changes() {
        let mut payload = [0xEF, 0x0F, 0x00, 2, 111, 1, 2, 7, 8];
        renumber(&mut payload, Pt(96));
        assert_eq!(payload, [0xE0, 0x0F, 0x00, 2, 96, 1, 2, 7, 8]);
        for len in 0..payload.len() {
            renumber(&mut payload[..len], Pt(97));
        }
        renumber(&mut [0xFF; 400], Pt(97));
    }
}
