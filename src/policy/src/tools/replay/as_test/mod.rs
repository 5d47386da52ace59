//! `moonring replay --as-test`: a recording as a test file for `moonring test`, so that a bug of yesterday becomes a test.
//!
//! The file does to a room what was done to the recorded one, at the same times, and expects what came of it: verdicts,
//! answers, what was sent, who was thrown out. A test has another time of day, other random numbers and empty stores: the
//! file is run once with the recorded script, and what does not come out as it did is not expected of later versions.

mod lua;
mod writer;

use std::collections::HashMap;
use std::rc::Rc;
use std::time::Instant;

use self::lua::lua_string;
use self::writer::Writer;
use super::read::Recording;
use super::texts::texts_of;
use crate::tape::line::Line;
use crate::tools::trial;

/// What a failing run of the file says first, if only expectations were not met.
const UNMET: &str = "unmet:";

/// A part of the file.
enum Piece {
    SetUp(String),
    Do(String),
    Expect {
        line: usize,
        got: String,
        wanted: String,
        /// What is left when nothing is expected.
        otherwise: Option<String>,
    },
}

/// A test file of a recording, for the script of this name. It needs a shard's stack (64 MiB). An error says why there is
/// none.
pub fn as_test(recording: &Recording, script: &str, now: Instant) -> Result<String, String> {
    if recording.start.middle.is_some() {
        return Err(
            "the recording begins in the middle of the room's life: a test begins with an empty room".to_owned()
        );
    }
    let pieces = Writer::new(recording, script).pieces();
    let unmet = unmet(recording, script, &pieces, now)?;
    Ok(file(recording, &pieces, &unmet))
}

/// The pieces that do not go with the recorded script itself in a test, and whether they cannot even be done.
type Unmet = HashMap<usize, bool>;

fn unmet(recording: &Recording, script: &str, pieces: &[Piece], now: Instant) -> Result<Unmet, String> {
    let mut body = String::from("local unmet = {}\ntest.it('recorded', function()\n");
    for (n, piece) in pieces.iter().enumerate() {
        match piece {
            Piece::SetUp(text) => body += &format!("{text}\n"),
            Piece::Do(text) => body += &tried(n, text),
            Piece::Expect { got, wanted, .. } => body += &tried(n, &format!("test.eq({got}, {wanted})")),
        }
    }
    body += &format!("room:failures()\nerror('{UNMET}' .. table.concat(unmet, ' '))\nend)\n");
    let texts: HashMap<_, _> = texts_of(&recording.start.script)?.into_iter().collect();
    let name = script.to_owned();
    let load = move |asked: &str| {
        let asked = if asked == name { "" } else { asked };
        texts.get(asked).cloned().ok_or_else(|| format!("{asked} is not in the recording"))
    };
    let cases = trial::run("recorded_test.lua", body.as_bytes(), Rc::new(load), now);
    let message = cases.first().and_then(|case| case.failure.as_ref()).map_or("", |failure| failure.message.as_str());
    match message.split_once(UNMET) {
        Some((_, numbers)) => {
            let unmet = |word: &str| Some((word.trim_end_matches('!').parse().ok()?, word.ends_with('!')));
            Ok(numbers.split_whitespace().filter_map(unmet).collect())
        }
        None => Err(format!("the recorded script does not go through it again: {message}")),
    }
}

/// Lua that does something, or notes that it could not: as `7` when what came is not what was expected, else as `7!`.
fn tried(n: usize, text: &str) -> String {
    format!(
        "do local ok, why = pcall(function() {text} end)
         if not ok then unmet[#unmet + 1] = '{n}' .. (type(why) == 'table' and why.got and '' or '!') end end\n"
    )
}

fn file(recording: &Recording, pieces: &[Piece], unmet: &Unmet) -> String {
    let start = &recording.start;
    let events = recording.lines.iter().filter(|(_, line)| matches!(line, Line::Event(_))).count();
    let seconds = recording.lines.iter().filter_map(|(_, line)| line.t()).max().unwrap_or_default() as f64 / 1e9;
    let mut text = format!(
        "-- Made by `moonring replay --as-test`: what happened in room {}, {events} events in {seconds:.3} s, with\n\
         -- {} {}. In the place of a secret stands \"[secret 1]\" and so on, everywhere the same.\n",
        start.room, start.script.name, start.script.version
    );
    if !unmet.is_empty() {
        text += &format!(
            "-- {} lines are left out: they depend on the time of day, on random numbers or on what a store held.\n",
            unmet.len()
        );
    }
    text += &format!("test.it({}, function()\n", lua_string(&format!("room {} does what it did", start.room)));
    for (n, piece) in pieces.iter().enumerate() {
        let piece = match piece {
            Piece::SetUp(text) => text.clone(),
            _ if unmet.get(&n) == Some(&true) => continue,
            Piece::Do(text) => text.clone(),
            Piece::Expect { otherwise, .. } if unmet.contains_key(&n) => match otherwise {
                Some(text) => text.clone(),
                None => continue,
            },
            Piece::Expect { line, got, wanted, .. } => format!("test.eq({got}, {wanted}, \"line {line}\")"),
        };
        piece.lines().for_each(|line| text += &format!("  {line}\n"));
    }
    text + "end)\n"
}
