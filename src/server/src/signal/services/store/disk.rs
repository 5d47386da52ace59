//! The store on the disk, in a file of redb: a B-tree that is copied on write, so that a crash leaves the last commit.

use std::collections::HashMap;
use std::fs::{self, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use redb::backends::FileBackend;
use redb::{Builder, Database, DatabaseError, Error, ReadableDatabase, ReadableTable, Table, TableDefinition};

use super::super::taken::Taken;
use super::stored::{Change, NEVER, Stored, step};
use super::{Answer, Engine, Operation, Space};
use moonring_policy::output::{SharedRequest, StoreSpace};

/// Space and key to the moment of expiry and the value.
const ENTRIES: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("entries");
/// Moments of expiry, in milliseconds since 1970, with space and key.
const EXPIRIES: TableDefinition<'_, (u64, &[u8]), ()> = TableDefinition::new("expiries");

/// Bytes of the file that are kept in memory.
const CACHE_BYTES: usize = 16 * 1024 * 1024;
/// What an entry costs beside its key and its text, about.
const ENTRY_BYTES: usize = 64;
/// Expired entries that a commit removes beside as many as it has operations.
const SWEPT: usize = 64;
/// Bounds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Of all entries.
    pub(super) all: Taken,
    /// Of the entries of one room and script.
    pub(super) room: Taken,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            all: Taken { entries: 1_000_000, bytes: 256 * 1024 * 1024 },
            room: Taken { entries: 4_096, bytes: 1024 * 1024 },
        }
    }
}

/// See the module.
pub(super) struct DiskStore {
    database: Database,
    limits: Limits,
    usage: Usage,
}

/// What the entries take; nothing when it could not be committed, as the store is opened anew then.
#[derive(Debug, Default)]
struct Usage {
    all: Taken,
    spaces: HashMap<Vec<u8>, Taken>,
}

impl DiskStore {
    /// Opens the file, or makes it. An error says what to do.
    pub(super) fn open(path: &Path) -> Result<Self, String> {
        let bad = |error: &dyn std::fmt::Display| format!("the store {} cannot be opened: {error}", path.display());
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(|error| bad(&error))?;
        }
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path);
        let file = file.map_err(|error| bad(&error))?;
        let database = FileBackend::new(file)
            .and_then(|backend| Builder::new().set_cache_size(CACHE_BYTES).create_with_backend(backend));
        let database = database.map_err(|error| match error {
            DatabaseError::DatabaseAlreadyOpen | DatabaseError::LockProtocolMismatch => {
                bad(&"another process uses it; give this one a data_dir of its own")
            }
            DatabaseError::Storage(redb::StorageError::Corrupted(_)) => {
                bad(&format_args!("{error}; move it away to begin with an empty one"))
            }
            error => bad(&error),
        })?;
        Self::over(database, Limits::default()).map_err(|error| bad(&error))
    }

    /// A store in a database, with what is in it counted.
    pub(super) fn over(database: Database, limits: Limits) -> Result<Self, Error> {
        let transaction = database.begin_write()?;
        let mut usage = Usage::default();
        {
            let entries = transaction.open_table(ENTRIES)?;
            transaction.open_table(EXPIRIES)?;
            for entry in entries.iter()? {
                let (key, value) = entry?;
                usage.add(key.value(), value.value().len());
            }
        }
        transaction.commit()?;
        Ok(Self { database, limits, usage })
    }

    fn read(&self, now: u64, batch: &[Operation]) -> Result<Vec<Answer>, Error> {
        let entries = self.database.begin_read()?.open_table(ENTRIES)?;
        let one = |operation: &Operation| {
            let stored = match entries.get(&*key_of(operation))? {
                Some(stored) => Some(read(stored.value())?),
                None => None,
            };
            Ok(Ok(stored.filter(|stored| stored.lives(now)).map(|stored| stored.value)))
        };
        batch.iter().map(one).collect()
    }

    fn write(&mut self, now: u64, batch: &[Operation]) -> Result<Vec<Answer>, Error> {
        let transaction = self.database.begin_write()?;
        let answers = {
            let (entries, expiries) = (transaction.open_table(ENTRIES)?, transaction.open_table(EXPIRIES)?);
            let mut tables = Tables { entries, expiries, usage: &mut self.usage, limits: self.limits };
            tables.sweep(now, batch.len() + SWEPT)?;
            batch.iter().map(|operation| tables.apply(now, operation)).collect::<Result<_, Error>>()?
        };
        transaction.commit()?;
        Ok(answers)
    }
}

impl Engine for DiskStore {
    fn apply(&mut self, now: Duration, batch: &[Operation]) -> Result<Vec<Answer>, String> {
        let now = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
        let reads = batch.iter().all(|operation| matches!(operation.request, SharedRequest::Get { .. }));
        let applied = if reads { self.read(now, batch) } else { self.write(now, batch) };
        applied.map_err(|error| format!("the store cannot keep anything: {error}"))
    }
}

/// A value as it stands in the file.
fn read(bytes: &[u8]) -> Result<Stored, Error> {
    Stored::decode(bytes).ok_or_else(|| Error::Corrupted("an entry is damaged".to_owned()))
}

