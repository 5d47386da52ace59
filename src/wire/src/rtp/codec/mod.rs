//! What a forwarder must know of a payload, codec by codec. Nothing here decodes; it reads payload descriptors and the
//! first bits of a frame.

pub mod av1;
pub mod h264;
mod sps;
pub mod vp8;
pub mod vp9;

use super::dependency::Frame;
use crate::media::CodecName;

/// What one packet's payload says of its frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PayloadInfo {
    /// A receiver can begin here: the packet starts a key frame (of the lowest spatial layer).
    pub key_frame: bool,
    /// The packet is the first of its frame (with spatial layers: of its layer's frame).
    pub frame_start: bool,
    /// The packet is the last of its frame (with spatial layers: of its layer's frame); `None` where only the RTP marker bit says so.
    pub frame_end: Option<bool>,
    /// The frame's temporal layer, if the payload says.
    pub temporal: Option<u8>,
    /// The frame's spatial layer, if the payload says.
    pub spatial: Option<u8>,
    /// A receiver of lower temporal layers can take this frame's layer from here on.
    pub switching_point: bool,
    /// No other frame needs this one.
    pub discardable: bool,
    /// The frame refers to no earlier picture, to a lower spatial layer of its own at most, as far as the payload says.
    pub intra_picture: bool,
    /// The frame refers to the next lower spatial layer of its picture, as far as the payload says.
    pub inter_layer: bool,
}

impl PayloadInfo {
    /// Whether a key frame begins with the packet.
    pub fn begins_key_frame(&self) -> bool {
        self.key_frame && self.frame_start
    }

    /// Adds what the frame's dependency descriptor says.
    pub fn complete(&mut self, frame: &Frame) {
        (self.spatial, self.temporal) = (Some(frame.spatial), Some(frame.temporal));
        self.switching_point |= frame.is_switch;
        self.discardable = frame.discardable;
        self.key_frame &= frame.spatial == 0;
    }
}

/// Looks into a decrypted payload. `dependency_descriptor` is the value of AV1's header extension, if the packet has it.
/// A payload that is broken says nothing: it is never a key frame.
pub fn inspect(codec: CodecName, payload: &[u8], dependency_descriptor: Option<&[u8]>) -> PayloadInfo {
    match codec {
        // Every packet of sound is a frame that needs no other.
        CodecName::Opus => PayloadInfo {
            key_frame: true,
            frame_start: true,
            frame_end: Some(true),
            switching_point: true,
            discardable: true,
            ..PayloadInfo::default()
        },
        CodecName::Vp8 => vp8::inspect(payload),
        CodecName::Vp9 => vp9::inspect(payload),
        CodecName::H264 => h264::inspect(payload),
        CodecName::Av1 => av1::inspect(payload, dependency_descriptor),
    }
}

/// The pixels of a picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PictureSize {
    /// In a row.
    pub width: u32,
    /// Rows.
    pub height: u32,
}

impl PictureSize {
    /// All of them.
    pub fn pixels(self) -> u64 {
        u64::from(self.width) * u64::from(self.height)
    }
}

/// The size of the pictures that begin with this packet of a key frame, where it says so.
pub fn picture_size(codec: CodecName, payload: &[u8]) -> Option<PictureSize> {
    match codec {
        CodecName::Opus => None,
        CodecName::Vp8 => vp8::picture_size(payload),
        CodecName::Vp9 => vp9::picture_size(payload),
        CodecName::H264 => sps::picture_size(payload),
        CodecName::Av1 => av1::picture_size(payload),
    }
}

/// The picture numbers of a payload descriptor (VP8, VP9) and where they stand in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PictureIds {
    /// The picture id, of 7 or 15 bits.
    pub picture_id: Option<PictureId>,
    /// The index of the picture of temporal layer 0 that this one belongs to (TL0PICIDX), and its offset.
    pub tl0_picture: Option<(u8, usize)>,
}

/// A picture id in a payload descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PictureId {
    /// Its value.
    pub value: u16,
    /// It has 15 bits in two bytes, not 7 in one.
    pub wide: bool,
    /// Its offset in the payload.
    pub at: usize,
}

impl PictureId {
    /// Reads the field at `at`: the first bit says whether it is two bytes long.
    fn read(payload: &[u8], at: usize) -> Option<Self> {
        let first = *payload.get(at)?;
        if first & 0x80 == 0 {
            return Some(Self { value: u16::from(first), wide: false, at });
        }
        let value = u16::from_be_bytes([first & 0x7F, *payload.get(at + 1)?]);
        Some(Self { value, wide: true, at })
    }

    fn len(self) -> usize {
        if self.wide { 2 } else { 1 }
    }
}

impl PictureIds {
    /// Writes other numbers in the place of these. The lengths stay; a field that is not there is left out, and a
    /// picture id of 7 bits gets the low 7.
    fn patch(&self, payload: &mut [u8], picture_id: u16, tl0_picture: u8) {
        if let Some(id) = self.picture_id {
            let [high, low] = picture_id.to_be_bytes();
            match payload.get_mut(id.at..id.at + id.len()) {
                Some([a, b]) => (*a, *b) = (high | 0x80, low),
                Some([a]) => *a = low & 0x7F,
                _ => {}
            }
        }
        if let Some((_, at)) = self.tl0_picture
            && let Some(byte) = payload.get_mut(at)
        {
            *byte = tl0_picture;
        }
    }
}
