//! What the cluster counts.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use super::{Cluster, Verdict};
use moonring_wire::id::PlaceId;

#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) beats: AtomicU64,
    pub(super) strangers: AtomicU64,
    pub(super) moved: AtomicU64,
    pub(super) try_again: AtomicU64,
    pub(super) taken_over: AtomicU64,
    pub(super) gave_way: AtomicU64,
    pub(super) deaths: AtomicU64,
    pub(super) links_ended: AtomicU64,
    pub(super) sealed_anew: AtomicU64,
    /// Something may be sealed with a further secret.
    pub(super) further_needed: AtomicBool,
}

/// The counts at the time of a scrape.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ClusterCounts {
    /// Whether NATS can be reached.
    pub connected: bool,
    /// Rooms that this node is the home of.
    pub rooms: usize,
    /// Whether something may be sealed with a further secret of the file.
    pub further_needed: bool,
    /// How many nodes are how.
    pub nodes: Vec<(Verdict, u64)>,
    /// What the shards of other nodes are called: node and number.
    pub places: BTreeMap<PlaceId, String>,
    beats: u64,
    strangers: u64,
    moved: u64,
    try_again: u64,
    taken_over: u64,
    gave_way: u64,
    deaths: u64,
    links_ended: u64,
    sealed_anew: u64,
}

/// A counter: name, help, and how it is read.
type Reading = (&'static str, &'static str, fn(&ClusterCounts) -> u64);

/// The counters.
pub(crate) const CLUSTER_COUNTERS: &[Reading] = &[
    ("cluster_beats", "Beats heard of other nodes", |c| c.beats),
    ("cluster_strangers", "Messages and entries that no node of the cluster has sealed", |c| c.strangers),
    ("cluster_moved", "Joins that were sent to another node", |c| c.moved),
    ("cluster_try_again", "Joins that were told to try again", |c| c.try_again),
    ("cluster_rooms_taken_over", "Rooms whose home had died and that began anew here", |c| c.taken_over),
    ("cluster_rooms_given_up", "Rooms of this node that gave way to a higher term", |c| c.gave_way),
    ("cluster_deaths", "Nodes that were found dead by two witnesses", |c| c.deaths),
    ("cluster_links_ended", "Links to shards of nodes that are gone", |c| c.links_ended),
    ("cluster_sealed_anew", "Entries of NATS that were sealed with the first secret in place of a further one", |c| {
        c.sealed_anew
    }),
];

impl Cluster {
    /// What was counted so far.
    pub(crate) fn counts(&self) -> ClusterCounts {
        let state = self.state();
        let lines = state.peers.lines(Instant::now());
        let count = |verdict| match verdict {
            Verdict::Own => 1,
            verdict => lines.iter().filter(|line| line.verdict == verdict).count() as u64,
        };
        let counts = &self.0.counts;
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        ClusterCounts {
            connected: self.is_connected(),
            rooms: state.rooms.len(),
            further_needed: counts.further_needed.load(Ordering::Relaxed),
            nodes: Verdict::ALL.iter().map(|verdict| (*verdict, count(*verdict))).collect(),
            places: self.place_names(),
            beats: read(&counts.beats),
            strangers: read(&counts.strangers),
            moved: read(&counts.moved),
            try_again: read(&counts.try_again),
            taken_over: read(&counts.taken_over),
            gave_way: read(&counts.gave_way),
            deaths: read(&counts.deaths),
            links_ended: read(&counts.links_ended),
            sealed_anew: read(&counts.sealed_anew),
        }
    }
}
