//! AES-GCM (RFC 7714) through `ring`.

use ring::aead::{AES_128_GCM, AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};

use super::keys::{SessionKeys, SrtpProfile};
use super::{RTCP_CLEAR, RTCP_WORD, word};

const TAG: usize = 16;
const IV: usize = 12;
/// The E flag of SRTCP: the packet is encrypted.
const ENCRYPTED: u32 = 1 << 31;

/// One session key.
pub(super) struct Gcm {
    key: LessSafeKey,
    salt: [u8; IV],
}

impl Gcm {
    pub(super) fn new(profile: SrtpProfile, keys: &SessionKeys) -> Self {
        let algorithm = if profile == SrtpProfile::AeadAes256Gcm { &AES_256_GCM } else { &AES_128_GCM };
        let key = UnboundKey::new(algorithm, keys.key()).expect("the profile's key length is the algorithm's");
        let mut salt = [0; IV];
        salt.copy_from_slice(&keys.salt[..IV]);
        Self { key: LessSafeKey::new(key), salt }
    }

    pub(super) fn glance(&self) -> u64 {
        // The key schedule and the table of GHASH take nine cache lines, which only a copy reads.
        std::hint::black_box(self.key.clone());
        u64::from(self.salt[0])
    }

    pub(super) fn seal_rtp(&self, packet: &mut [u8], header_len: usize, index: u64) {
        let nonce = self.nonce(word(packet, 8), index);
        let (header, rest) = packet.split_at_mut(header_len);
        let (payload, tag) = rest.split_at_mut(rest.len() - TAG);
        tag.copy_from_slice(&self.seal(nonce, header, payload));
    }

    pub(super) fn open_rtp(&self, packet: &mut [u8], header_len: usize, index: u64) -> bool {
        let nonce = self.nonce(word(packet, 8), index);
        let (header, rest) = packet.split_at_mut(header_len);
        self.key.open_in_place(nonce, Aad::from(header), rest).is_ok()
    }

    pub(super) fn seal_rtcp(&self, packet: &mut [u8], index: u32) {
        let nonce = self.nonce(word(packet, 4), u64::from(index));
        let (packet, last) = packet.split_at_mut(packet.len() - RTCP_WORD);
        last.copy_from_slice(&(ENCRYPTED | index).to_be_bytes());
        let aad = rtcp_aad(packet, index);
        let (payload, tag) = packet[RTCP_CLEAR..].split_last_chunk_mut::<TAG>().expect("room for the tag");
        *tag = self.seal(nonce, &aad, payload);
    }

    pub(super) fn open_rtcp(&self, packet: &mut [u8], index: u32) -> bool {
        let nonce = self.nonce(word(packet, 4), u64::from(index));
        let aad = rtcp_aad(packet, index);
        let end = packet.len() - RTCP_WORD;
        self.key.open_in_place(nonce, Aad::from(aad), &mut packet[RTCP_CLEAR..end]).is_ok()
    }

    pub(super) fn rtcp_word(packet: &[u8]) -> u32 {
        word(packet, packet.len() - RTCP_WORD)
    }

    /// RFC 7714 sections 8.1 and 9.1: zeroes, SSRC, and the 48-bit index (31 bits of it for RTCP), XOR salt.
    fn nonce(&self, ssrc: u32, index: u64) -> Nonce {
        let mut iv = [0; IV];
        iv[2..6].copy_from_slice(&ssrc.to_be_bytes());
        iv[6..].copy_from_slice(&index.to_be_bytes()[2..]);
        for (byte, salt) in iv.iter_mut().zip(self.salt) {
            *byte ^= salt;
        }
        Nonce::assume_unique_for_key(iv)
    }

    fn seal(&self, nonce: Nonce, aad: &[u8], plain: &mut [u8]) -> [u8; TAG] {
        let tag = self.key.seal_in_place_separate_tag(nonce, Aad::from(aad), plain);
        // ring refuses only plaintexts of 64 GiB and more.
        let tag = tag.expect("a packet is short enough for AES-GCM");
        tag.as_ref().try_into().expect("AES-GCM tags have 16 bytes")
    }
}

/// RFC 7714 section 9.2: the first 8 bytes and the word with the E flag and the index.
fn rtcp_aad(packet: &[u8], index: u32) -> [u8; RTCP_CLEAR + RTCP_WORD] {
    let mut aad = [0; RTCP_CLEAR + RTCP_WORD];
    aad[..RTCP_CLEAR].copy_from_slice(&packet[..RTCP_CLEAR]);
    aad[RTCP_CLEAR..].copy_from_slice(&(ENCRYPTED | index).to_be_bytes());
    aad
}
