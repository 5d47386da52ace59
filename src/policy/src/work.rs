//! One call of a hook or of a timer's function, and the lane that it keeps its order in.

use std::net::IpAddr;
use std::rc::Rc;

use super::effects::TimerHandle;
use super::hook::{ClientFacts, HookCall};
use super::hook_table::TIMER;
use super::output::Ticket;
use moonring_wire::id::ClientId;

/// One call of a hook or of a timer's function.
#[derive(Debug)]
pub(crate) enum Work {
    /// `bytes` is what the host holds for it, queued or while its hook waits.
    Call {
        ticket: Ticket,
        call: HookCall,
        bytes: usize,
    },
    Timer(TimerHandle),
}

/// Work of one lane keeps its order. Borrowed, so that a set of lanes holds no texts.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Lane<'a> {
    Client(&'a ClientId),
    Speakers,
    Admin,
    Close,
    Timer(TimerHandle),
}

/// What a lane takes in a set of lanes, which is at least three sevenths full: an entry and its byte of control.
pub(crate) const LANE_BYTES: usize = 3 * (size_of::<Lane<'_>>() + 1);

impl Work {
    pub(crate) fn lane(&self) -> Lane<'_> {
        match self {
            Self::Call { call: HookCall::Admin { .. }, .. } => Lane::Admin,
            Self::Call { call: HookCall::Close { .. }, .. } => Lane::Close,
            Self::Call { call, .. } => call.client().map_or(Lane::Speakers, |client| Lane::Client(&client.id)),
            Self::Timer(handle) => Lane::Timer(*handle),
        }
    }

    /// Bytes of the host that it takes, queued or while its hook waits.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Call { bytes, .. } => *bytes,
            Self::Timer(_) => size_of::<Self>(),
        }
    }

    /// The same while its hook waits. What a client that joins says of itself is its own by then, as it stays with it.
    pub(crate) fn held_bytes(&self) -> usize {
        if self.is_join() { size_of::<Self>() } else { self.bytes() }
    }

    /// The name in log lines.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Call { call, .. } => call.name(),
            Self::Timer(_) => TIMER,
        }
    }

    /// The timer whose function it is.
    pub(crate) fn timer(&self) -> Option<TimerHandle> {
        match self {
            Self::Call { .. } => None,
            Self::Timer(handle) => Some(*handle),
        }
    }

    pub(crate) fn client(&self) -> Option<&Rc<ClientFacts>> {
        match self {
            Self::Call { call, .. } => call.client(),
            Self::Timer(_) => None,
        }
    }

    /// Whose message it is.
    pub(crate) fn sender(&self) -> Option<&Rc<ClientFacts>> {
        match self {
            Self::Call { call: HookCall::Message { client, .. }, .. } => Some(client),
            _ => None,
        }
    }

    pub(crate) fn is_of_speakers(&self) -> bool {
        matches!(self, Self::Call { call: HookCall::ActiveSpeakers { .. }, .. })
    }

    /// The network of the client that it is about.
    pub(crate) fn network(&self) -> Option<IpAddr> {
        self.client().map(|client| client.network())
    }

    pub(crate) fn is_of(&self, client: &ClientFacts) -> bool {
        self.client().is_some_and(|other| other.id == client.id)
    }

    pub(crate) fn is_join(&self) -> bool {
        matches!(self, Self::Call { call: HookCall::ClientConnect { .. }, .. })
    }
}
