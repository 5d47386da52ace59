//! What a shard is doing, as another thread can see it: for the watchdog.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use moonring_core::command::Command;

/// A shard's sign of life; clones are the same one.
#[derive(Clone, Debug, Default)]
pub struct Pulse(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    ticks: AtomicU64,
    doing: AtomicU8,
}

/// What the loop can be doing; [`Pulse::begin`] takes its place in this list.
const DOING: &[&str] = &[
    "starting",
    "sleeping until something comes",
    "receiving datagrams",
    "forwarding media",
    "timers and scripts",
    "sending",
    "handing events over",
    "the goodbye",
    "a join",
    "an offer",
    "an unpublish",
    "an unsubscribe",
    "a mute",
    "a view's size",
    "a layer",
    "a snapshot",
    "a message to a script",
    "an answer for a script",
    "new scripts",
    "a report of rooms",
    "an end of a silent client",
    "a leave",
    "an order about a policy",
    "an operator's call",
    "an operator's act",
    "the opening of a room",
    "the end of an empty room",
    "a watch on a room",
    "a join to a spread room",
    "a message of another shard",
    "the loss of messages",
    "the beginning of a move",
    "the end of a move",
    "the links to other nodes",
    "a node that is away",
    "a script of the process before",
    "the move of a home",
    "the claim of a home",
    "a room whose home is gone",
    "the news of a home",
    "a list of clients",
    "the hand-over to another process",
    "new addresses for clients",
    "a look at its links",
    "a checkpoint of a room",
];

/// Places in [`DOING`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Doing {
    Sleep = 1,
    Datagrams,
    Forward,
    Timers,
    Flush,
    Events,
    Goodbye,
    HandOver = 41,
}

impl Pulse {
    /// One more tick has begun.
    pub(crate) fn beat(&self) {
        self.0.ticks.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn begin(&self, doing: Doing) {
        self.0.doing.store(doing as u8, Ordering::Relaxed);
    }

    pub(super) fn begin_command(&self, command: &Command) {
        self.0.doing.store(place_of(command), Ordering::Relaxed);
    }

    /// How often the loop went round.
    pub fn ticks(&self) -> u64 {
        self.0.ticks.load(Ordering::Relaxed)
    }

    /// Whether the shard was told to stop, and says goodbye.
    pub fn is_ending(&self) -> bool {
        self.0.doing.load(Ordering::Relaxed) == Doing::Goodbye as u8
    }

    /// It stands still until it is known whether another process goes on with it.
    pub(crate) fn begin_hand_over(&self) {
        self.begin(Doing::HandOver);
    }

    /// Whether it stands still for that.
    pub(crate) fn is_handing_over(&self) -> bool {
        self.0.doing.load(Ordering::Relaxed) == Doing::HandOver as u8
    }

    /// What it does now, in words.
    pub fn doing(&self) -> &'static str {
        DOING.get(usize::from(self.0.doing.load(Ordering::Relaxed))).copied().unwrap_or("something unknown")
    }
}

fn place_of(command: &Command) -> u8 {
    match command {
        Command::Join(_) => 8,
        Command::Offer(_) => 9,
        Command::Unpublish { .. } => 10,
        Command::Unsubscribe { .. } => 11,
        Command::SetMuted { .. } => 12,
        Command::SetView { .. } => 13,
        Command::SetLayer { .. } => 14,
        Command::Snapshot { .. } => 15,
        Command::Message { .. } => 16,
        Command::PolicyReply { .. } => 17,
        Command::Scripts(_) => 18,
        Command::Report { .. } => 19,
        Command::LeaveIfSilent { .. } => 20,
        Command::Leave { .. } => 21,
        Command::Policy { .. } => 22,
        Command::Call { .. } => 23,
        Command::Act { .. } => 24,
        Command::Open { .. } => 25,
        Command::CloseIfEmpty { .. } => 26,
        Command::Watch { .. } => 27,
        Command::JoinWing { .. } => 28,
        Command::FromPlace { .. } => 29,
        Command::PlaceLost { .. } => 30,
        Command::Move { .. } => 31,
        Command::RouteMoved { .. } => 32,
        Command::Peers(_) => 33,
        Command::PlaceAway { .. } => 34,
        Command::PolicyCarried { .. } => 35,
        Command::MoveHome { .. } => 36,
        Command::HomeClaimed { .. } => 37,
        Command::BecomeHome { .. } => 38,
        Command::HomeIs { .. } => 39,
        Command::ListClients { .. } => 40,
        Command::Candidates { .. } => 42,
        Command::TellLinks => 43,
        Command::CheckpointFound { .. } => 44,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use moonring_wire::id::ClientId;

    #[test]
    fn a_pulse_says_what_is_being_done() {
        let pulse = Pulse::default();
        assert_eq!((pulse.ticks(), pulse.doing()), (0, "starting"));
        pulse.beat();
        for (doing, words) in [
            (Doing::Sleep, "sleeping until something comes"),
            (Doing::Flush, "sending"),
            (Doing::Goodbye, "the goodbye"),
            (Doing::HandOver, "the hand-over to another process"),
        ] {
            pulse.begin(doing);
            assert_eq!((pulse.ticks(), pulse.doing()), (1, words));
        }
        let leave = Command::Leave { client: ClientId::parse("c").unwrap(), reason: String::new() };
        pulse.begin_command(&leave);
        assert_eq!(pulse.clone().doing(), "a leave");
        assert_eq!(DOING[usize::from(place_of(&leave))..].len(), 24, "what came later stands behind");
    }
}
