//! What an engine is told, and what it answers.

use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use mio::Waker;
use moonring_wire::id::Mid;
use moonring_wire::media::CodecName;
use tokio::sync::oneshot;

use super::link::LinkCounts;
use super::snapshot::Snapshot;
use super::viewer::{View, Viewing};

/// What an engine is told.
#[derive(Debug)]
pub enum Command {
    /// Makes a peer, or adds sections to it, and describes it.
    Describe {
        /// The peer's number.
        client: usize,
        /// When its user began to join.
        began: Instant,
        /// Sending sections to add.
        publish: Vec<CodecName>,
        /// Receiving sections to add.
        receive: Vec<CodecName>,
        /// Of a subscriber that is watched: its link, and what it should see.
        viewing: Option<Viewing>,
        /// Gets the description.
        reply: oneshot::Sender<Description>,
    },
    /// Takes the server's answer.
    Answer {
        /// The peer's number.
        client: usize,
        /// The answer's text.
        sdp: String,
    },
    /// Says which layers of a published section somebody receives.
    Wanted {
        /// The peer's number.
        client: usize,
        /// The section.
        mid: Mid,
        /// The layers, 0 the lowest.
        layers: Vec<u8>,
    },
    /// Has a peer restart ICE, and describes it.
    Restart {
        /// The peer's number.
        client: usize,
        /// Gets the description.
        reply: oneshot::Sender<Description>,
    },
    /// A client has gone on over another connection of its signalling.
    Resumed {
        /// What that took.
        time: Duration,
    },
    /// A peer is about to leave: that the server ends it is no failure any more.
    Leaves {
        /// The peer's number.
        client: usize,
        /// Told when the engine knows: the goodbye can be said.
        known: oneshot::Sender<()>,
    },
    /// Ends a peer.
    Close {
        /// The peer's number.
        client: usize,
    },
    /// Tells what went through since the last time.
    Snapshot(Sender<Snapshot>),
    /// Lifts the limits of all links.
    Lift,
    /// Tells what subscribers behind links saw.
    Views(Sender<Views>),
    /// Ends the engine.
    Quit,
}

/// An offer.
#[derive(Clone, Debug)]
pub struct Description {
    /// Its text.
    pub sdp: String,
    /// The added sending sections.
    pub published: Vec<Mid>,
    /// The added receiving sections.
    pub received: Vec<Mid>,
}

/// What subscribers behind links saw, and what came to the links.
#[derive(Clone, Debug, Default)]
pub struct Views {
    /// Of each subscriber: its link's number, and what it saw while that was limited and then, if it was, after that.
    pub subscribers: Vec<(usize, Vec<View>)>,
    /// Of each link.
    pub links: Vec<LinkCounts>,
}

impl Views {
    /// Adds another engine's, which has the same links.
    pub fn merge(&mut self, other: Self) {
        self.subscribers.extend(other.subscribers);
        self.links.resize_with(self.links.len().max(other.links.len()), LinkCounts::default);
        self.links.iter_mut().zip(&other.links).for_each(|(ours, theirs)| ours.merge(theirs));
    }
}

/// Tells an engine what to do, from any thread.
#[derive(Clone, Debug)]
pub struct Handle {
    pub(super) commands: Sender<Command>,
    pub(super) waker: Arc<Waker>,
}

impl Handle {
    /// Sends a command; false when the engine is gone.
    pub fn send(&self, command: Command) -> bool {
        self.commands.send(command).is_ok() && self.waker.wake().is_ok()
    }
}
