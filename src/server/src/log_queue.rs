//! Where lines of the log wait for the standard error output. A pipe that nobody reads, or a terminal that is stopped,
//! holds up one thread that does nothing else, and no shard.
//!
//! What does not fit into [`MOST_BYTES`] is lost and counted. Once something was, nothing is taken before half of the
//! queue has been written, so that the log has few gaps, each with a line behind it that says how long it is.

use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, Sender, SyncSender, sync_channel};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

/// Bytes of lines that may wait.
const MOST_BYTES: usize = 1 << 20;
/// What a line that waits costs beside its text, about.
const LINE_BYTES: usize = 64;
/// How long the end of the process is put off for the last lines.
const LAST_PATIENCE: Duration = Duration::from_secs(1);
/// How long a panic waits for its line to be written, as the process may be gone behind it.
const PANIC_PATIENCE: Duration = Duration::from_millis(100);
/// How often a standard error output that does not block is asked to take more.
const RETRY: Duration = Duration::from_millis(10);

/// The process's own queue: the log is one of the process as well.
static LOG: LazyLock<Log> = LazyLock::new(|| {
    let (queue, lines) = queue(MOST_BYTES);
    Log { queue, lines: Mutex::new(lines), is_started: AtomicBool::new(false) }
});

struct Log {
    queue: LogQueue,
    /// Locked by the writer for as long as it runs.
    lines: Mutex<Lines>,
    is_started: AtomicBool,
}

/// Where lines go in; never waits.
#[derive(Clone, Debug)]
pub(crate) struct LogQueue {
    items: Sender<Item>,
    counts: Arc<Counts>,
    most: usize,
}

/// Where they come out.
#[derive(Debug)]
struct Lines {
    items: Receiver<Item>,
    counts: Arc<Counts>,
    most: usize,
}

#[derive(Debug)]
enum Item {
    /// With its line break.
    Line(Vec<u8>),
    /// Told once everything before it has been written.
    Mark(SyncSender<()>),
}

#[derive(Debug, Default)]
struct Counts {
    /// Bytes that wait.
    waiting: AtomicUsize,
    /// A line did not fit, and the queue has not been half empty since.
    is_full: AtomicBool,
    /// Lines lost since a line of the log has told of them.
    untold: AtomicU64,
    lost: AtomicU64,
}

fn queue(most: usize) -> (LogQueue, Lines) {
    let (items, taken) = mpsc::channel();
    let counts = Arc::new(Counts::default());
    (LogQueue { items, counts: counts.clone(), most }, Lines { items: taken, counts, most })
}

/// The queue of the log. Nothing is written before [`start`].
pub(crate) fn queue_of_the_log() -> &'static LogQueue {
    &LOG.queue
}

/// Starts the thread that writes the log. It can do what the thread can that calls this first.
pub(crate) fn start() -> io::Result<()> {
    if LOG.is_started.swap(true, Ordering::Relaxed) {
        return Ok(());
    }
    let started = thread::Builder::new().name("log".into()).spawn(|| lines().run(&mut io::stderr(), tell_of_lost));
    started.map(drop).inspect_err(|_| LOG.is_started.store(false, Ordering::Relaxed))
}

/// Waits until what has been logged is written, but not long for an output that takes nothing.
pub(crate) fn finish() {
    wait_until_written(LAST_PATIENCE);
}

/// [`finish`] for a line after which the process may be gone.
pub(crate) fn finish_line_of_panic() {
    wait_until_written(PANIC_PATIENCE);
}

fn wait_until_written(patience: Duration) {
    let (written, wait) = sync_channel(1);
    let _ = LOG.queue.items.send(Item::Mark(written));
    match start() {
        Ok(()) => drop(wait.recv_timeout(patience)),
        // There is no thread to be had: what is left is written by this one.
        Err(_) => lines().write_waiting(&mut io::stderr()),
    }
}

/// How many lines were lost.
pub(crate) fn lost() -> u64 {
    LOG.queue.counts.lost.load(Ordering::Relaxed)
}

/// One that has panicked has left them as they were.
fn lines() -> impl std::ops::Deref<Target = Lines> {
    LOG.lines.lock().unwrap_or_else(PoisonError::into_inner)
}

fn tell_of_lost(lines: u64) {
    tracing::warn!(lines, "lines of the log are missing before this one: the standard error output did not take them");
}

impl LogQueue {
    /// Queues a line, however much waits: for the last one.
    pub(crate) fn say(&self, line: Vec<u8>) {
        self.counts.waiting.fetch_add(line.len() + LINE_BYTES, Ordering::Relaxed);
        // The other end is never let go of.
        let _ = self.items.send(Item::Line(line));
    }
}

