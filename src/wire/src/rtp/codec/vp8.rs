//! The VP8 payload descriptor (RFC 7741 section 4.2).
//!
//! ```text
//!      0 1 2 3 4 5 6 7
//!     +-+-+-+-+-+-+-+-+
//!     |X|R|N|S|R| PID | (REQUIRED)
//! X:  |I|L|T|K| RSV   | (OPTIONAL)
//! I:  |M| PictureID   | (OPTIONAL; M: one byte more)
//! L:  |   TL0PICIDX   | (OPTIONAL)
//! T/K:|TID|Y| KEYIDX  | (OPTIONAL)
//!     +-+-+-+-+-+-+-+-+
//! ```

use super::{PayloadInfo, PictureId, PictureIds, PictureSize};

/// What the descriptor in front of a VP8 payload says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Descriptor {
    /// Bytes of the descriptor.
    pub len: usize,
    /// No other frame refers to this one (N).
    pub non_reference: bool,
    /// The packet starts a partition (S).
    pub partition_start: bool,
    /// The partition's index (PID).
    pub partition: u8,
    /// Picture id and TL0PICIDX.
    pub ids: PictureIds,
    /// The temporal layer (TID).
    pub temporal: Option<u8>,
    /// The frame depends on the base layer only (Y); false without temporal layer.
    pub layer_sync: bool,
    /// The key frame index (KEYIDX) and its offset: the low five bits of that byte.
    pub key_index: Option<(u8, usize)>,
}

impl Descriptor {
    /// Reads the descriptor of a payload; `None` when the payload ends within.
    pub fn parse(payload: &[u8]) -> Option<Self> {
        let first = *payload.first()?;
        let mut descriptor = Self {
            len: 1,
            non_reference: first & 0x20 != 0,
            partition_start: first & 0x10 != 0,
            partition: first & 0x07,
            ..Self::default()
        };
        if first & 0x80 == 0 {
            return Some(descriptor);
        }
        let flags = *payload.get(1)?;
        let mut at = 2;
        if flags & 0x80 != 0 {
            let id = PictureId::read(payload, at)?;
            descriptor.ids.picture_id = Some(id);
            at += id.len();
        }
        if flags & 0x40 != 0 {
            descriptor.ids.tl0_picture = Some((*payload.get(at)?, at));
            at += 1;
        }
        if flags & 0x30 != 0 {
            let byte = *payload.get(at)?;
            // RFC 7741 section 4.2: without T the TID and Y bits must be ignored, without K the KEYIDX.
            if flags & 0x20 != 0 {
                descriptor.temporal = Some(byte >> 6);
                descriptor.layer_sync = byte & 0x20 != 0;
            }
            if flags & 0x10 != 0 {
                descriptor.key_index = Some((byte & 0x1F, at));
            }
            at += 1;
        }
        descriptor.len = at;
        (at <= payload.len()).then_some(descriptor)
    }

    /// The packet is the first of its frame: it starts partition 0.
    pub fn starts_frame(&self) -> bool {
        self.partition_start && self.partition == 0
    }
}

/// Replaces picture id and TL0PICIDX in a payload; the length stays. Fields that are not there are not added, and a
/// picture id of 7 bits gets the low 7.
pub fn rewrite(payload: &mut [u8], picture_id: u16, tl0_picture: u8) {
    if let Some(descriptor) = Descriptor::parse(payload) {
        descriptor.ids.patch(payload, picture_id, tl0_picture);
    }
}

/// What a payload says of its frame.
pub fn inspect(payload: &[u8]) -> PayloadInfo {
    let Some(descriptor) = Descriptor::parse(payload) else { return PayloadInfo::default() };
    let frame_start = descriptor.starts_frame();
    // RFC 7741 section 4.3: the first bit of the payload header is P, the inverse key frame flag.
    let key_frame = frame_start && payload.get(descriptor.len).is_some_and(|byte| byte & 0x01 == 0);
    PayloadInfo {
        key_frame,
        frame_start,
        frame_end: None,
        temporal: descriptor.temporal,
        spatial: None,
        switching_point: key_frame || descriptor.layer_sync,
        discardable: descriptor.non_reference,
        ..PayloadInfo::default()
    }
}

