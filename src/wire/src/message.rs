//! The signalling protocol, as types: this file is the protocol's document.
//!
//! A client opens a WebSocket at `/ws` (`wss://host:8080/ws`) and exchanges JSON text messages, each an object with
//! a `type`. The first message is [`ClientMessage::Join`]; the server answers with [`ServerMessage::Joined`] or
//! [`ServerMessage::Rejected`] and, after a rejection, closes.
//!
//! # Resume
//!
//! A WebSocket that ends without [`ClientMessage::Leave`] does not end the client's stay in the room: for `resume_s`
//! seconds its media flows on and nobody is told. [`ClientMessage::Resume`], as the first message of a new
//! WebSocket, goes on with the stay; the server answers with [`ServerMessage::Joined`], whose lists are a snapshot of
//! the room as it is now and replace what the client knew. Application messages and the answer of an offer that was
//! waiting follow it. A ticket is good for one use; each [`ServerMessage::Joined`] brings the next one.
//!
//! # Clusters
//!
//! Where several servers are one cluster, a room is on one of them. Whoever joins at another is told
//! [`ServerMessage::Moved`] with its address; so is a client that resumes elsewhere, and one whose room has another home
//! after a partition. While it cannot be said where a room is, a join is refused with [`ErrorCode::TryAgain`].
//!
//! # Rosters
//!
//! [`ServerMessage::Joined`] names at most [`ROSTER_PAGE`] clients and as many tracks. When there are more, it says
//! `more`, and [`ServerMessage::Roster`] messages follow it directly, up to the first that does not say so.
//!
//! # Media
//!
//! One peer connection per client, and the client always makes the offer; the server (an ICE-lite agent) only
//! answers. To publish, add a sending transceiver and name its `mid` in [`ClientMessage::Offer::publish`]. To receive
//! a track the server told of, add a `recvonly` transceiver of its kind and name the `mid` and the track in
//! [`ClientMessage::Offer::subscribe`]. Sections that earlier offers named need not be named again. One offer at a
//! time: wait for its [`ServerMessage::Answer`] or [`ServerMessage::Error`] (with the same `request`).
//! A section whose intent the policy refused is answered `inactive`, with the reason in [`SectionResult`].
//! A change of `ice-ufrag` in an offer is an ICE restart.
//!
//! ```text
//! client                                     server
//!   | join {room, token, metadata}             |
//!   |----------------------------------------->| on_client_connect
//!   |            joined {client, clients, ...} |
//!   |<-----------------------------------------|
//!   | offer {request: 1, sdp, publish: [...]}  |
//!   |----------------------------------------->| on_publish_request
//!   |    answer {request: 1, sdp, sections}    |
//!   |<-----------------------------------------|
//!   |                         track_published  |  somebody else published
//!   |<-----------------------------------------|
//!   | offer {request: 2, sdp, subscribe: [..]} |
//!   |----------------------------------------->| on_subscribe_request
//!   |    answer {request: 2, sdp, sections}    |
//!   |<-----------------------------------------|
//! ```
//!
//! # Bounds
//!
//! A message has at most [`MAX_MESSAGE_BYTES`] bytes, a token [`MAX_TOKEN_BYTES`], metadata [`MAX_METADATA_BYTES`].
//! A message that breaks a rule is answered with [`ServerMessage::Error`] and changes nothing; the connection stays,
//! except before the join and after [`MAX_ERRORS`] errors.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::id::{ClientId, RoomId, TrackId};
use crate::media::{PauseReason, TrackInfo};
use crate::rights::Rights;
use crate::shared::SharedValue;

mod parts;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod typescript;

pub use parts::{ErrorCode, Participant, Publish, SectionResult, Subscribe};

/// The version this file describes; [`ClientMessage::Join::protocol`] may name it.
pub const PROTOCOL_VERSION: u32 = 1;
/// Longest message, in bytes of JSON text. An offer of as many sections as there may be has room in it, as Chromium writes them.
pub const MAX_MESSAGE_BYTES: usize = 512 * 1024;
/// Longest token, in bytes.
pub const MAX_TOKEN_BYTES: usize = 8 * 1024;
/// Longest metadata, in bytes of JSON text.
pub const MAX_METADATA_BYTES: usize = 16 * 1024;
/// Longest application message, in bytes of JSON text.
pub const MAX_APPLICATION_BYTES: usize = 64 * 1024;
/// Clients, and tracks, that one message names at most when it tells who and what is in a room.
pub const ROSTER_PAGE: usize = 200;
/// Longest ticket, in bytes.
pub const MAX_TICKET_BYTES: usize = 256;
/// Errors of one connection after which it is closed.
pub const MAX_ERRORS: u32 = 50;

