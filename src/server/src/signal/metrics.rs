//! What the shards, the policies' services and the watch have counted, as metrics.

use std::collections::BTreeMap;
use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType::{self, Counter, Gauge};

use super::services::ServiceCounts;
use crate::cluster::{CLUSTER_COUNTERS, ClusterCounts};
use crate::watch::WatchCounts;
use moonring_core::report::{KeyFrameNeed, LinkReport, ShardReport};
use moonring_policy::stats::LATENCY_BOUNDS_NS;
use moonring_wire::drops::DropReason;

/// A counter or gauge of one shard.
type Reading = (&'static str, MetricType, &'static str, fn(&ShardReport) -> u64);

const READINGS: &[Reading] = &[
    ("shard_rooms", Gauge, "Rooms on the shard", |s| s.rooms as u64),
    ("shard_clients", Gauge, "Clients on the shard", |s| s.clients as u64),
    ("shard_tracks", Gauge, "Tracks published on the shard", |s| s.tracks as u64),
    ("shard_busy_permille", Gauge, "The share of its time that the shard was busy", |s| s.busy_permille.into()),
    ("shard_video_kept_permille", Gauge, "The part of the video that there is time for", |s| {
        s.video_kept_permille.into()
    }),
    ("shard_coalescing_microseconds", Gauge, "How long the shard lets datagrams wait for others", |s| {
        s.coalescing_us.into()
    }),
    ("datagrams_received", Counter, "Datagrams received", |s| s.io.datagrams_in),
    ("datagram_bytes_received", Counter, "Bytes of datagrams received", |s| s.io.bytes_in),
    ("receives", Counter, "Receives that brought datagrams", |s| s.io.receives),
    ("receive_errors", Counter, "Receives that failed", |s| s.io.receive_errors),
    ("receive_out_of_buffers", Counter, "Times all receive buffers were in use", |s| s.io.out_of_buffers),
    ("kernel_drops", Counter, "Datagrams that did not fit into the socket's buffer", |s| s.io.kernel_drops),
    ("datagrams_sent", Counter, "Datagrams sent", |s| s.io.datagrams_out),
    ("datagram_bytes_sent", Counter, "Bytes of datagrams sent", |s| s.io.bytes_out),
    ("sends", Counter, "Sends that carried datagrams", |s| s.io.sends),
    ("send_failures", Counter, "Datagrams that the kernel refused", |s| s.io.send_failed),
    ("send_would_block", Counter, "Datagrams dropped over a full send buffer", |s| s.io.would_block),
    ("sends_without_gso", Counter, "Datagrams sent singly because GSO was refused", |s| s.io.without_gso),
    ("tcp_connections", Gauge, "Connections for media", |s| s.io.tcp.open),
    ("tcp_accepted", Counter, "Connections for media that were let in", |s| s.io.tcp.accepted),
    ("tcp_refused", Counter, "Connections for media beyond the most that there may be", |s| s.io.tcp.refused),
    ("tcp_strangers", Counter, "Connections that ended before a client had proven to have them", |s| {
        s.io.tcp.strangers
    }),
    ("tcp_datagrams_received", Counter, "Datagrams received over TCP", |s| s.io.tcp.datagrams_in),
    ("tcp_bytes_received", Counter, "Bytes of datagrams received over TCP", |s| s.io.tcp.bytes_in),
    ("tcp_datagrams_sent", Counter, "Datagrams sent over TCP", |s| s.io.tcp.datagrams_out),
    ("tcp_bytes_sent", Counter, "Bytes of datagrams sent over TCP", |s| s.io.tcp.bytes_out),
    ("tcp_left_out", Counter, "Datagrams left out as too much waited for TCP", |s| s.io.tcp.left_out),
    ("io_calls", Counter, "System calls of the media sockets", |s| s.io.enters),
    ("packets_in", Counter, "RTP packets received from publishers", |s| s.counters.packets_in),
    ("packet_bytes_in", Counter, "Bytes of RTP packets from publishers", |s| s.counters.bytes_in),
    ("packets_forwarded", Counter, "RTP packets forwarded", |s| s.counters.forwarded),
    ("packet_bytes_forwarded", Counter, "Bytes of RTP packets forwarded", |s| s.counters.forwarded_bytes),
    ("packets_resent", Counter, "RTP packets sent again on request", |s| s.counters.resent),
    ("packets_relayed_out", Counter, "RTP packets sent to other shards", |s| s.counters.relayed_out),
    ("packets_relayed_in", Counter, "RTP packets that came from other shards", |s| s.counters.relayed_in),
    ("packets_relayed_again", Counter, "RTP packets sent again to other shards", |s| s.counters.relayed_again),
    ("clients_moved", Counter, "Clients that have moved to other shards, of this node and of others", |s| {
        s.counters.moved
    }),
    ("events_lost", Counter, "Events that were lost, and their clients ended, as signalling did not keep up", |s| {
        s.counters.events_lost
    }),
    ("panics", Counter, "Panics that were contained", |s| s.counters.panics + s.policy.panics),
    ("policy_hooks", Counter, "Hooks that ended", |s| s.policy.hooks),
    ("policy_missing_hooks", Counter, "Events for which the script has no hook", |s| s.policy.missing),
    ("policy_overflows", Counter, "Events that did not fit into a room's queue", |s| s.policy.overflows),
    ("policy_throttled", Counter, "Times a room waited for its share of CPU", |s| s.policy.throttled),
    ("policy_refused", Counter, "Events refused before any hook ran", |s| s.policy.refused),
    ("policy_disconnected", Counter, "Clients whose events made hooks fail", |s| s.policy.disconnected),
    ("policy_suspensions", Counter, "Scripts suspended after too many failures", |s| s.policy.suspensions),
    ("policy_reloads_waiting", Gauge, "Rooms to be looked at after a change", |s| s.reloads_waiting as u64),
];

