//! What the shard has to tell the control plane, until that takes it: bounded in number and in bytes.
//!
//! From [`MAX_EVENTS`] or [`MAX_EVENT_BYTES`] on the shard is backed up: the event loop takes no further command and no
//! script is woken until some have been taken. What comes of media and of time alone goes on. If that, too, adds up to
//! [`LAST_EVENTS`] or [`LAST_EVENT_BYTES`], what is told from then on is lost, and a client that was to be told ends: it
//! would not know its room any more. The end of a client and of a room is always kept, which is one event for each, and
//! so are the answers to commands, which are not taken then.

use std::collections::{BTreeSet, VecDeque};
use std::time::Instant;

use super::Shard;
use crate::command::{Event, LeaveCause};
use moonring_wire::id::ClientId;

/// Events that wait before the shard is backed up: as many as the control plane's own queue takes.
const MAX_EVENTS: usize = 16_384;
/// Their bytes, about; what several events share counts once.
const MAX_EVENT_BYTES: usize = 32 * 1024 * 1024;
/// Events after which further ones are lost: one command may tell all of a room of 500 of 256 tracks.
const LAST_EVENTS: usize = 16 * MAX_EVENTS;
/// Their bytes, likewise.
const LAST_EVENT_BYTES: usize = 4 * MAX_EVENT_BYTES;
/// Events that a queue keeps memory for while it is empty.
const KEPT_CAPACITY: usize = 1_024;
/// What a client is told that could not be told of something.
const UNHEARD: &str = "the server could not keep up, please join again";

/// The events that wait, oldest first, each with its bytes as it was added.
#[derive(Debug, Default)]
pub(super) struct Outgoing {
    queue: VecDeque<(Event, usize)>,
    bytes: usize,
    /// Clients that something was to be told which is lost.
    unheard: BTreeSet<ClientId>,
    lost: u64,
}

impl Outgoing {
    pub(super) fn push(&mut self, event: Event) {
        if self.is_full() && !is_always_kept(&event) {
            self.lost += 1;
            self.unheard.extend(event.client().cloned());
            return;
        }
        let bytes = event.share();
        self.bytes += bytes;
        self.queue.push_back((event, bytes));
    }

    pub(super) fn pop(&mut self) -> Option<Event> {
        let (event, bytes) = self.queue.pop_front()?;
        self.bytes -= bytes;
        if self.queue.is_empty() {
            self.queue.shrink_to(KEPT_CAPACITY);
        }
        Some(event)
    }

    pub(super) fn is_backed_up(&self) -> bool {
        self.queue.len() >= MAX_EVENTS || self.bytes >= MAX_EVENT_BYTES
    }

    pub(super) fn is_full(&self) -> bool {
        self.queue.len() >= LAST_EVENTS || self.bytes >= LAST_EVENT_BYTES
    }

    /// Events that were lost so far.
    pub(super) fn lost(&self) -> u64 {
        self.lost
    }

    /// Whether somebody is to be ended by [`Shard::end_unheard`].
    pub(super) fn has_unheard(&self) -> bool {
        !self.unheard.is_empty()
    }
}

/// What each client, room or command has one of.
fn is_always_kept(event: &Event) -> bool {
    // Two shards would not agree on a room any more.
    let is_between_shards = matches!(event, Event::ToPlace { .. } | Event::Moved { .. });
    let is_of_one =
        matches!(event, Event::Left { .. } | Event::RoomClosed(_) | Event::Called { .. } | Event::Report { .. });
    is_of_one || is_between_shards
}

impl Shard {
    /// True while so much waits for [`Shard::poll_event`] that no further command should be brought: scripts are not
    /// woken either.
    pub fn is_backed_up(&self) -> bool {
        self.work.events.is_backed_up()
    }

    /// Ends the clients that something could not be told.
    pub(super) fn end_unheard(&mut self, now: Instant) {
        while let Some(id) = self.work.events.unheard.pop_first() {
            if let Some(key) = self.index.clients.get(&id).copied() {
                self.remove_client(now, key, LeaveCause::Later(UNHEARD.to_owned()), UNHEARD);
            }
        }
    }
}

#[cfg(test)]
mod tests;