impl Write for &LogQueue {
    /// Called with a whole line.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        match self.counts.add(line.len() + LINE_BYTES, self.most) {
            true => drop(self.items.send(Item::Line(line.to_vec()))),
            false => self.counts.lose(),
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Lines {
    /// Writes lines as they come, until nobody is left who could say any. `tell` logs how many are missing.
    fn run(&self, out: &mut impl Write, tell: impl Fn(u64)) {
        while let Ok(item) = self.items.recv() {
            if self.write(item, out) && self.counts.has_room(self.most) {
                match self.counts.untold.swap(0, Ordering::Relaxed) {
                    0 => {}
                    lines => tell(lines),
                }
            }
        }
    }

    /// Writes what waits.
    fn write_waiting(&self, out: &mut impl Write) {
        for item in self.items.try_iter() {
            self.write(item, out);
        }
    }

    /// True when `out` has taken a line.
    fn write(&self, item: Item, out: &mut impl Write) -> bool {
        match item {
            Item::Line(line) => {
                let is_written = write_all(out, &line).is_ok();
                self.counts.waiting.fetch_sub(line.len() + LINE_BYTES, Ordering::Relaxed);
                if !is_written {
                    self.counts.lose();
                }
                is_written
            }
            Item::Mark(written) => {
                // Who has given up does not hear it.
                let _ = written.try_send(());
                false
            }
        }
    }
}

impl Counts {
    /// Counts a line in, if it fits or nothing waits.
    fn add(&self, bytes: usize, most: usize) -> bool {
        let is_full = self.is_full.load(Ordering::Relaxed);
        let most = if is_full { most / 2 } else { most };
        let fits = |waiting: usize| (waiting == 0 || waiting + bytes <= most).then_some(waiting + bytes);
        let is_added = self.waiting.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).is_ok();
        if !is_added && !is_full {
            self.is_full.store(true, Ordering::Relaxed);
        }
        is_added
    }

    /// Whether half of it is free. Lines are taken again then.
    fn has_room(&self, most: usize) -> bool {
        let has_room = self.waiting.load(Ordering::Relaxed) <= most / 2;
        if has_room && self.is_full.load(Ordering::Relaxed) {
            self.is_full.store(false, Ordering::Relaxed);
        }
        has_room
    }

    fn lose(&self) {
        self.untold.fetch_add(1, Ordering::Relaxed);
        self.lost.fetch_add(1, Ordering::Relaxed);
    }
}

/// [`Write::write_all`], also where another program has made the terminal or the pipe one that does not block.
fn write_all(out: &mut impl Write, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match out.write(bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => bytes = bytes.get(written..).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => thread::sleep(RETRY),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    /// Fails as often as told, then takes all.
    struct Output {
        failures: usize,
        text: Vec<u8>,
    }

    impl Write for Output {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if self.failures > 0 {
                self.failures -= 1;
                return Err(io::ErrorKind::StorageFull.into());
            }
            // A part of it: pipes do so.
            let taken = bytes.len().min(3);
            self.text.extend_from_slice(&bytes[..taken]);
            Ok(taken)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What is written of the lines `0`, `1`, … in a queue for `room` of them, and what is told of those that are missing.
    fn written(room: usize, count: usize, failures: usize) -> (String, Vec<u64>) {
        let (queue, lines) = queue(room * (2 + LINE_BYTES));
        for n in 0..count {
            (&queue).write_all(format!("{n}\n").as_bytes()).unwrap();
        }
        drop(queue);
        let (mut out, told) = (Output { failures, text: Vec::new() }, RefCell::new(Vec::new()));
        lines.run(&mut out, |lines| told.borrow_mut().push(lines));
        (String::from_utf8(out.text).unwrap().replace('\n', " "), told.into_inner())
    }

    #[test]
    fn what_does_not_fit_or_is_not_taken_is_counted_and_told_once() {
        assert_eq!(written(4, 4, 0), ("0 1 2 3 ".into(), vec![]));
        assert_eq!(written(4, 9, 0), ("0 1 2 3 ".into(), vec![5]));
        assert_eq!(written(4, 3, 2), ("2 ".into(), vec![2]));
        assert_eq!(written(4, 3, 3), ("".into(), vec![]), "nobody is there to be told");
        assert_eq!(written(0, 2, 0), ("0 ".into(), vec![1]), "a line of any length goes alone");
    }

    #[test]
    fn after_a_gap_lines_are_taken_when_half_of_the_queue_is_free() {
        let (queue, lines) = queue(4 * (2 + LINE_BYTES));
        let say = |n: usize| (&queue).write_all(format!("{n}\n").as_bytes()).unwrap();
        let mut out = Output { failures: 0, text: Vec::new() };
        let mut take = |lines: &Lines| {
            let item = lines.items.recv().unwrap();
            lines.write(item, &mut out) && lines.counts.has_room(lines.most)
        };
        (0..5).for_each(&say);
        assert!(!take(&lines));
        say(5);
        assert!(take(&lines), "0 and 1 are written");
        (6..8).for_each(&say);
        drop(queue);
        lines.write_waiting(&mut out);
        assert_eq!(String::from_utf8(out.text).unwrap(), "0\n1\n2\n3\n6\n7\n");
        assert_eq!(lines.counts.lost.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn an_output_that_does_not_block_is_asked_again() {
        struct Busy(usize, Vec<u8>);
        impl Write for Busy {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                if self.0 > 0 {
                    self.0 -= 1;
                    return Err(io::ErrorKind::WouldBlock.into());
                }
                self.1.write(bytes)
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let mut out = Busy(2, Vec::new());
        write_all(&mut out, b"line\n").unwrap();
        assert_eq!(out.1, b"line\n");
    }
}
