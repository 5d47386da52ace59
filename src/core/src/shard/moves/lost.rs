//! A place is gone while clients are on their way to it or from it.

use std::time::Instant;

use super::Due;
use crate::shard::Shard;
use moonring_wire::id::{ClientId, PlaceId, RoomId};

impl Shard {
    /// Another place, or what it has said, is lost: who was to go there stays, and who is here waits for nothing from there.
    pub(in crate::shard) fn moves_without(&mut self, now: Instant, place: PlaceId) {
        self.moves.leaving.retain(|_, leaving| leaving.to != place);
        let lost: Vec<_> =
            self.moves.expected.iter().filter(|(_, e)| e.from == place).map(|(id, _)| id.clone()).collect();
        lost.iter().for_each(|id| self.expect_no_longer(now, id));
        let complete: Vec<_> =
            self.moves.arriving.iter().filter(|(_, a)| a.from == place).map(|(id, _)| id.clone()).collect();
        complete.iter().for_each(|id| self.is_complete(id));
        let gone: Vec<_> =
            self.moves.departed.iter().filter(|(_, d)| d.to == place).map(|(id, _)| id.clone()).collect();
        gone.iter().for_each(|id| self.forget_departed(now, id));
    }

    /// Nothing more comes for a client from where it was: what has waited for that is done.
    pub(super) fn is_complete(&mut self, id: &ClientId) {
        let held = self.moves.arriving.remove(id).map(|arriving| arriving.held);
        self.moves.due.extend(held.into_iter().flatten().map(Due::Told));
    }

    /// The home of a room is lost, or what it has said or heard: it has nothing more for those who were in its wing here.
    pub(in crate::shard) fn home_says_no_more(&mut self, now: Instant, room: &RoomId) {
        let waiting = self.moves.departed.iter_mut().filter(|(_, departed)| departed.room == *room);
        let waiting: Vec<_> = waiting
            .map(|(id, departed)| {
                departed.is_noted = true;
                id.clone()
            })
            .collect();
        waiting.iter().for_each(|id| self.tell_complete(id));
        self.home_notes_no_more(now, room);
    }
}
