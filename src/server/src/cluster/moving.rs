//! Clients that go on at another node: whether that takes them, and where they reach it.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::engine::Serving;
use super::find::ANSWER;
use super::messages::{Answer, Ask, Node, NodeName, NodeState, node_subject, part_of, room_subject};
use super::placement::choose;
use super::{Cluster, Host};
use moonring_core::shard::STATE_VERSION;
use moonring_wire::id::{ClientId, PlaceId, RoomId};

/// What is answered about a client that is not on this node.
pub(crate) const NOT_HERE: &str = "the client is not here";

/// Where a client may go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Destination {
    /// The shard.
    pub place: PlaceId,
    /// Where clients send media to it.
    pub candidates: Vec<SocketAddr>,
}

/// How long a room that has come here is kept at least.
const KEPT: Duration = Duration::from_secs(2);

/// A room that is being handed over to another node.
#[derive(Debug)]
pub(crate) struct Given {
    term: u64,
    serving: Serving,
}

impl Cluster {
    /// Whether a name is this node's.
    pub(crate) fn is_own(&self, node: &NodeName) -> bool {
        self.0.own.name == *node
    }

    /// Asks a node whether a client of a room may go on there, at a shard of its own choice where none is named; in words why not.
    pub(crate) async fn destination(
        &self,
        name: &NodeName,
        room: &RoomId,
        shard: Option<u16>,
    ) -> Result<Destination, String> {
        if self.0.linked == 0 {
            return Err("clients move between nodes where cluster_spread is not \"never\"".to_owned());
        }
        let node = self.state().peers.alive(Instant::now(), name).cloned();
        let node = node.ok_or_else(|| format!("there is no node {name} that lives"))?;
        let ask = Ask::TakeClient { room: room.clone(), shard, version: STATE_VERSION };
        match self.ask(&node_subject(name), ask, ANSWER).await {
            Ok(Answer::TakesClient { shard, candidates }) => match self.place_of(&node, shard) {
                Some(place) => Ok(Destination { place, candidates }),
                None => Err(format!("node {name} is not linked yet: try again")),
            },
            Ok(Answer::No { why }) => Err(format!("node {name} takes no client: {why}")),
            Ok(_) | Err(_) => Err(format!("node {name} does not answer")),
        }
    }

    /// Whether this node takes a client of another one.
    pub(super) fn take_client(&self, host: &Arc<dyn Host>, room: &RoomId, shard: Option<u16>, version: u16) -> Answer {
        let no = |why: String| Answer::No { why };
        if version != STATE_VERSION {
            return no(format!("states of clients have version {version} there and version {STATE_VERSION} here"));
        }
        if self.0.linked == 0 {
            return no("its cluster_spread is \"never\"".to_owned());
        }
        if self.state().beat.state == NodeState::Draining {
            return no("it drains".to_owned());
        }
        let Some(shard) = host.shard_for(room).map(|free| shard.unwrap_or(free)) else {
            return no("it keeps no client whose connection is lost (resume_s), or ends".to_owned());
        };
        let candidates = &self.state().candidates;
        match candidates.get(usize::from(shard)) {
            Some(candidates) => Answer::TakesClient { shard, candidates: candidates.clone() },
            None => no(format!("it has no shard {shard}; it has 0 to {}", candidates.len().saturating_sub(1))),
        }
    }

    /// This machine has other addresses: where clients that come here by a move send media to each shard, and where the shards of
    /// other nodes reach them; `None`: as before.
    pub(crate) fn readdressed(&self, candidates: Option<Vec<Vec<SocketAddr>>>, links: Option<Vec<SocketAddr>>) {
        let mut state = self.state();
        if let Some(candidates) = candidates {
            state.candidates = candidates;
        }
        // In the next beat.
        if let Some(links) = links.filter(|_| self.0.linked > 0) {
            state.beat.links = links;
        }
    }

    /// Has another node that has the client move it: the first that does; in words why none does.
    pub(crate) async fn order_elsewhere(
        &self,
        room: &RoomId,
        client: &ClientId,
        (node, shard): (NodeName, Option<u16>),
    ) -> Result<(), String> {
        let nodes = self.state().peers.all_alive(Instant::now());
        for Node { name, .. } in nodes {
            let ask = Ask::MoveClient { room: room.clone(), client: client.clone(), node: node.clone(), shard };
            match self.ask(&node_subject(&name), ask, ANSWER).await {
                Ok(Answer::Moves {}) => return Ok(()),
                Ok(Answer::No { why }) if why != NOT_HERE => return Err(why),
                Ok(_) | Err(_) => {}
            }
        }
        Err(format!("there is no client {client} in the room"))
    }

    /// The name of a shard's node.
    pub(crate) fn name_at(&self, place: PlaceId) -> Option<NodeName> {
        self.mail().places.name_of(place)
    }

