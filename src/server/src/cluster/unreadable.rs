//! Entries of the engine's tables that this node cannot read. They are somebody's: of a cluster with another secret on the same
//! engine, or of a node with another version. What is written over them is lost for those, and they write it again: so they
//! stay as they are until an operator takes them out.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::Cluster;
use super::messages::{Claim, claim_topic};
use super::nats::BUCKET;
use super::seal::{Broken, VERSION};

/// Between two lines of the log about one bucket.
const PAUSE: Duration = Duration::from_secs(60);

impl Cluster {
    /// The claim that stands under a key; `None` when it cannot be read.
    pub(super) fn claim_in(&self, key: &str, value: &[u8]) -> Option<Claim> {
        let claim = self.0.seal.open(&claim_topic(key), value);
        claim.map_err(|error| self.leave_entry(BUCKET, key, &error)).ok()
    }

    /// Counts an entry that is left as it is, and names what to look for: once a minute for each bucket.
    pub(super) fn leave_entry(&self, bucket: &str, key: &str, error: &Broken) {
        self.0.counts.strangers.fetch_add(1, Ordering::Relaxed);
        if !self.state().warns_every(format!("entry of {bucket}"), PAUSE) {
            return;
        }
        let why = match error {
            Broken::Stranger => "no node with this node's cluster_secret_file has written it".to_owned(),
            Broken::Version(version, _) => {
                format!(
                    "a node that speaks version {version} of the cluster's protocol has written it, this one speaks {VERSION}"
                )
            }
            Broken::Malformed(why) => format!("it is malformed: {why}"),
        };
        tracing::error!(
            bucket,
            key,
            "an entry of NATS cannot be read, and is left as it is: {why}. Give all nodes the same cluster_secret_file and \
             version; what is left of a cluster that is gone, take out of NATS (docs/cluster.md, \"Entries that cannot be read\")"
        );
    }
}
