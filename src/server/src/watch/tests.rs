//! Every way in which editors and deployments write files, on real folders. Time is only waited for, never asserted.

mod canary;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, sync_channel};

use super::*;
use crate::script_set::ScriptSet;
use crate::scripts::Uploads;
use moonring_policy::Script;
use moonring_wire::id::RoomId;

const NEVER: Duration = Duration::from_secs(3600);
const BY_EVENT: WatchSettings =
    WatchSettings { debounce: Duration::from_millis(30), poll: NEVER, on_save: Saved::Reload };
const BY_POLL: WatchSettings =
    WatchSettings { debounce: Duration::from_millis(5), poll: Duration::from_millis(50), on_save: Saved::Reload };
const PATIENCE: Duration = Duration::from_secs(20);

/// A watched folder and the shard that is told of it.
struct World {
    root: tempfile::TempDir,
    commands: Receiver<Command>,
    handle: WatchHandle,
}

impl World {
    /// `prepare` makes `scripts` below the root.
    async fn new(settings: WatchSettings, prepare: impl FnOnce(&Path)) -> Self {
        let root = tempfile::tempdir().unwrap();
        prepare(root.path());
        let folder = ScriptFolder::open(&root.path().join("scripts"), vec![], None).unwrap();
        let (sender, commands) = sync_channel(64);
        let shards = vec![ShardHandle::over(sender, Arc::new(|| {}))];
        let (watch, handle) = Watch::new(folder, shards, settings);
        tokio::spawn(watch.run());
        let world = Self { root, commands, handle };
        // Answered when the first watches are set: by then it runs.
        assert_eq!(world.handle.reload().await.unwrap().1.changed, Vec::<String>::new());
        // What this order has told the shard is no test's.
        world.commands.try_iter().for_each(drop);
        world
    }

