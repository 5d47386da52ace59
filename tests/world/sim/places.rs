//! A world of several shards, of one node or of two: every room is spread over all of them, each client is on the next one.

use std::cell::Cell;
use std::net::SocketAddr;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use moonring_core::command::{Command, Event, MoveMessage, MoveOrder, PlaceMessage};
use moonring_core::room::links::LinkSettings;
use moonring_core::shard::{Shard, ShardSettings};
use moonring_wire::drops::DropReason;
use moonring_wire::id::{ClientId, PlaceId, RoomId};
use moonring_wire::link::{LinkPeer, Opener, Place, Sealer};
use moonring_wire::packet::SendBatch;

use super::link::Link;
use super::{Device, World};

/// Shards of a spread world.
const PLACES: usize = 3;
/// Between shards of one machine.
pub(super) const BETWEEN: Link = Link { delay: Duration::from_micros(50), ..Link::GOOD };
/// Between nodes.
pub(super) const BETWEEN_NODES: Link = Link { delay: Duration::from_millis(10), ..Link::GOOD };
/// What the shards of one process have in common.
const SECRET: [u8; 32] = [9; 32];
/// What nodes have in common.
const NODES_SECRET: [u8; 32] = [10; 32];
/// What takes its place.
const NEXT_SECRET: [u8; 32] = [11; 32];
/// Shards of a world that has the most.
const MOST: usize = 6;

thread_local! {
    static SHARDS: Cell<Option<usize>> = const { Cell::new(None) };
    /// Shards of one node; the others are of further ones.
    static PER_NODE: Cell<usize> = const { Cell::new(usize::MAX) };
    /// Whether all nodes but the first have the next secret before the one of now.
    static ROTATES: Cell<bool> = const { Cell::new(false) };
    /// A node that says and hears nothing any more.
    static GONE: Cell<Option<usize>> = const { Cell::new(None) };
}

/// Worlds of this test have one shard, whichever test program runs it: it is about what one shard does.
pub(crate) fn on_one_shard() {
    SHARDS.set(Some(1));
    PER_NODE.set(usize::MAX);
}

/// Worlds of this test have three shards, whichever test program runs it.
pub(crate) fn over_three_shards() {
    SHARDS.set(Some(PLACES));
    PER_NODE.set(usize::MAX);
}

/// Worlds of this test have two nodes of two shards each: rooms have their home on the first shard of the first, and the
/// first of the second is the lead there.
pub(crate) fn over_two_nodes() {
    SHARDS.set(Some(4));
    PER_NODE.set(2);
}

/// Worlds of this test have three nodes of one shard each: rooms have their home on the first.
pub(crate) fn over_three_nodes() {
    SHARDS.set(Some(PLACES));
    PER_NODE.set(1);
}

/// Worlds of this test have three nodes of two shards each: rooms have their home on the first shard of the first, and the
/// first ones of the others are the leads there.
pub(crate) fn over_three_nodes_of_two() {
    SHARDS.set(Some(MOST));
    PER_NODE.set(2);
}

/// The secret that nodes of this test's worlds have in common is about to be another one: all believe both, and the first node
/// does not seal with the next one yet.
pub(crate) fn with_two_secrets() {
    ROTATES.set(true);
}

/// Whether a shard's node says and hears nothing any more.
pub(super) fn is_gone(place: usize) -> bool {
    GONE.get() == Some(node_of(place))
}

/// Which node a shard is of.
pub(crate) fn node_of(place: usize) -> usize {
    place / PER_NODE.get()
}

/// What the shard `at` calls the shard `of`: those of its own node come first.
pub(crate) fn id_at(at: usize, of: usize) -> PlaceId {
    let per_node = PER_NODE.get().min(count());
    let id = match node_of(of).cmp(&node_of(at)) {
        std::cmp::Ordering::Equal => of % per_node,
        std::cmp::Ordering::Less => per_node + of,
        std::cmp::Ordering::Greater => of,
    };
    PlaceId(id as u16)
}

/// The shard that the shard `at` calls so.
pub(crate) fn place_of(at: usize, id: PlaceId) -> usize {
    (0..count()).find(|of| id_at(at, *of) == id).expect("it is a shard of this world")
}

/// The shard of a place's node that speaks to the home of all rooms, where that is of another node.
pub(super) fn lead_of(place: usize) -> Option<usize> {
    (0..count()).find(|other| node_of(*other) == node_of(place)).filter(|lead| *lead > 0)
}

/// What a shard is called among nodes.
pub(crate) fn name_of(place: usize) -> Place {
    Place { run: 7 + node_of(place) as u128, shard: id_at(place, place).0 }
}

/// Seals as the shard `from` of a process does for `to`, with numbers that begin anew.
pub(crate) fn sealer(from: usize, to: usize) -> Sealer {
    Sealer::new(&SECRET, name_of(from), name_of(to))
}

/// Packets that a shard has got from others.
pub(crate) fn relayed_to(world: &mut World, place: usize) -> u64 {
    world.shard_at(place).counters().relayed_in
}

/// How many shards worlds have: one, or in the second run of the same tests, where `MOONRING_WORLD_SPREAD` is set, several.
pub(crate) fn count() -> usize {
    static USUAL: LazyLock<usize> =
        LazyLock::new(|| if std::env::var_os("MOONRING_WORLD_SPREAD").is_some() { PLACES } else { 1 });
    SHARDS.get().unwrap_or(*USUAL)
}

pub(super) fn address(place: usize) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 1 + place as u8], 40_000))
}

/// The shard that has an address.
pub(super) fn place_at(address: SocketAddr) -> Option<usize> {
    (0..MOST).find(|place| self::address(*place) == address)
}

