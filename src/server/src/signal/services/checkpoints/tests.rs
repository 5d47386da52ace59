use std::sync::mpsc::{Receiver, TryRecvError, sync_channel};

use super::*;
use crate::cluster::memory::nodes;
use moonring_policy::settings::CHECKPOINT_LIFE;
use moonring_policy::{PolicyEngine, PolicyOutput, PolicySettings, Script};

fn room(id: &str) -> RoomId {
    RoomId::parse(id).unwrap()
}

/// The checkpoint of a room whose script holds so many bytes.
fn checkpoint(bytes: usize) -> Box<Checkpoint> {
    let script = format!("CHECKPOINT_SECONDS = 1 function on_unload() return ('x'):rep({bytes}) end");
    let mut engine = PolicyEngine::new(PolicySettings::unhurried(), 1);
    let now = Instant::now();
    engine.open_room(now, &room("r"), Ok(Arc::new(Script::compile("r.lua", script.as_bytes()).unwrap()))).unwrap();
    engine.handle_timeout(now + Duration::from_secs(1));
    match engine.poll_output() {
        Some(PolicyOutput::Checkpoint { checkpoint, .. }) => checkpoint,
        other => panic!("{other:?}"),
    }
}

/// A process with a folder, and what its shard is told.
struct Process {
    checkpoints: Checkpoints,
    disk: LastingStore,
    shard: ShardHandle,
    told: Receiver<Command>,
}

impl Process {
    fn over(folder: &std::path::Path) -> Self {
        let (sender, told) = sync_channel(16);
        let shard = ShardHandle::over(sender, Arc::new(|| {}));
        let has_folder = !folder.as_os_str().is_empty();
        Self {
            checkpoints: Checkpoints::new(None, has_folder),
            disk: LastingStore::in_folder(folder.into()),
            shard,
            told,
        }
    }

    fn of(cluster: &Cluster) -> Self {
        let checkpoints = Checkpoints::new(Some(cluster), true);
        Self { checkpoints, ..Self::over(std::path::Path::new("")) }
    }

    async fn order(&self, id: &str, order: CheckpointOrder) {
        self.checkpoints.serve(&self.disk, self.shard.clone(), room(id), order);
        self.checkpoints.rest().await;
    }

    async fn find(&self, id: &str) -> Option<Box<Checkpoint>> {
        self.order(id, CheckpointOrder::Find).await;
        self.found(id).await
    }

    /// What the shard is told of a room that it has asked about.
    async fn found(&self, id: &str) -> Option<Box<Checkpoint>> {
        loop {
            match self.told.try_recv() {
                Ok(Command::CheckpointFound { room: of, found }) if of == room(id) => return found,
                Err(TryRecvError::Empty) => sleep(LOOK).await,
                other => panic!("{other:?}"),
            }
        }
    }

