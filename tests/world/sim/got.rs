//! What clients receive.

use std::time::Instant;

use moonring_loadtest::media::Stamp;
use moonring_wire::id::Ssrc;
use moonring_wire::rtp::header::Header;

/// What a client received: one packet of media, opened.
#[derive(Clone, Debug)]
pub(crate) struct Got {
    pub(crate) at: Instant,
    pub(crate) ssrc: Ssrc,
    pub(crate) pt: u8,
    pub(crate) sequence: u16,
    pub(crate) timestamp: u32,
    pub(crate) marker: bool,
    /// The publisher's count, of payloads that carry one.
    pub(crate) counter: Option<u64>,
    pub(crate) repaired: bool,
    /// The payload's first bytes.
    pub(crate) head: Vec<u8>,
}

/// The payload type of sound, in all offers of the world.
const SOUND: u8 = 111;

impl Got {
    /// Whether it is of a picture: neither sound nor padding.
    pub(crate) fn is_of_picture(&self) -> bool {
        self.pt != SOUND && !self.head.is_empty()
    }

    pub(crate) fn read(at: Instant, header: &Header, bytes: &[u8]) -> Self {
        let payload = &bytes[header.payload_range(bytes).expect("a payload")];
        Self {
            at,
            ssrc: header.ssrc,
            pt: header.payload_type.0,
            sequence: header.sequence,
            timestamp: header.timestamp,
            marker: header.marker,
            counter: Stamp::find(payload).map(|stamp| stamp.counter),
            repaired: false,
            head: payload[..payload.len().min(24)].to_vec(),
        }
    }
}
