//! Rooms that are recorded from their first moment on (`record`): files below `data_dir/recordings`, one for each room
//! that somebody was let into.
//!
//! The shards hand lines over and never wait; a thread writes them. A room's file has a bound, and so have all files
//! together: the oldest that are no longer written make room, and where there are none the recording that has no room
//! ends. What comes faster than the disk takes it is not kept: the recordings
//! that it is of end there.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context;
use globset::{Glob, GlobSet, GlobSetBuilder};

use crate::config::Config;
use moonring_policy::tape::{Delivery, Sink};
use moonring_wire::id::RoomId;

/// The folder, below `data_dir`.
const FOLDER: &str = "recordings";
/// Bytes that wait to be written.
const MAX_WAITING: usize = 16 * 1024 * 1024;
/// Bytes of a room in which nobody has been let in yet that are kept: strangers open rooms as fast as they can ask.
const MAX_UNADMITTED: usize = 64 * 1024;
/// How long the end of the process is put off for what waits to be written.
const LAST_PATIENCE: Duration = Duration::from_secs(5);
/// What stands in a recording once somebody is let in.
const ADMITTED: &[u8] = b"\"allowed\":true";
const CONNECT: &[u8] = b"\"hook\":\"on_client_connect\"";
/// What stands in the first line of one that begins in the middle of a room's life, which has come from another process or node:
/// who is there was let in long ago. Within a text of the line the quotes are escaped.
const MIDDLE: &[u8] = b"\"middle\":{";

/// Makes the sinks of rooms; cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Recordings {
    rooms: GlobSet,
    room_bytes: usize,
    ends: Arc<Ends>,
}

#[derive(Debug)]
struct Ends {
    sender: Sender<Message>,
    waiting: AtomicUsize,
    next: AtomicU64,
}

/// To the thread that writes.
#[derive(Debug)]
enum Message {
    Open(u64, RoomId),
    Line(u64, Vec<u8>),
    Close(u64),
    /// Told once everything before it has been written.
    Mark(SyncSender<()>),
}

/// Tells the writer that a room's sink is gone.
struct Closing(u64, Arc<Ends>);

impl Drop for Closing {
    fn drop(&mut self) {
        // Without a writer nothing is open.
        let _ = self.1.sender.send(Message::Close(self.0));
    }
}

impl Recordings {
    /// Starts the writer, if any room is to be recorded.
    pub(crate) fn start(config: &Config) -> anyhow::Result<Option<Self>> {
        if config.record.is_empty() {
            return Ok(None);
        }
        anyhow::ensure!(!config.data_dir.as_os_str().is_empty(), "record needs a data_dir to keep recordings in");
        let mut rooms = GlobSetBuilder::new();
        for pattern in &config.record {
            rooms.add(Glob::new(pattern).with_context(|| format!("record: {pattern:?}"))?);
        }
        let folder = config.data_dir.join(FOLDER);
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder);
        made.with_context(|| format!("recordings: {}", folder.display()))?;
        let (sender, messages) = channel();
        let ends = Arc::new(Ends { sender, waiting: AtomicUsize::new(0), next: AtomicU64::new(0) });
        let max_bytes = config.record_all_mib as u64 * 1024 * 1024;
        let bytes = finished(&folder, &[]).with_context(|| format!("recordings: {}", folder.display()))?.1;
        let writer = Writer { folder, max_bytes, bytes, files: HashMap::new(), ends: Arc::downgrade(&ends) };
        let thread = std::thread::Builder::new().name("recordings".into());
        thread.spawn(move || writer.run(&messages)).context("the thread of recordings does not start")?;
        Ok(Some(Self { rooms: rooms.build()?, room_bytes: config.record_room_kib * 1024, ends }))
    }

    /// Waits until what the rooms have told is written, for the end of the process; not for ever where the disk hangs.
    pub(crate) fn finish(&self) {
        let (written, wait) = sync_channel(1);
        // Without a writer nothing waits.
        let _ = self.ends.sender.send(Message::Mark(written));
        if wait.recv_timeout(LAST_PATIENCE).is_err() {
            tracing::error!("the last lines of recordings are not written");
        }
    }

    /// Where the recording of a room goes that is being opened.
    pub(crate) fn sink_for(&self, room: &RoomId) -> Option<Sink> {
        if !self.rooms.is_match(room.as_str()) {
            return None;
        }
        let number = self.ends.next.fetch_add(1, Ordering::Relaxed);
        self.ends.sender.send(Message::Open(number, room.clone())).ok()?;
        let (closing, mut left) = (Closing(number, self.ends.clone()), self.room_bytes);
        let (room, mut is_told) = (room.clone(), false);
        Some(Sink::new(move |line| {
            let Closing(number, ends) = &closing;
            let bytes = line.len();
            let is_late = ends.waiting.load(Ordering::Relaxed) + bytes > MAX_WAITING;
            if bytes > left || is_late {
                let why = if is_late { "the disk does not keep up" } else { "it has what record_room_kib allows" };
                if !std::mem::replace(&mut is_told, true) {
                    tracing::warn!(%room, "the recording of the room ends here: {why}");
                }
                return Delivery::Gone;
            }
            left -= bytes;
            ends.waiting.fetch_add(bytes, Ordering::Relaxed);
            match ends.sender.send(Message::Line(*number, line)) {
                Ok(()) => Delivery::Taken,
                Err(_) => Delivery::Gone,
            }
        }))
    }
}

