//! What a run found: numbers for machines, a table for terminals, a page for people.

mod html;
mod limited;
mod table;

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::engine::Snapshot;
use crate::process::Usage;

pub use html::page;
pub use limited::{LimitReport, limits};
pub use table::table;

/// Percentiles of times.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Times {
    /// How many.
    pub count: u64,
    /// The median, in milliseconds.
    pub p50_ms: f64,
    /// 99 of 100 are not longer.
    pub p99_ms: f64,
    /// 999 of 1,000 are not longer.
    pub p999_ms: f64,
    /// The longest.
    pub max_ms: f64,
}

/// One second of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Second {
    /// Since the run began.
    pub at_s: f64,
    /// Clients with media transport.
    pub connected: u64,
    /// Packets a second into the server.
    pub packets_in_per_s: f64,
    /// Packets a second out of the server.
    pub packets_out_per_s: f64,
    /// Bits a second out of the server.
    pub bits_out_per_s: f64,
    /// Lost packets out of all, in percent.
    pub loss_percent: f64,
    /// From sending to arrival.
    pub latency: Times,
    /// The longest time without a packet of a stream, between two of it.
    pub longest_gap_ms: f64,
    /// Share of one processor that the server used, in percent.
    pub server_cpu_percent: f64,
    /// Its resident memory.
    pub server_memory_bytes: u64,
    /// The run's measurement had begun.
    pub measured: bool,
}

/// What the measured part of a run found.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Report {
    /// What was run.
    pub scenario: String,
    /// Where.
    pub target: String,
    /// Clients that were to join.
    pub clients: usize,
    /// Clients with media transport at the end.
    pub connected: u64,
    /// Streams that are received.
    pub streams: u64,
    /// Length of the measurement.
    pub seconds: f64,
    /// True when it was to be longer.
    pub cut_short: bool,
    /// Packets published in it.
    pub packets_in: u64,
    /// Packets received in it.
    pub packets_out: u64,
    /// Packets published in a second.
    pub packets_in_per_s: f64,
    /// Packets received in a second.
    pub packets_out_per_s: f64,
    /// Bits received in a second.
    pub bits_out_per_s: f64,
    /// Packets that never came, by the sequence numbers of the streams; what links dropped is among them.
    pub lost: u64,
    /// Their share, in percent.
    pub loss_percent: f64,
    /// Packets that the server left out without a gap in the sequence numbers, by the publishers' counters.
    pub left_out: u64,
    /// Packets that came after a later one.
    pub reordered: u64,
    /// Packets that came only as retransmissions.
    pub repaired: u64,
    /// Datagrams that no peer could make sense of.
    pub dropped: u64,
    /// Datagrams that this machine did not take.
    pub send_refused: u64,
    /// Datagrams that this program was too slow to receive: they are in `lost`, and not the server's fault.
    pub overrun: u64,
    /// From sending to arrival at the receiver's socket.
    pub latency: Times,
    /// The longest time without a packet of a stream, between two of it.
    pub longest_gap_ms: f64,
    /// From being told that another process of the server goes on to going on with it; since the run began.
    pub resume: Times,
    /// From being told to restart ICE to media at another shard or node; since the run began.
    pub moves: Times,
    /// From the begin of a join to the end of the DTLS handshake; since the run began.
    pub join: Times,
    /// From the begin of a join to the first key frame; since the run began.
    pub first_picture: Times,
    /// What went wrong, and how often; since the run began.
    pub failures: BTreeMap<String, u64>,
    /// The server's processor time.
    pub server: Option<Cost>,
    /// This program's, for the same packets (`threads`: its engines).
    pub loadtest: Option<Cost>,
    /// What subscribers behind links saw; since the run began.
    pub limits: Vec<LimitReport>,
    /// Second by second.
    pub seconds_log: Vec<Second>,
}

/// What packets cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Cost {
    /// Share of one processor, all threads, in percent.
    pub cpu_percent: f64,
    /// Share of the threads that carry packets.
    pub threads_cpu_percent: f64,
    /// Processor time per packet out of the server, all threads.
    pub ns_per_packet: f64,
    /// Of the threads that carry packets.
    pub threads_ns_per_packet: f64,
    /// Resident memory at the end.
    pub memory_bytes: u64,
}

