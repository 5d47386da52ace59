//! A simulated world: one shard, clients, a bad network between them, virtual time. No sockets, and the same seed makes
//! the same world.

pub(crate) mod cpu;
pub(crate) mod flows;
mod got;
mod link;
mod mail;
pub(crate) mod net;
pub(crate) mod places;
pub(crate) mod raw;
pub(crate) mod stun;
pub(crate) mod take_over;
pub(crate) mod trace;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use moonring_core::command::{Command, Event, LeaveCause, PlaceMessage};
use moonring_core::shard::{Shard, ShardSettings};
use moonring_loadtest::media::{AudioSource, Clock, Packet, VideoSource};
use moonring_loadtest::peer::{Handled, Outbox, Peer, PeerConfig, PeerEvent};
use moonring_policy::client::Via;
use moonring_policy::{PolicyEngine, PolicySettings, Script, ScriptLibrary};
use moonring_wire::drops::DropReason;
use moonring_wire::id::{ClientId, Mid, RoomId};
use moonring_wire::negotiate::SectionOutcome;
use moonring_wire::packet::SendBatch;
use moonring_wire::transport::dtls::Certificate;

use cpu::Cpu;
pub(crate) use got::Got;
use mail::Mail;
pub(crate) use net::seed;
use net::{Link, Net, Seals};
use raw::Raw;

pub(crate) const SERVER: &str = "10.0.0.1:40000";
/// A policy that allows everything: receiving is allowed without being asked for.
pub(crate) const OPEN: &str =
    "function on_client_connect() return true end function on_publish_request() return true end";

pub(crate) enum Feed {
    Video(VideoSource),
    Audio(AudioSource),
}

impl Feed {
    fn next_at(&self) -> Instant {
        match self {
            Self::Video(source) => source.next_at(),
            Self::Audio(source) => source.next_at(),
        }
    }
}

pub(crate) enum Device {
    Peer(Box<Peer>, Box<Outbox>),
    Raw(Box<Raw>),
}

/// One client of the world.
pub(crate) struct Member {
    pub(crate) id: ClientId,
    pub(crate) address: SocketAddr,
    /// The shard that it is on.
    pub(crate) place: usize,
    pub(crate) up: Link,
    pub(crate) down: Link,
    /// The member whose `down` is this one's as well, when they share a bottleneck.
    pub(crate) behind: Option<usize>,
    pub(crate) device: Device,
    pub(crate) feeds: Vec<(Mid, Feed)>,
    /// While set, what the feeds make is thrown away.
    pub(crate) paused: bool,
    pub(crate) got: Vec<Got>,
    /// The highest counter, by payload type, of what it had received when that was forgotten.
    pub(crate) forgotten: HashMap<u8, u64>,
    pub(crate) told: Vec<PeerEvent>,
    /// Packets of media that its feeds sent.
    pub(crate) sent: Vec<(Mid, Packet)>,
    pub(crate) outcomes: Vec<SectionOutcome>,
    pub(crate) datagrams_in: u64,
    requests: u64,
}

/// See the module's words.
pub(crate) struct World {
    pub(crate) start: Instant,
    pub(crate) now: Instant,
    pub(crate) shard: Shard,
    /// The further shards, where rooms are spread.
    pub(crate) others: Vec<Shard>,
    /// A shard of another process, in the place of the first one.
    fresh: Box<dyn Fn(Instant) -> Shard>,
    /// The way from one shard to another.
    pub(crate) between: Link,
    /// The way from one node to another.
    pub(crate) between_nodes: Link,
    /// What nodes say to each other about rooms.
    pub(crate) mail: Mail,
    /// Clients that have moved from one shard to another, and their states, as bytes.
    pub(crate) moved: usize,
    pub(crate) states: Vec<Vec<u8>>,
    /// While set, states of clients are changed on their way, so that nobody can read them.
    pub(crate) spoils_states: bool,
    /// Messages between shards that get lost.
    pub(crate) lose: Option<fn(&PlaceMessage) -> bool>,
    pub(crate) net: Net,
    pub(crate) members: Vec<Member>,
    /// What the control plane was told.
    pub(crate) events: Vec<Event>,
    pub(crate) config: Arc<PeerConfig>,
    pub(crate) seed: u64,
    /// Datagrams that the last injected one caused at once.
    pub(crate) answered: usize,
    /// How the next client comes.
    via: Via,
    /// Bytes that the server has sent to each address.
    sent_to: HashMap<SocketAddr, u64>,
    pub(crate) seals: Seals,
    /// What the shard's work takes; without one it takes no time.
    pub(crate) cpu: Option<Cpu>,
    out: SendBatch,
}

/// That of everybody, the same in each run. Keys of handshakes come from the system all the same, and with them what is encrypted
/// and every signature; nothing else may depend on them.
pub(crate) fn certificate() -> Certificate {
    static ONE: OnceLock<Certificate> = OnceLock::new();
    ONE.get_or_init(|| Certificate::from_pem(include_str!("certificate.test.pem")).unwrap()).clone()
}

