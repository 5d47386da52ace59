//! AV1 payloads (AOMedia's RTP payload format for AV1, v1.0): the aggregation header and the headers of the OBUs in it.
//!
//! ```text
//!  0 1 2 3 4 5 6 7
//! +-+-+-+-+-+-+-+-+
//! |Z|Y| W |N|-|-|-|  Z: continues an OBU, Y: will be continued, W: number of OBUs or 0, N: a sequence starts
//! +-+-+-+-+-+-+-+-+
//! ```

use super::PayloadInfo;
use crate::rtp::dependency::Mandatory;

const SEQUENCE_HEADER: u8 = 1;
const TEMPORAL_DELIMITER: u8 = 2;
const FRAME_HEADER: u8 = 3;
const METADATA: u8 = 5;
const FRAME: u8 = 6;
/// Most OBUs of one packet that are looked at; a packet of an encoder has a handful.
const MAX_OBUS: usize = 32;

/// What a payload, and the packet's dependency descriptor, say of the frame. The layers come from the OBU headers and
/// are `None` in packets where no OBU begins; the descriptor's [`Frame`](crate::rtp::dependency::Frame) has them for every
/// packet.
pub fn inspect(payload: &[u8], dependency_descriptor: Option<&[u8]>) -> PayloadInfo {
    let obus = Obus::read(payload).unwrap_or_default();
    let mandatory = dependency_descriptor.and_then(Mandatory::parse);
    let frame_start = mandatory.map_or(obus.frame_start, |m| m.frame_start);
    let sequence_start = obus.sequence_start || mandatory.is_some_and(|m| m.has_structure);
    let key_frame = frame_start && sequence_start && obus.spatial.unwrap_or(0) == 0;
    PayloadInfo {
        key_frame,
        frame_start,
        frame_end: mandatory.map(|m| m.frame_end),
        temporal: obus.temporal,
        spatial: obus.spatial,
        switching_point: key_frame,
        discardable: false,
        ..PayloadInfo::default()
    }
}

/// What the OBUs that begin in one packet are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Obus {
    sequence_start: bool,
    frame_start: bool,
    temporal: Option<u8>,
    spatial: Option<u8>,
}

impl Obus {
    /// Walks over the OBU elements of a payload; `None` when it is empty. What comes after a broken length is ignored.
    fn read(payload: &[u8]) -> Option<Self> {
        let (head, mut rest) = payload.split_first()?;
        let (continued, count) = (head & 0x80 != 0, usize::from(head >> 4 & 0x03));
        // Section 4.4: N "MUST be set to 1 if the packet is the first packet of a coded video sequence".
        let mut obus = Self { sequence_start: head & 0x08 != 0, ..Self::default() };
        for n in 1..=MAX_OBUS {
            if rest.is_empty() || count != 0 && n > count {
                break;
            }
            // Section 4.4: every element has its length in front, but the last when W says which that is.
            let element;
            if n == count {
                (element, rest) = (rest, &[][..]);
            } else {
                let Some((len, after)) = leb128(rest) else { break };
                let Some(parts) = after.split_at_checked(len) else { break };
                (element, rest) = parts;
            }
            if n > 1 || !continued {
                obus.add(element);
            }
        }
        Some(obus)
    }

    /// Takes note of an OBU: `|F|type (4)|X|S|-|`, and with X `|temporal (3)|spatial (2)|---|`.
    fn add(&mut self, obu: &[u8]) {
        let Some(head) = obu.first() else { return };
        match head >> 3 & 0x0F {
            SEQUENCE_HEADER => (self.sequence_start, self.frame_start) = (true, true),
            TEMPORAL_DELIMITER | FRAME_HEADER | METADATA | FRAME => self.frame_start = true,
            _ => {}
        }
        if head & 0x04 != 0
            && self.temporal.is_none()
            && let Some(layers) = obu.get(1)
        {
            self.temporal = Some(layers >> 5);
            self.spatial = Some(layers >> 3 & 0x03);
        }
    }
}

/// A number in AV1's leb128 form, of at most four bytes here (no element is longer than a packet), and what follows.
fn leb128(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let mut value = 0;
    for (n, byte) in bytes.iter().take(4).enumerate() {
        value |= usize::from(byte & 0x7F) << (7 * n);
        if byte & 0x80 == 0 {
            return Some((value, &bytes[n + 1..]));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: PayloadInfo = PayloadInfo {
        key_frame: false,
        frame_start: false,
        frame_end: None,
        temporal: None,
        spatial: None,
        switching_point: false,
        discardable: false,
        intra_picture: false,
        inter_layer: false,
    };

    #[test]
    fn a_payload_tells_its_frame() {
        let start = PayloadInfo { frame_start: true, ..NONE };
        let key = PayloadInfo { key_frame: true, switching_point: true, ..start };
        for (name, payload, expected) in [
            ("empty", &[][..], NONE),
            ("nothing but the header", &[0x10], NONE),
            ("new sequence", &[0x28, 2, 0x08, 0, 0x30, 9], key),
            ("new sequence, without N", &[0x20, 2, 0x08, 0, 0x30, 9], key),
            ("new sequence, W = 0", &[0x08, 2, 0x08, 0, 2, 0x30, 9], key),
            ("a frame", &[0x10, 0x30, 9], start),
            ("a frame, W = 0", &[0x00, 2, 0x30, 9], start),
            ("a frame, W = 0, leb128 of two bytes", &[0x00, 0x82, 0x00, 0x30, 9], start),
            ("a later part", &[0x90, 0x30, 9], NONE),
            ("a later part that looks like a sequence header", &[0x90, 0x08, 0], NONE),
            ("a later part, then a frame", &[0xA0, 1, 9, 0x30, 9], start),
            ("a tile group", &[0x10, 0x20, 9], NONE),
            ("an element past the end", &[0x20, 9, 0x30, 9], NONE),
            ("a length that doesn't end", &[0x00, 0xFF, 0xFF, 0xFF, 0xFF, 0x00], NONE),
            ("layers", &[0x10, 0x34, 0x28], PayloadInfo { temporal: Some(1), spatial: Some(1), ..start }),
            (
                "key picture's layer 1",
                &[0x18, 0x34, 0x08],
                PayloadInfo { temporal: Some(0), spatial: Some(1), ..start },
            ),
        ] {
            assert_eq!(inspect(payload, None), expected, "{name}");
        }
    }

    #[test]
    fn a_dependency_descriptor_says_more_than_the_payload() {
        let tile_group = [0x10, 0x20, 9];
        for (name, descriptor, expected) in [
            ("start", &[0x80, 0, 1][..], PayloadInfo { frame_start: true, frame_end: Some(false), ..NONE }),
            ("end", &[0x40, 0, 1], PayloadInfo { frame_end: Some(true), ..NONE }),
            (
                "start with structure",
                &[0xC0, 0, 1, 0x80],
                PayloadInfo {
                    key_frame: true,
                    switching_point: true,
                    frame_start: true,
                    frame_end: Some(true),
                    ..NONE
                },
            ),
            ("too short", &[0x80, 0], NONE),
        ] {
            assert_eq!(inspect(&tile_group, Some(descriptor)), expected, "{name}");
        }
        assert_eq!(
            Mandatory::parse(&[0x85, 0x12, 0x34, 0x00]),
            Some(Mandatory {
                frame_start: true,
                frame_end: false,
                template_id: 5,
                frame_number: 0x1234,
                has_structure: false
            })
        );
    }
}