/// A counter or gauge of a link to a shard of another node.
type LinkReading = (&'static str, MetricType, &'static str, fn(&LinkReport) -> u64);

const LINKS: &[LinkReading] = &[
    ("link_datagrams_sent", Counter, "Datagrams sent to a shard of another node", |l| l.sent),
    ("link_datagrams_received", Counter, "Datagrams that came from a shard of another node", |l| l.received),
    ("link_datagrams_lost", Counter, "Datagrams of a shard of another node that did not come", |l| l.lost),
    ("link_layers_down", Gauge, "Layers that are not asked for because of the loss", |l| l.layers_down.into()),
    ("link_silent", Gauge, "1 while nothing is heard of a shard whose link is used", |l| l.is_silent.into()),
    ("link_rtt_microseconds", Gauge, "The round trip to a shard of another node", |l| l.rtt.as_micros() as u64),
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

/// The counts at the time of a scrape.
#[derive(Debug)]
pub(super) struct Counts {
    pub(super) shards: BTreeMap<usize, ShardReport>,
    pub(super) services: ServiceCounts,
    /// `None` where the scripts folder is not watched.
    pub(super) scripts: Option<WatchCounts>,
    /// All zero where the server is alone.
    pub(super) cluster: ClusterCounts,
    /// Lines.
    pub(super) log_lost: u64,
    /// Bytes.
    pub(super) resident: u64,
}

impl Collector for Counts {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut page = Page { encoder };
        let shards: Vec<(String, &ShardReport)> =
            self.shards.iter().map(|(n, report)| (n.to_string(), report)).collect();
        for (name, kind, help, read) in READINGS {
            let mut family = page.family(name, help, *kind)?;
            for (shard, report) in &shards {
                sample(&mut family, *kind, &[("shard", shard)], read(report))?;
            }
        }
        for (name, help, label, values) in LABELLED {
            page.counted((name, help, label), &shards, values, |report, (value, read)| (value, read(report)))?;
        }
        page.drops(&shards)?;
        page.key_frames(&shards)?;
        page.reload_slices(&shards)?;
        page.latency(&shards)?;
        page.script_counters(self.shards.values())?;
        page.cluster(&self.cluster)?;
        page.links(&shards, &self.cluster)?;
        page.one(
            "log_lines_lost",
            Counter,
            "Lines of the log that the standard error output did not take",
            self.log_lost,
        )?;
        page.one("resident_bytes", Gauge, "Memory that the process has, as the kernel counts it", self.resident)?;
        page.services(self.services)?;
        self.scripts.as_ref().map_or(Ok(()), |scripts| page.scripts(scripts))
    }
}

