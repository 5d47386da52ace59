//! Checkpoints of rooms, kept where the next process, or another node, finds them: in a cluster's table, or else in the file of
//! `sfu.store`.
//!
//! What is as it was is not written again, and a process writes no more than [`SHARE`] allows: what is beyond it, or could not be
//! kept, comes again with the room's next checkpoint. An error of the store is not taken for a room that has none: [`search`].

mod search;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::time::sleep;

use self::search::{Failed, PAUSE, Question, Search};
use super::store::{LastingStore, Operation, Space, is_unreadable};
use crate::cluster::{Cluster, Table};
use crate::shard_handle::ShardHandle;
use moonring_core::command::{CheckpointOrder, Command};
use moonring_policy::Checkpoint;
use moonring_policy::output::{SharedRequest, SharedValue};
use moonring_policy::settings::{CHECKPOINT_KEPT, CHECKPOINT_REFRESH};
use moonring_wire::id::RoomId;

/// The form of what is written; what has another one is none.
const VERSION: u8 = 1;
/// Bytes that a process writes in a second, and at most at once.
const SHARE: (f64, f64) = (1024.0 * 1024.0, 8.0 * 1024.0 * 1024.0);
/// Bytes of all that a process keeps.
const MAX_BYTES: usize = 64 * 1024 * 1024;
/// How long the end of the process waits for what is under way.
const PATIENCE: Duration = Duration::from_secs(2);
const LOOK: Duration = Duration::from_millis(10);
/// A failure is told once in this time.
const TOLD_AGAIN: Duration = Duration::from_secs(60);

/// See the module; cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Checkpoints(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    place: Place,
    book: Mutex<Book>,
    search: Mutex<Search<ShardHandle>>,
    counts: Counts,
}

#[derive(Debug)]
enum Place {
    Cluster(LastingStore),
    /// That of `sfu.store`.
    Disk,
    /// There is no folder.
    Nowhere,
}

/// What is kept.
#[derive(Debug)]
struct Book {
    rooms: HashMap<RoomId, Kept>,
    bytes: usize,
    /// Bytes that may be written, and when that was.
    level: (f64, Instant),
    told: Option<Instant>,
    has_ended: bool,
}

#[derive(Clone, Copy, Debug)]
struct Kept {
    digest: u64,
    at: Instant,
    bytes: usize,
}

#[derive(Debug, Default)]
struct Counts {
    kept: AtomicU64,
    failed: AtomicU64,
    left_out: AtomicU64,
    found: AtomicU64,
    unknown: AtomicU64,
    under_way: AtomicU64,
}

/// A copy of the counters, for the metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::signal) struct CheckpointCounts {
    /// Those that were written.
    pub(in crate::signal) kept: u64,
    /// Those that could not be.
    pub(in crate::signal) failed: u64,
    /// Those that were more than this process writes.
    pub(in crate::signal) left_out: u64,
    /// Rooms that began with one.
    pub(in crate::signal) found: u64,
    /// Rooms that began without, as the store did not say whether there is one.
    pub(in crate::signal) unknown: u64,
}

impl Checkpoints {
    /// Must be called inside a tokio runtime where there is a cluster.
    pub(super) fn new(cluster: Option<&Cluster>, has_folder: bool) -> Self {
        let place = match cluster {
            Some(cluster) => Place::Cluster(LastingStore::in_cluster(cluster, Table::State)),
            None if has_folder => Place::Disk,
            None => Place::Nowhere,
        };
        let book = Book::new(Instant::now());
        Self(Arc::new(Inner { place, book: Mutex::new(book), search: Mutex::default(), counts: Counts::default() }))
    }

    /// Does what a shard wants done; `disk` is the store of `sfu.store`. Never waits. Must be called inside a tokio runtime.
    pub(super) fn serve(&self, disk: &LastingStore, shard: ShardHandle, room: RoomId, order: CheckpointOrder) {
        match (order, self.store(disk)) {
            (CheckpointOrder::Keep(checkpoint), Some(store)) => self.keep(store, room, &checkpoint),
            (CheckpointOrder::Drop, Some(store)) => self.forget(store, room),
            (CheckpointOrder::Find, Some(store)) => self.find(store, shard, room),
            (CheckpointOrder::Find, None) => super::offer(&shard, Command::CheckpointFound { room, found: None }),
            (CheckpointOrder::Keep(_), None) => self.tell("data_dir is empty"),
            (CheckpointOrder::Drop, None) => {}
        }
    }

    /// A room is not here any more: it may go on elsewhere.
    pub(super) fn room_closed(&self, room: &RoomId) {
        self.book().forget(room);
    }

