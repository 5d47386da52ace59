//! What the cluster asks of this server and orders it to do.

use super::app::App;
use super::homes;
use super::orphans;
use super::rooms::{self, RoomsQuery};
use crate::cluster::{Host, NodeName, Pending, RoomsTold, ShardLoad};
use moonring_core::command::{Command, PlaceMessage, RoomEnd};
use moonring_wire::id::{ClientId, PlaceId, RoomId};
use moonring_wire::link::LinkPeer;

/// Rooms that are told another node at once.
const ROOMS: usize = 200;

impl App {
    /// Sends those who are in a wing here to this very node again: they find the room's home as it is then.
    pub(super) fn join_anew(&self, room: &RoomId) {
        if let Some(cluster) = &self.cluster {
            self.directory.give_way(room, &homes::websocket_url(cluster.url()));
        }
    }
}

/// What a wing is told whose home is not here, or not for long.
fn home_changes() -> PlaceMessage {
    PlaceMessage::Ended(RoomEnd::Lost(homes::CHANGES.to_owned()))
}

impl Host for App {
    fn has_room(&self, room: &RoomId) -> bool {
        self.directory.room(room).is_some()
    }

    fn loads(&self) -> Vec<ShardLoad> {
        self.reports.loads()
    }

    fn give_way(&self, room: &RoomId, url: &str) {
        self.directory.give_way(room, &homes::websocket_url(url));
        let (shard, wings) = self.directory.take_far_wings(room);
        for from in wings {
            let Some(cluster) = &self.cluster else { return };
            cluster.place_said(shard, from, vec![(room.clone(), home_changes())]);
            // As if the wing had left.
            let messages = vec![(room.clone(), PlaceMessage::Detach)];
            self.directory.tell_shard(shard, Command::FromPlace { from, messages });
        }
    }

    fn shard_of(&self, room: &RoomId) -> Option<u16> {
        self.directory.home_shard(room).and_then(|shard| u16::try_from(shard).ok())
    }

    fn peers(&self, peers: Vec<LinkPeer>) {
        self.directory.tell_all_shards(|| Command::Peers(peers.clone()));
    }

    fn ask_of_links(&self) {
        self.directory.tell_all_shards(|| Command::TellLinks);
    }

    fn place_heard(&self, shard: usize, from: PlaceId, messages: Vec<(RoomId, PlaceMessage)>) -> bool {
        let (mut passed, mut refused) = (Vec::with_capacity(messages.len()), Vec::new());
        let mut gone = Vec::new();
        for (room, mut message) in messages {
            if let PlaceMessage::Move(moves) = &mut message
                && !self.awaits(shard, &room, moves)
            {
                continue;
            }
            match &message {
                // Only a room that is here, and whose claim is this node's, has wings elsewhere.
                PlaceMessage::Attach { .. } => {
                    let is_home = self.cluster.as_ref().is_some_and(|cluster| cluster.is_home(&room));
                    if !is_home || !self.directory.wing_comes(&room, shard, from) {
                        refused.push((room, home_changes()));
                        continue;
                    }
                }
                PlaceMessage::Detach => gone.push(room.clone()),
                // Whoever is here in the room finds its home by joining anew.
                PlaceMessage::Ended(RoomEnd::Lost(_)) if self.directory.far_home(&room) == Some(from) => {
                    self.join_anew(&room);
                }
                _ => {}
            }
            passed.push((room, message));
        }
        let Some(handle) = self.directory.shard(shard) else { return true };
        if !passed.is_empty() && handle.send(Command::FromPlace { from, messages: passed }).is_err() {
            return false;
        }
        gone.iter().for_each(|room| self.directory.wing_goes(room, from));
        if let (Some(cluster), false) = (&self.cluster, refused.is_empty()) {
            cluster.place_said(shard, from, refused);
        }
        true
    }

    fn place_lost(&self, shard: usize, from: PlaceId) {
        // Both sides say anew what they have: nobody has to leave.
        self.directory.tell_shard(shard, Command::PlaceLost { from });
    }

    fn place_away(&self, shard: usize, place: PlaceId, is_away: bool) {
        self.directory.tell_shard(shard, Command::PlaceAway { place, is_away });
    }

    fn home_lost(&self, place: PlaceId) {
        for room in self.directory.place_gone(place) {
            tokio::spawn(orphans::find_home(self.clone(), room, place));
        }
    }

    fn shard_for(&self, room: &RoomId) -> Option<u16> {
        self.directory.shard_for(room).and_then(|shard| u16::try_from(shard).ok())
    }

    fn move_client(
        &self,
        room: RoomId,
        client: ClientId,
        to: (NodeName, Option<u16>),
    ) -> Pending<'_, Result<(), String>> {
        Box::pin(async move { self.move_here(&room, client, (Some(&to.0), to.1)).await })
    }

    fn rooms(&self, after: Option<RoomId>, named: Option<String>) -> RoomsTold<'_> {
        Box::pin(async move {
            let query = RoomsQuery::behind(after.map(String::from), named, ROOMS);
            let page = rooms::page(self, &query).await;
            let lines = page.rooms.iter().filter_map(|line| serde_json::to_value(line).ok()).collect();
            (lines, page.next)
        })
    }
}
