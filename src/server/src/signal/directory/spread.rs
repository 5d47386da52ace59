//! On which shard each client of a room is: with all the others, or on one with time to spare.

use super::{Directory, Membership, Placement, RoomEntry, Route, State};
use crate::config::RoomSpread;
use crate::shard_handle::Full;
use moonring_core::command::Command;
use moonring_core::report::ShardReport;
use moonring_wire::id::{PlaceId, RoomId};

/// A shard takes further clients of its rooms while it is busy for less than this share of its time, in thousandths.
const BUSY: u32 = 600;
/// What a client adds to that until the shard tells of it, about.
const CLIENT: u32 = 5;

/// How busy a shard is.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Load {
    /// As it has told, in thousandths of its time.
    told: u32,
    /// Clients that were sent there since.
    sent: u32,
}

impl Load {
    fn score(self) -> u32 {
        self.told + self.sent * CLIENT
    }
}

impl Directory {
    /// Takes in how busy a shard is.
    pub(in crate::signal) fn note_load(&self, shard: usize, report: &ShardReport) {
        *self.state().load(shard) = Load { told: report.busy_permille, sent: 0 };
    }
}

impl State {
    fn load(&mut self, shard: usize) -> &mut Load {
        if self.loads.len() <= shard {
            self.loads.resize(shard + 1, Load::default());
        }
        &mut self.loads[shard]
    }

    /// The shard for one more client of a room that has been placed.
    pub(super) fn seat(&mut self, room: &RoomId, spread: RoomSpread, shards: usize) -> usize {
        let scores: Vec<u32> = (0..shards).map(|shard| self.load(shard).score()).collect();
        let Some(placement) = self.rooms.get_mut(room) else { return 0 };
        let home = placement.shard;
        let shard = match spread {
            RoomSpread::Never => home,
            RoomSpread::Always => (home + placement.entered) % shards.max(1),
            RoomSpread::Load => quietest(home, &placement.wings, &scores),
        };
        placement.clients += 1;
        placement.entered += 1;
        if shard != home && !placement.wings.contains(&shard) {
            placement.wings.push(shard);
        }
        self.load(shard).sent += 1;
        shard
    }

    /// The route of a client and the home of its room.
    fn way(&mut self, member: &Membership) -> Option<(usize, PlaceId)> {
        let Route { shard, room, .. } = self.current(member)?;
        let (shard, room) = (*shard, room.clone());
        let home = self.rooms.get(&room).map_or(shard, |placement| placement.shard);
        Some((shard, PlaceId(u16::try_from(home).ok()?)))
    }
}

/// Home while it has time, else another shard of the room that has, else the one with most.
fn quietest(home: usize, wings: &[usize], scores: &[u32]) -> usize {
    let has_time = |shard: &usize| scores.get(*shard).is_some_and(|score| *score < BUSY);
    let known = [home].into_iter().chain(wings.iter().copied()).find(has_time);
    known.or_else(|| (0..scores.len()).min_by_key(|shard| scores[*shard])).unwrap_or(home)
}

impl Membership {
    /// Sends a command to the client's shard.
    pub(crate) fn send(&self, command: Command) -> Result<(), Full> {
        let way = self.directory.state().way(self);
        let is_join = matches!(command, Command::Join(_));
        let command = match (command, way) {
            (Command::Join(request), Some((shard, home))) if usize::from(home.0) != shard => {
                Command::JoinWing { home, request }
            }
            (command, _) => command,
        };
        let sent = match way.and_then(|(shard, _)| self.directory.0.shards.get(shard)) {
            Some(handle) => handle.send(command),
            None => Err(Full(Box::new(command))),
        };
        if is_join && sent.is_err() {
            // The shard has never heard of it, and needs no goodbye.
            self.directory.state().remove(&self.client);
        }
        sent
    }
}

pub(super) fn entry((room, placement): (&RoomId, &Placement)) -> RoomEntry {
    let Placement { shard, wings, clients, .. } = placement;
    RoomEntry { room: room.clone(), shard: *shard, clients: *clients, wings: wings.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_goes_home_then_where_the_room_is_then_where_there_is_most_time() {
        for (wings, scores, expected) in [
            (&[][..], &[599, 0, 0][..], 0),
            (&[2], &[600, 0, 599], 2),
            (&[2], &[700, 100, 650], 1),
            (&[], &[900, 950, 990], 0),
            (&[1], &[990, 950, 900], 2),
        ] {
            assert_eq!(quietest(0, wings, scores), expected, "{wings:?} {scores:?}");
        }
    }
}
