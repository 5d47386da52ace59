//! What the control plane asks of a shard, and what a shard tells the control plane.

mod bytes;
mod event;
mod moved;
mod news;
mod place;
mod recipient;
mod weight;

use std::net::SocketAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use moonring_policy::client::Connection;
use moonring_policy::hook::Action;
use moonring_policy::tape::{Depth, Sink};
use moonring_policy::{CarriedPolicy, Checkpoint, PolicyReply, PolicyRequestId, ScriptLibrary};
use moonring_wire::id::{ClientId, Mid, PlaceId, RoomId, TrackId};
use moonring_wire::link::LinkPeer;
use moonring_wire::media::Source;
use moonring_wire::negotiate::{Offer, RequestId};
use moonring_wire::shared::as_text;

pub use bytes::{BytesError, MAX_PLACE_BYTES, PLACE_VERSION, empty_piece, read_places, write_places};
pub use event::{CheckpointOrder, Event, LeaveCause};
pub use moved::{ExpectedClient, ForMoved, MoveOrder, MovedClient};
pub use news::{ClientInfo, News};
pub use place::{
    FarCall, FarTrack, HomeMessage, Member, Members, MoveMessage, PlaceMessage, ROOM_LOST, RoomEnd, Roster, SeatGiven,
    TrafficFigures,
};

