//! The template dependency structure (appendix A.8.3): the templates, which decode targets there are, and how large the
//! pictures of the spatial layers are.

use super::{EXTENDED_FLAGS, SWITCH};
use crate::rtp::bits::Bits;

/// Template ids have six bits.
const MAX_TEMPLATES: usize = 64;
/// Spatial layers of a structure (AV1 has two bits for them).
pub const MAX_SPATIAL: usize = 4;
/// Temporal layers of a structure (AV1 has three bits for them).
pub const MAX_TEMPORAL: usize = 8;
/// Differences of a template that are read.
const MAX_DIFFERENCES: usize = 16;

/// The templates that a key frame brought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Structure {
    id_offset: u8,
    chains: usize,
    /// The spatial and temporal layer of each decode target.
    targets: Vec<(u8, u8)>,
    templates: Vec<Template>,
    /// Width and height of each spatial layer in pixels; empty where it does not say.
    resolutions: Vec<(u32, u32)>,
}

/// What frames are like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Template {
    pub(super) spatial: u8,
    pub(super) temporal: u8,
    /// Two bits for each decode target, the first target in the lowest.
    pub(super) indications: u64,
    /// Bit `k`: needs the frame whose number is smaller by `k + 1`.
    pub(super) needs: u64,
}

impl Structure {
    /// The structure in a descriptor; `None` when it has none or one that is broken.
    pub fn parse(descriptor: &[u8]) -> Option<Self> {
        let mut bits = Bits::new(descriptor, EXTENDED_FLAGS);
        if bits.read(5)? & 0b10000 == 0 {
            return None;
        }
        Self::read(&mut bits)
    }

    /// Reads a structure whose first bit is next.
    pub(super) fn read(bits: &mut Bits<'_>) -> Option<Self> {
        let id_offset = bits.read(6)? as u8;
        let decode_targets = bits.read(5)? as usize + 1;
        let mut templates = read_layers(bits)?;
        for template in &mut templates {
            template.indications = bits.read_pairs(decode_targets)?;
        }
        for template in &mut templates {
            template.needs = read_differences(bits)?;
        }
        let chains = bits.read_below(decode_targets as u64 + 1)? as usize;
        if chains > 0 {
            for _ in 0..decode_targets {
                bits.read_below(chains as u64)?;
            }
            bits.read(4 * chains * templates.len())?;
        }
        let spatial_layers = templates.last()?.spatial as usize + 1;
        let mut resolutions = Vec::new();
        if bits.read(1)? == 1 {
            for _ in 0..spatial_layers {
                let (width, height) = (bits.read(16)? as u32 + 1, bits.read(16)? as u32 + 1);
                resolutions.push((width, height));
            }
        }
        let targets = (0..decode_targets).map(|target| layers_of(&templates, target)).collect();
        Some(Self { id_offset, chains, targets, templates, resolutions })
    }

    /// How many decode targets there are: 1 to 32.
    pub fn decode_targets(&self) -> usize {
        self.targets.len()
    }

    /// How many chains there are.
    pub fn chains(&self) -> usize {
        self.chains
    }

    /// How many spatial and temporal layers the decode targets in `active` (a bit for each) have.
    pub fn layers(&self, active: u32) -> (u8, u8) {
        let targets = self.targets.iter().enumerate().filter(|(n, _)| active >> n & 1 == 1).map(|(_, target)| target);
        targets.fold((1, 1), |(s, t), (spatial, temporal)| (s.max(spatial + 1), t.max(temporal + 1)))
    }

    /// The height of the pictures of a spatial layer in pixels, if the structure says.
    pub fn height(&self, spatial: u8) -> Option<u32> {
        self.resolutions.get(usize::from(spatial)).map(|(_, height)| *height)
    }

    pub(super) fn template(&self, id: u8) -> Option<&Template> {
        self.templates.get(usize::from(id.wrapping_sub(self.id_offset) & 0x3F))
    }

    /// A bit for each temporal layer of `spatial` that can be taken from a frame with these indications on.
    pub(super) fn switches(&self, spatial: u8, indications: u64) -> u8 {
        let targets = self.targets.iter().enumerate();
        let switched = targets.filter(|(n, (s, _))| *s == spatial && indications >> (2 * n) & 3 == SWITCH);
        switched.fold(0, |bits, (_, (_, temporal))| bits | 1 << temporal)
    }
}

/// The layers of the templates, which ascend: one field of two bits after each.
fn read_layers(bits: &mut Bits<'_>) -> Option<Vec<Template>> {
    let (mut templates, mut next) = (Vec::new(), Template::default());
    loop {
        if templates.len() == MAX_TEMPLATES {
            return None;
        }
        templates.push(next);
        match bits.read(2)? {
            0 => {}
            1 => next.temporal += 1,
            2 => (next.spatial, next.temporal) = (next.spatial + 1, 0),
            _ => return Some(templates),
        }
        if usize::from(next.spatial) >= MAX_SPATIAL || usize::from(next.temporal) >= MAX_TEMPORAL {
            return None;
        }
    }
}

/// A bit says whether another difference of four bits follows.
fn read_differences(bits: &mut Bits<'_>) -> Option<u64> {
    let mut needs = 0;
    for _ in 0..=MAX_DIFFERENCES {
        if bits.read(1)? == 0 {
            return Some(needs);
        }
        needs |= 1 << bits.read(4)?;
    }
    None
}

/// The layers of a decode target: the highest of the templates that take part in it (appendix A.8.3).
fn layers_of(templates: &[Template], target: usize) -> (u8, u8) {
    let parts = templates.iter().filter(|template| template.indications >> (2 * target) & 3 != 0);
    parts.fold((0, 0), |(s, t), template| (s.max(template.spatial), t.max(template.temporal)))
}
