//! `sfu.store`: what lasts over a restart, kept by an engine on a thread of its own; in a cluster, and there `sfu.shared` as
//! well, by one that all nodes share ([`everywhere`]).
//!
//! Operations that come while the engine works are one batch, and one batch is one commit: the disk is waited for once,
//! however many rooms ask. An operation is answered when it is on the disk, so what a script has been answered is still
//! there after a power cut. While the engine fails (a full or broken disk, a file that another process holds), every
//! operation is an error in its script, and the engine is opened anew from time to time.

mod disk;
mod everywhere;
mod stored;
#[cfg(test)]
mod tests;

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::runtime::Handle;

use crate::cluster::{Cluster, Table};
use everywhere::EverywhereStore;
use moonring_policy::output::{SharedRequest, SharedValue, StoreSpace};
use moonring_wire::id::RoomId;
use stored::Stored;

/// The file in `data_dir`.
const FILE: &str = "store.redb";
/// Operations that wait for the engine.
const MAX_QUEUED: usize = 4_096;
/// Operations of one commit.
const MAX_BATCH: usize = 512;
/// Pause before an engine that failed is opened again.
const PAUSE: Duration = Duration::from_secs(1);

/// A value that is kept: as it would be written again, if it can be read.
pub(in crate::signal) fn value_again(bytes: &[u8]) -> Option<Vec<u8>> {
    Stored::decode(bytes).map(|stored| stored.encode())
}

/// Whether an entry cannot be read although the store works: asking again does not help.
pub(super) fn is_unreadable(why: &str) -> bool {
    why == everywhere::UNREADABLE
}

/// The answer to one operation; the error is for the script's author.
type Answer = Result<Option<SharedValue>, String>;

/// Whose an entry is.
#[derive(Clone, Debug)]
pub(super) enum Space {
    /// Of scripts.
    Scripts(StoreSpace),
    /// The room's checkpoint.
    Checkpoint,
}

/// An operation of a room.
#[derive(Debug)]
pub(super) struct Operation {
    pub(super) room: RoomId,
    pub(super) space: Space,
    pub(super) request: SharedRequest,
}

/// Keeps what scripts store.
trait Engine: Send {
    /// Does operations, in order; they are kept all together when this returns, or not at all when it is an error, after
    /// which the engine is not asked again. `now` is the time since 1970.
    fn apply(&mut self, now: Duration, batch: &[Operation]) -> Result<Vec<Answer>, String>;
    /// How many operations it could not do in batches that it has answered, since this was last asked.
    fn take_failed(&mut self) -> u64 {
        0
    }
}

/// Opens the engine.
type Open = Box<dyn FnMut() -> Result<Box<dyn Engine>, String> + Send>;
/// Takes the answer.
type Reply = Box<dyn FnOnce(Answer) + Send>;

/// What the thread does.
enum Job {
    Do(Operation, Reply),
    /// Lets go of the file, says so, and ends.
    Close(SyncSender<()>),
}

/// The store; its thread ends with it. Cheap to clone.
#[derive(Clone)]
pub(super) struct LastingStore {
    jobs: SyncSender<Job>,
    counts: Arc<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    commits: AtomicU64,
    failed: AtomicU64,
}

impl LastingStore {
    /// The store in a folder. Its file is opened, or made, with the first operation. Without a folder nothing is kept.
    pub(super) fn in_folder(folder: PathBuf) -> Self {
        let path = folder.join(FILE);
        Self::over(Box::new(move || {
            if folder.as_os_str().is_empty() {
                return Err("there is no store: data_dir is empty".to_owned());
            }
            Ok(Box::new(disk::DiskStore::open(&path)?))
        }))
    }

    /// The store that all nodes of a cluster share. Must be called inside a tokio runtime.
    pub(super) fn in_cluster(cluster: &Cluster, table: Table) -> Self {
        let (cluster, runtime) = (cluster.clone(), Handle::current());
        Self::over(Box::new(move || Ok(Box::new(EverywhereStore::new(cluster.clone(), runtime.clone(), table)))))
    }

