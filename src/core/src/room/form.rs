//! How the payload of a packet about to leave is made of the one that came.

use super::pictures::PictureShift;
use moonring_wire::id::Pt;
use moonring_wire::media::CodecName;

/// What becomes of the packets of the past in a packet of sound (RFC 2198).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Redundancy {
    /// It has none.
    #[default]
    None,
    /// The client takes no such packets: only the packet's own payload leaves.
    Removed,
    /// All leave, as the client's payload types.
    Kept {
        /// That of the packet.
        red: Pt,
        /// That of what is inside.
        inner: Pt,
    },
}

/// All of it, so that the same packet can be made again.
#[derive(Clone, Copy, Debug)]
pub(super) struct Form {
    /// Bytes of padding behind it.
    pub(super) padding: u8,
    pub(super) codec: CodecName,
    pub(super) pictures: PictureShift,
    pub(super) redundancy: Redundancy,
}
