//! Media over TCP, for clients whose network lets no UDP through (ICE over TCP, RFC 6544): a shard listens on the number of
//! its UDP port, clients connect, and what would be a datagram is a frame of the stream (RFC 4571). To the core such a
//! connection is one more way to a client.
//!
//! A connection that no client of a room has proven to have is a stranger's: there are few, and not for long.

mod connection;
mod outbox;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use rustix::net::sockopt::{set_ipv6_v6only, set_socket_reuseaddr, set_socket_reuseport};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

use crate::udp::{Received, Receiver};
use connection::{Closed, Connection, READ_BYTES, Taken};
use moonring_core::report::TcpStats;
use moonring_wire::network::network_of;
use moonring_wire::packet::{AddressPair, SendBatch};

/// Connections that wait to be accepted.
const BACKLOG: i32 = 256;
/// How long a stranger may stay: a client sends its first check at once, and is heard again after a lost segment or two.
const STRANGER_FOR: Duration = Duration::from_secs(10);
/// Most strangers of one network (IPv4 address, IPv6 /64), but loopback, and of all; the one that came first makes room.
const STRANGERS_PER_NETWORK: usize = 32;
const STRANGERS: usize = 256;
/// So long nobody is let in after the process had no descriptor left.
const PAUSE: Duration = Duration::from_secs(1);
/// What is looked at in one call: the rest has its turn in the next.
const EVENTS: usize = 64;
/// Datagrams of one connection in a row, while others wait: who sends without end takes nobody else's turn.
const TURN: usize = 32;
/// The same of a stranger, who begins with a check or two.
const STRANGERS_TURN: usize = 4;
/// An event's number with this bit is a listener's; below it stands which.
const LISTENER: u64 = 1 << 32;

/// Numbers of the process's connections, so that those of two shards are never taken for one another.
static NEXT: AtomicU32 = AtomicU32::new(0);

/// An address that cannot be listened at.
#[derive(Debug, thiserror::Error)]
#[error(
    "TCP {address} cannot be listened at, as media_tcp wants it: {error}; stop the program that has it, choose other media_ports, or leave media_tcp out"
)]
pub struct ListenError {
    address: SocketAddr,
    error: io::Error,
}

/// The connections of one shard. Made and used on one thread.
#[derive(Debug)]
pub(crate) struct Tcp {
    epoll: Epoll,
    at: Vec<SocketAddr>,
    listeners: Vec<TcpListener>,
    connections: HashMap<u32, Connection>,
    /// Those that no client had proven to have when that was last looked at, in the order of their coming.
    strangers: BTreeMap<u32, IpAddr>,
    /// Most connections.
    most: usize,
    /// Those that have something to hand over, in the order of their turns.
    waiting: VecDeque<u32>,
    /// Those that something was queued for since the last write.
    queued: Vec<u32>,
    /// Until then the listeners are not looked at.
    paused_until: Option<Instant>,
    scratch: Box<[u8]>,
    stats: TcpStats,
}

