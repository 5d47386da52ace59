//! The numbering of pictures across switches between layers.

use moonring_core::room::pictures::{LastPicture, PictureShift};
use moonring_wire::media::CodecName;
use moonring_wire::rtp::dependency::Links;

use super::{Parts, joined};

/// A stream of payloads; one that ends with a zero begins another layer. A payload keeps its length.
pub(super) fn pictures(bytes: &[u8]) {
    let codecs = [CodecName::Vp8, CodecName::Vp9];
    let mut streams = codecs.map(|codec| (codec, LastPicture::default(), PictureShift::default()));
    for payload in Parts(bytes) {
        for (codec, last, shift) in &mut streams {
            if payload.last() == Some(&0) {
                *shift = last.shift_for(*codec, payload, Links::default());
            }
            last.note(*codec, payload, (Links::default(), *shift));
            let mut shifted = payload.to_vec();
            shift.apply(*codec, &mut shifted);
            assert_eq!(shifted.len(), payload.len());
        }
    }
}

pub(super) fn pictures_seeds() -> Vec<Vec<u8>> {
    let payloads: &[&[u8]] = &[
        &[0x90, 0xE0, 0x81, 0x23, 5, 0x20, 0, 0, 0], // VP8: X, I with 15 bits, L, T
        &[0x90, 0xE0, 0x81, 0x24, 6, 0x20, 1, 2, 3], // the next picture
        &[0xAC, 0x81, 0x23, 0x20, 7, 0x18, 0, 2, 0, 2, 0], // VP9: I, L, B, V
    ];
    payloads.iter().map(|payload| joined([*payload, payloads[1], payload])).collect()
}