    /// The node for a client that leaves this one, of a room with this home: the home's, while that has time, or the one that has
    /// most.
    pub(crate) fn node_for(&self, home: Option<PlaceId>) -> Option<NodeName> {
        if let Some(home) = home.and_then(|home| self.home_with_time(home)) {
            return Some(home);
        }
        let (now, mut state) = (Instant::now(), self.state());
        let others = state.peers.candidates(now);
        let node = choose(0, true, &others)?;
        state.peers.placed(now, &node);
        Some(node)
    }

    /// The node of a room's home, if that has time for one more client.
    pub(crate) fn home_with_time(&self, home: PlaceId) -> Option<NodeName> {
        let (home, now) = (self.name_at(home)?, Instant::now());
        let mut state = self.state();
        let others = state.peers.candidates(now);
        others.iter().find(|other| other.name == home && other.has_time())?;
        state.peers.placed(now, &home);
        Some(home)
    }

    /// The shards of nodes that have time for more clients.
    pub(crate) fn places_with_time(&self) -> HashSet<PlaceId> {
        let others = self.state().peers.candidates(Instant::now());
        let (mail, with_time) = (self.mail(), others.iter().filter(|other| other.has_time()));
        with_time.flat_map(|other| mail.places.of_name(&other.name)).collect()
    }

    /// Of the nodes of these shards the one for a room's home, and its shard: the least busy that does not drain.
    pub(crate) fn node_among(&self, shards: &[PlaceId]) -> Option<(NodeName, PlaceId)> {
        let named: Vec<_> = shards.iter().filter_map(|shard| Some((self.name_at(*shard)?, *shard))).collect();
        let others = self.state().peers.candidates(Instant::now());
        let takes = others.iter().filter(|other| !other.is_draining);
        let known = takes.filter_map(|other| Some((other.score, named.iter().find(|(name, _)| *name == other.name)?)));
        known.min_by_key(|(score, _)| *score).map(|(_, node)| node.clone())
    }

    /// Whether a node is there and does not drain.
    pub(crate) fn takes_clients(&self, node: &NodeName) -> bool {
        let others = self.state().peers.candidates(Instant::now());
        others.iter().any(|other| other.name == *node && !other.is_draining)
    }

    /// Where whoever cannot stay here joins anew.
    pub(crate) fn elsewhere(&self) -> Option<String> {
        let now = Instant::now();
        let mut state = self.state();
        let others = state.peers.candidates(now);
        let name = choose(0, true, &others)?;
        state.peers.alive(now, &name).map(|node| node.url.clone())
    }

    /// A room of this node's is nobody's, as far as this node is concerned, until it is clear whether another one takes it: its
    /// claim stays as it is.
    pub(crate) fn hand_over(&self, room: &RoomId) -> Option<Given> {
        self.state().rooms.give_up(room).map(|(term, serving)| Given { term, serving })
    }

    /// No other node has taken it; or one has all the same, and then everybody who is here is sent there.
    pub(crate) async fn keep(&self, host: Arc<dyn Host>, room: &RoomId, given: Given) {
        let Given { term, serving } = given;
        self.state().rooms.won(room, term, Instant::now(), || serving);
        if !self.check_claim(&host, room).await {
            let (cluster, room) = (self.clone(), room.clone());
            tokio::spawn(async move { cluster.check_claims(&host, vec![room]).await });
        }
    }

    /// Claims a room that has come here from `home`, which has its claim; whether it is this node's now.
    pub(crate) async fn claim_from(&self, home: PlaceId, room: &RoomId) -> bool {
        let key = part_of(room);
        let Some(home) = self.node_at(home) else { return false };
        let Ok(Some(entry)) = self.0.engine.read(&key).await else { return false };
        if self.claim_in(&key, &entry.value).is_none_or(|claim| claim.node.run != home.run) {
            return false;
        }
        match self.0.engine.claim(&key, self.claim_of(&key), Some(entry.revision)).await {
            Ok(term) => {
                let serve = || self.0.engine.serve(&room_subject(room), self.0.inbox.clone());
                self.state().rooms.won(room, term, Instant::now() + KEPT, serve);
                true
            }
            Err(_) => false,
        }
    }

    /// A room is not this node's any more: another one may claim it.
    pub(crate) async fn give_up(&self, room: &RoomId) {
        let given = self.state().rooms.give_up(room);
        if let Some((term, serving)) = given {
            drop(serving);
            // A claim that stays is written over by whoever asks for the room next.
            let _ = self.0.engine.release(&part_of(room), term).await;
        }
    }

    /// Where clients reach the node of a shard.
    pub(crate) fn url_at(&self, place: PlaceId) -> Option<String> {
        self.node_at(place).map(|node| node.url)
    }
}
