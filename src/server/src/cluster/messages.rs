//! What nodes say to each other, and under which subjects.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::script_set::ScriptsTold;
use moonring_wire::id::{ClientId, MAX_ID_LEN, RoomId};

/// The subject of all nodes' beats.
pub(super) const BEATS: &str = "mr.beat";
/// What the subjects of shards begin with.
pub(super) const PLACES: &str = "mr.place.";
/// Bytes of an advertised URL.
pub(super) const MAX_URL: usize = 512;
/// Bytes of a region's name.
pub(super) const MAX_REGION: usize = 64;

/// The name of a node: 1 to 64 letters, digits, `-` and `_`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct NodeName(String);

impl NodeName {
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        if text.is_empty() || text.len() > MAX_ID_LEN || !text.chars().all(fits) {
            return Err(format!("{text:?} is not the name of a node: 1 to {MAX_ID_LEN} letters, digits, '-' and '_'"));
        }
        Ok(Self(text.to_owned()))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for NodeName {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        Self::parse(&text)
    }
}

impl From<NodeName> for String {
    fn from(name: NodeName) -> Self {
        name.0
    }
}

impl std::fmt::Display for NodeName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// One run of a process: a random number, new at each start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Run(pub u64);

/// A node, during one run of its process, as others reach it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Node {
    /// Its name.
    pub name: NodeName,
    /// The run.
    pub run: Run,
    /// Where clients reach it: `https://host:port/`.
    pub url: String,
}

/// Whether a node takes rooms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum NodeState {
    /// It does.
    Serving,
    /// It gets no new rooms; those that it has go on.
    Draining,
}

/// How one shard does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ShardLoad {
    /// The share of its time that it is busy, in thousandths.
    pub busy: u32,
    /// Clients on it.
    pub clients: usize,
    /// Packets forwarded since its start.
    pub packets: u64,
}

/// What a node says of itself, four times a second.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Beat {
    /// Who.
    #[serde(flatten)]
    pub node: Node,
    /// Counts its beats: one that was heard before is not heard again.
    pub seq: u64,
    /// Where it stands, in the operator's words.
    pub region: String,
    /// The program's version.
    pub version: String,
    /// Whether it takes rooms.
    pub state: NodeState,
    /// Its shards, by number.
    pub shards: Vec<ShardLoad>,
    /// Rooms that it is the home of.
    pub rooms: usize,
    /// Where the sockets of its shards are, by number, if its rooms may be on several nodes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub links: Vec<SocketAddr>,
    /// Which scripts were uploaded to it ([`Manifest::id`](crate::script_set::Manifest::id)).
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub scripts: String,
    /// Nodes of whose shards nothing comes to its own, although they are asked for something.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unheard: Vec<NodeName>,
}

/// What a claim of a room says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Claim {
    /// The room's home.
    #[serde(flatten)]
    pub node: Node,
}

/// A question to a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Question {
    /// Makes the answer this question's own.
    pub nonce: u64,
    /// Who asks.
    pub from: Node,
    /// What.
    pub ask: Ask,
}

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Ask {
    /// The room's home, which alone serves its subject: where it is.
    Where { room: RoomId },
    /// Who has this name.
    Who {},
    /// To become the room's home. `seen` is the last beat that was heard of the node asked: an old question is refused.
    Take { room: RoomId, seen: u64 },
    /// May the asking node have clients of a room of which the node asked is the home: which shard has it. Shards of the asking
    /// node speak this version to those of others.
    Wing { room: RoomId, version: u8 },
    /// May a client of a room, whose state has this version, go on at the node asked: at this shard, or at one of its choice.
    TakeClient { room: RoomId, shard: Option<u16>, version: u16 },
    /// To move a client of its own to a node, at an operator's order.
    MoveClient { room: RoomId, client: ClientId, node: NodeName, shard: Option<u16> },
    /// Its rooms behind this one, in the order of their names.
    Rooms { after: Option<RoomId>, named: Option<String> },
    /// Whether it could use these uploaded scripts, which stand in the table.
    CheckScripts { id: String },
    /// To use them from now on.
    TakeScripts { id: String },
}

/// What is answered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Answer {
    /// The room's home.
    Home { node: Node, term: u64 },
    /// Who has the name, and for how many milliseconds it has run.
    Me { node: Node, age_ms: u64 },
    /// The shard that is the room's home.
    Wing { shard: u16 },
    /// The client may come: to this shard, which it reaches at these addresses.
    TakesClient { shard: u16, candidates: Vec<SocketAddr> },
    /// The client is told to move.
    Moves {},
    /// No: why.
    No { why: String },
    /// Some rooms, each as its own admin page tells of it, and what to ask next.
    Rooms { rooms: Vec<serde_json::Value>, next: Option<RoomId> },
    /// What it says of uploaded scripts.
    Scripts { told: ScriptsTold },
}

/// A room's id as one part of a subject or a key: `.`, which separates parts, becomes `=`, which no id has.
pub(super) fn part_of(room: &RoomId) -> String {
    room.as_str().replace('.', "=")
}

/// The room that a key stands for.
pub(super) fn room_of(key: &str) -> Option<RoomId> {
    RoomId::parse(&key.replace('=', ".")).ok().filter(|room| part_of(room) == key)
}

/// The subject that a room's home serves.
pub(super) fn room_subject(room: &RoomId) -> String {
    format!("mr.room.{}", part_of(room))
}

/// The subject that a node serves.
pub(super) fn node_subject(name: &NodeName) -> String {
    format!("mr.node.{name}")
}

/// The subject that a shard of a node serves during one run.
pub(super) fn place_subject(node: &Node, shard: u16) -> String {
    format!("{PLACES}{}.{:016x}.{shard}", node.name, node.run.0)
}

/// The shard that a subject is of.
pub(super) fn shard_of(subject: &str) -> Option<u16> {
    subject.rsplit('.').next()?.parse().ok()
}

/// What the proof of a question is about.
pub(super) fn question_topic(subject: &str) -> String {
    format!("question {subject}")
}

/// What the proof of the answer to a question is about.
pub(super) fn answer_topic(nonce: u64) -> String {
    format!("answer {nonce}")
}

/// What the proof of a claim is about.
pub(super) fn claim_topic(key: &str) -> String {
    format!("claim {key}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_room_is_one_part_of_a_subject_and_found_again() {
        for (id, part) in [("demo", "demo"), ("a.b", "a=b"), ("a..b.", "a==b="), ("x_-9", "x_-9")] {
            let room = RoomId::parse(id).unwrap();
            assert_eq!(part_of(&room), part);
            assert_eq!(room_of(part), Some(room));
        }
        for stranger in ["", "a.b", "=a", "a b", "ä", "*", ">"] {
            assert_eq!(room_of(stranger), None, "{stranger:?}");
        }
    }

    #[test]
    fn the_name_of_a_node_is_a_word() {
        for name in ["n1", "eu-west_3", &"x".repeat(64)] {
            assert_eq!(NodeName::parse(name).unwrap().as_str(), name);
        }
        for name in ["", "a.b", "a b", "ä", "*", &"x".repeat(65)] {
            assert!(NodeName::parse(name).unwrap_err().contains("is not the name of a node"), "{name}");
        }
    }
}
