//! `moonring replay`: runs a recorded room through another version of its script, offline, and says what differs.
//!
//! The recorded version is run first. What differs between the two runs is what the change of the script has done; that
//! the recorded version itself does not repeat what it did (it depends on something that a recording leaves out) is a
//! warning.

mod account;
mod as_test;
mod beginning;
mod effects;
mod events;
mod index;
mod read;
mod requests;
mod run;
mod steps;
#[cfg(test)]
mod tests;
mod texts;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use self::account::{Account, Came, Cause};
use self::index::Index;
use super::told::{told_action, verdict};
use crate::Script;
use crate::tape::line::Line;

pub use self::as_test::as_test;
pub use self::read::{Recording, Unreadable};

/// Lines that a warning names.
const MAX_NAMED: usize = 5;

/// What a replay has found.
#[derive(Debug, Default)]
pub struct Report {
    pub differences: Vec<Difference>,
    /// Events and timers that were compared.
    pub compared: usize,
    /// Events that only one version has room for: of clients that it alone has let in.
    pub not_compared: usize,
    /// What the result depends on.
    pub warnings: Vec<String>,
}

/// One event, or timer, of which something else came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The line of the recording.
    pub line: usize,
    /// When, and what it was.
    pub what: String,
    /// What came of it before, one thing a line, and what comes of it now.
    pub before: Vec<String>,
    pub after: Vec<String>,
}

impl Report {
    /// Whether both versions do the same.
    pub fn is_same(&self) -> bool {
        self.differences.is_empty()
    }
}

/// Replays a recording with a version of the script. It needs a shard's stack (64 MiB).
pub fn replay(recording: &Recording, script: Arc<Script>, now: Instant) -> Report {
    let index = Index::of(recording);
    let recorded = Account::of_recording(&recording.lines);
    let mut report = Report { warnings: recording.warning.iter().cloned().collect(), ..Report::default() };
    let before = texts::compiled(&recording.start.script)
        .and_then(|script| run::run(recording, &index, script, true, now))
        .inspect_err(|error| report.warnings.push(format!("the recorded script does not run: {error}")));
    let (before, skipped) = match before {
        Ok(run) => {
            report.warnings.extend(unlike_recorded((&recorded, &index), &run.account));
            (run.account.came, run.skipped)
        }
        Err(_) => (recorded.came, HashSet::new()),
    };
    match run::run(recording, &index, script, false, now) {
        Ok(run) => {
            let skipped: BTreeSet<_> = skipped.symmetric_difference(&run.skipped).copied().collect();
            let told = Told::of(recording);
            report.compare(&told, (&before, &run.account.came), &skipped);
        }
        Err(error) => report.differences.push(Difference {
            line: 1,
            what: "the room is opened".to_owned(),
            before: vec!["it runs".to_owned()],
            after: vec![format!("the script does not start: {error}")],
        }),
    }
    report
}

/// A warning if a script that is run again does not do what it did.
fn unlike_recorded((recorded, index): (&Account, &Index), again: &Account) -> Option<String> {
    let empty = Came::default();
    // What never had its turn, as the room's share was used up to the end.
    let never = recorded.tickets.iter().filter(|(ticket, _)| !index.tickets_with_end.contains(ticket));
    let never = never.map(|(_, cause)| cause.line()).chain(index.dues_without_step.iter().copied()).min();
    let unlike = |cause: &&Cause| {
        let was = recorded.came.get(cause).unwrap_or(&empty);
        // What was still under way when the recording ended has come to nothing that could be compared.
        let is_open = match cause {
            // It may come of what has its turn now.
            Cause::Own(line, _) => never.is_some_and(|never| never <= *line),
            Cause::Line(line) => index.dues_without_step.contains(line),
        };
        let is_open = is_open || recorded.tickets.values().chain(recorded.waits.values()).any(|open| open == *cause);
        !is_open && !again.came.get(cause).unwrap_or(&empty).is_same(was)
    };
    let lines: BTreeSet<_> =
        recorded.came.keys().chain(again.came.keys()).filter(unlike).map(|cause| cause.line()).collect();
    let first: Vec<_> = lines.iter().take(MAX_NAMED).map(ToString::to_string).collect();
    (!lines.is_empty()).then(|| {
        format!(
            "the recorded script itself does not repeat what it did at {} lines (the first: {}): it depends on what the \
             recording leaves out",
            lines.len(),
            first.join(", ")
        )
    })
}

/// What the lines of a recording are, for people.
struct Told(BTreeMap<usize, String>);

impl Told {
    fn of(recording: &Recording) -> Self {
        let line = |(number, line): &(usize, Line)| {
            let what = match line {
                Line::Event(event) => {
                    let (hook, client, rest) = event.call.told();
                    let client = client.map_or(String::new(), |client| format!(" {client}"));
                    let rest = if rest.is_null() { String::new() } else { format!(" {rest}") };
                    format!("{hook}{client}{rest}")
                }
                Line::Due { timer: Some(_), .. } => "timer".to_owned(),
                _ => return None,
            };
            Some((*number, at(line.t().unwrap_or_default() as i64, &what)))
        };
        Self(recording.lines.iter().filter_map(line).collect())
    }

    fn what(&self, cause: Cause) -> String {
        match cause {
            Cause::Line(line) => self.0.get(&line).cloned().unwrap_or_else(|| "the script starts".to_owned()),
            Cause::Own(_, t) => at(t, "timer, or a client that left"),
        }
    }
}

fn at(t: i64, what: &str) -> String {
    format!("{:.3} s: {what}", t as f64 / 1e9)
}

type AllThatCame = BTreeMap<Cause, Came>;

impl Report {
    fn compare(&mut self, told: &Told, (before, after): (&AllThatCame, &AllThatCame), skipped: &BTreeSet<usize>) {
        let empty = Came::default();
        let causes: BTreeSet<_> = before.keys().chain(after.keys()).copied().collect();
        self.not_compared = skipped.len();
        for cause in causes {
            if matches!(cause, Cause::Line(line) if skipped.contains(&line)) {
                continue;
            }
            self.compared += 1;
            let (was, is) = (before.get(&cause).unwrap_or(&empty), after.get(&cause).unwrap_or(&empty));
            if !was.is_same(is) {
                let (before, after) = (was.told(), is.told());
                self.differences.push(Difference { line: cause.line(), what: told.what(cause), before, after });
            }
        }
    }
}

impl Came {
    fn told(&self) -> Vec<String> {
        let verdict = self.outcome.iter().map(verdict);
        let failures = self.failures.iter().map(|failure| format!("fails: {failure}"));
        let all: Vec<_> = verdict.chain(failures).chain(self.actions.iter().map(told_action)).collect();
        if all.is_empty() { vec!["nothing".to_owned()] } else { all }
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "line {}, {}", self.line, self.what)?;
        // What both do is not told twice.
        let mut after = self.after.clone();
        for line in &self.before {
            match after.iter().position(|other| other == line) {
                Some(at) => drop(after.remove(at)),
                None => writeln!(f, "  - {line}")?,
            }
        }
        after.iter().try_for_each(|line| writeln!(f, "  + {line}"))
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.differences.iter().try_for_each(|difference| write!(f, "{difference}"))?;
        let (differ, compared) = (self.differences.len(), self.compared);
        writeln!(f, "{differ} of {compared} events and timers differ")?;
        if self.not_compared > 0 {
            let not = self.not_compared;
            writeln!(f, "{not} events are not compared: they are of clients or tracks that only one version lets in")?;
        }
        Ok(())
    }
}
