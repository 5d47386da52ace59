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
//! There may be several secrets, while one takes the place of another: the first one seals, and what any of them has sealed is believed.
//!
//! What shards say to each other has tokens of clients and their keys in it, and is encrypted beside:
//!
//! ```text
//!  version | nonce 12, random | AES-256-GCM under a key of the topic's own, over the version | tag 16
//! ```

use std::sync::Arc;

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

/// The keys of the cluster.
#[derive(Clone)]
pub(super) struct Seal {
    /// This node seals with it.
    first: hmac::Key,
    /// What they have sealed is believed, too.
    further: Arc<[hmac::Key]>,
}

/// Which secret has sealed a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum By {
    /// The one that this node seals with.
    First,
    /// One that it only believes.
    Further,
}

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
    /// Of one secret.
    pub(super) fn new(secret: &[u8]) -> Self {
        Self::of(secret, [])
    }

    /// Seals with the first secret, and believes the further ones, too.
    pub(super) fn of<'s>(first: &[u8], further: impl IntoIterator<Item = &'s [u8]>) -> Self {
        let key = |secret: &[u8]| hmac::Key::new(hmac::HMAC_SHA256, secret);
        Self { first: key(first), further: further.into_iter().map(key).collect() }
    }

    /// Whether there is more than one secret.
    pub(super) fn has_further(&self) -> bool {
        !self.further.is_empty()
    }

    fn keys(&self) -> impl Iterator<Item = (By, &hmac::Key)> {
        let further = self.further.iter().map(|key| (By::Further, key));
        [(By::First, &self.first)].into_iter().chain(further)
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
        let (key, nonce) = (topic_key(&self.first, topic)?, Nonce::assume_unique_for_key(nonce));
        let tag = key.seal_in_place_separate_tag(nonce, Aad::from(&head[..1]), text).ok()?;
        message.extend_from_slice(tag.as_ref());
        Some(message.into())
    }

    /// What an encrypted message about `topic` says.
    pub(super) fn decrypt(&self, topic: &str, message: &[u8]) -> Result<Zeroizing<Vec<u8>>, Broken> {
        let (head, text) = message.split_at_checked(1 + NONCE_LEN).ok_or(Broken::Stranger)?;
        let opened = self.keys().find_map(|(_, key)| {
            let nonce = Nonce::try_assume_unique_for_key(&head[1..]).ok()?;
            // A key that is not the message's leaves nothing of it.
            let mut text = Zeroizing::new(text.to_vec());
            let body = topic_key(key, topic)?.open_in_place(nonce, Aad::from(&head[..1]), &mut text).ok()?.len();
            text.truncate(body);
            Some(text)
        });
        let text = opened.ok_or(Broken::Stranger)?;
        if head[0] == VERSION { Ok(text) } else { Err(Broken::Version(head[0], text.to_vec())) }
    }

    /// Keys for something else, one of each secret in their order; the same at all nodes that have the secret.
    pub(super) fn keys_for(&self, purpose: &str) -> Vec<[u8; 32]> {
        self.keys().map(|(_, key)| key_for(key, purpose)).collect()
    }

    fn close_as(&self, version: u8, topic: &str, body: &[u8]) -> Bytes {
        let mut message = Vec::with_capacity(1 + TAG + body.len());
        message.push(version);
        message.extend_from_slice(hmac::sign(&self.first, &signed(version, topic, body)).as_ref());
        message.extend_from_slice(body);
        message.into()
    }

    /// What a message about `topic` says.
    pub(super) fn open<T: DeserializeOwned>(&self, topic: &str, message: &[u8]) -> Result<T, Broken> {
        self.open_by(topic, message).map(|(said, _)| said)
    }

    /// The same, and which secret has sealed it.
    pub(super) fn open_by<T: DeserializeOwned>(&self, topic: &str, message: &[u8]) -> Result<(T, By), Broken> {
        let (by, version, body) =
            if message.len() > MAX_BYTES { Err(Broken::Stranger) } else { self.verified(topic, message) }?;
        let said = serde_json::from_slice(of_version(version, body)?);
        Ok((said.map_err(|error| Broken::Malformed(error.to_string()))?, by))
    }

    /// The bytes of a message about `topic`, of any length.
    pub(super) fn open_bytes<'a>(&self, topic: &str, message: &'a [u8]) -> Result<&'a [u8], Broken> {
        let (_, version, body) = self.verified(topic, message)?;
        of_version(version, body)
    }

    /// The same message, sealed with the first secret, if a further one has sealed it.
    pub(super) fn seal_anew(&self, topic: &str, message: &[u8]) -> Option<Bytes> {
        let (by, version, body) = self.verified(topic, message).ok()?;
        (by == By::Further).then(|| self.close_as(version, topic, body))
    }

    /// Which secret has sealed a message, its version, and its body.
    fn verified<'a>(&self, topic: &str, message: &'a [u8]) -> Result<(By, u8, &'a [u8]), Broken> {
        if message.len() < 1 + TAG {
            return Err(Broken::Stranger);
        }
        let (version, (tag, body)) = (message[0], message[1..].split_at(TAG));
        let signed = signed(version, topic, body);
        let by = self.keys().find(|(_, key)| hmac::verify(key, &signed, tag).is_ok());
        by.map(|(by, _)| (by, version, body)).ok_or(Broken::Stranger)
    }
}

