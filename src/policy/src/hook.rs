//! The interface between a room and its policy: hook calls in, outcomes and actions out.

use std::rc::Rc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::client::{Announced, CloseReason, RightsChange};
pub use super::client::{ClientFacts, PathFigures, Presence, Traffic};
use super::hook_table::{Hook, HookSpec};
use moonring_wire::id::{ClientId, TrackId};
use moonring_wire::media::TrackInfo;
use moonring_wire::shared::as_text;

/// The reason that a client is given when the script does not define the hook that would decide.
pub const NOT_DEFINED: &str = "Policy not defined";
/// The reason that a client is given when the script fails.
pub const SCRIPT_ERROR: &str = "Internal script error";
/// The reason that a client is given when the script rejects its request without one.
pub const DENIED: &str = "Permission denied by script";
/// The reason that a client is given when it has no right to publish a source.
pub const MAY_NOT_PUBLISH: &str = "You may not publish this here";
/// The reason that a client is given when it has no right to receive.
pub const MAY_NOT_SUBSCRIBE: &str = "You may not receive tracks here";
/// The reason that a client is given when it has no right to send messages.
pub const MAY_NOT_MESSAGE: &str = "You may not send messages here";
/// The reason that a client is given when the policy ends a track or a subscription of it without one.
pub const ENDED: &str = "The room has ended it";
/// The same when that is because of its rights.
pub const RIGHTS_CHANGED: &str = "Your rights have changed";
/// The reason that a client is given when its events make hooks fail again and again.
pub const FAILS_TOO_OFTEN: &str = "What you sent made the room's script fail too often";

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
    /// `on_close(reason)`.
    Close { reason: CloseReason },
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
            Self::Close { .. } => Hook::Close,
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
            Self::ActiveSpeakers { .. } | Self::Admin { .. } | Self::Close { .. } => None,
        }
    }
}

/// The decision of a hook.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verdict {
    /// The hook returned the boolean `true`, or it is one that does not decide.
    Allow,
    /// Anything else, with the reason for the client.
    Reject(String),
    /// The script has not decided: why, and the reason for the client.
    Undecided(Undecided, String),
}

impl Verdict {
    /// The reason for the client, unless it is allowed.
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Allow => None,
            Self::Reject(reason) | Self::Undecided(_, reason) => Some(reason),
        }
    }
}

/// Why a script has not decided on what it was to decide on. Of all but the first, whoever asks again may be allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Undecided {
    /// It fails, by an error, its CPU time or its memory.
    Failed,
    /// As many wait for it as may.
    Crowded,
    /// It had no memory left, or a reload has ended the hook.
    CutOff,
    /// It is at another place, which has not answered: it may have decided.
    Unheard,
}

/// The priority of tracks that the script has said nothing of.
pub const DEFAULT_PRIORITY: u8 = 1;

/// Something that a script asks the room to do. Actions are applied in order, in one step with the hook's verdict.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Action {
    /// `client:kick(reason)`.
    Kick { client: ClientId, reason: String },
    /// `client:send(value)`.
    Send {
        client: ClientId,
        #[serde(with = "as_text")]
        value: Value,
    },
    /// `sfu.broadcast(value, except?)`.
    Broadcast {
        #[serde(with = "as_text")]
        value: Value,
        except: Option<ClientId>,
    },
    /// `client:set_max_bitrate(bps)`: what it may publish, in bit/s; `None` lifts the limit.
    SetMaxBitrate { client: ClientId, bps: Option<u64> },
    /// `client:set_max_layer(track, n)`: the highest layer it receives of a track, 0 the lowest; `None` lifts the limit.
    SetMaxLayer { client: ClientId, track: TrackId, layer: Option<u8> },
    /// `client:set_priority(track, n)`: of what it receives, tracks of a higher priority are served first; `None` is
    /// [`DEFAULT_PRIORITY`].
    SetPriority { client: ClientId, track: TrackId, priority: Option<u8> },
    /// `client:mute(track)` and `client:unmute(track)`.
    SetMuted { client: ClientId, track: TrackId, muted: bool },
    /// `client:set_attributes(table)`: an object.
    SetAttributes {
        client: ClientId,
        #[serde(with = "as_text")]
        attributes: Value,
    },
    /// `client:set_rights(rights, reason?)`; the reason is for what ends because of it.
    SetRights { client: ClientId, change: RightsChange, reason: String },
    /// `client:set_hidden(hidden)`.
    SetHidden { client: ClientId, hidden: bool },
    /// `client:unpublish(track, reason?)`: a track that it publishes ends.
    Unpublish { client: ClientId, track: TrackId, reason: String },
    /// `client:unsubscribe(track, reason?)`: it receives a track no longer.
    Unsubscribe { client: ClientId, track: TrackId, reason: String },
    /// `sfu.announce(who)`.
    Announce { who: Announced },
    /// `sfu.set_audio_last_n(n)`: how many of the room are heard at once; `None`: everybody.
    SetAudioLastN { n: Option<usize> },
    /// `sfu.close(reason)`.
    CloseRoom { reason: String },
    /// `sfu.webhook(event, data)`.
    Webhook {
        event: String,
        #[serde(with = "as_text")]
        data: Value,
    },
}

impl Action {
    /// The client that it is done to; `None` for what is done to a room.
    pub fn client(&self) -> Option<&ClientId> {
        match self {
            Self::Kick { client, .. }
            | Self::Send { client, .. }
            | Self::SetMaxBitrate { client, .. }
            | Self::SetMaxLayer { client, .. }
            | Self::SetPriority { client, .. }
            | Self::SetMuted { client, .. }
            | Self::SetAttributes { client, .. }
            | Self::SetRights { client, .. }
            | Self::SetHidden { client, .. }
            | Self::Unpublish { client, .. }
            | Self::Unsubscribe { client, .. } => Some(client),
            Self::Broadcast { .. }
            | Self::Announce { .. }
            | Self::SetAudioLastN { .. }
            | Self::CloseRoom { .. }
            | Self::Webhook { .. } => None,
        }
    }
}

/// The result of one hook. A hook that failed has no actions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
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
    #[serde(with = "as_text")]
    pub answer: Option<Value>,
}
