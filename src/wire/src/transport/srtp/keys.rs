//! From the DTLS handshake's keying material to session keys.

use std::str::FromStr;

use aes::cipher::{Block, BlockEncrypt, KeyInit};
use aes::{Aes128, Aes256};
use serde::{Deserialize, Serialize};
use zeroize::Zeroize;

/// Longest master key.
const MAX_KEY: usize = 32;
/// Longest master salt.
const MAX_SALT: usize = 14;
/// HMAC-SHA1's key (RFC 3711 section 5.2).
pub(super) const AUTH_KEY: usize = 20;

/// How packets are protected (RFC 5764 section 4.1.2, RFC 7714 section 14.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(try_from = "String")]
pub enum SrtpProfile {
    /// `SRTP_AEAD_AES_256_GCM`.
    AeadAes256Gcm,
    /// `SRTP_AEAD_AES_128_GCM`.
    AeadAes128Gcm,
    /// `SRTP_AES128_CM_HMAC_SHA1_80`.
    Aes128CmHmacSha1_80,
}

/// A name that no SRTP profile has.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not an SRTP profile; there are aes-256-gcm, aes-128-gcm and aes-128-cm-sha1-80")]
pub struct UnknownProfile(String);

impl FromStr for SrtpProfile {
    type Err = UnknownProfile;
    /// Reads a profile's name in the configuration.
    fn from_str(name: &str) -> Result<Self, UnknownProfile> {
        match name {
            "aes-256-gcm" => Ok(Self::AeadAes256Gcm),
            "aes-128-gcm" => Ok(Self::AeadAes128Gcm),
            "aes-128-cm-sha1-80" => Ok(Self::Aes128CmHmacSha1_80),
            other => Err(UnknownProfile(other.to_owned())),
        }
    }
}

impl TryFrom<String> for SrtpProfile {
    type Error = UnknownProfile;
    fn try_from(name: String) -> Result<Self, UnknownProfile> {
        name.parse()
    }
}

impl SrtpProfile {
    /// Every profile, the strongest first.
    pub const ALL: [Self; 3] = [Self::AeadAes256Gcm, Self::AeadAes128Gcm, Self::Aes128CmHmacSha1_80];

    /// The profile with this number in `use_srtp` (RFC 5764 section 4.1.2, RFC 7714 section 14.2).
    pub fn from_id(id: u16) -> Option<Self> {
        match id {
            1 => Some(Self::Aes128CmHmacSha1_80),
            7 => Some(Self::AeadAes128Gcm),
            8 => Some(Self::AeadAes256Gcm),
            _ => None,
        }
    }

    /// Its number in `use_srtp`.
    pub fn id(self) -> u16 {
        match self {
            Self::Aes128CmHmacSha1_80 => 1,
            Self::AeadAes128Gcm => 7,
            Self::AeadAes256Gcm => 8,
        }
    }

    /// True for AES-GCM, which costs a quarter of AES-CM.
    pub fn is_aead(self) -> bool {
        self != Self::Aes128CmHmacSha1_80
    }

    /// Bytes of the master key, and of the session key for encryption.
    pub fn key_len(self) -> usize {
        match self {
            Self::AeadAes256Gcm => 32,
            Self::AeadAes128Gcm | Self::Aes128CmHmacSha1_80 => 16,
        }
    }

    /// Bytes of the master salt, and of the session salt.
    pub fn salt_len(self) -> usize {
        match self {
            Self::AeadAes256Gcm | Self::AeadAes128Gcm => 12,
            Self::Aes128CmHmacSha1_80 => 14,
        }
    }

    /// Bytes of the authentication tag.
    pub fn tag_len(self) -> usize {
        match self {
            Self::AeadAes256Gcm | Self::AeadAes128Gcm => 16,
            Self::Aes128CmHmacSha1_80 => 10,
        }
    }

    /// Bytes that the DTLS exporter gives: two keys, two salts.
    pub fn keying_material_len(self) -> usize {
        2 * (self.key_len() + self.salt_len())
    }
}

/// One direction's master key and salt.
#[derive(Clone, Serialize, Deserialize)]
pub struct MasterKey {
    key: [u8; MAX_KEY],
    salt: [u8; MAX_SALT],
}

impl MasterKey {
    /// Takes key and salt as long as the profile says; `None` for other lengths.
    pub fn new(profile: SrtpProfile, key: &[u8], salt: &[u8]) -> Option<Self> {
        if key.len() != profile.key_len() || salt.len() != profile.salt_len() {
            return None;
        }
        let mut master = Self { key: [0; MAX_KEY], salt: [0; MAX_SALT] };
        master.key[..key.len()].copy_from_slice(key);
        master.salt[..salt.len()].copy_from_slice(salt);
        Some(master)
    }
}

impl Drop for MasterKey {
    fn drop(&mut self) {
        self.key.zeroize();
        self.salt.zeroize();
    }
}

impl std::fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("MasterKey")
    }
}

/// What a DTLS handshake gives to SRTP.
#[derive(Clone, Debug)]
pub struct SrtpKeys {
    /// What was negotiated.
    pub profile: SrtpProfile,
    /// For what this side sends.
    pub local: MasterKey,
    /// For what the other side sends.
    pub remote: MasterKey,
}