/// A recording that is being written.
struct Recording {
    room: RoomId,
    /// What has come before somebody was let in; then the file has it.
    held: Vec<u8>,
    has_connect: bool,
    file: Option<(File, PathBuf)>,
}

struct Writer {
    folder: PathBuf,
    max_bytes: u64,
    /// Bytes of all files.
    bytes: u64,
    files: HashMap<u64, Recording>,
    ends: std::sync::Weak<Ends>,
}

impl Writer {
    fn run(mut self, messages: &Receiver<Message>) {
        while let Ok(message) = messages.recv() {
            match message {
                Message::Open(number, room) => {
                    self.files.insert(number, Recording { room, held: Vec::new(), has_connect: false, file: None });
                }
                Message::Line(number, line) => {
                    if let Some(ends) = self.ends.upgrade() {
                        ends.waiting.fetch_sub(line.len(), Ordering::Relaxed);
                    }
                    if let Err(error) = self.write(number, &line) {
                        let (folder, ended) = (self.folder.display(), self.files.remove(&number));
                        let room = ended.map(|recording| tracing::field::display(recording.room));
                        tracing::error!(room, %folder, %error, "a recording cannot be written: it ends here");
                    }
                }
                Message::Close(number) => drop(self.files.remove(&number)),
                // Who has given up does not hear it.
                Message::Mark(written) => drop(written.try_send(())),
            }
        }
    }

    fn write(&mut self, number: u64, line: &[u8]) -> io::Result<()> {
        let Some(recording) = self.files.get_mut(&number) else { return Ok(()) };
        if recording.file.is_some() {
            return self.append(number, line);
        }
        // In lines behind the first one it may be a stranger's word.
        let is_of_middle = recording.held.is_empty() && contains(line, MIDDLE);
        recording.held.extend_from_slice(line);
        recording.has_connect |= contains(line, CONNECT);
        if is_of_middle || (recording.has_connect && contains(line, ADMITTED)) {
            let held = std::mem::take(&mut recording.held);
            let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            let path = self.folder.join(format!("{}.{}.jsonl", since.as_millis(), recording.room));
            let file = OpenOptions::new().append(true).create(true).mode(0o600).open(&path)?;
            recording.file = Some((file, path));
            return self.append(number, &held);
        } else if recording.held.len() > MAX_UNADMITTED {
            self.files.remove(&number);
        }
        Ok(())
    }

    fn append(&mut self, number: u64, lines: &[u8]) -> io::Result<()> {
        let more = lines.len() as u64;
        if !self.fits(more) {
            self.make_room(more)?;
        }
        let file = self.files.get_mut(&number).and_then(|recording| recording.file.as_mut());
        if let Some((file, _)) = file {
            file.write_all(lines)?;
            self.bytes += more;
        }
        Ok(())
    }

    fn fits(&self, more: u64) -> bool {
        self.bytes + more <= self.max_bytes
    }

