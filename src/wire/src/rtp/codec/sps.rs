//! The size in an H.264 sequence parameter set (H.264 section 7.3.2.1.1).

use super::PictureSize;
use super::h264::{Rbsp, SPS, STAP_A, units};
use crate::rtp::bits::Bits;

/// So much of a unit is read: what stands in front of the size is shorter.
const MAX_READ: usize = 512;
/// The profiles whose parameters tell of chroma and of scaling lists.
const HIGH_PROFILES: [u64; 13] = [44, 83, 86, 100, 110, 118, 122, 128, 134, 135, 138, 139, 244];
/// Edge of a macroblock, in pixels.
const MACROBLOCK: u64 = 16;
/// More macroblocks in a row, or rows, than any level allows (section A.3.1): the square root of 8 times MaxFS.
const MAX_MACROBLOCKS: u64 = 1_055;

/// The size in the parameters that a payload carries, in whole macroblocks: what is cropped counts.
pub(super) fn picture_size(payload: &[u8]) -> Option<PictureSize> {
    let unit = match payload.first()? & 0x1F {
        SPS => payload,
        STAP_A => units(&payload[1..]).find(|unit| unit.first().is_some_and(|head| head & 0x1F == SPS))?,
        _ => return None,
    };
    let bytes: Vec<u8> = Rbsp::new(unit.get(1..)?).take(MAX_READ).collect();
    Parameters { bits: Bits::new(&bytes, 0) }.size()
}

struct Parameters<'a> {
    bits: Bits<'a>,
}

impl Parameters<'_> {
    fn size(&mut self) -> Option<PictureSize> {
        let profile = self.bits.read(8)?;
        // Constraints and the level.
        self.bits.read(16)?;
        self.unsigned()?;
        if HIGH_PROFILES.contains(&profile) {
            self.skip_chroma()?;
        }
        self.skip_order()?;
        // max_num_ref_frames, gaps_in_frame_num_value_allowed_flag.
        self.unsigned()?;
        self.bits.read(1)?;
        let (across, down) = (self.unsigned()? + 1, self.unsigned()? + 1);
        // Without frame_mbs_only_flag they are pairs of rows.
        let down = down * (2 - self.bits.read(1)?);
        if across > MAX_MACROBLOCKS || down > MAX_MACROBLOCKS {
            return None;
        }
        Some(PictureSize { width: (across * MACROBLOCK) as u32, height: (down * MACROBLOCK) as u32 })
    }

    fn skip_chroma(&mut self) -> Option<()> {
        let chroma_format = self.unsigned()?;
        if chroma_format == 3 {
            self.bits.read(1)?;
        }
        self.unsigned()?;
        self.unsigned()?;
        self.bits.read(1)?;
        if self.bits.read(1)? == 1 {
            for n in 0..if chroma_format == 3 { 12 } else { 8 } {
                if self.bits.read(1)? == 1 {
                    self.skip_scaling_list(if n < 6 { 16 } else { 64 })?;
                }
            }
        }
        Some(())
    }

    /// Section 7.3.2.1.1.1.
    fn skip_scaling_list(&mut self, len: usize) -> Option<()> {
        let (mut last, mut next) = (8, 8);
        for _ in 0..len {
            if next != 0 {
                next = (last + self.signed()?).rem_euclid(256);
            }
            last = if next == 0 { last } else { next };
        }
        Some(())
    }

    /// What says in which order pictures are shown.
    fn skip_order(&mut self) -> Option<()> {
        self.unsigned()?;
        match self.unsigned()? {
            0 => drop(self.unsigned()?),
            1 => {
                self.bits.read(1)?;
                self.unsigned()?;
                self.unsigned()?;
                for _ in 0..self.unsigned()?.min(255) {
                    self.unsigned()?;
                }
            }
            _ => {}
        }
        Some(())
    }

    /// ue(v), of 32 bits at most (section 9.1).
    fn unsigned(&mut self) -> Option<u64> {
        let mut zeros = 0;
        while self.bits.read(1)? == 0 {
            zeros += 1;
            if zeros > 31 {
                return None;
            }
        }
        Some((1 << zeros) - 1 + self.bits.read(zeros)?)
    }

    /// se(v) (section 9.1.1).
    fn signed(&mut self) -> Option<i64> {
        let number = self.unsigned()? as i64;
        Some(if number % 2 == 0 { -number / 2 } else { (number + 1) / 2 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Parameters that x264 has written, with the size that it was given.
    const WRITTEN: [(&str, &str, (u32, u32)); 6] = [
        ("baseline", "6742c01ed900a02ff9610000030001000003003c8f162e48", (640, 360)),
        ("high", "6764001facb200a00b7420000003002000000791e30649", (1280, 720)),
        ("with scaling lists", "6764000dacd941419f9e10000003001000000303c0f1429960", (320, 180)),
        ("4:4:4 with scaling lists", "67f4000b919b2851b420000003002000000781e28532c0", (160, 96)),
        ("interlaced", "67640028acd94078044fdc20000003002000000783e2c5b2c0", (1920, 1080)),
        ("10 bits", "676e001fa6cd940d43da10000003001000000303c0f1831960", (848, 480)),
    ];

    fn bytes(hex: &str) -> Vec<u8> {
        (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
    }

    fn in_macroblocks(side: u32) -> u32 {
        side.next_multiple_of(16)
    }

    #[test]
    fn parameters_tell_the_size_of_pictures() {
        for (name, unit, (width, height)) in WRITTEN {
            let unit = bytes(unit);
            // Fields are coded in pairs of rows of macroblocks.
            let height = if name == "interlaced" { 1_088 } else { in_macroblocks(height) };
            let size = Some(PictureSize { width: in_macroblocks(width), height });
            assert_eq!(picture_size(&unit), size, "{name}");
            let aggregated = [&[0x78, 0, 2, 0x09, 0xF0, 0, unit.len() as u8][..], &unit].concat();
            assert_eq!(picture_size(&aggregated), size, "{name}, behind another unit");
            for len in 0..8 {
                assert_eq!(picture_size(&unit[..len]), None, "{name}, cut to {len}");
            }
        }
        assert_eq!(picture_size(&[0x65, 0x88, 0x84]), None, "a slice");
    }
}
