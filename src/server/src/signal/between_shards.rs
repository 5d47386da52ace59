//! What one shard says to the others: kept until they take it, in order, or lost as a whole.

use std::collections::{BTreeMap, VecDeque};

use super::directory::Directory;
use crate::shard_handle::Full;
use moonring_core::command::{Command, MoveMessage, PlaceMessage};
use moonring_wire::id::{ClientId, PlaceId, RoomId};

/// Messages that wait for one shard whose queue is full.
const MAX_WAITING: usize = 65_536;

/// The messages of one shard that others have not taken.
#[derive(Debug)]
pub(super) struct BetweenShards {
    from: PlaceId,
    waiting: BTreeMap<usize, Waiting>,
    /// Clients that have left the shard, which it has not been told that nothing more comes for.
    moved: VecDeque<ClientId>,
}

#[derive(Debug, Default)]
struct Waiting {
    commands: VecDeque<Command>,
    /// Some are lost: the shard has to be told, before anything else.
    is_lost: bool,
}

impl BetweenShards {
    pub(super) fn new(from: usize) -> Self {
        Self { from: PlaceId(from as u16), waiting: BTreeMap::new(), moved: VecDeque::new() }
    }

    /// Whether something waits to be taken.
    pub(super) fn is_waiting(&self) -> bool {
        !self.waiting.is_empty() || !self.moved.is_empty()
    }

    /// Another shard has a client from here on; one of another node has its stay, too.
    pub(super) fn client_moved(&mut self, directory: &Directory, client: ClientId, to: PlaceId) {
        if directory.shard(to.0.into()).is_some() {
            directory.client_moved(usize::from(self.from.0), &client, to);
        }
        self.moved.push_back(client);
        self.offer(directory);
    }

    pub(super) fn send(&mut self, directory: &Directory, to: PlaceId, messages: Vec<(RoomId, PlaceMessage)>) {
        let waiting = self.waiting.entry(to.0.into()).or_default();
        if waiting.commands.len() >= MAX_WAITING {
            tracing::error!(from = self.from.0, to = to.0, "a shard takes no messages of another: some are lost");
            waiting.commands.iter().flat_map(moved_in).for_each(|client| directory.lose(client));
            waiting.commands.clear();
            waiting.is_lost = true;
        }
        if waiting.is_lost {
            // A client on its way is nowhere any more.
            messages.iter().filter_map(moved).for_each(|client| directory.lose(client));
        } else {
            waiting.commands.push_back(Command::FromPlace { from: self.from, messages });
        }
        self.offer(directory);
    }

    /// Offers again what waits.
    pub(super) fn offer(&mut self, directory: &Directory) {
        let from = self.from;
        while let (Some(client), Some(handle)) = (self.moved.front(), directory.shard(from.0.into())) {
            if handle.send(Command::RouteMoved { client: client.clone() }).is_err() {
                break;
            }
            self.moved.pop_front();
        }
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

/// The clients that move with the messages of a command.
fn moved_in(command: &Command) -> impl Iterator<Item = &ClientId> {
    let messages = if let Command::FromPlace { messages, .. } = command { &messages[..] } else { &[] };
    messages.iter().filter_map(moved)
}

fn moved((_, message): &(RoomId, PlaceMessage)) -> Option<&ClientId> {
    if let PlaceMessage::Move(MoveMessage::Moved(moved)) = message { Some(&moved.client) } else { None }
}
