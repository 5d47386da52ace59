//! What the entries of rooms take, as far as this node has written or read them: one room cannot fill the store of all.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};

use super::super::super::taken::Taken;
use super::super::stored::Stored;
use super::HASH;
use moonring_policy::output::SharedValue;

/// What an entry costs beside its text, about: a key is a hash of always the same length.
const ENTRY_BYTES: usize = 128;
/// A room that has written nothing for so long is forgotten, and read again when it does: its home may be elsewhere now.
const FORGOTTEN: Duration = Duration::from_secs(600);
/// Between two looks for such rooms.
const LOOK: Duration = Duration::from_secs(60);

/// Whose share an entry takes: a room, or a room and a script.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Owner([u8; HASH]);

/// What the entries of each take.
#[derive(Debug)]
pub(super) struct TakenBy {
    share: Taken,
    owners: HashMap<Owner, Entries>,
    looked: Option<Instant>,
}

#[derive(Debug)]
struct Entries {
    taken: Taken,
    /// Bytes and expiry of each, by key.
    entries: HashMap<String, (usize, u64)>,
    /// The keys in the order in which they are looked at again.
    order: VecDeque<String>,
    used: Instant,
}

impl Owner {
    pub(super) fn of(parts: &[&[u8]]) -> Self {
        let mut hash = Sha256::new();
        parts.iter().for_each(|part| hash.update(part));
        let mut owner = [0; HASH];
        owner.copy_from_slice(&hash.finalize()[..HASH]);
        Self(owner)
    }
}

impl TakenBy {
    pub(super) fn new(share: Taken) -> Self {
        Self { share, owners: HashMap::new(), looked: None }
    }

    pub(super) fn knows(&self, owner: Owner) -> bool {
        self.owners.contains_key(&owner)
    }

    /// These are all entries of an owner.
    pub(super) fn meet(&mut self, now: Instant, owner: Owner, entries: impl Iterator<Item = (String, Stored)>) {
        self.owners.insert(owner, Entries::new(now));
        entries.for_each(|(key, stored)| self.note(now, owner, &key, Some(&stored)));
    }

    /// Whether a value fits into the share, in place of what has its key; `now` in milliseconds since 1970.
    pub(super) fn check(&mut self, now: u64, owner: Owner, key: &str, stored: &Stored) -> Result<(), String> {
        let Some(entries) = self.owners.get_mut(&owner) else { return Ok(()) };
        let before = entries.entries.get(key).map_or(0, |(bytes, _)| *bytes);
        let exceeds = |entries: &Entries| {
            entries.taken.entries + usize::from(before == 0) > self.share.entries
                || entries.taken.bytes - before + cost(stored) > self.share.bytes
        };
        if exceeds(entries) {
            entries.expire(now, key);
        }
        if !exceeds(entries) {
            return Ok(());
        }
        let Taken { entries, bytes } = self.share;
        Err(format!(
            "this room's share of the store is full ({entries} entries or {bytes} bytes): delete entries, or give them a ttl"
        ))
    }

    /// An entry was written, or is gone.
    pub(super) fn note(&mut self, now: Instant, owner: Owner, key: &str, stored: Option<&Stored>) {
        let entries = self.owners.entry(owner).or_insert_with(|| Entries::new(now));
        entries.used = now;
        entries.remove(key);
        if let Some(stored) = stored {
            entries.taken.add(cost(stored));
            entries.entries.insert(key.to_owned(), (cost(stored), stored.expires));
            entries.order.push_back(key.to_owned());
            // Of an entry that is written often there are many.
            if entries.order.len() > 2 * entries.entries.len() + 16 {
                entries.order = entries.entries.keys().cloned().collect();
            }
        }
        if self.looked.is_none_or(|looked| now.duration_since(looked) >= LOOK) {
            self.looked = Some(now);
            self.owners.retain(|_, entries| now.saturating_duration_since(entries.used) < FORGOTTEN);
        }
    }

    /// Some keys of an owner, others each time.
    pub(super) fn oldest(&mut self, owner: Owner, most: usize) -> Vec<String> {
        let Some(entries) = self.owners.get_mut(&owner) else { return Vec::new() };
        let mut keys = Vec::new();
        for _ in 0..most.min(entries.order.len()) {
            let Some(key) = entries.order.pop_front() else { break };
            if entries.entries.contains_key(&key) {
                entries.order.push_back(key.clone());
                keys.push(key);
            }
        }
        keys
    }
}

impl Entries {
    fn new(now: Instant) -> Self {
        Self { taken: Taken::default(), entries: HashMap::new(), order: VecDeque::new(), used: now }
    }

    fn remove(&mut self, key: &str) {
        if let Some((bytes, _)) = self.entries.remove(key) {
            self.taken.remove(bytes);
        }
    }

    /// Removes what has expired, but for one key.
    fn expire(&mut self, now: u64, but: &str) {
        let is_over = |key: &String, (_, expires): &(usize, u64)| key != but && *expires != 0 && *expires <= now;
        let over: Vec<_> =
            self.entries.iter().filter(|(key, entry)| is_over(key, entry)).map(|(key, _)| key.clone()).collect();
        over.iter().for_each(|key| self.remove(key));
    }
}

fn cost(stored: &Stored) -> usize {
    let text = if let SharedValue::Text(text) = &stored.value { text.len() } else { 0 };
    ENTRY_BYTES + text
}