/// The size in the head of a key frame (RFC 6386 section 9.1): three bytes of frame tag, a start code, width and height with
/// two bits of scaling each, low byte first.
pub fn picture_size(payload: &[u8]) -> Option<PictureSize> {
    let descriptor = Descriptor::parse(payload).filter(Descriptor::starts_frame)?;
    match payload.get(descriptor.len..)? {
        [tag, _, _, 0x9D, 0x01, 0x2A, size @ ..] if tag & 0x01 == 0 => {
            let side = |at: usize| Some(u32::from(u16::from_le_bytes([*size.get(at)?, *size.get(at + 1)?]) & 0x3FFF));
            Some(PictureSize { width: side(0)?, height: side(2)? })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use rtp::packetizer::Depacketizer;

    use super::*;
    use crate::rtp::random::Random;

    #[test]
    fn a_key_frame_tells_its_size() {
        // By libvpx.
        let frame = [0x70, 0xC8, 0x00, 0x9D, 0x01, 0x2A, 0x42, 0x01, 0xB6, 0x00, 0x04, 0x70];
        let size = Some(PictureSize { width: 322, height: 182 });
        let with = |descriptor: &[u8], frame: &[u8]| picture_size(&[descriptor, frame].concat());
        assert_eq!(with(&[0x10], &frame), size);
        assert_eq!(with(&[0x90, 0x80, 0x12], &frame), size, "behind a picture id");
        assert_eq!(with(&[0x00], &frame), None, "a later packet that looks like one");
        assert_eq!(with(&[0x10], &frame[..9]), None, "cut");
        let scaled = [0x70, 0xC8, 0x00, 0x9D, 0x01, 0x2A, 0x42, 0x41, 0xB6, 0x80];
        assert_eq!(with(&[0x10], &scaled), size, "to be shown larger");
        assert_eq!(with(&[0x10], &[0x71, 0xC8, 0x00, 0x9D, 0x01, 0x2A, 0x42, 0x01, 0xB6, 0x00]), None, "no key frame");
    }

    #[test]
    fn a_descriptor_is_read_as_another_implementation_reads_it() {
        let mut random = Random::new(3);
        let mut with_everything = 0;
        for _ in 0..20_000 {
            let mut payload = random.bytes(12);
            payload[0] &= 0x97 | 0x20;
            let ours = Descriptor::parse(&payload).unwrap();
            let mut theirs = rtp::codecs::vp8::Vp8Packet::default();
            let body = theirs.depacketize(&Bytes::from(payload.clone())).unwrap();
            assert_eq!(payload.len() - body.len(), ours.len, "{payload:?}");
            assert_eq!(theirs.picture_id, ours.ids.picture_id.map_or(0, |id| id.value));
            assert_eq!(theirs.tl0_pic_idx, ours.ids.tl0_picture.map_or(0, |(value, _)| value));
            assert_eq!(
                (theirs.s == 1, theirs.pid, theirs.n == 1),
                (ours.partition_start, ours.partition, ours.non_reference)
            );
            if let Some(temporal) = ours.temporal {
                assert_eq!((theirs.tid, theirs.y == 1), (temporal, ours.layer_sync));
            }
            if let Some((index, _)) = ours.key_index {
                assert_eq!(theirs.key_idx, index);
            }
            with_everything += u32::from(ours.len == 6);
        }
        assert!(with_everything > 100);
    }

    #[test]
    fn a_descriptor_that_ends_early_is_none() {
        let whole = [0x90, 0xF0, 0x81, 0x02, 0x03, 0x40];
        for len in 0..whole.len() {
            assert_eq!(Descriptor::parse(&whole[..len]), None, "{len} bytes");
            assert_eq!(inspect(&whole[..len]), PayloadInfo::default());
        }
        assert_eq!(Descriptor::parse(&whole).map(|d| d.len), Some(6));
    }

    #[test]
    fn rewriting_changes_the_two_fields_and_nothing_else() {
        for (before, after) in [
            (&[0x90, 0xF0, 0x81, 0x02, 0x03, 0x40, 9][..], &[0x90, 0xF0, 0x92, 0x34, 0x56, 0x40, 9][..]),
            (&[0x90, 0xE0, 0x01, 0x03, 0x40, 9], &[0x90, 0xE0, 0x34, 0x56, 0x40, 9]),
            (&[0x90, 0x80, 0x01, 9], &[0x90, 0x80, 0x34, 9]),
            (&[0x90, 0x20, 0x40, 9], &[0x90, 0x20, 0x40, 9]),
            (&[0x10, 9], &[0x10, 9]),
            (&[0x90], &[0x90]),
        ] {
            let mut payload = before.to_vec();
            rewrite(&mut payload, 0x1234, 0x56);
            assert_eq!(payload, after);
        }
    }

    #[test]
    fn a_payload_tells_its_frame() {
        let start = PayloadInfo { frame_start: true, ..PayloadInfo::default() };
        for (name, payload, expected) in [
            ("key frame", &[0x10, 0x00][..], PayloadInfo { key_frame: true, switching_point: true, ..start }),
            ("other frame", &[0x10, 0x01], start),
            ("start without a frame byte", &[0x10], start),
            ("second packet", &[0x00, 0x00], PayloadInfo::default()),
            ("start of partition 1", &[0x11, 0x00], PayloadInfo::default()),
            ("non-reference", &[0x30, 0x01], PayloadInfo { discardable: true, ..start }),
            ("layer 2", &[0x90, 0x20, 0x80, 0x01], PayloadInfo { temporal: Some(2), ..start }),
            (
                "layer 1 with sync",
                &[0x90, 0x20, 0x60, 0x01],
                PayloadInfo { temporal: Some(1), switching_point: true, ..start },
            ),
        ] {
            assert_eq!(inspect(payload), expected, "{name}");
        }
    }
}
