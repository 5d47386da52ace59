//! What this node knows of the others: who beats, who is silent, who is dead.
//!
//! ```text
//!            a beat of a run that has answered a question
//!  unknown ─────────────────────────────────────────────▶ alive (or draining)
//!                                                          │ ▲
//!                                       no beat for 1 s    ▼ │ a beat
//!                                                         silent
//!                                                          │ ▲
//!       its HTTP port, too, has no answer, and no link     ▼ │ a beat
//!                                                          dead
//! ```
//! Silence alone kills nobody: whoever has only lost the engine still answers over HTTP, and whoever has no time for either
//! is heard on the links between shards. No clocks of two machines are compared: all times are this process' own.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::dead_links::MAX_NAMED;
use super::messages::{Beat, MAX_REGION, MAX_URL, Node, NodeName, NodeState, Run, ShardLoad};
use super::placement::{Candidate, Ramp};

/// Between two beats.
pub(super) const BEAT: Duration = Duration::from_millis(250);
/// No beat for so long is silence.
pub(super) const SILENCE: Duration = Duration::from_secs(1);
/// Nodes of a cluster that are known at once.
pub(super) const MAX_NODES: usize = 256;
/// Most shards that a node may tell of.
const MAX_SHARDS: usize = 1024;
/// Between two looks at the HTTP port of a silent node.
const LOOK: Duration = Duration::from_secs(1);
/// A dead node is shown for so long.
const REMEMBERED: Duration = Duration::from_secs(600);

/// All other nodes.
#[derive(Debug)]
pub(super) struct Peers {
    own: Node,
    region: String,
    peers: BTreeMap<NodeName, Peer>,
    /// Since when beats can be heard; `None` while the engine cannot be reached.
    hearing: Option<Instant>,
}

#[derive(Debug)]
struct Peer {
    beat: Beat,
    last: Instant,
    /// When its HTTP port was found without an answer, too.
    dead_since: Option<Instant>,
    looked: Option<Instant>,
    placed: Ramp,
}

/// What a beat means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// The node goes on; true when it was silent or dead.
    GoesOn(bool),
    /// It was heard before, or is this node's own.
    Old,
    /// A run that has not proved to be one of now: it has to answer a question.
    Unproven,
    /// Another process has the name of a node that lives.
    Namesake(Node),
    /// It says what no node says.
    Bad(&'static str),
}

/// How a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Verdict {
    /// This node itself.
    Own,
    /// It beats.
    Alive,
    /// It beats, and takes no new rooms.
    Draining,
    /// Nothing is heard of anybody.
    Unheard,
    /// It does not beat.
    Silent,
    /// It neither beats nor answers over HTTP.
    Dead,
}

impl Verdict {
    /// All, for metrics.
    pub(crate) const ALL: [Self; 6] = [Self::Own, Self::Alive, Self::Draining, Self::Unheard, Self::Silent, Self::Dead];

    /// Its name in metrics and tables.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Own => "own",
            Self::Alive => "alive",
            Self::Draining => "draining",
            Self::Unheard => "unheard",
            Self::Silent => "silent",
            Self::Dead => "dead",
        }
    }
}

/// How the process that claimed a room is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// It is this process.
    Own,
    /// It beats.
    Beats,
    /// It has not beaten for [`SILENCE`].
    Silent,
    /// It is silent, and its HTTP port had no answer at the last look.
    Dead,
    /// Another run of the same node beats: it has ended.
    Replaced,
    /// Nothing was ever heard of it.
    Unknown,
}

/// A node as operators see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NodeLine {
    /// Its name.
    pub node: NodeName,
    /// Where clients reach it.
    pub url: String,
    /// Where it stands.
    pub region: String,
    /// The program's version.
    pub version: String,
    /// How it is.
    pub verdict: Verdict,
    /// Milliseconds since its last beat.
    pub heard_ms: u64,
    /// The share of its time that its shards are busy, in thousandths.
    pub busy: u32,
    /// Rooms that it is the home of.
    pub rooms: usize,
    /// Its shards.
    pub shards: Vec<ShardLoad>,
    /// Which scripts were uploaded to it; empty: none.
    #[serde(default)]
    pub scripts: String,
}

