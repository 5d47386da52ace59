//! One direction's and one protocol's transform, whichever the profile.

use super::cm::Cm;
use super::gcm::Gcm;
use super::keys::{SessionKeys, SrtpProfile};

/// AES-GCM or AES-CM with HMAC-SHA1, with its key schedule.
pub(super) enum Cipher {
    Gcm(Box<Gcm>),
    Cm(Box<Cm>),
}

impl Cipher {
    pub(super) fn new(profile: SrtpProfile, keys: &SessionKeys) -> Self {
        match profile {
            SrtpProfile::AeadAes256Gcm | SrtpProfile::AeadAes128Gcm => Self::Gcm(Box::new(Gcm::new(profile, keys))),
            SrtpProfile::Aes128CmHmacSha1_80 => Self::Cm(Box::new(Cm::new(keys))),
        }
    }

    /// Reads what the transform touches first.
    pub(super) fn glance(&self) -> u64 {
        match self {
            Self::Gcm(gcm) => gcm.glance(),
            Self::Cm(_) => 0,
        }
    }

    /// `packet` is header, payload and room for the tag.
    pub(super) fn seal_rtp(&self, packet: &mut [u8], header_len: usize, index: u64) {
        match self {
            Self::Gcm(gcm) => gcm.seal_rtp(packet, header_len, index),
            Self::Cm(cm) => cm.seal_rtp(packet, header_len, index),
        }
    }

    /// True when the tag holds, and then the payload is in the clear. Otherwise the payload may be destroyed.
    pub(super) fn open_rtp(&self, packet: &mut [u8], header_len: usize, index: u64) -> bool {
        match self {
            Self::Gcm(gcm) => gcm.open_rtp(packet, header_len, index),
            Self::Cm(cm) => cm.open_rtp(packet, header_len, index),
        }
    }

    /// `packet` is the compound packet and room for tag and index.
    pub(super) fn seal_rtcp(&self, packet: &mut [u8], index: u32) {
        match self {
            Self::Gcm(gcm) => gcm.seal_rtcp(packet, index),
            Self::Cm(cm) => cm.seal_rtcp(packet, index),
        }
    }

    /// The word with the E flag and the index, wherever the profile puts it. The caller has checked the length.
    pub(super) fn rtcp_word(&self, packet: &[u8]) -> u32 {
        match self {
            Self::Gcm(_) => Gcm::rtcp_word(packet),
            Self::Cm(_) => Cm::rtcp_word(packet),
        }
    }

    /// True when the tag holds, and then the packet is in the clear.
    pub(super) fn open_rtcp(&self, packet: &mut [u8], index: u32) -> bool {
        match self {
            Self::Gcm(gcm) => gcm.open_rtcp(packet, index),
            Self::Cm(cm) => cm.open_rtcp(packet, index),
        }
    }
}