/// A value with its labels.
fn sample(family: &mut MetricEncoder<'_>, kind: MetricType, labels: &[(&str, &str)], value: u64) -> fmt::Result {
    let mut metric = family.encode_family(&labels)?;
    match kind {
        Counter => metric.encode_counter::<NoLabelSet, _, u64>(&value, None),
        _ => metric.encode_gauge(&value),
    }
}

/// A gauge that is not a whole number, with its label.
fn measured(family: &mut MetricEncoder<'_>, label: (&str, &str), value: f64) -> fmt::Result {
    family.encode_family(&[label])?.encode_gauge(&value)
}

struct Page<'a> {
    encoder: DescriptorEncoder<'a>,
}

impl Page<'_> {
    fn family<'s>(&'s mut self, name: &'s str, help: &str, kind: MetricType) -> Result<MetricEncoder<'s>, fmt::Error> {
        // The closing dot is what the format's registry adds to its own.
        self.encoder.encode_descriptor(name, &format!("{help}."), None, kind)
    }

    fn one(&mut self, name: &str, kind: MetricType, help: &str, value: u64) -> fmt::Result {
        let mut metric = self.family(name, help, kind)?;
        match kind {
            Counter => metric.encode_counter::<NoLabelSet, _, u64>(&value, None),
            _ => metric.encode_gauge(&value),
        }
    }

    /// A counter of each shard for each of `all`, which `label` names.
    fn counted<T: Copy>(
        &mut self,
        (name, help, label): (&str, &str, &str),
        shards: &[(String, &ShardReport)],
        all: &[T],
        read: impl Fn(&ShardReport, T) -> (&'static str, u64),
    ) -> fmt::Result {
        let mut family = self.family(name, help, Counter)?;
        for (shard, report) in shards {
            for item in all {
                let (value, count) = read(report, *item);
                sample(&mut family, Counter, &[("shard", shard), (label, value)], count)?;
            }
        }
        Ok(())
    }

    fn drops(&mut self, shards: &[(String, &ShardReport)]) -> fmt::Result {
        let about = ("drops", "Datagrams and packets not believed or not forwarded", "reason");
        let read = |report: &ShardReport, reason: DropReason| (reason.label(), report.counters.drops.get(reason));
        self.counted(about, shards, DropReason::ALL, read)
    }

    fn key_frames(&mut self, shards: &[(String, &ShardReport)]) -> fmt::Result {
        let help = "Requests for key frames sent to publishers, by what they were needed for";
        let read = |report: &ShardReport, need: KeyFrameNeed| (need.label(), report.counters.key_frames.get(need));
        self.counted(("key_frame_requests", help, "need"), shards, KeyFrameNeed::ALL, read)
    }

    fn cluster(&mut self, counts: &ClusterCounts) -> fmt::Result {
        self.one("cluster_connected", Gauge, "Whether the cluster's messages can be reached", counts.connected.into())?;
        self.one("cluster_rooms", Gauge, "Rooms that this node is the home of", counts.rooms as u64)?;
        let help = "Whether a node or an entry of NATS may be sealed with a further secret of cluster_secret_file";
        self.one("cluster_further_secrets_needed", Gauge, help, counts.further_needed.into())?;
        let mut nodes = self.family("cluster_nodes", "Nodes of the cluster, by how they are", Gauge)?;
        for (verdict, count) in &counts.nodes {
            sample(&mut nodes, Gauge, &[("verdict", verdict.label())], *count)?;
        }
        CLUSTER_COUNTERS.iter().try_for_each(|(name, help, read)| self.one(name, Counter, help, read(counts)))
    }

    /// `peer` is the node and the shard that the link leads to.
    fn links(&mut self, shards: &[(String, &ShardReport)], cluster: &ClusterCounts) -> fmt::Result {
        for (name, kind, help, read) in LINKS {
            let mut family = self.family(name, help, *kind)?;
            for (shard, report) in shards {
                for link in &report.links {
                    // One that has just ended has no name any more.
                    let Some(peer) = cluster.places.get(&link.place) else { continue };
                    sample(&mut family, *kind, &[("shard", shard), ("peer", peer)], read(link))?;
                }
            }
        }
        Ok(())
    }

    fn reload_slices(&mut self, shards: &[(String, &ShardReport)]) -> fmt::Result {
        let mut family =
            self.family("policy_reload_slice_max_seconds", "The longest that reloads held a tick", Gauge)?;
        for (shard, report) in shards {
            measured(&mut family, ("shard", shard), report.longest_reload_slice.as_secs_f64())?;
        }
        Ok(())
    }

    fn latency(&mut self, shards: &[(String, &ShardReport)]) -> fmt::Result {
        let mut family = self.family("policy_step_seconds", "CPU time of hooks' steps", MetricType::Histogram)?;
        for (shard, report) in shards {
            let latency = &report.policy.latency;
            let bounds = LATENCY_BOUNDS_NS.iter().map(|ns| *ns as f64 / 1e9).chain([f64::INFINITY]);
            let buckets: Vec<(f64, u64)> = bounds.zip(latency.buckets.iter().copied()).collect();
            let steps = latency.buckets.iter().sum();
            let labels = [("shard", shard.as_str())];
            let mut metric = family.encode_family(&labels)?;
            metric.encode_histogram::<NoLabelSet>(latency.sum_ns as f64 / 1e9, steps, &buckets, None)?;
        }
        Ok(())
    }

    /// A script may count downwards, so that these are no counters in the metrics' sense.
    fn script_counters<'r>(&mut self, shards: impl Iterator<Item = &'r ShardReport>) -> fmt::Result {
        let mut sums: BTreeMap<&str, f64> = BTreeMap::new();
        for (name, n) in shards.flat_map(|report| &report.script_counters) {
            *sums.entry(name).or_default() += n;
        }
        let mut family = self.family("script_counter", "What scripts count with sfu.count, by name", Gauge)?;
        for (name, sum) in sums {
            measured(&mut family, ("name", name), sum)?;
        }
        Ok(())
    }

    fn services(&mut self, counts: ServiceCounts) -> fmt::Result {
        let mut family = self.family("policy_http_requests", "HTTP requests of scripts", Counter)?;
        for (outcome, n) in [("answered", counts.http_answered), ("failed", counts.http_failed)] {
            sample(&mut family, Counter, &[("outcome", outcome)], n)?;
        }
        self.one("policy_http_under_way", Gauge, "HTTP requests of scripts under way", counts.http_under_way)?;
        self.one("webhooks_delivered", Counter, "Messages that the webhook has taken", counts.webhooks_delivered)?;
        self.one("webhooks_failed", Counter, "Messages to the webhook that were given up", counts.webhooks_failed)?;
        let kept = counts.checkpoints;
        let mut family = self.family("checkpoints", "Checkpoints of rooms", Counter)?;
        for (outcome, n) in [("kept", kept.kept), ("failed", kept.failed), ("left_out", kept.left_out)] {
            sample(&mut family, Counter, &[("outcome", outcome)], n)?;
        }
        self.one("checkpoints_found", Counter, "Rooms that began with a checkpoint", kept.found)?;
        let unknown = "Rooms that began without, as the store did not say whether there is one";
        self.one("checkpoints_unknown", Counter, unknown, kept.unknown)?;
        self.one("shared_operations", Counter, "Operations on the shared store", counts.shared_operations)?;
        self.one("shared_entries", Gauge, "Entries of the shared store", counts.shared_entries)?;
        self.one("shared_bytes", Gauge, "Bytes of the shared store", counts.shared_bytes)?;
        self.one("store_operations", Counter, "Operations on the store that lasts", counts.store_operations)?;
        self.one("store_failed", Counter, "Operations that it could not do", counts.store_failed)?;
        self.one("store_commits", Counter, "Commits of the store that lasts", counts.store_commits)
    }

    fn scripts(&mut self, counts: &WatchCounts) -> fmt::Result {
        self.one("scripts", Gauge, "Scripts in the scripts folder", counts.scripts)?;
        self.one("scripts_failed", Gauge, "Scripts whose newest version is not in use", counts.failed)?;
        self.one("script_changes", Counter, "Changes of scripts seen", counts.changes)?;
        self.one("scripts_readable", Gauge, "1 when the scripts folder can be read", counts.readable.into())
    }
}
