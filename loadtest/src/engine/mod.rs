//! One thread that drives many peers: their sockets, their timers, what they publish.

mod client;
mod command;
mod link;
mod net;
mod screen;
mod snapshot;
mod viewer;
#[cfg(test)]
mod viewer_tests;
mod watching;

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token, Waker};
use moonring_wire::media::CodecName;
use std::os::fd::AsRawFd;

use crate::media::{AudioSettings, VideoSettings};
use crate::peer::{Handled, Outbox, PeerConfig, answer_text, offer_text};
use client::Client;
use link::Links;
use net::{Inbox, Socket, address_of};

pub use command::{Command, Description, Handle, Views};
pub use link::{IP_UDP_BYTES, LinkCounts, LinkSettings};
pub use net::Addresses;
pub use snapshot::{Histograms, Snapshot};
pub use viewer::{View, Viewing};

/// Receives in one call: enough to be few calls, little enough to stay in the cache.
const RECEIVES: usize = 16;
/// Receive calls before timers are looked at again.
const CALLS_PER_TURN: usize = 64;
/// A turn that brought so many datagrams is followed by a pause, in which the next ones gather: arrival times are the
/// kernel's, so that no measured latency grows by it, and a wake-up for each frame of each stream would cost more than
/// all the rest. But frames that fall due meanwhile leave together, and wait for each other in the server, as those of
/// many cameras don't: the pause is short.
const GATHER_FROM: u64 = 16;
const GATHER: Duration = Duration::from_micros(250);
/// Commands before datagrams are looked at again: each may parse an answer and begin a handshake.
const COMMANDS_PER_TURN: usize = 16;
/// The waker's token; sockets have the numbers of their peers, the shared one the next below.
const WAKE: Token = Token(usize::MAX);
const SHARED: Token = Token(usize::MAX - 1);

/// How an engine works.
#[derive(Clone, Debug)]
pub struct EngineConfig {
    /// What its peers have in common.
    pub peer: Arc<PeerConfig>,
    /// What published video is like.
    pub video: VideoSettings,
    /// What published sound is like.
    pub audio: AudioSettings,
    /// Simulcast layers of published video; [`EngineConfig::video`] is the highest.
    pub layers: u8,
    /// Publish tracks, but send nothing in them.
    pub silent: bool,
    /// Links that subscribers are behind, by number.
    pub links: Vec<LinkSettings>,
    /// How peers get their addresses.
    pub addresses: Addresses,
    /// Receive datagrams of one sender coalesced.
    pub gro: bool,
    /// Seeds the peers' generators.
    pub seed: u64,
    /// CLOCK_REALTIME less CLOCK_MONOTONIC, in nanoseconds: the kernel's receive times are in the former.
    pub realtime_offset_ns: u64,
}

/// Starts the thread of an engine.
pub fn start(config: EngineConfig) -> io::Result<(Handle, JoinHandle<io::Result<()>>)> {
    let poll = Poll::new()?;
    let waker = Arc::new(Waker::new(poll.registry(), WAKE)?);
    let (commands, receiver) = channel();
    let engine = Engine::new(config, poll, receiver)?;
    let thread = std::thread::Builder::new().name(THREAD_NAME.into()).spawn(move || engine.run())?;
    Ok((Handle { commands, waker }, thread))
}

/// The name of an engine's thread, by which its processor time is found.
pub const THREAD_NAME: &str = "load-io";

struct Engine {
    config: EngineConfig,
    poll: Poll,
    commands: Receiver<Command>,
    shared: Option<Socket>,
    links: Links,
    clients: Vec<Option<Client>>,
    /// When which client has something to do; entries that came to be wrong are skipped.
    timers: BinaryHeap<Reverse<(Instant, usize)>>,
    inbox: Inbox,
    out: Outbox,
    readable: Vec<usize>,
    shared_readable: bool,
    /// The waker rang for commands that are still in the queue.
    commands_left: bool,
    /// Datagrams since the last wait.
    turn_datagrams: u64,
    current: Snapshot,
    quit: bool,
}

impl Engine {
    fn new(config: EngineConfig, poll: Poll, commands: Receiver<Command>) -> io::Result<Self> {
        let is_shared = config.addresses == Addresses::Shared;
        let shared = is_shared.then(|| Socket::bind(config.addresses, config.gro)).transpose()?;
        if let Some(socket) = &shared {
            poll.registry().register(&mut SourceFd(&socket.socket.as_raw_fd()), SHARED, Interest::READABLE)?;
        }
        Ok(Self {
            links: Links::new(&config.links),
            config,
            poll,
            commands,
            shared,
            clients: Vec::new(),
            timers: BinaryHeap::new(),
            inbox: Inbox::new(RECEIVES),
            out: Outbox::default(),
            readable: Vec::new(),
            shared_readable: false,
            commands_left: false,
            turn_datagrams: 0,
            current: Snapshot::default(),
            quit: false,
        })
    }

