//! Scripts that are uploaded to one node.

use std::collections::BTreeMap;

use super::*;
use crate::cluster::scripts::ScriptHost;
use crate::cluster::tables::Table;
use crate::script_set::{FailedScript, ScriptChange, ScriptSet, ScriptsTold};

/// A node's scripts: what is uploaded, and a word that none may have there.
#[derive(Default)]
pub(super) struct Scripts {
    set: ScriptSet,
    refuses: Option<&'static str>,
    /// How often others were taken.
    taken: usize,
}

impl Scripts {
    fn check(&self, set: &ScriptSet) -> Vec<FailedScript> {
        let bad = |text: &str| self.refuses.is_some_and(|word| text.contains(word));
        let failed = set.scripts().filter(|(_, text)| bad(text));
        failed.map(|(script, _)| FailedScript { script: script.to_owned(), error: format!("{script}:1: no") }).collect()
    }
}

impl ScriptHost for Server {
    fn scripts_id(&self) -> String {
        self.scripts.lock().unwrap().set.manifest().id()
    }
    fn uploaded_scripts(&self) -> Pending<'_, Result<ScriptSet, String>> {
        Box::pin(std::future::ready(Ok(self.scripts.lock().unwrap().set.clone())))
    }
    fn check_scripts(&self, set: ScriptSet) -> Pending<'_, ScriptsTold> {
        let failed = self.scripts.lock().unwrap().check(&set);
        Box::pin(std::future::ready(ScriptsTold { failed, ..ScriptsTold::default() }))
    }
    fn take_scripts(&self, set: ScriptSet) -> Pending<'_, ScriptsTold> {
        // The future may be dropped before it was asked for the first time.
        Box::pin(async move {
            let mut scripts = self.scripts.lock().unwrap();
            let failed = scripts.check(&set);
            scripts.set = set;
            scripts.taken += 1;
            ScriptsTold { changed: 1, failed, error: None }
        })
    }
}

pub(super) fn files(files: &[(&str, &str)]) -> ScriptChange {
    let files: BTreeMap<_, _> = files.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
    ScriptChange { files, ..ScriptChange::default() }
}

impl Peer {
    /// Uploads; whether it was taken, and what the nodes say.
    pub(super) async fn push(&self, change: ScriptChange) -> Result<String, String> {
        let pushed = self.cluster.push_scripts(&*self.server, change).await?;
        let line = |node: &NodeTold| match (&node.told.error, node.away) {
            (Some(error), _) => format!("{}: {error}", node.node),
            (None, true) => format!("{} is away", node.node),
            (None, false) => format!("{}: {} failed", node.node, node.told.failed.len()),
        };
        let lines: Vec<_> = pushed.nodes.iter().map(line).collect();
        Ok(format!("{} of {}: {}", pushed.taken, pushed.scripts, lines.join(", ")))
    }