    /// Deletes the oldest recordings that are no longer written until there is room for `more` bytes.
    fn make_room(&mut self, more: u64) -> io::Result<()> {
        let open: Vec<&Path> = self.files.values().filter_map(|r| Some(r.file.as_ref()?.1.as_path())).collect();
        let (files, bytes) = finished(&self.folder, &open)?;
        self.bytes = bytes;
        for (_, size, path) in files {
            if self.fits(more) {
                break;
            }
            fs::remove_file(&path)?;
            self.bytes -= size;
            tracing::info!(path = %path.display(), "an old recording has made room");
        }
        if self.fits(more) {
            return Ok(());
        }
        Err(io::Error::other("the recordings that are being written take all that record_all_mib allows"))
    }
}

/// A recording that has ended: when it was written last, its bytes and its path.
type Finished = (SystemTime, u64, PathBuf);

/// The files that are not `open`, the oldest first, and the bytes of all.
fn finished(folder: &Path, open: &[&Path]) -> io::Result<(Vec<Finished>, u64)> {
    let (mut files, mut bytes) = (Vec::new(), 0);
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let (metadata, path) = (entry.metadata()?, entry.path());
        if metadata.is_file() {
            bytes += metadata.len();
            if !open.contains(&path.as_path()) {
                files.push((metadata.modified()?, metadata.len(), path));
            }
        }
    }
    files.sort();
    Ok((files, bytes))
}

