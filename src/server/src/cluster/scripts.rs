//! Scripts that were uploaded to one node and are used by all.
//!
//! ```text
//! file.<sha256>  the text of a script, written once
//! set.<id>       the names and hashes of a set that is tried, or in use
//! current        those of the set in use
//! ```
//! The node that gets an upload writes texts and set, and asks all nodes that beat whether they could use them. Only when all
//! can, `current` is written, and they are told to take it. Who is away then finds it later: each node looks at `current` every
//! two seconds and whenever it has reached the engine again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::join_all;
use futures_util::{StreamExt, TryStreamExt, stream};
use serde::{Deserialize, Serialize};
use tokio::time::timeout;

use super::engine::{Offline, Pending, Unwritten};
use super::lookup::OFFLINE;
use super::messages::{Answer, Ask, Node, node_subject};
use super::peers::Verdict;
use super::tables::{Kept, Table, bucket_of};
use super::{Cluster, Host};
use crate::script_set::{FailedScript, Manifest, ScriptChange, ScriptSet, ScriptsTold, hash_of};

/// The key of the set in use.
const CURRENT: &str = "current";
/// Texts that are read or written at once.
const AT_ONCE: usize = 16;
/// Time for a node to compile all scripts, or to take them.
const PATIENCE: Duration = Duration::from_secs(10);
/// Time that another upload to the same node, or its look at the set in use, is waited for.
const TURN: Duration = Duration::from_secs(2);
/// Why an upload comes to nothing.
const BUSY: &str = "another upload is under way, or NATS does not answer; nothing was changed";
const CONTESTED: &str = "somebody else has uploaded scripts meanwhile: nothing was changed, try again";
const UNREADABLE: &str = "the bucket mr_scripts holds what a node with another cluster_secret_file or version has written: give all nodes \
                          the same, or delete the bucket if that is gone";

/// What the cluster needs of a server that has scripts.
pub(crate) trait ScriptHost {
    /// What tells the uploaded scripts from any others.
    fn scripts_id(&self) -> String;
    /// The uploaded scripts; an error says why they cannot be read.
    fn uploaded_scripts(&self) -> Pending<'_, Result<ScriptSet, String>>;
    /// Whether these could be used instead.
    fn check_scripts(&self, set: ScriptSet) -> Pending<'_, ScriptsTold>;
    /// Uses them from now on.
    fn take_scripts(&self, set: ScriptSet) -> Pending<'_, ScriptsTold>;
}

/// What has come of an upload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Pushed {
    /// Whether the scripts are in use; if not, nothing was changed anywhere.
    pub taken: bool,
    /// Uploaded scripts, if they are.
    pub scripts: usize,
    /// What each node says.
    pub nodes: Vec<NodeTold>,
}

/// What one node says of uploaded scripts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NodeTold {
    /// Its name.
    pub node: String,
    /// It does not beat: it takes what is in use when it comes back.
    pub away: bool,
    /// What it says.
    #[serde(flatten)]
    pub told: ScriptsTold,
}

impl Cluster {
    /// Changes the uploaded scripts of all nodes, or of none. An error says why nothing was done.
    pub(crate) async fn push_scripts(&self, host: &dyn Host, change: ScriptChange) -> Result<Pushed, String> {
        // This node may be looking just then whether others are in use.
        let _one = timeout(TURN, self.0.scripts.lock()).await.map_err(|_| BUSY)?;
        if !self.is_connected() || !self.state().is_accepted {
            return Err(format!("{OFFLINE}; nothing was changed"));
        }
        let (before, found) = self.manifest(CURRENT).await.map_err(|why| format!("{why}; nothing was changed"))?;
        let own = host.uploaded_scripts().await?;
        let set = self.set_of(&own, &before.unwrap_or_default()).await?.changed(change)?;
        let manifest = set.manifest();
        self.write_set(&set, &manifest).await.map_err(|why| format!("{why}; nothing was changed"))?;
        let id = manifest.id();
        let checked = self.all_say(Ask::CheckScripts { id: id.clone() }, host.check_scripts(set.clone())).await;
        if checked.iter().any(|node| !node.told.is_good()) {
            self.sweep_scripts().await;
            return Ok(Pushed { taken: false, scripts: 0, nodes: checked });
        }
        let sealed = self.sealed(CURRENT, &manifest);
        match self.0.engine.put(Table::Scripts, CURRENT, Some(sealed), found.revision, None).await {
            Ok(_) => {}
            Err(Unwritten::Taken) => return Err(CONTESTED.to_owned()),
            Err(Unwritten::Full) => {
                return Err("the cluster's table of scripts is full; nothing was changed".to_owned());
            }
            Err(Unwritten::Offline) => return Err(format!("{OFFLINE}: ask again which scripts are in use")),
        }
        let mut nodes = self.all_say(Ask::TakeScripts { id: id.clone() }, host.take_scripts(set)).await;
        let away = self.nodes().into_iter().filter(|line| line.verdict > Verdict::Draining);
        let told = ScriptsTold::default();
        nodes.extend(away.map(|line| NodeTold { node: line.node.to_string(), away: true, told: told.clone() }));
        self.sweep_scripts().await;
        tracing::info!(scripts = manifest.0.len(), id, "uploaded scripts are in use at all nodes");
        Ok(Pushed { taken: true, scripts: manifest.0.len(), nodes })
    }

