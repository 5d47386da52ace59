//! The rooms as operators see them: `GET /rooms?limit=100&after=name&named=begin`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::app::App;
use moonring_core::report::PathReport;
use moonring_policy::RoomStatus;
use moonring_policy::hook::PathFigures;
use moonring_wire::id::{ClientId, RoomId};

/// Rooms of a page when nobody says.
const ROOMS_PER_PAGE: usize = 1_000;
/// Most rooms of a page.
const MAX_ROOMS_PER_PAGE: usize = 2_000;

/// Which page.
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct RoomsQuery {
    /// Rooms behind this name, in the order of names.
    after: Option<String>,
    /// How many.
    limit: Option<usize>,
    /// Only rooms whose names begin so.
    named: Option<String>,
    /// The rooms of all nodes of the cluster.
    #[serde(default)]
    pub(super) everywhere: bool,
}

impl RoomsQuery {
    /// At most so many rooms behind one.
    pub(super) fn behind(after: Option<String>, named: Option<String>, limit: usize) -> Self {
        Self { after, limit: Some(limit), named, everywhere: false }
    }
}

/// Some rooms, in the order of their names.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct RoomsPage {
    /// The rooms.
    pub rooms: Vec<RoomLine>,
    /// What to give as `after` for the next page.
    pub next: Option<RoomId>,
    /// The nodes of the cluster whose rooms are not among these, as they do not answer, or not as this version knows it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<String>,
}

/// One room.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct RoomLine {
    /// Its id.
    pub room: RoomId,
    /// The node that it is on, in a cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// Which shard owns it.
    pub shard: usize,
    /// How many clients it has, those still joining included.
    pub clients: usize,
    /// How many tracks; `None` when the shard did not say.
    pub tracks: Option<usize>,
    /// Its policy; `None` when the shard did not say.
    pub policy: Option<PolicyLine>,
    /// How the paths to its clients are; of a large room not all.
    #[serde(default)]
    pub paths: Vec<PathLine>,
}

/// The path to one client.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct PathLine {
    /// Which client.
    pub client: ClientId,
    /// How it has come: `websocket`, `whip` or `whep`. Nodes of an earlier version do not say.
    #[serde(default)]
    pub via: String,
    /// What its media goes over: `udp` or `tcp`; `None` before it is sent to.
    #[serde(default)]
    pub transport: Option<String>,
    /// How many others it shares a bottleneck with, as far as is known.
    #[serde(default)]
    pub sharing: usize,
    /// What layers are chosen for, in bit/s; `None` when nothing limits them.
    pub estimate: Option<u64>,
    /// The most to send right now, in bit/s.
    pub target: Option<u64>,
    /// Tracks that are paused for it.
    pub paused: usize,
    /// The round trip in milliseconds, once measured.
    pub rtt: Option<f64>,
    /// The part of its packets that was lost lately, 0 to 1.
    pub loss: f32,
    /// Packets sent again because it asked for them.
    pub resends: u64,
}

/// A room's policy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct PolicyLine {
    /// The script's name.
    pub script: String,
    /// The version that runs.
    pub version: String,
    /// How the last reload came out, if there was one.
    pub last_reload: Option<ReloadLine>,
    /// True while the script is suspended after too many failures.
    pub suspended: bool,
    /// Hooks that ended.
    pub hooks: u64,
    /// Hooks that failed.
    pub failures: u64,
    /// CPU time that half of the hooks' steps did not exceed, in microseconds.
    pub hook_p50_us: f64,
    /// CPU time that 99 of 100 steps did not exceed, in microseconds.
    pub hook_p99_us: f64,
    /// Bytes of its state.
    pub memory_bytes: usize,
    /// Bytes that the server holds for it: queued events, unsent actions, requests and replies.
    pub host_bytes: usize,
    /// Events that wait for their hook.
    pub queued: usize,
    /// Joins that wait for their hook.
    pub queued_joins: usize,
    /// Hooks that wait for something.
    pub waiting: usize,
    /// Timers that are set.
    pub timers: usize,
    /// Reloads that took effect.
    pub reloads: u64,
    /// Reloads rolled back.
    pub reloads_failed: u64,
    /// What the script counts.
    pub counters: BTreeMap<String, f64>,
}

