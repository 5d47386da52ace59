//! Clients that move to another shard or to another node, at an operator's order, and their stays, which go along.

use std::sync::Arc;

use super::app::App;
use super::homes;
use crate::cluster::{Cluster, NOT_HERE, NodeName};
use moonring_core::command::{Command, MoveMessage, MoveOrder, PlaceMessage};
use moonring_wire::id::{ClientId, PlaceId, RoomId};

impl App {
    /// Moves a client of this node to a shard of a node, this one where none is named; in words why not.
    pub(super) async fn move_here(
        &self,
        room: &RoomId,
        client: ClientId,
        (node, shard): (Option<&NodeName>, Option<u16>),
    ) -> Result<(), String> {
        let Some(on) = self.directory.shard_of(room, &client) else { return Err(NOT_HERE.to_owned()) };
        let order = match (node.zip(self.cluster.as_ref()), shard) {
            (Some((node, cluster)), shard) if !cluster.is_own(node) => {
                self.directory.may_go_on(room, &client)?;
                let destination = cluster.destination(node, room, shard).await?;
                MoveOrder { client, to: destination.place, candidates: destination.candidates }
            }
            (None, _) if node.is_some() => return Err("the server is alone: there is no other node".to_owned()),
            (Some(_), None) => return Err("the client is at this node already: say which of its shards".to_owned()),
            (None, None) => return Err("say which shard, or which node".to_owned()),
            (_, Some(shard)) => {
                let shards = self.directory.shards();
                if usize::from(shard) >= shards {
                    return Err(format!("there is no shard {shard}; there are 0 to {}", shards.saturating_sub(1)));
                }
                MoveOrder { client, to: PlaceId(shard), candidates: Vec::new() }
            }
        };
        let handle = self.directory.shard(on).ok_or_else(|| NOT_HERE.to_owned())?;
        let told = self.calls.told(handle, |id| Command::Move { id, order }).await;
        told.map(drop).map_err(|(_, words)| words)
    }

    /// Moves the home of a room, whose clients are all at other nodes, to one of these; in words why it stays.
    pub(super) async fn move_home(&self, cluster: &Cluster, room: &RoomId) -> Result<(), String> {
        let shard = self.directory.home_shard(room).and_then(|shard| self.directory.shard(shard));
        let handle = shard.ok_or("the room is not here")?;
        let (_, to) = cluster.node_among(&self.directory.far_wings(room)).ok_or("the room's other nodes drain, too")?;
        // Nobody comes in here from now on: who asks is told to try again, until it is clear where the room is.
        let given = cluster.hand_over(room).ok_or("the room is not this node's")?;
        let (on, wings) = self.directory.take_far_wings(room);
        let name = room.clone();
        match self.calls.told(handle, |id| Command::MoveHome { id, room: name, to }).await {
            Ok(_) => Ok(()),
            Err((_, words)) => {
                wings.into_iter().for_each(|wing| _ = self.directory.wing_comes(room, on, wing));
                cluster.keep(Arc::new(self.clone()), room, given).await;
                Err(words)
            }
        }
    }

    /// A room has come to a shard of this node with its script: it is this node's if its claim is.
    pub(super) fn claim_home(&self, shard: usize, room: RoomId) {
        let app = self.clone();
        tokio::spawn(async move {
            let home = app.directory.far_home(&room);
            let is_ours = match (&app.cluster, home) {
                (Some(cluster), Some(home)) => cluster.claim_from(home, &room).await,
                _ => false,
            };
            if is_ours {
                app.directory.home_comes(&room);
            }
            app.directory.tell_shard(shard, Command::HomeClaimed { room, is_ours });
        });
    }

    /// Messages of a shard of this node to one of another: the stays of clients that go on there go along, and are not here any
    /// more.
    pub(super) fn with_stays(&self, to: PlaceId, messages: &mut [(RoomId, PlaceMessage)]) {
        let Some(cluster) = &self.cluster else { return };
        for (_, message) in messages {
            let PlaceMessage::Move(MoveMessage::Moved(moved)) = message else { continue };
            let url = cluster.url_at(to).map(|url| homes::websocket_url(&url));
            match url.and_then(|url| self.directory.give_stay(&moved.client, &url)) {
                Some(stay) => moved.stay = stay,
                // That node is gone, or the client has just left.
                None => self.directory.lose(&moved.client),
            }
        }
    }

    /// A message of another node's shard about a client that comes here; false when it is not for the shard.
    pub(super) fn awaits(&self, shard: usize, room: &RoomId, message: &mut MoveMessage) -> bool {
        match message {
            MoveMessage::Expect(expected) => {
                let found = self.directory.expect_stay((room, shard), &expected.client, expected.home);
                match found {
                    Ok(lead) => expected.lead = lead,
                    Err(why) => {
                        tracing::info!(%room, client = %expected.client, "a client of another node cannot go on here: {why}");
                        return false;
                    }
                }
            }
            MoveMessage::Moved(moved) => {
                let stay = std::mem::take(&mut moved.stay);
                self.directory.take_stay((room, shard), &moved.client, &stay);
            }
            _ => {}
        }
        true
    }
}
