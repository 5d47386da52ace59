//! The facts about a client, shared by its room and the room's policy.

use std::cell::{Cell, OnceCell, RefCell};
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

use super::settings::{END_PATIENCE, HOOKS_PATIENCE};
use moonring_wire::id::ClientId;
use moonring_wire::media::TrackInfo;
use moonring_wire::rights::{Rights, Sources};
use moonring_wire::shared::SharedValue;
use serde::{Deserialize, Serialize};

/// The reason that a client is given when it is hidden and asks to publish: whoever is heard is seen.
pub const HIDDEN_MAY_NOT_PUBLISH: &str = "Who is hidden may not publish";

/// The stage of a client's life, as scripts see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// Its `on_client_connect` has not allowed it yet: not among `sfu.clients()`.
    Pending,
    /// `on_client_connect` has allowed it, and scripts see it; the room has not told it and the others yet.
    Admitted,
    /// In the room.
    Joined,
    /// Left: inert.
    Gone,
}

/// Traffic of a client, counted where its packets pass. All on one shard, so plain cells.
#[derive(Debug, Default)]
pub struct Traffic {
    /// Packets the client published.
    pub packets_in: Cell<u64>,
    /// Bytes the client published (RTP payload and header).
    pub bytes_in: Cell<u64>,
    /// Packets forwarded to the client.
    pub packets_out: Cell<u64>,
    /// Bytes forwarded to the client.
    pub bytes_out: Cell<u64>,
    /// How the path to the client was a second ago at most; `None` while nothing is forwarded to it.
    pub path: Cell<Option<PathFigures>>,
}

/// What is known of the path to a client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PathFigures {
    /// What layers are chosen for, in bit/s; `None` when nothing limits them.
    pub estimate_bps: Option<u64>,
    /// The most to send right now, in bit/s; `None` likewise.
    pub target_bps: Option<u64>,
    /// Tracks that are paused for it, whatever the reason.
    pub paused: usize,
    /// The smoothed round trip, once measured.
    pub rtt: Option<Duration>,
    /// The part of its packets that was lost lately, 0 to 1.
    pub loss: f32,
    /// Packets sent again because it asked for them.
    pub resends: u64,
}

/// How a client has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Via {
    /// The signalling protocol over a WebSocket.
    WebSocket,
    /// An encoder over HTTP (RFC 9725).
    Whip,
    /// A player over HTTP.
    Whep,
}

impl Via {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::WebSocket, Self::Whip, Self::Whep];

    /// The word that scripts see.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::WebSocket => "websocket",
            Self::Whip => "whip",
            Self::Whep => "whep",
        }
    }
}

/// The request with which a client has come. Texts are bounded by the control plane.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Connection {
    /// The address that its signalling comes from.
    pub ip: IpAddr,
    pub via: Via,
    /// The `Origin` header: the page that a browser showed.
    pub origin: Option<String>,
    /// The `User-Agent` header.
    pub user_agent: Option<String>,
    /// The headers that the configuration names and the request had, names in lower case.
    pub headers: Vec<(String, String)>,
}

/// A WebSocket from this address without anything more to say.
impl<T: Into<IpAddr>> From<T> for Connection {
    fn from(ip: T) -> Self {
        Self { ip: ip.into(), via: Via::WebSocket, origin: None, user_agent: None, headers: Vec::new() }
    }
}

/// The facts about a client that a script may read.
#[derive(Debug)]
pub struct ClientFacts {
    /// The id that the server gave it.
    pub id: ClientId,
    pub connection: Connection,
    /// The metadata that it sent when it joined.
    pub metadata: SharedValue,
    /// The time at which it asked to join.
    pub since: Instant,
    /// The time at which it left, as its policy was told.
    pub left: Cell<Option<Instant>>,
    /// The policy engine sets `Admitted` in the step in which `on_client_connect` allows it, the room sets `Joined` and
    /// `Gone`.
    pub presence: Cell<Presence>,
    /// Who it is, if `on_client_connect` says so: the same after a reconnect, unlike the id.
    pub identity: OnceCell<String>,
    /// What the policy says of it, for everybody; an object. The room sets it.
    pub attributes: RefCell<SharedValue>,
    /// What it may do. The room sets it.
    pub rights: Cell<Rights>,
    /// True while others are not to hear of it. The room sets it.
    pub is_hidden: Cell<bool>,
    /// The tracks that it publishes; the room keeps the list current.
    pub tracks: RefCell<Vec<TrackInfo>>,
    pub traffic: Traffic,
}

impl ClientFacts {
    /// A client that asks to join, about which nothing is decided.
    pub fn new(id: ClientId, connection: Connection, metadata: SharedValue, since: Instant) -> Self {
        Self {
            id,
            connection,
            metadata,
            since,
            left: Cell::default(),
            presence: Cell::new(Presence::Pending),
            identity: OnceCell::new(),
            attributes: RefCell::new(SharedValue::empty_object()),
            rights: Cell::default(),
            is_hidden: Cell::new(false),
            tracks: RefCell::default(),
            traffic: Traffic::default(),
        }
    }

    /// How long it has been here, or was.
    pub(crate) fn stay(&self, now: Instant) -> Duration {
        self.left.get().unwrap_or(now).saturating_duration_since(self.since)
    }

    /// Its IPv4 address or its IPv6 /64, as providers give one to each customer.
    pub(crate) fn network(&self) -> IpAddr {
        match self.connection.ip.to_canonical() {
            IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() >> 64 << 64).into(),
            ip => ip,
        }
    }

    /// Who it is, as the policy says; without a word of the policy's, its id.
    pub fn identity(&self) -> &str {
        self.identity.get().map_or_else(|| self.id.as_str(), String::as_str)
    }
}

/// A change of some rights; `None` leaves a right as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RightsChange {
    pub publish: Option<Sources>,
    pub subscribe: Option<bool>,
    pub message: Option<bool>,
}

impl RightsChange {
    /// The rights of somebody who has had `rights`.
    pub fn applied_to(self, rights: Rights) -> Rights {
        Rights {
            publish: self.publish.unwrap_or(rights.publish),
            subscribe: self.subscribe.unwrap_or(rights.subscribe),
            message: self.message.unwrap_or(rights.message),
        }
    }
}

/// Of whom the others in a room are told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Announced {
    /// Of everybody.
    #[default]
    All,
    /// Of those who publish something.
    Publishers,
    /// Of nobody; of tracks they are told all the same.
    Nobody,
}

impl Announced {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::All, Self::Publishers, Self::Nobody];

    /// The word that scripts use.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Publishers => "publishers",
            Self::Nobody => "none",
        }
    }
}

/// Why a room ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CloseReason {
    /// Its last client has left, and its script does not keep it, or no longer.
    Empty,
    /// Its script or an operator has closed it.
    Closed,
    /// The server shuts down.
    Shutdown,
}

impl CloseReason {
    /// The word that `on_close` is told.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::Closed => "closed",
            Self::Shutdown => "shutdown",
        }
    }

    /// How long a room that ends waits for its hooks. One that was closed had clients a moment ago, and its hooks have as much
    /// to report as those of one that everybody has left.
    pub fn patience(self) -> Duration {
        match self {
            Self::Closed => HOOKS_PATIENCE,
            Self::Empty | Self::Shutdown => END_PATIENCE,
        }
    }
}