fn contains(line: &[u8], wanted: &[u8]) -> bool {
    line.windows(wanted.len()).any(|window| window == wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(folder: &Path, all_mib: usize) -> Config {
        let record = vec!["demo-*".to_owned()];
        Config {
            data_dir: folder.to_owned(),
            record,
            record_room_kib: 64,
            record_all_mib: all_mib,
            ..Config::default()
        }
    }

    fn files(folder: &Path) -> Vec<Vec<u8>> {
        let mut paths: Vec<_> = fs::read_dir(folder.join(FOLDER)).unwrap().map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        paths.into_iter().map(|path| fs::read(path).unwrap()).collect()
    }

    /// Ends the writer, so that everything is written.
    fn ended(recordings: Recordings, sinks: Vec<Sink>) {
        drop(sinks);
        recordings.finish();
        let waiting = Arc::downgrade(&recordings.ends);
        drop(recordings);
        assert!(waiting.upgrade().is_none());
    }

    #[test]
    fn a_room_is_recorded_when_its_name_fits_and_somebody_was_let_in() {
        let folder = tempfile::tempdir().unwrap();
        let recordings = Recordings::start(&config(folder.path(), 1)).unwrap().unwrap();
        let room = |id: &str| RoomId::parse(id).unwrap();
        assert!(recordings.sink_for(&room("other")).is_none());
        let mut sinks: Vec<_> = (0..3).map(|n| recordings.sink_for(&room(&format!("demo-{n}"))).unwrap()).collect();
        let connect = b"{\"hook\":\"on_client_connect\"}\n".to_vec();
        for (sink, outcome) in sinks.iter_mut().zip(["{\"allowed\":true}\n", "{\"allowed\":false}\n", ""]) {
            sink.put(connect.clone());
            sink.put(outcome.into());
        }
        let long = vec![b'x'; 30 * 1024];
        let put: Vec<_> = (0..3).map(|_| sinks[0].put(long.clone())).collect();
        assert_eq!(put, [Delivery::Taken, Delivery::Taken, Delivery::Gone], "64 KiB");
        ended(recordings, sinks);
        let files = files(folder.path());
        assert_eq!(files.len(), 1);
        assert!(files[0].starts_with(&connect) && files[0].len() > 60 * 1024);
    }

    #[test]
    fn a_recording_that_begins_in_the_middle_of_a_rooms_life_is_kept_at_once_and_nobody_can_pretend_that_it_does() {
        let folder = tempfile::tempdir().unwrap();
        let recordings = Recordings::start(&config(folder.path(), 1)).unwrap().unwrap();
        let starts = [
            "{\"line\":\"start\",\"middle\":{\"state\":null}}\n",
            "{\"line\":\"start\",\"text\":\"\\\"middle\\\":{\"}\n",
        ];
        let mut sinks: Vec<_> =
            (0..2).map(|n| recordings.sink_for(&RoomId::parse(&format!("demo-{n}")).unwrap()).unwrap()).collect();
        for (sink, start) in sinks.iter_mut().zip(starts) {
            sink.put(start.into());
            sink.put(b"{\"hook\":\"on_client_connect\",\"metadata\":{\"middle\":{}}}\n".to_vec());
        }
        ended(recordings, sinks);
        let files = files(folder.path());
        assert_eq!(files.len(), 1);
        assert!(files[0].starts_with(starts[0].as_bytes()));
    }

    #[test]
    fn the_log_says_once_which_room_is_not_recorded_any_more_and_why() {
        let folder = tempfile::tempdir().unwrap();
        let recordings = Recordings::start(&config(folder.path(), 1)).unwrap().unwrap();
        let mut sink = recordings.sink_for(&RoomId::parse("demo-1").unwrap()).unwrap();
        let mut lines = lines_of(|| (0..5).for_each(|_| _ = sink.put(vec![b'x'; 30 * 1024])));
        // Nothing waits any more that would be taken off.
        recordings.finish();
        recordings.ends.waiting.store(MAX_WAITING, Ordering::Relaxed);
        let mut late = recordings.sink_for(&RoomId::parse("demo-2").unwrap()).unwrap();
        lines += &lines_of(|| (0..2).for_each(|_| _ = late.put(vec![b'x'])));
        let expected = " WARN moonring::recordings: the recording of the room ends here: it has what record_room_kib allows room=demo-1\n \
                        WARN moonring::recordings: the recording of the room ends here: the disk does not keep up room=demo-2\n";
        assert_eq!(lines, expected);
    }

    /// What is logged meanwhile.
    fn lines_of(test: impl FnOnce()) -> String {
        let log = tempfile::NamedTempFile::new().unwrap();
        let writer = log.reopen().unwrap();
        let subscriber = tracing_subscriber::fmt().with_ansi(false).without_time().with_writer(Arc::new(writer));
        tracing::subscriber::with_default(subscriber.finish(), test);
        fs::read_to_string(log.path()).unwrap()
    }

    #[test]
    fn the_oldest_recordings_make_room_and_those_being_written_end_at_the_bound_of_all() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join(FOLDER)).unwrap();
        for n in 0..4 {
            fs::write(folder.path().join(FOLDER).join(format!("{n}.x.jsonl")), vec![b'0' + n; 300 * 1024]).unwrap();
        }
        let (folder, recordings) = (folder.path(), Recordings::start(&config(folder.path(), 1)).unwrap().unwrap());
        let mut sinks: Vec<_> =
            (0..20).map(|n| recordings.sink_for(&RoomId::parse(&format!("demo-{n}")).unwrap()).unwrap()).collect();
        let line = |n: usize| vec![b'a' + n as u8; 20 * 1024];
        for sink in &mut sinks {
            sink.put(b"{\"hook\":\"on_client_connect\",\"allowed\":true}\n".to_vec());
        }
        // All at once, and more than there may be together.
        for _ in 0..3 {
            for (n, sink) in sinks.iter_mut().enumerate() {
                sink.put(line(n));
            }
        }
        ended(recordings, sinks);
        let files = files(folder);
        let bytes: usize = files.iter().map(Vec::len).sum();
        assert!(bytes <= 1024 * 1024 && bytes > 1000 * 1024, "{bytes}");
        // One that has ended at the bound makes room for the next, and then that one is whole.
        let whole = files.iter().filter(|file| file.len() > 60 * 1024).count();
        assert!(files.iter().all(|file| file.starts_with(b"{")), "all old ones are gone");
        assert!(whole >= 10 && files.len() >= 15, "{whole} whole of {}", files.len());
    }

    #[test]
    fn without_a_data_dir_nothing_can_be_kept() {
        let config = Config { data_dir: PathBuf::new(), ..config(Path::new(""), 1) };
        assert!(Recordings::start(&config).unwrap_err().to_string().contains("data_dir"));
        assert!(Recordings::start(&Config { record: vec!["[".into()], ..config }).is_err());
        assert!(Recordings::start(&Config::default()).unwrap().is_none());
    }
}
