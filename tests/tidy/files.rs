//! The files of the repository.

use std::fs;
use std::path::{Path, PathBuf};

/// Folders that are made by a build, a test or a run, as `.gitignore` lists them.
const MADE: &[&str] = &["target", "node_modules", "artifacts", "certs", "corpus", "types", ".git", ".build", ".venv"];

/// The repository's root.
pub(crate) fn root() -> PathBuf {
    PathBuf::from(std::env::var("CARGO_MANIFEST_DIR").expect("cargo sets it")).join("../..")
}

/// Every file below `folder` (relative to the root; `""` for all), as sorted paths relative to the root. Empty if
/// there is no such folder.
pub(crate) fn below(folder: &str) -> Vec<String> {
    let mut found = Vec::new();
    collect(&root(), Path::new(folder), &mut found);
    found.sort();
    found
}

/// Those of [`below`] that end with `.` and `extension`.
pub(crate) fn with_extension(folder: &str, extension: &str) -> Vec<String> {
    let mut found = below(folder);
    found.retain(|path| Path::new(path).extension().is_some_and(|e| e == extension));
    found
}

fn collect(root: &Path, folder: &Path, found: &mut Vec<String>) {
    let Ok(entries) = fs::read_dir(root.join(folder)) else { return };
    for entry in entries {
        let entry = entry.expect("a readable folder");
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = folder.join(&name);
        if entry.file_type().expect("a type").is_dir() {
            if !MADE.contains(&name.as_str()) {
                collect(root, &path, found);
            }
        } else if name != ".git" && !name.ends_with(".log") {
            // In a worktree `.git` is a file.
            found.push(path.to_string_lossy().into_owned());
        }
    }
}

/// The text of a file, by its path relative to the root. Bytes that are not UTF-8 are replaced.
pub(crate) fn read(path: &str) -> String {
    let bytes = fs::read(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Whether there is a file or folder of that path.
pub(crate) fn exists(path: &str) -> bool {
    root().join(path).exists()
}

/// `path` from `folder`, with `.` and `..` resolved; `None` if it leaves the repository.
pub(crate) fn join(folder: &str, path: &str) -> Option<String> {
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            name => parts.push(name),
        }
    }
    Some(parts.join("/"))
}

/// The folder of a path; `""` for the root.
pub(crate) fn folder_of(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(folder, _)| folder)
}
