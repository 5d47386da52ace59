//! The scripts folder, read whole: every `.lua` file in it, compiled.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::policy::library::{DEFAULT_SCRIPT, ScriptLibrary, ScriptRule};
use crate::policy::{Script, ScriptError};

/// Most scripts in one folder.
const MAX_SCRIPTS: usize = 100_000;
/// Deepest folder below the scripts folder that is looked into.
const MAX_DEPTH: usize = 4;

/// Reads and compiles all scripts below `folder`. A script that cannot be read or compiled is in the library with the
/// reason, which is logged; the folder itself must be readable.
pub fn load(folder: &Path, rules: Vec<ScriptRule>) -> io::Result<ScriptLibrary> {
    let mut library = ScriptLibrary::new(rules);
    for path in files_below(folder)? {
        let name = name_of(folder, &path);
        let script = compile(&name, &path);
        if let Err(error) = &script {
            tracing::error!(script = name, "{error}; rooms that run it reject newcomers");
        }
        library.insert(name, script);
    }
    if !library.contains(DEFAULT_SCRIPT) {
        let folder = folder.display();
        tracing::error!(
            "there is no {DEFAULT_SCRIPT} in {folder}: rooms without a script of their own reject everybody"
        );
    }
    Ok(library)
}

fn compile(name: &str, path: &Path) -> Result<Arc<Script>, ScriptError> {
    let source = fs::read(path).map_err(|error| ScriptError::unreadable(name, &error))?;
    Script::compile(name, &source).map(Arc::new)
}

/// All `.lua` files below `folder`, in the order of their names. Hidden ones are left out (editors' scratch files,
/// Kubernetes' `..data`), tests too; links are followed.
fn files_below(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut folders = vec![(folder.to_owned(), 0)];
    while let Some((folder, depth)) = folders.pop() {
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if depth == 0 => return Err(error),
            Err(error) => {
                tracing::warn!(folder = %folder.display(), %error, "cannot be read, its scripts are left out");
                continue;
            }
        };
        for entry in entries.flatten() {
            let path = entry.path();
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.starts_with('.') || files.len() >= MAX_SCRIPTS {
                continue;
            }
            match fs::metadata(&path) {
                Ok(data) if data.is_dir() && depth < MAX_DEPTH => folders.push((path, depth + 1)),
                Ok(data) if data.is_file() && name.ends_with(".lua") && !name.ends_with("_test.lua") => {
                    files.push(path);
                }
                Ok(_) => {}
                Err(error) => tracing::warn!(path = %path.display(), %error, "cannot be read"),
            }
        }
    }
    files.sort();
    Ok(files)
}

/// A script's name: its path below the folder, with `/`.
fn name_of(folder: &Path, path: &Path) -> String {
    let below = path.strip_prefix(folder).unwrap_or(path);
    let parts: Vec<_> = below.components().map(|part| part.as_os_str().to_string_lossy()).collect();
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::RoomId;

    #[test]
    fn every_script_below_the_folder_is_there_under_its_path_or_with_its_error() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("default_room.lua", "x = 1");
        write("rooms/a.lua", "x = ");
        write("rooms/.a.lua.swp.lua", "x = 1");
        write("default_room_test.lua", "x = 1");
        write("notes.txt", "no script");
        let library = load(folder.path(), vec![]).unwrap();
        let mut names: Vec<_> = library.scripts().map(|(name, script)| (name.to_owned(), script.is_ok())).collect();
        names.sort();
        assert_eq!(names, [("default_room.lua".to_owned(), true), ("rooms/a.lua".to_owned(), false)]);
        let error = library.resolve(&RoomId::parse("a").unwrap()).unwrap_err();
        assert_eq!(error, "rooms/a.lua:1: unexpected symbol near '<eof>'");
        assert!(load(&folder.path().join("missing"), vec![]).is_err());
    }
}
