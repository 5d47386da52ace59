//! What subscribers behind links saw, by the link's limit.

use serde::Serialize;

use crate::engine::{LinkCounts, View, Views};
use crate::limits::LinkPlan;

/// The head of the table; [`LimitReport::cells`] has a row for it.
#[rustfmt::skip]
pub(super) const COLUMNS: [&str; 12] = [
    "link", "phase", "clients", "layer", "reached p50", "p95", "never", "stays", "frozen", "dropped", "queue p95", "resent",
];

/// Subscribers with the same limit, in one phase of the run.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct LimitReport {
    /// What the link carries, in kbit/s; 0 is no limit.
    pub limit_kbps: u64,
    /// How many subscribers share such a link.
    pub sharers: usize,
    /// After the limits were lifted.
    pub lifted: bool,
    /// Length of this phase, from the first connection on, in seconds.
    pub seconds: f64,
    /// How many subscribers have this limit.
    pub subscribers: usize,
    /// The right layer: the highest that fits into nine tenths of a subscriber's part of the link, and without a limit the
    /// highest there is. `None` when not even the lowest fits.
    pub layer: Option<u8>,
    /// Time until the right layer or a higher one came and stayed for three seconds without a freeze: the median of those
    /// that got it, in seconds.
    pub reached_p50_s: Option<f64>,
    /// Of those that got it 95 of 100 had it by then.
    pub reached_p95_s: Option<f64>,
    /// How many never had it.
    pub never: usize,
    /// Share of the time from then on with it and without a freeze, in percent.
    pub stays_percent: Option<f64>,
    /// Share of the time that the picture stood still by Chromium's rule, in percent.
    pub frozen_percent: Option<f64>,
    /// Datagrams that came to the links while they were limited.
    pub datagrams: u64,
    /// Those that found the queue full, in percent.
    pub dropped_percent: Option<f64>,
    /// 95 of 100 of the others had passed after this time, in milliseconds.
    pub queue_p95_ms: Option<f64>,
    /// Share of the received bytes that were retransmissions, in percent.
    pub resent_percent: f64,
}

/// A row for each limit and phase, in the order of the links.
pub fn limits(plans: &[LinkPlan], views: &Views) -> Vec<LimitReport> {
    let mut kinds: Vec<LinkPlan> = Vec::new();
    for plan in plans {
        if !kinds.contains(plan) {
            kinds.push(*plan);
        }
    }
    let phases = views.subscribers.iter().map(|(_, views)| views.len()).max().unwrap_or(0);
    let row = |kind: LinkPlan, phase: usize| {
        let of_kind = |link: usize| plans.get(link) == Some(&kind);
        let subscribers = plans.iter().filter(|plan| **plan == kind).count() * kind.sharers;
        let all = views.subscribers.iter().filter(|(link, _)| of_kind(*link));
        let seen: Vec<View> =
            all.filter_map(|(_, views)| views.get(phase).filter(|v| !v.time.is_zero()).copied()).collect();
        let mut counts = LinkCounts::default();
        let links = views.links.iter().enumerate().filter(|(link, _)| phase == 0 && of_kind(*link));
        links.for_each(|(_, link)| counts.merge(link));
        LimitReport::of((kind, subscribers), phase > 0, &seen, &counts)
    };
    kinds.iter().flat_map(|kind| (0..phases).map(move |phase| row(*kind, phase))).collect()
}

impl LimitReport {
    fn of((kind, subscribers): (LinkPlan, usize), lifted: bool, seen: &[View], counts: &LinkCounts) -> Self {
        let mut reached: Vec<f64> = seen.iter().filter_map(|view| Some(view.reached?.as_secs_f64())).collect();
        reached.sort_by(f64::total_cmp);
        let layer = if lifted { Some(kind.top) } else { kind.right };
        let frozen: f64 = seen.iter().map(|view| view.frozen).sum();
        let stayed: f64 = seen.iter().filter(|view| view.reached.is_some()).map(|view| view.stayed).sum();
        let bytes: u64 = seen.iter().map(|view| view.bytes).sum();
        let resent: u64 = seen.iter().map(|view| view.resent_bytes).sum();
        let has_queue = counts.datagrams > 0;
        Self {
            limit_kbps: kind.kbps,
            sharers: kind.sharers,
            lifted,
            seconds: seen.iter().map(|view| view.time.as_secs_f64()).fold(0.0, f64::max),
            subscribers,
            layer,
            reached_p50_s: nearest_rank(&reached, 0.5),
            reached_p95_s: nearest_rank(&reached, 0.95),
            never: if layer.is_some() { subscribers.saturating_sub(reached.len()) } else { 0 },
            stays_percent: (!reached.is_empty()).then(|| stayed * 100.0 / reached.len() as f64),
            frozen_percent: (!seen.is_empty()).then(|| frozen * 100.0 / seen.len() as f64),
            datagrams: counts.datagrams,
            dropped_percent: has_queue.then(|| percent(counts.dropped, counts.datagrams)),
            queue_p95_ms: has_queue.then(|| counts.delays.value_at_quantile(0.95) as f64 / 1_000.0),
            resent_percent: percent(resent, bytes),
        }
    }

