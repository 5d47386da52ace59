//! Picture ids (VP8, VP9) and frame numbers (dependency descriptor) that go on without a jump when a forward switches from
//! one encoding to another.

use serde::{Deserialize, Serialize};

use moonring_wire::media::CodecName;
use moonring_wire::rtp::codec::{PictureIds, vp8, vp9};
use moonring_wire::rtp::dependency::{Links, shift_frame_number};

/// Picture ids count modulo this (15 bits).
const ROUND: u16 = 1 << 15;

/// What is added (wrapping) to the picture id, to TL0PICIDX and to the frame number of every packet of one numbering.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PictureShift {
    id: u16,
    tl0: u8,
    frame: u16,
}

/// The last numbers sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastPicture {
    id: Option<u16>,
    tl0: Option<u8>,
    frame: Option<u16>,
}

impl LastPicture {
    /// The shift with which the picture of `payload`, whose frame has these links, follows the last one sent.
    pub fn shift_for(&self, codec: CodecName, payload: &[u8], links: Links) -> PictureShift {
        let last = self.frame.filter(|_| links.described);
        let frame = last.map_or(0, |last| last.wrapping_add(1).wrapping_sub(links.number));
        let Some(ids) = picture_ids(codec, payload) else { return PictureShift { frame, ..PictureShift::default() } };
        let next = |last: u16, value: u16| last.wrapping_add(1).wrapping_sub(value) % ROUND;
        PictureShift {
            id: self.id.zip(ids.picture_id).map_or(0, |(last, id)| next(last, id.value)),
            tl0: self.tl0.zip(ids.tl0_picture).map_or(0, |(last, (tl0, _))| last.wrapping_add(1).wrapping_sub(tl0)),
            frame,
        }
    }

    /// Notes that `payload` was sent with `shift`.
    pub fn note(&mut self, codec: CodecName, payload: &[u8], (links, shift): (Links, PictureShift)) {
        if links.described {
            self.frame = Some(links.number.wrapping_add(shift.frame));
        }
        let Some(ids) = picture_ids(codec, payload) else { return };
        self.id = ids.picture_id.map(|id| id.value.wrapping_add(shift.id) % ROUND).or(self.id);
        self.tl0 = ids.tl0_picture.map(|(tl0, _)| tl0.wrapping_add(shift.tl0)).or(self.tl0);
    }
}

impl PictureShift {
    /// The shift of a picture before which `pictures` more were left out.
    pub fn without(self, pictures: u16) -> Self {
        Self { id: self.id.wrapping_sub(pictures) % ROUND, ..self }
    }

    /// Shifts the number in a dependency descriptor about to leave.
    pub fn apply_to_descriptor(self, descriptor: &mut [u8]) {
        shift_frame_number(descriptor, self.frame);
    }

    /// Shifts the numbers in a payload about to leave.
    pub fn apply(self, codec: CodecName, payload: &mut [u8]) {
        if (self.id, self.tl0) == (0, 0) {
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

    /// One with a 7-bit picture id.
    fn vp8_short(id: u8, tl0: u8) -> [u8; 6] {
        [0x90, 0xE0, id, tl0, 0x20, 0x00]
    }

    enum Step<'a> {
        /// What comes, and how it leaves.
        Send(&'a [u8], &'a [u8]),
        /// What comes next is of another encoding.
        Switch,
    }
    use Step::{Send, Switch};

    fn check(steps: &[Step<'_>]) {
        let (mut last, mut shift, mut switched) = (LastPicture::default(), PictureShift::default(), true);
        for (n, step) in steps.iter().enumerate() {
            let Send(payload, expected) = step else {
                switched = true;
                continue;
            };
            if std::mem::take(&mut switched) {
                shift = last.shift_for(CodecName::Vp8, payload, Links::default());
            }
            last.note(CodecName::Vp8, payload, (Links::default(), shift));
            let mut out = payload.to_vec();
            shift.apply(CodecName::Vp8, &mut out);
            assert_eq!(out, *expected, "step {n}");
        }
    }

    #[test]
    fn the_first_source_keeps_its_numbers_over_their_wrap() {
        check(&[Send(&vp8(32_767, 255), &vp8(32_767, 255)), Send(&vp8(0, 0), &vp8(0, 0))]);
    }

    #[test]
    fn the_pictures_after_a_switch_follow_the_last_one_sent() {
        check(&[
            Send(&vp8(0x7FFE, 254), &vp8(0x7FFE, 254)),
            Send(&vp8(0x7FFF, 255), &vp8(0x7FFF, 255)),
            Switch,
            Send(&vp8(500, 9), &vp8(0, 0)),
            Send(&vp8(500, 9), &vp8(0, 0)), // another packet of the picture
            Send(&vp8(501, 10), &vp8(1, 1)),
            Switch,
            Send(&vp8(5, 0), &vp8(2, 2)),
        ]);
    }

    #[test]
    fn short_picture_ids_go_on_over_their_wrap_and_to_long_ones() {
        check(&[
            Send(&vp8_short(126, 0), &vp8_short(126, 0)),
            Send(&vp8_short(127, 1), &vp8_short(127, 1)),
            Send(&vp8_short(0, 2), &vp8_short(0, 2)),
            Switch,
            Send(&vp8_short(50, 9), &vp8_short(1, 3)),
            Send(&vp8_short(51, 10), &vp8_short(2, 4)),
            Switch,
            Send(&vp8(9_000, 200), &vp8(3, 5)),
        ]);
    }

    #[test]
    fn without_picture_ids_the_other_number_still_continues() {
        let only_tl0 = |tl0| [0x90, 0x60, tl0, 0x20, 0x00];
        let neither = [0x10, 0x00];
        check(&[
            Send(&only_tl0(5), &only_tl0(5)),
            Send(&neither, &neither),
            Switch,
            Send(&only_tl0(100), &only_tl0(6)),
            Send(&only_tl0(101), &only_tl0(7)),
        ]);
    }

    #[test]
    fn the_frames_after_a_switch_follow_the_last_one_sent() {
        let frame = |number: u16| Links { described: true, number, ..Links::default() };
        let mut last = LastPicture::default();
        let first = last.shift_for(CodecName::Av1, &[], frame(65_535));
        assert_eq!(first, PictureShift::default());
        last.note(CodecName::Av1, &[], (frame(65_535), first));
        let shift = last.shift_for(CodecName::Av1, &[], frame(9_000));
        let mut descriptor = [0x80, 0x23, 0x28];
        shift.apply_to_descriptor(&mut descriptor);
        assert_eq!(descriptor, [0x80, 0, 0]);
    }
}
