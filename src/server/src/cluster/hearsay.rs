//! What a node makes of any bytes in the place of what the others say and write, without an engine: what the fuzzer drives.

use std::time::{Duration, Instant};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::courier::{Came, Courier, Head, Pair};
use super::dead_links::DeadLinks;
use super::messages::{Answer, Ask, BEATS, Beat, Claim, Node, NodeName, NodeState, Question, Run, ShardLoad, room_of};
use super::peers::{Heard, Peers, busy};
use super::placement::choose;
use super::places::Places;
use super::rooms::Rooms;
use super::seal::{MIN_SECRET, Seal};
use crate::script_set::Manifest;
use moonring_core::command::{PLACE_VERSION, empty_piece};
use moonring_core::shard::STATE_VERSION;
use moonring_wire::id::{ClientId, PlaceId, RoomId};

/// Kinds of what is heard, by number.
const KINDS: u8 = 6;
/// A shard of this node, and the first one of another.
const PAIR: Pair = (0, PlaceId(1));

/// A node that hears others by name only.
#[derive(Debug)]
pub struct Hearsay {
    seal: Seal,
    now: Instant,
    peers: Peers,
    places: Places,
    dead: DeadLinks,
    courier: Courier,
    rooms: Rooms<()>,
}

impl Default for Hearsay {
    fn default() -> Self {
        let (own, now) = (node("own"), Instant::now());
        let mut peers = Peers::new(own.clone(), "here".to_owned());
        peers.hearing(now, true);
        let mut rooms = Rooms::new(own);
        room_of("demo").iter().for_each(|room| rooms.won(room, 7, now, || ()));
        let (places, dead, courier) = (Places::new(PAIR.0 + 1), DeadLinks::default(), Courier::default());
        Self { seal: Seal::new(&[1; MIN_SECRET]), now, peers, places, dead, courier, rooms }
    }
}

impl Hearsay {
    /// Takes something in that has the proof of a node.
    pub fn hear(&mut self, kind: u8, body: &[u8]) {
        self.now += Duration::from_millis(100);
        match kind % KINDS {
            0 => self.beat(body),
            1 => drop(self.read::<Question>(body)),
            2 => drop(self.read::<Answer>(body)),
            3 => self.claim(body),
            4 => self.packet(body),
            _ => drop(self.read::<Manifest>(body).map(|manifest| manifest.id())),
        }
    }

    /// Well-formed messages, each with its kind.
    pub fn said() -> Vec<(u8, Vec<u8>)> {
        let json = |kind: u8, bytes: serde_json::Result<Vec<u8>>| (kind, bytes.unwrap_or_default());
        let mut said: Vec<_> = beats().iter().map(|beat| json(0, serde_json::to_vec(beat))).collect();
        let question = |ask: Ask| Question { nonce: 1, from: node("other"), ask };
        said.extend(asked().into_iter().map(|ask| json(1, serde_json::to_vec(&question(ask)))));
        said.extend(answers().iter().map(|answer| json(2, serde_json::to_vec(answer))));
        said.push(json(3, serde_json::to_vec(&Claim { node: node("other") })));
        let mut courier = Courier::default();
        // Nothing waits for it yet.
        let _ = courier.say(Instant::now(), PAIR, vec![empty_piece(), empty_piece()]);
        said.extend(courier.due(Instant::now(), Run(2)).into_iter().map(|(_, bytes)| (4, bytes.to_vec())));
        let scripts = [("lobby.lua", "aa"), ("rooms/demo.lua", "bb")].map(|(name, hash)| (name.into(), hash.into()));
        said.push(json(5, serde_json::to_vec(&Manifest(scripts.into()))));
        said
    }

    /// What is said is read again as it was written.
    fn read<T: DeserializeOwned + Serialize>(&self, body: &[u8]) -> Option<T> {
        let message: T = self.seal.open(BEATS, &self.seal.close_bytes(BEATS, body)).ok()?;
        let again = serde_json::to_vec(&message).ok()?;
        serde_json::from_slice::<T>(&again).is_ok().then_some(message)
    }