impl Peers {
    pub(super) fn new(own: Node, region: String) -> Self {
        Self { own, region, peers: BTreeMap::new(), hearing: None }
    }

    /// Beats can be heard from now on, or not any more.
    pub(super) fn hearing(&mut self, now: Instant, can_hear: bool) {
        self.hearing = can_hear.then_some(now);
    }

    /// Takes in a beat.
    pub(super) fn hear(&mut self, now: Instant, beat: Beat) -> Heard {
        if let Some(why) = bad(&beat) {
            return Heard::Bad(why);
        }
        if beat.node.name == self.own.name {
            return if beat.node.run == self.own.run { Heard::Old } else { Heard::Namesake(beat.node) };
        }
        let is_silent = matches!(self.standing(now, &beat.node.name, None), Standing::Silent | Standing::Dead);
        let Some(peer) = self.peers.get_mut(&beat.node.name) else {
            return if self.peers.len() < MAX_NODES { Heard::Unproven } else { Heard::Bad("there are too many nodes") };
        };
        match peer.beat.node.run == beat.node.run {
            true if beat.seq <= peer.beat.seq => Heard::Old,
            true => {
                peer.beat = beat;
                peer.last = now;
                Heard::GoesOn(peer.dead_since.take().is_some() || is_silent)
            }
            false if is_silent || peer.dead_since.is_some() => Heard::Unproven,
            false => Heard::Namesake(beat.node),
        }
    }

    /// The run of this beat has answered: it is a node of now.
    pub(super) fn proven(&mut self, now: Instant, beat: Beat) {
        let placed = Ramp::default();
        self.peers.insert(beat.node.name.clone(), Peer { beat, last: now, dead_since: None, looked: None, placed });
    }

    /// How the process that has this name and run is; any run when none is given.
    pub(super) fn standing(&self, now: Instant, name: &NodeName, run: Option<Run>) -> Standing {
        if *name == self.own.name {
            return if run.is_none_or(|run| run == self.own.run) { Standing::Own } else { Standing::Replaced };
        }
        let Some(peer) = self.peers.get(name) else { return Standing::Unknown };
        let verdict = peer.verdict(now, self.hearing);
        let is_silent = verdict >= Verdict::Unheard;
        match run.is_none_or(|run| run == peer.beat.node.run) {
            true if verdict == Verdict::Dead => Standing::Dead,
            true if is_silent => Standing::Silent,
            true => Standing::Beats,
            false if is_silent => Standing::Unknown,
            false => Standing::Replaced,
        }
    }

    /// A node that beats, by its name.
    pub(super) fn alive(&self, now: Instant, name: &NodeName) -> Option<&Node> {
        let is_alive = self.standing(now, name, None) == Standing::Beats;
        self.peers.get(name).filter(|_| is_alive).map(|peer| &peer.beat.node)
    }

    /// All others that beat.
    pub(super) fn all_alive(&self, now: Instant) -> Vec<Node> {
        self.peers.keys().filter_map(|name| self.alive(now, name)).cloned().collect()
    }

    /// All others that do not beat, and may be there all the same.
    pub(super) fn all_silent(&self, now: Instant) -> Vec<NodeName> {
        let is_silent = |name: &&NodeName| self.standing(now, name, None) == Standing::Silent;
        self.peers.keys().filter(is_silent).cloned().collect()
    }

    /// The last beat that was heard of a node.
    pub(super) fn seq(&self, name: &NodeName) -> u64 {
        self.peers.get(name).map_or(0, |peer| peer.beat.seq)
    }

    /// Those that a new room could be given to.
    pub(super) fn candidates(&mut self, now: Instant) -> Vec<Candidate> {
        let hearing = self.hearing;
        let own_region = &self.region;
        let alive = self.peers.values_mut().filter(|peer| peer.verdict(now, hearing) <= Verdict::Draining);
        alive.map(|peer| peer.candidate(now, own_region)).collect()
    }

    /// A room was given to a node.
    pub(super) fn placed(&mut self, now: Instant, name: &NodeName) {
        if let Some(peer) = self.peers.get_mut(name) {
            peer.placed.add(now);
        }
    }