impl SrtpKeys {
    /// Splits the exporter's output; `None` when it is not as long as the profile says.
    pub fn from_keying_material(profile: SrtpProfile, material: &[u8], we_are_client: bool) -> Option<Self> {
        if material.len() != profile.keying_material_len() {
            return None;
        }
        // RFC 5764 section 4.2: client key, server key, client salt, server salt.
        let (keys, salts) = material.split_at(2 * profile.key_len());
        let (client_key, server_key) = keys.split_at(profile.key_len());
        let (client_salt, server_salt) = salts.split_at(profile.salt_len());
        let client = MasterKey::new(profile, client_key, client_salt)?;
        let server = MasterKey::new(profile, server_key, server_salt)?;
        let (local, remote) = if we_are_client { (client, server) } else { (server, client) };
        Some(Self { profile, local, remote })
    }
}

/// The labels of the three session keys of one protocol (RFC 3711 section 4.3.1).
#[derive(Clone, Copy)]
pub(super) struct Labels {
    encryption: u8,
    authentication: u8,
    salt: u8,
}

impl Labels {
    /// For RTP.
    pub(super) const RTP: Self = Self { encryption: 0, authentication: 1, salt: 2 };
    /// For RTCP.
    pub(super) const RTCP: Self = Self { encryption: 3, authentication: 4, salt: 5 };
}

/// One direction's and one protocol's session keys.
pub(super) struct SessionKeys {
    key: [u8; MAX_KEY],
    key_len: usize,
    /// For HMAC-SHA1; unused by AES-GCM.
    pub(super) auth: [u8; AUTH_KEY],
    /// The session salt, zeroes behind it.
    pub(super) salt: [u8; MAX_SALT],
}

impl Drop for SessionKeys {
    fn drop(&mut self) {
        self.key.zeroize();
        self.auth.zeroize();
        self.salt.zeroize();
    }
}

impl SessionKeys {
    /// RFC 3711 section 4.3 with a key derivation rate of zero (RFC 5764 section 4.1.2).
    pub(super) fn derive(profile: SrtpProfile, master: &MasterKey, labels: Labels) -> Self {
        let key_len = profile.key_len();
        let mut keys = Self { key: [0; MAX_KEY], key_len, auth: [0; AUTH_KEY], salt: [0; MAX_SALT] };
        let master_key = &master.key[..key_len];
        derive(master_key, &master.salt, labels.encryption, &mut keys.key[..key_len]);
        derive(master_key, &master.salt, labels.authentication, &mut keys.auth);
        derive(master_key, &master.salt, labels.salt, &mut keys.salt[..profile.salt_len()]);
        keys
    }

    /// Session keys as test vectors give them.
    #[cfg(test)]
    pub(super) fn given(key: &[u8], auth: [u8; AUTH_KEY], salt: &[u8]) -> Self {
        let mut keys = Self { key: [0; MAX_KEY], key_len: key.len(), auth, salt: [0; MAX_SALT] };
        keys.key[..key.len()].copy_from_slice(key);
        keys.salt[..salt.len()].copy_from_slice(salt);
        keys
    }

    /// The key for encryption.
    pub(super) fn key(&self) -> &[u8] {
        &self.key[..self.key_len]
    }
}

/// AES-CM as a key stream generator over `salt XOR label` (RFC 3711 section 4.3.3). A shorter salt has zeroes behind it
/// (RFC 7714 section 11).
fn derive(master_key: &[u8], salt: &[u8; MAX_SALT], label: u8, out: &mut [u8]) {
    let mut input = [0; 16];
    input[..MAX_SALT].copy_from_slice(salt);
    input[7] ^= label;
    for (counter, chunk) in out.chunks_mut(16).enumerate() {
        input[14..].copy_from_slice(&(counter as u16).to_be_bytes());
        let block = encrypt_block(master_key, input);
        chunk.copy_from_slice(&block[..chunk.len()]);
    }
}

fn encrypt_block(key: &[u8], input: [u8; 16]) -> [u8; 16] {
    let mut block = Block::<Aes128>::from(input);
    match key.len() {
        16 => Aes128::new(key.into()).encrypt_block(&mut block),
        _ => Aes256::new(key.into()).encrypt_block(&mut block),
    }
    block.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        (0..text.len() / 2).map(|i| u8::from_str_radix(&text[2 * i..2 * i + 2], 16).unwrap()).collect()
    }

    #[test]
    fn session_keys_are_those_of_rfc_3711_appendix_b_3() {
        let profile = SrtpProfile::Aes128CmHmacSha1_80;
        let master =
            MasterKey::new(profile, &hex("E1F97A0D3E018BE0D64FA32C06DE4139"), &hex("0EC675AD498AFEEBB6960B3AABE6"));
        let keys = SessionKeys::derive(profile, &master.unwrap(), Labels::RTP);
        assert_eq!(keys.key(), hex("C61E7A93744F39EE10734AFE3FF7A087"));
        assert_eq!(keys.salt.to_vec(), hex("30CBBC08863D8C85D49DB34A9AE1"));
        assert_eq!(keys.auth.to_vec(), hex("CEBE321F6FF7716B6FD4AB49AF256A156D38BAA4"));
    }

    #[test]
    fn keying_material_is_split_by_role() {
        let profile = SrtpProfile::AeadAes128Gcm;
        let material: Vec<u8> = (0..56).collect();
        for (we_are_client, local, remote) in [(true, (0, 32), (16, 44)), (false, (16, 44), (0, 32))] {
            let keys = SrtpKeys::from_keying_material(profile, &material, we_are_client).unwrap();
            for (side, (key, salt)) in [(keys.local, local), (keys.remote, remote)] {
                assert_eq!((side.key[0], side.key[15], side.key[16]), (key, key + 15, 0));
                assert_eq!((side.salt[0], side.salt[11], side.salt[12]), (salt, salt + 11, 0));
            }
        }
        assert!(SrtpKeys::from_keying_material(profile, &material[1..], true).is_none());
    }
}
