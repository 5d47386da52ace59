//! The canary: some rooms run the newest scripts, and whether the others follow is decided by what both do.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use moonring_policy::ScriptLibrary;
use moonring_policy::canary::{CanaryCounts, Chosen, Judgement, Reason, SideCounts, judge};

/// How often a canary is judged.
pub(super) const EVERY: Duration = Duration::from_secs(1);

/// What an operator wants of a canary.
#[derive(Clone, Debug)]
pub(crate) struct CanaryOrder {
    pub chosen: Chosen,
    /// `chosen` as it was written.
    pub text: String,
    /// How long it is watched.
    pub length: Duration,
}

impl CanaryOrder {
    /// Reads `5%` or a pattern of room ids.
    pub(crate) fn parse(text: &str, length: Duration) -> Result<Self, String> {
        Ok(Self { chosen: Chosen::parse(text)?, text: text.to_owned(), length })
    }
}

/// A canary, or the last one, for operators.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct CanaryReport {
    /// `none`, `running`, `promoted` or `back`.
    pub state: String,
    /// Why it went back.
    pub reason: Option<String>,
    /// Which rooms it is for.
    pub rooms: String,
    /// The scripts whose new version it tries.
    pub scripts: Vec<String>,
    /// For how long it has run, and is to run.
    pub seconds: f64,
    pub of_seconds: f64,
    pub canary: SideReport,
    pub rest: SideReport,
}

/// What the rooms of one side have done.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct SideReport {
    pub rooms: u64,
    /// Rooms in which a hook has failed.
    pub failing: u64,
    pub hooks: u64,
    pub failures: u64,
    pub allowed: u64,
    pub rejected: u64,
    pub mean_us: f64,
}

impl From<&SideCounts> for SideReport {
    fn from(counts: &SideCounts) -> Self {
        let stats = &counts.stats;
        Self {
            rooms: counts.rooms,
            failing: counts.failing,
            hooks: stats.hooks,
            failures: stats.failures(),
            allowed: stats.allowed,
            rejected: stats.rejected,
            mean_us: stats.latency.sum_ns as f64 / stats.steps.max(1) as f64 / 1000.0,
        }
    }
}

/// What the shards have last told of the canary; shared with who hears their reports.
#[derive(Clone, Debug, Default)]
pub(crate) struct Told(Arc<Mutex<BTreeMap<usize, CanaryCounts>>>);

impl Told {
    /// A shard tells.
    pub(crate) fn tell(&self, shard: usize, counts: CanaryCounts) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(shard, counts);
    }

    /// All shards together, of the canary with this number.
    fn sum(&self, number: u64) -> CanaryCounts {
        let told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut sum = CanaryCounts { number, ..CanaryCounts::default() };
        told.values().filter(|counts| counts.number == number).for_each(|counts| sum.add(counts));
        sum
    }
}

/// A canary that runs.
#[derive(Debug)]
pub(super) struct Canary {
    number: u64,
    order: CanaryOrder,
    began: Instant,
    /// What all rooms ran before, and what they are to run.
    pub(super) base: ScriptLibrary,
    pub(super) newer: ScriptLibrary,
}

impl Canary {
    pub(super) fn new(number: u64, order: CanaryOrder, base: ScriptLibrary, newer: ScriptLibrary) -> Self {
        tracing::info!(rooms = order.text, length = ?order.length, scripts = ?newer.changed_from(&base), "a canary begins");
        Self { number, order, began: Instant::now(), base, newer }
    }

    /// The scripts for the shards.
    pub(super) fn library(&self) -> ScriptLibrary {
        self.base.with_canary(self.number, &self.newer, self.order.chosen.clone())
    }

    pub(super) fn judge(&self, told: &Told) -> Judgement {
        judge(&told.sum(self.number), self.began.elapsed(), self.order.length)
    }

    pub(super) fn report(&self, told: &Told) -> CanaryReport {
        let counts = told.sum(self.number);
        CanaryReport {
            state: "running".to_owned(),
            reason: None,
            rooms: self.order.text.clone(),
            scripts: self.newer.changed_from(&self.base),
            seconds: self.began.elapsed().as_secs_f64(),
            of_seconds: self.order.length.as_secs_f64(),
            canary: SideReport::from(&counts.canary),
            rest: SideReport::from(&counts.rest),
        }
    }

    /// The last report: its rooms follow the others, or the others follow them.
    pub(super) fn ended(&self, told: &Told, why_back: Option<&Reason>) -> CanaryReport {
        let report = self.report(told);
        let (rooms, seconds, scripts) = (report.canary.rooms, report.seconds, &report.scripts);
        let state = match why_back {
            Some(reason) => {
                tracing::warn!(rooms, seconds, ?scripts, "the canary goes back: {reason}");
                "back"
            }
            None => {
                tracing::info!(rooms, seconds, ?scripts, "the canary was good: all rooms are given the new version");
                "promoted"
            }
        };
        CanaryReport { state: state.to_owned(), reason: why_back.map(ToString::to_string), ..report }
    }
}