    /// The silent and dead nodes whose HTTP port is to be looked at now.
    pub(super) fn due(&mut self, now: Instant) -> Vec<Node> {
        let hearing = self.hearing;
        self.peers.retain(|_, peer| peer.dead_since.is_none_or(|since| now.duration_since(since) < REMEMBERED));
        let is_due = |peer: &&mut Peer| {
            let is_silent = peer.verdict(now, hearing) >= Verdict::Silent;
            is_silent && peer.looked.is_none_or(|looked| now.duration_since(looked) >= LOOK)
        };
        let due = self.peers.values_mut().filter(is_due);
        due.map(|peer| {
            peer.looked = Some(now);
            peer.beat.node.clone()
        })
        .collect()
    }

    /// Whether the HTTP port of a node answers; true when its verdict changes by that.
    pub(super) fn looked(&mut self, now: Instant, node: &Node, answers: bool) -> bool {
        let hearing = self.hearing;
        let Some(peer) = self.peers.get_mut(&node.name).filter(|peer| peer.beat.node.run == node.run) else {
            return false;
        };
        match (peer.verdict(now, hearing), answers) {
            (Verdict::Silent, false) => {
                peer.dead_since = Some(now);
                true
            }
            (Verdict::Dead, true) => peer.dead_since.take().is_some(),
            _ => false,
        }
    }

    /// All of them, by name.
    pub(super) fn lines(&self, now: Instant) -> Vec<NodeLine> {
        let line = |peer: &Peer| {
            let heard_ms = u64::try_from(now.duration_since(peer.last).as_millis()).unwrap_or(u64::MAX);
            line_of(&peer.beat, peer.verdict(now, self.hearing), heard_ms)
        };
        self.peers.values().map(line).collect()
    }
}

impl Peer {
    fn verdict(&self, now: Instant, hearing: Option<Instant>) -> Verdict {
        let Some(hearing) = hearing else { return Verdict::Unheard };
        if self.dead_since.is_some() {
            return Verdict::Dead;
        }
        match self.beat.state {
            _ if now.saturating_duration_since(self.last.max(hearing)) >= SILENCE => Verdict::Silent,
            NodeState::Serving => Verdict::Alive,
            NodeState::Draining => Verdict::Draining,
        }
    }

    fn candidate(&mut self, now: Instant, own_region: &str) -> Candidate {
        Candidate {
            name: self.beat.node.name.clone(),
            is_near: self.beat.region == own_region,
            score: busy(&self.beat.shards) + self.placed.score(now),
            is_draining: self.beat.state == NodeState::Draining,
        }
    }
}

/// A node as operators see it.
pub(super) fn line_of(beat: &Beat, verdict: Verdict, heard_ms: u64) -> NodeLine {
    NodeLine {
        node: beat.node.name.clone(),
        url: beat.node.url.clone(),
        region: beat.region.clone(),
        version: beat.version.clone(),
        verdict,
        heard_ms,
        busy: busy(&beat.shards),
        rooms: beat.rooms,
        shards: beat.shards.clone(),
        scripts: beat.scripts.clone(),
    }
}

/// The share of their time that shards are busy, in thousandths.
pub(super) fn busy(shards: &[ShardLoad]) -> u32 {
    let sum: u32 = shards.iter().map(|shard| shard.busy.min(1000)).sum();
    sum / u32::try_from(shards.len()).unwrap_or(u32::MAX).max(1)
}

/// What no node says.
fn bad(beat: &Beat) -> Option<&'static str> {
    let is_url = beat.node.url.starts_with("https://") || beat.node.url.starts_with("http://");
    match () {
        () if beat.node.url.len() > MAX_URL || !is_url => Some("its URL"),
        () if beat.region.len() > MAX_REGION || beat.version.len() > MAX_REGION => Some("its region or version"),
        () if beat.scripts.len() > MAX_REGION => Some("which scripts it has"),
        () if beat.unheard.len() > MAX_NAMED => Some("of how many nodes it hears nothing"),
        () if beat.shards.len() > MAX_SHARDS || beat.links.len() > MAX_SHARDS => Some("its number of shards"),
        () => None,
    }
}

#[cfg(test)]
mod tests;
