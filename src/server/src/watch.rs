//! Watches the scripts folder, and tells every shard of the scripts there are.
//!
//! inotify says when to look; a poll every few seconds finds what inotify does not show (bind-mounted single files,
//! network file systems). What counts is the text of the files, so that looking once too often changes nothing.

mod canary;
mod orders;
mod script_watch;
#[cfg(test)]
mod tests;
mod uploads;

use std::collections::BTreeSet;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, sleep_until};

use crate::script_set::FailedScript;
use crate::scripts::ScriptFolder;
use crate::shard_handle::ShardHandle;
use canary::{Canary, Told};
use moonring_core::command::Command;
use moonring_policy::ScriptLibrary;
use moonring_policy::canary::CanaryCounts;
use orders::Request;
use script_watch::{Change, ScriptWatch};

pub(crate) use canary::{CanaryOrder, CanaryReport, SideReport};
pub(crate) use orders::Wanted;

/// Quiet after the last event before the files are read.
const DEBOUNCE: Duration = Duration::from_millis(150);
/// A folder in which something is written all the time is read nevertheless.
const LONGEST_DEBOUNCE: Duration = Duration::from_secs(2);
/// Interval of the looks that no event asked for.
const POLL: Duration = Duration::from_secs(5);
/// Pause before a library is offered again to a shard whose queue is full.
const RETRY: Duration = Duration::from_millis(20);
/// Readings in a row that find a place that was not watched before.
const MAX_READINGS: usize = 4;
/// Requests of operators that may wait.
const REQUEST_QUEUE: usize = 16;
/// Names of changed scripts in one log line.
const MAX_LOGGED: usize = 8;

/// How quick the watch is.
#[derive(Clone, Debug)]
pub(crate) struct WatchSettings {
    /// Quiet after the last event before the files are read.
    pub debounce: Duration,
    /// Interval of the looks that no event asked for.
    pub poll: Duration,
    /// What becomes of a script that has been saved.
    pub on_save: Saved,
}

/// What becomes of a script that has been saved.
#[derive(Clone, Debug)]
pub(crate) enum Saved {
    /// All rooms get it.
    Reload,
    /// A canary of it begins.
    Canary(CanaryOrder),
    /// Nothing, until an operator asks.
    Nothing,
}

impl Default for WatchSettings {
    fn default() -> Self {
        Self { debounce: DEBOUNCE, poll: POLL, on_save: Saved::Reload }
    }
}

/// What reading the folder has brought, for the operator who asked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ReloadReport {
    /// How many scripts there are.
    pub scripts: usize,
    /// Those whose text changed, or that came or went.
    pub changed: Vec<String>,
    /// Those whose newest version is not in use.
    pub failed: Vec<FailedScript>,
    /// Why the folder could not be read at all.
    pub error: Option<String>,
}

/// What the watch has done, for the metrics.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct WatchCounts {
    /// Scripts in the library.
    pub scripts: u64,
    /// Scripts whose newest version is not in use.
    pub failed: u64,
    /// Changes of scripts since the start.
    pub changes: u64,
    /// Whether the folder could be read.
    pub readable: bool,
}

/// The way to the watch; cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct WatchHandle {
    requests: mpsc::Sender<Request>,
    told: Told,
    counts: Arc<Mutex<WatchCounts>>,
    /// What is uploaded, by its [`Manifest::id`](crate::script_set::Manifest::id).
    uploaded: Arc<Mutex<String>>,
}

impl WatchHandle {
    /// Reads the folder now, and gives all rooms what is new, and once more what failed in them; `None` when the watch has ended or is not keeping up.
    /// With the number of the order, by which shards tell how far they are with it.
    pub(crate) async fn reload(&self) -> Option<(u64, ReloadReport)> {
        let (reply, report) = oneshot::channel();
        self.requests.try_send(Request::Reload(reply)).ok()?;
        report.await.ok()
    }

    /// Begins, shows or ends a canary; an error says why not. `None` likewise.
    pub(crate) async fn canary(&self, wanted: Wanted) -> Option<Result<CanaryReport, String>> {
        let (reply, report) = oneshot::channel();
        self.requests.try_send(Request::Canary(wanted, reply)).ok()?;
        report.await.ok()
    }

    /// A shard tells what both sides of the canary have done.
    pub(crate) fn tell_canary(&self, shard: usize, counts: CanaryCounts) {
        self.told.tell(shard, counts);
    }

