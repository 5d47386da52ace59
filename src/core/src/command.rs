//! What the control plane asks of a shard, and what a shard tells the control plane.

mod causes;
mod recipient;
mod weight;

use std::net::IpAddr;
use std::time::Duration;

use serde_json::Value;

use crate::report::{RoomReport, ShardReport};
use moonring_policy::hook::Action;
use moonring_policy::tape::{Depth, Sink};
use moonring_policy::{PolicyReply, PolicyRequest, PolicyRequestId, ScriptLibrary};
use moonring_wire::id::{ClientId, Mid, RoomId, TrackId};
use moonring_wire::media::{PauseReason, Source, TrackInfo};
use moonring_wire::negotiate::{Answer, Offer, RequestId, SectionOutcome};
use moonring_wire::shared::SharedValue;

pub use causes::{LeaveCause, RefusalCode};

/// A track a client wants to publish in a section of its offer.
#[derive(Clone, Debug, PartialEq)]
pub struct PublishIntent {
    /// Which section.
    pub mid: Mid,
    /// What it shows.
    pub source: Source,
}

/// A track a client wants to receive in a section of its offer.
#[derive(Clone, Debug, PartialEq)]
pub struct SubscribeIntent {
    /// Which section.
    pub mid: Mid,
    /// Which track; `None` lets the server choose the next one of that kind (WHEP).
    pub track: Option<TrackId>,
}

/// Somebody who wants into a room.
#[derive(Debug)]
pub struct JoinRequest {
    /// Where.
    pub room: RoomId,
    /// The name the control plane chose for it.
    pub client: ClientId,
    /// What it shows the policy.
    pub token: String,
    /// What it says of itself.
    pub metadata: Value,
    /// Where its signalling comes from.
    pub ip: IpAddr,
}

/// A client's offer, with what its sections are for.
#[derive(Debug)]
pub struct OfferRequest {
    /// Who.
    pub client: ClientId,
    /// Its number for it.
    pub request: RequestId,
    /// The description.
    pub offer: Box<Offer>,
    /// What it wants to publish.
    pub publish: Vec<PublishIntent>,
    /// What it wants to receive.
    pub subscribe: Vec<SubscribeIntent>,
}

/// An operator's order about the policy of one room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PolicyOrder {
    /// Lets a suspended script run again.
    Resume,
    /// Gives the room its script's newest version, without the state of the one that runs.
    ReloadWithoutState,
}

/// From the control plane to the shard that owns the room.
#[derive(Debug)]
pub enum Command {
    /// A client wants in. Answered by [`Event::Joined`] or [`Event::Left`].
    Join(JoinRequest),
    /// A client's offer. Answered by [`Event::Answered`] or [`Event::Refused`].
    Offer(OfferRequest),
    /// A client stops publishing a track.
    Unpublish {
        /// Who.
        client: ClientId,
        /// Which.
        track: TrackId,
    },
    /// A client stops receiving a track.
    Unsubscribe {
        /// Who.
        client: ClientId,
        /// Which.
        track: TrackId,
    },
    /// A client pauses or resumes its own track (everybody is told; packets are dropped meanwhile).
    SetMuted {
        /// Who.
        client: ClientId,
        /// Which.
        track: TrackId,
        /// Whether.
        muted: bool,
    },
    /// The highest layer a client wants to receive of a track, 0 the lowest.
    SetLayer {
        /// Who.
        client: ClientId,
        /// Which.
        track: TrackId,
        /// Highest layer; `None` for no limit.
        layer: Option<u8>,
    },
    /// The size at which a client shows a track it receives, in pixels of its screen; 0 x 0: not at all.
    SetView {
        /// Who.
        client: ClientId,
        /// Which.
        track: TrackId,
        /// Pixels across.
        width: u32,
        /// Pixels down.
        height: u32,
    },
    /// A joined client's new WebSocket wants to know the room as it is. Answered by [`Event::Joined`], then
    /// [`Event::TrackPaused`] for what is paused, [`Event::WantedLayers`] for what it publishes and
    /// [`Event::ActiveSpeakers`], unless the client is gone; nobody else is told.
    Snapshot {
        /// Who.
        client: ClientId,
    },
    /// A message for the policy.
    Message {
        /// Who.
        client: ClientId,
        /// What.
        value: Value,
    },
    /// The answer to [`Event::PolicyRequest`].
    PolicyReply {
        /// Its number.
        id: PolicyRequestId,
        /// The answer.
        reply: PolicyReply,
    },
    /// The scripts there are now: new rooms use them, rooms that run an older version are reloaded.
    Scripts(ScriptLibrary),
    /// What an operator wants of a room's policy; nothing when there is no such room.
    Policy {
        /// Whose policy.
        room: RoomId,
        /// What is to be done.
        order: PolicyOrder,
    },
    /// An operator's program calls the policy of a room. Answered by [`Event::Called`].
    Call {
        /// Its number.
        id: u64,
        /// Whose policy.
        room: RoomId,
        /// What for.
        request: Value,
    },
    /// An operator does something to a room, or to a client in it. Answered by [`Event::Called`].
    Act {
        /// Its number.
        id: u64,
        /// Which room.
        room: RoomId,
        /// What.
        action: Action,
    },
    /// Somebody wants to trace or to record the policy of a room. Answered by [`Event::Called`]; the lines go to `sink`.
    Watch {
        /// Its number.
        id: u64,
        /// Whose policy.
        room: RoomId,
        /// Who takes the lines.
        sink: Sink,
        /// What is told.
        depth: Depth,
    },
    /// What some rooms are and do; at most [`crate::report::MAX_ROOMS_PER_REPORT`]. Answered by [`Event::Report`].
    Report {
        /// Its number.
        id: u64,
        /// Which rooms.
        rooms: Vec<RoomId>,
    },
    /// A client ends as by [`Command::Leave`] if nothing that it publishes has come for as long as this: its encoder
    /// is back on another connection.
    LeaveIfSilent {
        /// Who.
        client: ClientId,
        /// For how long.
        silence: Duration,
        /// Why, for the policy.
        reason: String,
    },
    /// A client left, or its signalling is gone.
    Leave {
        /// Who.
        client: ClientId,
        /// Why, for the policy.
        reason: String,
    },
}

