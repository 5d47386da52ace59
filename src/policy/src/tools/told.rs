//! The lines of a trace, for people.

use std::collections::HashMap;
use std::fmt::Write;

use serde_json::Value;

use crate::tape::line::{Line, Of, OutcomeLine, StepLine};

/// Of a long value, how much is shown.
const MAX_SHOWN: usize = 200;
/// Events whose outcome is still to come that are remembered.
const MAX_EVENTS: usize = 4_096;

/// Tells lines, one after the other.
#[derive(Debug, Default)]
pub struct Teller {
    /// What the events are whose outcome is still to come.
    events: HashMap<u64, String>,
    /// What waits, by the number of its wait.
    waits: HashMap<u64, String>,
}

impl Teller {
    /// A line in words, with its line feed; nothing for one that says nothing to people.
    pub fn tell(&mut self, line: &Line) -> String {
        match line {
            Line::Start(start) => format!("recording of {}: {}\n", start.room, start.script.name),
            Line::Watching { room, script, version } => format!("{room} runs {script} {version}\n"),
            Line::Event(event) => {
                let (hook, client, rest) = event.call.told();
                let about = match client {
                    Some(client) => format!("{hook} {client}"),
                    None => hook.to_owned(),
                };
                let rest = if rest.is_null() { String::new() } else { format!(" {}", shown(&rest)) };
                if self.events.len() < MAX_EVENTS {
                    self.events.insert(event.ticket, about.clone());
                }
                at(event.t, &format!("{about}{rest}"))
            }
            Line::Due { .. } => String::new(),
            Line::Reply { t, wait, reply } => {
                let whose = self.waits.get(wait).map_or("", String::as_str);
                at(*t, &format!("  {whose} gets {}", shown(reply)))
            }
            Line::Step(step) => self.step(step),
            Line::Outcome { t, ticket, outcome } => {
                let about = self.events.remove(ticket).unwrap_or_else(|| "an event from before".to_owned());
                let mut text = at(*t, &format!("  {about}: {}", verdict(outcome)));
                outcome.actions.iter().for_each(|action| text.push_str(&at(*t, &format!("  {}", told_action(action)))));
                text
            }
            Line::Actions { t, actions } => {
                actions.iter().map(|action| at(*t, &format!("  {}", told_action(action)))).collect()
            }
            Line::Operator { t, action } => at(*t, &format!("an operator: {}", told_action(action))),
            Line::Reload { t, .. } => at(*t, "the room is given another version"),
            Line::Reloaded { t, version: Some(version), .. } => at(*t, &format!("version {version} runs")),
            Line::Reloaded { t, error, .. } => {
                at(*t, &format!("not reloaded: {}", error.as_deref().unwrap_or_default()))
            }
            Line::Resumed { t } => at(*t, "the script runs again"),
            Line::Reseeded { .. } => String::new(),
            Line::Lost { lines } => format!("({lines} lines are lost: they were not read in time)\n"),
            Line::End { reason } => format!("(the end: {reason})\n"),
        }
    }

    fn step(&mut self, step: &StepLine) -> String {
        let about = match step.of {
            Of::Ticket(ticket) => self.events.get(&ticket).cloned(),
            Of::Wait(wait) => self.waits.remove(&wait),
            Of::Timer(_) => None,
        };
        let about = about.unwrap_or_else(|| step.hook.clone());
        let mut text = format!("  {about} ran for {:.1} µs", step.cpu_ns as f64 / 1000.0);
        if let Some((wait, what)) = &step.waits {
            let _ = write!(text, ", waits for {}", shown(what));
            if self.waits.len() < MAX_EVENTS {
                self.waits.insert(*wait, about);
            }
        }
        if let Some(failure) = &step.failed {
            let _ = write!(text, " and failed: {failure}");
        }
        at(step.t, &text)
    }
}

/// A line at its time.
fn at(t: u64, text: &str) -> String {
    format!("{:>10.3} s  {text}\n", t as f64 / 1e9)
}

/// A verdict in words.
pub(crate) fn verdict(outcome: &OutcomeLine) -> String {
    let said = outcome.reason.as_deref().map_or(String::new(), |reason| format!(": {reason}"));
    let refused = outcome.refused.as_deref().map_or(String::new(), |reason| format!(" (refused: {reason})"));
    let answer = outcome.answer.as_ref().map_or(String::new(), |answer| format!(", answers {}", shown(answer)));
    let word = match outcome {
        OutcomeLine { failed: true, .. } => "failed",
        OutcomeLine { missing: true, allowed: true, .. } => "no such hook",
        OutcomeLine { allowed: true, .. } => "allowed",
        OutcomeLine { .. } => "rejected",
    };
    format!("{word}{said}{refused}{answer}")
}

/// An action in words: `broadcast "hello" (except ada)`.
pub(crate) fn told_action(action: &Value) -> String {
    const NAMES: &[&str] = &[
        "kick",
        "send",
        "broadcast",
        "set_max_bitrate",
        "set_max_layer",
        "set_priority",
        "mute",
        "unmute",
        "set_attributes",
        "set_rights",
        "set_hidden",
        "unpublish",
        "unsubscribe",
        "announce",
        "set_audio_last_n",
        "close",
        "webhook",
        "http",
        "shared",
        "store",
        "store.global",
    ];
    let Some(fields) = action.as_object() else { return shown(action) };
    let name = NAMES.iter().find(|name| fields.contains_key(**name)).copied().unwrap_or("action");
    let mut text = format!("{name} {}", fields.get(name).map_or(String::new(), shown));
    for (field, value) in fields.iter().filter(|(field, _)| field.as_str() != name) {
        let _ = write!(text, " ({field} {})", shown(value));
    }
    text
}

/// A value as JSON, the front of it if it is long.
fn shown(value: &Value) -> String {
    let text = value.to_string();
    let short = crate::api::log::truncated(&text, MAX_SHOWN);
    if short.len() < text.len() { format!("{short}…") } else { text }
}