/// From the client.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub enum ClientMessage {
    /// Asks to enter a room; the first message of a connection, once.
    Join {
        /// The room's id: 1 to 64 letters, digits, `-`, `_` and, not in front, `.`.
        room: RoomId,
        /// What the room's policy checks (`on_client_connect`'s `auth_token`).
        #[serde(default)]
        token: String,
        /// Anything about the client: others and the policy see it.
        #[serde(default)]
        #[cfg_attr(test, ts(type = "any"))]
        metadata: Value,
        /// [`PROTOCOL_VERSION`], when the client wants to be refused by a server that speaks another.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(test, ts(optional))]
        protocol: Option<u32>,
    },
    /// Goes on with a stay whose WebSocket was lost; the first message of a connection, instead of `join`.
    Resume {
        /// The ticket of the last `joined`.
        ticket: String,
    },
    /// Offers a session description.
    Offer {
        /// A number of the client's choice, echoed in the answer.
        request: u64,
        /// The description (`RTCSessionDescription.sdp`).
        sdp: String,
        /// The sections that newly publish.
        #[serde(default)]
        publish: Vec<Publish>,
        /// The sections that newly receive.
        #[serde(default)]
        subscribe: Vec<Subscribe>,
    },
    /// Stops publishing a track, at once; the next offer should say `inactive` there.
    Unpublish {
        /// Which, of the client's own.
        track: TrackId,
    },
    /// Stops receiving a track, at once; the next offer should say `inactive` there.
    Unsubscribe {
        /// Which.
        track: TrackId,
    },
    /// Says that the client's own track is muted or not, so that others can show it.
    Mute {
        /// Which, of the client's own.
        track: TrackId,
        /// Whether.
        muted: bool,
    },
    /// The highest simulcast layer to receive of a track, 0 the lowest.
    Layer {
        /// Which.
        track: TrackId,
        /// Highest layer; `null` for no limit.
        layer: Option<u8>,
    },
    /// The size in device pixels at which the client shows a track that it receives. 0 x 0: it does not show it, and
    /// the server may pause it.
    View {
        /// Which.
        track: TrackId,
        /// Width.
        width: u32,
        /// Height.
        height: u32,
    },
    /// A message to the room's policy (`on_message`).
    Message {
        /// Anything.
        #[cfg_attr(test, ts(type = "any"))]
        value: Value,
    },
    /// Leaves the room at once: nobody waits for a resume. The server closes the connection.
    Leave {},
}

