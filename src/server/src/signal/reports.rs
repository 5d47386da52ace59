//! What the shards tell of themselves: their last counters, and the answers to questions about rooms.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

use super::directory::{Directory, RoomEntry};
use crate::cluster::ShardLoad;
use moonring_core::command::Command;
use moonring_core::report::{MAX_ROOMS_PER_REPORT, ReloadProgress, RoomReport, ShardReport};
use moonring_wire::id::RoomId;

/// How long a shard may take to answer; a shard that ticks takes milliseconds.
const PATIENCE: Duration = Duration::from_secs(2);

/// The shards' reports.
#[derive(Debug, Default)]
pub(super) struct Reports {
    next: AtomicU64,
    waiting: Mutex<HashMap<u64, oneshot::Sender<Vec<RoomReport>>>>,
    shards: Mutex<BTreeMap<usize, ShardReport>>,
}

impl Reports {
    /// A shard told of its counters.
    pub(super) fn counters(&self, shard: usize, report: ShardReport) {
        lock(&self.shards).insert(shard, report);
    }

    /// A shard told of rooms.
    pub(super) fn answer(&self, id: u64, rooms: Vec<RoomReport>) {
        if let Some(waiting) = lock(&self.waiting).remove(&id) {
            // Who asked may have gone.
            let _ = waiting.send(rooms);
        }
    }

    /// The last counters of every shard.
    pub(super) fn shards(&self) -> BTreeMap<usize, ShardReport> {
        lock(&self.shards).clone()
    }

    /// How far the rooms of the shards are with the last change of scripts.
    pub(super) fn reloads(&self) -> Vec<ReloadProgress> {
        lock(&self.shards).values().map(|report| report.reloads.clone()).collect()
    }

    /// How the shards do.
    pub(super) fn loads(&self) -> Vec<ShardLoad> {
        let load = |report: &ShardReport| ShardLoad {
            busy: report.busy_permille,
            clients: report.clients,
            packets: report.counters.forwarded,
        };
        lock(&self.shards).values().map(load).collect()
    }

    /// Asks the shards about these rooms, a few at a time; those that nobody answers for are left out.
    pub(super) async fn rooms(&self, directory: &Directory, rooms: &[RoomEntry]) -> HashMap<RoomId, RoomReport> {
        let mut by_shard: BTreeMap<usize, Vec<RoomId>> = BTreeMap::new();
        for entry in rooms {
            for shard in [entry.shard].into_iter().chain(entry.wings.iter().copied()) {
                by_shard.entry(shard).or_default().push(entry.room.clone());
            }
        }
        let mut reports: HashMap<RoomId, RoomReport> = HashMap::new();
        for (shard, rooms) in by_shard {
            for some in rooms.chunks(MAX_ROOMS_PER_REPORT) {
                let Some(answer) = self.ask(directory, shard, some.to_vec()).await else { break };
                for report in answer {
                    match reports.remove(&report.room) {
                        Some(other) => drop(reports.insert(report.room.clone(), joined(report, other))),
                        None => drop(reports.insert(report.room.clone(), report)),
                    }
                }
            }
        }
        reports
    }

    async fn ask(&self, directory: &Directory, shard: usize, rooms: Vec<RoomId>) -> Option<Vec<RoomReport>> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, answer) = oneshot::channel();
        lock(&self.waiting).insert(id, sender);
        let sent = directory.shard(shard).is_some_and(|handle| handle.send(Command::Report { id, rooms }).is_ok());
        let answer = if sent { tokio::time::timeout(PATIENCE, answer).await.ok() } else { None };
        lock(&self.waiting).remove(&id);
        answer?.ok()
    }
}

/// What the shards of a spread room tell of it: its home of its policy, and each of the paths to its own clients.
fn joined(one: RoomReport, other: RoomReport) -> RoomReport {
    let (mut home, mut wing) = if one.policy.is_some() { (one, other) } else { (other, one) };
    home.paths.append(&mut wing.paths);
    home
}

/// A panic while it was held left whole entries behind.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
