//! The slope of the queueing delay over the last groups, against a threshold that adapts to the path
//! (draft-ietf-rmcat-gcc-02 section 5.4, with libwebrtc's trend line in place of the Kalman filter).

use super::Usage;

/// Groups that the line is drawn through.
const WINDOW: usize = 20;
/// Weight of the past in the smoothed delay.
const SMOOTHING: f64 = 0.9;
/// The slope is multiplied by this and by the number of groups seen, at most [`MAX_GROUPS`].
const GAIN: f64 = 4.0;
const MAX_GROUPS: u32 = 60;
/// The threshold, in the same unit as the multiplied slope ("milliseconds").
const FIRST_THRESHOLD: f64 = 12.5;
const THRESHOLD_RANGE: (f64, f64) = (6.0, 600.0);
/// How fast the threshold follows, per millisecond, when the slope is above and below it. It rises slowly enough to
/// see a queue grow, and falls slowly enough not to give way to a loss-based flow.
const RISE: f64 = 0.0087;
const FALL: f64 = 0.039;
/// A slope this far beyond the threshold is an event, not what the path is like.
const OUTLIER: f64 = 15.0;
/// How long the slope must be above the threshold.
const OVERUSE_MS: f64 = 10.0;
/// The longest time between groups that the threshold adapts for at once.
const MAX_ADAPT_MS: f64 = 100.0;

/// Draws the trend line.
#[derive(Clone, Debug)]
pub(super) struct Trend {
    /// Arrival and smoothed delay of the last groups in milliseconds, oldest at `head`.
    points: [(f64, f64); WINDOW],
    head: usize,
    groups: u32,
    first_arrival: i64,
    accumulated: f64,
    smoothed: f64,
    slope: f64,
    threshold: f64,
    /// How long the slope has been above the threshold; `None`: it is not.
    over_for: Option<f64>,
    over_groups: u32,
    usage: Usage,
}

impl Default for Trend {
    fn default() -> Self {
        Self {
            points: [(0.0, 0.0); WINDOW],
            head: 0,
            groups: 0,
            first_arrival: 0,
            accumulated: 0.0,
            smoothed: 0.0,
            slope: 0.0,
            threshold: FIRST_THRESHOLD,
            over_for: None,
            over_groups: 0,
            usage: Usage::Normal,
        }
    }
}

impl Trend {
    /// Takes in the delay variation between a group that arrived at `arrived` and the one `arrival_gap` before.
    pub(super) fn on_group(&mut self, arrived: i64, arrival_gap: i64, variation: i64) {
        if self.groups == 0 {
            self.first_arrival = arrived;
        }
        self.groups = (self.groups + 1).min(1000);
        self.accumulated += variation as f64 / 1e3;
        self.smoothed = SMOOTHING * self.smoothed + (1.0 - SMOOTHING) * self.accumulated;
        self.points[self.head] = ((arrived - self.first_arrival) as f64 / 1e3, self.smoothed);
        self.head = (self.head + 1) % WINDOW;
        let before = self.slope;
        if self.groups as usize >= WINDOW {
            self.slope = slope(&self.points).unwrap_or(before);
        }
        let scaled = self.slope * f64::from(self.groups.min(MAX_GROUPS)) * GAIN;
        let gap_ms = arrival_gap as f64 / 1e3;
        self.judge(scaled, gap_ms, self.slope >= before);
        self.adapt(scaled, gap_ms);
    }

    fn judge(&mut self, scaled: f64, gap_ms: f64, rising: bool) {
        if scaled <= self.threshold {
            (self.over_for, self.over_groups) = (None, 0);
            self.usage = if scaled < -self.threshold { Usage::Under } else { Usage::Normal };
            return;
        }
        // Overuse is taken to have begun half way between the groups.
        let over_for = self.over_for.map_or(gap_ms / 2.0, |before| before + gap_ms);
        self.over_for = Some(over_for);
        self.over_groups += 1;
        if over_for > OVERUSE_MS && self.over_groups > 1 && rising {
            (self.over_for, self.over_groups) = (Some(0.0), 0);
            self.usage = Usage::Over;
        }
    }

    fn adapt(&mut self, scaled: f64, gap_ms: f64) {
        let size = scaled.abs();
        if size > self.threshold + OUTLIER {
            return;
        }
        let speed = if size < self.threshold { FALL } else { RISE };
        let moved = self.threshold + speed * (size - self.threshold) * gap_ms.min(MAX_ADAPT_MS);
        self.threshold = moved.clamp(THRESHOLD_RANGE.0, THRESHOLD_RANGE.1);
    }

    pub(super) fn usage(&self) -> Usage {
        self.usage
    }
}

/// The slope of the line with the least squares; `None` when all points came at once.
fn slope(points: &[(f64, f64); WINDOW]) -> Option<f64> {
    let n = WINDOW as f64;
    let (sum_x, sum_y) = points.iter().fold((0.0, 0.0), |(x, y), p| (x + p.0, y + p.1));
    let (mean_x, mean_y) = (sum_x / n, sum_y / n);
    let (covariance, variance) = points.iter().fold((0.0, 0.0), |(c, v), (x, y)| {
        let dx = x - mean_x;
        (c + dx * (y - mean_y), v + dx * dx)
    });
    (variance > 0.0).then(|| covariance / variance)
}