pub(crate) fn library(script: &str) -> ScriptLibrary {
    let mut library = ScriptLibrary::new(Vec::new());
    let script = Script::compile("default_room.lua", script.as_bytes()).map(Arc::new);
    library.insert("default_room.lua".to_owned(), script);
    library
}

pub(crate) fn settings() -> ShardSettings {
    ShardSettings {
        candidates: vec![SERVER.parse().unwrap()],
        max_clients_per_room: 100,
        max_clients: 200,
        max_tracks_per_client: 4,
        read_ahead_from: 0,
        ..ShardSettings::new(certificate())
    }
}

impl World {
    pub(crate) fn new(fixed_seed: u64) -> Self {
        Self::with(fixed_seed, settings(), OPEN)
    }

    /// A world whose rooms run `script`.
    pub(crate) fn ruled(fixed_seed: u64, script: &str) -> Self {
        Self::with(fixed_seed, settings(), script)
    }

    pub(crate) fn with(fixed_seed: u64, settings: ShardSettings, script: &str) -> Self {
        Self::budgeted(fixed_seed, settings, PolicySettings::unhurried(), script)
    }

    /// A world whose scripts have these budgets.
    pub(crate) fn budgeted(fixed_seed: u64, settings: ShardSettings, budgets: PolicySettings, script: &str) -> Self {
        let (seed, now) = (seed(fixed_seed), Instant::now());
        let script = script.to_owned();
        let shard = move |place: usize, now: Instant, salt: u8| {
            let mut engine = PolicyEngine::new(budgets.clone(), seed);
            engine.set_clock(now, Duration::from_secs(1_790_000_000));
            let mut bytes = [place as u8 ^ salt; 32];
            bytes[..8].copy_from_slice(&seed.to_be_bytes());
            Shard::new(now, places::settings(place, &settings), engine, library(&script), bytes)
        };
        let mut world = Self {
            start: now,
            now,
            shard: shard(0, now, 0),
            others: (1..places::count()).map(|place| shard(place, now, 0)).collect(),
            fresh: Box::new(move |now| shard(0, now, 0xA5)),
            between: places::BETWEEN,
            between_nodes: places::BETWEEN_NODES,
            mail: Mail::new(seed),
            moved: 0,
            states: Vec::new(),
            spoils_states: false,
            lose: None,
            net: Net::new(seed, now),
            members: Vec::new(),
            events: Vec::new(),
            config: Arc::new(PeerConfig::new(certificate(), Clock::new(now, 0))),
            seed,
            answered: 0,
            via: Via::WebSocket,
            sent_to: HashMap::new(),
            seals: Seals::default(),
            cpu: None,
            out: SendBatch::new(1 << 20, 1_024),
        };
        world.link_nodes();
        world
    }

    pub(crate) fn since_start(&self) -> Duration {
        self.now - self.start
    }

    /// Lets time pass.
    pub(crate) fn run(&mut self, time: Duration) {
        let end = self.now + time;
        self.settle();
        let mut standing = 0;
        while let Some(next) = self.next_at().filter(|at| *at <= end) {
            standing = if next == self.now { standing + 1 } else { 0 };
            assert!(standing < 1_000, "somebody's timer is due again and again");
            self.now = next;
            self.settle();
        }
        self.now = end;
    }

    pub(crate) fn run_ms(&mut self, ms: u64) {
        self.run(Duration::from_millis(ms));
    }

    /// Sends a command, and lets everything happen that it causes at once.
    pub(crate) fn command(&mut self, command: Command) {
        self.command_at(command);
        self.settle();
    }

    /// A datagram from anywhere, at once; why it was dropped.
    pub(crate) fn inject(&mut self, from: SocketAddr, bytes: &[u8]) -> Option<DropReason> {
        let place = self.members.iter().find(|member| member.address == from).map_or(0, |member| member.place);
        let before = self.shard_at(place).counters().drops.clone();
        self.answered = self.at(place, |shard, now, out| {
            shard.handle_datagram(now, from, &mut bytes.to_vec(), out);
            out.datagrams()
        });
        let drops = &self.shard_at(place).counters().drops;
        let reason = raw::reasons().find(|reason| drops.get(*reason) > before.get(*reason));
        self.settle();
        reason
    }

    fn next_at(&self) -> Option<Instant> {
        let members = self.members.iter().flat_map(|member| {
            let device = match &member.device {
                Device::Peer(peer, _) => peer.poll_timeout(),
                Device::Raw(raw) => raw.poll_timeout(),
            };
            member.feeds.iter().map(|(_, feed)| feed.next_at()).chain(device)
        });
        let others = self.others.iter().filter_map(Shard::poll_timeout);
        let next =
            members.chain(others).chain(self.served_at()).chain(self.net.next_at()).chain(self.mail.next_at()).min();
        next.map(|at| at.max(self.now))
    }

