//! The VP9 payload descriptor (RFC 9628 section 4.2).
//!
//! ```text
//!      0 1 2 3 4 5 6 7
//!     +-+-+-+-+-+-+-+-+
//!     |I|P|L|F|B|E|V|Z| (REQUIRED)
//! I:  |M| PICTURE ID  | (M: one byte more)
//! L:  | TID |U| SID |D|
//!     |   TL0PICIDX   | (only F = 0)
//! P,F:| P_DIFF      |N| (only F = 1; up to 3 times)
//! V:  | scalability structure ...
//!     +-+-+-+-+-+-+-+-+
//! ```

use super::{PayloadInfo, PictureId, PictureIds, PictureSize};
use crate::rtp::u16_at;

/// RFC 9628 section 4.2: "up to 3" reference pictures.
const MAX_REFERENCES: usize = 3;

/// What the descriptor in front of a VP9 payload says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Descriptor {
    /// Bytes of the descriptor.
    pub len: usize,
    /// The frame refers to earlier pictures (P).
    pub inter_predicted: bool,
    /// Flexible mode (F).
    pub flexible: bool,
    /// The packet starts a layer frame (B).
    pub frame_start: bool,
    /// The packet ends a layer frame (E).
    pub frame_end: bool,
    /// No higher spatial layer of the picture refers to the frame (Z).
    pub not_for_upper_spatial: bool,
    /// Picture id and TL0PICIDX.
    pub ids: PictureIds,
    /// The temporal layer (TID).
    pub temporal: Option<u8>,
    /// Switching up is possible here (U).
    pub switching_up: bool,
    /// The spatial layer (SID).
    pub spatial: Option<u8>,
    /// The frame refers to the next lower spatial layer of its picture (D).
    pub inter_layer: bool,
    /// A scalability structure follows (V); the first width and height in it, if it has them.
    pub resolution: Option<(u16, u16)>,
    /// Number of spatial layers, by the scalability structure.
    pub spatial_layers: Option<u8>,
}

impl Descriptor {
    /// Reads the descriptor of a payload; `None` when the payload ends within.
    pub fn parse(payload: &[u8]) -> Option<Self> {
        let first = *payload.first()?;
        let has = |bit: u8| first & bit != 0;
        let mut descriptor = Self {
            inter_predicted: has(0x40),
            flexible: has(0x10),
            frame_start: has(0x08),
            frame_end: has(0x04),
            not_for_upper_spatial: has(0x01),
            ..Self::default()
        };
        let mut at = 1;
        if has(0x80) {
            let id = PictureId::read(payload, at)?;
            descriptor.ids.picture_id = Some(id);
            at += id.len();
        }
        if has(0x20) {
            let layers = *payload.get(at)?;
            at += 1;
            descriptor.temporal = Some(layers >> 5);
            descriptor.switching_up = layers & 0x10 != 0;
            descriptor.spatial = Some(layers >> 1 & 0x07);
            descriptor.inter_layer = layers & 0x01 != 0;
            if !descriptor.flexible {
                descriptor.ids.tl0_picture = Some((*payload.get(at)?, at));
                at += 1;
            }
        }
        if descriptor.inter_predicted && descriptor.flexible {
            at = skip_references(payload, at)?;
        }
        if has(0x02) {
            at = descriptor.read_structure(payload, at)?;
        }
        descriptor.len = at;
        (at <= payload.len()).then_some(descriptor)
    }

    /// Reads the scalability structure at `at` and returns where it ends.
    ///
    /// ```text
    ///      | N_S |Y|G|-|-|-|
    /// Y:   WIDTH, HEIGHT     16 bits each, N_S + 1 times
    /// G:   |      N_G      |
    ///      | TID |U| R |-|-| N_G times, each followed by R times P_DIFF
    /// ```
    fn read_structure(&mut self, payload: &[u8], mut at: usize) -> Option<usize> {
        let head = *payload.get(at)?;
        at += 1;
        let layers = (head >> 5) + 1;
        self.spatial_layers = Some(layers);
        if head & 0x10 != 0 {
            self.resolution = Some((u16_at(payload, at)?, u16_at(payload, at + 2)?));
            at += usize::from(layers) * 4;
        }
        if head & 0x08 != 0 {
            let pictures = *payload.get(at)?;
            at += 1;
            for _ in 0..pictures {
                let references = *payload.get(at)? >> 2 & 0x03;
                at += 1 + usize::from(references);
            }
        }
        Some(at)
    }
}