/// From the server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
#[cfg_attr(test, derive(ts_rs::TS))]
pub enum ServerMessage {
    /// The client is in the room, for the first time or after a resume.
    Joined {
        /// The id the server gave to the client.
        client: ClientId,
        /// The room.
        room: RoomId,
        /// Everybody else there.
        clients: Vec<Participant>,
        /// Everything that others publish there.
        tracks: Vec<TrackInfo>,
        /// The client's own published tracks; empty when it has just joined.
        own: Vec<TrackInfo>,
        /// The client's own attributes, see [`Participant::attributes`].
        #[serde(default = "SharedValue::empty_object")]
        #[cfg_attr(test, ts(type = "any"))]
        attributes: SharedValue,
        /// What the client may do.
        #[serde(default)]
        rights: Rights,
        /// The proof for [`ClientMessage::Resume`]: opaque, good for one use; empty when `resume_s` is 0.
        ticket: String,
        /// Seconds for which the stay is kept after the WebSocket is lost; 0: it ends with the WebSocket.
        resume_s: u64,
        /// Messages a second that the server takes of the client, and ten times as many at once; 16 KiB of a message count as
        /// one more.
        #[serde(default = "usual_messages_per_s")]
        #[cfg_attr(test, ts(optional, as = "Option<u32>"))]
        messages_per_s: u32,
        /// The server knows [`Publish::key_frames`].
        #[serde(default, skip_serializing_if = "is_false")]
        #[cfg_attr(test, ts(optional, as = "Option<bool>"))]
        key_frames: bool,
        /// True when this continues an earlier stay.
        resumed: bool,
        /// [`PROTOCOL_VERSION`].
        protocol: u32,
        /// True when `clients` and `tracks` are the first page only: [`ServerMessage::Roster`] follows.
        #[serde(default, skip_serializing_if = "is_false")]
        #[cfg_attr(test, ts(optional, as = "Option<bool>"))]
        more: bool,
    },
    /// The next page of what [`ServerMessage::Joined`] tells, directly after the one before.
    Roster {
        /// Further clients.
        clients: Vec<Participant>,
        /// Further tracks.
        tracks: Vec<TrackInfo>,
        /// True when another page follows.
        #[serde(default, skip_serializing_if = "is_false")]
        #[cfg_attr(test, ts(optional, as = "Option<bool>"))]
        more: bool,
    },
    /// The policy (or a bound of the server) did not let the client in. The server closes.
    Rejected {
        /// In the policy's words.
        reason: String,
    },
    /// The answer to an offer.
    Answer {
        /// The offer's number.
        request: u64,
        /// The description.
        sdp: String,
        /// What became of each section that the offer named.
        sections: Vec<SectionResult>,
    },
    /// The media transport is up.
    Connected {},
    /// The client is to restart ICE, as after a change of networks: the answer to its next offer names other addresses, and
    /// media goes on there without a new handshake. A client that cannot, or does not know this message, stays where it is.
    RestartIce {},
    /// Somebody came, or is to be seen now.
    ClientJoined {
        /// Who.
        #[serde(flatten)]
        participant: Participant,
    },
    /// The room's policy says something else of somebody, or of the client itself, from now on.
    ClientChanged {
        /// Of whom.
        client: ClientId,
        /// See [`Participant::attributes`].
        #[cfg_attr(test, ts(type = "any"))]
        attributes: SharedValue,
    },
    /// Somebody left, or is not to be seen any more.
    ClientLeft {
        /// Who.
        client: ClientId,
    },
    /// A track can be subscribed to.
    TrackPublished {
        /// Which.
        track: TrackInfo,
    },
    /// A track is as it says here, from now on.
    TrackChanged {
        /// Which.
        track: TrackInfo,
    },
    /// A track is gone.
    TrackUnpublished {
        /// Which.
        track: TrackId,
        /// Of the client's own track, which it has not ended itself: why.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(test, ts(optional))]
        reason: Option<String>,
    },
    /// A subscription has ended, as the room's policy or another codec of the track has it; the track itself may go on.
    Unsubscribed {
        /// Which.
        track: TrackId,
        /// Why, in words for the user.
        reason: String,
    },
    /// What the client may do has changed to this. What it may do no longer has ended.
    Rights {
        /// What it may do.
        #[serde(flatten)]
        rights: Rights,
    },
    /// A subscribed track is not sent for now.
    TrackPaused {
        /// The track.
        track: TrackId,
        /// Why.
        reason: PauseReason,
    },
    /// A paused track is sent again.
    TrackResumed {
        /// The track.
        track: TrackId,
    },
    /// The layers of the client's own track that somebody receives; sent when it changes. The publisher may switch
    /// the others off.
    WantedLayers {
        /// The track.
        track: TrackId,
        /// The layers, 0 the lowest; empty: nobody receives the track.
        layers: Vec<u8>,
    },
    /// Key frames of the client's own track are needed, of all encodings that it sends: of a track that was published with
    /// [`Publish::key_frames`]. Where none comes within a second, it is asked for by RTCP.
    KeyFrame {
        /// The track.
        track: TrackId,
    },
    /// Who speaks, loudest first; sent when it changes.
    ActiveSpeakers {
        /// Who.
        clients: Vec<ClientId>,
    },
    /// A message from the room's policy.
    Message {
        /// What the script sent.
        #[cfg_attr(test, ts(type = "any"))]
        value: SharedValue,
    },
    /// The client is removed from the room. The server closes.
    Kicked {
        /// In the policy's words, or the technical reason.
        reason: String,
    },
    /// The server restarts. It closes; the client is expected to join again by itself, after a random pause that grows
    /// with each attempt.
    Restarting {
        /// For the user.
        reason: String,
    },
    /// Another process goes on with the stay, at the same address or at `url`. The server closes; the client is expected to send
    /// [`ClientMessage::Resume`] with the ticket that it has over a new connection at once. Media goes on meanwhile.
    Resume {
        /// The WebSockets of the node of the cluster that goes on, if that is another one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(test, ts(optional))]
        url: Option<String>,
    },
    /// The server stops and does not come back. It closes; clients are not expected to try again.
    Closing {
        /// For the user.
        reason: String,
    },
    /// The room, or the stay of the ticket, is on another node of the cluster. The server closes; the client is expected to
    /// send the same first message there: the ticket or, without one, the join.
    Moved {
        /// The address of that node's WebSockets: `wss://n2.example.com:8080/ws`.
        url: String,
    },
    /// Something the client sent was refused, and changed nothing.
    Error {
        /// Which kind of error.
        code: ErrorCode,
        /// What and where, in words.
        message: String,
        /// The offer's number, when it was one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(test, ts(optional))]
        request: Option<u64>,
    },
}

fn is_false(value: &bool) -> bool {
    !value
}

/// What a server that does not say it takes.
fn usual_messages_per_s() -> u32 {
    20
}