/// A track a client wants to publish in a section of its offer.
#[derive(Clone, Debug, PartialEq)]
pub struct PublishIntent {
    /// Which section.
    pub mid: Mid,
    /// What it shows.
    pub source: Source,
    /// The client makes key frames when it is told to ([`Event::KeyFrame`]), where it has several encodings.
    pub makes_key_frames: bool,
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
    /// The request that it has come with.
    pub connection: Box<Connection>,
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

/// From the control plane to the shard that owns the room. What is about one client may follow it to another node; an offer is
/// made again there.
#[derive(Debug, Serialize, Deserialize)]
pub enum Command {
    /// A client wants in. Answered by [`Event::Joined`] or [`Event::Left`].
    #[serde(skip)]
    Join(JoinRequest),
    /// The same, into a room whose policy is on another shard.
    #[serde(skip)]
    JoinWing {
        /// Which; where that is of another node and this shard does not speak to it itself, the lead: the shard of this node that
        /// does.
        home: PlaceId,
        /// The room's home, where `home` is the lead.
        beyond: Option<PlaceId>,
        /// The join.
        request: JoinRequest,
    },
    /// What another shard says about rooms: its [`Event::ToPlace`].
    #[serde(skip)]
    FromPlace {
        /// Which shard.
        from: PlaceId,
        /// What, in its order: nothing else comes between.
        messages: Vec<(RoomId, PlaceMessage)>,
    },
    /// The shards of other nodes that there are, all of them: links to those that are new begin, and what was spread over those
    /// that are gone ends.
    #[serde(skip)]
    Peers(Vec<LinkPeer>),
    /// Messages reach a shard of another node, or do not: what only it can decide is refused meanwhile.
    #[serde(skip)]
    PlaceAway {
        /// Which shard.
        place: PlaceId,
        /// Whether they do not reach it.
        is_away: bool,
    },
    /// This shard, which has a wing of the room, is its home from here on, as the former one is gone. [`Event::RoomClosed`] when that
    /// cannot be.
    BecomeHome {
        /// Which room.
        room: RoomId,
    },
    /// The home of a room of which this shard has a wing is another place from here on.
    HomeIs {
        /// Which room.
        room: RoomId,
        /// Where.
        home: PlaceId,
    },
    /// How the links to other nodes are, at once. Answered by [`Event::Links`].
    #[serde(skip)]
    TellLinks,
    /// Messages of another shard were lost: both say anew what is in the rooms that are spread over them.
    #[serde(skip)]
    PlaceLost {
        /// Which shard.
        from: PlaceId,
    },
    /// A client is to go on at another shard. Answered by [`Event::Called`] once it is told to restart ICE, which its move
    /// begins with.
    #[serde(skip)]
    Move {
        /// Its number.
        id: u64,
        /// Who, and where to.
        order: MoveOrder,
    },
    /// The home of a room, which has no clients of its own here, is to move to one of its wings, at another node. Answered by
    /// [`Event::Called`] when it has and all its wings know, or has not.
    #[serde(skip)]
    MoveHome {
        /// Its number.
        id: u64,
        /// Which room.
        room: RoomId,
        /// Which wing.
        to: PlaceId,
    },
    /// The answer to [`Event::ClaimHome`].
    #[serde(skip)]
    HomeClaimed {
        /// Which room.
        room: RoomId,
        /// Whether its claim is this node's now.
        is_ours: bool,
    },
    /// All that was sent here for a client before its [`Event::Moved`] has been sent: nothing more comes for it.
    #[serde(skip)]
    RouteMoved {
        /// Who.
        client: ClientId,
    },
    /// A client's offer. Answered by [`Event::Answered`] or [`Event::Refused`].
    #[serde(skip)]
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
    /// [`News::ActiveSpeakers`], unless the client is gone; nobody else is told.
    Snapshot {
        /// Who.
        client: ClientId,
    },
    /// A message for the policy.
    Message {
        /// Who.
        client: ClientId,
        /// What.
        #[serde(with = "as_text")]
        value: Value,
    },
    /// The answer to [`Event::PolicyRequest`].
    #[serde(skip)]
    PolicyReply {
        /// Its number.
        id: PolicyRequestId,
        /// The answer.
        reply: PolicyReply,
    },
    /// A room's script comes from the process that this one takes over from: what it has handed over, or `None` when it has
    /// handed over nothing and begins anew.
    #[serde(skip)]
    PolicyCarried {
        /// Whose policy.
        room: RoomId,
        /// What it has handed over.
        carried: Option<Box<CarriedPolicy>>,
    },
    /// The answer to [`CheckpointOrder::Find`].
    #[serde(skip)]
    CheckpointFound {
        /// Whose policy.
        room: RoomId,
        /// What is kept of it.
        found: Option<Box<Checkpoint>>,
    },
    /// The scripts there are now: new rooms use them, rooms that run an older version are reloaded.
    #[serde(skip)]
    Scripts(ScriptLibrary),
    /// What an operator wants of a room's policy; nothing when there is no such room.
    #[serde(skip)]
    Policy {
        /// Whose policy.
        room: RoomId,
        /// What is to be done.
        order: PolicyOrder,
    },
    /// An operator's program calls the policy of a room. Answered by [`Event::Called`].
    #[serde(skip)]
    Call {
        /// Its number.
        id: u64,
        /// Whose policy.
        room: RoomId,
        /// What for.
        request: Value,
    },
    /// An operator does something to a room, or to a client in it. Answered by [`Event::Called`].
    #[serde(skip)]
    Act {
        /// Its number.
        id: u64,
        /// Which room.
        room: RoomId,
        /// What.
        action: Action,
    },
    /// An operator's program opens a room before anybody comes. Answered by [`Event::Called`].
    #[serde(skip)]
    Open {
        /// Its number.
        id: u64,
        /// Which room.
        room: RoomId,
        /// What it says of the room, an object: its script finds it as `sfu.room.metadata`.
        metadata: Value,
    },
    /// A room that its script keeps although nobody is in it has to make way.
    #[serde(skip)]
    CloseIfEmpty {
        /// Which room.
        room: RoomId,
        /// Another node is its home: it ends also when its last clients and wings are still on their way out.
        gives_way: bool,
    },
    /// Somebody wants to trace or to record the policy of a room. Answered by [`Event::Called`]; the lines go to `sink`.
    #[serde(skip)]
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
    #[serde(skip)]
    Report {
        /// Its number.
        id: u64,
        /// Which rooms.
        rooms: Vec<RoomId>,
    },
    /// Clients that come from now on are to send media to other addresses than those before.
    #[serde(skip)]
    Candidates {
        /// Of this shard.
        own: Vec<SocketAddr>,
        /// Of all shards of this node, by number.
        all: Vec<Vec<SocketAddr>>,
    },
    /// Who is in a room. Answered by [`Event::Called`], with some of them.
    #[serde(skip)]
    ListClients {
        /// Its number.
        id: u64,
        /// Which room.
        room: RoomId,
        /// Those behind this one, in the order of their ids.
        after: Option<ClientId>,
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

/// Why a request of a client was refused; the client stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusalCode {
    /// The offer cannot be answered as it is (no common codec, changed certificate, ...).
    BadOffer,
    /// A track that does not exist or is not the client's.
    UnknownTrack,
    /// Another offer of the client is still being decided on.
    Busy,
    /// The policy takes no messages or dropped this one.
    MessageDropped,
    /// Too many tracks, clients or messages waiting.
    Limit,
}
