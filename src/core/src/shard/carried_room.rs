//! What goes on of a room, beside its clients, its tracks and its policy, where another process or another node has it from then on.

use std::collections::BTreeSet;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::Shard;
use crate::room::Room;
use moonring_policy::client::Announced;
use moonring_wire::id::{ClientId, RoomKey, TrackId};

/// See the module.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct CarriedRoom {
    /// Who is told of, in the order of telling.
    announced: Vec<ClientId>,
    announcing: Option<Announced>,
    /// Not all who are in it are told of as it says yet.
    is_announcing: bool,
    audio_last_n: Option<u32>,
    gone: Vec<TrackId>,
}

impl CarriedRoom {
    /// Of a room of whose clients these are told of where it goes on.
    pub(super) fn of(room: &Room, announced: Vec<ClientId>) -> Self {
        Self {
            announced,
            announcing: room.announcing.wanted,
            is_announcing: room.announcing.is_pending,
            audio_last_n: room.speakers.last_n().map(|n| u32::try_from(n).unwrap_or(u32::MAX)),
            gone: room.gone.iter().cloned().collect(),
        }
    }
}

impl Shard {
    /// A room goes on here, with its clients.
    pub(super) fn carry_on(&mut self, now: Instant, key: RoomKey, carried: &CarriedRoom) {
        let clients = carried.announced.iter().filter_map(|id| self.index.clients.get(id).copied());
        let is_announced = |key: &_| self.world.clients.get(*key).is_some_and(|client| client.is_announced);
        let announced: Vec<_> = clients.filter(is_announced).collect();
        let Some(room) = self.world.rooms.get_mut(key) else { return };
        // In the order that newcomers are told in, which is that of coming.
        if are_the_same(&announced, &room.announced) {
            room.announced = announced;
        }
        room.life.lived = true;
        (room.announcing.wanted, room.announcing.is_pending) = (carried.announcing, carried.is_announcing);
        room.gone = carried.gone.iter().take(Room::GONE_TRACKS).cloned().collect();
        room.speakers.set_last_n(carried.audio_last_n.map(|n| n as usize));
        if carried.is_announcing {
            room.announcing.changed = Some(now);
            self.attend(key);
        }
    }
}

/// Whether two lists have the same in any order, and nothing twice.
pub(super) fn are_the_same<T: Ord>(some: &[T], others: &[T]) -> bool {
    let [some_set, others_set] = [some, others].map(|list| list.iter().collect::<BTreeSet<_>>());
    some.len() == some_set.len() && some.len() == others.len() && some_set == others_set
}