    pub(super) fn has(&self) -> String {
        let scripts = self.server.scripts.lock().unwrap();
        scripts.set.scripts().map(|(name, text)| format!("{name} {text}")).collect::<Vec<_>>().join(", ")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_is_used_by_all_nodes_or_by_none() {
    let mut world = World::default();
    let (a, b) = world.pair().await;
    let pushed = a.push(files(&[("x.lua", "1"), ("y.lua", "1")])).await;
    assert_eq!(pushed.unwrap(), "true of 2: a: 0 failed, b: 0 failed");
    assert_eq!((a.has(), b.has()), ("x.lua 1, y.lua 1".to_owned(), "x.lua 1, y.lua 1".to_owned()));
    b.server.scripts.lock().unwrap().refuses = Some("2");
    let pushed = a.push(files(&[("x.lua", "2")])).await;
    assert_eq!(pushed.unwrap(), "false of 0: a: 0 failed, b: 1 failed");
    assert_eq!((a.has(), b.has()), ("x.lua 1, y.lua 1".to_owned(), "x.lua 1, y.lua 1".to_owned()));
    // The other way, and only what is not known yet is written and read.
    let pushed = b.push(files(&[("y.lua", "3")])).await;
    assert_eq!(pushed.unwrap(), "true of 2: b: 0 failed, a: 0 failed");
    assert_eq!((a.has(), b.has()), ("x.lua 1, y.lua 3".to_owned(), "x.lua 1, y.lua 3".to_owned()));
    let keys = world.bus.table_keys(Table::Scripts);
    assert_eq!(keys.len(), 4, "the set in use, its name and two texts: {keys:?}");
    let dropped = ScriptChange { drop: ["x.lua".to_owned(), "y.lua".to_owned()].into(), ..ScriptChange::default() };
    assert_eq!(b.push(dropped).await.unwrap(), "true of 0: b: 0 failed, a: 0 failed");
    assert_eq!((a.has(), b.has(), world.bus.table_keys(Table::Scripts).len()), (String::new(), String::new(), 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_was_away_or_is_new_takes_the_scripts_in_use() {
    let mut world = World::default();
    let (a, b) = world.pair().await;
    world.kill(&b);
    world.bus.cut(b.who, true);
    eventually(|| a.sees("b") == Some(Verdict::Dead)).await;
    assert_eq!(a.push(files(&[("x.lua", "1")])).await.unwrap(), "true of 1: a: 0 failed, b is away");
    let again = world.start("b");
    eventually(|| again.has() == "x.lua 1" && a.sees("b") == Some(Verdict::Alive)).await;
    // A node that has lost only the bus takes them when it has it again.
    world.bus.cut(again.who, true);
    let refused = again.push(files(&[("x.lua", "2")])).await.unwrap_err();
    assert_eq!(refused, "the cluster's messages cannot be reached; nothing was changed");
    eventually(|| a.sees("b") >= Some(Verdict::Silent)).await;
    assert_eq!(a.push(files(&[("x.lua", "3")])).await.unwrap(), "true of 1: a: 0 failed, b is away");
    assert_eq!(again.has(), "x.lua 1");
    world.bus.cut(again.who, false);
    eventually(|| again.has() == "x.lua 3").await;
    sleep(Duration::from_secs(5)).await;
    assert_eq!(again.server.scripts.lock().unwrap().taken, 2, "once each");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_waits_until_its_node_has_looked_for_others_or_says_that_it_cannot() {
    let mut world = World::default();
    let (a, _b) = world.pair().await;
    let look = a.cluster.0.scripts.lock().await;
    let (pushed, ()) = tokio::join!(a.push(files(&[("x.lua", "1")])), async {
        sleep(Duration::from_millis(100)).await;
        drop(look);
    });
    assert_eq!(pushed.unwrap(), "true of 1: a: 0 failed, b: 0 failed");
    let _look = a.cluster.0.scripts.lock().await;
    let refused = a.push(files(&[("x.lua", "2")])).await.unwrap_err();
    assert_eq!(refused, "another upload is under way, or NATS does not answer; nothing was changed");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_uploads_at_once_one_counts_and_strangers_upload_nothing() {
    let mut world = World::default();
    let (a, b) = world.pair().await;
    assert!(a.push(files(&[("x.lua", "1")])).await.unwrap().starts_with("true"));
    let (one, two) = (files(&[("x.lua", "2")]), files(&[("x.lua", "3")]));
    let (one, two) = tokio::join!(a.push(one), b.push(two));
    let is_taken = |pushed: &Result<String, String>| pushed.as_ref().is_ok_and(|told| told.starts_with("true"));
    assert!(!(is_taken(&one) && is_taken(&two)), "{one:?} {two:?}");
    eventually(|| a.has() == b.has()).await;
    let before = a.has();
    world.bus.put_value(Table::Scripts, "current", b"nonsense");
    sleep(Duration::from_secs(3)).await;
    assert_eq!((a.has(), b.has()), (before.clone(), before));
    let refused = a.push(files(&[("x.lua", "4")])).await.unwrap_err();
    assert!(refused.contains("another cluster_secret_file") && refused.ends_with("nothing was changed"), "{refused}");
    world.bus.drop_value(Table::Scripts, "current");
    assert!(a.push(files(&[("x.lua", "4")])).await.unwrap().starts_with("true"));
    assert_eq!((a.has(), b.has()), ("x.lua 4".to_owned(), "x.lua 4".to_owned()));
}
