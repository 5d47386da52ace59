//! Frames into sealed datagrams and back.

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use ring::hkdf::{HKDF_SHA256, KeyType, Salt};
use serde::{Deserialize, Serialize};

use super::window::Window;
use crate::drops::DropReason;
use crate::rtp::protocol::LINK;

/// Bytes in front of the frames.
pub const HEAD: usize = 12;
/// Bytes behind the frames.
const TAG: usize = 16;
/// Bytes of a datagram beside its frames.
pub const OVERHEAD: usize = HEAD + TAG;
/// The version of the key derivation and of the frames.
const EPOCH: u8 = 1;
const LABEL: &[u8] = b"moonring link 1";
const KEY: usize = 32;
const SALT: usize = 12;

/// One shard of one run of a process: its name among all nodes. Within a process a [`PlaceId`](crate::id::PlaceId) stands
/// for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Place {
    /// Random, made when the process starts.
    pub run: u128,
    /// The shard's number in the process.
    pub shard: u16,
}

impl Place {
    fn bytes(self) -> [u8; 18] {
        let mut bytes = [0; 18];
        bytes[..16].copy_from_slice(&self.run.to_be_bytes());
        bytes[16..].copy_from_slice(&self.shard.to_be_bytes());
        bytes
    }
}

/// The length of what is derived: a key and a salt.
struct KeyAndSalt;

impl KeyType for KeyAndSalt {
    fn len(&self) -> usize {
        KEY + SALT
    }
}

/// The key of one direction of a link.
struct Key {
    key: LessSafeKey,
    salt: [u8; SALT],
}

impl Key {
    /// HKDF-SHA256 (RFC 5869) of the secret, with both places as the context.
    fn derive(secret: &[u8; 32], from: Place, to: Place) -> Self {
        let (from, to) = (from.bytes(), to.bytes());
        let mut bytes = [0; KEY + SALT];
        let derived = Salt::new(HKDF_SHA256, LABEL).extract(secret);
        let filled = derived.expand(&[&from, &to], KeyAndSalt).and_then(|okm| okm.fill(&mut bytes));
        filled.expect("44 bytes are less than HKDF-SHA256 gives");
        let key = UnboundKey::new(&AES_256_GCM, &bytes[..KEY]).expect("a key of AES-256 has 32 bytes");
        let mut salt = [0; SALT];
        salt.copy_from_slice(&bytes[KEY..]);
        Self { key: LessSafeKey::new(key), salt }
    }

    /// Opens what is behind a head in place; what does not open is lost.
    fn opens(&self, counter: u64, head: &[u8], sealed: &mut [u8]) -> bool {
        self.key.open_in_place(self.nonce(counter), Aad::from(head), sealed).is_ok()
    }

    fn nonce(&self, counter: u64) -> Nonce {
        let mut nonce = self.salt;
        nonce[SALT - 8..].iter_mut().zip(counter.to_be_bytes()).for_each(|(byte, own)| *byte ^= own);
        Nonce::assume_unique_for_key(nonce)
    }
}

/// Seals what one shard sends to another.
pub struct Sealer {
    key: Key,
    counter: u64,
}

impl Sealer {
    /// For `from`, which sends to `to`. There is one of them in a run: its counter must not go back.
    pub fn new(secret: &[u8; 32], from: Place, to: Place) -> Self {
        Self { key: Key::derive(secret, from, to), counter: 0 }
    }

    /// Datagrams that were sealed.
    pub fn sealed(&self) -> u64 {
        self.counter
    }

    /// Seals the frames in `datagram[HEAD..end]`, behind which there is room for [`OVERHEAD`]; the datagram's length.
    pub fn seal(&mut self, datagram: &mut [u8], end: usize) -> usize {
        let nonce = self.key.nonce(self.counter);
        let (head, rest) = datagram.split_at_mut(HEAD);
        head[..4].copy_from_slice(&[LINK, EPOCH, 0, 0]);
        head[4..].copy_from_slice(&self.counter.to_be_bytes());
        self.counter += 1;
        let (frames, behind) = rest.split_at_mut(end - HEAD);
        let tag = self.key.key.seal_in_place_separate_tag(nonce, Aad::from(&*head), frames);
        // ring refuses only plaintexts of 64 GiB and more.
        behind[..TAG].copy_from_slice(tag.expect("a datagram is short enough for AES-GCM").as_ref());
        end + TAG
    }
}

/// Opens what one shard gets from another.
pub struct Opener {
    /// That of the first secret, or the one that has opened a datagram last.
    key: Key,
    /// Those of further secrets: the other end may seal with any of them.
    further: Vec<Key>,
    window: Window,
    /// A datagram as it came, while more than one key is tried.
    came: Vec<u8>,
}

impl Opener {
    /// For `to`, which gets it from `from`.
    pub fn new(secret: &[u8; 32], from: Place, to: Place) -> Self {
        Self::believing(secret, &[], from, to)
    }

    /// The same where `from` may seal with another secret.
    pub fn believing(secret: &[u8; 32], further: &[[u8; 32]], from: Place, to: Place) -> Self {
        let further = further.iter().map(|secret| Key::derive(secret, from, to)).collect();
        Self { key: Key::derive(secret, from, to), further, window: Window::default(), came: Vec::new() }
    }

    /// The frames of a datagram, opened in place. Nothing is noted of one that does not open.
    pub fn open<'d>(&mut self, datagram: &'d mut [u8]) -> Result<&'d [u8], DropReason> {
        if datagram.len() < OVERHEAD || datagram[0] != LINK {
            return Err(DropReason::LinkMalformed);
        }
        if datagram[1] != EPOCH {
            return Err(DropReason::LinkBadTag);
        }
        let (head, rest) = datagram.split_at_mut(HEAD);
        let counter = head[4..].first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes));
        self.window.check(counter)?;
        if !self.further.is_empty() {
            // A key that is not the datagram's leaves nothing of it.
            self.came.clear();
            self.came.extend_from_slice(rest);
        }
        if !self.key.opens(counter, head, rest) {
            let opens = |key: &Key| {
                rest.copy_from_slice(&self.came);
                key.opens(counter, head, rest)
            };
            let other = self.further.iter().position(opens).ok_or(DropReason::LinkBadTag)?;
            std::mem::swap(&mut self.key, &mut self.further[other]);
        }
        self.window.mark(counter);
        Ok(&rest[..rest.len() - TAG])
    }
}