/// How a reload came out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ReloadLine {
    /// This version runs since.
    Ok(String),
    /// What failed, where, with a traceback; the version before runs on.
    Failed(String),
}

/// Asks the shards about a page's rooms.
pub(super) async fn page(app: &App, query: &RoomsQuery) -> RoomsPage {
    let limit = query.limit.unwrap_or(ROOMS_PER_PAGE).clamp(1, MAX_ROOMS_PER_PAGE);
    let mut rooms = app.directory.rooms();
    // The home tells of a room.
    rooms.retain(|entry| !entry.is_wing);
    if let Some(after) = &query.after {
        rooms.retain(|entry| entry.room.as_str() > after.as_str());
    }
    if let Some(begin) = &query.named {
        rooms.retain(|entry| entry.room.as_str().starts_with(begin));
    }
    let more = rooms.len() > limit;
    rooms.truncate(limit);
    let next = if more { rooms.last().map(|entry| entry.room.clone()) } else { None };
    let mut reports = app.reports.rooms(&app.directory, &rooms).await;
    let line = |entry: super::directory::RoomEntry| {
        let report = reports.remove(&entry.room);
        let clients = report.as_ref().map_or(entry.clients, |report| report.clients);
        let tracks = report.as_ref().map(|report| report.tracks);
        let (policy, paths) = report.map_or((None, Vec::new()), |report| (report.policy, report.paths));
        let (policy, paths) = (policy.map(PolicyLine::from), paths.into_iter().map(PathLine::from).collect());
        let node = app.cluster.as_ref().map(|cluster| cluster.name().to_owned());
        RoomLine { room: entry.room, node, shard: entry.shard, clients, tracks, policy, paths }
    };
    RoomsPage { rooms: rooms.into_iter().map(line).collect(), next, missing: Vec::new() }
}

/// The same of all nodes; it names those that do not answer.
pub(super) async fn page_of_all(app: &App, query: &RoomsQuery) -> RoomsPage {
    let Some(cluster) = &app.cluster else { return page(app, query).await };
    let after = query.after.as_deref().and_then(|after| RoomId::parse(after).ok());
    let (own, others) = tokio::join!(page(app, query), cluster.rooms_of_others(after, query.named.clone()));
    let others = others.into_iter().map(|(node, rooms)| page_of(node.as_str(), rooms));
    merged(
        [own].into_iter().chain(others).collect(),
        query.limit.unwrap_or(ROOMS_PER_PAGE).clamp(1, MAX_ROOMS_PER_PAGE),
    )
}

/// What another node has told.
fn page_of(node: &str, told: Option<(Vec<serde_json::Value>, Option<RoomId>)>) -> RoomsPage {
    let is_told = told.is_some();
    let (rooms, next) = told.unwrap_or_default();
    let count = rooms.len();
    let rooms: Vec<_> = rooms.into_iter().filter_map(|room| serde_json::from_value(room).ok()).collect();
    let is_whole = is_told && rooms.len() == count;
    RoomsPage { rooms, next, missing: if is_whole { Vec::new() } else { vec![node.to_owned()] } }
}

/// Pages of several nodes as one: up to where all of them are known.
fn merged(pages: Vec<RoomsPage>, limit: usize) -> RoomsPage {
    let mut next = pages.iter().filter_map(|page| page.next.clone()).min();
    let missing = pages.iter().flat_map(|page| page.missing.clone()).collect();
    let mut rooms: Vec<RoomLine> = pages.into_iter().flat_map(|page| page.rooms).collect();
    rooms.sort_by(|a, b| (&a.room, &a.node).cmp(&(&b.room, &b.node)));
    if let Some(next) = &next {
        rooms.retain(|line| line.room <= *next);
    }
    if rooms.len() > limit {
        rooms.truncate(limit);
        next = rooms.last().map(|line| line.room.clone());
    }
    RoomsPage { rooms, next, missing }
}

