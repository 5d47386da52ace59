//! The shards' part of the metrics page, in the OpenMetrics text format.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::services::ServiceCounts;
use crate::watch::WatchCounts;
use moonring_core::report::ShardReport;
use moonring_policy::stats::LATENCY_BOUNDS_NS;
use moonring_wire::drops::DropReason;

/// A counter or gauge of one shard.
type Reading = (&'static str, &'static str, &'static str, fn(&ShardReport) -> u64);

const READINGS: &[Reading] = &[
    ("shard_rooms", "gauge", "Rooms on the shard", |s| s.rooms as u64),
    ("shard_clients", "gauge", "Clients on the shard", |s| s.clients as u64),
    ("shard_tracks", "gauge", "Tracks published on the shard", |s| s.tracks as u64),
    ("datagrams_received", "counter", "Datagrams received", |s| s.io.datagrams_in),
    ("datagram_bytes_received", "counter", "Bytes of datagrams received", |s| s.io.bytes_in),
    ("receives", "counter", "Receives that brought datagrams", |s| s.io.receives),
    ("receive_errors", "counter", "Receives that failed", |s| s.io.receive_errors),
    ("receive_out_of_buffers", "counter", "Times all receive buffers were in use", |s| s.io.out_of_buffers),
    ("kernel_drops", "counter", "Datagrams that did not fit into the socket's buffer", |s| s.io.kernel_drops),
    ("datagrams_sent", "counter", "Datagrams sent", |s| s.io.datagrams_out),
    ("datagram_bytes_sent", "counter", "Bytes of datagrams sent", |s| s.io.bytes_out),
    ("sends", "counter", "Sends that carried datagrams", |s| s.io.sends),
    ("send_failures", "counter", "Datagrams that the kernel refused", |s| s.io.send_failed),
    ("send_would_block", "counter", "Datagrams dropped over a full send buffer", |s| s.io.would_block),
    ("sends_without_gso", "counter", "Datagrams sent singly because GSO was refused", |s| s.io.without_gso),
    ("io_calls", "counter", "System calls of the media sockets", |s| s.io.enters),
    ("packets_in", "counter", "RTP packets received from publishers", |s| s.counters.packets_in),
    ("packet_bytes_in", "counter", "Bytes of RTP packets from publishers", |s| s.counters.bytes_in),
    ("packets_forwarded", "counter", "RTP packets forwarded", |s| s.counters.forwarded),
    ("packet_bytes_forwarded", "counter", "Bytes of RTP packets forwarded", |s| s.counters.forwarded_bytes),
    ("packets_resent", "counter", "RTP packets sent again on request", |s| s.counters.resent),
    ("panics", "counter", "Panics that were contained", |s| s.counters.panics + s.policy.panics),
    ("policy_hooks", "counter", "Hooks that ended", |s| s.policy.hooks),
    ("policy_missing_hooks", "counter", "Events for which the script has no hook", |s| s.policy.missing),
    ("policy_overflows", "counter", "Events that did not fit into a room's queue", |s| s.policy.overflows),
    ("policy_throttled", "counter", "Times a room waited for its share of CPU", |s| s.policy.throttled),
    ("policy_refused", "counter", "Events refused before any hook ran", |s| s.policy.refused),
    ("policy_disconnected", "counter", "Clients whose events made hooks fail", |s| s.policy.disconnected),
    ("policy_suspensions", "counter", "Scripts suspended after too many failures", |s| s.policy.suspensions),
    ("policy_reloads_waiting", "gauge", "Rooms to be looked at after a change", |s| s.reloads_waiting as u64),
];

/// A counter of one shard with a label of its own.
type Labelled = (&'static str, &'static str, &'static str, &'static [(&'static str, fn(&ShardReport) -> u64)]);

const LABELLED: &[Labelled] = &[
    (
        "policy_verdicts",
        "Decisions of hooks",
        "verdict",
        &[("allow", |s| s.policy.allowed), ("reject", |s| s.policy.rejected)],
    ),
    (
        "policy_failures",
        "Hooks that failed",
        "kind",
        &[
            ("error", |s| s.policy.errors),
            ("time", |s| s.policy.kills),
            ("memory", |s| s.policy.memory),
            ("panic", |s| s.policy.panics),
        ],
    ),
    (
        "policy_reloads",
        "Reloads of rooms' scripts",
        "outcome",
        &[("ok", |s| s.policy.reloads), ("failed", |s| s.policy.reloads_failed)],
    ),
];

/// The page's text; the closing mark is the caller's.
pub(super) fn write(
    page: &mut String,
    shards: &BTreeMap<usize, ShardReport>,
    services: ServiceCounts,
    scripts: Option<&WatchCounts>,
) {
    let mut page = Page(page);
    let labels: Vec<(String, &ShardReport)> = shards.iter().map(|(n, report)| (n.to_string(), report)).collect();
    for (name, kind, help, read) in READINGS {
        page.family(name, kind, help);
        for (shard, report) in &labels {
            page.sample(name, kind, &[("shard", shard)], read(report) as f64);
        }
    }
    for (name, help, label, values) in LABELLED {
        page.family(name, "counter", help);
        for (shard, report) in &labels {
            for (value, read) in *values {
                page.sample(name, "counter", &[("shard", shard), (label, value)], read(report) as f64);
            }
        }
    }
    page.family("drops", "counter", "Datagrams and packets not believed or not forwarded");
    for (shard, report) in &labels {
        for reason in DropReason::ALL {
            let labels = [("shard", shard.as_str()), ("reason", reason.label())];
            page.sample("drops", "counter", &labels, report.counters.drops.get(*reason) as f64);
        }
    }
    page.family("policy_reload_slice_max_seconds", "gauge", "The longest that reloads held a tick");
    for (shard, report) in &labels {
        let longest = report.longest_reload_slice.as_secs_f64();
        page.sample("policy_reload_slice_max_seconds", "gauge", &[("shard", shard)], longest);
    }
    page.latency(&labels);
    page.script_counters(shards);
    page.services(services);
    if let Some(scripts) = scripts {
        page.scripts(scripts);
    }
}

struct Page<'a>(&'a mut String);

impl Page<'_> {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to a String does not fail, here and below.
        let _ = write!(self.0, "# HELP moonring_{name} {help}.\n# TYPE moonring_{name} {kind}\n");
    }

    /// A sample; a counter's name ends with `_total`.
    fn sample(&mut self, name: &str, kind: &str, labels: &[(&str, &str)], value: f64) {
        let _ = write!(self.0, "moonring_{name}{}", if kind == "counter" { "_total" } else { "" });
        for (n, (label, text)) in labels.iter().enumerate() {
            let _ = write!(self.0, "{}{label}=\"{}\"", if n == 0 { '{' } else { ',' }, escaped(text));
        }
        let _ = writeln!(self.0, "{} {value}", if labels.is_empty() { "" } else { "}" });
    }

    fn one(&mut self, name: &str, kind: &str, help: &str, value: u64) {
        self.family(name, kind, help);
        self.sample(name, kind, &[], value as f64);
    }

    /// Buckets are cumulative here.
    fn latency(&mut self, shards: &[(String, &ShardReport)]) {
        const NAME: &str = "policy_step_seconds";
        self.family(NAME, "histogram", "CPU time of hooks' steps");
        for (shard, report) in shards {
            let latency = &report.policy.latency;
            let mut steps = 0;
            for (n, count) in latency.buckets.iter().enumerate() {
                steps += count;
                let bound = LATENCY_BOUNDS_NS.get(n).map_or("+Inf".to_owned(), |ns| (*ns as f64 / 1e9).to_string());
                let labels = [("shard", shard.as_str()), ("le", &bound)];
                self.sample(&format!("{NAME}_bucket"), "histogram", &labels, steps as f64);
            }
            let labels = [("shard", shard.as_str())];
            self.sample(&format!("{NAME}_sum"), "histogram", &labels, latency.sum_ns as f64 / 1e9);
            self.sample(&format!("{NAME}_count"), "histogram", &labels, steps as f64);
        }
    }

    /// A script may count downwards, so that these are no counters in the metrics' sense.
    fn script_counters(&mut self, shards: &BTreeMap<usize, ShardReport>) {
        let mut sums: BTreeMap<&str, f64> = BTreeMap::new();
        for (name, n) in shards.values().flat_map(|report| &report.script_counters) {
            *sums.entry(name).or_default() += n;
        }
        self.family("script_counter", "gauge", "What scripts count with sfu.count, by name");
        for (name, sum) in sums {
            self.sample("script_counter", "gauge", &[("name", name)], sum);
        }
    }

    fn services(&mut self, counts: ServiceCounts) {
        self.family("policy_http_requests", "counter", "HTTP requests of scripts");
        for (outcome, n) in [("answered", counts.http_answered), ("failed", counts.http_failed)] {
            self.sample("policy_http_requests", "counter", &[("outcome", outcome)], n as f64);
        }
        self.one("policy_http_under_way", "gauge", "HTTP requests of scripts under way", counts.http_under_way);
        self.one("shared_operations", "counter", "Operations on the shared store", counts.shared_operations);
        self.one("shared_entries", "gauge", "Entries of the shared store", counts.shared_entries);
        self.one("shared_bytes", "gauge", "Bytes of the shared store", counts.shared_bytes);
    }

    fn scripts(&mut self, counts: &WatchCounts) {
        self.one("scripts", "gauge", "Scripts in the scripts folder", counts.scripts);
        self.one("scripts_failed", "gauge", "Scripts whose newest version is not in use", counts.failed);
        self.one("script_changes", "counter", "Changes of scripts seen", counts.changes);
        self.one("scripts_readable", "gauge", "1 when the scripts folder can be read", counts.readable.into());
    }
}

/// A label's text as the format wants it.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