/// Steps over the P_DIFF bytes at `at`: the lowest bit of each says that another follows.
fn skip_references(payload: &[u8], mut at: usize) -> Option<usize> {
    for _ in 0..MAX_REFERENCES {
        let byte = *payload.get(at)?;
        at += 1;
        if byte & 0x01 == 0 {
            return Some(at);
        }
    }
    None
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
    // A key picture's lowest layer refers to nothing: no earlier picture (P = 0), no lower layer (SID = 0).
    let lowest = descriptor.spatial.unwrap_or(0) == 0;
    let refers_to_nothing = descriptor.frame_start && !descriptor.inter_predicted && lowest;
    // Some senders never set P, as Pion's payloader. Without layers or their structure, which libwebrtc puts in front of each key
    // picture, the frame itself tells.
    let is_doubtful = descriptor.spatial.is_none() && descriptor.spatial_layers.is_none();
    let key_frame = refers_to_nothing && !(is_doubtful && is_delta(&payload[descriptor.len..]));
    PayloadInfo {
        key_frame,
        frame_start: descriptor.frame_start,
        frame_end: Some(descriptor.frame_end),
        temporal: descriptor.temporal,
        spatial: descriptor.spatial,
        // The RFC's U speaks of the pictures that follow; encoders set it on the picture that itself refers only to
        // lower temporal layers, and forwarders switch on it.
        switching_point: key_frame || descriptor.switching_up,
        discardable: false,
        intra_picture: !descriptor.inter_predicted,
        inter_layer: descriptor.inter_layer,
    }
}

/// Whether a frame says that it is none of its own: the beginning of the uncompressed header of VP9 (section 6.2 of its
/// specification). False for what is no such header, as an encrypted frame.
///
/// ```text
///     |1 0|profile|(reserved, profile 3)|show existing frame|frame type: 0 is a key frame| ...
/// ```
fn is_delta(frame: &[u8]) -> bool {
    let Some(first) = frame.first().filter(|first| *first >> 6 == 0b10) else { return false };
    let shows_existing = if first >> 4 & 0b11 == 0b11 { 2 } else { 3 };
    first >> (shows_existing - 1) & 0b11 != 0
}

