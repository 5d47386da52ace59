//! inotify on the scripts folder, its subfolders, its files and whatever leads there.
//!
//! The files have watches of their own because a file that a link leads to is written somewhere else; the folder above
//! has one because the scripts folder may be replaced, and so has each folder with a link on the way to it. Whoever
//! renames or unlinks takes a file's watch away, so all are set again after every reading.

use std::collections::{HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::Path;

use inotify::{Event, EventMask, Inotify, WatchDescriptor, WatchMask, Watches};
use tokio::io::unix::AsyncFd;

use crate::script_files::turns_on_the_way;

/// Most watches: the kernel bounds them per user; files beyond are found by the poll.
const MAX_WATCHES: usize = 8_192;
/// Buffer for events: some hundred of them.
const EVENT_BYTES: usize = 16 * 1024;

/// Names of which another file may lead to other scripts, by the watch on their folder.
type Turns = HashMap<WatchDescriptor, Vec<OsString>>;

/// What an event says of the scripts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Change {
    /// Nothing that concerns scripts.
    Nothing,
    /// A file is being written: what is there now may be half of it.
    Writing,
    /// Something has changed.
    Changed,
}

/// Waits for changes. Without inotify it sees none, and the poll finds them.
#[derive(Debug)]
pub(super) struct ScriptWatch {
    inotify: Option<AsyncFd<Inotify>>,
    places: Option<Places>,
}

/// What is watched; goes to the thread that may block, and comes back.
#[derive(Debug)]
pub(super) struct Places {
    watches: Watches,
    known: HashSet<WatchDescriptor>,
    turns: Turns,
    warned: bool,
}

impl ScriptWatch {
    /// Must be called inside a tokio runtime.
    #[expect(deprecated, reason = "its successor is unsafe; an Inotify keeps its descriptor until it is dropped")]
    pub(super) fn new() -> Self {
        let opened = Inotify::init().and_then(|inotify| {
            let watches = inotify.watches();
            Ok((AsyncFd::new(inotify)?, watches))
        });
        match opened {
            Ok((inotify, watches)) => {
                let places = Places { watches, known: HashSet::new(), turns: Turns::new(), warned: false };
                Self { inotify: Some(inotify), places: Some(places) }
            }
            Err(error) => {
                tracing::warn!(%error, "no inotify: changed scripts are found by looking every few seconds");
                Self { inotify: None, places: None }
            }
        }
    }

    pub(super) fn take_places(&mut self) -> Option<Places> {
        self.places.take()
    }

    pub(super) fn put_places(&mut self, places: Option<Places>) {
        self.places = places;
    }

    /// Waits for the next events that concern scripts.
    pub(super) async fn next_change(&mut self) -> Change {
        let turns = self.places.as_ref().map(|places| places.turns.clone()).unwrap_or_default();
        loop {
            let Some(inotify) = &mut self.inotify else { return std::future::pending().await };
            let Ok(mut ready) = inotify.readable_mut().await else { return std::future::pending().await };
            let read = ready.try_io(|inotify| {
                let mut buffer = [0; EVENT_BYTES];
                let events = inotify.get_mut().read_events(&mut buffer)?;
                Ok(events.map(|event| change_of(&event, &turns)).max().unwrap_or(Change::Nothing))
            });
            match read {
                Ok(Ok(Change::Nothing)) | Err(_) => {}
                Ok(Ok(change)) => return change,
                Ok(Err(error)) => {
                    tracing::warn!(%error, "inotify failed: changed scripts are found by looking every few seconds");
                    self.inotify = None;
                }
            }
        }
    }
}

fn change_of(event: &Event<&OsStr>, turns: &Turns) -> Change {
    if let Some(names) = turns.get(&event.wd) {
        let ours = names.iter().any(|name| event.name == Some(name));
        return if ours { Change::Changed } else { Change::Nothing };
    }
    // The end of a watch that we took away.
    if event.mask == EventMask::IGNORED {
        return Change::Nothing;
    }
    // Closing says that a writer is done; until then what is there may be half of it.
    if event.mask == EventMask::MODIFY { Change::Writing } else { Change::Changed }
}

impl Places {
    /// Watches these paths and what leads to `folder`, nothing else. True when there is one that was not
    /// watched before: what happened to it until now went unseen.
    pub(super) fn set<'a>(&mut self, folder: &Path, paths: impl Iterator<Item = &'a Path>) -> bool {
        let mask = WatchMask::CREATE
            | WatchMask::MODIFY
            | WatchMask::CLOSE_WRITE
            | WatchMask::MOVE
            | WatchMask::DELETE
            | WatchMask::DELETE_SELF
            | WatchMask::MOVE_SELF
            | WatchMask::ATTRIB;
        let mut now = HashSet::new();
        let coming = WatchMask::CREATE | WatchMask::MOVED_TO;
        self.turns.clear();
        for (place, name) in turns_on_the_way(folder) {
            if let Ok(watch) = self.watches.add(place, coming) {
                self.turns.entry(watch).or_default().push(name);
            }
        }
        now.extend(self.turns.keys().cloned());
        for path in paths.take(MAX_WATCHES) {
            match self.watches.add(path, mask) {
                Ok(watch) => {
                    // A folder of scripts that has a link to them as well: all in it concerns them.
                    self.turns.remove(&watch);
                    now.insert(watch);
                }
                // Gone again, or not to be read: an event or the poll tells more.
                Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied) => {}
                Err(error) => {
                    self.warn(&error);
                    break;
                }
            }
        }
        for watch in self.known.difference(&now) {
            // Those of inodes that are gone the kernel has taken away.
            let _ = self.watches.remove(watch.clone());
        }
        let new = now.difference(&self.known).next().is_some();
        self.known = now;
        new
    }

    fn warn(&mut self, error: &io::Error) {
        if !std::mem::replace(&mut self.warned, true) {
            tracing::warn!(%error, "not every script can be watched (fs.inotify.max_user_watches); changes of the \
                others are found by looking every few seconds");
        }
    }
}
