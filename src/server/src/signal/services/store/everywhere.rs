//! `sfu.store` and `sfu.shared` for all nodes of a cluster: each key is an entry of a table that they share.
//!
//! ```text
//! read the entry ─▶ do all operations on it that wait ─▶ write over the revision that was read ─▶ answer
//!       ▲                                                          │ another node was first
//!       └──────────────────────────────────────────────────────────┘
//! ```
//! So an operation is one step for all nodes, and of two that are done at the same time each sees the other or is seen by it.
//! While the engine cannot be reached, entries that this node has seen are still read, and everything else is an error in the
//! script: what is checked in a store fails closed.

mod known;
mod taken;
#[cfg(test)]
mod tests;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use futures_util::{StreamExt, stream};
use sha2::{Digest, Sha256};
use tokio::runtime::Handle;
use tokio::time::sleep;

use self::known::Known;
use self::taken::{Owner, TakenBy};
use super::super::taken::Taken;
use super::stored::{Change, NEVER, Stored, step};
use super::{Answer, Engine, Operation, Space};
use crate::cluster::{Cluster, Kept, Table, Unread, Unwritten};
use moonring_policy::output::{SharedRequest, StoreSpace};

/// Keys that are worked on at once.
const AT_ONCE: usize = 64;
/// Longest that an operation is tried again because others write the same key.
const PATIENCE: Duration = Duration::from_secs(5);
/// Longest pause before it is, and what is added to the pause with each try.
const PAUSE: Duration = Duration::from_millis(64);
const PAUSE_STEP: Duration = Duration::from_millis(2);
/// The engine's clock is read again after this time: the nodes' own may differ by minutes.
const CLOCK: Duration = Duration::from_secs(60);
/// The engine itself takes out what has expired, this much later.
const LATER: Duration = Duration::from_secs(1);
/// Bytes of a hash in a key, of which each has two digits.
const HASH: usize = 16;
/// Why nothing can be done, or is known to be done.
const AWAY: &str = "the store cannot be reached: the cluster's messages are away";
const UNKNOWN: &str = "the store does not answer: whether this was kept is not known";
const CONTESTED: &str = "other nodes write this key all the time";
pub(super) const UNREADABLE: &str =
    "a node with another cluster_secret_file or version has written this key: it stays as it is, see the server's log";
const FULL: &str = "the store is full: delete entries, or give them a ttl";

/// See the module.
pub(super) struct EverywhereStore {
    cluster: Cluster,
    runtime: Handle,
    table: Table,
    /// When the engine's clock was read, and what it said.
    clock: Option<(Instant, SystemTime)>,
    clock_fresh: Duration,
    known: RefCell<Known>,
    taken: RefCell<TakenBy>,
    failed: Cell<u64>,
}

/// Operations on one key, in their order.
struct Group<'b> {
    key: String,
    /// Whose share it takes.
    owner: Option<Owner>,
    operations: Vec<(usize, &'b Operation)>,
}

/// What operations make of an entry.
struct Made {
    after: Option<Stored>,
    answers: Vec<Answer>,
    changes: bool,
    /// One was refused, as the room's share is full.
    is_over: bool,
}

impl EverywhereStore {
    pub(super) fn new(cluster: Cluster, runtime: Handle, table: Table) -> Self {
        let share = match table {
            Table::Shared => Taken { entries: 12_500, bytes: 8 * 1024 * 1024 },
            _ => Taken { entries: 4_096, bytes: 1024 * 1024 },
        };
        let (known, taken) = (RefCell::new(Known::default()), RefCell::new(TakenBy::new(share)));
        Self { cluster, runtime, table, clock: None, clock_fresh: CLOCK, known, taken, failed: Cell::new(0) }
    }

    async fn apply_all(&mut self, batch: &[Operation]) -> Vec<Answer> {
        self.read_clock().await;
        let mut answers: Vec<Answer> = vec![Err(AWAY.to_owned()); batch.len()];
        let mut groups: Vec<Group<'_>> = Vec::new();
        let mut places = HashMap::new();
        for (n, operation) in batch.iter().enumerate() {
            let key = self.key_of(operation);
            let place = *places.entry(key.clone()).or_insert(groups.len());
            if place == groups.len() {
                groups.push(Group { key, owner: self.owner_of(operation), operations: Vec::new() });
            }
            groups[place].operations.push((n, operation));
        }
        let this = &*self;
        let worked = groups.iter().map(|group| async move { (group, this.work(group).await) });
        let worked: Vec<_> = stream::iter(worked).buffer_unordered(AT_ONCE).collect().await;
        for (group, found) in worked {
            for ((n, _), answer) in group.operations.iter().zip(found) {
                let is_failed =
                    answer.as_ref().is_err_and(|why| [AWAY, UNKNOWN, CONTESTED, UNREADABLE].contains(&why.as_str()));
                self.failed.set(self.failed.get() + u64::from(is_failed));
                answers[*n] = answer;
            }
        }
        answers
    }