/// The size in the scalability structure: that of the lowest spatial layer.
pub fn picture_size(payload: &[u8]) -> Option<PictureSize> {
    let (width, height) = Descriptor::parse(payload)?.resolution?;
    Some(PictureSize { width: width.into(), height: height.into() })
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use rtp::packetizer::Depacketizer;

    use super::*;
    use crate::rtp::random::Random;

    #[test]
    fn a_descriptor_is_read_as_another_implementation_reads_it() {
        let mut random = Random::new(4);
        let (mut flexible, mut fixed, mut structures) = (0, 0, 0);
        for _ in 0..50_000 {
            let mut payload = random.bytes(40);
            if payload[0] & 0x02 != 0 {
                // The crate takes two reserved bits of the scalability structure for G.
                payload[1..].iter_mut().for_each(|byte| *byte &= !0x06);
            }
            let mut theirs = rtp::codecs::vp9::Vp9Packet::default();
            let Ok(body) = theirs.depacketize(&Bytes::from(payload.clone())) else { continue };
            // The crate refuses spatial layers from 5 on; what it takes, both read alike.
            let Some(ours) = Descriptor::parse(&payload) else { panic!("{payload:?}: only they read it") };
            assert_eq!(payload.len() - body.len(), ours.len, "{payload:?}");
            assert_eq!(theirs.picture_id, ours.ids.picture_id.map_or(0, |id| id.value));
            assert_eq!(theirs.tl0picidx, ours.ids.tl0_picture.map_or(0, |(value, _)| value));
            assert_eq!(
                (theirs.p, theirs.f, theirs.b, theirs.e, theirs.z),
                (ours.inter_predicted, ours.flexible, ours.frame_start, ours.frame_end, ours.not_for_upper_spatial)
            );
            assert_eq!((theirs.tid, theirs.sid), (ours.temporal.unwrap_or(0), ours.spatial.unwrap_or(0)));
            assert_eq!((theirs.u, theirs.d), (ours.switching_up, ours.inter_layer));
            if theirs.v {
                assert_eq!(ours.spatial_layers, Some(theirs.ns + 1));
                assert_eq!(ours.resolution, theirs.width.first().map(|w| (*w, theirs.height[0])));
                structures += 1;
            }
            flexible += u32::from(ours.flexible);
            fixed += u32::from(!ours.flexible);
        }
        assert!(flexible > 1000 && fixed > 1000 && structures > 1000, "{flexible} {fixed} {structures}");
    }

    #[test]
    fn a_payload_tells_its_frame() {
        let base = PayloadInfo {
            frame_start: true,
            frame_end: Some(false),
            temporal: Some(0),
            spatial: Some(0),
            ..PayloadInfo::default()
        };
        let intra = PayloadInfo { intra_picture: true, ..base };
        let key = PayloadInfo { key_frame: true, switching_point: true, ..intra };
        for (name, payload, expected) in [
            ("key, not flexible", &[0xA8, 0x05, 0x00, 0x07][..], key),
            ("key, flexible", &[0xB8, 0x05, 0x00], key),
            ("key, without layers", &[0x88, 0x05], PayloadInfo { temporal: None, spatial: None, ..key }),
            ("key, second packet", &[0xA0, 0x05, 0x00, 0x07], PayloadInfo { frame_start: false, ..intra }),
            (
                "key picture, layer 1",
                &[0xA8, 0x05, 0x03, 0x07],
                PayloadInfo { spatial: Some(1), inter_layer: true, ..intra },
            ),
            ("delta, flexible", &[0xF8, 0x05, 0x00, 0x02], base),
            ("delta, three references", &[0xF8, 0x05, 0x00, 0x03, 0x05, 0x06], base),
            ("four references", &[0xF8, 0x05, 0x00, 0x03, 0x05, 0x07, 0x08], PayloadInfo::default()),
            (
                "layer 2, switching up, last packet",
                &[0xEC, 0x05, 0x50, 0x07],
                PayloadInfo { temporal: Some(2), switching_point: true, frame_end: Some(true), ..base },
            ),
            ("cut", &[0xA8, 0x05, 0x00], PayloadInfo::default()),
            ("empty", &[], PayloadInfo::default()),
        ] {
            assert_eq!(inspect(payload), expected, "{name}");
        }
    }

    #[test]
    fn where_no_descriptor_tells_a_key_frame_from_others_the_frame_does() {
        // Pion's descriptors: flexible, a picture id, no reference ever.
        let (first, next) = ([0x98, 0x81, 0x02], [0x90, 0x81, 0x02]);
        for (name, descriptor, frame, expected) in [
            ("key", &first[..], 0x82, true),
            ("delta", &first, 0x86, false),
            ("an earlier frame is shown", &first, 0x88, false),
            ("key of profile 3", &first, 0xB1, true),
            ("delta of profile 3", &first, 0xB3, false),
            ("a shown one of profile 3", &first, 0xB4, false),
            ("encrypted", &first, 0x46, true),
            ("second packet", &next, 0x82, false),
            ("ffmpeg's, delta", &[0x08], 0x86, false),
            ("with its structure", &[0x9A, 0x81, 0x02, 0x00], 0x86, true),
            ("with layers", &[0xA8, 0x05, 0x00, 0x07], 0x86, true),
        ] {
            let payload = [descriptor, &[frame, 7, 7]].concat();
            let info = inspect(&payload);
            assert_eq!((info.key_frame, info.switching_point), (expected, expected), "{name}");
        }
    }

    #[test]
    fn rewriting_changes_the_two_fields_and_nothing_else() {
        for (before, after) in [
            (&[0xA8, 0x85, 0x01, 0x00, 0x07, 9][..], &[0xA8, 0x92, 0x34, 0x00, 0x56, 9][..]),
            (&[0xB8, 0x05, 0x00, 9], &[0xB8, 0x34, 0x00, 9]),
            (&[0x08, 9], &[0x08, 9]),
        ] {
            let mut payload = before.to_vec();
            rewrite(&mut payload, 0x1234, 0x56);
            assert_eq!(payload, after);
        }
    }
}