    /// What the watch has done.
    pub(crate) fn counts(&self) -> WatchCounts {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The watch; [`Watch::run`] is to be spawned.
#[derive(Debug)]
pub(crate) struct Watch {
    settings: WatchSettings,
    /// Away while it is being read.
    folder: Option<ScriptFolder>,
    shards: Vec<ShardHandle>,
    /// Shards that have not taken the library yet.
    behind: BTreeSet<usize>,
    library: ScriptLibrary,
    /// The library before, so that no shard is the last to hold it: freeing it takes a while.
    before: ScriptLibrary,
    /// The newest scripts of the folder are what all rooms run, or have been refused.
    is_given: bool,
    /// Orders of operators to reload.
    orders: u64,
    canary: Option<Canary>,
    /// How the last canary ended.
    last_canary: CanaryReport,
    canaries: u64,
    told: Told,
    requests: mpsc::Receiver<Request>,
    counts: Arc<Mutex<WatchCounts>>,
    uploaded: Arc<Mutex<String>>,
}

/// Why the folder is looked at.
enum Reason {
    Seen(Change),
    Asked(Request),
    Judge,
    Poll,
    Retry,
}

impl Watch {
    /// A watch on a folder whose scripts the shards have.
    pub(crate) fn new(folder: ScriptFolder, shards: Vec<ShardHandle>, settings: WatchSettings) -> (Self, WatchHandle) {
        let (sender, requests) = mpsc::channel(REQUEST_QUEUE);
        let counts = WatchCounts { readable: true, ..count(&folder) };
        let counts = Arc::new(Mutex::new(counts));
        let told = Told::default();
        let uploaded = Arc::new(Mutex::new(uploads::id_of(&folder)));
        let (kept, id) = (counts.clone(), uploaded.clone());
        let handle = WatchHandle { requests: sender, told: told.clone(), counts: kept, uploaded: id };
        let library = folder.library().clone();
        let (before, behind) = (library.clone(), BTreeSet::new());
        let watch = Self {
            settings,
            folder: Some(folder),
            shards,
            behind,
            library,
            before,
            is_given: true,
            orders: 0,
            canary: None,
            last_canary: CanaryReport { state: "none".to_owned(), ..CanaryReport::default() },
            // Other rooms than after the last start.
            canaries: std::process::id().into(),
            told,
            requests,
            counts,
            uploaded,
        };
        (watch, handle)
    }

    /// Watches until it is dropped.
    pub(crate) async fn run(mut self) {
        let mut inotify = ScriptWatch::new();
        let mut next_poll = Instant::now();
        let mut next_look = Instant::now();
        while self.folder.is_some() {
            let reason = tokio::select! {
                biased;
                Some(request) = self.requests.recv() => Reason::Asked(request),
                () = sleep_until(next_look), if self.canary.is_some() => Reason::Judge,
                () = sleep(RETRY), if !self.behind.is_empty() => Reason::Retry,
                () = sleep_until(next_poll) => Reason::Poll,
                change = inotify.next_change() => Reason::Seen(change),
            };
            let request = match reason {
                Reason::Judge => {
                    next_look = Instant::now() + canary::EVERY;
                    self.judge_canary();
                    continue;
                }
                Reason::Retry => {
                    self.deliver();
                    continue;
                }
                // The writer's closing is still to come.
                Reason::Seen(Change::Writing | Change::Nothing) => continue,
                Reason::Seen(Change::Changed) => self.settle(&mut inotify).await,
                Reason::Poll => match self.poll().await {
                    Some(request) => request,
                    None => {
                        next_poll = Instant::now() + self.settings.poll;
                        self.watch_places(&mut inotify).await;
                        continue;
                    }
                },
                Reason::Asked(request) => Some(request),
            };
            let request = match request {
                Some(request) => self.prepare(request).await,
                None => None,
            };
            self.orders += u64::from(matches!(request, Some(Request::Reload(_))));
            let report = self.read(&mut inotify).await;
            next_poll = Instant::now() + self.settings.poll;
            if let Some(request) = request {
                self.serve(request, report);
            }
        }
        tracing::error!("the scripts folder is watched no longer: restart the server to change scripts");
    }

    /// Waits until nothing has happened for a moment, or an operator asks.
    async fn settle(&mut self, inotify: &mut ScriptWatch) -> Option<Request> {
        let at_last = Instant::now() + LONGEST_DEBOUNCE.max(self.settings.debounce);
        loop {
            let until = (Instant::now() + self.settings.debounce).min(at_last);
            tokio::select! {
                biased;
                Some(request) = self.requests.recv() => return Some(request),
                () = sleep_until(until) => return None,
                _ = inotify.next_change() => {}
            }
        }
    }

    /// `None` unless the files hold something new, which stays the same for a moment: nobody is in the middle of writing.
    /// An operator who asks meanwhile does not wait for that.
    async fn poll(&mut self) -> Option<Option<Request>> {
        let Some(mut seen) = self.blocking(|folder| (folder.look().ok(), folder)).await.flatten() else {
            // Also when it cannot be read: reading says so.
            return Some(None);
        };
        loop {
            if self.folder.as_ref().is_none_or(|folder| folder.has_read(&seen)) {
                return None;
            }
            tokio::select! {
                biased;
                Some(request) = self.requests.recv() => return Some(Some(request)),
                () = sleep(self.settings.debounce) => {}
            }
            match self.blocking(|folder| (folder.look().ok(), folder)).await.flatten() {
                Some(again) if again == seen => return Some(None),
                Some(again) => seen = again,
                None => return Some(None),
            }
        }
    }

    /// Reads the folder, and again when something was there that was not watched before. Tells the shards.
    async fn read(&mut self, inotify: &mut ScriptWatch) -> ReloadReport {
        let mut changed = BTreeSet::new();
        let (mut library, mut error) = (false, None);
        for _ in 0..MAX_READINGS {
            let read = self.blocking(|mut folder| (folder.refresh(), folder)).await;
            match read {
                Some(Ok(refresh)) => {
                    library |= refresh.library;
                    changed.extend(refresh.changed);
                    error = None;
                }
                Some(Err(why)) => error = Some(why),
                None => return ReloadReport::default(),
            }
            if !self.watch_places(inotify).await {
                break;
            }
        }
        let report = self.report(changed.into_iter().collect(), error);
        if library {
            self.is_given = false;
            match self.settings.on_save.clone() {
                Saved::Reload => self.give_newest(),
                Saved::Canary(order) => self.begin_canary(order),
                Saved::Nothing => {}
            }
        }
        report
    }

    /// Sets the watches; true when there is a new one.
    async fn watch_places(&mut self, inotify: &mut ScriptWatch) -> bool {
        let Some(mut places) = inotify.take_places() else { return false };
        let set = self.blocking(move |folder| {
            let new = places.set(folder.path(), folder.watchable());
            ((places, new), folder)
        });
        let (places, new) = set.await.unzip();
        inotify.put_places(places);
        new.unwrap_or(false)
    }

    /// Does something with the folder on a thread that may block.
    async fn blocking<T: Send + 'static>(
        &mut self,
        act: impl FnOnce(ScriptFolder) -> (T, ScriptFolder) + Send + 'static,
    ) -> Option<T> {
        let folder = self.folder.take()?;
        let (result, folder) = tokio::task::spawn_blocking(move || act(folder)).await.ok()?;
        self.folder = Some(folder);
        Some(result)
    }

    /// Hands the library to the shards that have not got it.
    fn deliver(&mut self) {
        let (shards, library) = (&self.shards, &self.library);
        self.behind.retain(|n| shards[*n].send(Command::Scripts(library.clone())).is_err());
    }

    /// Logs and counts what was read.
    fn report(&self, changed: Vec<String>, error: Option<io::Error>) -> ReloadReport {
        let Some(folder) = &self.folder else { return ReloadReport::default() };
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(error) = &error
            && counts.readable
        {
            tracing::error!(folder = %folder.path().display(), %error, "cannot be read: the scripts stay as they were");
        }
        let changes = counts.changes + changed.len() as u64;
        *counts = WatchCounts { changes, readable: error.is_none(), ..count(folder) };
        if !changed.is_empty() {
            let names = changed.iter().take(MAX_LOGGED).map(String::as_str).collect::<Vec<_>>().join(" ");
            tracing::info!(changed = changed.len(), failed = counts.failed, names, "scripts changed");
        }
        let failed = folder.failed().iter();
        let failed = failed.map(|(script, error)| FailedScript { script: script.clone(), error: error.clone() });
        let (scripts, failed) = (folder.library().len(), failed.collect());
        ReloadReport { scripts, changed, failed, error: error.map(|error| error.to_string()) }
    }
}

fn count(folder: &ScriptFolder) -> WatchCounts {
    let (scripts, failed) = (folder.library().len() as u64, folder.failed().len() as u64);
    WatchCounts { scripts, failed, ..WatchCounts::default() }
}