impl Tcp {
    /// Listens at these addresses, for up to `most` connections.
    pub(crate) fn listen(at: Vec<SocketAddr>, most: usize) -> Result<Self, ListenError> {
        let of = |error| ListenError { address: at.first().copied().unwrap_or(([0; 4], 0).into()), error };
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).map_err(|errno| of(errno.into()))?;
        let mut tcp = Self {
            epoll,
            at,
            listeners: Vec::new(),
            connections: HashMap::new(),
            strangers: BTreeMap::new(),
            most,
            waiting: VecDeque::new(),
            queued: Vec::new(),
            paused_until: None,
            scratch: vec![0; READ_BYTES].into(),
            stats: TcpStats::default(),
        };
        tcp.let_in()?;
        Ok(tcp)
    }

    /// Lets nobody in from here on; those who are in stay.
    pub(crate) fn stop_listening(&mut self) {
        self.listeners.clear();
    }

    /// Lets clients in once more, and as soon as that is possible.
    pub(crate) fn listen_again(&mut self, now: Instant) {
        self.paused_until = None;
        if let Err(error) = self.let_in() {
            tracing::error!(%error, "nobody new comes over TCP for a second");
            self.paused_until = Some(now + PAUSE);
        }
    }

    /// Listens where nobody does, and looks at the listeners.
    fn let_in(&mut self) -> Result<(), ListenError> {
        for (n, address) in self.at.iter().enumerate() {
            let of = |error| ListenError { address: *address, error };
            if n == self.listeners.len() {
                self.listeners.push(listen(*address, self.at.len() > 1).map_err(of)?);
            }
            match self.epoll.add(&self.listeners[n], EpollEvent::new(EpollFlags::EPOLLIN, LISTENER | n as u64)) {
                Ok(()) | Err(Errno::EEXIST) => {}
                Err(errno) => return Err(of(errno.into())),
            }
        }
        Ok(())
    }

    /// Looks at the listeners no more for a while. They stay, or others would have their descriptors; who waits, waits.
    fn pause(&mut self, now: Instant) {
        for listener in &self.listeners {
            if let Err(errno) = self.epoll.delete(listener) {
                tracing::debug!(%errno, "a listener is looked at still");
            }
        }
        self.paused_until = Some(now + PAUSE);
    }

    /// Lets clients in, writes what waits, and hands up to `limit` datagrams to `to`; stops after one for which it returns
    /// false. Never waits.
    pub(crate) fn receive_into(&mut self, now: Instant, limit: usize, to: &mut impl Receiver) -> Received {
        let mut events = [EpollEvent::empty(); EVENTS];
        // It is interrupted, or there is nothing: neither is an error here.
        let count = self.epoll.wait(&mut events, EpollTimeout::ZERO).unwrap_or(0);
        for event in &events[..count] {
            self.handle(now, *event, to);
        }
        let mut datagrams = 0;
        while datagrams < limit
            && let Some(number) = self.waiting.pop_front()
        {
            let taken = self.serve(number, limit - datagrams, to);
            datagrams += taken.datagrams;
            if taken.is_stopped {
                break;
            }
        }
        Received { datagrams, more: count == EVENTS || !self.waiting.is_empty() || datagrams >= limit }
    }

    fn handle(&mut self, now: Instant, event: EpollEvent, to: &impl Receiver) {
        if event.data() & LISTENER != 0 {
            return self.accept(now, (event.data() & !LISTENER) as usize, to);
        }
        let number = event.data() as u32;
        if event.events().contains(EpollFlags::EPOLLOUT) {
            self.write(now, number);
        }
        // The kernel tells of it in each call, and in the same order: who is served at once would be served first for ever.
        if event.events().intersects(EpollFlags::EPOLLIN | EpollFlags::EPOLLHUP | EpollFlags::EPOLLERR)
            && let Some(connection) = self.connections.get_mut(&number)
            && !std::mem::replace(&mut connection.is_waiting, true)
        {
            self.waiting.push_back(number);
        }
    }

    /// One turn of a connection, of `left` datagrams at most. It is out of the table meanwhile: after a panic it is gone, as
    /// its stream could not be followed any more.
    fn serve(&mut self, number: u32, left: usize, to: &mut impl Receiver) -> Taken {
        let Some(mut connection) = self.connections.remove(&number) else { return Taken::default() };
        self.stats.open = self.connections.len() as u64;
        let turn = if connection.is_known { TURN } else { STRANGERS_TURN };
        match connection.take_turn(&mut self.scratch, turn.min(left), to) {
            Ok(taken) => {
                self.stats.datagrams_in += taken.datagrams as u64;
                self.stats.bytes_in += taken.bytes as u64;
                connection.is_waiting = taken.is_cut_short;
                if taken.is_cut_short {
                    self.waiting.push_back(number);
                }
                self.connections.insert(number, connection);
                self.stats.open = self.connections.len() as u64;
                taken
            }
            Err(why) => {
                self.note_end(number, connection, &why);
                Taken::default()
            }
        }
    }

    fn accept(&mut self, now: Instant, listener: usize, to: &impl Receiver) {
        for _ in 0..EVENTS {
            let Some(listener) = self.listeners.get(listener) else { return };
            match listener.accept() {
                Ok((stream, remote)) => {
                    self.make_room(remote.ip().to_canonical(), |of| to.is_known(of));
                    self.admit(now, stream, remote);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error)
                    if matches!(
                        error.raw_os_error(),
                        Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM | libc::ENOBUFS)
                    ) =>
                {
                    tracing::warn!(%error, "no connection for media is let in for a second");
                    return self.pause(now);
                }
                // Of one that was given up before it was let in.
                Err(_) => {}
            }
        }
    }

    fn admit(&mut self, now: Instant, stream: TcpStream, remote: SocketAddr) {
        if self.connections.len() >= self.most {
            self.stats.refused += 1;
            return;
        }
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let admitted = Connection::new(now, stream, remote, number).and_then(|connection| {
            self.epoll.add(&connection, EpollEvent::new(EpollFlags::EPOLLIN, u64::from(number)))?;
            Ok(connection)
        });
        match admitted {
            Ok(connection) => {
                self.stats.accepted += 1;
                self.strangers.insert(number, connection.from.remote.ip());
                self.connections.insert(number, connection);
                self.stats.open = self.connections.len() as u64;
            }
            Err(error) => tracing::debug!(%error, %remote, "a connection for media is not let in"),
        }
    }

    /// One more stranger comes from `ip`: where there are too many, or no room is left at all, the one that came first goes. A
    /// client that has proven to be there since the last look does not.
    fn make_room(&mut self, ip: IpAddr, is_known: impl Fn(AddressPair) -> bool) {
        loop {
            let strangers = self.strangers.iter().map(|(number, ip)| (*number, *ip));
            let is_full = self.connections.len() >= self.most;
            let first = self.strangers.keys().next().copied().filter(|_| is_full);
            let Some(number) = who_makes_room(strangers, ip).or(first) else { return };
            match self.connections.get_mut(&number) {
                Some(connection) if !is_known(connection.from) => {
                    return self.close(number, &Closed::TooManyStrangers);
                }
                connection => {
                    connection.into_iter().for_each(|connection| connection.is_known = true);
                    self.strangers.remove(&number);
                }
            }
        }
    }

    /// Once a second: closes the connections of strangers that have had their time, and those of clients that are gone.
    /// `is_known` says whether a client has proven to be there.
    pub(crate) fn look_after(&mut self, now: Instant, is_known: impl Fn(AddressPair) -> bool) {
        let mut strangers = Vec::new();
        for (number, connection) in &mut self.connections {
            let was_known = std::mem::replace(&mut connection.is_known, is_known(connection.from));
            let is_late = now.saturating_duration_since(connection.since) >= STRANGER_FOR;
            if !connection.is_known && (was_known || is_late) {
                strangers.push(*number);
            }
        }
        for number in strangers {
            self.close(number, &Closed::Stranger);
        }
        self.strangers.retain(|number, _| self.connections.get(number).is_some_and(|of| !of.is_known));
        if self.paused_until.is_some_and(|until| now >= until) {
            self.listen_again(now);
        }
    }

    /// Takes what goes over connections out of `batch`, and writes it. Never waits: what finds no room is left out and counted.
    pub(crate) fn flush(&mut self, now: Instant, batch: &mut SendBatch) {
        let (connections, queued, stats) = (&mut self.connections, &mut self.queued, &mut self.stats);
        batch.take_connections(|number, datagram| {
            // It may have been closed since.
            let Some(connection) = connections.get_mut(&number) else {
                stats.left_out += 1;
                return;
            };
            connection.outbox.push(now, datagram);
            if queued.last() != Some(&number) {
                queued.push(number);
            }
        });
        let mut queued = std::mem::take(&mut self.queued);
        for number in queued.drain(..) {
            match self.connections.get_mut(&number) {
                // The kernel says when it takes more.
                Some(connection) if connection.is_full => connection.outbox.take_passed(false).count(&mut self.stats),
                _ => self.write(now, number),
            }
        }
        self.queued = queued;
    }

    fn write(&mut self, now: Instant, number: u32) {
        let Some(connection) = self.connections.get_mut(&number) else { return };
        let was_full = connection.is_full;
        let written = connection.write(now);
        connection.outbox.take_passed(false).count(&mut self.stats);
        if let Err(why) = written.and_then(|()| self.watch(number, was_full).map_err(Closed::Broken)) {
            self.close(number, &why);
        }
    }

    /// Asks to be told when the kernel takes more of a connection that it has taken enough of.
    fn watch(&self, number: u32, was_full: bool) -> io::Result<()> {
        let Some(connection) = self.connections.get(&number).filter(|of| of.is_full != was_full) else { return Ok(()) };
        let out = if connection.is_full { EpollFlags::EPOLLOUT } else { EpollFlags::empty() };
        let mut event = EpollEvent::new(EpollFlags::EPOLLIN | out, u64::from(number));
        Ok(self.epoll.modify(connection, &mut event)?)
    }

    fn close(&mut self, number: u32, why: &Closed) {
        if let Some(connection) = self.connections.remove(&number) {
            self.note_end(number, connection, why);
        }
    }

    fn note_end(&mut self, number: u32, mut connection: Connection, why: &Closed) {
        connection.outbox.take_passed(true).count(&mut self.stats);
        self.strangers.remove(&number);
        self.stats.open = self.connections.len() as u64;
        self.stats.strangers += u64::from(!connection.is_known);
        tracing::debug!(from = %connection.from, %why, "a connection for media has ended");
    }

    /// The counters.
    pub(crate) fn stats(&self) -> TcpStats {
        self.stats
    }
}

