//! The end of the process where something is broken: nobody unwinds to main then, and what waits to be written is written.

use std::process;
use std::sync::{Mutex, PoisonError};

use crate::log_queue;

type LastAct = Box<dyn Fn() + Send>;

/// What is done before the process ends.
static LAST_ACT: Mutex<Option<LastAct>> = Mutex::new(None);

/// Does this before the process ends where something is broken: from any thread, and within a few seconds.
pub(crate) fn before_the_end(act: impl Fn() + Send + 'static) {
    *LAST_ACT.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(act));
}

/// Ends the process from any thread, with the last lines written.
#[expect(clippy::disallowed_methods, reason = "where a shard cannot go on, nobody unwinds to main")]
pub(crate) fn end_process(code: i32) -> ! {
    write_what_waits();
    process::exit(code)
}

fn write_what_waits() {
    // The log says why the process ends, and comes first: whatever else may take its time.
    log_queue::finish();
    // A second thread that ends the process waits for the first one's.
    if let Some(act) = &*LAST_ACT.lock().unwrap_or_else(PoisonError::into_inner) {
        act();
    }
    log_queue::finish();
}

#[cfg(test)]
mod tests {
    use std::fs;

    use moonring_wire::id::RoomId;

    use super::*;
    use crate::config::Config;
    use crate::recordings::Recordings;

    #[test]
    fn the_lines_of_recordings_that_wait_are_written_before_the_process_ends() {
        let folder = tempfile::tempdir().unwrap();
        let config = Config { data_dir: folder.path().into(), record: vec!["demo".into()], ..Config::default() };
        let recordings = Recordings::start(&config).unwrap().unwrap();
        let mut sink = recordings.sink_for(&RoomId::parse("demo").unwrap()).unwrap();
        before_the_end(move || recordings.finish());
        sink.put(b"{\"hook\":\"on_client_connect\",\"allowed\":true}\n".to_vec());
        let line = [&b"{}"[..], &[b' '; 1_000], b"\n"].concat();
        (0..1_000).for_each(|_| _ = sink.put(line.clone()));
        write_what_waits();
        let file = fs::read_dir(folder.path().join("recordings")).unwrap().next().unwrap().unwrap();
        assert_eq!(file.metadata().unwrap().len(), 44 + 1_003 * 1_000);
    }
}
