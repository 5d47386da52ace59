//! What shards send each other: frames of media and of what is asked of it, sealed into datagrams.
//!
//! ```text
//! datagram: 0xC1 | epoch u8 | reserved u16 | counter u64 | sealed { frame... } | tag 16
//! frame:    kind u8 | length u16 | body                      a zero in place of a kind is a byte of padding
//! ```
//! Both ends derive their keys from one secret, the run of each process and the numbers of the shards ([`Place`]): no
//! handshake, and a process that starts anew has other keys, so that counters may begin with 0. Everything in a datagram
//! is authenticated, and no counter opens twice ([`Opener`]). AES-256-GCM (RFC 5116) through `ring`; the nonce is the
//! key's salt XOR the counter.
//!
//! No I/O, no clock, no allocation.

mod error;
mod frame;
mod seal;
#[cfg(test)]
mod tests;
mod window;

use std::net::SocketAddr;

use crate::id::PlaceId;
pub use crate::rtp::protocol::LINK as MARK;
pub use error::FrameError;
pub use frame::{Frame, Frames, MAX_LAYERS, MAX_MEDIA_HEAD, Media, Stream};
pub use seal::{HEAD, OVERHEAD, Opener, Place, Sealer};

/// A shard of another node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkPeer {
    /// What this process calls it.
    pub id: PlaceId,
    /// What it is called among nodes.
    pub place: Place,
    /// Where its socket is, and where its datagrams come from.
    pub address: SocketAddr,
}

/// Longest datagram between shards: a packet of the greatest length that clients are sent, with all that is said of it.
pub const MAX_LINK_DATAGRAM: usize = crate::packet::MAX_DATAGRAM + OVERHEAD + MAX_MEDIA_HEAD;
