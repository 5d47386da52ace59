//! What came of each event and of each timer: the verdict and the actions, from the lines of a recording or of a replay.

use std::collections::{BTreeMap, HashMap};

use serde_json::Value;

use crate::tape::line::{Line, Of, OutcomeLine, StepLine};
use crate::tape::secrets;

/// What something came of, in the order of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Cause {
    /// A line of the recording: an event, a deadline, the start, a reload.
    Line(usize),
    /// A timer that was due behind this line, at this time, which the recording does not have.
    Own(usize, i64),
}

impl Cause {
    /// The line of the recording at which it is, or behind which it comes.
    pub(super) fn line(self) -> usize {
        match self {
            Self::Line(line) | Self::Own(line, _) => line,
        }
    }
}

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Came {
    /// `None` for what is not decided, or not decided yet.
    pub(super) outcome: Option<OutcomeLine>,
    pub(super) actions: Vec<Value>,
    /// How hooks failed.
    pub(super) failures: Vec<String>,
}

/// See the module. Who feeds it says what the numbers in the lines stand for.
#[derive(Default)]
pub(super) struct Account {
    pub(super) came: BTreeMap<Cause, Came>,
    pub(super) tickets: HashMap<u64, Cause>,
    pub(super) timers: HashMap<u32, Cause>,
    pub(super) waits: HashMap<u64, Cause>,
    /// What the actions to come are of.
    pub(super) current: Option<Cause>,
}

impl Account {
    /// What the recording itself says.
    pub(super) fn of_recording(lines: &[(usize, Line)]) -> Self {
        let mut account = Self { current: Some(Cause::Line(1)), ..Self::default() };
        for (number, line) in lines {
            let cause = Cause::Line(*number);
            match line {
                Line::Event(event) => {
                    account.tickets.insert(event.ticket, cause);
                    account.current = Some(cause);
                }
                Line::Due { timer: Some(timer), .. } => {
                    account.timers.insert(*timer, cause);
                }
                Line::Reload { .. } => account.current = Some(cause),
                line => account.take(line),
            }
        }
        account
    }

    /// Takes a line that says what came of something.
    pub(super) fn take(&mut self, line: &Line) {
        match line {
            Line::Step(step) => self.step(step),
            Line::Outcome { ticket, outcome, .. } => {
                if let Some(cause) = self.tickets.remove(ticket) {
                    let came = self.came.entry(cause).or_default();
                    came.actions.extend(outcome.actions.iter().map(normal));
                    let OutcomeLine { reason, refused, answer, .. } = outcome;
                    came.outcome = Some(OutcomeLine {
                        reason: reason.as_deref().map(without_numbers),
                        refused: refused.as_deref().map(without_numbers),
                        answer: answer.as_ref().map(normal),
                        actions: Vec::new(),
                        ..*outcome
                    });
                }
            }
            Line::Actions { actions, .. } => {
                if let Some(cause) = self.current {
                    self.came.entry(cause).or_default().actions.extend(actions.iter().map(normal));
                }
            }
            Line::Reloaded { error: Some(error), .. } => {
                if let Some(cause) = self.current {
                    self.came.entry(cause).or_default().failures.push(error.clone());
                }
            }
            _ => {}
        }
    }

    fn step(&mut self, step: &StepLine) {
        let cause = match step.of {
            Of::Ticket(ticket) => self.tickets.get(&ticket).copied(),
            Of::Timer(timer) => self.timers.get(&timer).copied(),
            Of::Wait(wait) => self.waits.remove(&wait),
        };
        let Some(cause) = cause else { return };
        self.current = Some(cause);
        let came = self.came.entry(cause).or_default();
        if let Some(failure) = &step.failed {
            came.failures.push(failure.lines().next().unwrap_or_default().to_owned());
        }
        if let Some((wait, asked)) = &step.waits {
            if is_effect(asked) {
                came.actions.push(normal(asked));
            }
            self.waits.insert(*wait, cause);
        }
    }
}

impl Came {
    /// Whether the same came of it in another version. The order of the actions of one hook does not count: `pairs` has
    /// none. Nor does where a hook failed: the lines of versions differ.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        let sorted = |came: &Self| {
            let mut actions: Vec<_> = came.actions.iter().map(ToString::to_string).collect();
            actions.sort();
            actions
        };
        self.outcome == other.outcome
            && self.failures.is_empty() == other.failures.is_empty()
            && sorted(self) == sorted(other)
    }
}

/// Whether what a hook waits for does something: requests do, sleep and looking into a store do not.
fn is_effect(asked: &Value) -> bool {
    let is_read = ["shared", "store", "store.global"].iter().any(|store| asked[*store] == "get");
    !is_read && asked.get("sleep").is_none()
}

/// The value with every secret as the same placeholder: their numbers differ from run to run.
pub(super) fn normal(value: &Value) -> Value {
    match value {
        Value::String(text) => without_numbers(text).into(),
        Value::Array(items) => items.iter().map(normal).collect(),
        Value::Object(fields) => {
            Value::Object(fields.iter().map(|(name, field)| (name.clone(), normal(field))).collect())
        }
        other => other.clone(),
    }
}

fn without_numbers(text: &str) -> String {
    if !text.contains(secrets::OPEN) {
        return text.to_owned();
    }
    let (mut out, mut rest) = (String::new(), text);
    while let Some((before, after)) = rest.split_once(secrets::OPEN) {
        out.push_str(before);
        out.push_str("[secret");
        rest = after.trim_start_matches(|c: char| c.is_ascii_digit());
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn secrets_have_no_numbers_and_actions_no_order() {
        assert_eq!(
            normal(&json!({ "a": ["x [secret 12].[secret 3]", 7] })),
            json!({ "a": ["x [secret].[secret]", 7] })
        );
        let came = |actions: &[Value]| Came { actions: actions.to_vec(), ..Came::default() };
        assert!(came(&[json!(1), json!(2)]).is_same(&came(&[json!(2), json!(1)])));
        assert!(!came(&[json!(1), json!(1)]).is_same(&came(&[json!(1)])));
    }
}
