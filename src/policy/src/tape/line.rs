//! The lines of a trace and of a recording: JSON objects, one a line, told apart by `line`.
//!
//! Times (`t`) are nanoseconds since the first line, which says when that was. Events are named by tickets, timers by
//! handles, waits by the numbers of their requests; they mean nothing outside of their file.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::client::{CloseReason, Connection, PathFigures};
use moonring_wire::id::{ClientId, TrackId};
use moonring_wire::media::TrackInfo;
use moonring_wire::rights::Rights;

/// The version of the format. A reader takes no other.
pub const VERSION: u32 = 1;
/// What the first line of a recording says that it is.
pub const FORMAT: &str = "moonring recording";

/// One line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "line", rename_all = "snake_case")]
pub enum Line {
    /// The first line of a recording: everything that the lines after it start from.
    Start(Box<Start>),
    /// The first line of a trace.
    Watching { room: String, script: String, version: String },
    /// An event has come.
    Event(EventLine),
    /// A deadline has come: of a timer, of a wait, of the room.
    Due {
        t: u64,
        /// When it was due, on the clock of `t`.
        at: i64,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        timer: Option<u32>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        wait: Option<u64>,
    },
    /// The answer to what a hook waits for has come.
    Reply { t: u64, wait: u64, reply: Value },
    /// A step has run.
    Step(StepLine),
    /// An event has been decided.
    Outcome { t: u64, ticket: u64, outcome: OutcomeLine },
    /// A timer, a version's start or `sfu.flush` acts.
    Actions { t: u64, actions: Vec<Value> },
    /// An operator has done something to the room, or to a client in it, from outside.
    Operator { t: u64, action: Value },
    /// The room is given another version.
    Reload { t: u64, seed: u64, unix: u64, drops_state: bool, script: Option<ScriptText> },
    /// It runs, or why not.
    Reloaded {
        t: u64,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        version: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        error: Option<String>,
    },
    /// A suspended script runs again.
    Resumed { t: u64 },
    /// The random numbers begin anew: somebody else has begun to record, too.
    Reseeded { t: u64, seeds: Seeds },
    /// Who reads was too slow for so many lines.
    Lost { lines: u64 },
    /// The last line: why there is no further one.
    End { reason: String },
}

impl Line {
    /// The time of the line, if it has one.
    pub fn t(&self) -> Option<u64> {
        match self {
            Self::Event(event) => Some(event.t),
            Self::Step(step) => Some(step.t),
            Self::Due { t, .. }
            | Self::Reply { t, .. }
            | Self::Outcome { t, .. }
            | Self::Actions { t, .. }
            | Self::Operator { t, .. }
            | Self::Reload { t, .. }
            | Self::Reloaded { t, .. }
            | Self::Resumed { t }
            | Self::Reseeded { t, .. } => Some(*t),
            Self::Start(_) | Self::Watching { .. } | Self::Lost { .. } | Self::End { .. } => None,
        }
    }
}

/// Where a recording starts from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Start {
    /// [`FORMAT`].
    pub format: String,
    /// [`VERSION`].
    pub version: u32,
    pub room: String,
    /// What whoever opened the room has said of it; an object.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub metadata: Map<String, Value>,
    /// The time of day, in nanoseconds since 1970.
    pub unix: u64,
    /// When the room was opened, on the clock of `t`: not after 0.
    pub opened: i64,
    /// The script that runs.
    pub script: ScriptText,
    /// What it finds as `sfu.config`.
    pub config: Map<String, Value>,
    pub budgets: Budgets,
    pub seeds: Seeds,
    /// Set when the recording begins in the middle of the room's life.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub middle: Option<Middle>,
}

/// A script's text, with the modules that it requires.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ScriptText {
    pub name: String,
    /// 16 hexadecimal digits.
    pub version: String,
    /// Its text, or `base64` of it when it is not UTF-8.
    pub text: Value,
    /// The texts of the modules, likewise, by their names.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub modules: Map<String, Value>,
}

/// The settings that decide what hooks may do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Budgets {
    pub step_us: u64,
    pub load_us: u64,
    pub memory_bytes: usize,
    pub state_bytes: usize,
    pub host_bytes: usize,
    pub max_queued_events: usize,
    pub max_queued_joins: usize,
    pub strikes: u32,
    pub client_strikes: u32,
}

/// Where random numbers come from: `math.random`, and `sfu.uuid` with `sfu.random_bytes`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Seeds {
    pub math: u64,
    /// 64 hexadecimal digits.
    pub bytes: String,
}

/// What a room has become by the middle of its life, as far as a new version would be told of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Middle {
    /// What `on_unload` returns, in the form of `plain::listing`; `None` when it returns nothing or fails.
    pub state: Option<Vec<Value>>,
    /// The script's `STATE_VERSION`, likewise.
    pub state_version: Option<Vec<Value>>,
    /// Who is in the room, in the order of joining.
    pub clients: Vec<ClientLine>,
    /// When the timers with names are due, on the clock of `t`.
    pub timers: Vec<(String, i64)>,
}

