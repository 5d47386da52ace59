//! Picture ids (VP8, VP9) that go on without a jump when a forward switches from one encoding to another.

use crate::media::CodecName;
use crate::rtp::codec::{PictureIds, vp8, vp9};

/// Picture ids count modulo this (15 bits).
const ROUND: u16 = 1 << 15;

/// What is added (wrapping) to the picture id and to TL0PICIDX of every packet of one numbering.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PictureShift {
    id: u16,
    tl0: u8,
}

/// The last numbers sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LastPicture {
    id: Option<u16>,
    tl0: Option<u8>,
}

impl LastPicture {
    /// The shift with which the picture of `payload` follows the last one sent.
    pub fn shift_for(&self, codec: CodecName, payload: &[u8]) -> PictureShift {
        let Some(ids) = picture_ids(codec, payload) else { return PictureShift::default() };
        let next = |last: u16, value: u16| last.wrapping_add(1).wrapping_sub(value) % ROUND;
        PictureShift {
            id: self.id.zip(ids.picture_id).map_or(0, |(last, id)| next(last, id.value)),
            tl0: self.tl0.zip(ids.tl0_picture).map_or(0, |(last, (tl0, _))| last.wrapping_add(1).wrapping_sub(tl0)),
        }
    }

    /// Notes that `payload` was sent with `shift`.
    pub fn note(&mut self, codec: CodecName, payload: &[u8], shift: PictureShift) {
        let Some(ids) = picture_ids(codec, payload) else { return };
        self.id = ids.picture_id.map(|id| id.value.wrapping_add(shift.id) % ROUND).or(self.id);
        self.tl0 = ids.tl0_picture.map(|(tl0, _)| tl0.wrapping_add(shift.tl0)).or(self.tl0);
    }
}

impl PictureShift {
    /// Shifts the numbers in a payload about to leave.
    pub fn apply(self, codec: CodecName, payload: &mut [u8]) {
        if self == Self::default() {
            return;
        }
        let Some(ids) = picture_ids(codec, payload) else { return };
        let id = ids.picture_id.map_or(0, |id| id.value.wrapping_add(self.id) % ROUND);
        let tl0 = ids.tl0_picture.map_or(0, |(tl0, _)| tl0.wrapping_add(self.tl0));
        match codec {
            CodecName::Vp8 => vp8::rewrite(payload, id, tl0),
            CodecName::Vp9 => vp9::rewrite(payload, id, tl0),
            CodecName::Opus | CodecName::H264 | CodecName::Av1 => {}
        }
    }
}

fn picture_ids(codec: CodecName, payload: &[u8]) -> Option<PictureIds> {
    match codec {
        CodecName::Vp8 => vp8::Descriptor::parse(payload).map(|d| d.ids),
        CodecName::Vp9 => vp9::Descriptor::parse(payload).map(|d| d.ids),
        CodecName::Opus | CodecName::H264 | CodecName::Av1 => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A VP8 payload with a 15-bit picture id and TL0PICIDX.
    fn vp8(id: u16, tl0: u8) -> [u8; 7] {
        let [high, low] = id.to_be_bytes();
        [0x90, 0xE0, high | 0x80, low, tl0, 0x20, 0x00]
    }

    #[test]
    fn the_first_picture_after_a_switch_follows_the_last_one_sent() {
        let mut last = LastPicture::default();
        assert_eq!(last.shift_for(CodecName::Vp8, &vp8(77, 5)), PictureShift::default());
        last.note(CodecName::Vp8, &vp8(0x7FFF, 255), PictureShift::default());
        let shift = last.shift_for(CodecName::Vp8, &vp8(500, 9));
        let mut payload = vp8(501, 10);
        shift.apply(CodecName::Vp8, &mut payload);
        assert_eq!(payload, vp8(1, 1));
    }
}
