//! `moonring scripts`.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::Path;

use anyhow::{Context, bail, ensure};

use super::operator::{Admin, client, read, url};
use super::scripts::Uploaded;
use crate::advice;
use crate::cluster::{NodeTold, Pushed};
use crate::script_set::ScriptChange;

/// Digits of a hash that are shown.
const SHOWN: usize = 8;

/// The uploaded scripts, and which nodes have them.
pub(crate) async fn list(admin: impl Into<Admin>) -> anyhow::Result<String> {
    let admin = admin.into();
    let sent = client(&admin)?.get(url(&admin, "scripts")).send().await;
    let Uploaded { scripts, nodes } = read(&admin, sent).await?;
    let mut text = format!("{} uploaded scripts\n", scripts.0.len());
    for (name, hash) in &scripts.0 {
        let _ = writeln!(text, "{} {name}", hash.get(..SHOWN).unwrap_or(hash));
    }
    for (node, has) in nodes {
        let _ = writeln!(text, "{node} has {}", if has { "them" } else { "others" });
    }
    Ok(text)
}

/// Uploads a script, under its own name or another, or all scripts of a folder in the place of all that were uploaded. An error
/// when a node could not use one, and then none does.
pub(crate) async fn push(
    admin: impl Into<Admin>,
    scripts: &[(String, impl AsRef<Path>)],
    replace: bool,
) -> anyhow::Result<String> {
    let mut files = BTreeMap::new();
    for (name, path) in scripts {
        let path = path.as_ref();
        let bytes = fs::read(path).map_err(advice::on_reading).with_context(|| path.display().to_string())?;
        let text = String::from_utf8(bytes);
        files.insert(name.clone(), text.with_context(|| format!("{} is not UTF-8", path.display()))?);
    }
    ensure!(!files.is_empty(), "there is no script to upload");
    change(admin, &ScriptChange { files, replace, ..ScriptChange::default() }).await
}

/// Takes uploaded scripts back: files of the scripts folder hold again.
pub(crate) async fn drop_scripts(admin: impl Into<Admin>, names: &[String]) -> anyhow::Result<String> {
    change(admin, &ScriptChange { drop: names.iter().cloned().collect(), ..ScriptChange::default() }).await
}

async fn change(admin: impl Into<Admin>, change: &ScriptChange) -> anyhow::Result<String> {
    let admin = admin.into();
    let sent = client(&admin)?.post(url(&admin, "scripts")).json(change).send().await;
    let pushed: Pushed = read(&admin, sent).await?;
    let text = told(&pushed);
    let is_in_use = pushed.taken && pushed.nodes.iter().all(|node| node.told.is_good());
    if !is_in_use {
        bail!("{}\n{text}", if pushed.taken { "not all nodes use them" } else { "nothing was changed anywhere" });
    }
    Ok(text)
}

/// A line for each node, and one for each script that it cannot use.
fn told(pushed: &Pushed) -> String {
    let mut text = String::new();
    for NodeTold { node, away, told } in &pushed.nodes {
        let does = match (&told.error, away, pushed.taken) {
            (Some(error), ..) => format!("says: {error}"),
            (None, true, _) => "is away: it takes them when it comes back".to_owned(),
            (None, false, _) if !told.failed.is_empty() => "refuses:".to_owned(),
            (None, false, true) => format!("has loaded them, {} changed", told.changed),
            (None, false, false) => "could use them".to_owned(),
        };
        let _ = writeln!(text, "{node} {does}");
        for failed in &told.failed {
            let _ = writeln!(text, "  {}", failed.error);
        }
    }
    if pushed.taken {
        let _ = writeln!(text, "{} uploaded scripts", pushed.scripts);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_line_says_what_each_node_has_done() {
        let node = |node: &str, failed: &[&str], away: bool| {
            let failed: Vec<_> = failed.iter().map(|error| json!({"script": "a.lua", "error": error})).collect();
            json!({"node": node, "away": away, "changed": 1, "failed": failed, "error": null})
        };
        let pushed = |taken, nodes: &[serde_json::Value]| {
            told(&serde_json::from_value(json!({"taken": taken, "scripts": 2, "nodes": nodes})).unwrap())
        };
        let found = pushed(false, &[node("n1", &[], false), node("n2", &["a.lua:1: unexpected symbol"], false)]);
        assert_eq!(found, "n1 could use them\nn2 refuses:\n  a.lua:1: unexpected symbol\n");
        let found = pushed(true, &[node("n1", &[], false), node("n3", &[], true)]);
        let lines = "n1 has loaded them, 1 changed\nn3 is away: it takes them when it comes back\n2 uploaded scripts\n";
        assert_eq!(found, lines);
    }
}
