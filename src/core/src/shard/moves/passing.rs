//! What comes to one shard for a client that is at another: commands and actions, in their order.

use std::time::Instant;

use super::{Due, MAX_HELD};
use crate::command::{Command, ForMoved, LeaveCause, MoveMessage, PlaceMessage};
use crate::shard::Shard;
use moonring_policy::hook::Action;
use moonring_wire::id::{ClientId, PlaceId, RoomId, RoomKey};
use moonring_wire::packet::SendBatch;

impl Shard {
    /// A message about a client's move.
    pub(in crate::shard) fn hear_of_move(
        &mut self,
        now: Instant,
        (from, room): (PlaceId, &RoomId),
        message: MoveMessage,
    ) {
        match message {
            MoveMessage::Expect(expected) => self.expect_client(now, (from, room.clone()), *expected),
            MoveMessage::Freeze(id) => self.freeze(now, from, &id),
            MoveMessage::Moved(moved) => self.take_moved(now, (from, room.clone()), &moved),
            MoveMessage::Departed { client, from: place } => self.client_departed(now, (from, room), client, place),
            MoveMessage::Arrived(client) => self.client_arrived(now, (from, room), &client),
            MoveMessage::Noted { client, from: place } => self.hear_noted(now, room, client, place),
            MoveMessage::Passed(told) => self.moves.due.push_back(Due::Told(*told)),
            MoveMessage::Complete(id) => self.is_complete(&id),
        }
    }

    /// The control plane has sent all that it had for a client that has left.
    pub(in crate::shard) fn route_moved(&mut self, id: &ClientId) {
        if let Some(departed) = self.moves.departed.get_mut(id) {
            departed.is_routed = true;
        }
        self.tell_complete(id);
    }

    pub(super) fn tell_complete(&mut self, id: &ClientId) {
        if let Some(departed) = self.moves.departed.get(id).filter(|departed| departed.is_complete()) {
            let (room, to) = (departed.room.clone(), departed.to);
            self.say_of(room, to, PlaceMessage::Move(MoveMessage::Complete(id.clone())));
        }
    }

    /// A command that can be carried out here and now; one for a client that is elsewhere is passed on, one for a client that is
    /// not complete waits.
    pub(in crate::shard) fn command_here(&mut self, now: Instant, command: Command) -> Option<Command> {
        if !self.moves.are_under_way() {
            return Some(command);
        }
        match self.told_here(now, ForMoved::Command(Box::new(command)))? {
            ForMoved::Command(command) => Some(*command),
            ForMoved::Action(_) => None,
        }
    }

    /// Does what a policy wants done, here or where its client is.
    pub(in crate::shard) fn apply(&mut self, now: Instant, room: RoomKey, action: Action) {
        if !self.moves.are_under_way() {
            return self.apply_here(now, room, action);
        }
        if let Some(ForMoved::Action(action)) = self.told_here(now, ForMoved::Action(action)) {
            self.apply_here(now, room, action);
        }
    }

    fn told_here(&mut self, now: Instant, told: ForMoved) -> Option<ForMoved> {
        let Some(id) = told.client().cloned() else { return Some(told) };
        let expected = self.moves.expected.get_mut(&id).map(|expected| &mut expected.held);
        let is_here =
            self.index.clients.get(&id).and_then(|key| self.world.clients.get(*key)).is_some_and(|c| c.far.is_none());
        if let Some(arriving) = self.moves.arriving.get_mut(&id) {
            if arriving.held.len() < MAX_HELD {
                arriving.held.push(told);
            } else if let Some(key) = self.index.clients.get(&id).copied() {
                let words = "it has asked for too much while it moved from one shard to another";
                self.remove_client(now, key, LeaveCause::Limit(words.to_owned()), words);
            }
            return None;
        }
        if is_here {
            return Some(told);
        }
        // Also what comes after all that was to come: a goodbye that was under way.
        if let Some(departed) = self.moves.departed.get(&id) {
            let (room, to) = (departed.room.clone(), departed.to);
            let is_offer = matches!(&told, ForMoved::Command(command) if matches!(**command, Command::Offer(_)));
            // At another node it comes over a new connection, for which offers without an answer are made again.
            if self.world.links.is_near(to) || !is_offer {
                self.say_of(room, to, PlaceMessage::Move(MoveMessage::Passed(Box::new(told))));
            }
            return None;
        }
        match (expected, &told) {
            // The control plane was quicker than the former place.
            (Some(held), ForMoved::Command(_)) if held.len() < MAX_HELD => {
                held.push(told);
                None
            }
            _ => Some(told),
        }
    }

    /// Does what was passed on, and what has waited for that.
    pub(in crate::shard) fn do_what_is_due(&mut self, now: Instant, out: &mut SendBatch) {
        while let Some(due) = self.moves.due.pop_front() {
            match due {
                Due::Told(ForMoved::Command(command)) => {
                    self.begin_command(&command);
                    self.carry_out(now, *command, out);
                }
                Due::Told(ForMoved::Action(action)) => {
                    let client = action.client().and_then(|id| self.index.clients.get(id));
                    let room = client.and_then(|key| self.world.clients.get(*key)).map(|client| client.room);
                    if let Some(room) = room {
                        self.apply_here(now, room, action);
                    }
                }
                Due::Datagram { client, is_selected, mut bytes } => {
                    let passed = self.receive_passed(now, (client, is_selected), &mut bytes, out);
                    if let Err(reason) = passed {
                        self.report.counters.drops.count(reason);
                    }
                }
            }
        }
    }
}
