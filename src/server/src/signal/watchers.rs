//! Who traces or records the policies of rooms.
//!
//! The lines come from the shard, which never waits for whoever reads. What a watcher has not read yet is bounded: a trace
//! then loses lines, and says how many; a recording ends, as one with a hole is none.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

use moonring_policy::tape::line::Line;
use moonring_policy::tape::{Delivery, Depth, Sink};

/// Watchers of the whole server.
const MAX_WATCHERS: usize = 64;
/// Lines that wait for one watcher.
const QUEUE_LINES: usize = 4_096;
/// Bytes of a trace that wait for its watcher.
const TRACE_BYTES: usize = 1024 * 1024;
/// Bytes of a recording that wait for who takes it.
const RECORDING_BYTES: usize = 8 * 1024 * 1024;

/// The watchers there are, and the bound of a recording.
#[derive(Debug)]
pub(super) struct Watchers {
    count: Arc<AtomicUsize>,
    pub(super) recording_bytes: usize,
}

/// A place among the watchers.
pub(super) struct Place(Arc<AtomicUsize>);

impl Watchers {
    pub(super) fn new(recording_kib: usize) -> Self {
        Self { count: Arc::default(), recording_bytes: recording_kib.saturating_mul(1024) }
    }

    /// A place for one more.
    pub(super) fn place(&self) -> Option<Place> {
        let place = Place(self.count.clone());
        (self.count.fetch_add(1, Ordering::Relaxed) < MAX_WATCHERS).then_some(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Why a recording has ended before its room.
const GOES_ON: u8 = 0;
const TOO_SLOW: u8 = 1;
const TOO_LARGE: u8 = 2;

/// What the shard's end and the reader's end of a queue share.
#[derive(Debug, Default)]
struct Shared {
    waiting: AtomicUsize,
    ended: AtomicU8,
}

/// The reader's end.
pub(super) struct Reader {
    lines: mpsc::Receiver<Vec<u8>>,
    shared: Arc<Shared>,
    _place: Place,
}

/// The two ends of a watcher's queue.
pub(super) fn queue(depth: Depth, recording_bytes: usize, place: Place) -> (Sink, Reader) {
    let (sender, lines) = mpsc::channel(QUEUE_LINES);
    let shared = Arc::new(Shared::default());
    let reader = Reader { lines, shared: shared.clone(), _place: place };
    let most = if depth == Depth::Trace { TRACE_BYTES } else { RECORDING_BYTES };
    let mut left = if depth == Depth::Trace { usize::MAX } else { recording_bytes };
    let ends = move |shared: &Shared, why| {
        if depth == Depth::Trace {
            return Delivery::Full;
        }
        shared.ended.store(why, Ordering::Release);
        Delivery::Gone
    };
    let asked = sender.clone();
    let sink = Sink::new(move |line| {
        let bytes = line.len();
        if bytes > left {
            return ends(&shared, TOO_LARGE);
        }
        if shared.waiting.load(Ordering::Relaxed) + bytes > most {
            return ends(&shared, TOO_SLOW);
        }
        shared.waiting.fetch_add(bytes, Ordering::Relaxed);
        match sender.try_send(line) {
            Ok(()) => {
                left -= if depth == Depth::Trace { 0 } else { bytes };
                Delivery::Taken
            }
            Err(TrySendError::Closed(_)) => Delivery::Gone,
            Err(TrySendError::Full(_)) => {
                shared.waiting.fetch_sub(bytes, Ordering::Relaxed);
                ends(&shared, TOO_SLOW)
            }
        }
    });
    (sink.until(move || asked.is_closed()), reader)
}

impl Reader {
    /// The next line; the last one says why a recording has ended early.
    pub(super) async fn next(&mut self) -> Option<Bytes> {
        if let Some(line) = self.lines.recv().await {
            self.shared.waiting.fetch_sub(line.len(), Ordering::Relaxed);
            return Some(line.into());
        }
        match self.shared.ended.swap(GOES_ON, Ordering::AcqRel) {
            TOO_SLOW => Some(end("whoever takes the recording was too slow")),
            TOO_LARGE => Some(end("the recording has as many bytes as it may (record_room_kib)")),
            _ => None,
        }
    }
}

/// A last line.
pub(super) fn end(reason: &str) -> Bytes {
    // A line of text alone always becomes JSON.
    let mut line = serde_json::to_vec(&Line::End { reason: reason.to_owned() }).unwrap_or_default();
    line.push(b'\n');
    line.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ends(depth: Depth, bytes: usize) -> (Sink, Reader) {
        queue(depth, bytes, Watchers::new(1).place().unwrap())
    }

    #[tokio::test]
    async fn a_recording_ends_at_its_bound_and_with_the_reason() {
        let (mut sink, mut reader) = ends(Depth::Recording, 10);
        assert_eq!(sink.put(b"12345\n".to_vec()), Delivery::Taken);
        assert_eq!(sink.put(b"12345\n".to_vec()), Delivery::Gone);
        drop(sink);
        assert_eq!(reader.next().await.unwrap(), "12345\n");
        assert!(reader.next().await.unwrap().starts_with(b"{\"line\":\"end\",\"reason\":\"the recording has"));
        assert_eq!(reader.next().await, None);
    }

    #[tokio::test]
    async fn who_reads_a_trace_too_slowly_loses_lines_and_who_takes_a_recording_loses_the_rest() {
        for (depth, lost) in [(Depth::Trace, Delivery::Full), (Depth::Recording, Delivery::Gone)] {
            let (mut sink, mut reader) = ends(depth, usize::MAX);
            let taken = (0..).take_while(|_| sink.put(b"1\n".to_vec()) == Delivery::Taken).count();
            assert_eq!((taken, sink.put(b"1\n".to_vec())), (QUEUE_LINES, lost));
            assert_eq!(reader.next().await.unwrap(), "1\n");
            drop(reader);
            assert_eq!(sink.put(b"1\n".to_vec()), Delivery::Gone, "nobody reads any more");
        }
        let (mut sink, _reader) = ends(Depth::Trace, 0);
        let long = vec![b'x'; TRACE_BYTES / 2];
        let put: Vec<_> = (0..3).map(|_| sink.put(long.clone())).collect();
        assert_eq!(put, [Delivery::Taken, Delivery::Taken, Delivery::Full]);
    }

    #[tokio::test]
    async fn who_goes_with_all_that_may_wait_unread_is_gone() {
        let (mut sink, reader) = ends(Depth::Trace, 0);
        assert_eq!(sink.put(vec![b'x'; TRACE_BYTES]), Delivery::Taken);
        assert_eq!(sink.put(b"1\n".to_vec()), Delivery::Full);
        drop(reader);
        assert_eq!(sink.put(b"1\n".to_vec()), Delivery::Gone);
    }

    #[test]
    fn there_are_only_so_many_watchers() {
        let watchers = Watchers::new(1);
        let places: Vec<_> = (0..=MAX_WATCHERS).map(|_| watchers.place()).collect();
        assert_eq!(places.iter().flatten().count(), MAX_WATCHERS);
        drop(places);
        assert!(watchers.place().is_some());
    }
}
