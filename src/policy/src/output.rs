//! The outputs of the engine: outcomes and actions for the rooms, requests to services outside of the shard.

use std::time::Duration;

use super::carried::Checkpoint;
use super::failure::ReloadError;
use serde::{Deserialize, Serialize};

use super::hook::{Action, Outcome};

slotmap::new_key_type! {
    /// Dense key of a room's policy on its shard: index and generation.
    pub struct PolicyKey;
}

/// Names one submitted call until its outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ticket(pub u64);

/// Names one request until its reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PolicyRequestId(pub u64);

/// An output; drained with `PolicyEngine::poll_output` after every call of the engine.
#[derive(Debug, PartialEq)]
pub enum PolicyOutput {
    /// A submitted call has been decided.
    Outcome { ticket: Ticket, key: PolicyKey, outcome: Outcome },
    /// A script acts of its own accord: in a timer, or when a version starts.
    Actions { key: PolicyKey, actions: Vec<Action> },
    /// A script waits for something from outside; answered with `PolicyEngine::resume`.
    Request { id: PolicyRequestId, key: PolicyKey, request: PolicyRequest },
    /// What a room begins with whose server is lost.
    Checkpoint { key: PolicyKey, checkpoint: Box<Checkpoint> },
    /// A reload has come to its end.
    Reloaded {
        key: PolicyKey,
        /// The version that runs now, or why the old version goes on.
        result: Result<u64, ReloadError>,
    },
}

/// A request of a script to a service outside of the shard.
#[derive(Clone, Debug, PartialEq)]
pub enum PolicyRequest {
    /// `sfu.http(request)`.
    Http(HttpRequest),
    /// `sfu.shared.*`.
    Shared(SharedRequest),
    /// `sfu.store.*`.
    Store(StoreSpace, SharedRequest),
}

/// Whose keys an operation of `sfu.store` is about; a key of one space is another one than the same key of another.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum StoreSpace {
    /// Of the room that asks, as long as it runs the script of this name.
    Room {
        /// The path below the scripts folder.
        script: String,
    },
    /// Of all rooms together: `sfu.store.global.*`.
    Global,
}

impl PolicyRequest {
    /// Bytes of the host that it takes.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Http(http) => {
                let headers: usize = http.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
                http.url.len() + headers + http.body.len()
            }
            Self::Shared(request) | Self::Store(_, request) => size_of::<Self>() + request.bytes(),
        }
    }

    /// The reply that says that the request came to nothing.
    pub fn refused(&self, message: &str) -> PolicyReply {
        match self {
            Self::Http(_) => PolicyReply::Http(Err(message.to_owned())),
            Self::Shared(_) | Self::Store(..) => PolicyReply::Shared(Err(message.to_owned())),
        }
    }
}

/// An HTTP request of a script. Nothing of it has been checked against the allow-list of hosts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpRequest {
    /// `GET`, `POST`, ... in capitals.
    pub method: String,
    /// As the script wrote it.
    pub url: String,
    /// Names and values.
    pub headers: Vec<(String, String)>,
    /// Empty when there is none.
    pub body: Vec<u8>,
    /// How long the script wants to wait.
    pub timeout: Duration,
}

/// What the stores hold: scalars (tables cross as JSON text).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum SharedValue {
    /// A number, what `incr` works on.
    Number(f64),
    /// A string of any bytes.
    Text(Vec<u8>),
    /// A truth value.
    Flag(bool),
}

/// An operation on a store: `sfu.shared`, which all rooms of the process share, or `sfu.store`, which lasts.
#[derive(Clone, Debug, PartialEq)]
pub enum SharedRequest {
    /// Answers the value, or none.
    Get { key: String },
    /// Answers none.
    Set {
        key: String,
        value: SharedValue,
        /// How long it lives; `None` until it is pushed out.
        ttl: Option<Duration>,
    },
    /// Answers none.
    Delete { key: String },
    /// Adds to a number, in one step for the whole process; an absent one counts as 0. Answers the sum.
    Incr {
        key: String,
        by: f64,
        /// How long it lives when this creates it.
        ttl: Option<Duration>,
    },
    /// Sets or deletes a value if it is the one that is expected, in one step; what lives for a time lives on for the
    /// rest of it. Answers whether it was.
    CompareAndSet {
        key: String,
        /// `None`: there is no entry.
        expected: Option<SharedValue>,
        /// `None`: there is to be no entry.
        value: Option<SharedValue>,
    },
}

impl SharedRequest {
    /// Bytes of its key and of its values.
    fn bytes(&self) -> usize {
        let of = |value: &SharedValue| if let SharedValue::Text(text) = value { text.len() } else { 0 };
        match self {
            Self::Get { key } | Self::Delete { key } | Self::Incr { key, .. } => key.len(),
            Self::Set { key, value, .. } => key.len() + of(value),
            Self::CompareAndSet { key, expected, value } => {
                key.len() + expected.as_ref().map_or(0, of) + value.as_ref().map_or(0, of)
            }
        }
    }

    /// The key that it is about.
    pub fn key(&self) -> &str {
        match self {
            Self::Get { key }
            | Self::Delete { key }
            | Self::Incr { key, .. }
            | Self::Set { key, .. }
            | Self::CompareAndSet { key, .. } => key,
        }
    }

    /// The same, to be changed.
    pub fn key_mut(&mut self) -> &mut String {
        match self {
            Self::Get { key }
            | Self::Delete { key }
            | Self::Incr { key, .. }
            | Self::Set { key, .. }
            | Self::CompareAndSet { key, .. } => key,
        }
    }
}

/// The answer to a [`PolicyRequest`]; the script gets `nil` and the message of an error.
#[derive(Clone, Debug, PartialEq)]
pub enum PolicyReply {
    /// To [`PolicyRequest::Http`].
    Http(Result<HttpReply, String>),
    /// To [`PolicyRequest::Shared`] and [`PolicyRequest::Store`].
    Shared(Result<Option<SharedValue>, String>),
}

impl PolicyReply {
    /// Bytes of the host that it takes.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Http(Ok(reply)) => {
                let headers: usize = reply.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
                headers + reply.body.len()
            }
            Self::Shared(Ok(Some(SharedValue::Text(text)))) => text.len(),
            _ => size_of::<Self>(),
        }
    }

    /// The same reply with an error in the place of its content.
    pub(crate) fn refused(&self, message: &str) -> Self {
        match self {
            Self::Http(_) => Self::Http(Err(message.to_owned())),
            Self::Shared(_) => Self::Shared(Err(message.to_owned())),
        }
    }
}

/// An HTTP response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpReply {
    /// 200, 404, ...
    pub status: u16,
    /// Names in lower case, and values.
    pub headers: Vec<(String, String)>,
    /// What came, bounded by the settings of the control plane.
    pub body: Vec<u8>,
}