    /// Asks all other nodes that beat, while this one does its part.
    async fn all_say(&self, ask: Ask, own: Pending<'_, ScriptsTold>) -> Vec<NodeTold> {
        let others = self.state().peers.all_alive(Instant::now());
        let asked = others.into_iter().map(|Node { name, .. }| {
            let ask = ask.clone();
            async move {
                let told = match self.ask(&node_subject(&name), ask, PATIENCE).await {
                    Ok(Answer::Scripts { told }) => told,
                    Ok(Answer::No { why }) => ScriptsTold::error(why),
                    Ok(_) | Err(_) => ScriptsTold::error("it does not answer"),
                };
                NodeTold { node: name.to_string(), away: false, told }
            }
        });
        let (told, mut nodes) = tokio::join!(own, join_all(asked));
        nodes.insert(0, NodeTold { node: self.name().to_owned(), away: false, told });
        nodes
    }

    /// What this node says of a set that another one has written.
    pub(super) async fn serve_scripts(&self, host: &dyn Host, id: &str, is_taken: bool) -> ScriptsTold {
        // Two nodes that upload at the same time wait for each other.
        let Ok(_one) = timeout(TURN, self.0.scripts.lock()).await else { return ScriptsTold::error(BUSY) };
        match self.written_set(host, id, is_taken).await {
            Ok(set) if is_taken => host.take_scripts(set).await,
            Ok(set) => host.check_scripts(set).await,
            Err(why) => ScriptsTold::error(why),
        }
    }

    async fn written_set(&self, host: &dyn Host, id: &str, is_current: bool) -> Result<ScriptSet, String> {
        let key = if is_current { CURRENT.to_owned() } else { key_of(id) };
        let manifest = self.manifest(&key).await?.0.unwrap_or_default();
        if manifest.id() != id {
            return Err("other scripts were uploaded meanwhile".to_owned());
        }
        self.set_of(&host.uploaded_scripts().await?, &manifest).await
    }

    /// Takes the scripts that are in use elsewhere, if this node has others.
    pub(super) async fn follow_scripts(&self, host: Arc<dyn Host>) {
        // During an upload the node is told what to do.
        let Ok(_one) = self.0.scripts.try_lock() else { return };
        let followed = async {
            // Where nothing was ever uploaded, what this node was given while it was alone stays.
            let (Some(manifest), _) = self.manifest(CURRENT).await? else { return Ok(()) };
            if manifest.id() == host.scripts_id() {
                return Ok(());
            }
            let own = host.uploaded_scripts().await?;
            let told = host.take_scripts(self.set_of(&own, &manifest).await?).await;
            match &told.error {
                Some(why) => return Err(why.clone()),
                None => tracing::info!(scripts = manifest.0.len(), "uses the scripts that were uploaded meanwhile"),
            }
            for FailedScript { script, error } in told.failed {
                tracing::error!(script, "an uploaded script does not compile here: {error}");
            }
            Ok(())
        };
        let followed: Result<(), String> = followed.await;
        if let Err(why) = followed
            && why != OFFLINE
            && self.state().warns(format!("scripts {why}"))
        {
            tracing::error!("the scripts in use in the cluster cannot be taken: {why}");
        }
    }

    /// Names and hashes under a key, if anything was written there.
    async fn manifest(&self, key: &str) -> Result<(Option<Manifest>, Kept), String> {
        let found = self.0.engine.look(Table::Scripts, key).await.map_err(|Offline| OFFLINE.to_owned())?;
        let Some(value) = &found.value else { return Ok((None, found)) };
        let manifest = serde_json::from_slice::<Manifest>(self.opened_script(key, value)?);
        let manifest = manifest.map_err(|error| format!("{key} is no set of scripts: {error}"))?;
        Ok((Some(manifest), found))
    }