    fn over(open: Open) -> Self {
        let (jobs, queue) = sync_channel(MAX_QUEUED);
        let counts = Arc::new(Counts::default());
        let worker = Worker { open, engine: None, outage: None, counts: counts.clone() };
        if let Err(error) = std::thread::Builder::new().name("store".into()).spawn(move || worker.run(&queue)) {
            tracing::error!("the store has no thread: {error}");
        }
        Self { jobs, counts }
    }

    /// Lets go of the file, which another process opens now: nothing is kept from here on.
    pub(super) fn close(&self) {
        let (closed, is_closed) = sync_channel(1);
        if self.jobs.send(Job::Close(closed)).is_ok() {
            // A worker that is gone has let go, too.
            let _ = is_closed.recv();
        }
    }

    /// Does an operation; `reply` is called with its answer, on another thread or, when too many wait, on this one.
    pub(super) fn submit(&self, operation: Operation, reply: Reply) {
        if let Err(TrySendError::Full(job) | TrySendError::Disconnected(job)) =
            self.jobs.try_send(Job::Do(operation, reply))
            && let Job::Do(_, reply) = job
        {
            self.counts.failed.fetch_add(1, Ordering::Relaxed);
            reply(Err("the store is overloaded".to_owned()));
        }
    }

    /// Commits, and operations that the store could not do, since the start.
    pub(super) fn counts(&self) -> (u64, u64) {
        (self.counts.commits.load(Ordering::Relaxed), self.counts.failed.load(Ordering::Relaxed))
    }
}

impl fmt::Debug for LastingStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LastingStore").field("counts", &self.counts).finish_non_exhaustive()
    }
}

struct Worker {
    open: Open,
    engine: Option<Box<dyn Engine>>,
    /// Why the engine failed, and when.
    outage: Option<(Instant, String)>,
    counts: Arc<Counts>,
}

impl Worker {
    fn run(mut self, queue: &Receiver<Job>) {
        let mut closed = None;
        while let Ok(first) = queue.recv() {
            let (mut batch, mut replies) = (Vec::new(), Vec::new());
            for job in std::iter::once(first).chain(queue.try_iter().take(MAX_BATCH - 1)) {
                match job {
                    Job::Do(operation, reply) => {
                        batch.push(operation);
                        replies.push(reply);
                    }
                    Job::Close(by) => {
                        closed = Some(by);
                        break;
                    }
                }
            }
            self.do_all(&batch, replies);
            if closed.is_some() {
                break;
            }
        }
        drop(self.engine.take());
        // Whoever asked for it may have given up.
        let _ = closed.map(|closed| closed.send(()));
    }

    fn do_all(&mut self, batch: &[Operation], replies: Vec<Reply>) {
        if !batch.is_empty() {
            match self.apply(batch) {
                Ok(answers) => {
                    self.counts.commits.fetch_add(1, Ordering::Relaxed);
                    let failed = self.engine.as_mut().map_or(0, |engine| engine.take_failed());
                    self.counts.failed.fetch_add(failed, Ordering::Relaxed);
                    replies.into_iter().zip(answers).for_each(|(reply, answer)| reply(answer));
                }
                Err(message) => {
                    self.counts.failed.fetch_add(batch.len() as u64, Ordering::Relaxed);
                    replies.into_iter().for_each(|reply| reply(Err(message.clone())));
                }
            }
        }
    }

    fn apply(&mut self, batch: &[Operation]) -> Result<Vec<Answer>, String> {
        if let Some((since, message)) = &self.outage
            && since.elapsed() < PAUSE
        {
            return Err(message.clone());
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let (open, engine) = (&mut self.open, &mut self.engine);
        // A damaged file can make an engine panic.
        let applied = catch_unwind(AssertUnwindSafe(|| {
            let engine = match engine {
                Some(engine) => engine,
                None => engine.insert(open()?),
            };
            engine.apply(now, batch)
        }));
        let applied = applied.unwrap_or_else(|_| Err("the store is damaged".to_owned()));
        match &applied {
            Ok(_) if self.outage.take().is_some() => tracing::info!("the store works again"),
            Ok(_) => {}
            Err(message) => {
                self.engine = None;
                if self.outage.is_none() {
                    tracing::error!("{message}; sfu.store raises errors until it works again");
                }
                self.outage = Some((Instant::now(), message.clone()));
            }
        }
        applied
    }
}
