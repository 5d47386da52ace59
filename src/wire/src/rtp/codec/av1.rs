//! AV1 payloads (AOMedia's RTP payload format for AV1, v1.0): the aggregation header and the headers of the OBUs in it.
//!
//! ```text
//!  0 1 2 3 4 5 6 7
//! +-+-+-+-+-+-+-+-+
//! |Z|Y| W |N|-|-|-|  Z: continues an OBU, Y: will be continued, W: number of OBUs or 0, N: a sequence starts
//! +-+-+-+-+-+-+-+-+
//! ```

use super::{PayloadInfo, PictureSize};
use crate::rtp::bits::Bits;
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
    /// Looks at the OBUs of a payload; `None` when it is empty.
    fn read(payload: &[u8]) -> Option<Self> {
        // Section 4.4: N "MUST be set to 1 if the packet is the first packet of a coded video sequence".
        let mut obus = Self { sequence_start: payload.first()? & 0x08 != 0, ..Self::default() };
        Elements::of(payload).for_each(|obu| obus.add(obu));
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

/// The OBUs that begin in a payload, each without what other packets have of it. What comes after a broken length is ignored.
struct Elements<'a> {
    rest: &'a [u8],
    /// What the payload says of their number; 0 when it does not.
    count: usize,
    looked_at: usize,
    /// The first one began in another packet.
    is_continued: bool,
}

impl<'a> Elements<'a> {
    fn of(payload: &'a [u8]) -> Self {
        let (head, rest) = payload.split_first().unwrap_or((&0, &[]));
        Self { rest, count: usize::from(head >> 4 & 0x03), looked_at: 0, is_continued: head & 0x80 != 0 }
    }

    /// Section 4.4: every element has its length in front, but the last when W says which that is.
    fn step(&mut self) -> Option<&'a [u8]> {
        self.looked_at += 1;
        if self.rest.is_empty() || self.looked_at > MAX_OBUS || self.count != 0 && self.looked_at > self.count {
            return None;
        }
        if self.looked_at == self.count {
            return Some(std::mem::take(&mut self.rest));
        }
        let (element, rest) = leb128(self.rest).and_then(|(len, after)| after.split_at_checked(len))?;
        self.rest = rest;
        Some(element)
    }
}

impl<'a> Iterator for Elements<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        if std::mem::take(&mut self.is_continued) {
            self.step()?;
        }
        self.step()
    }
}

/// The largest picture that the sequence header in a payload tells of (AV1 section 5.5), if one begins there.
pub fn picture_size(payload: &[u8]) -> Option<PictureSize> {
    let obu = Elements::of(payload).find(|obu| obu.first().is_some_and(|head| head >> 3 & 0x0F == SEQUENCE_HEADER))?;
    let head = obu[0];
    // The extension, and the size that is left out in RTP but may be there (section 5.3).
    let mut body = obu.get(1 + usize::from(head & 0x04 != 0)..)?;
    if head & 0x02 != 0 {
        body = leb128(body)?.1;
    }
    let mut bits = Bits::new(body, 0);
    // seq_profile, still_picture.
    bits.read(4)?;
    let is_reduced = bits.read(1)? == 1;
    if is_reduced { bits.read(5).map(drop) } else { skip_operating_points(&mut bits) }?;
    let (width_bits, height_bits) = (bits.read(4)? + 1, bits.read(4)? + 1);
    let (width, height) = (bits.read(width_bits as usize)?, bits.read(height_bits as usize)?);
    Some(PictureSize { width: width as u32 + 1, height: height as u32 + 1 })
}

/// From timing_info_present_flag to the last operating point.
fn skip_operating_points(bits: &mut Bits<'_>) -> Option<()> {
    let mut delay_bits = None;
    if bits.read(1)? == 1 {
        bits.read(64)?;
        // equal_picture_interval, with a number in the form uvlc() behind it.
        if bits.read(1)? == 1 {
            let zeros = (0..32).take_while(|_| bits.read(1) == Some(0)).count();
            bits.read(zeros)?;
        }
        if bits.read(1)? == 1 {
            delay_bits = Some(bits.read(5)? as usize + 1);
            bits.read(32 + 5 + 5)?;
        }
    }
    let has_display_delay = bits.read(1)? == 1;
    for _ in 0..=bits.read(5)? {
        bits.read(12)?;
        // seq_level_idx, and above 4.x a bit for the tier.
        if bits.read(5)? > 7 {
            bits.read(1)?;
        }
        if let Some(delay_bits) = delay_bits
            && bits.read(1)? == 1
        {
            bits.read(2 * delay_bits + 1)?;
        }
        if has_display_delay && bits.read(1)? == 1 {
            bits.read(4)?;
        }
    }
    Some(())
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
    fn a_sequence_header_tells_the_size_of_pictures() {
        // By SVT-AV1, without and with the settings for calls.
        let headers: [(&[u8], (u32, u32)); 2] = [
            (&[0x0A, 0x0B, 0, 0, 0, 0x24, 0xCF, 0x7F, 0x0D, 0x89, 0x5F, 0x20, 0x08], (960, 540)),
            (&[0x0A, 0x0B, 0, 0, 0, 0x04, 0x3C, 0xFE, 0xCC, 0x4A, 0xF9, 0x00, 0x40], (320, 180)),
        ];
        for (header, (width, height)) in headers {
            let size = Some(PictureSize { width, height });
            let alone = [&[0x18], header].concat();
            assert_eq!(picture_size(&alone), size);
            let without_size = [&[0x18, 0x08], &header[2..]].concat();
            assert_eq!(picture_size(&without_size), size, "its size left out");
            let behind = [&[0x28, 2, 0x12, 0][..], header].concat();
            assert_eq!(picture_size(&behind), size, "behind another OBU");
            assert_eq!(picture_size(&[&[0x98], header].concat()), None, "a later part that looks like one");
            for len in 0..9 {
                assert_eq!(picture_size(&alone[..len]), None, "cut to {len}");
            }
        }
    }

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