/// One moment of a run.
#[derive(Clone, Debug, Default)]
pub struct Moment {
    /// Since the run began.
    pub at: Duration,
    /// What went through the engines.
    pub snapshot: Snapshot,
    /// The server's usage.
    pub server: Option<Usage>,
    /// This process's usage.
    pub own: Option<Usage>,
}

impl Times {
    /// Of a histogram of microseconds.
    pub fn of(histogram: &Histogram<u64>) -> Self {
        let at = |quantile| histogram.value_at_quantile(quantile) as f64 / 1_000.0;
        Self {
            count: histogram.len(),
            p50_ms: at(0.5),
            p99_ms: at(0.99),
            p999_ms: at(0.999),
            max_ms: histogram.max() as f64 / 1_000.0,
        }
    }
}

impl Second {
    /// Between two moments; the later one's histogram has what came since the earlier.
    pub fn between(from: &Moment, to: &Moment, measured: bool) -> Self {
        let seconds = (to.at - from.at).as_secs_f64().max(1e-9);
        let per_s = |a: u64, b: u64| b.saturating_sub(a) as f64 / seconds;
        let (a, b) = (&from.snapshot, &to.snapshot);
        let busy = from.server.zip(to.server).map(|(a, b)| b.total.saturating_sub(a.total).as_secs_f64());
        Self {
            at_s: to.at.as_secs_f64(),
            connected: b.connected,
            packets_in_per_s: per_s(a.sent.packets, b.sent.packets),
            packets_out_per_s: per_s(a.order.received, b.order.received),
            bits_out_per_s: per_s(a.received.bytes_in, b.received.bytes_in) * 8.0,
            loss_percent: loss(a, b).1,
            latency: Times::of(&b.histograms.latency),
            longest_gap_ms: b.longest_gap_us as f64 / 1_000.0,
            server_cpu_percent: busy.unwrap_or_default() / seconds * 100.0,
            server_memory_bytes: to.server.map_or(0, |usage| usage.memory_bytes),
            measured,
        }
    }
}

impl Report {
    /// Of what lies between two moments. `latency` is of the same time.
    pub fn between(from: &Moment, to: &Moment, latency: &Histogram<u64>) -> Self {
        let seconds = (to.at - from.at).as_secs_f64().max(1e-9);
        let (a, b) = (&from.snapshot, &to.snapshot);
        let packets_in = b.sent.packets.saturating_sub(a.sent.packets);
        let packets_out = b.order.received.saturating_sub(a.order.received);
        let (lost, loss_percent) = loss(a, b);
        let missing = |s: &Snapshot| s.order.published.saturating_sub(s.order.received_of_published);
        let cost = |from: Option<Usage>, to: Option<Usage>| {
            from.zip(to).map(|(from, to)| Cost::between(from, to, seconds, packets_out))
        };
        Self {
            connected: b.connected,
            streams: b.streams,
            seconds,
            packets_in,
            packets_out,
            packets_in_per_s: packets_in as f64 / seconds,
            packets_out_per_s: packets_out as f64 / seconds,
            bits_out_per_s: b.received.bytes_in.saturating_sub(a.received.bytes_in) as f64 * 8.0 / seconds,
            lost,
            loss_percent,
            left_out: missing(b).saturating_sub(missing(a)).saturating_sub(lost),
            reordered: b.order.reordered.saturating_sub(a.order.reordered),
            repaired: b.order.repaired.saturating_sub(a.order.repaired),
            dropped: b.received.dropped.saturating_sub(a.received.dropped),
            send_refused: b.send_refused.saturating_sub(a.send_refused),
            overrun: b.overrun.saturating_sub(a.overrun),
            latency: Times::of(latency),
            resume: Times::of(&b.histograms.resume),
            moves: Times::of(&b.histograms.moves),
            join: Times::of(&b.histograms.join),
            first_picture: Times::of(&b.histograms.first_picture),
            failures: b.failures.clone(),
            server: cost(from.server, to.server),
            loadtest: cost(from.own, to.own),
            ..Self::default()
        }
    }

    /// What `--ramp` wants: hardly any loss, and short delays.
    pub fn is_good(&self, most_loss_percent: f64, longest_p99_ms: f64) -> bool {
        let all_there = self.connected as usize >= self.clients;
        all_there
            && self.loss_percent < most_loss_percent
            && self.latency.p99_ms < longest_p99_ms
            && self.latency.count > 0
    }
}