    fn run(mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(1_024);
        while !self.quit {
            self.wait(&mut events)?;
            if std::mem::take(&mut self.turn_datagrams) >= GATHER_FROM {
                std::thread::sleep(GATHER);
            }
            for event in &events {
                match event.token() {
                    WAKE => {}
                    SHARED => self.shared_readable = true,
                    Token(client) => self.readable.push(client),
                }
            }
            self.take_commands()?;
            self.receive()?;
            self.deliver();
            self.run_timers();
        }
        for index in 0..self.clients.len() {
            self.close(index);
        }
        Ok(())
    }

    fn wait(&mut self, events: &mut Events) -> io::Result<()> {
        let busy = self.shared_readable || self.commands_left || !self.readable.is_empty();
        let due = [self.timers.peek().map(|Reverse((at, _))| *at), self.links.next_at()].into_iter().flatten().min();
        let due = due.map(|at| at.saturating_duration_since(Instant::now()));
        let timeout = if busy { Some(Duration::ZERO) } else { due };
        match self.poll.poll(events, timeout) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
            polled => polled,
        }
    }

    fn take_commands(&mut self) -> io::Result<()> {
        self.commands_left = true;
        for _ in 0..COMMANDS_PER_TURN {
            let Ok(command) = self.commands.try_recv() else {
                self.commands_left = false;
                return Ok(());
            };
            match command {
                Command::Describe { client, began, publish, receive, viewing, reply } => {
                    self.make(client, began, viewing)?;
                    let description = self.describe(client, &publish, &receive);
                    // A client whose signalling is gone is closed by it.
                    let _ = reply.send(description);
                }
                Command::Answer { client, sdp } => self.answer(client, &sdp),
                Command::Wanted { client, mid, layers } => {
                    if let Some(Some(client)) = self.clients.get_mut(client) {
                        client.wanted(&mid, layers);
                    }
                }
                Command::Restart { client, reply } => {
                    if let Some(Some(known)) = self.clients.get_mut(client) {
                        known.restart_ice();
                        let _ = reply.send(self.describe(client, &[], &[]));
                    }
                }
                Command::Resumed { time } => self.current.resumed(time),
                Command::Leaves { client, known } => {
                    self.clients.get_mut(client).into_iter().flatten().for_each(Client::leaves);
                    let _ = known.send(());
                }
                Command::Close { client } => self.close(client),
                Command::Snapshot(reply) => {
                    let _ = reply.send(self.snapshot());
                }
                Command::Lift => self.lift(),
                Command::Views(reply) => {
                    let _ = reply.send(self.views());
                }
                Command::Quit => self.quit = true,
            }
        }
        Ok(())
    }

    /// Makes the client, when it is not there yet.
    fn make(&mut self, index: usize, began: Instant, viewing: Option<Viewing>) -> io::Result<()> {
        if self.clients.len() <= index {
            self.clients.resize_with(index + 1, || None);
        }
        if self.clients[index].is_none() {
            let socket = match self.config.addresses {
                Addresses::Shared => None,
                own => Some(Socket::bind(own, self.config.gro)?),
            };
            if let Some(socket) = &socket {
                let fd = socket.socket.as_raw_fd();
                self.poll.registry().register(&mut SourceFd(&fd), Token(index), Interest::READABLE)?;
            }
            let mut client = Client::new(&self.config, index, (socket, viewing), began);
            if self.links.are_lifted() {
                client.viewer.iter_mut().for_each(|viewer| viewer.lift(began));
            }
            self.clients[index] = Some(client);
        }
        Ok(())
    }

    fn describe(&mut self, index: usize, publish: &[CodecName], receive: &[CodecName]) -> Description {
        let Some(client) = &mut self.clients[index] else { unreachable!("was just made") };
        let published = publish.iter().map(|codec| client.publish(&self.config, *codec)).collect();
        let received = receive.iter().map(|codec| client.peer.receive(*codec)).collect();
        Description { sdp: offer_text::render(&client.peer.offer()), published, received }
    }

    fn answer(&mut self, index: usize, sdp: &str) {
        let Some(Some(client)) = self.clients.get_mut(index) else { return };
        let answer = answer_text::parse(sdp);
        if let Err(error) = answer.and_then(|answer| client.peer.accept_answer(Instant::now(), &answer)) {
            self.current.fail(error.to_string());
        }
        self.schedule(index);
    }

    fn close(&mut self, index: usize) {
        let Some(place) = self.clients.get_mut(index) else { return };
        let Some(mut client) = place.take() else { return };
        client.peer.close(Instant::now(), &mut self.out);
        self.flush(index, client.socket.as_ref());
        self.current.add(&client.peer);
    }

    fn snapshot(&mut self) -> Snapshot {
        self.clients.iter_mut().flatten().for_each(|client| self.current.take_gap(&mut client.peer));
        let mut snapshot = self.current.clone();
        self.clients.iter().flatten().for_each(|client| client.add_to(&mut snapshot));
        let own = self.clients.iter().flatten().filter_map(|client| client.socket.as_ref());
        let ports: Vec<u16> = self.shared.iter().chain(own).filter_map(Socket::port).collect();
        snapshot.overrun = crate::process::udp_drops(&ports);
        self.current.begin_interval();
        snapshot
    }

    fn receive(&mut self) -> io::Result<()> {
        if self.shared_readable
            && let Some(socket) = self.shared.take()
        {
            self.shared_readable = self.drain(&socket, None)?;
            self.shared = Some(socket);
        }
        for index in std::mem::take(&mut self.readable) {
            let socket = self.clients.get_mut(index).and_then(Option::as_mut).and_then(|client| client.socket.take());
            let Some(socket) = socket else { continue };
            if self.drain(&socket, Some(index))? {
                self.readable.push(index);
            }
            if let Some(Some(client)) = self.clients.get_mut(index) {
                client.socket = Some(socket);
                self.schedule(index);
            }
        }
        Ok(())
    }

    /// True when there is more.
    fn drain(&mut self, socket: &Socket, owner: Option<usize>) -> io::Result<bool> {
        let mut inbox = std::mem::replace(&mut self.inbox, Inbox::new(0));
        let mut more = true;
        for _ in 0..CALLS_PER_TURN {
            let offset = self.config.realtime_offset_ns;
            // One clock reading serves a whole call.
            let now = Instant::now();
            let now_ns = self.config.peer.clock.nanos(now);
            more = socket.receive(&mut inbox, |peer, kernel_time, datagram| {
                let arrived = kernel_time.map_or(now_ns, |time| (time.as_nanos() as u64).saturating_sub(offset));
                if let Some(index) = owner.or(peer) {
                    self.take(index, now, arrived, datagram, socket);
                }
            })?;
            if !more {
                break;
            }
        }
        self.inbox = inbox;
        Ok(more)
    }

    fn take(&mut self, index: usize, now: Instant, arrived_ns: u64, datagram: &mut [u8], socket: &Socket) {
        self.turn_datagrams += 1;
        if !self.hold(index, now, arrived_ns, datagram) {
            self.hand_over(index, now, arrived_ns, datagram, Some(socket));
        }
    }

    fn hand_over(&mut self, index: usize, now: Instant, arrived_ns: u64, datagram: &mut [u8], socket: Option<&Socket>) {
        let Some(Some(client)) = self.clients.get_mut(index) else { return };
        match client.peer.handle_datagram(now, datagram, &mut self.out) {
            Ok(Handled::Rtp(received)) => {
                if let Some(stamp) = received.stamp.filter(|_| !received.duplicate && !received.repaired) {
                    self.current.histograms.record(arrived_ns.saturating_sub(stamp.sent_ns));
                }
                client.watch(now, &received, datagram, &mut self.out);
                client.take_events(&self.config, now, &mut self.current);
                // Losses make timers; packets in order don't.
                if client.is_due_earlier() {
                    self.schedule(index);
                }
            }
            Ok(Handled::Control) => {
                client.take_events(&self.config, now, &mut self.current);
                self.schedule(index);
            }
            Err(_) => {}
        }
        if !self.out.batch.is_empty() {
            self.flush(index, socket);
        }
    }

    fn run_timers(&mut self) {
        let now = Instant::now();
        while let Some(Reverse((at, index))) = self.timers.peek().copied().filter(|Reverse((at, _))| *at <= now) {
            self.timers.pop();
            let Some(Some(client)) = self.clients.get_mut(index) else { continue };
            if client.scheduled != Some(at) {
                continue;
            }
            client.scheduled = None;
            client.run(&self.config, &mut self.out, &mut self.current);
            let socket = client.socket.take();
            self.flush(index, socket.as_ref());
            if let Some(Some(client)) = self.clients.get_mut(index) {
                client.socket = socket;
            }
            self.schedule(index);
        }
    }

    fn schedule(&mut self, index: usize) {
        let Some(Some(client)) = self.clients.get_mut(index) else { return };
        let Some(at) = client.due() else { return };
        if client.scheduled.is_none_or(|known| at < known) {
            client.scheduled = Some(at);
            self.timers.push(Reverse((at, index)));
        }
    }

    fn flush(&mut self, index: usize, own: Option<&Socket>) {
        if !self.out.batch.is_empty() {
            let refused = match (&self.shared, own) {
                (Some(shared), _) => shared.send(Some(address_of(index)), &self.out.batch),
                (None, Some(own)) if self.config.addresses == Addresses::Shared => {
                    own.send(Some(address_of(index)), &self.out.batch)
                }
                (None, Some(own)) => own.send(None, &self.out.batch),
                (None, None) => self.out.batch.datagrams(),
            };
            self.current.send_refused += refused as u64;
            self.out.batch.clear();
        }
    }
}