impl AsFd for Tcp {
    /// What becomes readable when there is something to do.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.0.as_fd()
    }
}

/// Listens for connections. `SO_REUSEPORT` lets a process that takes over listen before this one stops; two shards or servers
/// share no port all the same, as the UDP port of the same number is bound without it.
fn listen(address: SocketAddr, is_one_of_two: bool) -> io::Result<TcpListener> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(family, SocketType::STREAM, flags, None)?;
    if address.is_ipv6() && is_one_of_two {
        set_ipv6_v6only(&socket, true)?;
    }
    set_socket_reuseaddr(&socket, true)?;
    set_socket_reuseport(&socket, true)?;
    rustix::net::bind(&socket, &address)?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(socket.into())
}

/// Which of these strangers, by their numbers, has to go for one more from `ip`: the lower number came first.
fn who_makes_room(strangers: impl Iterator<Item = (u32, IpAddr)>, ip: IpAddr) -> Option<u32> {
    let (mut all, mut neighbours) = (Vec::new(), Vec::new());
    for (number, other) in strangers {
        all.push(number);
        if network_of(other) == network_of(ip) && !ip.is_loopback() {
            neighbours.push(number);
        }
    }
    let first = |of: Vec<u32>, most| of.iter().min().copied().filter(|_| of.len() >= most);
    first(neighbours, STRANGERS_PER_NETWORK).or_else(|| first(all, STRANGERS))
}
