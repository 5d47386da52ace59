//! `moonring nodes`, `drain` and `undrain`.

use std::fmt::Write;
use std::time::Duration;

use anyhow::bail;

use super::drain::{DrainLine, DrainState};
use super::operator::{Admin, client, read, url};
use crate::cluster::NodeLine;

/// Between two looks at a node that drains.
pub(super) const LOOK: Duration = Duration::from_secs(1);

/// The nodes of the cluster, as the server whose admin pages are at `admin` sees them: a table, or one JSON object per line.
pub(crate) async fn nodes(admin: impl Into<Admin>, json: bool) -> anyhow::Result<String> {
    let admin = admin.into();
    let sent = client(&admin)?.get(url(&admin, "nodes")).send().await;
    let nodes: Vec<NodeLine> = read(&admin, sent).await?;
    let mut text = String::new();
    if json {
        for node in &nodes {
            let _ = writeln!(text, "{}", serde_json::to_string(node)?);
        }
        return Ok(text);
    }
    anyhow::ensure!(!nodes.is_empty(), "the server is alone: it was started without --cluster");
    Ok(table(&nodes))
}

/// Has the server take no new rooms and its clients go elsewhere until the deadline, in seconds; with `waits`, until they have and
/// the homes of their rooms as well. Nobody being there is not enough: homes follow some seconds later.
pub(crate) async fn drain(admin: impl Into<Admin>, deadline_s: u64, waits: bool) -> anyhow::Result<String> {
    let admin = admin.into();
    let body = serde_json::json!({ "deadline_s": deadline_s });
    let sent = client(&admin)?.post(url(&admin, "drain")).json(&body).send().await;
    let NodeLine { node, .. } = read(&admin, sent).await?;
    loop {
        let sent = client(&admin)?.get(url(&admin, "drain")).send().await;
        let DrainLine { state, rooms, clients } = read(&admin, sent).await?;
        match state {
            DrainState::GoesOn if waits => tokio::time::sleep(LOOK).await,
            DrainState::No if waits => bail!("the draining of node {node} was called off"),
            _ => return Ok(format!("node {node} takes no new rooms; it has {rooms} rooms and {clients} clients\n")),
        }
    }
}

/// Has the server take rooms and clients again.
pub(crate) async fn undrain(admin: impl Into<Admin>) -> anyhow::Result<String> {
    let admin = admin.into();
    let sent = client(&admin)?.post(url(&admin, "undrain")).send().await;
    let NodeLine { node, rooms, .. } = read(&admin, sent).await?;
    Ok(format!("node {node} takes new rooms; it has {rooms}\n"))
}

fn clients(line: &NodeLine) -> usize {
    line.shards.iter().map(|shard| shard.clients).sum()
}

fn table(nodes: &[NodeLine]) -> String {
    let width = nodes.iter().map(|line| line.node.as_str().len()).max().unwrap_or(0).max(4);
    let mut text = format!(
        "{:width$} {:8} {:>9} {:>6} {:>5} {:>7} {:8} {:8} URL\n",
        "NODE", "IS", "BEAT", "BUSY", "ROOMS", "CLIENTS", "REGION", "VERSION"
    );
    for line in nodes {
        let NodeLine { node, url, region, version, verdict, heard_ms, busy, rooms, .. } = line;
        let clients = clients(line);
        let (node, verdict, busy) = (node.as_str(), verdict.label(), f64::from(*busy) / 10.0);
        let _ = writeln!(
            text,
            "{node:width$} {verdict:8} {heard_ms:>6} ms {busy:>4.1} % {rooms:>5} {clients:>7} {region:8} {version:8} {url}"
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_table_has_a_row_for_each_node() {
        let node = json!({
            "node": "n1", "url": "https://n1/", "region": "eu", "version": "0.1.0", "verdict": "silent", "heard_ms": 1234,
            "busy": 123, "rooms": 4, "shards": [{"busy": 123, "clients": 7, "packets": 0}],
        });
        let table = table(&[serde_json::from_value(node).unwrap()]);
        assert_eq!(
            table,
            "NODE IS            BEAT   BUSY ROOMS CLIENTS REGION   VERSION  URL\n\
             n1   silent     1234 ms 12.3 %     4       7 eu       0.1.0    https://n1/\n"
        );
    }
}
