use std::fs;

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
        ScriptFolder::open(self.0.path(), vec![]).unwrap()
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
    let library = ScriptFolder::open(world.0.path(), vec![]).unwrap().library;
    let mut names: Vec<_> = library.scripts().map(|(name, script)| (name.to_owned(), script.is_ok())).collect();
    names.sort();
    assert_eq!(names, [("default_room.lua".to_owned(), true), ("rooms/a.lua".to_owned(), false)]);
    let error = library.resolve(&RoomId::parse("a").unwrap()).unwrap_err();
    assert_eq!(error.to_string(), "rooms/a.lua:1: unexpected symbol near '<eof>'");
    assert!(ScriptFolder::open(&world.path("missing"), vec![]).is_err());
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
    let mut folder = ScriptFolder::open(&world.path("scripts"), vec![]).unwrap();
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