    /// Everything that is due now, in the order of the event loop's tick.
    pub(crate) fn settle(&mut self) {
        let server: SocketAddr = SERVER.parse().unwrap();
        for round in 0.. {
            assert!(round < 1_000, "somebody's timer is due again and again");
            while let Some(mut datagram) = self.net.due(self.now) {
                if datagram.to == server {
                    self.arrive(datagram);
                } else if let Some(place) = places::place_at(datagram.to) {
                    let (from, mut bytes) = (datagram.from, datagram.bytes);
                    self.at(place, |shard, now, out| shard.handle_datagram(now, from, &mut bytes, out));
                } else if let Some(member) = self.members.iter_mut().find(|m| m.address == datagram.to) {
                    member.receive(self.now, &mut datagram.bytes);
                }
            }
            self.serve(server);
            self.serve_others();
            self.take_mail();
            self.take_events();
            for member in &mut self.members {
                member.act(self.now, places::address(member.place), &mut self.net);
            }
            let due = |at: Option<Instant>| at.is_some_and(|at| at <= self.now);
            let is_due = self.others.iter().any(|shard| due(shard.poll_timeout()));
            if !due(self.net.next_at()) && !due(self.served_at()) && !due(self.mail.next_at()) && !is_due {
                return;
            }
        }
    }

    fn flush(&mut self, server: SocketAddr) {
        for (to, bytes) in self.out.iter() {
            *self.sent_to.entry(to).or_default() += bytes.len() as u64;
            self.seals.note(to, bytes);
            if let Some(place) = self.members.iter().position(|m| m.address == to) {
                let link = self.members[place].behind.unwrap_or(place);
                self.net.send(self.now, &mut self.members[link].down, server, to, bytes);
            } else if let (Some(from), Some(place)) = (places::place_at(server), places::place_at(to)) {
                let is_near = places::node_of(from) == places::node_of(place);
                let link = if is_near { &mut self.between } else { &mut self.between_nodes };
                self.net.send(self.now, link, server, to, bytes);
            }
        }
        self.out.clear();
    }

    /// Why a client left.
    pub(crate) fn left(&self, who: usize) -> Option<&LeaveCause> {
        let id = &self.members[who].id;
        self.events.iter().find_map(|event| match event {
            Event::Left { client, cause } if client == id => Some(cause),
            _ => None,
        })
    }
}

impl Member {
    /// How often it was asked for a key frame.
    pub(crate) fn key_frames_asked(&self) -> usize {
        self.told.iter().filter(|event| matches!(event, PeerEvent::KeyFrameRequested(..))).count()
    }

    fn receive(&mut self, now: Instant, bytes: &mut [u8]) {
        self.datagrams_in += 1;
        match &mut self.device {
            Device::Peer(peer, outbox) => {
                let pt = bytes.get(1).map_or(0, |byte| byte & 0x7F);
                let Ok(Handled::Rtp(rtp)) = peer.handle_datagram(now, bytes, outbox) else { return };
                let payload = &bytes[rtp.payload.clone()];
                self.got.push(Got {
                    at: now,
                    ssrc: rtp.ssrc,
                    pt,
                    sequence: rtp.sequence,
                    timestamp: rtp.timestamp,
                    marker: rtp.marker,
                    counter: rtp.stamp.map(|stamp| stamp.counter),
                    repaired: rtp.repaired,
                    head: payload[..payload.len().min(24)].to_vec(),
                });
            }
            Device::Raw(raw) => self.got.extend(raw.handle(now, bytes)),
        }
    }

    /// Does what is due, and sends.
    fn act(&mut self, now: Instant, server: SocketAddr, net: &mut Net) {
        match &mut self.device {
            Device::Peer(peer, outbox) => {
                while let Some(event) = peer.poll_event() {
                    if let PeerEvent::KeyFrameRequested(mid, _) = &event {
                        let feed = self.feeds.iter_mut().find(|(of, _)| of == mid);
                        if let Some((_, Feed::Video(source))) = feed {
                            source.request_key_frame();
                        }
                    }
                    self.told.push(event);
                }
                if peer.poll_timeout().is_some_and(|at| at <= now) {
                    peer.handle_timeout(now, outbox);
                }
                let mut packets = Vec::new();
                for (mid, feed) in self.feeds.iter_mut().filter(|(_, feed)| feed.next_at() <= now) {
                    packets.clear();
                    match feed {
                        Feed::Video(source) => drop(source.frame(now, &mut packets)),
                        Feed::Audio(source) => packets.push(source.packet()),
                    }
                    for packet in packets.iter().filter(|_| !self.paused) {
                        if peer.send(now, mid, packet, outbox) {
                            self.sent.push((mid.clone(), *packet));
                        }
                    }
                }
                for (to, bytes) in outbox.batch.iter() {
                    // One that moves sends to two of them for a while.
                    assert!(to == server || places::place_at(to).is_some());
                    net.send(now, &mut self.up, self.address, to, bytes);
                }
                outbox.batch.clear();
            }
            Device::Raw(raw) => {
                if raw.poll_timeout().is_some_and(|at| at <= now) {
                    raw.handle_timeout(now);
                }
                let leaving = if raw.holds { 0 } else { raw.out.len() };
                for bytes in raw.out.drain(..leaving) {
                    net.send(now, &mut self.up, self.address, server, &bytes);
                }
            }
        }
    }
}

pub(crate) fn room(name: &str) -> RoomId {
    RoomId::parse(name).unwrap()
}