    /// The process ends in good order, and all its rooms with it.
    pub(super) async fn end(&self, disk: &LastingStore) {
        let Some(store) = self.store(disk) else { return };
        let rooms = self.book().end();
        rooms.into_iter().for_each(|room| self.forget(store, room));
        self.rest().await;
    }

    fn store<'s>(&'s self, disk: &'s LastingStore) -> Option<&'s LastingStore> {
        match &self.0.place {
            Place::Cluster(store) => Some(store),
            Place::Disk => Some(disk),
            Place::Nowhere => None,
        }
    }

    fn keep(&self, store: &LastingStore, room: RoomId, checkpoint: &Checkpoint) {
        let bytes = encode(checkpoint);
        let kept = Kept { digest: checkpoint.digest(), at: Instant::now(), bytes: bytes.len() };
        match self.book().take_in(&room, kept) {
            Taken::Known => return,
            Taken::TooMuch => {
                self.0.counts.left_out.fetch_add(1, Ordering::Relaxed);
                return;
            }
            Taken::New => {}
        }
        let value = SharedValue::Text(bytes);
        let request = SharedRequest::Set { key: String::new(), value, ttl: Some(CHECKPOINT_KEPT) };
        let this = self.clone();
        let of = room.clone();
        self.submit(store, room, request, move |answer| match answer {
            Ok(_) => {
                this.0.counts.kept.fetch_add(1, Ordering::Relaxed);
            }
            Err(why) => {
                this.0.counts.failed.fetch_add(1, Ordering::Relaxed);
                this.book().forget(&of);
                this.tell(&why);
            }
        });
    }

    fn forget(&self, store: &LastingStore, room: RoomId) {
        // Another node, or the process before, may have kept one.
        self.book().forget(&room);
        let this = self.clone();
        self.submit(store, room, SharedRequest::Delete { key: String::new() }, move |answer| {
            if let Err(why) = answer {
                this.tell(&why);
            }
        });
    }

    fn find(&self, store: &LastingStore, shard: ShardHandle, room: RoomId) {
        let (number, patience, question) = self.search().begin(Instant::now(), room, shard);
        self.ask(store, question);
        let this = self.clone();
        tokio::spawn(async move {
            sleep(patience).await;
            this.give_up(number);
        });
    }

    fn ask(&self, store: &LastingStore, questions: impl IntoIterator<Item = Question>) {
        for (number, room) in questions {
            let (this, runtime, asked) = (self.clone(), Handle::current(), store.clone());
            self.submit(store, room, SharedRequest::Get { key: String::new() }, move |answer| {
                let _entered = runtime.enter();
                this.answered(&asked, number, answer);
            });
        }
    }

    fn answered(&self, store: &LastingStore, number: u64, answer: Result<Option<SharedValue>, String>) {
        let found = match answer {
            Ok(Some(SharedValue::Text(bytes))) => decode(&bytes),
            Ok(_) => None,
            Err(why) if is_unreadable(&why) => {
                tracing::error!("whether there is a checkpoint of a room cannot be said: {why}");
                None
            }
            Err(why) => return self.failed(store, number, &why),
        };
        self.works(store);
        let waiting = self.search().answered(number);
        if let Some(waiting) = waiting {
            self.0.counts.found.fetch_add(u64::from(found.is_some()), Ordering::Relaxed);
            tell_shard(&waiting.who, waiting.room, found);
        }
    }

    /// The store does what it is asked for: whoever waits for it is asked about.
    fn works(&self, store: &LastingStore) {
        let (questions, without) = self.search().works();
        if let Some(rooms) = without {
            tracing::info!(rooms, "checkpoints of rooms are found again; so many rooms have begun without theirs");
        }
        self.ask(store, questions);
    }

    fn failed(&self, store: &LastingStore, number: u64, why: &str) {
        let Failed { is_new, pauses } = self.search().fails(Instant::now(), number);
        if is_new {
            self.tell_of_outage(why);
        }
        if pauses {
            let (this, store) = (self.clone(), store.clone());
            tokio::spawn(async move {
                sleep(PAUSE).await;
                let question = this.search().again();
                this.ask(&store, question);
            });
        }
    }

    fn give_up(&self, number: u64) {
        let Some((waiting, is_new)) = self.search().late(number) else { return };
        if is_new {
            self.tell_of_outage("the store does not answer");
        }
        self.0.counts.unknown.fetch_add(1, Ordering::Relaxed);
        tracing::info!(room = %waiting.room, "begins without its checkpoint, if it has one: the store does not say");
        tell_shard(&waiting.who, waiting.room, None);
    }

