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
    descriptor: Range<usize>,
}

impl HeaderExtensions {
    /// Reads the elements of an authenticated packet.
    pub(super) fn read(header: &Header, packet: &[u8], ids: &ExtensionIds) -> Self {
        let mut elements = Self::default();
        for (id, value) in header.extensions(packet) {
            let kept = &mut elements.kept;
            match ids.find(id) {
                Some(Extension::TransportSequence) => elements.transport_sequence = parse_transport_sequence(value),
                Some(Extension::AudioLevel) => kept.audio_level = value.first().copied(),
                Some(Extension::VideoOrientation) => kept.orientation = value.first().copied(),
                Some(Extension::PlayoutDelay) => kept.playout_delay = value.try_into().ok(),
                Some(Extension::DependencyDescriptor) => {
                    let start = value.as_ptr() as usize - packet.as_ptr() as usize;
                    elements.descriptor = start..start + value.len();
                }
                _ => {}
            }
        }
        elements
    }

    /// The dependency descriptor; empty without one.
    pub(super) fn descriptor<'p>(&self, packet: &'p [u8]) -> &'p [u8] {
        packet.get(self.descriptor.clone()).unwrap_or_default()
    }
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
