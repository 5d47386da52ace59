//! The socket's file: of this user alone, and taken from a process that is gone.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use rustix::net::sockopt::socket_peercred;
use rustix::process::{Uid, geteuid};

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

/// Connects to the process that listens at `path`; `None` when none does. One of a stranger is an error: this process would serve
/// the sockets and the clients that it makes up.
pub(super) fn connect(path: &Path) -> anyhow::Result<Option<UnixStream>> {
    let shown = path.display();
    let stream = match UnixStream::connect(path) {
        Ok(stream) => stream,
        Err(error) if error.kind() == io::ErrorKind::Interrupted => return connect(path),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
            return Ok(None);
        }
        Err(error) => return Err(error).with_context(|| format!("take_over: cannot connect to {shown}")),
    };
    // Of who has called listen(2) (unix(7), SO_PEERCRED).
    let (peer, own) = (socket_peercred(&stream)?.uid, geteuid());
    let owner = path.parent().and_then(|folder| fs::metadata(folder).ok()).map(|folder| Uid::from_raw(folder.uid()));
    ensure!(
        may_hand_over(peer, own, owner),
        "take_over: at {shown} listens user {}, and not user {}, whose this process is: put the socket into a folder that is that user's alone",
        peer.as_raw(),
        own.as_raw()
    );
    Ok(Some(stream))
}

/// Whether a process of user `own` takes over from one of user `peer`. Root, which may be asked to start the next process of another
/// user's server, takes it from the one whose folder the socket is in.
fn may_hand_over(peer: Uid, own: Uid, owner_of_the_folder: Option<Uid>) -> bool {
    peer == own || peer.is_root() || (own.is_root() && owner_of_the_folder == Some(peer))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_takes_over_from_its_own_user_from_root_and_as_root_from_whose_the_folder_is() {
        let user = Uid::from_raw;
        for (peer, own, owner, expected) in [
            (1000, 1000, Some(0), true),
            (0, 1000, None, true),
            (1001, 1000, Some(1001), false),
            (1000, 0, Some(1000), true),
            (1000, 0, Some(0), false),
            (1000, 0, None, false),
        ] {
            let found = may_hand_over(user(peer), user(own), owner.map(user));
            assert_eq!(found, expected, "{peer} to {own} in a folder of {owner:?}");
        }
    }
}
