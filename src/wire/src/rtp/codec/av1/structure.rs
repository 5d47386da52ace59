//! The template dependency structure of AV1's dependency descriptor (RTP payload format for AV1, appendix A): a key
//! frame carries a list of templates, every frame names one, and so its layers are known without looking at a payload.

use super::Mandatory;
use crate::rtp::codec::PayloadInfo;

/// Template ids have six bits.
const MAX_TEMPLATES: usize = 64;

/// How a frame takes part in a decode target (appendix A.4).
const DISCARDABLE: u64 = 1;
const SWITCH: u64 = 2;

/// The templates of the structure that the last key frame brought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Structure {
    id_offset: u8,
    decode_targets: u32,
    count: usize,
    templates: [Template; MAX_TEMPLATES],
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Template {
    spatial: u8,
    temporal: u8,
    /// Two bits for each decode target, the first target in the lowest.
    indications: u64,
}

impl Structure {
    /// The structure in a descriptor; `None` when it has none or one that is broken.
    pub fn parse(descriptor: &[u8]) -> Option<Self> {
        if !Mandatory::parse(descriptor)?.has_structure {
            return None;
        }
        let mut bits = Bits { bytes: descriptor, at: EXTENDED_FLAGS + 5 };
        let id_offset = bits.read(6)? as u8;
        let decode_targets = bits.read(5)? as u32 + 1;
        let mut structure = Self { id_offset, decode_targets, count: 0, templates: [Template::default(); _] };
        let mut next = Template::default();
        loop {
            *structure.templates.get_mut(structure.count)? = next;
            structure.count += 1;
            match bits.read(2)? {
                0 => {}
                1 => next.temporal += 1,
                2 => (next.spatial, next.temporal) = (next.spatial + 1, 0),
                _ => break,
            }
        }
        for template in &mut structure.templates[..structure.count] {
            template.indications = read_indications(&mut bits, decode_targets)?;
        }
        Some(structure)
    }

    /// Adds what the structure knows of the frame that `descriptor` describes.
    pub fn complete(&self, descriptor: &[u8], info: &mut PayloadInfo) {
        let Some(template) = self.template(descriptor) else { return };
        info.temporal = Some(template.temporal);
        info.spatial = Some(template.spatial);
        let mut targets = (0..self.decode_targets).map(|n| template.indications >> (2 * n) & 3).filter(|i| *i != 0);
        info.switching_point |= targets.clone().any(|indication| indication == SWITCH);
        info.discardable = targets.all(|indication| indication == DISCARDABLE);
        info.key_frame &= template.spatial == 0;
    }

    /// The template of a frame, with the indications that the frame has instead, if any.
    fn template(&self, descriptor: &[u8]) -> Option<Template> {
        let mandatory = Mandatory::parse(descriptor)?;
        let index = usize::from(mandatory.template_id.wrapping_sub(self.id_offset) & 0x3F);
        let mut template = *self.templates[..self.count].get(index)?;
        // The flags: structure, active decode targets, own indications, own differences, own chains. Behind a structure
        // (key frames) the frame's own indications are not looked for.
        let flags = Bits { bytes: descriptor, at: EXTENDED_FLAGS }.read(5).unwrap_or(0);
        if flags & 0b10100 == 0b00100 {
            let active = if flags & 0b01000 != 0 { self.decode_targets } else { 0 };
            let mut bits = Bits { bytes: descriptor, at: EXTENDED_FLAGS + 5 + active as usize };
            template.indications = read_indications(&mut bits, self.decode_targets)?;
        }
        Some(template)
    }
}

/// Offset of the five flags after the mandatory part, in bits.
const EXTENDED_FLAGS: usize = 24;

fn read_indications(bits: &mut Bits<'_>, decode_targets: u32) -> Option<u64> {
    let mut indications = 0;
    for n in 0..decode_targets {
        indications |= bits.read(2)? << (2 * n);
    }
    Some(indications)
}

/// Reads bits from the highest of the first byte on.
struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Bits<'_> {
    fn read(&mut self, count: usize) -> Option<u64> {
        let mut value = 0;
        for _ in 0..count {
            let byte = *self.bytes.get(self.at / 8)?;
            value = value << 1 | u64::from(byte >> (7 - self.at % 8) & 1);
            self.at += 1;
        }
        Some(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes of fields given as (value, bits).
    fn pack(fields: &[(u64, usize)]) -> Vec<u8> {
        let bits: Vec<u8> =
            fields.iter().flat_map(|(value, count)| (0..*count).rev().map(move |n| (value >> n & 1) as u8)).collect();
        bits.chunks(8).map(|byte| byte.iter().enumerate().fold(0, |sum, (n, bit)| sum | bit << (7 - n))).collect()
    }

    /// L2T2: templates (S0 T0), (S0 T1), (S1 T0), (S1 T1), ids from 60 on; targets S1T1, S1T0, S0T1, S0T0.
    fn key_frame() -> Vec<u8> {
        let mut fields = vec![(1, 1), (0, 1), (60, 6), (1, 16), (0b10000, 5), (60, 6), (3, 5)];
        fields.extend([(1, 2), (2, 2), (1, 2), (3, 2)]);
        for indications in [[2, 2, 2, 2], [1, 0, 1, 0], [2, 2, 0, 0], [1, 0, 0, 0]] {
            fields.extend(indications.map(|i| (i, 2)));
        }
        fields.extend([(0, 40)]);
        pack(&fields)
    }

    #[test]
    fn a_frame_has_the_layers_of_its_template() {
        let structure = Structure::parse(&key_frame()).unwrap();
        let mandatory = |template: u64| pack(&[(1, 1), (1, 1), (template, 6), (7, 16)]);
        for (template, expected) in [
            (60, Some((0, 0, true, false))),
            (61, Some((0, 1, false, true))),
            (62, Some((1, 0, true, false))),
            (63, Some((1, 1, false, true))),
            (0, None),
            (59, None),
        ] {
            let mut info = PayloadInfo::default();
            structure.complete(&mandatory(template), &mut info);
            let found = info.spatial.map(|s| (s, info.temporal.unwrap(), info.switching_point, info.discardable));
            assert_eq!(found, expected, "template {template}");
        }
    }

    #[test]
    fn a_frame_can_have_indications_of_its_own() {
        let structure = Structure::parse(&key_frame()).unwrap();
        for (name, flags, expected) in [
            ("own", &[(0b00100, 5)][..], (true, false)),
            ("own, after the active targets", &[(0b01100, 5), (0xF, 4)], (true, false)),
            ("the template's", &[(0b01000, 5), (0xF, 4)], (false, true)),
        ] {
            let mut fields = vec![(1, 1), (1, 1), (61, 6), (7, 16)];
            fields.extend(flags);
            fields.extend([(2, 2), (0, 2), (3, 2), (0, 2), (0, 8)]);
            let mut info = PayloadInfo::default();
            structure.complete(&pack(&fields), &mut info);
            assert_eq!((info.switching_point, info.discardable), expected, "{name}");
        }
    }

    #[test]
    fn a_descriptor_without_a_whole_structure_has_none() {
        let whole = key_frame();
        let needed = (EXTENDED_FLAGS + 5 + 11 + 8 + 32usize).div_ceil(8);
        for len in 0..whole.len() {
            assert_eq!(Structure::parse(&whole[..len]).is_some(), len >= needed, "{len} bytes");
        }
        let endless = pack(&[(1, 1), (0, 1), (0, 6), (1, 16), (0b10000, 5), (0, 6), (0, 5), (0, 64), (0, 64), (0, 64)]);
        assert_eq!(Structure::parse(&endless), None, "65 templates");
    }
}
