//! What the header extensions of one packet say, by the ids that its sender gave them.

use std::ops::Range;

use crate::room::history::KeptExtensions;
use moonring_wire::media::{Extension, ExtensionIds};
use moonring_wire::rtp::extension::{parse_text, parse_transport_sequence};
use moonring_wire::rtp::header::Header;

/// The values that every packet is looked at for.
#[derive(Clone, Debug, Default)]
pub(super) struct HeaderExtensions {
    /// The transport-wide sequence number.
    pub(super) transport_sequence: Option<u16>,
    /// What is passed on.
    pub(super) kept: KeptExtensions,
    /// The ids of the section that it was read as a packet of.
    pub(super) ids: ExtensionIds,
    descriptor: Range<usize>,
    mid: Range<usize>,
}

impl HeaderExtensions {
    /// Reads the elements of an authenticated packet.
    pub(super) fn read(header: &Header, packet: &[u8], ids: &ExtensionIds) -> Self {
        let mut elements = Self { ids: *ids, ..Self::default() };
        for (id, value) in header.extensions(packet) {
            let kept = &mut elements.kept;
            match ids.find(id) {
                Some(Extension::TransportSequence) => elements.transport_sequence = parse_transport_sequence(value),
                Some(Extension::AudioLevel) => kept.audio_level = value.first().copied(),
                Some(Extension::VideoOrientation) => kept.orientation = value.first().copied(),
                Some(Extension::PlayoutDelay) => kept.playout_delay = value.try_into().ok(),
                Some(Extension::DependencyDescriptor) => {
                    elements.descriptor = range_in(packet, value);
                }
                Some(Extension::Mid) => elements.mid = range_in(packet, value),
                _ => {}
            }
        }
        elements
    }

    /// The media section that the packet names, if it does.
    pub(super) fn mid<'p>(&self, packet: &'p [u8]) -> Option<&'p str> {
        if self.mid.is_empty() { None } else { parse_text(packet.get(self.mid.clone())?) }
    }

    /// The dependency descriptor; empty without one.
    pub(super) fn descriptor<'p>(&self, packet: &'p [u8]) -> &'p [u8] {
        packet.get(self.descriptor.clone()).unwrap_or_default()
    }
}

/// Where in `packet` its part `value` lies.
fn range_in(packet: &[u8], value: &[u8]) -> Range<usize> {
    let start = value.as_ptr() as usize - packet.as_ptr() as usize;
    start..start + value.len()
}

/// The names by which a stream is recognised the first time.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Names<'p> {
    /// Its media section.
    pub(super) mid: Option<&'p str>,
    /// Its simulcast layer.
    pub(super) rid: Option<&'p str>,
    /// The simulcast layer that it repairs.
    pub(super) repaired_rid: Option<&'p str>,
}

impl<'p> Names<'p> {
    /// The layer of a packet of media, or of one of retransmissions.
    pub(super) fn rid_of(&self, rtx: bool) -> Option<&'p str> {
        if rtx { self.repaired_rid.or(self.rid) } else { self.rid }
    }

    /// Reads the names in an authenticated packet.
    pub(super) fn read(header: &Header, packet: &'p [u8], ids: &ExtensionIds) -> Self {
        let mut names = Self::default();
        for (id, value) in header.extensions(packet) {
            match ids.find(id) {
                Some(Extension::Mid) => names.mid = parse_text(value),
                Some(Extension::Rid) => names.rid = parse_text(value),
                Some(Extension::RepairedRid) => names.repaired_rid = parse_text(value),
                _ => {}
            }
        }
        names
    }
}
