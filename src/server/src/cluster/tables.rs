//! Tables of values that nodes share beside the claims of rooms: scripts, what policies keep, and rooms' checkpoints.
//!
//! Each write names the revision that it goes over, so that of two writers one learns that the other was first. Revisions of a
//! table only grow, and one that was taken out leaves its revision behind for a while.

use std::future::Future;
use std::pin::Pin;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use tokio::sync::mpsc;

/// Longest value of a table.
pub(super) const MAX_VALUE: usize = 512 * 1024;

/// What is waited for.
pub(crate) type Pending<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Why nothing was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unwritten {
    /// Somebody else has written meanwhile.
    Taken,
    /// The table is full.
    Full,
    /// The engine cannot be reached, or cannot decide; the write may have been done.
    Offline,
}

/// The engine cannot be reached, or does not answer in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Offline;

/// Why it cannot be said what stands under a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unread {
    /// The engine cannot be reached, or does not answer in time.
    Offline,
    /// It was written with another secret, or by another version: it is not to be written over.
    Unreadable,
}

/// One of the tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Table {
    /// Scripts that were uploaded.
    Scripts,
    /// `sfu.store`, on the disks of the engine.
    Store,
    /// `sfu.shared`, in its memory.
    Shared,
    /// Rooms' checkpoints, on its disks.
    State,
}

impl Table {
    /// Its name in messages, and at the end of its bucket's.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Scripts => "scripts",
            Self::Store => "store",
            Self::Shared => "shared",
            Self::State => "state",
        }
    }
}

/// The bucket of a table.
pub(super) fn bucket_of(table: Table) -> String {
    format!("mr_{}", table.name())
}

/// What stands under a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Kept {
    /// The value; `None`: nothing.
    pub value: Option<Bytes>,
    /// The revision that a write has to go over; 0 where nothing was written, or that is long ago.
    pub revision: u64,
    /// When it was written, by the engine's clock; the beginning of 1970 where nothing was.
    pub written: SystemTime,
}

impl Kept {
    /// Nothing was ever written.
    pub(super) const NOTHING: Self = Self { value: None, revision: 0, written: SystemTime::UNIX_EPOCH };
}

/// An entry that a scan has come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Scanned {
    pub key: String,
    pub value: Bytes,
    /// The revision that a write has to go over.
    pub revision: u64,
    /// The time that it was given when it was written.
    pub ttl: Option<Duration>,
}

/// The tables; a part of the engine.
pub(super) trait Tables: Send + Sync + 'static {
    /// What was written last under a key. The table is made with the first write.
    fn look(&self, table: Table, key: &str) -> Pending<'_, Result<Kept, Offline>>;
    /// Writes over the revision that was found, or takes out with `None`; the new revision. The entry goes by itself after `ttl`, in
    /// whole seconds, or a little later.
    fn put(
        &self,
        table: Table,
        key: &str,
        value: Option<Bytes>,
        over: u64,
        ttl: Option<Duration>,
    ) -> Pending<'_, Result<u64, Unwritten>>;
    /// All that stands under keys which begin so, up to a dot.
    fn all(&self, table: Table, prefix: &str) -> Pending<'_, Result<Vec<(String, Kept)>, Offline>>;
    /// Tells of all that stands in a table, or of all claims of rooms, one after the other and no faster than they are taken. What is written
    /// meanwhile may be left out, or told twice.
    fn scan(&self, table: Option<Table>, into: mpsc::Sender<Scanned>) -> Pending<'_, Result<(), Offline>>;
}
