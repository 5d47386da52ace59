//! What the engine hands out, and what it asks of the world around it.

use std::time::Duration;

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

/// What happened; drained with `PolicyEngine::poll_output` after every call of the engine.
#[derive(Debug, PartialEq)]
pub enum PolicyOutput {
    /// A submitted call has been decided.
    Outcome {
        /// Which call.
        ticket: Ticket,
        /// Which room.
        key: PolicyKey,
        /// What came out.
        outcome: Outcome,
    },
    /// A script acts on its own: a timer, or the start of a new version.
    Actions {
        /// Which room.
        key: PolicyKey,
        /// What to do, in order.
        actions: Vec<Action>,
    },
    /// A script waits for something from outside; answered with `PolicyEngine::resume`.
    Request {
        /// Which request.
        id: PolicyRequestId,
        /// Which room.
        key: PolicyKey,
        /// What it asks for.
        request: PolicyRequest,
    },
    /// A reload has come to its end.
    Reloaded {
        /// Which room.
        key: PolicyKey,
        /// The version that runs now, or what failed, where, with a traceback; then the old version runs on.
        result: Result<u64, String>,
    },
}

/// What a script asks of the world.
#[derive(Clone, Debug, PartialEq)]
pub enum PolicyRequest {
    /// `sfu.http(request)`.
    Http(HttpRequest),
    /// `sfu.shared.*`.
    Shared(SharedRequest),
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
    Get {
        /// Which entry.
        key: String,
    },
    /// Answers none.
    Set {
        /// Which entry.
        key: String,
        /// What it holds from now on.
        value: SharedValue,
        /// How long it lives; `None` until it is pushed out.
        ttl: Option<Duration>,
    },
    /// Answers none.
    Delete {
        /// Which entry.
        key: String,
    },
    /// Adds to a number, in one step for the whole process; an absent one counts as 0. Answers the sum.
    Incr {
        /// Which entry.
        key: String,
        /// How much.
        by: f64,
        /// How long it lives when this creates it.
        ttl: Option<Duration>,
    },
}

/// The answer to a [`PolicyRequest`]; an error is words for the script, which gets `nil` and the words.
#[derive(Clone, Debug, PartialEq)]
pub enum PolicyReply {
    /// To [`PolicyRequest::Http`].
    Http(Result<HttpReply, String>),
    /// To [`PolicyRequest::Shared`].
    Shared(Result<Option<SharedValue>, String>),
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