    /// Does the operations on one key.
    async fn work(&self, group: &Group<'_>) -> Vec<Answer> {
        let (end, mut pause) = (Instant::now() + PATIENCE, Duration::ZERO);
        let mut is_looked_through = false;
        loop {
            let (found, before) = match self.look(&group.key).await {
                Ok(found) => found,
                Err(Unread::Offline) => return self.without_engine(group),
                Err(Unread::Unreadable) => return vec![Err(UNREADABLE.to_owned()); group.operations.len()],
            };
            if let Some(owner) = group.owner
                && !self.meet(owner, group).await
            {
                return self.without_engine(group);
            }
            let made = self.make(group, before.as_ref());
            if made.is_over && !is_looked_through {
                is_looked_through = true;
                self.look_through(group.owner).await;
                continue;
            }
            if !made.changes {
                self.known.borrow_mut().see(&group.key, before);
                return made.answers;
            }
            match self.write(&group.key, &found, made.after.as_ref()).await {
                Ok(()) => {
                    self.note(group, made.after.as_ref());
                    self.known.borrow_mut().see(&group.key, made.after);
                    return made.answers;
                }
                Err(Unwritten::Taken) if Instant::now() < end => {
                    pause = PAUSE.min(pause + PAUSE_STEP);
                    // Two nodes that wait equally long meet again.
                    sleep(pause.mul_f64(rand::random())).await;
                }
                Err(Unwritten::Taken) => return refused(group, &made, CONTESTED),
                Err(Unwritten::Full) => return refused(group, &made, FULL),
                Err(Unwritten::Offline) => return refused(group, &made, UNKNOWN),
            }
        }
    }

    /// The entry, and what lives in it.
    async fn look(&self, key: &str) -> Result<(Kept, Option<Stored>), Unread> {
        let found = self.cluster.value(self.table, key).await?;
        let decode = |bytes| Stored::decode(bytes).ok_or(Unread::Unreadable);
        let stored = found.value.as_deref().map(decode).transpose()?;
        let now = self.now();
        Ok((found, stored.filter(|stored| stored.lives(now))))
    }

    fn make(&self, group: &Group<'_>, before: Option<&Stored>) -> Made {
        let now = self.now();
        let mut made = Made { after: before.cloned(), answers: Vec::new(), changes: false, is_over: false };
        for (_, operation) in &group.operations {
            let (change, mut answer) = step(now, &operation.request, made.after.as_ref());
            match change {
                Change::Nothing => {}
                Change::Remove => {
                    made.changes |= made.after.is_some();
                    made.after = None;
                }
                Change::Put(stored) => match self.fits(group, &stored) {
                    Ok(()) => {
                        made.changes = true;
                        made.after = Some(stored);
                    }
                    Err(full) => {
                        made.is_over = true;
                        answer = Err(full);
                    }
                },
            }
            made.answers.push(answer);
        }
        // What is as it was needs no write.
        made.changes &= made.after.as_ref() != before;
        made
    }

    async fn write(&self, key: &str, found: &Kept, after: Option<&Stored>) -> Result<(), Unwritten> {
        let now = self.now();
        let ttl = after.filter(|stored| stored.expires != NEVER).map(|stored| stored.expires.saturating_sub(now));
        let ttl = ttl.map(|left| Duration::from_millis(left) + LATER);
        let bytes = after.map(Stored::encode);
        self.cluster.put_value(self.table, key, bytes, found.revision, ttl).await
    }

    /// What can be said while the engine cannot be reached.
    fn without_engine(&self, group: &Group<'_>) -> Vec<Answer> {
        let (known, now) = (self.known.borrow(), self.now());
        let answer = |(_, operation): &(usize, &Operation)| match (&operation.request, known.find(&group.key)) {
            // A room that has been elsewhere since would begin with what it was, or without anything.
            (SharedRequest::Get { .. }, Some(stored)) if !matches!(operation.space, Space::Checkpoint) => {
                Ok(stored.as_ref().filter(|stored| stored.lives(now)).map(|stored| stored.value.clone()))
            }
            _ => Err(AWAY.to_owned()),
        };
        group.operations.iter().map(answer).collect()
    }

