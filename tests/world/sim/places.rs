//! A world of several shards: every room is spread over all of them, each client is on the next one.

use std::cell::Cell;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use moonring_core::command::{Command, Event, MoveMessage, PlaceMessage};
use moonring_core::room::links::LinkSettings;
use moonring_core::shard::{Shard, ShardSettings};
use moonring_wire::drops::DropReason;
use moonring_wire::id::{ClientId, PlaceId, RoomId};
use moonring_wire::packet::SendBatch;

use super::net::Link;
use super::{Device, World};

/// Shards of a spread world.
const PLACES: usize = 3;
/// Between shards of one machine.
pub(super) const BETWEEN: Link = Link { delay: Duration::from_micros(50), ..Link::GOOD };

thread_local! {
    static SHARDS: Cell<Option<usize>> = const { Cell::new(None) };
}

/// Worlds of this test have one shard, whichever test program runs it: it is about what one shard does.
pub(crate) fn on_one_shard() {
    SHARDS.set(Some(1));
}

/// Worlds of this test have three shards, whichever test program runs it.
pub(crate) fn over_three_shards() {
    SHARDS.set(Some(PLACES));
}

/// Packets that a shard has got from others.
pub(crate) fn relayed_to(world: &mut World, place: usize) -> u64 {
    world.shard_at(place).counters().relayed_in
}

/// How many shards worlds have: one, or in the second run of the same tests several.
pub(crate) fn count() -> usize {
    let usual = if env!("CARGO_CRATE_NAME") == "world_spread" { PLACES } else { 1 };
    SHARDS.get().unwrap_or(usual)
}

pub(super) fn address(place: usize) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 1 + place as u8], 40_000))
}

/// The shard that has an address.
pub(super) fn place_at(address: SocketAddr) -> Option<usize> {
    (0..PLACES).find(|place| self::address(*place) == address)
}

/// The settings of one shard of several, or of the only one.
pub(super) fn settings(place: usize, settings: &ShardSettings) -> ShardSettings {
    let links = LinkSettings {
        own: PlaceId(place as u16),
        run: 7,
        secret: [9; 32],
        addresses: (0..count()).map(address).collect(),
        candidates: (0..count()).map(|place| vec![address(place)]).collect(),
    };
    let candidates = if place == 0 { settings.candidates.clone() } else { vec![address(place)] };
    ShardSettings { candidates, links: (count() > 1).then_some(links), ..settings.clone() }
}

impl World {
    pub(crate) fn shard_at(&mut self, place: usize) -> &mut Shard {
        if place == 0 { &mut self.shard } else { &mut self.others[place - 1] }
    }

    /// Calls a shard, and sends what it says.
    pub(super) fn at<T>(&mut self, place: usize, call: impl FnOnce(&mut Shard, Instant, &mut SendBatch) -> T) -> T {
        self.flush(address(0));
        let shard = if place == 0 { &mut self.shard } else { &mut self.others[place - 1] };
        let result = call(shard, self.now, &mut self.out);
        self.flush(address(place));
        result
    }

    /// Gives a command to the shard that it is for.
    pub(super) fn command_at(&mut self, command: Command) {
        if let Command::Scripts(library) = &command {
            for place in 1..=self.others.len() {
                let command = Command::Scripts(library.clone());
                self.at(place, |shard, now, out| shard.handle_command(now, command, out));
            }
        }
        let member = |id: &ClientId| self.members.iter().find(|member| member.id == *id);
        let place = client_of(&command).and_then(member).map_or(0, |member| member.place);
        let command = match command {
            Command::Join(request) if place > 0 => Command::JoinWing { home: PlaceId(0), request },
            command => command,
        };
        self.at(place, |shard, now, out| shard.handle_command(now, command, out));
    }

    /// Gives a command to a shard, whoever it is for.
    pub(crate) fn command_to(&mut self, place: usize, command: Command) {
        self.at(place, |shard, now, out| shard.handle_command(now, command, out));
        self.settle();
    }

    /// What the event loops of the further shards do in a tick.
    pub(super) fn serve_others(&mut self) {
        for place in 1..=self.others.len() {
            while self.at(place, |shard, now, out| shard.forward(now, out)) {}
            if self.shard_at(place).poll_timeout().is_some_and(|at| at <= self.now) {
                self.at(place, |shard, now, out| shard.handle_timeout(now, out));
                while self.at(place, |shard, now, out| shard.forward(now, out)) {}
            }
        }
    }

    /// Takes the events of all shards; what one says to another arrives at once.
    pub(super) fn take_events(&mut self) {
        let mut more = true;
        while std::mem::take(&mut more) {
            for place in 0..=self.others.len() {
                while let Some(event) = self.shard_at(place).poll_event() {
                    match event {
                        Event::ToPlace { to, messages } => {
                            more = true;
                            self.deliver(place, to, messages);
                        }
                        Event::Moved { client, to } => {
                            more = true;
                            self.route_moved(place, client, to);
                        }
                        event => self.take_event(event),
                    }
                }
            }
        }
    }

    /// What is for a client goes to another shard from now on; what went to the one before has all gone.
    fn route_moved(&mut self, from: usize, client: ClientId, to: PlaceId) {
        if let Some(member) = self.members.iter_mut().find(|member| member.id == client) {
            member.place = to.0.into();
        }
        self.moved += 1;
        self.at(from, |shard, now, out| shard.handle_command(now, Command::RouteMoved { client }, out));
    }

    fn deliver(&mut self, from: usize, to: PlaceId, mut messages: Vec<(RoomId, PlaceMessage)>) {
        if let Some(lose) = self.lose {
            messages.retain(|(_, message)| !lose(message));
        }
        for (_, message) in &mut messages {
            if let PlaceMessage::Move(MoveMessage::Moved(moved)) = message {
                moved.state[1] ^= u8::from(self.spoils_states) << 1;
                self.states.push(moved.state.to_vec());
            }
        }
        let command = Command::FromPlace { from: PlaceId(from as u16), messages };
        self.at(to.0.into(), |shard, now, out| shard.handle_command(now, command, out));
    }

    fn take_event(&mut self, event: Event) {
        if let Event::Answered { client, answer, sections, .. } = &event
            && let Some(member) = self.members.iter_mut().find(|m| m.id == *client)
        {
            member.outcomes.extend(sections.iter().cloned());
            match &mut member.device {
                Device::Peer(peer, _) => peer.accept_answer(self.now, answer).unwrap(),
                Device::Raw(raw) => raw.accept(self.now, answer),
            }
        }
        self.events.push(event);
    }

    /// Packets that were dropped for a reason, on all shards.
    pub(crate) fn drops(&self, reason: DropReason) -> u64 {
        let shards = [&self.shard].into_iter().chain(&self.others);
        shards.map(|shard| shard.counters().drops.get(reason)).sum()
    }

    /// Packets that were sent again, by all shards.
    pub(crate) fn resent(&self) -> u64 {
        [&self.shard].into_iter().chain(&self.others).map(|shard| shard.counters().resent).sum()
    }

    /// What does not fit together on any shard.
    pub(crate) fn audit(&self) -> Vec<String> {
        [&self.shard].into_iter().chain(&self.others).flat_map(Shard::audit).collect()
    }
}

/// The client that a command is about.
fn client_of(command: &Command) -> Option<&ClientId> {
    match command {
        Command::Move { client, .. } => Some(client),
        command => command.client(),
    }
}
