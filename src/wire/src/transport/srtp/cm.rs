//! AES in counter mode with HMAC-SHA1 (RFC 3711 sections 4.1.1 and 4.2.1), key schedule and HMAC state kept.

use aes::Aes128;
use aes::cipher::{InnerIvInit, KeyInit, StreamCipher, StreamCipherCoreWrapper};
use ctr::CtrCore;
use ctr::flavors::Ctr128BE;
use hmac::{Hmac, Mac};
use sha1::Sha1;
use subtle::ConstantTimeEq;

use super::keys::SessionKeys;
use super::{RTCP_CLEAR, RTCP_WORD, word};

const TAG: usize = 10;
const SALT: usize = 14;
/// The E flag of SRTCP: the packet is encrypted.
const ENCRYPTED: u32 = 1 << 31;

/// One session key.
pub(super) struct Cm {
    aes: Aes128,
    mac: Hmac<Sha1>,
    salt: [u8; SALT],
}

impl Cm {
    pub(super) fn new(keys: &SessionKeys) -> Self {
        let mac = <Hmac<Sha1> as Mac>::new_from_slice(&keys.auth).expect("HMAC takes keys of any length");
        Self { aes: Aes128::new(keys.key().into()), mac, salt: keys.salt }
    }

    pub(super) fn seal_rtp(&self, packet: &mut [u8], header_len: usize, index: u64) {
        let end = packet.len() - TAG;
        self.encrypt(word(packet, 8), index, &mut packet[header_len..end]);
        // RFC 3711 section 4.2: the tag covers the packet and the rollover counter.
        let tag = self.tag(&packet[..end], &rollovers(index));
        packet[end..].copy_from_slice(&tag);
    }

    pub(super) fn open_rtp(&self, packet: &mut [u8], header_len: usize, index: u64) -> bool {
        let end = packet.len() - TAG;
        let tag = self.tag(&packet[..end], &rollovers(index));
        if !bool::from(tag.ct_eq(&packet[end..])) {
            return false;
        }
        self.encrypt(word(packet, 8), index, &mut packet[header_len..end]);
        true
    }

    pub(super) fn seal_rtcp(&self, packet: &mut [u8], index: u32) {
        let end = packet.len() - TAG;
        let word_at = end - RTCP_WORD;
        self.encrypt(word(packet, 4), u64::from(index), &mut packet[RTCP_CLEAR..word_at]);
        packet[word_at..end].copy_from_slice(&(ENCRYPTED | index).to_be_bytes());
        let tag = self.tag(&packet[..end], &[]);
        packet[end..].copy_from_slice(&tag);
    }

    pub(super) fn open_rtcp(&self, packet: &mut [u8], index: u32) -> bool {
        let end = packet.len() - TAG;
        let tag = self.tag(&packet[..end], &[]);
        if !bool::from(tag.ct_eq(&packet[end..])) {
            return false;
        }
        self.encrypt(word(packet, 4), u64::from(index), &mut packet[RTCP_CLEAR..end - RTCP_WORD]);
        true
    }

    pub(super) fn rtcp_word(packet: &[u8]) -> u32 {
        word(packet, packet.len() - TAG - RTCP_WORD)
    }

    /// RFC 3711 section 4.1.1: IV = salt * 2^16 XOR SSRC * 2^64 XOR index * 2^16.
    fn encrypt(&self, ssrc: u32, index: u64, bytes: &mut [u8]) {
        let mut iv = [0; 16];
        iv[4..8].copy_from_slice(&ssrc.to_be_bytes());
        iv[8..14].copy_from_slice(&index.to_be_bytes()[2..]);
        for (byte, salt) in iv.iter_mut().zip(self.salt) {
            *byte ^= salt;
        }
        let core = CtrCore::<&Aes128, Ctr128BE>::inner_iv_init(&self.aes, &iv.into());
        StreamCipherCoreWrapper::from_core(core).apply_keystream(bytes);
    }

    fn tag(&self, bytes: &[u8], more: &[u8]) -> [u8; TAG] {
        let mut mac = self.mac.clone();
        mac.update(bytes);
        mac.update(more);
        let mut tag = [0; TAG];
        tag.copy_from_slice(&mac.finalize().into_bytes()[..TAG]);
        tag
    }
}

/// The rollover counter of an index, as the tag covers it.
fn rollovers(index: u64) -> [u8; 4] {
    ((index >> 16) as u32).to_be_bytes()
}
