//! The text log: one event is one line, whatever strangers say in it.

use std::io::{self, Write};

use tracing_subscriber::fmt::MakeWriter;

/// What begins each further line of an event: no line of the log begins like it.
const CONTINUATION: &[u8] = b"\n    | ";

/// Writes events so that a line break or a control character within one cannot be taken for the log's own.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct LogLines<M>(pub(crate) M);

/// See [`LogLines`]. Writing never fails: a line that cannot be written is lost.
#[derive(Debug)]
pub(crate) struct Escaping<W>(W);

impl<'a, M: MakeWriter<'a>> MakeWriter<'a> for LogLines<M> {
    type Writer = Escaping<M::Writer>;
    fn make_writer(&'a self) -> Self::Writer {
        Escaping(self.0.make_writer())
    }
}

impl<W: Write> Write for Escaping<W> {
    /// Called with a whole event, which ends with a line break.
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let (body, end) = match event.split_last() {
            Some((b'\n', body)) => (body, &b"\n"[..]),
            _ => (event, &b""[..]),
        };
        let mut line = Vec::with_capacity(event.len() + 16);
        for byte in body {
            match byte {
                b'\n' => line.extend_from_slice(CONTINUATION),
                // ESC begins the log's own colours; in values it has been escaped already.
                b'\t' | 0x1B => line.push(*byte),
                0..0x20 | 0x7F => write!(line, "\\x{byte:02x}")?,
                _ => line.push(*byte),
            }
        }
        line.extend_from_slice(end);
        // What calls this would tell of the error on the standard error output, and panic where that cannot be written
        // either: a full disk or a closed pipe would end clients, rooms and the process.
        let _ = self.0.write_all(&line);
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let _ = self.0.flush();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_line_that_cannot_be_written_is_lost_and_is_no_error() {
        struct Full;
        impl Write for Full {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::StorageFull.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
        }
        let mut line = Escaping(Full);
        assert_eq!((line.write(b"event\n").ok(), line.flush().ok()), (Some(6), Some(())));
    }

    #[test]
    fn what_a_stranger_says_makes_no_line_of_its_own() {
        let kept = Kept::default();
        let maker = {
            let kept = kept.clone();
            LogLines(move || kept.clone())
        };
        let subscriber = tracing_subscriber::fmt().with_ansi(false).without_time().with_writer(maker).finish();
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!(reason = %"left\n2026-01-01T00:00:00Z ERROR forged\r\u{7}", "client left");
            tracing::info!("next");
        });
        let text = String::from_utf8(kept.0.lock().unwrap().clone()).unwrap();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 3, "{text}");
        assert!(lines[1].starts_with("    | 2026-01-01"), "{text}");
        assert!(!text.contains(['\r', '\u{7}']), "{text:?}");
    }
}
