//! Retransmissions in a stream of their own (RFC 4588): the payload starts with the original sequence number.

use super::header::{FIXED_LEN, Header};
use crate::drops::DropReason;
use crate::id::{Pt, Ssrc};

/// Bytes of the original sequence number in front of the original payload (RFC 4588 section 4).
pub const OSN_LEN: usize = 2;

/// The original sequence number and payload of an RTX payload; `None` when there is none (padding for probing).
pub fn unwrap(payload: &[u8]) -> Option<(u16, &[u8])> {
    payload.split_first_chunk().map(|(osn, original)| (u16::from_be_bytes(*osn), original))
}

/// Turns a decrypted RTX packet into the packet it repeats, in place: the header moves up over the original sequence
/// number. Returns where the packet now begins ([`OSN_LEN`]), or `None` for an RTX packet without payload.
pub fn restore(packet: &mut [u8], header: &Header, payload_type: Pt, ssrc: Ssrc) -> Result<Option<usize>, DropReason> {
    let payload = header.payload_range(packet)?;
    let Some((sequence, _)) = unwrap(&packet[payload]) else { return Ok(None) };
    packet.copy_within(..header.header_len, OSN_LEN);
    let fixed = &mut packet[OSN_LEN..OSN_LEN + FIXED_LEN];
    fixed[1] = fixed[1] & 0x80 | payload_type.0 & 0x7F;
    fixed[2..4].copy_from_slice(&sequence.to_be_bytes());
    fixed[8..12].copy_from_slice(&ssrc.0.to_be_bytes());
    Ok(Some(OSN_LEN))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rtp::header::{NewHeader, write_header};

    #[test]
    fn a_restored_packet_is_the_original_but_for_its_extensions() {
        let original =
            NewHeader { marker: true, payload_type: Pt(96), sequence: 0xFFFE, timestamp: 77, ssrc: Ssrc(0x0102_0304) };
        let repeat = NewHeader { payload_type: Pt(97), sequence: 5, ssrc: Ssrc(9), ..original };
        let elements: [(u8, &[u8]); 1] = [(3, b"0")];

        let mut expected = [0; 100];
        let len = write_header(&mut expected, &original, &elements);
        expected[len..len + 4].copy_from_slice(b"data");

        let mut packet = [0; 100];
        let header_len = write_header(&mut packet, &repeat, &elements);
        packet[header_len..header_len + 6].copy_from_slice(b"\xFF\xFEdata");
        let packet = &mut packet[..header_len + 6];
        let header = Header::parse(packet).unwrap();
        let start = restore(packet, &header, Pt(96), Ssrc(0x0102_0304)).unwrap().unwrap();
        assert_eq!(packet[start..], expected[..len + 4]);
    }

    #[test]
    fn an_rtx_packet_of_padding_repeats_nothing() {
        let mut packet = [0xA0, 97, 0, 1, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 3];
        let header = Header::parse(&packet).unwrap();
        assert_eq!(restore(&mut packet, &header, Pt(96), Ssrc(1)), Ok(None));
        packet[14] = 4;
        assert_eq!(restore(&mut packet, &header, Pt(96), Ssrc(1)), Err(DropReason::RtpMalformed));
        assert_eq!((unwrap(&[1]), unwrap(&[1, 2])), (None, Some((0x0102, &[][..]))));
    }
}