    fn counts(&self) -> [u64; 4] {
        let CheckpointCounts { kept, failed, left_out, found, unknown: _ } = self.checkpoints.counts();
        [kept, failed, left_out, found]
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_process_finds_what_was_kept_and_not_dropped() {
    let folder = tempfile::tempdir().unwrap();
    let process = Process::over(folder.path());
    let (a, b) = (checkpoint(10), checkpoint(20));
    for (id, kept) in [("a", &a), ("b", &a), ("b", &b), ("c", &a)] {
        process.order(id, CheckpointOrder::Keep(kept.clone())).await;
    }
    process.order("c", CheckpointOrder::Drop).await;
    process.disk.close();
    let next = Process::over(folder.path());
    assert_eq!([next.find("a").await, next.find("b").await], [Some(a), Some(b)]);
    assert_eq!([next.find("c").await, next.find("d").await], [None, None]);
    assert_eq!((process.counts(), next.counts()), ([4, 0, 0, 0], [0, 0, 0, 2]));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_as_it_was_is_written_once() {
    let folder = tempfile::tempdir().unwrap();
    let process = Process::over(folder.path());
    for _ in 0..5 {
        process.order("a", CheckpointOrder::Keep(checkpoint(10))).await;
    }
    assert_eq!(process.counts(), [1, 0, 0, 0]);
    process.order("a", CheckpointOrder::Keep(checkpoint(11))).await;
    process.order("a", CheckpointOrder::Drop).await;
    process.order("a", CheckpointOrder::Keep(checkpoint(11))).await;
    assert_eq!(process.counts(), [3, 0, 0, 0], "what was dropped is not there any more");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_ends_leaves_those_behind_whose_rooms_went_elsewhere() {
    let folder = tempfile::tempdir().unwrap();
    let process = Process::over(folder.path());
    let a = checkpoint(10);
    for id in ["here", "elsewhere"] {
        process.order(id, CheckpointOrder::Keep(a.clone())).await;
    }
    process.checkpoints.room_closed(&room("elsewhere"));
    process.checkpoints.end(&process.disk).await;
    process.order("late", CheckpointOrder::Keep(a.clone())).await;
    process.disk.close();
    let next = Process::over(folder.path());
    assert_eq!([next.find("here").await, next.find("elsewhere").await, next.find("late").await], [None, Some(a), None]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_could_not_be_kept_is_tried_again_and_without_a_folder_nothing_is() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let process = Process::over(&file.path().join("no folder"));
    for _ in 0..2 {
        process.order("a", CheckpointOrder::Keep(checkpoint(10))).await;
    }
    assert_eq!(process.find("a").await, None);
    assert_eq!((process.counts(), process.checkpoints.counts().unknown), ([0, 2, 0, 0], 1));
    let process = Process::over(std::path::Path::new(""));
    process.order("a", CheckpointOrder::Keep(checkpoint(10))).await;
    assert_eq!((process.find("a").await, process.counts()), (None, [0; 4]));
}

#[tokio::test(flavor = "multi_thread")]
async fn rooms_that_begin_while_the_store_is_away_have_their_checkpoints_when_it_is_back() {
    let (bus, clusters) = nodes(&["a", "b"]);
    let [here, there] = [0, 1].map(|n| Process::of(&clusters[n]));
    let kept = checkpoint(10);
    there.order("a", CheckpointOrder::Keep(kept.clone())).await;
    assert_eq!([here.find("a").await, here.find("new").await], [Some(kept.clone()), None]);
    let newer = checkpoint(20);
    for id in ["a", "new"] {
        there.order(id, CheckpointOrder::Keep(newer.clone())).await;
    }
    bus.cut(0, true);
    for id in ["a", "new", "none"] {
        here.order(id, CheckpointOrder::Find).await;
        assert!(here.told.try_recv().is_err(), "it is not known yet");
    }
    bus.cut(0, false);
    assert_eq!(
        [here.found("a").await, here.found("new").await, here.found("none").await],
        [Some(newer.clone()), Some(newer), None]
    );
    assert_eq!((here.counts(), here.checkpoints.counts().unknown), ([0, 0, 0, 3], 0));
}

#[test]
fn a_process_writes_its_share_and_keeps_no_more_than_its_bound() {
    let now = Instant::now();
    let mut book = Book::new(now);
    let kept = |digest: u64, s: u64| Kept { digest, at: now + Duration::from_secs(s), bytes: 64 * 1024 };
    let mut take = |n: u64, s: u64| book.take_in(&room(&format!("r{n}")), kept(n, s));
    let at_once = (0..1_000).filter(|n| take(*n, 0) == Taken::New).count();
    assert_eq!(at_once, 128, "8 MiB");
    assert_eq!((1_000..2_000).filter(|n| take(*n, 2) == Taken::New).count(), 32, "1 MiB a second");
    assert_eq!([take(0, 2), take(0, 299)], [Taken::Known, Taken::Known]);
    assert_eq!(take(0, 300), Taken::New, "before its time is over it is written again");
    let all = (0..).take_while(|n| take(2_000 + n, 1_000 + n) == Taken::New).count();
    assert_eq!(128 + 32 + all, MAX_BYTES / (64 * 1024));
    assert_eq!((book.bytes, book.rooms.len()), (MAX_BYTES, MAX_BYTES / (64 * 1024)));
    book.forget(&room("r0"));
    assert_eq!(book.take_in(&room("new"), kept(1, 5_000)), Taken::New);
    assert_eq!(book.bytes, MAX_BYTES);
}

#[test]
fn a_checkpoint_is_there_for_its_time_after_its_room_although_it_was_as_it_is_for_a_while() {
    let now = Instant::now();
    let mut book = Book::new(now);
    let mut take =
        |s: u64| book.take_in(&room("r"), Kept { digest: 1, at: now + Duration::from_secs(s), bytes: 1 }) == Taken::New;
    assert!(take(0));
    // The process is lost right before it would be written again.
    let unwritten = (1..).take_while(|s| !take(*s)).last().unwrap();
    assert!(CHECKPOINT_KEPT - Duration::from_secs(unwritten) >= CHECKPOINT_LIFE);
}

#[test]
fn what_another_version_has_written_is_no_checkpoint() {
    let bytes = encode(&checkpoint(10));
    assert!(decode(&bytes).is_some());
    let other = [&[VERSION + 1], &bytes[1..]].concat();
    for bytes in [&[][..], &other, &bytes[..bytes.len() - 1], &[VERSION]] {
        assert_eq!(decode(bytes), None);
    }
}
