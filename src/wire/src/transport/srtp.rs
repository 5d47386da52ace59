//! SRTP and SRTCP in place (RFC 3711, RFC 7714): no copy, no allocation per packet.
//!
//! ```text
//! RTP, all profiles       header | encrypted payload | tag
//! RTCP, AES-GCM           8 bytes | encrypted rest | tag | E + index
//! RTCP, AES-CM            8 bytes | encrypted rest | E + index | tag
//! ```

mod cipher;
mod cm;
mod gcm;
mod incoming;
mod keys;
mod replay;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod vectors;

pub use incoming::{SrtpIn, SrtpInState};
pub use keys::{MasterKey, SrtpKeys, SrtpProfile};

use cipher::Cipher;
use keys::{Labels, SessionKeys};

/// Shortest RTP header (RFC 3550 section 5.1).
pub const MIN_RTP_HEADER: usize = 12;
/// What of an RTCP packet stays readable (RFC 3711 section 3.4).
const RTCP_CLEAR: usize = 8;
/// The word with the E flag and the index.
const RTCP_WORD: usize = 4;
/// Most bytes that protecting adds to an RTP packet, whatever the profile.
pub const MAX_RTP_OVERHEAD: usize = 16;
/// Most bytes that protecting adds to a compound RTCP packet, whatever the profile.
pub const MAX_RTCP_OVERHEAD: usize = 20;
/// SRTCP indices have 31 bits (RFC 3711 section 3.4).
const MAX_RTCP_INDEX: u32 = (1 << 31) - 1;

/// Seals what is sent to one client. Sequence numbers are the caller's business: there is no state per SSRC.
pub struct SrtpOut {
    profile: SrtpProfile,
    rtp: Cipher,
    rtcp: Cipher,
    rtcp_index: u32,
}

impl SrtpOut {
    /// Derives the session keys from this side's master key.
    pub fn new(profile: SrtpProfile, master: &MasterKey) -> Self {
        Self {
            profile,
            rtp: Cipher::new(profile, &SessionKeys::derive(profile, master, Labels::RTP)),
            rtcp: Cipher::new(profile, &SessionKeys::derive(profile, master, Labels::RTCP)),
            rtcp_index: 0,
        }
    }

    /// Goes on with SRTCP behind `rtcp_index`, the index that was used last under this key.
    pub(super) fn resumed(profile: SrtpProfile, master: &MasterKey, rtcp_index: u32) -> Self {
        Self { rtcp_index: rtcp_index.min(MAX_RTCP_INDEX), ..Self::new(profile, master) }
    }

    /// The SRTCP index that was used last.
    pub(super) fn rtcp_index(&self) -> u32 {
        self.rtcp_index
    }

    /// What was negotiated.
    pub fn profile(&self) -> SrtpProfile {
        self.profile
    }

    /// Reads what sealing touches first.
    pub(super) fn glance(&self) -> u64 {
        self.rtp.glance() ^ self.profile.tag_len() as u64
    }

    /// Bytes that [`SrtpOut::protect_rtp`] adds.
    pub fn rtp_overhead(&self) -> usize {
        self.profile.tag_len()
    }

    /// Seals the RTP packet in `buf[..plain_len]` in place and returns its new length; `buf` has room for
    /// [`SrtpOut::rtp_overhead`] more bytes.
    ///
    /// `index` is rollover counter and sequence number (RFC 3711 section 3.3.1), 48 bits. The caller never gives the
    /// same index twice for one SSRC: with AES-GCM that would reveal the key stream and the authentication key
    /// (RFC 7714 section 8.4).
    pub fn protect_rtp(&self, buf: &mut [u8], header_len: usize, plain_len: usize, index: u64) -> usize {
        debug_assert!(header_len >= MIN_RTP_HEADER && header_len <= plain_len && index >> 48 == 0);
        debug_assert_eq!(buf[2..4], (index as u16).to_be_bytes(), "the header's sequence number is the index's");
        let len = plain_len + self.profile.tag_len();
        self.rtp.seal_rtp(&mut buf[..len], header_len, index);
        len
    }

    /// Seals a packet whose header is in `slot[..header_len]` and whose payload is `payload`, which stays as it is:
    /// one copy and one encryption per receiver. Returns the packet's length.
    pub fn seal_rtp(&self, payload: &[u8], slot: &mut [u8], header_len: usize, index: u64) -> usize {
        let plain_len = header_len + payload.len();
        slot[header_len..plain_len].copy_from_slice(payload);
        self.protect_rtp(slot, header_len, plain_len, index)
    }

    /// Seals the compound RTCP packet in `buf[..plain_len]` (at least 8 bytes) in place and returns its new length;
    /// `buf` has room for [`MAX_RTCP_OVERHEAD`] more bytes. Returns 0 when the 2^31 packets that RFC 3711 section 9.2
    /// allows under one key are used up.
    pub fn protect_rtcp(&mut self, buf: &mut [u8], plain_len: usize) -> usize {
        if plain_len < RTCP_CLEAR || self.rtcp_index == MAX_RTCP_INDEX {
            return 0;
        }
        // As libsrtp does, the first index is 1. One counter for all SSRCs keeps every (SSRC, index) unique.
        self.rtcp_index += 1;
        let len = plain_len + self.profile.tag_len() + RTCP_WORD;
        self.rtcp.seal_rtcp(&mut buf[..len], self.rtcp_index);
        len
    }
}

impl std::fmt::Debug for SrtpOut {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SrtpOut({:?})", self.profile)
    }
}

/// Reads a big-endian word; the caller has checked the length.
fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}
