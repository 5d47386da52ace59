//! A path among those that may share its bottleneck.

use std::net::IpAddr;
use std::time::Instant;

use super::Congestion;
use crate::bandwidth::sharing::Flows;

impl Congestion {
    /// Tells of the path to `address`, whose name is `key`, and takes in what is known of others.
    pub fn meet<K: Copy + Eq>(&mut self, now: Instant, flows: &mut Flows<K>, (key, address): (K, IpAddr)) {
        let share = flows.hear(now, address, key, self.estimator.view());
        self.estimator.set_share(share);
        self.pace(now);
    }

    /// How many other paths it is known to share a bottleneck with.
    pub fn shares_with(&self) -> usize {
        self.estimator.share().map_or(0, |share| share.flows - 1)
    }
}
