//! The interface between a room and its policy: hook calls in, outcomes and actions out.

use std::cell::{Cell, RefCell};
use std::net::IpAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::hook_table::{Hook, HookSpec};
use moonring_wire::id::{ClientId, TrackId};
use moonring_wire::media::TrackInfo;
use moonring_wire::shared::SharedValue;

/// The reason that a client is given when the script does not define the hook that would decide.
pub const NOT_DEFINED: &str = "Policy not defined";
/// The reason that a client is given when the script fails.
pub const SCRIPT_ERROR: &str = "Internal script error";
/// The reason that a client is given when the script rejects its request without one.
pub const DENIED: &str = "Permission denied by script";
/// The reason that a client is given when a reload has ended the hook that was deciding.
pub const CUT_OFF: &str = "The room's rules have just changed, please try again";
/// The reason that a client is given when its events make hooks fail again and again.
pub const FAILS_TOO_OFTEN: &str = "What you sent made the room's script fail too often";

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

/// The facts about a client that a script may read; shared by the room and its policy.
#[derive(Debug)]
pub struct ClientFacts {
    /// The id that the server gave it.
    pub id: ClientId,
    /// The address that its signalling comes from.
    pub ip: IpAddr,
    /// The metadata that it sent when it joined.
    pub metadata: SharedValue,
    /// The time at which it asked to join.
    pub since: Instant,
    /// The policy engine sets `Admitted` in the step in which `on_client_connect` allows it, the room sets `Joined` and
    /// `Gone`.
    pub presence: Cell<Presence>,
    /// The tracks that it publishes; the room keeps the list current.
    pub tracks: RefCell<Vec<TrackInfo>>,
    pub traffic: Traffic,
}

/// An event for which a hook is called.
#[derive(Clone, Debug)]
pub enum HookCall {
    /// `on_client_connect(client, auth_token)`.
    ClientConnect { client: Rc<ClientFacts>, auth_token: String },
    /// `on_client_disconnect(client, reason)`.
    ClientDisconnect { client: Rc<ClientFacts>, reason: String },
    /// `on_publish_request(client, track_info)`.
    PublishRequest { client: Rc<ClientFacts>, track: TrackInfo },
    /// `on_track_published(client, track)`.
    TrackPublished { client: Rc<ClientFacts>, track: TrackInfo },
    /// `on_track_unpublished(client, track)`.
    TrackUnpublished { client: Rc<ClientFacts>, track: TrackInfo },
    /// `on_subscribe_request(client, track)`.
    SubscribeRequest { client: Rc<ClientFacts>, track: TrackInfo },
    /// `on_message(client, message)`.
    Message { client: Rc<ClientFacts>, message: Value },
    /// `on_active_speakers(clients)`, loudest first.
    ActiveSpeakers { clients: Vec<Rc<ClientFacts>> },
    /// `on_admin(request)`, whose first value is the answer.
    Admin { request: Value },
}

impl HookCall {
    /// The hook that is called.
    pub fn hook(&self) -> Hook {
        match self {
            Self::ClientConnect { .. } => Hook::ClientConnect,
            Self::ClientDisconnect { .. } => Hook::ClientDisconnect,
            Self::PublishRequest { .. } => Hook::PublishRequest,
            Self::TrackPublished { .. } => Hook::TrackPublished,
            Self::TrackUnpublished { .. } => Hook::TrackUnpublished,
            Self::SubscribeRequest { .. } => Hook::SubscribeRequest,
            Self::Message { .. } => Hook::Message,
            Self::ActiveSpeakers { .. } => Hook::ActiveSpeakers,
            Self::Admin { .. } => Hook::Admin,
        }
    }

    /// The hook's row in the table of hooks.
    pub fn spec(&self) -> &'static HookSpec {
        self.hook().spec()
    }

    /// The name of the Lua function.
    pub fn name(&self) -> &'static str {
        self.spec().name
    }

    /// True when the hook's first return value is a verdict.
    pub fn decides(&self) -> bool {
        self.spec().decides
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
            Self::ActiveSpeakers { .. } | Self::Admin { .. } => None,
        }
    }
}

/// The decision of a hook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The hook returned the boolean `true`, or it is one that does not decide.
    Allow,
    /// Anything else, with the reason for the client.
    Reject(String),
}

/// Something that a script asks the room to do. Actions are applied in order, in one step with the hook's verdict.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// `client:kick(reason)`.
    Kick { client: ClientId, reason: String },
    /// `client:send(value)`.
    Send { client: ClientId, value: Value },
    /// `sfu.broadcast(value, except?)`.
    Broadcast { value: Value, except: Option<ClientId> },
    /// `client:set_max_bitrate(bps)`: what it may publish, in bit/s; `None` lifts the limit.
    SetMaxBitrate { client: ClientId, bps: Option<u64> },
    /// `client:set_max_layer(track, n)`: the highest layer it receives of a track, 0 the lowest; `None` lifts the limit.
    SetMaxLayer { client: ClientId, track: TrackId, layer: Option<u8> },
    /// `client:mute(track)` and `client:unmute(track)`.
    SetMuted { client: ClientId, track: TrackId, muted: bool },
    /// `sfu.set_audio_last_n(n)`: how many of the room are heard at once; `None`: everybody.
    SetAudioLastN { n: Option<usize> },
    /// `sfu.close(reason)`.
    CloseRoom { reason: String },
    /// `sfu.webhook(event, data)`.
    Webhook { event: String, data: Value },
}

/// The result of one hook. A hook that failed has no actions.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    pub verdict: Verdict,
    pub actions: Vec<Action>,
    /// True when the script failed (by an error, its CPU time or its memory); the log has the details.
    pub failed: bool,
    /// True when the script does not define the hook.
    pub missing: bool,
    /// Why the event was not brought before the script, or not decided by it; the text is for the client.
    pub refused: Option<String>,
    /// What `on_admin` has answered.
    pub answer: Option<Value>,
}
