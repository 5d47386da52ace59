//! Whether somebody who joins a room of another node is sent there, or the room spreads to this one.

use std::sync::atomic::Ordering;
use std::time::Instant;

use super::Cluster;
use super::find::ANSWER;
use super::messages::{Answer, Ask, Node, NodeState, node_subject};
use super::placement::{Seating, seat};
use crate::config::RoomSpread;
use moonring_core::command::PLACE_VERSION;
use moonring_wire::id::{PlaceId, RoomId};

/// Where somebody goes whose room has its home on another node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Wing {
    /// To the node at this URL.
    There(String),
    /// Here: the room's home is this place.
    Here(PlaceId),
    /// Nowhere now: why.
    TryAgain(&'static str),
}

impl Cluster {
    /// Where somebody goes whose room is at the node at `url`, as [`Cluster::place`] has found; `has_wing`: this node has clients of
    /// the room.
    pub(crate) async fn wing(&self, room: &RoomId, url: String, has_wing: bool) -> Wing {
        let (home, seating) = {
            let now = Instant::now();
            let mut state = self.state();
            let home = state.rooms.far(now, room).cloned();
            let own = super::peers::busy(&state.beat.shards) + state.begun.score(now);
            let is_draining = state.beat.state == NodeState::Draining;
            let others = state.peers.candidates(now);
            let home = home.filter(|home| home.url == url);
            let is_severed = |home: &Node| self.mail().dead.concern(now, room, &home.name);
            let seating = match (&home, self.spread()) {
                (None, _) | (_, RoomSpread::Never) => Seating::Home,
                (Some(home), _) if is_draining || is_severed(home) => Seating::Home,
                (Some(_), RoomSpread::Always) => Seating::Here,
                (Some(home), RoomSpread::Load) => seat(&home.name, (own, has_wing), &others),
            };
            (home, seating)
        };
        let url = match (home, seating) {
            (Some(home), Seating::Here) => match self.wing_of(room, &home).await {
                Wing::There(url) => url,
                wing => return wing,
            },
            (_, Seating::Other(name)) => {
                self.state().peers.alive(Instant::now(), &name).map(|node| node.url.clone()).unwrap_or(url)
            }
            _ => url,
        };
        self.0.counts.moved.fetch_add(1, Ordering::Relaxed);
        Wing::There(url)
    }

    /// The shard that has a room whose home is the node at `url`, as [`Cluster::place`] has found; `None` when that cannot be said
    /// now.
    pub(crate) async fn wing_at(&self, room: &RoomId, url: &str) -> Option<PlaceId> {
        let home = self.state().rooms.far(Instant::now(), room).filter(|home| home.url == url).cloned()?;
        match self.wing_of(room, &home).await {
            Wing::Here(place) => Some(place),
            Wing::There(_) | Wing::TryAgain(_) => None,
        }
    }

    /// Asks the home which of its shards has the room.
    async fn wing_of(&self, room: &RoomId, home: &Node) -> Wing {
        let ask = Ask::Wing { room: room.clone(), version: PLACE_VERSION };
        match self.ask(&node_subject(&home.name), ask, ANSWER).await {
            Ok(Answer::Wing { shard }) => {
                self.state().begun.add(Instant::now());
                // Its shards are told of in its beats.
                self.place_of(home, shard).map_or(Wing::TryAgain("the room's node is not linked yet"), Wing::Here)
            }
            // It does not spread its rooms, or not to this node.
            Ok(_) => Wing::There(home.url.clone()),
            Err(_) => Wing::TryAgain("the room's home does not answer"),
        }
    }
}
