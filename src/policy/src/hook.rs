//! What rooms and policies say to each other: hook calls in, outcomes and actions out.

use std::cell::{Cell, RefCell};
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Instant;

use serde_json::Value;

use moonring_wire::id::{ClientId, TrackId};
use moonring_wire::media::TrackInfo;

/// The reason told to a client when a script does not define the hook that would decide.
pub const NOT_DEFINED: &str = "Policy not defined";
/// The reason told to a client when a script fails.
pub const SCRIPT_ERROR: &str = "Internal script error";
/// The reason told to a client when a script says no and gives no words for it.
pub const DENIED: &str = "Permission denied by script";

/// Where a client is in its life, as scripts see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// Its `on_client_connect` has not allowed it yet: not among `sfu.clients()`.
    Pending,
    /// In the room.
    Joined,
    /// Left: inert.
    Gone,
}

/// What a client has sent and received, counted where packets pass (one shard, so plain cells).
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
}

/// What a script may know of a client; shared by the room and its policy.
#[derive(Debug)]
pub struct ClientFacts {
    /// The server's name for it.
    pub id: ClientId,
    /// Where its signalling comes from.
    pub ip: IpAddr,
    /// What it said of itself when it joined (bounded by the protocol's message size).
    pub metadata: Value,
    /// When it joined.
    pub since: Instant,
    /// Whether it is in the room. The policy engine sets `Joined` in the same step in which a connect is allowed; the room sets `Gone`.
    pub presence: Cell<Presence>,
    /// What it publishes; the room keeps it current.
    pub tracks: RefCell<Vec<TrackInfo>>,
    /// What it has sent and received.
    pub traffic: Traffic,
}

/// One event that a script is asked about or told of.
#[derive(Clone, Debug)]
pub enum HookCall {
    /// `on_client_connect(client, auth_token)`.
    ClientConnect {
        /// Who wants in.
        client: Rc<ClientFacts>,
        /// What it showed.
        auth_token: String,
    },
    /// `on_client_disconnect(client, reason)`.
    ClientDisconnect {
        /// Who left.
        client: Rc<ClientFacts>,
        /// Why.
        reason: String,
    },
    /// `on_publish_request(client, track_info)`.
    PublishRequest {
        /// Who wants to publish.
        client: Rc<ClientFacts>,
        /// What.
        track: TrackInfo,
    },
    /// `on_track_published(client, track)`.
    TrackPublished {
        /// Who publishes.
        client: Rc<ClientFacts>,
        /// What.
        track: TrackInfo,
    },
    /// `on_track_unpublished(client, track)`.
    TrackUnpublished {
        /// Who published.
        client: Rc<ClientFacts>,
        /// What.
        track: TrackInfo,
    },
    /// `on_subscribe_request(client, track)`.
    SubscribeRequest {
        /// Who wants to receive.
        client: Rc<ClientFacts>,
        /// What.
        track: TrackInfo,
    },
    /// `on_message(client, message)`.
    Message {
        /// Who sent it.
        client: Rc<ClientFacts>,
        /// What it says.
        message: Value,
    },
    /// `on_active_speakers(clients)`, loudest first.
    ActiveSpeakers {
        /// Who speaks.
        clients: Vec<Rc<ClientFacts>>,
    },
}

impl HookCall {
    /// The name of the Lua function.
    pub fn name(&self) -> &'static str {
        match self {
            Self::ClientConnect { .. } => "on_client_connect",
            Self::ClientDisconnect { .. } => "on_client_disconnect",
            Self::PublishRequest { .. } => "on_publish_request",
            Self::TrackPublished { .. } => "on_track_published",
            Self::TrackUnpublished { .. } => "on_track_unpublished",
            Self::SubscribeRequest { .. } => "on_subscribe_request",
            Self::Message { .. } => "on_message",
            Self::ActiveSpeakers { .. } => "on_active_speakers",
        }
    }

    /// The client whose events stay in order with this one.
    pub fn client(&self) -> Option<&Rc<ClientFacts>> {
        match self {
            Self::ClientConnect { client, .. }
            | Self::ClientDisconnect { client, .. }
            | Self::PublishRequest { client, .. }
            | Self::TrackPublished { client, .. }
            | Self::TrackUnpublished { client, .. }
            | Self::SubscribeRequest { client, .. }
            | Self::Message { client, .. } => Some(client),
            Self::ActiveSpeakers { .. } => None,
        }
    }
}

/// What a script decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The hook returned the boolean `true` (or is one that decides nothing).
    Allow,
    /// Anything else, with the words for the client.
    Reject(String),
}

/// What a script asked for. Applied in order, in the step in which the hook's outcome is.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// `client:kick(reason)`.
    Kick {
        /// Whom.
        client: ClientId,
        /// The words for the client.
        reason: String,
    },
    /// `client:send(value)`.
    Send {
        /// To whom.
        client: ClientId,
        /// What.
        value: Value,
    },
    /// `sfu.broadcast(value, except?)`.
    Broadcast {
        /// What.
        value: Value,
        /// Everybody but.
        except: Option<ClientId>,
    },
    /// `client:set_max_bitrate(bps)`: what it may publish, in bit/s; `None` lifts the limit.
    SetMaxBitrate {
        /// Whose.
        client: ClientId,
        /// Bit per second.
        bps: Option<u64>,
    },
    /// `client:set_max_layer(track, n)`: the highest layer it receives of a track, 0 the lowest; `None` lifts the limit.
    SetMaxLayer {
        /// Whose.
        client: ClientId,
        /// Of which track.
        track: TrackId,
        /// Highest layer.
        layer: Option<u8>,
    },
    /// `client:mute(track)` and `client:unmute(track)`.
    SetMuted {
        /// Whose.
        client: ClientId,
        /// Which.
        track: TrackId,
        /// Whether.
        muted: bool,
    },
    /// `sfu.set_audio_last_n(n)`.
    SetAudioLastN {
        /// How many of the room are heard at once; `None`: everybody.
        n: Option<usize>,
    },
    /// `sfu.close(reason)`.
    CloseRoom {
        /// The words for everybody.
        reason: String,
    },
}

/// What came out of one hook. A hook that failed has no actions.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// What it decided.
    pub verdict: Verdict,
    /// What it asked for.
    pub actions: Vec<Action>,
    /// True when the script failed (error, time or memory budget); the log says how.
    pub failed: bool,
    /// True when the script has no such hook.
    pub missing: bool,
}
