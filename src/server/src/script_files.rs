//! Which files below a folder are scripts, and which are tests of scripts: one walk for the server and for the tools, so
//! that a script that was checked is also one that is loaded.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::{fs, io};

use walkdir::{DirEntry, WalkDir};

/// Most files of one folder.
const MAX_FILES: usize = 100_000;
/// Deepest folder below the given one that is looked into.
pub(crate) const MAX_DEPTH: usize = 4;
/// Most links on the way to the scripts folder, as the kernel has it (path_resolution(7)).
const MAX_LINKS: usize = 40;
/// The end of a script's name, and of a test's.
const SCRIPT: &str = ".lua";
const TEST: &str = "_test.lua";

/// Which files are looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// Scripts, without their tests.
    Scripts,
    /// Tests of scripts.
    Tests,
}

/// What is in a folder.
#[derive(Clone, Debug, Default)]
pub(crate) struct Listing {
    /// The files, readable or not, in the order of their names.
    pub(crate) files: Vec<PathBuf>,
    /// Folders, the given one among them.
    pub(crate) folders: Vec<PathBuf>,
    /// Folders that could not be read.
    pub(crate) unreadable: Vec<PathBuf>,
}

impl Wanted {
    fn fits(self, path: &Path) -> bool {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.ends_with(SCRIPT) && name.ends_with(TEST) == (self == Self::Tests)
    }
}

/// The wanted files below `folder`. Hidden ones are left out (editors' scratch files, Kubernetes' `..data`); links are
/// followed, and one that leads nowhere is a file that cannot be read. An error says that `folder` itself cannot be read.
pub(crate) fn list(folder: &Path, wanted: Wanted) -> io::Result<Listing> {
    let mut listing = Listing::default();
    let walk = WalkDir::new(folder).follow_links(true).max_depth(MAX_DEPTH + 1);
    for entry in walk.into_iter().filter_entry(|entry| entry.depth() == 0 || !is_hidden(entry.path())) {
        match entry {
            Ok(entry) => listing.add(entry, wanted),
            Err(error) if error.depth() == 0 => return Err(error.into()),
            Err(error) => listing.add_failed(&error, wanted),
        }
    }
    listing.files.sort();
    listing.files.truncate(MAX_FILES);
    Ok(listing)
}

impl Listing {
    fn add(&mut self, entry: DirEntry, wanted: Wanted) {
        let (kind, depth) = (entry.file_type(), entry.depth());
        if kind.is_dir() && depth <= MAX_DEPTH {
            self.folders.push(entry.into_path());
        } else if kind.is_file() && wanted.fits(entry.path()) {
            self.files.push(entry.into_path());
        }
    }

    fn add_failed(&mut self, error: &walkdir::Error, wanted: Wanted) {
        let Some(path) = error.path().filter(|path| !is_hidden(path)) else { return };
        // A folder has been listed as one before it turned out to be unreadable; what leads back to a folder above it
        // has been walked there.
        if self.folders.iter().any(|folder| folder == path) {
            self.folders.retain(|folder| folder != path);
            self.unreadable.push(path.to_owned());
        } else if error.loop_ancestor().is_none() && wanted.fits(path) {
            self.files.push(path.to_owned());
        }
    }
}

fn is_hidden(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'))
}

/// Where the way to a folder may come to lead elsewhere: at the folder itself and at each link before it, by the folder
/// that it is in and its name there.
pub(crate) fn turns_on_the_way(folder: &Path) -> Vec<(PathBuf, OsString)> {
    let parts = |path: &Path| -> Vec<OsString> { path.iter().map(OsStr::to_owned).collect() };
    let (mut turns, mut links) = (Vec::new(), 0);
    let mut at = PathBuf::from(".");
    let mut rest = VecDeque::from(parts(folder));
    while let Some(name) = rest.pop_front() {
        if name == "/" || name == "." || name == ".." {
            at.push(name);
            continue;
        }
        let here = at.join(&name);
        match fs::read_link(&here) {
            Ok(target) if links < MAX_LINKS => {
                links += 1;
                turns.push((at.clone(), name));
                parts(&target).into_iter().rev().for_each(|part| rest.push_front(part));
            }
            _ => {
                if rest.is_empty() {
                    turns.push((at.clone(), name));
                }
                at = here;
            }
        }
    }
    turns
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn scripts_and_tests_are_found_to_the_same_depth_through_links_and_without_hidden_files() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::create_dir_all(path("a/b/c/d/e")).unwrap();
        fs::create_dir_all(path("..data")).unwrap();
        for name in
            ["x.lua", "x_test.lua", "x.txt", ".x.lua", "a/b/c/d/deep.lua", "a/b/c/d/e/too_deep.lua", "..data/y.lua"]
        {
            fs::write(path(name), "").unwrap();
        }
        symlink("..data/y.lua", path("y.lua")).unwrap();
        symlink("nowhere", path("z.lua")).unwrap();
        symlink("nowhere", path("z")).unwrap();
        symlink("..", path("a/back.lua")).unwrap();
        let names = |paths: &[PathBuf]| -> Vec<String> {
            let below = paths.iter().map(|path| path.strip_prefix(folder.path()).unwrap());
            below.map(|path| path.display().to_string()).collect()
        };
        let scripts = list(folder.path(), Wanted::Scripts).unwrap();
        assert_eq!(names(&scripts.files), ["a/b/c/d/deep.lua", "x.lua", "y.lua", "z.lua"]);
        let mut folders = names(&scripts.folders);
        folders.sort();
        assert_eq!(folders, ["", "a", "a/b", "a/b/c", "a/b/c/d"]);
        assert_eq!(names(&list(folder.path(), Wanted::Tests).unwrap().files), ["x_test.lua"]);
        assert!(list(&path("nowhere"), Wanted::Scripts).is_err());
    }

    #[test]
    fn the_way_to_a_folder_turns_at_links_and_at_its_end() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path().canonicalize().unwrap();
        fs::create_dir_all(root.join("v1/scripts")).unwrap();
        symlink("v1", root.join("current")).unwrap();
        symlink(root.join("current/scripts"), root.join("link")).unwrap();
        let turns = |path: PathBuf| -> Vec<String> {
            turns_on_the_way(&path).iter().map(|(at, name)| format!("{}", at.join(name).display())).collect()
        };
        let below = |names: &[&str]| -> Vec<String> {
            names.iter().map(|name| root.join(name).display().to_string()).collect()
        };
        assert_eq!(turns(root.join("v1/scripts")), below(&["v1/scripts"]));
        assert_eq!(turns(root.join("current/scripts")), below(&["current", "v1/scripts"]));
        assert_eq!(turns(root.join("link")), below(&["link", "current", "v1/scripts"]));
        assert_eq!(turns(root.join("v2/scripts")), below(&["v2/scripts"]), "nothing is there yet");
        assert_eq!(turns("scripts".into()), ["./scripts"]);
        assert_eq!(turns(".".into()), Vec::<String>::new());
        symlink("round", root.join("round")).unwrap();
        assert_eq!(turns(root.join("round")).len(), MAX_LINKS + 1);
    }
}
