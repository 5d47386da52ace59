//! The socket's file: of this user alone, and taken from a process that is gone.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use rustix::net::sockopt::socket_peercred;
use rustix::process::geteuid;

/// Where the next process asks for a take-over. The file stays when this is dropped by a process that was taken over from: it is
/// the next one's by then.
#[derive(Debug)]
pub(crate) struct Endpoint {
    path: PathBuf,
    listener: UnixListener,
}

impl Endpoint {
    /// Listens at `path`, in the place of whoever did. Nobody sees the socket before it is this user's alone.
    pub(crate) fn bind(path: &Path) -> anyhow::Result<Self> {
        let shown = path.display();
        if let Ok(found) = fs::symlink_metadata(path) {
            ensure!(found.file_type().is_socket(), "take_over: {shown} is there and is not a socket");
        }
        let fresh = path.with_extension(format!("{}.new", std::process::id()));
        let _ = fs::remove_file(&fresh);
        let advice = "the folder has to be there and this user's";
        let bind = || -> io::Result<UnixListener> {
            let listener = UnixListener::bind(&fresh)?;
            fs::set_permissions(&fresh, fs::Permissions::from_mode(0o600))?;
            fs::rename(&fresh, path)?;
            Ok(listener)
        };
        let listener = bind().with_context(|| format!("take_over: cannot listen at {shown}; {advice}"))?;
        Ok(Self { path: path.to_owned(), listener })
    }

    /// The next one who asks, if it is this user or root; another is told why not.
    pub(super) fn accept(&self) -> anyhow::Result<UnixStream> {
        let (stream, _) = self.listener.accept()?;
        let peer = socket_peercred(&stream)?.uid;
        ensure!(
            peer == geteuid() || peer.is_root(),
            "user {} asks for a take-over and is not user {}, whose this process is",
            peer.as_raw(),
            geteuid().as_raw()
        );
        Ok(stream)
    }

    /// Takes the file away: this process ends without another one in its place.
    pub(crate) fn remove(path: &Path) {
        let _ = fs::remove_file(path);
    }

    /// The file.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

/// Connects to the process that listens at `path`; `None` when none does.
pub(super) fn connect(path: &Path) -> anyhow::Result<Option<UnixStream>> {
    match UnixStream::connect(path) {
        Ok(stream) => Ok(Some(stream)),
        Err(error) if error.kind() == io::ErrorKind::Interrupted => connect(path),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => Ok(None),
        Err(error) => Err(error).with_context(|| format!("take_over: cannot connect to {}", path.display())),
    }
}
