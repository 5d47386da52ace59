//! Uploaded scripts on the disk: a folder of `data_dir`, as the scripts folder itself may be read-only and is so for the
//! process (`sandbox`).
//!
//! ```text
//! data_dir/scripts/current ──link──▶ data_dir/scripts/<id>/lobby.lua, rooms/demo.lua, ...
//! ```
//! A set is written whole into a folder of its own; then the link is replaced, which is one step. So a process that dies
//! in the middle finds the set of before.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use crate::script_files::{self, Wanted};
use crate::script_set::ScriptSet;

/// The folder in `data_dir`.
const FOLDER: &str = "scripts";
/// The link to the set in use.
const CURRENT: &str = "current";
/// The link that is about to take its place.
const NEXT: &str = "next";
/// Scripts may have keys in them: the folder is the server's user's alone.
const MODE: u32 = 0o700;

/// The folder of uploaded scripts.
#[derive(Clone, Debug)]
pub(crate) struct Uploads {
    folder: PathBuf,
}

impl Uploads {
    /// Those in a `data_dir`; `None` where nothing is kept.
    pub(crate) fn of(data_dir: &Path) -> Option<Self> {
        (!data_dir.as_os_str().is_empty()).then(|| Self { folder: data_dir.join(FOLDER) })
    }

    /// The folder with the set in use, which may not be there.
    pub(super) fn current(&self) -> PathBuf {
        self.folder.join(CURRENT)
    }

    /// The set in use. An error when it cannot be read, or somebody else has put something there that no set has.
    pub(crate) fn read(&self) -> io::Result<ScriptSet> {
        let current = self.current();
        let listing = match script_files::list(&current, Wanted::Scripts) {
            Ok(listing) => listing,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(ScriptSet::default()),
            Err(error) => return Err(error),
        };
        let mut scripts = BTreeMap::new();
        for path in listing.files {
            let bytes = super::read(&path)?;
            let text = String::from_utf8(bytes).map_err(|error| io::Error::other(error.to_string()))?;
            scripts.insert(super::name_of(&current, &path), text);
        }
        ScriptSet::new(scripts).map_err(io::Error::other)
    }

    /// Puts another set in its place.
    pub(super) fn write(&self, set: &ScriptSet) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(MODE).create(&self.folder)?;
        // An earlier version has made it for everybody to read.
        fs::set_permissions(&self.folder, Permissions::from_mode(MODE))?;
        let (current, next) = (self.current(), self.folder.join(NEXT));
        if set.is_empty() {
            remove(&current)?;
            return self.sweep(None);
        }
        if self.read().is_ok_and(|used| used == *set) {
            // Written anew, it would be gone until it is whole again, which a full disk may prevent.
            return Ok(());
        }
        let name = set.manifest().id();
        let folder = self.folder.join(&name);
        // What a process has left behind that died in the middle.
        remove(&folder)?;
        for (script, text) in set.scripts() {
            let path = folder.join(script);
            fs::create_dir_all(path.parent().unwrap_or(&folder))?;
            let mut file = File::create(&path)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
        }
        remove(&next)?;
        symlink(&name, &next)?;
        fs::rename(&next, &current)?;
        File::open(&self.folder)?.sync_all()?;
        self.sweep(Some(&name))
    }

    /// Removes all sets but one.
    fn sweep(&self, but: Option<&str>) -> io::Result<()> {
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() && but.is_none_or(|but| entry.file_name() != but) {
                fs::remove_dir_all(entry.path())?;
            }
        }
        Ok(())
    }
}

/// Removes a link or a folder, if it is there.
fn remove(path: &Path) -> io::Result<()> {
    let is_folder = match fs::symlink_metadata(path) {
        Ok(found) => found.is_dir(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    if is_folder { fs::remove_dir_all(path) } else { fs::remove_file(path) }
}
