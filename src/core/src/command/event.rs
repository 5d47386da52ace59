//! What a shard tells the control plane.

use serde_json::Value;

use super::news::{ClientInfo, News};
use super::{PlaceMessage, RefusalCode, RoomEnd};
use crate::report::{LinkReport, RoomReport, ShardReport};
use moonring_policy::hook::Undecided;
use moonring_policy::{Checkpoint, PolicyRequest, PolicyRequestId};
use moonring_wire::id::{ClientId, PlaceId, RoomId, TrackId};
use moonring_wire::media::{PauseReason, TrackInfo};
use moonring_wire::negotiate::{Answer, RequestId, SectionOutcome};
use moonring_wire::rights::Rights;
use moonring_wire::shared::{Shared, SharedValue};

/// Why a client is no longer there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LeaveCause {
    /// The policy rejected its join, with these words.
    Rejected(String),
    /// The policy has not decided on its join, with words.
    Undecided(Undecided, String),
    /// The policy kicked it or closed the room, with these words.
    Kicked(String),
    /// It said goodbye or its signalling ended.
    Left,
    /// Its media transport failed or fell silent, with the technical reason.
    TransportFailed(String),
    /// A bound of this server (clients per room, per shard), with words.
    Limit(String),
    /// It could not come in, or stay, for something of the server's that passes, with words: it may join again.
    Later(String),
    /// The server shuts down.
    Shutdown,
    /// Its room is on another node of the cluster, whose WebSockets are at this address. Shards never say it.
    Moved(String),
    /// Its stay goes on at another node, whose WebSockets are at this address. Shards never say it.
    GoesOn(String),
}

/// Why the clients of a room that ends are no longer there.
impl From<&RoomEnd> for LeaveCause {
    fn from(end: &RoomEnd) -> Self {
        match end {
            RoomEnd::Closed(words) => Self::Kicked(words.clone()),
            RoomEnd::Lost(words) => Self::Later(words.clone()),
        }
    }
}

/// What is to be done with a room's checkpoint, which the control plane keeps.
#[derive(Debug)]
pub enum CheckpointOrder {
    /// It is this one from here on.
    Keep(Box<Checkpoint>),
    /// The room has ended: there is none.
    Drop,
    /// The room begins, and wants to know. Answered by [`super::Command::CheckpointFound`].
    Find,
}

/// From a shard to the control plane. `client` is who is to be told.
#[derive(Debug)]
pub enum Event {
    /// It is in the room, for the first time or as the answer to [`super::Command::Snapshot`].
    Joined {
        /// Who.
        client: ClientId,
        /// Everybody else in the room.
        clients: Vec<ClientInfo>,
        /// Everything that others publish in the room.
        tracks: Vec<TrackInfo>,
        /// What it publishes itself.
        own: Vec<TrackInfo>,
        /// What the policy says of it.
        attributes: SharedValue,
        /// What it may do.
        rights: Rights,
    },
    /// It is no longer (or never was) in the room; nothing more follows for it.
    Left {
        /// Who.
        client: ClientId,
        /// Why.
        cause: LeaveCause,
    },
    /// The answer to its offer.
    Answered {
        /// Who.
        client: ClientId,
        /// Its number for the offer.
        request: RequestId,
        /// The description.
        answer: Box<Answer>,
        /// What became of what it wanted to publish and receive.
        sections: Vec<SectionOutcome>,
    },
    /// Its request was refused; it stays.
    Refused {
        /// Who.
        client: ClientId,
        /// Its number for the offer, when it was one.
        request: Option<RequestId>,
        /// Why.
        code: RefusalCode,
        /// In words, naming what and where.
        message: String,
    },
    /// Its media transport is up.
    Connected {
        /// Who.
        client: ClientId,
    },
    /// What the client may do has changed.
    Rights {
        /// Who is told.
        client: ClientId,
        /// What it may do now.
        rights: Rights,
    },
    /// Something that everybody in the room is told, or what one client is told in the same words.
    News {
        /// Who is told.
        client: ClientId,
        /// What, kept once for all who are told.
        news: Shared<News>,
    },
    /// Its own track, which it has not ended itself, is gone.
    TrackEnded {
        /// Who is told.
        client: ClientId,
        /// Which.
        track: TrackId,
        /// Why.
        reason: String,
    },
    /// A subscription has ended, and not as the client wanted it to.
    Unsubscribed {
        /// Who is told.
        client: ClientId,
        /// Which track it receives no longer.
        track: TrackId,
        /// Why.
        reason: String,
    },
    /// A track that it receives is not sent for now.
    TrackPaused {
        /// Who is told.
        client: ClientId,
        /// Which.
        track: TrackId,
        /// Why.
        reason: PauseReason,
    },
    /// A track that was paused is sent again.
    TrackResumed {
        /// Who is told.
        client: ClientId,
        /// Which.
        track: TrackId,
    },
    /// Of an own track: the layers that somebody receives; the others need not be sent.
    WantedLayers {
        /// Who is told.
        client: ClientId,
        /// Which.
        track: TrackId,
        /// From the lowest to the highest; none when nobody receives it.
        layers: Vec<u8>,
    },
    /// Of an own track: key frames of all its encodings are needed.
    KeyFrame {
        /// Who is told.
        client: ClientId,
        /// Which.
        track: TrackId,
    },
    /// A policy waits for something from outside the shard; answered by [`super::Command::PolicyReply`].
    PolicyRequest {
        /// Its number on this shard.
        id: PolicyRequestId,
        /// Whose policy.
        room: RoomId,
        /// What it asks for.
        request: PolicyRequest,
    },
    /// Something is to be done with the checkpoint of a room.
    Checkpoint {
        /// Whose policy.
        room: RoomId,
        /// What.
        order: CheckpointOrder,
    },
    /// The answer to [`super::Command::Call`], [`super::Command::Act`] and [`super::Command::Open`].
    Called {
        /// Its number.
        id: u64,
        /// What the policy answers, null for what was done; or why nothing was.
        answer: Result<Value, String>,
    },
    /// Something for the operator's webhook.
    Webhook {
        /// Where it happened.
        room: RoomId,
        /// What: `room_opened`, `client_joined`, …, or a script's own.
        event: String,
        /// More about it.
        data: Value,
    },
    /// Something about rooms for another shard, which gets it as [`super::Command::FromPlace`]: all that one call of the core
    /// had to say. What is for one shard stays in its order.
    ToPlace {
        /// Which shard.
        to: PlaceId,
        /// What.
        messages: Vec<(RoomId, PlaceMessage)>,
    },
    /// It is to restart ICE: the answer to its offer names another shard's addresses.
    Restart {
        /// Who is told.
        client: ClientId,
    },
    /// Another shard has the client from here on: what is for it goes there. Answered by [`super::Command::RouteMoved`].
    Moved {
        /// Who.
        client: ClientId,
        /// Which shard.
        to: PlaceId,
    },
    /// A room of another node has come here with its script: it is to be claimed. Answered by [`super::Command::HomeClaimed`].
    ClaimHome(RoomId),
    /// A room of which this shard has a wing has another home from here on.
    HomeMoved {
        /// Which room.
        room: RoomId,
        /// Where.
        home: PlaceId,
    },
    /// The answer to [`super::Command::Report`].
    Report {
        /// Its number.
        id: u64,
        /// Those of the rooms that are on this shard.
        rooms: Vec<RoomReport>,
    },
    /// The shard's counters, once a second.
    Counters(Box<ShardReport>),
    /// The answer to [`super::Command::TellLinks`].
    Links(Vec<LinkReport>),
    /// A room is gone: its id may be placed anew.
    RoomClosed(RoomId),
}
