//! The dependency descriptor (RTP payload format for AV1, appendix A): a header extension that says of any codec's frame
//! which spatial and temporal layer it is of, and which earlier frames it needs. A key frame brings a [`Structure`] of
//! templates, every frame names one of them and says where it differs.
//!
//! ```text
//! |S|E| template id |  S: first packet of a frame, E: last packet
//! |  frame number   |
//! |  (16 bits)      |
//! |T|A|I|D|C| ...   |  only in longer descriptors. T: a structure follows, A: the active decode targets,
//!                      I: own indications, D: own differences to the frames it needs, C: own chains
//! ```

mod structure;

pub use structure::{MAX_SPATIAL, MAX_TEMPORAL, Structure};

use super::bits::Bits;

/// How a frame takes part in a decode target (appendix A.4).
const DISCARDABLE: u64 = 1;
const SWITCH: u64 = 2;
/// Differences of a frame of its own that are read; encoders have a handful of references.
const MAX_DIFFERENCES: usize = 16;

/// The part of the dependency descriptor that every packet has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mandatory {
    /// The packet is the first of its frame.
    pub frame_start: bool,
    /// The packet is the last of its frame.
    pub frame_end: bool,
    /// Which of the structure's templates the frame is of.
    pub template_id: u8,
    /// Counts frames, in coding order.
    pub frame_number: u16,
    /// A template dependency structure is attached, as encoders do to key frames.
    pub has_structure: bool,
}

impl Mandatory {
    /// Reads the beginning of a dependency descriptor.
    pub fn parse(descriptor: &[u8]) -> Option<Self> {
        let ([flags, high, low], rest) = descriptor.split_first_chunk()?;
        Some(Self {
            frame_start: flags & 0x80 != 0,
            frame_end: flags & 0x40 != 0,
            template_id: flags & 0x3F,
            frame_number: u16::from_be_bytes([*high, *low]),
            has_structure: rest.first().is_some_and(|byte| byte & 0x80 != 0),
        })
    }
}

/// Adds `shift` (wrapping) to the frame number of a descriptor about to leave; the length stays.
pub fn shift_frame_number(descriptor: &mut [u8], shift: u16) {
    if let Some([_, high, low]) = descriptor.first_chunk_mut() {
        [*high, *low] = u16::from_be_bytes([*high, *low]).wrapping_add(shift).to_be_bytes();
    }
}

/// What a frame needs, and who may begin with it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Links {
    /// False for a frame without a descriptor: then the rest is 0.
    pub described: bool,
    /// Its number, in coding order.
    pub number: u16,
    /// Bit `t`: whoever decodes this frame can take temporal layer `t` of its spatial layer from here on.
    pub switches: u8,
    /// Bit `k`: it needs the frame whose number is smaller by `k + 1`. What it needs of older ones is not told.
    pub needs: u64,
}

/// A descriptor that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// The spatial layer.
    pub spatial: u8,
    /// The temporal layer.
    pub temporal: u8,
    /// Some decode target can be taken from this frame on.
    pub is_switch: bool,
    /// What it needs.
    pub links: Links,
    /// No frame of any decode target needs it.
    pub discardable: bool,
    /// A bit for each decode target that the publisher sends from now on; `None`: as before.
    pub active_targets: Option<u32>,
    /// The structure that it brings.
    pub structure: Option<Box<Structure>>,
}

impl Frame {
    /// Reads a descriptor. `known` is the structure of the frames before, for one that brings none. `None` when it is cut
    /// short, broken, or names a template that is not there.
    pub fn parse(descriptor: &[u8], known: Option<&Structure>) -> Option<Self> {
        let mandatory = Mandatory::parse(descriptor)?;
        let mut bits = Bits::new(descriptor, EXTENDED_FLAGS);
        // Section A.8.1: descriptors of three bytes have none of the flags.
        let flags = if descriptor.len() > 3 { bits.read(5)? } else { 0 };
        let has = |bit: u64| flags & bit != 0;
        let structure = if has(0b10000) { Some(Box::new(Structure::read(&mut bits)?)) } else { None };
        let current = structure.as_deref().or(known)?;
        let targets = current.decode_targets();
        let active_targets = if has(0b01000) { Some(bits.read(targets)? as u32) } else { None };
        let template = current.template(mandatory.template_id)?;
        let indications = if has(0b00100) { bits.read_pairs(targets)? } else { template.indications };
        let needs = if has(0b00010) { read_differences(&mut bits)? } else { template.needs };
        if has(0b00001) {
            // A forwarder that leaves out nothing that is needed has no use for the chains; they have to be there.
            bits.read(8 * current.chains())?;
        }
        let is_switch = (0..targets).any(|n| indications >> (2 * n) & 3 == SWITCH);
        let mut all = (0..targets).map(|n| indications >> (2 * n) & 3).filter(|indication| *indication != 0).peekable();
        let is_in_any = all.peek().is_some();
        let discardable = is_in_any && all.all(|indication| indication == DISCARDABLE);
        let switches = current.switches(template.spatial, indications);
        let links = Links { described: true, number: mandatory.frame_number, switches, needs };
        let (spatial, temporal) = (template.spatial, template.temporal);
        Some(Self { spatial, temporal, is_switch, links, discardable, active_targets, structure })
    }
}

/// Offset of the five flags after the mandatory part, in bits.
const EXTENDED_FLAGS: usize = 24;

/// A frame's own differences: the size of each in units of four bits, 0 at the end.
fn read_differences(bits: &mut Bits<'_>) -> Option<u64> {
    let mut needs = 0;
    for _ in 0..=MAX_DIFFERENCES {
        let size = bits.read(2)? as usize;
        if size == 0 {
            return Some(needs);
        }
        needs |= 1_u64.checked_shl(bits.read(4 * size)? as u32).unwrap_or(0);
    }
    None
}

#[cfg(test)]
mod tests;