/// What a joined client is told of another.
#[derive(Clone, Debug, PartialEq)]
pub struct ClientInfo {
    /// Its id.
    pub client: ClientId,
    /// What it said of itself.
    pub metadata: SharedValue,
}

/// From a shard to the control plane. `client` is who is to be told.
#[derive(Debug)]
pub enum Event {
    /// It is in the room, for the first time or as the answer to [`Command::Snapshot`].
    Joined {
        /// Who.
        client: ClientId,
        /// Everybody else in the room.
        clients: Vec<ClientInfo>,
        /// Everything that others publish in the room.
        tracks: Vec<TrackInfo>,
        /// What it publishes itself.
        own: Vec<TrackInfo>,
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
    /// Another client came.
    ClientJoined {
        /// Who is told.
        client: ClientId,
        /// Who came.
        other: ClientInfo,
    },
    /// Another client left.
    ClientLeft {
        /// Who is told.
        client: ClientId,
        /// Who left.
        other: ClientId,
    },
    /// A track can be subscribed to.
    TrackPublished {
        /// Who is told.
        client: ClientId,
        /// Which.
        track: TrackInfo,
    },
    /// A track changed (muted).
    TrackChanged {
        /// Who is told.
        client: ClientId,
        /// Which, as it is now.
        track: TrackInfo,
    },
    /// A track is gone.
    TrackUnpublished {
        /// Who is told.
        client: ClientId,
        /// Which.
        track: TrackId,
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
    /// Who speaks, loudest first.
    ActiveSpeakers {
        /// Who is told.
        client: ClientId,
        /// Who speaks.
        speakers: Vec<ClientId>,
    },
    /// A message from the policy.
    Message {
        /// Who is told.
        client: ClientId,
        /// What.
        value: SharedValue,
    },
    /// A policy waits for something from outside the shard; answered by [`Command::PolicyReply`].
    PolicyRequest {
        /// Its number on this shard.
        id: PolicyRequestId,
        /// Whose policy.
        room: RoomId,
        /// What it asks for.
        request: PolicyRequest,
    },
    /// The answer to [`Command::Call`] and [`Command::Act`].
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
    /// The answer to [`Command::Report`].
    Report {
        /// Its number.
        id: u64,
        /// Those of the rooms that are on this shard.
        rooms: Vec<RoomReport>,
    },
    /// The shard's counters, once a second.
    Counters(Box<ShardReport>),
    /// A room is gone: its id may be placed anew.
    RoomClosed(RoomId),
}