impl From<PathReport> for PathLine {
    fn from(report: PathReport) -> Self {
        let PathReport { client, via, transport, sharing, figures } = report;
        let PathFigures { estimate_bps, target_bps, paused, rtt, loss, resends } = figures;
        let rtt = rtt.map(|rtt| rtt.as_secs_f64() * 1000.0);
        let (via, transport) = (via.as_str().to_owned(), transport.map(str::to_owned));
        let (estimate, target) = (estimate_bps, target_bps);
        Self { client, via, transport, sharing, estimate, target, paused, rtt, loss, resends }
    }
}

impl From<RoomStatus> for PolicyLine {
    fn from(status: RoomStatus) -> Self {
        let version = |version: u64| format!("{version:016x}");
        let us = |share| status.stats.latency.quantile_ns(share) as f64 / 1000.0;
        Self {
            version: version(status.version),
            last_reload: status.last_reload.map(|last| match last {
                Ok(loaded) => ReloadLine::Ok(version(loaded)),
                Err(reason) => ReloadLine::Failed(reason),
            }),
            suspended: status.is_suspended,
            hooks: status.stats.hooks,
            failures: status.stats.failures(),
            hook_p50_us: us(0.5),
            hook_p99_us: us(0.99),
            memory_bytes: status.memory,
            host_bytes: status.host_bytes,
            queued: status.queued,
            queued_joins: status.queued_joins,
            waiting: status.waiting,
            timers: status.timers,
            reloads: status.stats.reloads,
            reloads_failed: status.stats.reloads_failed,
            counters: status.counters.into_iter().collect(),
            script: status.script,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(node: &str, rooms: &[&str], next: Option<&str>) -> RoomsPage {
        let line = |room: &&str| RoomLine {
            room: RoomId::parse(room).unwrap(),
            node: Some(node.to_owned()),
            shard: 0,
            clients: 0,
            tracks: None,
            policy: None,
            paths: vec![],
        };
        let next = next.map(|next| RoomId::parse(next).unwrap());
        RoomsPage { rooms: rooms.iter().map(line).collect(), next, missing: vec![] }
    }

    #[test]
    fn a_node_is_named_that_does_not_answer_or_tells_of_a_room_what_nobody_understands() {
        let room = serde_json::to_value(page("b", &["a"], None).rooms.remove(0)).unwrap();
        for (told, rooms, missing) in [
            (None, 0, &["b"][..]),
            (Some((vec![room.clone()], None)), 1, &[]),
            (Some((vec![room, serde_json::json!({ "room": 1 })], None)), 1, &["b"]),
            (Some((vec![], None)), 0, &[]),
        ] {
            let found = merged(vec![page("a", &["c"], None), page_of("b", told)], 9);
            assert_eq!(
                (found.rooms.len(), found.missing),
                (1 + rooms, missing.iter().map(|n| (*n).to_owned()).collect())
            );
        }
    }

    #[test]
    fn pages_of_several_nodes_are_one_up_to_where_all_are_known() {
        let names = |page: &RoomsPage| page.rooms.iter().map(|line| line.room.as_str().to_owned()).collect::<Vec<_>>();
        for (pages, limit, rooms, next) in [
            (vec![page("a", &["b", "d"], None), page("b", &["a", "c"], None)], 9, &["a", "b", "c", "d"][..], None),
            (vec![page("a", &["b", "d"], None), page("b", &["a", "c"], Some("c"))], 9, &["a", "b", "c"], Some("c")),
            (vec![page("a", &["b", "d"], Some("d")), page("b", &["a", "c"], Some("c"))], 2, &["a", "b"], Some("b")),
            (vec![page("a", &[], None)], 1, &[], None),
        ] {
            let found = merged(pages, limit);
            assert_eq!(
                (names(&found), found.next.as_ref().map(RoomId::as_str)),
                (rooms.iter().map(|r| (*r).to_owned()).collect(), next)
            );
        }
    }
}
