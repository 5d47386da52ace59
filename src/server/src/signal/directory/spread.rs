//! On which shard each client of a room is: with all the others, or on one with time to spare.

use super::{Directory, Membership, Outlet, Placement, RoomEntry, Route, State};
use crate::config::RoomSpread;
use crate::shard_handle::Full;
use moonring_core::command::{Command, LeaveCause, MoveOrder};
use moonring_core::report::ShardReport;
use moonring_wire::id::{ClientId, PlaceId, RoomId};
use rand::seq::IteratorRandom;

/// A shard takes further clients of its rooms while it is busy for less than this share of its time, in thousandths.
const BUSY: u32 = 600;
/// A shard that is busy for more than this share is left by some of its clients, in thousandths.
const FULL: u32 = 900;
/// Clients that are asked to leave it with each of its reports, one a second.
const AWAY: usize = 10;
/// The number of a call whose answer nobody waits for.
const UNASKED: u64 = u64::MAX;
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

/// The shard of a client, and the way from there to the home of its room.
#[derive(Clone, Copy)]
struct Way {
    shard: usize,
    home: PlaceId,
    /// The home, where `home` is the shard of this node that speaks to it.
    beyond: Option<PlaceId>,
}

impl Directory {
    /// All rooms, by name.
    pub(crate) fn rooms(&self) -> Vec<RoomEntry> {
        let mut rooms: Vec<RoomEntry> = self.state().rooms.iter().map(entry).collect();
        rooms.sort_by(|a, b| a.room.cmp(&b.room));
        rooms
    }

    /// How many rooms have each shard as their home, and how many clients are on it.
    pub(in crate::signal) fn placed(&self) -> Vec<(usize, usize)> {
        let state = self.state();
        let mut placed = vec![(0, 0); self.0.shards.len()];
        for placement in state.rooms.values() {
            placed[placement.shard].0 += 1;
        }
        for route in state.clients.values() {
            placed[route.shard].1 += 1;
        }
        placed
    }

    /// One room, if it is there.
    pub(in crate::signal) fn room(&self, room: &RoomId) -> Option<RoomEntry> {
        self.state().rooms.get_key_value(room).map(entry)
    }

    /// Takes in how busy a shard is.
    pub(in crate::signal) fn note_load(&self, shard: usize, report: &ShardReport) {
        let mut state = self.state();
        *state.load(shard) = Load { told: report.busy_permille, sent: 0 };
        if self.0.bounds.spread != RoomSpread::Load || report.busy_permille < FULL {
            return;
        }
        let Some((to, away)) = state.away_from(shard, self.0.shards.len()) else { return };
        drop(state);
        let Some(handle) = self.0.shards.get(shard) else { return };
        tracing::info!(shard, to = to.0, clients = away.len(), "is too busy: some of its clients are asked to move");
        for client in away {
            // Those that cannot move stay: nobody waits for the answer.
            let order = MoveOrder { client, to, candidates: Vec::new() };
            let _ = handle.send(Command::Move { id: UNASKED, order });
        }
    }

    /// The shard that a client is on.
    pub(in crate::signal) fn shard_of(&self, room: &RoomId, client: &ClientId) -> Option<usize> {
        let state = self.state();
        let route = state.clients.get(client).filter(|route| route.room == *room);
        route.filter(|route| !matches!(route.outlet, Outlet::Expected(_))).map(|route| route.shard)
    }

    /// How many shards there are.
    pub(in crate::signal) fn shards(&self) -> usize {
        self.0.shards.len()
    }

    /// What is for a client goes to another shard from here on. What was sent before is in the queue of the one it was on.
    pub(in crate::signal) fn client_moved(&self, from: usize, client: &ClientId, to: PlaceId) {
        let (mut state, to) = (self.state(), usize::from(to.0));
        let Some(route) = state.clients.get_mut(client).filter(|route| route.shard == from) else { return };
        route.shard = to;
        let room = route.room.clone();
        if let Some(placement) = state.rooms.get_mut(&room)
            && to != placement.shard
            && !placement.wings.contains(&to)
        {
            placement.wings.push(to);
        }
    }

    /// A client was lost on its way from one shard to another: it joins anew.
    pub(in crate::signal) fn lose(&self, client: &ClientId) {
        let reason = "the server lost the client while it moved, please join again";
        let route = self.state().remove(client);
        route.into_iter().for_each(|route| self.turn_out(client.clone(), route, LeaveCause::Later, reason));
    }
}

impl State {
    fn load(&mut self, shard: usize) -> &mut Load {
        if self.loads.len() <= shard {
            self.loads.resize(shard + 1, Load::default());
        }
        &mut self.loads[shard]
    }

    /// Some clients of a shard that is too busy, at random, and a shard that has time for them; `None` where none has.
    fn away_from(&mut self, shard: usize, shards: usize) -> Option<(PlaceId, Vec<ClientId>)> {
        let scores = (0..shards).filter(|other| *other != shard).map(|other| (self.load(other).score(), other));
        let (_, to) = scores.min().filter(|(score, _)| *score < BUSY)?;
        let are_there = self.clients.iter().filter(|(_, route)| route.shard == shard && route.joining.is_none());
        let away = are_there.map(|(client, _)| client.clone()).choose_multiple(&mut rand::rng(), AWAY);
        self.load(to).sent += u32::try_from(away.len()).ok()?;
        Some((PlaceId(u16::try_from(to).ok()?), away)).filter(|(_, away)| !away.is_empty())
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

    /// The shard of a client and the home of its room.
    fn way(&mut self, member: &Membership) -> Option<Way> {
        if let Some(shard) = self.passes_on(member) {
            return Some(Way { shard, home: PlaceId(u16::try_from(shard).ok()?), beyond: None });
        }
        let Route { shard, room, .. } = self.current(member)?;
        let (shard, room) = (*shard, room.clone());
        let placement = self.rooms.get(&room);
        let home = PlaceId(u16::try_from(placement.map_or(shard, |placement| placement.shard)).ok()?);
        let far_home = placement.and_then(|placement| placement.far_home);
        Some(match far_home {
            // This shard speaks to the home on another node itself, or over the one that does.
            Some(far_home) if usize::from(home.0) == shard => Way { shard, home: far_home, beyond: None },
            far_home => Way { shard, home, beyond: far_home },
        })
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
        // Held until it is sent: a client that moves has all of it on one shard, or on the other.
        let mut state = self.directory.state();
        let way = state.way(self);
        let is_join = matches!(command, Command::Join(_));
        let command = match (command, way) {
            (Command::Join(request), Some(Way { shard, home, beyond })) if usize::from(home.0) != shard => {
                Command::JoinWing { home, beyond, request }
            }
            (command, _) => command,
        };
        let sent = match way.and_then(|way| self.directory.0.shards.get(way.shard)) {
            Some(handle) => handle.send(command),
            None => Err(Full(Box::new(command))),
        };
        if is_join && sent.is_err() {
            // The shard has never heard of it, and needs no goodbye.
            state.remove(&self.client);
        }
        sent
    }
}

pub(super) fn entry((room, placement): (&RoomId, &Placement)) -> RoomEntry {
    let Placement { shard, wings, clients, far_home, .. } = placement;
    let (room, wings, is_wing) = (room.clone(), wings.clone(), far_home.is_some());
    RoomEntry { room, shard: *shard, clients: *clients, wings, is_wing }
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