    /// What stands below [`COLUMNS`].
    pub(super) fn cells(&self) -> [String; COLUMNS.len()] {
        let or_dash = |value: Option<f64>, decimals: usize, unit: &str| {
            value.map_or_else(|| "-".to_owned(), |value| format!("{value:.decimals$} {unit}"))
        };
        let link = match (self.limit_kbps, self.sharers) {
            (0, _) => "no limit".into(),
            (kbps, 1) => format!("{kbps} kbit/s"),
            (kbps, sharers) => format!("{kbps} kbit/s for {sharers}"),
        };
        [
            link,
            format!("{} {:.0} s", if self.lifted { "lifted" } else { "limited" }, self.seconds),
            self.subscribers.to_string(),
            self.layer.map_or_else(|| "none fits".into(), |layer| layer.to_string()),
            or_dash(self.reached_p50_s, 1, "s"),
            or_dash(self.reached_p95_s, 1, "s"),
            self.never.to_string(),
            or_dash(self.stays_percent, 1, "%"),
            or_dash(self.frozen_percent, 1, "%"),
            or_dash(self.dropped_percent, 1, "%"),
            or_dash(self.queue_p95_ms, 0, "ms"),
            format!("{:.1} %", self.resent_percent),
        ]
    }
}

/// The value that so large a share of all does not exceed; `sorted` is in ascending order.
fn nearest_rank(sorted: &[f64], quantile: f64) -> Option<f64> {
    let rank = (sorted.len() as f64 * quantile).ceil() as usize;
    sorted.get(rank.max(1) - 1).copied()
}

fn percent(part: u64, all: u64) -> f64 {
    if all == 0 { 0.0 } else { part as f64 * 100.0 / all as f64 }
}

#[cfg(test)]
pub(super) mod tests {
    use std::time::Duration;

    use super::*;

    const LIMITED: LinkPlan = LinkPlan { kbps: 600, sharers: 2, right: Some(1), top: 2 };
    const TOO_SLOW: LinkPlan = LinkPlan { kbps: 50, sharers: 1, right: None, top: 2 };

    fn view(seconds: u64, reached_ms: Option<u64>, frozen: f64) -> View {
        View {
            time: Duration::from_secs(seconds),
            reached: reached_ms.map(Duration::from_millis),
            stayed: if reached_ms.is_some() { 0.9 } else { 0.0 },
            frozen,
            bytes: 1_000,
            resent_bytes: 30,
        }
    }

    /// Two links of 600 kbit/s for two each, and one that is too slow, limited and lifted.
    pub(in crate::report) fn sample() -> Vec<LimitReport> {
        let mut links = vec![LinkCounts::default(); 3];
        for (link, dropped) in links.iter_mut().zip([1, 2, 50]) {
            (link.datagrams, link.dropped) = (100, dropped);
            (1..=100).for_each(|ms| link.delays.record(ms * 1_000).unwrap());
        }
        let subscribers = vec![
            (0, vec![view(30, Some(1_000), 0.01), view(20, Some(4_000), 0.0)]),
            (0, vec![view(30, Some(3_000), 0.03), view(20, Some(6_000), 0.0)]),
            (1, vec![view(29, None, 0.2), view(20, None, 0.5)]),
            // Came after the limits were lifted; the fourth never came.
            (2, vec![View::default(), view(10, Some(500), 0.0)]),
        ];
        limits(&[LIMITED, LIMITED, TOO_SLOW], &Views { subscribers, links })
    }

    #[test]
    fn each_limit_has_a_row_for_each_phase() {
        let rows: Vec<_> = sample().iter().map(LimitReport::cells).collect();
        let expected = [
            [
                "600 kbit/s for 2",
                "limited 30 s",
                "4",
                "1",
                "1.0 s",
                "3.0 s",
                "2",
                "90.0 %",
                "8.0 %",
                "1.5 %",
                "95 ms",
                "3.0 %",
            ],
            ["600 kbit/s for 2", "lifted 20 s", "4", "2", "4.0 s", "6.0 s", "2", "90.0 %", "16.7 %", "-", "-", "3.0 %"],
            ["50 kbit/s", "limited 0 s", "1", "none fits", "-", "-", "0", "-", "-", "50.0 %", "95 ms", "0.0 %"],
            ["50 kbit/s", "lifted 10 s", "1", "2", "0.5 s", "0.5 s", "0", "90.0 %", "0.0 %", "-", "-", "3.0 %"],
        ];
        assert_eq!(rows, expected);
    }

    #[test]
    fn without_links_there_are_no_rows() {
        assert_eq!(limits(&[], &Views::default()), []);
    }

    #[test]
    fn a_percentile_is_one_of_the_values() {
        for (values, quantile, expected) in [
            (&[][..], 0.5, None),
            (&[4.0], 0.95, Some(4.0)),
            (&[1.0, 2.0, 3.0, 4.0], 0.5, Some(2.0)),
            (&[1.0, 2.0, 3.0, 4.0], 0.95, Some(4.0)),
        ] {
            assert_eq!(nearest_rank(values, quantile), expected, "{values:?}");
        }
    }
}
