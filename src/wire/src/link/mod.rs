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

mod frame;
mod seal;
#[cfg(test)]
mod tests;
mod window;

pub use crate::rtp::protocol::LINK as MARK;
pub use frame::{Frame, FrameError, Frames, MAX_LAYERS, MAX_MEDIA_HEAD, Media, Stream};
pub use seal::{HEAD, OVERHEAD, Opener, Place, Sealer};

/// Longest datagram between shards: a packet of the greatest length that clients are sent, with all that is said of it.
pub const MAX_LINK_DATAGRAM: usize = crate::packet::MAX_DATAGRAM + OVERHEAD + MAX_MEDIA_HEAD;