    /// What was written under a key. What cannot be read stays as it is.
    fn opened_script<'a>(&self, key: &str, value: &'a [u8]) -> Result<&'a [u8], String> {
        let opened = self.0.seal.open_bytes(&topic(key), value);
        opened.map_err(|error| {
            self.leave_entry(&bucket_of(Table::Scripts), key, &error);
            UNREADABLE.to_owned()
        })
    }

    /// The texts of a set, as far as `own` has them from there.
    async fn set_of(&self, own: &ScriptSet, manifest: &Manifest) -> Result<ScriptSet, String> {
        let known: BTreeMap<String, &str> = own.scripts().map(|(_, text)| (hash_of(text), text)).collect();
        let text = |(name, hash): (&String, &String)| {
            let (name, hash) = (name.clone(), hash.clone());
            let known = known.get(&hash).map(|text| (*text).to_owned());
            async move {
                let text = match known {
                    Some(text) => text,
                    None => self.text(&hash).await.map_err(|why| format!("{name} cannot be read: {why}"))?,
                };
                Ok::<_, String>((name, text))
            }
        };
        let texts: Vec<_> = manifest.0.iter().map(text).collect();
        let texts = stream::iter(texts).buffer_unordered(AT_ONCE).try_collect::<BTreeMap<_, _>>().await?;
        ScriptSet::new(texts)
    }

    async fn text(&self, hash: &str) -> Result<String, String> {
        let key = format!("file.{hash}");
        let found = self.0.engine.look(Table::Scripts, &key).await.map_err(|Offline| OFFLINE.to_owned())?;
        let value = found.value.ok_or("it is not in the cluster's table")?;
        let text = String::from_utf8(self.opened_script(&key, &value)?.to_vec()).map_err(|error| error.to_string())?;
        if hash_of(&text) == hash { Ok(text) } else { Err("it is not the text that was uploaded".to_owned()) }
    }

    async fn write_set(&self, set: &ScriptSet, manifest: &Manifest) -> Result<(), String> {
        let write = |(name, text): (&str, &str)| {
            let key = format!("file.{}", manifest.0.get(name).map_or("", String::as_str));
            let sealed = self.0.seal.close_bytes(&topic(&key), text.as_bytes());
            async move { self.write_value(&key, sealed).await }
        };
        let writes: Vec<_> = set.scripts().map(write).collect();
        stream::iter(writes).buffer_unordered(AT_ONCE).try_collect::<()>().await?;
        let key = key_of(&manifest.id());
        let sealed = self.sealed(&key, manifest);
        self.write_value(&key, sealed).await
    }

    /// Writes what may stand there already.
    async fn write_value(&self, key: &str, sealed: Bytes) -> Result<(), String> {
        let found = self.0.engine.look(Table::Scripts, key).await.map_err(|Offline| OFFLINE.to_owned())?;
        if let Some(value) = &found.value {
            self.opened_script(key, value)?;
            if *value == sealed {
                return Ok(());
            }
        }
        match self.0.engine.put(Table::Scripts, key, Some(sealed), found.revision, None).await {
            Ok(_) => Ok(()),
            Err(Unwritten::Taken) => Err("somebody else uploads scripts at the same time".to_owned()),
            Err(Unwritten::Full) => Err("the cluster's table of scripts is full".to_owned()),
            Err(Unwritten::Offline) => Err(OFFLINE.to_owned()),
        }
    }

    /// Takes out what does not belong to the set in use. What stays is taken out after the next upload.
    async fn sweep_scripts(&self) {
        let engine = &self.0.engine;
        let Ok((current, _)) = self.manifest(CURRENT).await else { return };
        let manifest = current.unwrap_or_default();
        let texts = manifest.0.values().map(|hash| format!("file.{hash}"));
        let kept: BTreeSet<_> = texts.chain([key_of(&manifest.id()), CURRENT.to_owned()]).collect();
        let all = [engine.all(Table::Scripts, "file.").await, engine.all(Table::Scripts, "set.").await];
        let is_ours = |(key, found): &(String, Kept)| {
            let value = found.value.as_deref().filter(|_| !kept.contains(key));
            value.is_some_and(|value| self.opened_script(key, value).is_ok())
        };
        let stale = all.into_iter().flatten().flatten().filter(is_ours);
        for (key, found) in stale {
            let _ = engine.put(Table::Scripts, &key, None, found.revision, None).await;
        }
    }

    fn sealed(&self, key: &str, manifest: &Manifest) -> Bytes {
        self.0.seal.close(&topic(key), manifest)
    }
}

/// The key of a set.
fn key_of(id: &str) -> String {
    format!("set.{}", if id.is_empty() { "none" } else { id })
}

/// What the proof of a value is about.
pub(super) fn topic(key: &str) -> String {
    format!("scripts {key}")
}