/// The frames of a datagram between two shards.
pub(super) fn opened((from, to): (SocketAddr, SocketAddr), datagram: &[u8]) -> Option<Vec<u8>> {
    let (from, to) = (place_at(from)?, place_at(to)?);
    [SECRET, NODES_SECRET, NEXT_SECRET].iter().find_map(|secret| {
        let mut datagram = datagram.to_vec();
        Opener::new(secret, name_of(from), name_of(to)).open(&mut datagram).ok().map(<[u8]>::to_vec)
    })
}

/// The settings of one shard of several, or of the only one.
pub(super) fn settings(place: usize, settings: &ShardSettings) -> ShardSettings {
    let near: Vec<_> = (0..count()).filter(|other| node_of(*other) == node_of(place)).collect();
    let nodes_secrets = match (ROTATES.get(), node_of(place)) {
        (false, _) => vec![NODES_SECRET],
        (true, 0) => vec![NODES_SECRET, NEXT_SECRET],
        (true, _) => vec![NEXT_SECRET, NODES_SECRET],
    };
    let links = LinkSettings {
        own: id_at(place, place),
        run: name_of(place).run,
        secret: SECRET,
        nodes_secrets,
        addresses: near.iter().map(|place| address(*place)).collect(),
        candidates: near.iter().map(|place| vec![address(*place)]).collect(),
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
        let lead = lead_of(place).filter(|lead| *lead != place);
        let command = match (command, lead) {
            (Command::Join(request), Some(lead)) => {
                Command::JoinWing { home: id_at(place, lead), beyond: Some(id_at(place, 0)), request }
            }
            (Command::Join(request), None) if place > 0 => {
                Command::JoinWing { home: id_at(place, 0), beyond: None, request }
            }
            (command, _) => command,
        };
        self.at(place, |shard, now, out| shard.handle_command(now, command, out));
    }

    /// A datagram from one shard to another, at once.
    pub(crate) fn inject_over_link(&mut self, from: usize, to: usize, bytes: &[u8]) {
        let mut bytes = bytes.to_vec();
        self.at(to, |shard, now, out| shard.handle_datagram(now, address(from), &mut bytes, out));
        self.settle();
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

    /// The order to move a member, as its shard gets it.
    pub(crate) fn order_to(&self, who: usize, to: usize) -> MoveOrder {
        let (client, at) = (self.members[who].id.clone(), self.members[who].place);
        let is_far = to < count() && node_of(at) != node_of(to);
        let candidates = if is_far { vec![address(to)] } else { Vec::new() };
        MoveOrder { client, to: if to < count() { id_at(at, to) } else { PlaceId(to as u16) }, candidates }
    }

    /// The answer to a command.
    pub(crate) fn called(&self, number: u64) -> Result<serde_json::Value, String> {
        let answer = self.events.iter().find_map(|event| match event {
            Event::Called { id, answer } if *id == number => Some(answer.clone()),
            _ => None,
        });
        answer.expect("an answer")
    }

    /// Takes the events of all shards; what one says to another of its node arrives at once.
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
                        Event::ClaimHome(room) => {
                            more = true;
                            let claimed = Command::HomeClaimed { room, is_ours: !self.mail.claims_fail };
                            self.at(place, |shard, now, out| shard.handle_command(now, claimed, out));
                        }
                        Event::Checkpoint { room, order } => {
                            more = true;
                            self.checkpoint(place, room, order);
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
            member.place = place_of(from, to);
        }
        self.moved += 1;
        self.at(from, |shard, now, out| shard.handle_command(now, Command::RouteMoved { client }, out));
    }

    fn deliver(&mut self, from: usize, to: PlaceId, mut messages: Vec<(RoomId, PlaceMessage)>) {
        let to = place_of(from, to);
        if node_of(from) != node_of(to) {
            return self.deliver_to_node(from, to, messages);
        }
        self.meddle(&mut messages);
        let command = Command::FromPlace { from: id_at(to, from), messages };
        self.at(to, |shard, now, out| shard.handle_command(now, command, out));
    }

    /// Loses some of them, and spoils states of clients, where a test wants it.
    pub(super) fn meddle(&mut self, messages: &mut Vec<(RoomId, PlaceMessage)>) {
        if let Some(lose) = self.lose {
            messages.retain(|(_, message)| !lose(message));
        }
        for (_, message) in messages {
            if let PlaceMessage::Move(MoveMessage::Moved(moved)) = message {
                moved.state[1] ^= u8::from(self.spoils_states) << 1;
                self.states.push(moved.state.to_vec());
            }
        }
    }

    /// Tells each shard of those of the other nodes.
    pub(super) fn link_nodes(&mut self) {
        self.link_nodes_but(None);
    }

    /// The same where one node is gone for the others, and they are for it.
    pub(crate) fn link_nodes_but(&mut self, gone: Option<usize>) {
        GONE.set(gone);
        let is_there = |at: usize, of: usize| gone.is_none_or(|gone| (node_of(at) == gone) == (node_of(of) == gone));
        for at in 0..count() {
            let others = (0..count()).filter(|of| node_of(*of) != node_of(at) && is_there(at, *of));
            let peer = |of: usize| LinkPeer { id: id_at(at, of), place: name_of(of), address: address(of) };
            let peers: Vec<_> = others.map(peer).collect();
            if !peers.is_empty() || gone.is_some() {
                self.at(at, |shard, now, out| shard.handle_command(now, Command::Peers(peers), out));
            }
        }
    }

    fn take_event(&mut self, event: Event) {
        // A report says how long scripts have taken.
        if !matches!(event, Event::Report { .. }) {
            self.net.trace.told(self.now, &event);
        }
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
        Command::Move { order, .. } => Some(&order.client),
        command => command.client(),
    }
}
