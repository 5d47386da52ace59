//! A selection as a part of a client's state that goes on elsewhere.

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{PICTURES, Packet, Picture, Selection};

/// Writes the pictures as a list: serde has no arrays of this length.
pub(super) fn serialize<S: Serializer>(pictures: &[Picture; PICTURES], to: S) -> Result<S::Ok, S::Error> {
    pictures[..].serialize(to)
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<[Picture; PICTURES], D::Error> {
    let pictures = Vec::<Picture>::deserialize(from)?;
    pictures.try_into().map_err(|found: Vec<_>| D::Error::invalid_length(found.len(), &"as many pictures as are kept"))
}

impl Selection {
    /// Whether a packet was left out.
    pub fn has_left_out(&self, packet: &Packet) -> bool {
        self.packets.contains(packet.index)
    }

    /// Whether it can be of a numbering whose first packet was `first`, and that has none beyond `highest`.
    pub fn is_sound(&self, first: u64, highest: u64) -> bool {
        self.next_place < PICTURES
            && self.newest_picture.is_none_or(|place| place < PICTURES)
            && self.packets.is_sound(first, highest)
    }
}
