//! What one shard says to the others: kept until they take it, in order, or lost as a whole.

use std::collections::{BTreeMap, VecDeque};

use super::directory::Directory;
use crate::shard_handle::Full;
use moonring_core::command::{Command, PlaceMessage};
use moonring_wire::id::{PlaceId, RoomId};

/// Messages that wait for one shard whose queue is full.
const MAX_WAITING: usize = 65_536;

/// The messages of one shard that others have not taken.
#[derive(Debug)]
pub(super) struct BetweenShards {
    from: PlaceId,
    waiting: BTreeMap<usize, Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    commands: VecDeque<Command>,
    /// Some are lost: the shard has to be told, before anything else.
    is_lost: bool,
}

impl BetweenShards {
    pub(super) fn new(from: usize) -> Self {
        Self { from: PlaceId(from as u16), waiting: BTreeMap::new() }
    }

    /// Whether something waits to be taken.
    pub(super) fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    pub(super) fn send(&mut self, directory: &Directory, to: PlaceId, messages: Vec<(RoomId, PlaceMessage)>) {
        let waiting = self.waiting.entry(to.0.into()).or_default();
        if waiting.commands.len() >= MAX_WAITING {
            tracing::error!(from = self.from.0, to = to.0, "a shard takes no messages of another: some are lost");
            waiting.commands.clear();
            waiting.is_lost = true;
        }
        if !waiting.is_lost {
            waiting.commands.push_back(Command::FromPlace { from: self.from, messages });
        }
        self.offer(directory);
    }

    /// Offers again what waits.
    pub(super) fn offer(&mut self, directory: &Directory) {
        let from = self.from;
        self.waiting.retain(|to, waiting| {
            let Some(handle) = directory.shard(*to) else { return false };
            if waiting.is_lost {
                waiting.is_lost = handle.send(Command::PlaceLost { from }).is_err();
                return waiting.is_lost;
            }
            while let Some(command) = waiting.commands.pop_front() {
                if let Err(Full(command)) = handle.send(command) {
                    waiting.commands.push_front(*command);
                    return true;
                }
            }
            false
        });
    }
}
