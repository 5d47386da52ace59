//! What nodes say to each other carries a proof that the speaker knows the cluster's secret.
//!
//! ```text
//!  0        1                33
//!  +--------+----------------+-----------------+
//!  | version| HMAC-SHA-256   | JSON            |   the HMAC is over version, length of topic, topic, JSON
//!  +--------+----------------+-----------------+
//! ```
//! The topic, which both sides know, says what the message is about: nothing can be moved to another subject, key or
//! question. The frame is the same in all versions.
//!
//! What shards say to each other has tokens of clients and their keys in it, and is encrypted beside:
//!
//! ```text
//!  version | nonce 12, random | AES-256-GCM under a key of the topic's own, over the version | tag 16
//! ```

use bytes::Bytes;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hmac;
use ring::rand::{SecureRandom, SystemRandom};
use serde::Serialize;
use serde::de::DeserializeOwned;
use zeroize::Zeroizing;

use super::engine::MAX_BYTES;

/// The version of what nodes say to each other.
pub(super) const VERSION: u8 = 1;
/// Shortest secret, in bytes.
pub(super) const MIN_SECRET: usize = 16;
const TAG: usize = 32;

/// The key of the cluster.
#[derive(Clone)]
pub(super) struct Seal(hmac::Key);

/// What the keys of topics are made for.
const ENCRYPTED: &str = "messages between shards about ";

impl std::fmt::Debug for Seal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Seal(...)")
    }
}

/// Why a message is not believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Broken {
    /// It is not of a node that has the secret, or is about something else.
    Stranger,
    /// It is of a node that speaks this version; what it says.
    Version(u8, Vec<u8>),
    /// It is of one of us, and cannot be read: where, and why.
    Malformed(String),
}

impl Seal {
    pub(super) fn new(secret: &[u8]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, secret))
    }

    /// A message about `topic`.
    pub(super) fn close(&self, topic: &str, body: &impl Serialize) -> Bytes {
        // The types of messages have no maps with other keys than texts, and no other reason to fail.
        self.close_as(VERSION, topic, &serde_json::to_vec(body).unwrap_or_default())
    }

    /// The same of bytes.
    pub(super) fn close_bytes(&self, topic: &str, body: &[u8]) -> Bytes {
        self.close_as(VERSION, topic, body)
    }

    /// Bytes about a topic that nobody reads without the secret; `None` when the operating system has no randomness to give.
    pub(super) fn encrypt(&self, topic: &str, body: &[u8]) -> Option<Bytes> {
        let mut nonce = [0; NONCE_LEN];
        SystemRandom::new().fill(&mut nonce).ok()?;
        let mut message = Vec::with_capacity(1 + NONCE_LEN + body.len() + AES_256_GCM.tag_len());
        message.push(VERSION);
        message.extend_from_slice(&nonce);
        message.extend_from_slice(body);
        let (head, text) = message.split_at_mut(1 + NONCE_LEN);
        let (key, nonce) = (self.topic_key(topic)?, Nonce::assume_unique_for_key(nonce));
        let tag = key.seal_in_place_separate_tag(nonce, Aad::from(&head[..1]), text).ok()?;
        message.extend_from_slice(tag.as_ref());
        Some(message.into())
    }

    /// What an encrypted message about `topic` says.
    pub(super) fn decrypt(&self, topic: &str, message: &[u8]) -> Result<Zeroizing<Vec<u8>>, Broken> {
        let (head, text) = message.split_at_checked(1 + NONCE_LEN).ok_or(Broken::Stranger)?;
        let nonce = Nonce::try_assume_unique_for_key(&head[1..]).map_err(|_| Broken::Stranger)?;
        let key = self.topic_key(topic).ok_or(Broken::Stranger)?;
        let mut text = Zeroizing::new(text.to_vec());
        let body = key.open_in_place(nonce, Aad::from(&head[..1]), &mut text).map_err(|_| Broken::Stranger)?.len();
        text.truncate(body);
        if head[0] == VERSION { Ok(text) } else { Err(Broken::Version(head[0], text.to_vec())) }
    }

    /// A nonce is random, so that one key is for what one shard gets during one run: its messages are few enough.
    fn topic_key(&self, topic: &str) -> Option<LessSafeKey> {
        let key = Zeroizing::new(self.key_for(&format!("{ENCRYPTED}{topic}")));
        Some(LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key.as_slice()).ok()?))
    }

    /// A key for something else, the same at all nodes.
    pub(super) fn key_for(&self, purpose: &str) -> [u8; 32] {
        let mut key = [0; 32];
        // A message begins with its version, which no purpose does.
        key.copy_from_slice(hmac::sign(&self.0, purpose.as_bytes()).as_ref());
        key
    }

    fn close_as(&self, version: u8, topic: &str, body: &[u8]) -> Bytes {
        let mut message = Vec::with_capacity(1 + TAG + body.len());
        message.push(version);
        message.extend_from_slice(self.over(version, topic, body).sign().as_ref());
        message.extend_from_slice(body);
        message.into()
    }

    /// What a message about `topic` says.
    pub(super) fn open<T: DeserializeOwned>(&self, topic: &str, message: &[u8]) -> Result<T, Broken> {
        let body = if message.len() > MAX_BYTES { Err(Broken::Stranger) } else { self.open_bytes(topic, message) }?;
        serde_json::from_slice(body).map_err(|error| Broken::Malformed(error.to_string()))
    }

    /// The bytes of a message about `topic`, of any length.
    pub(super) fn open_bytes<'a>(&self, topic: &str, message: &'a [u8]) -> Result<&'a [u8], Broken> {
        if message.len() < 1 + TAG {
            return Err(Broken::Stranger);
        }
        let (version, (tag, body)) = (message[0], message[1..].split_at(TAG));
        let signed = signed(version, topic, body);
        hmac::verify(&self.0, &signed, tag).map_err(|_| Broken::Stranger)?;
        if version == VERSION { Ok(body) } else { Err(Broken::Version(version, body.to_vec())) }
    }

    fn over(&self, version: u8, topic: &str, body: &[u8]) -> hmac::Context {
        let mut context = hmac::Context::with_key(&self.0);
        context.update(&signed(version, topic, body));
        context
    }
}