    /// As [`super::Cluster::hear_beat`], of a node that answers at once.
    fn beat(&mut self, body: &[u8]) {
        let Some(beat) = self.read::<Beat>(body) else { return };
        let (now, name) = (self.now, beat.node.name.clone());
        match self.peers.hear(now, beat.clone()) {
            Heard::Unproven => self.peers.proven(now, beat),
            Heard::GoesOn(_) => {
                self.places.hear(&beat);
                self.dead.hear(now, &beat, &node("own").name);
            }
            Heard::Old | Heard::Namesake(_) | Heard::Bad(_) => {}
        }
        let others = self.peers.candidates(now);
        choose(busy(&[ShardLoad { busy: 900, ..ShardLoad::default() }]), false, &others);
        self.peers.lines(now);
        self.peers.due(now);
        self.places.take_gone(|node| self.peers.standing(now, &name, Some(node.run)));
    }

    fn claim(&mut self, body: &[u8]) {
        let revision = u64::from(body.len() as u32 % 16);
        let claim = self.read::<Claim>(body);
        for room in ["demo", "other"].iter().filter_map(|room| room_of(room)) {
            self.rooms.changed(self.now, &room, revision, claim.clone());
            self.rooms.checked(self.now, &room, claim.clone().map(|claim| (revision, claim)));
            self.rooms.far(self.now, &room);
        }
    }

    fn packet(&mut self, body: &[u8]) {
        let Some((head, piece)) = Head::read(body) else { return };
        match self.courier.hear(self.now, PAIR, &head, piece) {
            Came::Next(_) | Came::Lost(_) => self.courier.took(PAIR, &head),
            Came::Nothing => {}
        }
        // Something is on its way back, which what comes acknowledges or does not.
        let _ = self.courier.say(self.now, PAIR, vec![empty_piece()]);
        self.courier.due(self.now, Run(1));
        self.courier.changes(self.now);
    }
}

fn node(name: &str) -> Node {
    Node { name: NodeName::parse(name).unwrap_or_default(), run: Run(2), url: format!("https://{name}/") }
}

fn beats() -> [Beat; 3] {
    [1, 2, 3].map(|seq| Beat {
        node: node("other"),
        seq,
        region: "there".to_owned(),
        version: "0.1.0".to_owned(),
        state: NodeState::Serving,
        shards: vec![ShardLoad { busy: 100, clients: 1, packets: 9 }],
        rooms: 1,
        links: vec![([10, 0, 0, 2], 40_000).into()],
        scripts: "aa".to_owned(),
        unheard: vec![node("own").name],
    })
}

fn asked() -> Vec<Ask> {
    let Some((room, client)) = room_of("demo").zip(ClientId::parse("ada").ok()) else { return Vec::new() };
    let of = |room: &RoomId| room.clone();
    vec![
        Ask::Where { room: of(&room) },
        Ask::Who {},
        Ask::Take { room: of(&room), seen: 3 },
        Ask::Wing { room: of(&room), version: PLACE_VERSION },
        Ask::TakeClient { room: of(&room), shard: Some(1), version: STATE_VERSION },
        Ask::MoveClient { room: of(&room), client, node: node("other").name, shard: None },
        Ask::Rooms { after: Some(room), named: Some("de*".to_owned()) },
        Ask::CheckScripts { id: "aa".to_owned() },
        Ask::TakeScripts { id: "aa".to_owned() },
    ]
}

fn answers() -> Vec<Answer> {
    vec![
        Answer::Home { node: node("other"), term: 9 },
        Answer::Me { node: node("other"), age_ms: 5 },
        Answer::Wing { shard: 1 },
        Answer::TakesClient { shard: 1, candidates: vec![([10, 0, 0, 2], 40_000).into()] },
        Answer::Moves {},
        Answer::No { why: "no".to_owned() },
        Answer::Rooms { rooms: vec![serde_json::json!({ "room": "demo", "clients": 1.5 })], next: room_of("demo") },
        Answer::Scripts { told: crate::script_set::ScriptsTold::error("no") },
    ]
}