/// A client, as scripts know it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClientLine {
    pub client: ClientId,
    pub connection: Connection,
    pub metadata: Value,
    /// Who it is, if the script has said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<String>,
    /// What the script has said of it; an object.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub attributes: Map<String, Value>,
    #[serde(default)]
    pub rights: Rights,
    #[serde(default, skip_serializing_if = "is_false")]
    pub hidden: bool,
    /// When it asked to join, on the clock of `t`.
    pub since: i64,
    /// When it left; its last events may wait for the script still.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left: Option<i64>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tracks: Vec<TrackInfo>,
    #[serde(default)]
    pub traffic: [u64; 4],
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<PathFigures>,
}

/// What a client has come to be: its tracks, and its traffic (packets and bytes in, packets and bytes out).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SeenLine {
    pub client: ClientId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tracks: Option<Vec<TrackInfo>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traffic: Option<[u64; 4]>,
    /// How the path to it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<PathFigures>,
}

/// An event that has come.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EventLine {
    pub t: u64,
    pub ticket: u64,
    #[serde(flatten)]
    pub call: CallLine,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub seen: Vec<SeenLine>,
}

/// What the event is, by its hook.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "hook")]
pub enum CallLine {
    #[serde(rename = "on_client_connect")]
    ClientConnect { client: ClientId, facts: Box<ClientLine>, token: String },
    #[serde(rename = "on_client_disconnect")]
    ClientDisconnect { client: ClientId, reason: String },
    #[serde(rename = "on_publish_request")]
    PublishRequest { client: ClientId, track: TrackInfo },
    #[serde(rename = "on_track_published")]
    TrackPublished { client: ClientId, track: TrackInfo },
    #[serde(rename = "on_track_unpublished")]
    TrackUnpublished { client: ClientId, track: TrackInfo },
    #[serde(rename = "on_subscribe_request")]
    SubscribeRequest { client: ClientId, track: TrackInfo },
    #[serde(rename = "on_message")]
    Message { client: ClientId, message: Value },
    #[serde(rename = "on_active_speakers")]
    ActiveSpeakers { clients: Vec<ClientId> },
    #[serde(rename = "on_admin")]
    Admin { request: Value },
    #[serde(rename = "on_close")]
    Close { reason: CloseReason },
}

impl CallLine {
    /// The hook's name, the client that it is about, and the rest, for people.
    pub fn told(&self) -> (&'static str, Option<&ClientId>, Value) {
        match self {
            Self::ClientConnect { client, facts, .. } => ("on_client_connect", Some(client), facts.metadata.clone()),
            Self::ClientDisconnect { client, reason } => {
                ("on_client_disconnect", Some(client), Value::String(reason.clone()))
            }
            Self::PublishRequest { client, track } => ("on_publish_request", Some(client), told_track(track)),
            Self::TrackPublished { client, track } => ("on_track_published", Some(client), told_track(track)),
            Self::TrackUnpublished { client, track } => ("on_track_unpublished", Some(client), told_track(track)),
            Self::SubscribeRequest { client, track } => ("on_subscribe_request", Some(client), told_track(track)),
            Self::Message { client, message } => ("on_message", Some(client), message.clone()),
            Self::ActiveSpeakers { clients } => {
                ("on_active_speakers", None, clients.iter().map(|id| Value::from(id.as_str())).collect())
            }
            Self::Admin { request } => ("on_admin", None, request.clone()),
            Self::Close { reason } => ("on_close", None, reason.as_str().into()),
        }
    }

    /// The track that it is about.
    pub fn track(&self) -> Option<&TrackId> {
        match self {
            Self::PublishRequest { track, .. }
            | Self::TrackPublished { track, .. }
            | Self::TrackUnpublished { track, .. }
            | Self::SubscribeRequest { track, .. } => Some(&track.id),
            _ => None,
        }
    }
}

fn told_track(track: &TrackInfo) -> Value {
    Value::String(format!("{} {} {}", track.id, track.kind.as_str(), track.source.as_str()))
}

/// Whose step it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Of {
    /// The first step for an event.
    Ticket(u64),
    /// A timer's function.
    Timer(u32),
    /// A hook that waited goes on.
    Wait(u64),
}

/// A step that has run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepLine {
    pub t: u64,
    /// The time of day that the script saw, in nanoseconds since 1970.
    pub unix: u64,
    pub of: Of,
    /// The hook, or `timer`.
    pub hook: String,
    /// The CPU time that it took.
    pub cpu_ns: u64,
    /// What it has read of clients that had changed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub seen: Vec<SeenLine>,
    /// Signatures of tokens that it has checked, and whether they held.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub signatures: Vec<(String, bool)>,
    /// What it waits for, under this number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waits: Option<(u64, Value)>,
    /// How it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<String>,
}

/// How an event was decided.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OutcomeLine {
    pub allowed: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    #[serde(default, skip_serializing_if = "is_false")]
    pub failed: bool,
    #[serde(default, skip_serializing_if = "is_false")]
    pub missing: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<Value>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub actions: Vec<Value>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_false(flag: &bool) -> bool {
    !flag
}
