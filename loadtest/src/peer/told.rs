//! What a peer tells of its connection and of what came.

use std::ops::Range;

use moonring_wire::id::{Mid, Ssrc};

use crate::media::Stamp;

/// What a peer tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerEvent {
    /// Media can flow.
    Connected,
    /// There will be no connection, in words.
    Failed(String),
    /// The server said goodbye or fell silent.
    Closed(String),
    /// Somebody wants a key frame of what is published there, in this layer.
    KeyFrameRequested(Mid, u8),
    /// The first key frame of a received stream has begun.
    FirstKeyFrame(Ssrc),
}

/// What a datagram was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Handled {
    /// STUN, DTLS or RTCP.
    Control,
    /// A packet of media.
    Rtp(RtpReceived),
}

/// A received packet of media. In the datagram's memory it now is in the clear, if it was opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RtpReceived {
    /// The stream; of a retransmission, the stream that it repairs.
    pub ssrc: Ssrc,
    /// The sequence number, in the stream's own space.
    pub sequence: u16,
    /// The time stamp.
    pub timestamp: u32,
    /// The marker bit.
    pub marker: bool,
    /// Where the payload lies; empty for packets that were not opened.
    pub payload: Range<usize>,
    /// What a peer of this library wrote into the payload.
    pub stamp: Option<Stamp>,
    /// It was seen before, and is not counted again.
    pub duplicate: bool,
    /// It came as a retransmission.
    pub repaired: bool,
}

/// What went through a peer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PeerCounts {
    /// Packets of media received, retransmissions and duplicates too.
    pub packets_in: u64,
    /// Their bytes, as UDP payload.
    pub bytes_in: u64,
    /// Datagrams that were dropped: malformed, or not authentic.
    pub dropped: u64,
    /// Key frames asked for by this peer.
    pub plis_sent: u64,
    /// Packets asked for again by this peer.
    pub nacks_sent: u64,
}
