//! What came of a run.

/// Numbers of one run; `None` where the scene does not measure it or it never happened.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// |target / attainable − 1| at 5 s, where the target is the mean from 4.5 to 5.5 s.
    pub error: Option<f64>,
    /// Media delivered from 10 to 30 s, relative to what could have been.
    pub used: Option<f64>,
    /// Queueing delay at the bottleneck from 10 to 30 s, in milliseconds: 95th percentile.
    pub queue_p95: Option<f64>,
    /// Seconds until the target is seen to follow the drop.
    pub drop_seen: Option<f64>,
    /// The longest queue after the drop, in milliseconds.
    pub drop_queue: Option<f64>,
    /// Seconds until 85 % again after the capacity returned; infinite: never.
    pub recovery: Option<f64>,
    /// The largest deviation of a flow from its fair share, relative to it.
    pub unfair: Option<f64>,
    /// Part of the packets lost or dropped.
    pub lost: f64,
    /// Part of the bytes that was padding.
    pub padding: f64,
}

/// The value below which `part` of the values are; they get sorted.
pub fn quantile(values: &mut [f64], part: f64) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(((values.len() as f64 * part) as usize).min(values.len().saturating_sub(1))).copied()
}