    /// Once for all rooms.
    fn tell_of_outage(&self, why: &str) {
        let look = match self.0.place {
            Place::Cluster(_) => {
                "look whether NATS can be reached and its bucket mr_state has a leader (`nats stream info KV_mr_state`)"
            }
            Place::Disk | Place::Nowhere => "look at store.redb in data_dir and at the disk",
        };
        let (first, later) = (search::FIRST.as_secs(), search::LATER.as_secs());
        tracing::warn!(
            "checkpoints of rooms cannot be looked for: {why}. It is tried again; rooms that begin wait for it, for up to {first} s, and after \
             that {later} s each, and then begin without what their scripts have kept: {look}"
        );
    }

    fn submit(
        &self,
        store: &LastingStore,
        room: RoomId,
        request: SharedRequest,
        answered: impl FnOnce(Result<Option<SharedValue>, String>) + Send + 'static,
    ) {
        let this = self.clone();
        self.0.counts.under_way.fetch_add(1, Ordering::Relaxed);
        let operation = Operation { room, space: Space::Checkpoint, request };
        store.submit(
            operation,
            Box::new(move |answer| {
                answered(answer);
                this.0.counts.under_way.fetch_sub(1, Ordering::Relaxed);
            }),
        );
    }

    /// Ends when nothing is under way, or after a while.
    async fn rest(&self) {
        let all_done = async {
            while self.0.counts.under_way.load(Ordering::Relaxed) > 0 {
                sleep(LOOK).await;
            }
        };
        if tokio::time::timeout(PATIENCE, all_done).await.is_err() {
            tracing::warn!("the store is slow: rooms that have ended may have left checkpoints behind");
        }
    }

    pub(super) fn counts(&self) -> CheckpointCounts {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let Counts { kept, failed, left_out, found, unknown, under_way: _ } = &self.0.counts;
        CheckpointCounts {
            kept: load(kept),
            failed: load(failed),
            left_out: load(left_out),
            found: load(found),
            unknown: load(unknown),
        }
    }

    /// Says why there are none, now and then.
    fn tell(&self, why: &str) {
        let now = Instant::now();
        let told = &mut self.book().told;
        if told.is_none_or(|told| now - told >= TOLD_AGAIN) {
            *told = Some(now);
            tracing::warn!("checkpoints of rooms are not kept: {why}");
        }
    }

    fn search(&self) -> MutexGuard<'_, Search<ShardHandle>> {
        self.0.search.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.0.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn tell_shard(shard: &ShardHandle, room: RoomId, found: Option<Checkpoint>) {
    super::offer(shard, Command::CheckpointFound { room, found: found.map(Box::new) });
}

/// What a new checkpoint is.
#[derive(Debug, PartialEq)]
enum Taken {
    New,
    /// It is kept already, or is to be kept no more.
    Known,
    TooMuch,
}

impl Book {
    fn new(now: Instant) -> Self {
        Self { rooms: HashMap::new(), bytes: 0, level: (SHARE.1, now), told: None, has_ended: false }
    }

    fn take_in(&mut self, room: &RoomId, new: Kept) -> Taken {
        if self.has_ended {
            return Taken::Known;
        }
        let before = self.rooms.get(room).copied();
        if before.is_some_and(|kept| kept.digest == new.digest && new.at - kept.at < CHECKPOINT_REFRESH) {
            return Taken::Known;
        }
        let (level, since) = self.level;
        let level = (level + (new.at - since).as_secs_f64() * SHARE.0).min(SHARE.1);
        self.level = (level, new.at);
        let others = self.bytes - before.map_or(0, |kept| kept.bytes);
        if level < new.bytes as f64 || others + new.bytes > MAX_BYTES {
            return Taken::TooMuch;
        }
        self.level.0 -= new.bytes as f64;
        self.bytes = others + new.bytes;
        self.rooms.insert(room.clone(), new);
        Taken::New
    }

    /// The rooms there were; none is kept from here on.
    fn end(&mut self) -> Vec<RoomId> {
        (self.has_ended, self.bytes) = (true, 0);
        self.rooms.drain().map(|(room, _)| room).collect()
    }

    fn forget(&mut self, room: &RoomId) {
        self.bytes -= self.rooms.remove(room).map_or(0, |kept| kept.bytes);
    }
}

/// A checkpoint as it is written.
pub(in crate::signal) fn encode(checkpoint: &Checkpoint) -> Vec<u8> {
    // It is plain data, which has a form.
    postcard::to_extend(checkpoint, vec![VERSION]).unwrap_or_default()
}

/// `None`: it was written in another form.
pub(in crate::signal) fn decode(bytes: &[u8]) -> Option<Checkpoint> {
    let rest = bytes.strip_prefix(&[VERSION])?;
    postcard::from_bytes(rest).ok()
}

#[cfg(test)]
mod tests;
