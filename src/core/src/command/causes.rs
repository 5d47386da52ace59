//! Why something is refused, and why a client ends.

/// Why a request of a client was refused; the client stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusalCode {
    /// The offer cannot be answered as it is (no common codec, changed certificate, ...).
    BadOffer,
    /// A track that does not exist or is not the client's.
    UnknownTrack,
    /// Another offer of the client is still being decided on.
    Busy,
    /// The policy takes no messages or dropped this one.
    MessageDropped,
    /// Too many tracks, clients or messages waiting.
    Limit,
}

/// Why a client is no longer there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LeaveCause {
    /// The policy rejected its join, with these words.
    Rejected(String),
    /// The policy kicked it or closed the room, with these words.
    Kicked(String),
    /// It said goodbye or its signalling ended.
    Left,
    /// Its media transport failed or fell silent, with the technical reason.
    TransportFailed(String),
    /// A bound of this server (clients per room, per shard), with words.
    Limit(String),
    /// The server shuts down.
    Shutdown,
}
