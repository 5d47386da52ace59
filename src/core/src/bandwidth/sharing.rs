//! Flows that share a bottleneck: several receivers behind one access line. Each for itself fills the queue that all of them wait
//! in, probes into the gaps that the others leave, and gets what it happens to get. Those that are known to share are told of each
//! other: one probes at a time, and what some have beyond their fair share the others get (after RFC 8699, coupled congestion
//! control for RTP media).
//!
//! Who shares is seen, not asked. Flows to one network are neighbours: a household, or strangers behind one relay. Those whose queues
//! grow and drain at the same time share. RFC 8382 compares statistics of such delays, as its senders are apart; here one sender
//! sees all of them, and compares sample by sample.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use moonring_wire::network::network_of;
use neighbourhood::Neighbourhood;

mod evidence;
mod neighbourhood;

/// Most networks of which flows are compared.
const MAX_NETWORKS: usize = 16_384;
/// Between two looks for networks of which nothing is heard any more.
const SWEEP_INTERVAL: Duration = Duration::from_secs(10);

/// What a flow says of itself with each feedback.
#[derive(Clone, Copy, Debug)]
pub struct FlowView {
    /// The queue that its packets wait in.
    pub queue: Duration,
    /// The rate that it takes for its own, in bit/s.
    pub claim_bps: f64,
    /// The least that it has use for, and the most, in bit/s.
    pub least_bps: f64,
    /// See `least_bps`.
    pub wish_bps: f64,
    /// More could come of it: no queue is being drained.
    pub is_growing: bool,
    /// When its last probe began.
    pub probed: Option<Instant>,
    /// Until when it does not believe probes, as a token bucket on the way has let some pass.
    pub misled_until: Option<Instant>,
}

/// What a flow is told of those that it shares a bottleneck with.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Share {
    /// How many they are, with this one.
    pub flows: usize,
    /// How fast its claim is to change, in bit/s a second: what those lose that have more than their fair part, those get that have less.
    pub change_bps: f64,
    /// When the last probe of any other of them began.
    pub probed: Option<Instant>,
    /// Until when none of them should believe probes.
    pub misled_until: Option<Instant>,
}

/// All flows of a sender, by where they go. `K` names a flow.
#[derive(Debug)]
pub struct Flows<K> {
    networks: HashMap<IpAddr, Neighbourhood<K>>,
    /// When the first one was heard of.
    epoch: Option<Instant>,
    /// When networks of which nothing is heard were forgotten last, since then.
    swept: Duration,
}

impl<K> Default for Flows<K> {
    fn default() -> Self {
        Self { networks: HashMap::new(), epoch: None, swept: Duration::ZERO }
    }
}

impl<K: Copy + Eq> Flows<K> {
    /// Takes in what the flow `key` to `address` says, and tells it of those that it shares a bottleneck with; `None`: of none that is
    /// known. One that has use for nothing is not looked at, nor are more than 32 flows to one network.
    pub fn hear(&mut self, now: Instant, address: IpAddr, key: K, view: FlowView) -> Option<Share> {
        let at = now.saturating_duration_since(*self.epoch.get_or_insert(now));
        if at >= self.swept + SWEEP_INTERVAL {
            self.swept = at;
            self.networks.retain(|_, flows| flows.is_heard_of(at));
        }
        let network = network_of(address);
        let is_full = self.networks.len() >= MAX_NETWORKS && !self.networks.contains_key(&network);
        if is_full || view.wish_bps <= 0.0 {
            return None;
        }
        self.networks.entry(network).or_default().hear(at, key, view)
    }
}

#[cfg(test)]
mod tests;