/// The tables of one transaction.
struct Tables<'t> {
    entries: Table<'t, &'static [u8], &'static [u8]>,
    expiries: Table<'t, (u64, &'static [u8]), ()>,
    usage: &'t mut Usage,
    limits: Limits,
}

impl Tables<'_> {
    fn apply(&mut self, now: u64, operation: &Operation) -> Result<Answer, Error> {
        let key = key_of(operation);
        let before = self.get(now, &key)?;
        let (change, answer) = step(now, &operation.request, before.as_ref());
        match change {
            Change::Nothing => {}
            Change::Remove => self.remove(&key)?,
            Change::Put(stored) => {
                if let Err(message) = self.put(&key, &stored)? {
                    return Ok(Err(message));
                }
            }
        }
        Ok(answer)
    }

    /// The entry of a key; one that has expired is removed.
    fn get(&mut self, now: u64, key: &[u8]) -> Result<Option<Stored>, Error> {
        let stored = match self.entries.get(key)? {
            Some(stored) => read(stored.value())?,
            None => return Ok(None),
        };
        if stored.lives(now) {
            return Ok(Some(stored));
        }
        self.remove(key)?;
        Ok(None)
    }

    fn put(&mut self, key: &[u8], stored: &Stored) -> Result<Result<(), String>, Error> {
        let bytes = stored.encode();
        let before = self.entries.get(key)?.map(|before| before.value().len());
        if let Err(message) = self.usage.check(&self.limits, key, before, bytes.len()) {
            return Ok(Err(message));
        }
        self.remove(key)?;
        self.usage.add(key, bytes.len());
        self.entries.insert(key, &*bytes)?;
        if stored.expires != NEVER {
            self.expiries.insert((stored.expires, key), ())?;
        }
        Ok(Ok(()))
    }

    fn remove(&mut self, key: &[u8]) -> Result<(), Error> {
        let Some(removed) = self.entries.remove(key)? else { return Ok(()) };
        let (expires, bytes) = (read(removed.value())?.expires, removed.value().len());
        drop(removed);
        self.usage.take(key, bytes);
        if expires != NEVER {
            self.expiries.remove((expires, key))?;
        }
        Ok(())
    }

    /// Removes what has expired, a bounded number of entries.
    fn sweep(&mut self, now: u64, most: usize) -> Result<(), Error> {
        let mut expired = Vec::new();
        for entry in self.expiries.range(..(now.saturating_add(1), &[][..]))?.take(most) {
            expired.push(entry?.0.value().1.to_owned());
        }
        expired.iter().try_for_each(|key| self.remove(key))
    }
}

impl Usage {
    fn add(&mut self, key: &[u8], bytes: usize) {
        let bytes = ENTRY_BYTES + key.len() + bytes;
        let space = self.spaces.entry(space_of(key).to_owned()).or_default();
        for taken in [&mut self.all, space] {
            taken.add(bytes);
        }
    }

    fn take(&mut self, key: &[u8], bytes: usize) {
        let bytes = ENTRY_BYTES + key.len() + bytes;
        let Some(space) = self.spaces.get_mut(space_of(key)) else { return };
        for taken in [&mut self.all, &mut *space] {
            taken.remove(bytes);
        }
        if space.entries == 0 {
            self.spaces.remove(space_of(key));
        }
    }

    /// Whether an entry fits, in place of what has its key.
    fn check(&self, limits: &Limits, key: &[u8], before: Option<usize>, bytes: usize) -> Result<(), String> {
        let (more, bytes) = (usize::from(before.is_none()), ENTRY_BYTES + key.len() + bytes);
        let freed = before.map_or(0, |before| ENTRY_BYTES + key.len() + before);
        let exceeds = |taken: Taken, limit: Taken| {
            taken.entries + more > limit.entries || taken.bytes - freed + bytes > limit.bytes
        };
        let (space, Limits { all, room }) = (space_of(key), *limits);
        if exceeds(self.all, all) {
            return Err("the store is full: delete entries, or give them a ttl".to_owned());
        }
        if space != GLOBAL && exceeds(self.spaces.get(space).copied().unwrap_or_default(), room) {
            let Taken { entries, bytes } = room;
            return Err(format!(
                "this room's share of the store is full ({entries} entries or {bytes} bytes): delete entries, or give them a ttl"
            ));
        }
        Ok(())
    }
}

/// The space of `sfu.store.global`.
const GLOBAL: &[u8] = b"\0\0";

/// `script \0 room \0 key`, and without a script for a checkpoint; neither a script's path nor a room's id has a zero byte, and
/// neither is empty.
fn key_of(operation: &Operation) -> Vec<u8> {
    let mut key = match &operation.space {
        Space::Scripts(StoreSpace::Room { script }) => format!("{script}\0{}\0", operation.room).into_bytes(),
        Space::Scripts(StoreSpace::Global) => GLOBAL.to_owned(),
        Space::Checkpoint => format!("\0{}\0", operation.room).into_bytes(),
    };
    key.extend(operation.request.key().as_bytes());
    key
}

/// The part of a key before the script's own.
fn space_of(key: &[u8]) -> &[u8] {
    let zeros = key.iter().enumerate().filter(|(_, byte)| **byte == 0);
    zeros.map(|(at, _)| at).nth(1).map_or(key, |second| &key[..=second])
}
