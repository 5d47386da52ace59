//! What nodes need to find each other: messages, and one small table in which the first writer wins.
//!
//! [`super::nats`] is the one there is; tests have one in memory, which can be cut, delayed and stopped.

use std::time::Duration;

use bytes::Bytes;

use super::tables::Tables;
pub(crate) use super::tables::{Offline, Pending, Unwritten};
use tokio::sync::{mpsc, watch};
use tokio::task::AbortHandle;

/// Longest message and longest entry that are taken, but for those of shards.
pub(super) const MAX_BYTES: usize = 64 * 1024;
/// Longest message that one shard says to another of another node, sealed.
pub(super) const MAX_PLACE_MESSAGE: usize = moonring_core::command::MAX_PLACE_BYTES + 256;
/// Messages of one subject that may wait to be read; what comes then is lost, and asked again.
pub(super) const QUEUE: usize = 1024;

/// Sends an answer.
pub(super) type Reply = Box<dyn FnOnce(Bytes) + Send>;

/// A message to a subject that is served.
pub(super) struct Message {
    /// The subject.
    pub subject: String,
    /// What it says.
    pub body: Bytes,
    /// For the answer, when one is waited for.
    pub reply: Option<Reply>,
}

/// An entry of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// What was written.
    pub value: Bytes,
    /// The number of the write: higher than that of any before it.
    pub revision: u64,
}

/// An entry was written, or taken out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Change {
    pub key: String,
    /// What stands there now; `None`: nothing.
    pub value: Option<Bytes>,
    pub revision: u64,
}

/// What a watch tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Watched {
    /// It begins, or begins anew after a failure: what was written before may not have been told.
    Opened,
    /// An entry has changed.
    Changed(Change),
}

/// Why a question has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unanswered {
    /// Nobody serves the subject.
    Nobody,
    /// Whoever serves it has not answered in time.
    Silence,
    /// The engine cannot be reached.
    Offline,
}

/// The bus and the table that all nodes share. What cannot be reached is said, never waited for without a bound.
pub(super) trait Engine: Tables {
    /// Whether it can be reached; a change to true says that messages may have been missed.
    fn connected(&self) -> watch::Receiver<bool>;
    /// Says something to all who serve a subject. Lost while the engine cannot be reached.
    fn tell(&self, subject: &str, body: Bytes) -> Pending<'_, ()>;
    /// Takes the messages of a subject, until what is returned is dropped.
    fn serve(&self, subject: &str, into: mpsc::Sender<Message>) -> Serving;
    /// Asks those who serve a subject: the first answer that `is_good`.
    fn ask<'a>(&'a self, subject: &str, question: Bytes, is_good: IsGood<'a>)
    -> Pending<'a, Result<Bytes, Unanswered>>;
    /// Reads an entry.
    fn read(&self, key: &str) -> Pending<'_, Result<Option<Entry>, Offline>>;
    /// Writes an entry that must not be there, or must have the revision `over`; its new revision.
    fn claim(&self, key: &str, value: Bytes, over: Option<u64>) -> Pending<'_, Result<u64, Unwritten>>;
    /// Takes an entry out that must have this revision.
    fn release(&self, key: &str, revision: u64) -> Pending<'_, Result<(), Unwritten>>;
    /// Tells of all changes from when it says that it is open, until what is returned is dropped.
    fn watch(&self, into: mpsc::Sender<Watched>) -> Serving;
}

/// How long an answer is waited for, and whether it is from one of us.
pub(super) struct IsGood<'a> {
    pub patience: Duration,
    pub check: &'a (dyn Fn(&[u8]) -> bool + Send + Sync),
}

/// Something that goes on until this is dropped.
#[derive(Debug)]
pub(super) struct Serving(pub AbortHandle);

impl Drop for Serving {
    fn drop(&mut self) {
        self.0.abort();
    }
}