/// The bytes that the proof is about.
fn signed(version: u8, topic: &str, body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(5 + topic.len() + body.len());
    bytes.push(version);
    bytes.extend_from_slice(&u32::try_from(topic.len()).unwrap_or(u32::MAX).to_be_bytes());
    bytes.extend_from_slice(topic.as_bytes());
    bytes.extend_from_slice(body);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seal(secret: u8) -> Seal {
        Seal::new(&[secret; MIN_SECRET])
    }

    #[test]
    fn a_message_is_read_by_who_has_the_secret_as_what_it_is_about() {
        let message = seal(1).close("beat", &7_u8);
        assert_eq!(seal(1).open::<u8>("beat", &message), Ok(7));
        assert_eq!(seal(2).open::<u8>("beat", &message), Err(Broken::Stranger), "another secret");
        assert_eq!(seal(1).open::<u8>("claim", &message), Err(Broken::Stranger), "another topic");
        let malformed = seal(1).close("beat", &"text");
        assert!(matches!(seal(1).open::<u8>("beat", &malformed), Err(Broken::Malformed(_))));
    }

    #[test]
    fn no_changed_byte_is_believed_and_no_length_panics() {
        let message = seal(1).close("beat", &[1, 2, 3]);
        for at in 0..message.len() {
            let mut changed = message.to_vec();
            changed[at] ^= 1;
            assert_eq!(seal(1).open::<Vec<u8>>("beat", &changed), Err(Broken::Stranger), "byte {at}");
            assert_eq!(seal(1).open::<Vec<u8>>("beat", &message[..at]), Err(Broken::Stranger), "{at} bytes");
        }
        let long = seal(1).close("beat", &"x".repeat(MAX_BYTES));
        assert_eq!(seal(1).open::<String>("beat", &long), Err(Broken::Stranger));
    }

    #[test]
    fn what_is_encrypted_is_read_by_who_has_the_secret_as_what_it_is_about_and_by_nobody_else() {
        let message = seal(1).encrypt("place 1", b"a client's keys").unwrap();
        assert_eq!(seal(1).decrypt("place 1", &message).unwrap().as_slice(), b"a client's keys");
        assert!(!message.windows(6).any(|part| part == b"client"));
        assert_ne!(message, seal(1).encrypt("place 1", b"a client's keys").unwrap(), "another nonce");
        assert_eq!(seal(2).decrypt("place 1", &message), Err(Broken::Stranger), "another secret");
        assert_eq!(seal(1).decrypt("place 2", &message), Err(Broken::Stranger), "another topic");
        for at in 0..message.len() {
            let mut changed = message.to_vec();
            changed[at] ^= 1;
            assert_eq!(seal(1).decrypt("place 1", &changed), Err(Broken::Stranger), "byte {at}");
            assert_eq!(seal(1).decrypt("place 1", &message[..at]), Err(Broken::Stranger), "{at} bytes");
        }
        let long = seal(1).encrypt("place 1", &vec![7; 2 * MAX_BYTES]).unwrap();
        assert_eq!(seal(1).decrypt("place 1", &long).unwrap().len(), 2 * MAX_BYTES);
    }

    #[test]
    fn another_version_is_named_when_it_knows_the_secret() {
        let message = seal(1).close_as(9, "beat", b"{}");
        assert_eq!(seal(1).open::<u8>("beat", &message), Err(Broken::Version(9, b"{}".to_vec())));
        assert_eq!(seal(2).open::<u8>("beat", &message), Err(Broken::Stranger));
    }
}