impl Cost {
    fn between(from: Usage, to: Usage, seconds: f64, packets: u64) -> Self {
        let total = to.total.saturating_sub(from.total).as_secs_f64();
        let named = to.named.saturating_sub(from.named).as_secs_f64();
        let per_packet = |time: f64| if packets == 0 { 0.0 } else { time * 1e9 / packets as f64 };
        Self {
            cpu_percent: total / seconds * 100.0,
            threads_cpu_percent: named / seconds * 100.0,
            ns_per_packet: per_packet(total),
            threads_ns_per_packet: per_packet(named),
            memory_bytes: to.memory_bytes,
        }
    }
}

/// Packets lost between two snapshots, and their share in percent.
fn loss(a: &Snapshot, b: &Snapshot) -> (u64, f64) {
    let lost = |s: &Snapshot| s.order.expected.saturating_sub(s.order.received);
    let expected = b.order.expected.saturating_sub(a.order.expected);
    let lost = lost(b).saturating_sub(lost(a));
    (lost, if expected == 0 { 0.0 } else { lost as f64 * 100.0 / expected as f64 })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn sample() -> Report {
        let mut latency = Snapshot::default().histograms.latency;
        (1..=1_000).for_each(|us| latency.record(us).unwrap());
        let mut moments = [Moment::default(), Moment { at: Duration::from_secs(10), ..Moment::default() }];
        let b = &mut moments[1].snapshot;
        (b.connected, b.streams) = (51, 50);
        (b.sent.packets, b.order.received, b.order.expected) = (1_000, 49_950, 50_000);
        (b.order.published, b.order.received_of_published, b.received.bytes_in) = (50_100, 49_950, 50_000_000);
        b.failures.insert("<b>rejected</b>: no".into(), 2);
        let usage = |total, named| {
            Some(Usage {
                total: Duration::from_millis(total),
                named: Duration::from_millis(named),
                memory_bytes: 1 << 20,
            })
        };
        (moments[0].server, moments[1].server) = (usage(100, 50), usage(600, 350));
        let mut report = Report::between(&moments[0], &moments[1], &latency);
        report.seconds_log = vec![Second::between(&moments[0], &moments[1], true); 3];
        (report.scenario, report.target, report.clients) = ("webinar".into(), "wss://x/ws".into(), 51);
        report.limits = limited::tests::sample();
        report
    }

    #[test]
    fn a_report_is_the_difference_of_two_moments() {
        let report = sample();
        assert_eq!((report.packets_in, report.packets_out, report.lost, report.left_out), (1_000, 49_950, 50, 100));
        assert!((report.loss_percent - 0.1).abs() < 1e-9);
        assert_eq!(report.bits_out_per_s, 40e6);
        assert_eq!((report.latency.p50_ms, report.latency.p99_ms), (0.5, 0.99));
        let server = report.server.unwrap();
        assert_eq!((server.cpu_percent, server.threads_cpu_percent), (5.0, 3.0));
        assert!((server.threads_ns_per_packet - 6006.0).abs() < 1.0);
        assert_eq!(report.loadtest, None);
    }

    #[test]
    fn a_load_is_good_when_all_is_there_in_time() {
        let good = Report { loss_percent: 0.01, ..sample() };
        assert!(good.is_good(0.1, 5.0));
        for bad in [
            Report { connected: 50, ..good.clone() },
            Report { loss_percent: 0.1, ..good.clone() },
            Report { latency: Times { p99_ms: 5.0, ..good.latency }, ..good.clone() },
            Report { latency: Times::default(), ..good.clone() },
        ] {
            assert!(!bad.is_good(0.1, 5.0));
        }
    }

    #[test]
    fn the_json_has_what_the_table_has() {
        let json = serde_json::to_value(sample()).unwrap();
        assert_eq!(json["latency"]["p99_ms"], 0.99);
        assert_eq!(json["server"]["memory_bytes"], 1 << 20);
        assert_eq!(json["seconds_log"].as_array().unwrap().len(), 3);
        assert_eq!(json["loadtest"], serde_json::Value::Null);
        assert_eq!((&json["limits"][0]["reached_p50_s"], &json["limits"][2]["layer"]), (&1.0.into(), &().into()));
    }
}
