//! A secret takes the place of another: what stands in NATS under a further secret of `cluster_secret_file` is sealed anew with
//! the first one, so that the further one can be taken out of the file.
//!
//! ```text
//!  a node seals with a further one ──▶ wait ──▶ none does any more ──▶ look at every entry, and seal anew what has to be
//!          ▲                                                                      │
//!          └──────────────────────── one does again ◀── nothing is left: said ◀───┘
//! ```
//! As long as a node is heard that seals with a further secret, it writes more of it, and may not yet believe the first one: until
//! then nothing is sealed anew. What is sealed anew says what it said, over the revision that was read, for the time that it was
//! given: what has expired says so itself.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio::time::sleep;

use super::engine::{Offline, Unwritten};
use super::messages::{NodeName, claim_topic};
use super::peers::{Heard, MAX_NODES};
use super::seal::By;
use super::tables::{Scanned, Table};
use super::{Cluster, State, scripts, values};

/// Between two looks at who seals with which secret.
const LOOK: Duration = Duration::from_millis(500);
/// For so long all nodes that are heard have sealed with the first secret when entries are looked at: eight beats.
const SETTLED: Duration = Duration::from_secs(2);
/// A node that is not heard for so long writes nothing; one that is killed within this time may have been about to.
const FORGOTTEN: Duration = Duration::from_secs(5);
/// Before entries are looked at again of which some could not be sealed anew.
const AGAIN: Duration = Duration::from_secs(5);
/// Entries that are read ahead.
const AHEAD: usize = 16;
/// All that is looked at: the claims of rooms, and the tables.
const ALL: [Option<Table>; 5] =
    [None, Some(Table::Scripts), Some(Table::Store), Some(Table::Shared), Some(Table::State)];

/// What came of a look at all entries.
#[derive(Debug, Default)]
struct Pass {
    anew: u64,
    /// Those that could not be written.
    left: u64,
    /// A table was full.
    is_full: bool,
}

impl State {
    /// A beat was heard that such a secret has sealed.
    pub(super) fn heard_by(&mut self, now: Instant, heard: &Heard, name: &NodeName, by: By) {
        match (heard, by) {
            (Heard::GoesOn(_), By::First) => drop(self.others_seal.remove(name)),
            // One that does not believe the first secret answers no question, and is never proven.
            (Heard::GoesOn(_) | Heard::Unproven, By::Further)
                if self.others_seal.len() < MAX_NODES || self.others_seal.contains_key(name) =>
            {
                self.others_seal.insert(name.clone(), now);
            }
            _ => {}
        }
    }

    /// The nodes that are heard, and seal with a further secret.
    fn sealing_with_further(&mut self, now: Instant) -> Vec<NodeName> {
        self.others_seal.retain(|_, heard| now.duration_since(*heard) < FORGOTTEN);
        self.others_seal.keys().cloned().collect()
    }
}

impl Cluster {
    /// Seals anew what a further secret has sealed, for as long as the server runs.
    pub(super) async fn seal_all_anew(self) {
        if !self.0.seal.has_further() {
            return;
        }
        let (mut settled, mut said): (Option<Instant>, Vec<NodeName>) = (None, Vec::new());
        loop {
            sleep(LOOK).await;
            let now = Instant::now();
            let (nodes, is_in) = {
                let mut state = self.state();
                (state.sealing_with_further(now), state.is_accepted)
            };
            if nodes != said && !nodes.is_empty() {
                let names: Vec<_> = nodes.iter().map(NodeName::as_str).collect();
                tracing::info!(
                    nodes = names.join(", "),
                    "these nodes seal with a further secret of cluster_secret_file: it has to stay until they seal with the first one"
                );
            }
            if !nodes.is_empty() {
                self.0.counts.further_needed.store(true, Ordering::Relaxed);
            }
            said = nodes;
            if !said.is_empty() || !is_in || !self.is_connected() {
                settled = None;
            } else if now.duration_since(*settled.get_or_insert(now)) >= SETTLED && self.is_further_needed() {
                self.take_pass().await;
            }
        }
    }

    /// One look at all entries, and what is said of it.
    async fn take_pass(&self) {
        let Ok(Pass { anew, left, is_full }) = self.look_at_all().await else { return sleep(AGAIN).await };
        self.0.counts.sealed_anew.fetch_add(anew, Ordering::Relaxed);
        if left > 0 {
            let why = if is_full { "a table is full" } else { "others write them just now, or NATS does not answer" };
            tracing::warn!(
                entries = left,
                "entries of NATS could not be sealed with the first secret of cluster_secret_file, which is tried again: {why}"
            );
            return sleep(AGAIN).await;
        }
        self.0.counts.further_needed.store(false, Ordering::Relaxed);
        tracing::info!(
            sealed_anew = anew,
            "nothing in NATS needs a further secret of cluster_secret_file any more: when all nodes run with the same first one, \
             its further lines can be taken out"
        );
    }

    async fn look_at_all(&self) -> Result<Pass, Offline> {
        let mut pass = Pass::default();
        for table in ALL {
            let (into, mut entries) = mpsc::channel(AHEAD);
            let scan = self.0.engine.scan(table, into);
            let work = async {
                while let Some(entry) = entries.recv().await {
                    self.seal_entry_anew(table, entry, &mut pass).await;
                }
            };
            let (scanned, ()) = tokio::join!(scan, work);
            scanned?;
        }
        Ok(pass)
    }

    async fn seal_entry_anew(&self, table: Option<Table>, entry: Scanned, pass: &mut Pass) {
        let Scanned { key, value, revision, ttl } = entry;
        let topic = match table {
            None => claim_topic(&key),
            Some(Table::Scripts) => scripts::topic(&key),
            Some(table) => values::topic(table, &key),
        };
        let Some(sealed) = self.0.seal.seal_anew(&topic, &value) else { return };
        let written = match table {
            None => self.0.engine.claim(&key, sealed, Some(revision)).await,
            Some(table) => self.0.engine.put(table, &key, Some(sealed), revision, ttl).await,
        };
        match written {
            Ok(_) => pass.anew += 1,
            Err(error) => {
                pass.left += 1;
                pass.is_full |= error == Unwritten::Full;
            }
        }
    }

    fn is_further_needed(&self) -> bool {
        self.0.counts.further_needed.load(Ordering::Relaxed)
    }
}