fn of_version(version: u8, body: &[u8]) -> Result<&[u8], Broken> {
    if version == VERSION { Ok(body) } else { Err(Broken::Version(version, body.to_vec())) }
}

/// A nonce is random, so that one key is for what one shard gets during one run: its messages are few enough.
fn topic_key(key: &hmac::Key, topic: &str) -> Option<LessSafeKey> {
    let key = Zeroizing::new(key_for(key, &format!("{ENCRYPTED}{topic}")));
    Some(LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key.as_slice()).ok()?))
}

fn key_for(key: &hmac::Key, purpose: &str) -> [u8; 32] {
    let mut made = [0; 32];
    // A message begins with its version, which no purpose does.
    made.copy_from_slice(hmac::sign(key, purpose.as_bytes()).as_ref());
    made
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
    fn the_first_secret_seals_and_what_any_of_them_has_sealed_is_believed() {
        let both = |first: u8, further: u8| Seal::of(&[first; MIN_SECRET], [&[further; MIN_SECRET][..]]);
        // Who reads what whom has said: the old secret alone, both with the old one first, both with the new one first, the new one alone.
        let seals = [seal(1), both(1, 2), both(2, 1), seal(2)];
        let reads = |read: &dyn Fn(&Seal, &Seal) -> bool| {
            seals.each_ref().map(|reader| seals.each_ref().map(|speaker| read(reader, speaker)))
        };
        let (old, any, new) = ([true, true, false, false], [true; 4], [false, false, true, true]);
        let sealed = reads(&|reader, speaker| reader.open("beat", &speaker.close("beat", &7_u8)) == Ok(7));
        assert_eq!(sealed, [old, any, any, new]);
        let encrypted = reads(&|reader, speaker| {
            let said = reader.decrypt("place 1", &speaker.encrypt("place 1", b"a client's keys").unwrap());
            said.is_ok_and(|said| said.as_slice() == b"a client's keys")
        });
        assert_eq!(encrypted, [old, any, any, new]);
        // The keys of links: the speaker's first one is among the reader's.
        let links = reads(&|reader, speaker| reader.keys_for("links").contains(&speaker.keys_for("links")[0]));
        assert_eq!(links, [old, any, any, new]);
        assert_eq!(both(2, 1).open("claim", &seal(1).close("beat", &7_u8)), Err::<u8, _>(Broken::Stranger));
        assert_eq!(both(2, 1).open("beat", &seal(3).close("beat", &7_u8)), Err::<u8, _>(Broken::Stranger));
    }

    #[test]
    fn what_a_further_secret_has_sealed_is_sealed_anew_with_the_first_one_and_nothing_else_is() {
        let both = Seal::of(&[2; MIN_SECRET], [&[1; MIN_SECRET][..]]);
        let anew = both.seal_anew("beat", &seal(1).close("beat", &7_u8)).unwrap();
        assert_eq!(seal(2).open("beat", &anew), Ok(7));
        assert_eq!(both.open_by("beat", &anew), Ok((7, By::First)));
        assert_eq!(both.open_by("beat", &seal(1).close("beat", &7_u8)), Ok((7, By::Further)));
        // One of another version stays one of it.
        let version = both.seal_anew("beat", &seal(1).close_as(9, "beat", b"{}")).unwrap();
        assert_eq!(seal(2).open::<u8>("beat", &version), Err(Broken::Version(9, b"{}".to_vec())));
        for (what, message) in [
            ("it is", anew.clone()),
            ("of a stranger", seal(3).close("beat", &7_u8)),
            ("about something else", seal(1).close("claim", &7_u8)),
            ("too short", Bytes::from_static(b"7")),
        ] {
            assert_eq!(both.seal_anew("beat", &message), None, "{what}");
        }
    }

    #[test]
    fn another_version_is_named_when_it_knows_the_secret() {
        let message = seal(1).close_as(9, "beat", b"{}");
        assert_eq!(seal(1).open::<u8>("beat", &message), Err(Broken::Version(9, b"{}".to_vec())));
        assert_eq!(seal(2).open::<u8>("beat", &message), Err(Broken::Stranger));
    }
}
