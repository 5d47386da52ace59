//! Reads a recording.

use std::io::BufRead;

use crate::tape::line::{FORMAT, Line, Start, VERSION};

/// Bytes of a recording that are read.
const MAX_BYTES: usize = 1 << 30;
/// Bytes of one line.
const MAX_LINE: usize = 64 << 20;
/// The longest time that a recording takes, in nanoseconds: ten years.
const MAX_TIME: u64 = 10 * 366 * 86_400 * 1_000_000_000;

/// A recording, as far as it could be read.
#[derive(Debug)]
pub struct Recording {
    pub start: Start,
    /// The lines behind the first one, each with its number in the file.
    pub lines: Vec<(usize, Line)>,
    /// Why there is less than there should be.
    pub warning: Option<String>,
}

/// Why a recording cannot be used: the line, and what is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {what}")]
pub struct Unreadable {
    pub line: usize,
    pub what: String,
}

impl Recording {
    /// Reads a recording to its end, or to the place where it was cut off.
    pub fn read(mut file: impl BufRead) -> Result<Self, Unreadable> {
        let (mut number, mut bytes) = (0, 0);
        let mut next = || -> Result<Option<(usize, Vec<u8>, bool)>, Unreadable> {
            number += 1;
            let bad = |what: String| Unreadable { line: number, what };
            let mut line = Vec::new();
            let mut limited = std::io::Read::take(&mut file, MAX_LINE as u64);
            limited.read_until(b'\n', &mut line).map_err(|error| bad(error.to_string()))?;
            bytes += line.len();
            if line.len() == MAX_LINE {
                return Err(bad(format!("is longer than {MAX_LINE} bytes")));
            }
            if bytes > MAX_BYTES {
                return Err(bad(format!("the recording is longer than {MAX_BYTES} bytes")));
            }
            let is_whole = line.ends_with(b"\n");
            Ok((!line.is_empty()).then_some((number, line, is_whole)))
        };
        let Some((_, first, _)) = next()? else {
            return Err(Unreadable { line: 1, what: "the file is empty".to_owned() });
        };
        let start = start_of(&first).map_err(|what| Unreadable { line: 1, what })?;
        let mut recording = Self { start, lines: Vec::new(), warning: None };
        let mut last = 0;
        let mut has_ended = false;
        while let Some((number, text, is_whole)) = next()? {
            if text.trim_ascii().is_empty() {
                continue;
            }
            let bad = |what: String| Unreadable { line: number, what };
            let line = match serde_json::from_slice::<Line>(&text) {
                Ok(line) => line,
                Err(_) if !is_whole => break,
                Err(error) => return Err(bad(without_place(&error.to_string()))),
            };
            if let Some(t) = line.t() {
                if t < last || t > MAX_TIME {
                    return Err(bad("its time is before that of the line above, or years away".to_owned()));
                }
                last = t;
            }
            match line {
                Line::Start(_) | Line::Watching { .. } => return Err(bad("a second beginning".to_owned())),
                Line::Lost { .. } => return Err(bad("lines are missing here: it is a trace".to_owned())),
                Line::End { .. } => {
                    has_ended = true;
                    break;
                }
                line => recording.lines.push((number, line)),
            }
        }
        if !has_ended {
            let last = recording.lines.last().map_or(1, |(number, _)| *number);
            recording.warning = Some(format!("the recording is cut short: it is read up to line {last}"));
        }
        Ok(recording)
    }
}

/// The first line of a recording.
fn start_of(text: &[u8]) -> Result<Start, String> {
    let value: serde_json::Value =
        serde_json::from_slice(text).map_err(|_| "is not the beginning of a recording".to_owned())?;
    if value["format"] != FORMAT {
        let is_trace = value["line"] == "watching";
        let what = if is_trace { "is the beginning of a trace" } else { "is not the beginning of a recording" };
        return Err(what.to_owned());
    }
    if value["version"] != VERSION {
        return Err(format!("is in version {} of the format; this moonring reads version {VERSION}", value["version"]));
    }
    match serde_json::from_value(value) {
        Ok(Line::Start(start)) if start.opened <= 0 => Ok(*start),
        Ok(_) => Err("is not the beginning of a recording".to_owned()),
        Err(error) => Err(without_place(&error.to_string())),
    }
}

/// The message without serde's place, which counts from the line's start.
fn without_place(message: &str) -> String {
    message.rsplit_once(" at line ").map_or(message, |(what, _)| what).to_owned()
}
