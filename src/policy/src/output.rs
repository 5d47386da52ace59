//! The outputs of the engine: outcomes and actions for the rooms, requests to services outside of the shard.

use std::time::Duration;

use super::failure::ReloadError;
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
}

impl PolicyRequest {
    /// Bytes of the host that it takes.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Http(http) => {
                let headers: usize = http.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
                http.url.len() + headers + http.body.len()
            }
            Self::Shared(SharedRequest::Set { key, value: SharedValue::Text(text), .. }) => key.len() + text.len(),
            Self::Shared(_) => size_of::<Self>(),
        }
    }

    /// The reply that says that the request came to nothing.
    pub(crate) fn refused(&self, message: &str) -> PolicyReply {
        match self {
            Self::Http(_) => PolicyReply::Http(Err(message.to_owned())),
            Self::Shared(_) => PolicyReply::Shared(Err(message.to_owned())),
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

/// What the shared store holds: scalars (tables cross as JSON text).
#[derive(Clone, Debug, PartialEq)]
pub enum SharedValue {
    /// A number, what `incr` works on.
    Number(f64),
    /// A string of any bytes.
    Text(Vec<u8>),
    /// A truth value.
    Flag(bool),
}

/// An operation on the process-wide store.
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
}

/// The answer to a [`PolicyRequest`]; the script gets `nil` and the message of an error.
#[derive(Clone, Debug, PartialEq)]
pub enum PolicyReply {
    /// To [`PolicyRequest::Http`].
    Http(Result<HttpReply, String>),
    /// To [`PolicyRequest::Shared`].
    Shared(Result<Option<SharedValue>, String>),
}

impl PolicyReply {
    /// Bytes of the host that it takes.
    pub(crate) fn bytes(&self) -> usize {
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