    async fn plain(settings: WatchSettings) -> Self {
        Self::new(settings, |root| {
            fs::create_dir(root.join("scripts")).unwrap();
            fs::write(root.join("scripts/default_room.lua"), "x = 1").unwrap();
        })
        .await
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    /// Waits until the shard has been told of a library in which `room` runs `text`; how many it was told of.
    async fn runs(&self, room: &str, text: &str) -> usize {
        let version = Script::compile("x", text.as_bytes()).unwrap().version();
        let room = RoomId::parse(room).unwrap();
        let mut libraries = 0;
        for _ in 0..PATIENCE.as_millis() / 5 {
            while let Ok(Command::Scripts(library)) = self.commands.try_recv() {
                libraries += 1;
                if library.resolve(&room).is_ok_and(|script| script.version() == version) {
                    return libraries;
                }
            }
            sleep(Duration::from_millis(5)).await;
        }
        panic!("{text:?} did not arrive; the watch knows {:?}", self.handle.counts());
    }

    /// Waits until that many scripts are not in use in their newest version.
    async fn fails(&self, count: u64) {
        for _ in 0..PATIENCE.as_millis() / 5 {
            if self.handle.counts().failed == count {
                return;
            }
            sleep(Duration::from_millis(5)).await;
        }
        panic!("{count} failures did not come; the watch knows {:?}", self.handle.counts());
    }
}

#[tokio::test]
async fn a_file_written_in_place_is_seen() {
    let world = World::plain(BY_EVENT).await;
    fs::write(world.path("scripts/default_room.lua"), "x = 2").unwrap();
    world.runs("a", "x = 2").await;
    fs::write(world.path("scripts/default_room.lua"), "x = 3").unwrap();
    world.runs("a", "x = 3").await;
}

#[tokio::test]
async fn a_file_moved_over_another_is_seen_again_and_again() {
    let world = World::plain(BY_EVENT).await;
    for text in ["x = 2", "x = 3", "x = 4"] {
        fs::write(world.path("scripts/.default_room.lua.swp"), text).unwrap();
        fs::rename(world.path("scripts/.default_room.lua.swp"), world.path("scripts/default_room.lua")).unwrap();
        world.runs("a", text).await;
    }
}

#[tokio::test]
async fn an_editor_that_keeps_a_backup_is_followed() {
    let world = World::plain(BY_EVENT).await;
    fs::rename(world.path("scripts/default_room.lua"), world.path("scripts/default_room.lua~")).unwrap();
    fs::write(world.path("scripts/default_room.lua"), "x = 2").unwrap();
    world.runs("a", "x = 2").await;
}

#[tokio::test]
async fn a_checkout_that_unlinks_and_writes_many_files_is_one_change() {
    let world = World::plain(BY_EVENT).await;
    fs::create_dir(world.path("scripts/rooms")).unwrap();
    for n in 0..50 {
        fs::write(world.path(&format!("scripts/rooms/r{n}.lua")), "x = 5").unwrap();
    }
    fs::remove_file(world.path("scripts/default_room.lua")).unwrap();
    fs::write(world.path("scripts/default_room.lua"), "x = 2").unwrap();
    world.runs("r49", "x = 5").await;
    let (_, report) = world.handle.reload().await.unwrap();
    assert_eq!((report.scripts, report.failed), (51, vec![]));
}

#[tokio::test]
async fn another_target_of_a_link_on_the_way_to_the_folder_is_seen() {
    // As with `scripts_dir` at a folder of a ConfigMap, or below the link to the current release.
    let world = World::new(BY_EVENT, |root| {
        for (version, text) in [("..v1", "x = 1"), ("..v2", "x = 2")] {
            fs::create_dir_all(root.join(version).join("scripts")).unwrap();
            fs::write(root.join(version).join("scripts/default_room.lua"), text).unwrap();
        }
        symlink("..v1", root.join("..data")).unwrap();
        symlink("..data/scripts", root.join("scripts")).unwrap();
    })
    .await;
    symlink("..v2", world.path("..data_tmp")).unwrap();
    fs::rename(world.path("..data_tmp"), world.path("..data")).unwrap();
    world.runs("a", "x = 2").await;
}

#[tokio::test]
async fn a_new_file_is_seen_where_the_folder_is_named_from_within() {
    // As with `scripts_dir` as ".".
    let world = World::new(BY_EVENT, |root| {
        symlink(".", root.join("scripts")).unwrap();
        fs::write(root.join("default_room.lua"), "x = 1").unwrap();
        fs::create_dir(root.join("rooms")).unwrap();
    })
    .await;
    fs::rename(world.path("default_room.lua"), world.path("old")).unwrap();
    world.fails(1).await;
    fs::write(world.path(".new"), "x = 2").unwrap();
    fs::rename(world.path(".new"), world.path("default_room.lua")).unwrap();
    world.runs("a", "x = 2").await;
}

#[tokio::test]
async fn kubernetes_swap_of_its_data_link_is_seen() {
    let world = World::new(BY_EVENT, |root| {
        fs::create_dir_all(root.join("scripts/..v1")).unwrap();
        fs::write(root.join("scripts/..v1/default_room.lua"), "x = 1").unwrap();
        symlink("..v1", root.join("scripts/..data")).unwrap();
        symlink("..data/default_room.lua", root.join("scripts/default_room.lua")).unwrap();
    })
    .await;
    for (version, text) in [("..v2", "x = 2"), ("..v3", "x = 3")] {
        fs::create_dir(world.path("scripts").join(version)).unwrap();
        fs::write(world.path("scripts").join(version).join("default_room.lua"), text).unwrap();
        symlink(version, world.path("scripts/..data_tmp")).unwrap();
        fs::rename(world.path("scripts/..data_tmp"), world.path("scripts/..data")).unwrap();
        world.runs("a", text).await;
    }
}

#[tokio::test]
async fn a_file_that_a_link_leads_to_is_watched_where_it_is() {
    let world = World::new(BY_EVENT, |root| {
        fs::create_dir_all(root.join("scripts")).unwrap();
        fs::write(root.join("elsewhere.lua"), "x = 1").unwrap();
        symlink("../elsewhere.lua", root.join("scripts/default_room.lua")).unwrap();
    })
    .await;
    fs::write(world.path("elsewhere.lua"), "x = 2").unwrap();
    world.runs("a", "x = 2").await;
}

#[tokio::test]
async fn a_replaced_folder_is_seen_and_watched() {
    let world = World::plain(BY_EVENT).await;
    fs::create_dir(world.path("new")).unwrap();
    fs::write(world.path("new/default_room.lua"), "x = 2").unwrap();
    fs::rename(world.path("scripts"), world.path("old")).unwrap();
    fs::rename(world.path("new"), world.path("scripts")).unwrap();
    world.runs("a", "x = 2").await;
    fs::write(world.path("scripts/default_room.lua"), "x = 3").unwrap();
    world.runs("a", "x = 3").await;
}

#[tokio::test]
async fn a_link_to_the_folder_that_is_swapped_is_seen() {
    let world = World::new(BY_EVENT, |root| {
        for (release, text) in [("r1", "x = 1"), ("r2", "x = 2")] {
            fs::create_dir(root.join(release)).unwrap();
            fs::write(root.join(release).join("default_room.lua"), text).unwrap();
        }
        symlink("r1", root.join("scripts")).unwrap();
    })
    .await;
    symlink("r2", world.path("scripts.tmp")).unwrap();
    fs::rename(world.path("scripts.tmp"), world.path("scripts")).unwrap();
    world.runs("a", "x = 2").await;
}

#[tokio::test]
async fn a_folder_that_is_deleted_and_returns_is_watched_again() {
    let world = World::plain(BY_EVENT).await;
    fs::remove_dir_all(world.path("scripts")).unwrap();
    for _ in 0..PATIENCE.as_millis() / 5 {
        if !world.handle.counts().readable {
            break;
        }
        sleep(Duration::from_millis(5)).await;
    }
    assert!(world.handle.reload().await.unwrap().1.error.is_some());
    fs::create_dir(world.path("scripts")).unwrap();
    fs::write(world.path("scripts/default_room.lua"), "x = 2").unwrap();
    world.runs("a", "x = 2").await;
}

#[tokio::test]
async fn a_new_subfolder_and_what_is_written_into_it_are_seen() {
    let world = World::plain(BY_EVENT).await;
    fs::create_dir(world.path("scripts/rooms")).unwrap();
    fs::write(world.path("scripts/rooms/a.lua"), "x = 7").unwrap();
    world.runs("a", "x = 7").await;
    fs::write(world.path("scripts/rooms/a.lua"), "x = 8").unwrap();
    world.runs("a", "x = 8").await;
}

#[tokio::test]
async fn broken_empty_unreadable_and_deleted_files_are_told_and_come_back() {
    let world = World::plain(BY_EVENT).await;
    let path = world.path("scripts/default_room.lua");
    let spoil: [fn(&Path); 4] = [
        |path| fs::write(path, "x = ").unwrap(),
        |path| fs::write(path, "").unwrap(),
        |path| fs::remove_file(path).unwrap(),
        |path| {
            fs::remove_file(path).unwrap();
            symlink(path, path).unwrap();
        },
    ];
    for (n, spoil) in spoil.iter().enumerate() {
        spoil(&path);
        world.fails(1).await;
        let _ = fs::remove_file(&path);
        let text = format!("x = {}", n + 10);
        fs::write(&path, &text).unwrap();
        assert_eq!(world.runs("a", &text).await, 1, "broken versions are not handed out");
        world.fails(0).await;
    }
}

#[tokio::test]
async fn a_burst_of_writes_is_one_change() {
    let settings = WatchSettings { debounce: Duration::from_millis(500), ..BY_EVENT };
    let world = World::plain(settings).await;
    for n in 2..200 {
        fs::write(world.path("scripts/default_room.lua"), format!("x = {n}")).unwrap();
    }
    assert_eq!(world.runs("a", "x = 199").await, 1);
}

#[tokio::test]
async fn what_inotify_does_not_show_is_found_by_looking() {
    // A folder two links away is not watched, only what is in it was.
    let world = World::new(BY_POLL, |root| {
        fs::create_dir_all(root.join("deep/r1")).unwrap();
        fs::write(root.join("deep/r1/default_room.lua"), "x = 1").unwrap();
        symlink("r1", root.join("deep/current")).unwrap();
        symlink("deep/current", root.join("scripts")).unwrap();
    })
    .await;
    fs::create_dir(world.path("deep/r2")).unwrap();
    fs::write(world.path("deep/r2/default_room.lua"), "x = 2").unwrap();
    symlink("r2", world.path("deep/next")).unwrap();
    fs::rename(world.path("deep/next"), world.path("deep/current")).unwrap();
    world.runs("a", "x = 2").await;
}

#[tokio::test]
async fn a_shard_whose_queue_is_full_gets_the_newest_library_later() {
    let root = tempfile::tempdir().unwrap();
    fs::write(root.path().join("default_room.lua"), "x = 1").unwrap();
    let folder = ScriptFolder::open(root.path(), vec![], None).unwrap();
    let (sender, commands) = sync_channel(1);
    let leave = || Command::Leave { client: moonring_wire::id::ClientId::parse("a").unwrap(), reason: String::new() };
    sender.send(leave()).unwrap();
    let (watch, handle) = Watch::new(folder, vec![ShardHandle::over(sender, Arc::new(|| {}))], BY_EVENT);
    tokio::spawn(watch.run());
    for text in ["x = 2", "x = 3"] {
        fs::write(root.path().join("default_room.lua"), text).unwrap();
        assert_eq!(handle.reload().await.unwrap().1.changed, ["default_room.lua"]);
    }
    assert!(matches!(commands.try_recv(), Ok(Command::Leave { .. })));
    let world = World { root, commands, handle };
    assert_eq!(world.runs("a", "x = 3").await, 1);
}

#[tokio::test]
async fn an_order_to_reload_reaches_the_shards_once_whether_or_not_a_text_is_new() {
    let world = World::plain(BY_EVENT).await;
    let orders = |world: &World| {
        let told = std::iter::from_fn(|| world.commands.try_recv().ok());
        let orders = told.filter_map(|command| match command {
            Command::Scripts(library) => Some(library.orders()),
            _ => None,
        });
        orders.collect::<Vec<_>>()
    };
    world.handle.reload().await.unwrap();
    assert_eq!(orders(&world), [2]);
    fs::write(world.path("scripts/default_room.lua"), "x = 2").unwrap();
    assert_eq!(world.handle.reload().await.unwrap().1.changed, ["default_room.lua"]);
    assert_eq!(orders(&world), [3]);
    fs::write(world.path("scripts/default_room.lua"), "x = 3").unwrap();
    world.runs("a", "x = 3").await;
    world.handle.canary(Wanted::Status).await.unwrap().unwrap();
    fs::write(world.path("scripts/default_room.lua"), "x = 3").unwrap();
    world.handle.canary(Wanted::Status).await.unwrap().unwrap();
    assert_eq!(orders(&world), Vec::<u64>::new(), "a text that is written anew is no order");
}

#[tokio::test]
async fn uploaded_scripts_reach_the_shards_once_they_were_found_good() {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir(root.path().join("scripts")).unwrap();
    fs::write(root.path().join("scripts/default_room.lua"), "x = 1").unwrap();
    let uploads = Uploads::of(&root.path().join("data"));
    let folder = ScriptFolder::open(&root.path().join("scripts"), vec![], uploads).unwrap();
    let (sender, commands) = sync_channel(64);
    let (watch, handle) = Watch::new(folder, vec![ShardHandle::over(sender, Arc::new(|| {}))], BY_EVENT);
    tokio::spawn(watch.run());
    let world = World { root, commands, handle };
    let set = |text: &str| ScriptSet::new([("rooms/a.lua".to_owned(), text.to_owned())].into()).unwrap();
    let failed = world.handle.check(set("x =")).await.unwrap();
    assert_eq!(failed.len(), 1, "{failed:?}");
    assert_eq!((world.handle.uploaded().await.unwrap().is_empty(), world.handle.uploaded_id()), (true, String::new()));
    let report = world.handle.take(set("x = 2")).await.unwrap();
    assert_eq!((report.changed, report.failed, report.error), (vec!["rooms/a.lua".to_owned()], vec![], None));
    world.runs("a", "x = 2").await;
    assert_eq!(world.handle.uploaded().await, Ok(set("x = 2")));
    assert_eq!(world.handle.uploaded_id(), set("x = 2").manifest().id());
}
