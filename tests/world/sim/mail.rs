//! Messages between the shards of two nodes: as bytes, in the order of each pair of shards, and late.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::{Duration, Instant};

use moonring_core::command::{CheckpointOrder, Command, MoveMessage, PlaceMessage, read_places, write_places};
use moonring_policy::Checkpoint;
use moonring_wire::id::RoomId;
use moonring_wire::link::Place;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::World;
use super::places::{self, id_at, name_of, place_of};

/// Pieces from one shard to another, with the times at which they arrive.
type Queue = VecDeque<(Instant, Vec<u8>)>;

/// What is under way.
pub(crate) struct Mail {
    /// All that was said, as bytes.
    pub(crate) pieces: Vec<Vec<u8>>,
    /// While set, nothing arrives: it waits.
    pub(crate) is_cut: bool,
    /// While set, no room that comes from another node can be claimed.
    pub(crate) claims_fail: bool,
    /// The rooms' checkpoints.
    pub(crate) kept: BTreeMap<RoomId, Checkpoint>,
    /// While set, nobody says which of them there are.
    pub(crate) keeps_silent: bool,
    /// Up to so long is a piece on its way, at random: those of two pairs of shards overtake each other.
    pub(crate) delay: Duration,
    waiting: HashMap<(usize, usize), Queue>,
    rng: SmallRng,
}

impl Mail {
    pub(super) fn new(seed: u64) -> Self {
        let rng = SmallRng::seed_from_u64(seed);
        Self {
            pieces: Vec::new(),
            is_cut: false,
            claims_fail: false,
            kept: BTreeMap::new(),
            keeps_silent: false,
            delay: Duration::ZERO,
            waiting: HashMap::new(),
            rng,
        }
    }

    /// What is under way is lost for good.
    pub(crate) fn lose(&mut self) {
        self.waiting.clear();
    }

    /// The same of what one shard has said to another; whether there was something.
    fn lose_what(&mut self, from: usize, to: usize) -> bool {
        self.waiting.remove(&(from, to)).is_some_and(|queue| !queue.is_empty())
    }

    pub(super) fn next_at(&self) -> Option<Instant> {
        let first = |queue: &Queue| queue.front().map(|(at, _)| *at);
        if self.is_cut { None } else { self.waiting.values().filter_map(first).min() }
    }

    fn due(&mut self, now: Instant) -> Option<((usize, usize), Vec<u8>)> {
        if self.is_cut {
            return None;
        }
        let is_due = |queue: &Queue| queue.front().is_some_and(|(at, _)| *at <= now);
        let mut pairs: Vec<_> = self.waiting.iter().filter(|(_, queue)| is_due(queue)).map(|(pair, _)| *pair).collect();
        pairs.sort_unstable();
        let pair = *pairs.first()?;
        Some((pair, self.waiting.get_mut(&pair)?.pop_front()?.1))
    }
}

impl World {
    pub(super) fn deliver_to_node(&mut self, from: usize, to: usize, mut messages: Vec<(RoomId, PlaceMessage)>) {
        self.meddle(&mut messages);
        let (pieces, errors) = write_places(messages, &|id| Some(name_of(place_of(from, id))));
        assert!(errors.is_empty(), "{errors:?}");
        for piece in pieces.into_iter().filter(|_| !places::is_gone(from) && !places::is_gone(to)) {
            self.mail.pieces.push(piece.clone());
            let delay = self.mail.delay.mul_f64(self.mail.rng.random_range(0.0..1.0));
            let queue = self.mail.waiting.entry((from, to)).or_default();
            let before = queue.back().map_or(self.now, |(at, _)| *at);
            queue.push_back(((self.now + delay).max(before), piece));
        }
    }

    /// What is under way between two shards is lost in the directions that are named, and both are told, if there was something.
    pub(crate) fn lose_words(&mut self, (one, other): (usize, usize), [there, back]: [bool; 2]) -> bool {
        let is_lost = [there && self.mail.lose_what(one, other), back && self.mail.lose_what(other, one)];
        if is_lost.contains(&true) {
            for (at, of) in [(one, other), (other, one)] {
                self.command_to(at, Command::PlaceLost { from: id_at(at, of) });
            }
        }
        is_lost.contains(&true)
    }

    /// What all nodes' control planes keep together.
    pub(super) fn checkpoint(&mut self, at: usize, room: RoomId, order: CheckpointOrder) {
        match order {
            CheckpointOrder::Keep(checkpoint) => drop(self.mail.kept.insert(room, *checkpoint)),
            CheckpointOrder::Drop => drop(self.mail.kept.remove(&room)),
            CheckpointOrder::Find if self.mail.keeps_silent => {}
            CheckpointOrder::Find => self.say_what_is_kept(at, room),
        }
    }

    pub(crate) fn say_what_is_kept(&mut self, at: usize, room: RoomId) {
        let found = self.mail.kept.get(&room).cloned().map(Box::new);
        self.at(at, |shard, now, out| shard.handle_command(now, Command::CheckpointFound { room, found }, out));
    }

    /// Takes what has arrived.
    pub(super) fn take_mail(&mut self) {
        while let Some(((from, to), piece)) = self.mail.due(self.now) {
            let mut find = |name: Place| (0..places::count()).find(|of| name_of(*of) == name).map(|of| id_at(to, of));
            let mut messages = read_places(&piece, &mut find).unwrap();
            messages.iter_mut().for_each(|(_, message)| lead_in(to, message));
            let command = Command::FromPlace { from: id_at(to, from), messages };
            self.at(to, |shard, now, out| shard.handle_command(now, command, out));
        }
    }
}

/// What a node's control plane says to a client's coming: which of its shards speaks to the home.
fn lead_in(to: usize, message: &mut PlaceMessage) {
    if let PlaceMessage::Move(MoveMessage::Expect(expected)) = message {
        expected.lead = places::lead_of(to).map(|lead| id_at(to, lead));
    }
}
