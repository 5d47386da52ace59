//! What became of the server and of the call, row by row.

use std::time::Duration;

use crate::attacks::{Attack, Outcome};
use crate::{call, ground};

/// No attack may make the server grow by more.
const MAX_GROWTH: u64 = 64 << 20;

/// One attack's row.
#[derive(Debug)]
pub(crate) struct Row {
    name: &'static str,
    sent: String,
    did: String,
    /// Of one processor, in percent.
    cpu: f64,
    growth: u64,
    lost: u64,
    p99: Duration,
    /// Why it is not as it has to be.
    wrong: Vec<String>,
}

#[derive(Debug, Default)]
pub(crate) struct Table(Vec<Row>);

impl Row {
    pub(crate) fn new(
        attack: &Attack,
        outcome: anyhow::Result<Outcome>,
        before: (call::Sample, ground::Sample),
        after: (call::Sample, ground::Sample),
        peak: u64,
    ) -> Self {
        let mut wrong = Vec::new();
        let (sent, did) = match outcome {
            Ok(outcome) => {
                if !outcome.held {
                    wrong.push("not as expected".to_owned());
                }
                (outcome.sent, outcome.did)
            }
            Err(error) => {
                wrong.push(format!("{error:#}"));
                (String::new(), String::new())
            }
        };
        let elapsed = after.1.at.saturating_duration_since(before.1.at).as_secs_f64();
        let used = after.1.usage.total.saturating_sub(before.1.usage.total).as_secs_f64();
        let growth = peak.saturating_sub(before.1.usage.memory_bytes);
        let lost = after.0.lost.saturating_sub(before.0.lost);
        if !attack.ends_server {
            if growth > MAX_GROWTH {
                wrong.push("too much memory".into());
            }
            if lost > 0 {
                wrong.push("the call lost packets".into());
            }
            if after.0.connected < before.0.connected || after.0.received == before.0.received {
                wrong.push("the call ended".into());
            }
        }
        Self { name: attack.name, sent, did, cpu: 100.0 * used / elapsed, growth, lost, p99: after.0.p99, wrong }
    }

    pub(crate) fn is_good(&self) -> bool {
        self.wrong.is_empty()
    }

    /// The row as a line of a Markdown table.
    pub(crate) fn line(&self) -> String {
        let verdict = if self.is_good() { "held".to_owned() } else { self.wrong.join("; ") };
        format!(
            "| {} | {} | {} | {:.0} % | {:.1} MiB | {} | {:.1} ms | {verdict} |",
            self.name,
            self.sent,
            self.did,
            self.cpu,
            self.growth as f64 / f64::from(1 << 20),
            self.lost,
            self.p99.as_secs_f64() * 1_000.0,
        )
    }
}

impl Table {
    pub(crate) fn push(&mut self, row: Row) {
        self.0.push(row);
    }

    /// True when every attack was held off.
    pub(crate) fn is_good(&self) -> bool {
        self.0.iter().all(Row::is_good)
    }

    pub(crate) fn summary(&self) -> String {
        let held = self.0.iter().filter(|row| row.is_good()).count();
        let most = self.0.iter().map(|row| row.growth).max().unwrap_or(0) >> 20;
        let lost: u64 = self.0.iter().map(|row| row.lost).sum();
        format!(
            "{held} of {} held; the largest growth was {most} MiB; {lost} packets of the call were lost",
            self.0.len()
        )
    }
}
