use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use super::*;
use moonring_wire::id::RoomId;

struct World(tempfile::TempDir);

impl World {
    fn new(files: &[(&str, &str)]) -> Self {
        let world = Self(tempfile::tempdir().unwrap());
        files.iter().for_each(|(name, text)| world.write(name, text));
        world
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn open(&self) -> ScriptFolder {
        ScriptFolder::open(self.0.path(), vec![], None).unwrap()
    }
}

/// What a new room gets: its script's name, or the error.
fn resolve(folder: &ScriptFolder, room: &str) -> Result<(String, u64), String> {
    let script = folder.library().resolve(&RoomId::parse(room).unwrap()).map_err(|error| error.to_string())?;
    Ok((script.name().to_owned(), script.version()))
}

fn version(text: &str) -> u64 {
    Script::compile("x", text.as_bytes()).unwrap().version()
}

#[test]
fn every_script_below_the_folder_is_there_under_its_path_or_with_its_error() {
    let world = World::new(&[
        ("default_room.lua", "x = 1"),
        ("rooms/a.lua", "x = "),
        ("rooms/.a.lua.swp.lua", "x = 1"),
        ("default_room_test.lua", "x = 1"),
        ("notes.txt", "no script"),
    ]);
    let library = ScriptFolder::open(world.0.path(), vec![], None).unwrap().library;
    let mut names: Vec<_> = library.scripts().map(|(name, script)| (name.to_owned(), script.is_ok())).collect();
    names.sort();
    assert_eq!(names, [("default_room.lua".to_owned(), true), ("rooms/a.lua".to_owned(), false)]);
    let error = library.resolve(&RoomId::parse("a").unwrap()).unwrap_err();
    assert_eq!(error.to_string(), "rooms/a.lua:1: unexpected symbol near '<eof>'");
    assert!(ScriptFolder::open(&world.path("missing"), vec![], None).is_err());
}

#[test]
fn only_what_changed_is_compiled_again() {
    let world = World::new(&[("default_room.lua", "x = 1"), ("rooms/a.lua", "x = 1")]);
    let mut folder = world.open();
    let before = folder.library().get("rooms/a.lua").unwrap().clone().unwrap();
    assert_eq!(folder.refresh().unwrap(), Refresh::default());
    world.write("default_room.lua", "x = 2");
    let expected = Refresh { changed: vec!["default_room.lua".into()], library: true };
    assert_eq!(folder.refresh().unwrap(), expected);
    assert!(Arc::ptr_eq(&before, folder.library().get("rooms/a.lua").unwrap().as_ref().unwrap()));
    assert_eq!(resolve(&folder, "b"), Ok(("default_room.lua".into(), version("x = 2"))));
}

#[test]
fn the_last_version_that_compiles_stays_whatever_becomes_of_the_file() {
    let good = Ok(("default_room.lua".to_owned(), version("x = 1")));
    type Case = (&'static str, fn(&Path), &'static str);
    let break_it: [Case; 5] = [
        ("broken", |path| fs::write(path, "x = ").unwrap(), "default_room.lua:1: unexpected symbol near '<eof>'"),
        ("empty", |path| fs::write(path, "").unwrap(), "default_room.lua: is empty"),
        (
            "too long",
            |path| fs::write(path, vec![b' '; 300_000]).unwrap(),
            "default_room.lua: is 262145 bytes long, at most 262144 are allowed",
        ),
        ("deleted", |path| fs::remove_file(path).unwrap(), "default_room.lua: was deleted"),
        ("unreadable", link_to_itself, "default_room.lua: Too many levels of symbolic links (os error 40)"),
    ];
    for (what, act, reason) in break_it {
        let world = World::new(&[("default_room.lua", "x = 1")]);
        let mut folder = world.open();
        act(&world.path("default_room.lua"));
        let expected = Refresh { changed: vec!["default_room.lua".into()], library: false };
        assert_eq!(folder.refresh().unwrap(), expected, "{what}");
        assert_eq!(folder.failed().values().collect::<Vec<_>>(), [reason], "{what}");
        assert_eq!(folder.refresh().unwrap(), Refresh::default(), "{what}: said once");
        assert_eq!(resolve(&folder, "a"), good, "{what}");
        // And it comes back.
        let _ = fs::remove_file(world.path("default_room.lua"));
        world.write("default_room.lua", "x = 2");
        assert!(folder.refresh().unwrap().library, "{what}");
        assert_eq!(resolve(&folder, "a"), Ok(("default_room.lua".into(), version("x = 2"))), "{what}");
        assert!(folder.failed().is_empty(), "{what}");
    }
}

fn link_to_itself(path: &Path) {
    fs::remove_file(path).unwrap();
    std::os::unix::fs::symlink(path, path).unwrap();
}

#[test]
fn a_rooms_own_script_that_is_deleted_leaves_new_rooms_to_the_default() {
    let world = World::new(&[("default_room.lua", "x = 1"), ("rooms/a.lua", "x = 2")]);
    let mut folder = world.open();
    assert_eq!(resolve(&folder, "a"), Ok(("rooms/a.lua".into(), version("x = 2"))));
    fs::remove_file(world.path("rooms/a.lua")).unwrap();
    assert!(folder.refresh().unwrap().library);
    assert_eq!(resolve(&folder, "a"), Ok(("default_room.lua".into(), version("x = 1"))));
    assert!(folder.failed().is_empty());
}

#[test]
fn a_new_script_that_does_not_compile_rejects_until_it_does() {
    let world = World::new(&[("default_room.lua", "x = 1")]);
    let mut folder = world.open();
    world.write("rooms/a.lua", "x = ");
    assert!(folder.refresh().unwrap().library);
    assert!(resolve(&folder, "a").is_err(), "the default may be the more lenient one");
    world.write("rooms/a.lua", "x = 3");
    assert!(folder.refresh().unwrap().library);
    assert_eq!(resolve(&folder, "a"), Ok(("rooms/a.lua".into(), version("x = 3"))));
}

#[test]
fn a_folder_that_is_gone_for_a_while_changes_nothing() {
    let world = World::new(&[("scripts/default_room.lua", "x = 1")]);
    let mut folder = ScriptFolder::open(&world.path("scripts"), vec![], None).unwrap();
    fs::rename(world.path("scripts"), world.path("old")).unwrap();
    assert!(folder.refresh().is_err());
    assert_eq!(resolve(&folder, "a"), Ok(("default_room.lua".into(), version("x = 1"))));
    fs::rename(world.path("old"), world.path("scripts")).unwrap();
    assert_eq!(folder.refresh().unwrap(), Refresh::default());
}

#[test]
fn a_module_that_changes_gives_the_scripts_that_require_it_a_new_version() {
    let world = World::new(&[
        ("default_room.lua", "local words = require('words')"),
        ("rooms/plain.lua", "x = 1"),
        ("lib/words.lua", "return 1"),
    ]);
    let mut folder = world.open();
    let (first, plain) = (resolve(&folder, "a").unwrap(), resolve(&folder, "plain"));
    let changed = |name: &str, library| Refresh { changed: vec![name.into()], library };
    world.write("lib/words.lua", "return 2");
    assert_eq!(folder.refresh().unwrap(), changed("lib/words.lua", true));
    let second = resolve(&folder, "a").unwrap();
    assert!(second.0 == first.0 && second.1 != first.1);
    world.write("lib/words.lua", "return =");
    assert_eq!(folder.refresh().unwrap(), changed("lib/words.lua", false));
    assert_eq!(resolve(&folder, "a"), Ok(second.clone()), "the last good version stays");
    assert_eq!(folder.failed().values().collect::<Vec<_>>(), ["lib/words.lua:1: unexpected symbol near '='"]);
    fs::remove_file(world.path("lib/words.lua")).unwrap();
    assert_eq!(folder.refresh().unwrap(), changed("lib/words.lua", false));
    let reason = "default_room.lua:1: there is no lib/words.lua in the scripts folder";
    assert_eq!(folder.failed().values().collect::<Vec<_>>(), [reason]);
    world.write("lib/words.lua", "return 1");
    assert!(folder.refresh().unwrap().library && folder.failed().is_empty());
    assert_eq!((resolve(&folder, "a"), resolve(&folder, "plain")), (Ok(first), plain));
}

fn set(scripts: &[(&str, &str)]) -> ScriptSet {
    ScriptSet::new(scripts.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect()).unwrap()
}

#[test]
fn uploaded_scripts_stand_in_the_place_of_files_and_outlast_the_process() {
    let world = World::new(&[("scripts/default_room.lua", "x = 1"), ("scripts/rooms/a.lua", "x = 2")]);
    let open = || ScriptFolder::open(&world.path("scripts"), vec![], Uploads::of(&world.path("data"))).unwrap();
    let mut folder = open();
    let runs = |folder: &ScriptFolder, room: &str| resolve(folder, room).map(|(_, version)| version);
    let first = set(&[("rooms/a.lua", "x = 3"), ("rooms/b.lua", "x = 4")]);
    assert_eq!(folder.check(&first).unwrap(), []);
    folder.upload(&first).unwrap();
    let changed = vec!["rooms/a.lua".to_owned(), "rooms/b.lua".to_owned()];
    assert_eq!(folder.refresh().unwrap(), Refresh { changed, library: true });
    for folder in [&folder, &open()] {
        let found = ["a", "b", "c"].map(|room| runs(folder, room).unwrap());
        assert_eq!(found, ["x = 3", "x = 4", "x = 1"].map(version));
        assert_eq!(folder.uploaded().unwrap(), first);
    }
    // What stands behind an uploaded script changes nothing.
    world.write("scripts/rooms/a.lua", "x = 5");
    assert_eq!(folder.refresh().unwrap(), Refresh::default());
    for (scripts, expected) in [(set(&[("rooms/b.lua", "x = 6")]), ["x = 5", "x = 6"]), (set(&[]), ["x = 5", "x = 1"])]
    {
        folder.upload(&scripts).unwrap();
        assert!(folder.refresh().unwrap().library);
        assert_eq!(["a", "b"].map(|room| runs(&folder, room).unwrap()), expected.map(version));
        assert_eq!(folder.uploaded().unwrap(), scripts);
    }
    let left: Vec<_> =
        fs::read_dir(world.path("data/scripts")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn an_upload_is_checked_with_the_modules_and_scripts_that_it_meets() {
    let world = World::new(&[
        ("default_room.lua", "local words = require('words')"),
        ("lib/words.lua", "return 1"),
        ("rooms/old.lua", "x = "),
    ]);
    let folder = world.open();
    for (scripts, errors) in [
        (set(&[("rooms/a.lua", "local words = require('words')")]), ""),
        (set(&[("rooms/a.lua", "x = 1\ny = = 2")]), "rooms/a.lua:2: unexpected symbol near '='"),
        (set(&[("lib/words.lua", "return =")]), "lib/words.lua:1: unexpected symbol near '='"),
        (set(&[("rooms/a.lua", "require('more')"), ("lib/more.lua", "return 1")]), ""),
        (set(&[("rooms/a.lua", "require('none')")]), "rooms/a.lua:1: there is no lib/none.lua in the scripts folder"),
    ] {
        let found: Vec<_> = folder.check(&scripts).unwrap().into_iter().map(|failed| failed.error).collect();
        assert_eq!(found.join("; "), errors, "{scripts:?}");
    }
    let error = folder.upload(&set(&[])).unwrap_err().to_string();
    assert_eq!(error, "data_dir is empty: uploaded scripts have no place");
}

#[test]
fn an_upload_that_a_crash_has_cut_off_leaves_the_set_of_before() {
    let world = World::new(&[("scripts/default_room.lua", "x = 1")]);
    let open = || ScriptFolder::open(&world.path("scripts"), vec![], Uploads::of(&world.path("data"))).unwrap();
    let (first, second) = (set(&[("rooms/a.lua", "x = 2")]), set(&[("rooms/a.lua", "x = 3")]));
    open().upload(&first).unwrap();
    let half = format!("data/scripts/{}", second.manifest().id());
    world.write(&format!("{half}/rooms/a.lua"), "x =");
    world.write(&format!("{half}/rooms/more.lua"), "x = 1");
    std::os::unix::fs::symlink("nowhere", world.path("data/scripts/next")).unwrap();
    let mut folder = open();
    assert_eq!((folder.uploaded().unwrap(), resolve(&folder, "a").unwrap().1), (first, version("x = 2")));
    folder.upload(&second).unwrap();
    folder.refresh().unwrap();
    assert_eq!((folder.uploaded().unwrap(), resolve(&folder, "a").unwrap().1), (second, version("x = 3")));
}

#[test]
fn uploaded_scripts_which_may_have_keys_in_them_are_read_by_the_server_alone() {
    let world = World::new(&[("scripts/default_room.lua", "x = 1")]);
    let folder = || ScriptFolder::open(&world.path("scripts"), vec![], Uploads::of(&world.path("data"))).unwrap();
    let mode = || fs::metadata(world.path("data/scripts")).unwrap().mode() & 0o777;
    folder().upload(&set(&[("rooms/a.lua", "KEY = 'of the shop'")])).unwrap();
    assert_eq!(mode(), 0o700);
    // As an earlier version has made it.
    fs::set_permissions(world.path("data/scripts"), fs::Permissions::from_mode(0o755)).unwrap();
    folder().upload(&set(&[("rooms/a.lua", "KEY = 'of another shop'")])).unwrap();
    assert_eq!(mode(), 0o700);
}

#[test]
fn a_set_that_is_uploaded_again_stays_in_its_place() {
    let world = World::new(&[("scripts/default_room.lua", "x = 1")]);
    let folder = ScriptFolder::open(&world.path("scripts"), vec![], Uploads::of(&world.path("data"))).unwrap();
    let scripts = set(&[("rooms/a.lua", "x = 2")]);
    folder.upload(&scripts).unwrap();
    // A second name for the file: it goes along only if nothing is removed and written anew, for which there may be no room.
    fs::hard_link(world.path("data/scripts/current/rooms/a.lua"), world.path("same")).unwrap();
    folder.upload(&scripts).unwrap();
    let names = fs::metadata(world.path("data/scripts/current/rooms/a.lua")).unwrap().nlink();
    assert_eq!((folder.uploaded().unwrap(), names), (scripts, 2));
}

#[test]
fn a_folder_that_cannot_be_read_hides_its_own_scripts_alone() {
    let world = World::new(&[("default_room.lua", "x = 1"), ("room/a.lua", "x = 2"), ("room_b.lua", "x = 3")]);
    let mut folder = world.open();
    fs::remove_file(world.path("room_b.lua")).unwrap();
    fs::set_permissions(world.path("room"), fs::Permissions::from_mode(0o000)).unwrap();
    // Root reads everything; a thread that has given up its capabilities does not.
    let refreshed = std::thread::scope(|scope| {
        let refresh = || {
            caps::clear(None, caps::CapSet::Effective).unwrap();
            folder.refresh().unwrap()
        };
        scope.spawn(refresh).join().unwrap()
    });
    fs::set_permissions(world.path("room"), fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(refreshed, Refresh { changed: vec!["room_b.lua".into()], library: true });
    assert_eq!(resolve(&folder, "a").map(|(name, _)| name), Ok("default_room.lua".into()));
}