    /// Takes in what a room has in the table, if it is not known; false when that cannot be read.
    async fn meet(&self, owner: Owner, group: &Group<'_>) -> bool {
        let reads = |(_, operation): &(usize, &Operation)| matches!(operation.request, SharedRequest::Get { .. });
        // Entries of the shared store do not say in their keys whose they are.
        if self.table == Table::Shared || self.taken.borrow().knows(owner) || group.operations.iter().all(reads) {
            return true;
        }
        let prefix = group.key.split_inclusive('.').next().unwrap_or_default();
        let Ok(all) = self.cluster.values(self.table, prefix).await else { return false };
        let entries = all.into_iter().filter_map(|(key, found)| Some((key, Stored::decode(found.value.as_deref()?)?)));
        self.taken.borrow_mut().meet(Instant::now(), owner, entries);
        true
    }

    fn fits(&self, group: &Group<'_>, stored: &Stored) -> Result<(), String> {
        let Some(owner) = group.owner else { return Ok(()) };
        self.taken.borrow_mut().check(self.now(), owner, &group.key, stored)
    }

    fn note(&self, group: &Group<'_>, after: Option<&Stored>) {
        if let Some(owner) = group.owner {
            self.taken.borrow_mut().note(Instant::now(), owner, &group.key, after);
        }
    }

    /// Looks whether entries of a room whose share is full are still there: others may have deleted them.
    async fn look_through(&self, owner: Option<Owner>) {
        let Some(owner) = owner else { return };
        let keys = self.taken.borrow_mut().oldest(owner, AT_ONCE);
        let looked = keys.into_iter().map(|key| async move {
            let found = self.look(&key).await;
            (key, found.is_ok_and(|(_, stored)| stored.is_none()))
        });
        let looked: Vec<_> = stream::iter(looked).buffer_unordered(AT_ONCE).collect().await;
        for (key, is_gone) in looked {
            if is_gone {
                self.taken.borrow_mut().note(Instant::now(), owner, &key, None);
            }
        }
    }

    async fn read_clock(&mut self) {
        let is_fresh = self.clock.is_some_and(|(at, _)| at.elapsed() < self.clock_fresh);
        if !is_fresh && let Some(now) = self.cluster.engine_time(self.table).await {
            self.clock = Some((Instant::now(), now));
        }
    }

    /// Milliseconds since 1970 by the engine's clock, or by this machine's as long as that was never read.
    fn now(&self) -> u64 {
        let now = self.clock.map_or_else(SystemTime::now, |(at, said)| said + at.elapsed());
        u64::try_from(now.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis()).unwrap_or(u64::MAX)
    }

    /// `<space>.<key>`, both as hashes: they may hold what no key of the engine may, and be longer.
    fn key_of(&self, operation: &Operation) -> String {
        let space = match (self.table, &operation.space) {
            (Table::Shared, _) => "shared".to_owned(),
            (_, Space::Scripts(StoreSpace::Global)) => "global".to_owned(),
            (_, Space::Checkpoint) => "checkpoint".to_owned(),
            (_, Space::Scripts(StoreSpace::Room { script })) => {
                hash(&[script.as_bytes(), b"\0", operation.room.as_str().as_bytes()])
            }
        };
        let key = match &operation.space {
            Space::Checkpoint => operation.room.as_str(),
            Space::Scripts(_) => operation.request.key(),
        };
        format!("{space}.{}", hash(&[key.as_bytes()]))
    }

    fn owner_of(&self, operation: &Operation) -> Option<Owner> {
        match (self.table, &operation.space) {
            (Table::Shared, _) => Some(Owner::of(&[operation.room.as_str().as_bytes()])),
            (_, Space::Scripts(StoreSpace::Global) | Space::Checkpoint) => None,
            (_, Space::Scripts(StoreSpace::Room { script })) => {
                Some(Owner::of(&[script.as_bytes(), b"\0", operation.room.as_str().as_bytes()]))
            }
        }
    }
}

impl Engine for EverywhereStore {
    fn apply(&mut self, _: Duration, batch: &[Operation]) -> Result<Vec<Answer>, String> {
        let runtime = self.runtime.clone();
        Ok(runtime.block_on(self.apply_all(batch)))
    }

    fn take_failed(&mut self) -> u64 {
        self.failed.take()
    }
}

/// Those that would have changed something are errors.
fn refused(group: &Group<'_>, made: &Made, why: &str) -> Vec<Answer> {
    let is_read = |operation: &Operation| matches!(operation.request, SharedRequest::Get { .. });
    let first_write = group.operations.iter().position(|(_, operation)| !is_read(operation)).unwrap_or_default();
    let answers = made.answers.iter().enumerate();
    // A read behind a write has seen what is not there.
    answers.map(|(n, answer)| if n < first_write { answer.clone() } else { Err(why.to_owned()) }).collect()
}

fn hash(parts: &[&[u8]]) -> String {
    let mut hash = Sha256::new();
    parts.iter().for_each(|part| hash.update(part));
    hash.finalize()[..HASH].iter().map(|byte| format!("{byte:02x}")).collect()
}
