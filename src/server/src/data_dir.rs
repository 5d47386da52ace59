//! Writes what the server keeps over a restart, in `data_dir`: a file is whole or as it was, and keys are the server's alone.

use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;
use std::thread;

use anyhow::{Context, anyhow};

/// The file that a server locks (flock(2)); it says which one has.
const LOCK: &str = "lock";
/// Who may read a file.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Readers {
    /// The server's own user: for keys.
    Owner,
    /// Everybody.
    All,
}

/// Replaces a file as a whole, so that a crash leaves the old one or the new one; makes its folder if there is none. An error,
/// of a full disk for one, leaves the old one alone.
pub(crate) fn replace(path: &Path, readers: Readers, content: &[u8]) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let temporary = path.with_extension("new");
    let _ = fs::remove_file(&temporary);
    let mode = match readers {
        Readers::Owner => 0o600,
        Readers::All => 0o644,
    };
    let write = || {
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(&temporary)?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    };
    write().inspect_err(|_| _ = fs::remove_file(&temporary))
}

/// Keeps other servers out of a `data_dir` for as long as this lives: two of them would write over each other's files.
#[derive(Debug)]
pub(crate) struct Lock(#[expect(dead_code, reason = "it is held")] Option<Arc<File>>);

impl Lock {
    /// Takes a folder, which is made if there is none; `None` where another server has it: see [`in_use`]. An empty one is
    /// nothing to take, nor is one that cannot be written: what is to be kept there says so itself.
    pub(crate) fn try_take(folder: &Path) -> Option<Self> {
        let Some(file) = open_lock(folder) else { return Some(Self(None)) };
        match file.try_lock() {
            Ok(()) => sign(&file),
            Err(TryLockError::WouldBlock) => return None,
            Err(TryLockError::Error(error)) => {
                tracing::warn!(folder = %folder.display(), %error, "this file system has no locks: nothing keeps another server out of data_dir");
            }
        }
        Some(Self(Some(Arc::new(file))))
    }

    /// Takes a folder once the process that has it has ended, which this one has taken over from.
    pub(crate) fn take_after(folder: &Path) -> anyhow::Result<Self> {
        let Some(file) = open_lock(folder).map(Arc::new) else { return Ok(Self(None)) };
        let waiting = file.clone();
        let wait = move || match waiting.lock() {
            Ok(()) => sign(&waiting),
            Err(error) => tracing::warn!(%error, "nothing keeps another server out of data_dir"),
        };
        thread::Builder::new().name("data-dir".into()).spawn(wait).context("data_dir: the thread does not start")?;
        Ok(Self(Some(file)))
    }
}

fn open_lock(folder: &Path) -> Option<File> {
    if folder.as_os_str().is_empty() {
        return None;
    }
    fs::create_dir_all(folder).ok()?;
    File::options().read(true).write(true).create(true).truncate(false).mode(0o600).open(folder.join(LOCK)).ok()
}

/// Says in the file who has it.
fn sign(file: &File) {
    // In containers many processes have the same number.
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let signature = format!("process {} on {}\n", std::process::id(), host.trim());
    // The lock holds without, too.
    let _ = file.set_len(0).and_then(|()| file.write_all_at(signature.as_bytes(), 0));
}

/// Who has a folder that cannot be taken, and what to do.
pub(crate) fn in_use(folder: &Path) -> anyhow::Error {
    let signature = fs::read_to_string(folder.join(LOCK)).unwrap_or_default();
    let who = match signature.trim() {
        "" => "another process",
        signature => signature,
    };
    let folder = folder.display();
    anyhow!("data folder {folder} is in use by {who}: end that server, or give this one a --data-dir of its own")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_one_servers_until_that_ends_and_then_the_next_ones() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("data");
        let first = Lock::try_take(&folder).unwrap();
        let second = open_lock(&folder).unwrap();
        assert!(matches!(second.try_lock(), Err(TryLockError::WouldBlock)));
        assert!(Lock::try_take(&folder).is_none());
        let refusal = in_use(&folder).to_string();
        assert!(refusal.contains(&format!("process {} on ", std::process::id())), "{refusal}");
        let next = Lock::take_after(&folder).unwrap();
        drop(first);
        while second.try_lock().is_ok() {
            second.unlock().unwrap();
            thread::yield_now();
        }
        drop(next);
        // The thread that has waited writes who has it.
        while Lock::try_take(&folder).is_none() {
            thread::yield_now();
        }
    }

    #[test]
    fn a_file_that_cannot_be_replaced_stays_and_nothing_is_left_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        // A folder with something in it takes no file's place.
        let path = dir.path().join("kept");
        fs::create_dir_all(path.join("inside")).unwrap();
        assert!(replace(&path, Readers::All, b"new").is_err());
        let left: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["kept"]);
    }

    #[test]
    fn there_is_nothing_to_take_where_nothing_can_be_kept() {
        Lock::try_take(Path::new("")).unwrap();
        Lock::try_take(Path::new("/proc/data")).unwrap();
        Lock::take_after(Path::new("/dev/null/data")).unwrap();
    }
}
