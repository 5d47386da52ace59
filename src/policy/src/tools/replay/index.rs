//! What lies ahead in a recording.

use std::collections::{HashMap, HashSet, VecDeque};

use serde_json::Value;

use super::account::normal;
use super::read::Recording;
use crate::tape::line::{CallLine, Line, Of};
use moonring_wire::id::ClientId;

/// What a request was answered with.
#[derive(Clone, Debug)]
pub(super) struct Answered {
    pub(super) reply: Value,
    /// How long it took, in nanoseconds.
    pub(super) after: u64,
}

/// See the module.
#[derive(Default)]
pub(super) struct Index {
    /// Events of which a step or an outcome is recorded.
    pub(super) tickets_with_end: HashSet<u64>,
    /// Waits behind which a step is recorded.
    pub(super) waits_with_step: HashSet<u64>,
    /// Lines of timers' deadlines of which a step is recorded.
    pub(super) dues_with_step: HashSet<usize>,
    /// The other lines of timers' deadlines.
    pub(super) dues_without_step: HashSet<usize>,
    /// The lines of deadlines by their time.
    pub(super) dues: HashMap<i64, VecDeque<usize>>,
    /// When clients leave: line and time.
    pub(super) leaves: HashMap<ClientId, Vec<(usize, u64)>>,
    /// The waits for a request, by what was asked.
    pub(super) asked: HashMap<String, VecDeque<u64>>,
    /// What waits waited for.
    pub(super) requests: HashMap<u64, Value>,
    /// The answers, by the wait.
    pub(super) answers: HashMap<u64, Answered>,
    /// Signatures of tokens that were checked.
    pub(super) signatures: Vec<(String, bool)>,
}

impl Index {
    pub(super) fn of(recording: &Recording) -> Self {
        let mut index = Self::default();
        let mut timers: HashMap<u32, Vec<usize>> = HashMap::new();
        let mut sent = HashMap::new();
        for (number, line) in &recording.lines {
            match line {
                Line::Step(step) => {
                    match step.of {
                        Of::Ticket(ticket) => drop(index.tickets_with_end.insert(ticket)),
                        Of::Wait(wait) => drop(index.waits_with_step.insert(wait)),
                        // One that repeats is due again while its step waits, which is then the step of both.
                        Of::Timer(timer) => index.dues_with_step.extend(timers.remove(&timer).into_iter().flatten()),
                    }
                    index.signatures.extend(step.signatures.iter().cloned());
                    if let Some((wait, what)) = &step.waits {
                        sent.insert(*wait, step.t);
                        index.asked.entry(normal(what).to_string()).or_default().push_back(*wait);
                        index.requests.insert(*wait, normal(what));
                    }
                }
                Line::Due { at, timer, .. } => {
                    index.dues.entry(*at).or_default().push_back(*number);
                    if let Some(timer) = timer {
                        timers.entry(*timer).or_default().push(*number);
                    }
                }
                Line::Reply { t, wait, reply } => {
                    let after = t.saturating_sub(sent.get(wait).copied().unwrap_or(*t));
                    index.answers.insert(*wait, Answered { reply: reply.clone(), after });
                }
                Line::Outcome { ticket, .. } => drop(index.tickets_with_end.insert(*ticket)),
                Line::Event(event) => {
                    if let CallLine::ClientDisconnect { client, .. } = &event.call {
                        index.leaves.entry(client.clone()).or_default().push((*number, event.t));
                    }
                }
                _ => {}
            }
        }
        index.dues_without_step = timers.into_values().flatten().collect();
        index
    }

    /// Whether a client leaves at this time, behind this line.
    pub(super) fn leaves_now(&self, client: &ClientId, line: usize, t: u64) -> bool {
        let leaves = self.leaves.get(client).into_iter().flatten();
        leaves.clone().any(|(at, when)| *at > line && *when == t)
    }
}
