//! What one address may hold and how often its joins may be refused.
//!
//! An address is an IPv4 address or an IPv6 /64, as providers give one to each customer. Loopback has no limits: it is
//! a proxy on this machine (`trust_proxy` knows the real addresses behind it), or a load test.

mod lines;
mod turned_away;

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use moonring_wire::id::{ClientId, RoomId};
use moonring_wire::network::network_of;

use self::lines::Lines;
use self::turned_away::TurnedAway;
pub(super) use self::turned_away::{Limit, Met};

/// Refused joins that one address may have at once.
pub(super) const REFUSALS: u32 = 20;
/// Refused joins that one address may have per second for long.
const REFUSALS_PER_S: f64 = 0.5;
/// Joins of one address that may wait for their verdict.
const MAX_JOINING: usize = 64;
/// Addresses that are remembered. Those that hold something are as many as there are connections and clients; of those
/// that only were refused lately, all are forgiven when there are more, or as many as the others are.
const MAX_ORIGINS: usize = 65_536;

/// The most of each; 0 stands for no limit.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct DoorLimits {
    /// Connections in all.
    pub connections: usize,
    /// Connections of one address.
    pub connections_per_address: usize,
    /// Clients of one address.
    pub clients_per_address: usize,
    /// Rooms that clients of one address have opened.
    pub rooms_per_address: usize,
}

/// The counts of all addresses; cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Door(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    limits: DoorLimits,
    state: Mutex<State>,
    turned_away: TurnedAway,
    /// Joins that were refused.
    refused: Lines,
    /// Connections of clients that were lost.
    lost: Lines,
}

#[derive(Debug, Default)]
struct State {
    origins: HashMap<Origin, Visitor>,
    /// At so many addresses those that hold nothing are looked for: not at each newcomer, where nearly all hold something.
    sweep_at: usize,
    #[cfg(test)]
    sweeps: u32,
    connections: usize,
}

/// Whom limits are counted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Origin {
    Loopback,
    /// One of [`network_of`].
    Network(IpAddr),
}

/// What an address can hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Thing {
    /// A TCP connection.
    Connection,
    /// A client's place, from its join on.
    Client,
    /// A room that it opened.
    Room,
    /// A join without a verdict.
    Join,
}

const THINGS: usize = 4;

#[derive(Debug)]
struct Visitor {
    held: [usize; THINGS],
    /// Refused joins that it may still have.
    tokens: f64,
    at: Instant,
}

/// One thing that an address holds, until this is dropped.
#[derive(Debug)]
pub(crate) struct Permit {
    door: Door,
    origin: Origin,
    thing: Thing,
}

impl Door {
    pub(crate) fn new(limits: DoorLimits) -> Self {
        Self::with(limits, TurnedAway::default())
    }

    /// That of the admin pages, whose limits are no settings.
    pub(super) fn of_admin_pages(limits: DoorLimits) -> Self {
        Self::with(limits, TurnedAway::of_admin_pages())
    }

    fn with(limits: DoorLimits, turned_away: TurnedAway) -> Self {
        let (refused, lost) = (Lines::default(), Lines::default());
        Self(Arc::new(Inner { limits, state: Mutex::default(), turned_away, refused, lost }))
    }

    /// Lets an address hold one more; `None` when it holds as many as it may.
    pub(crate) fn admit(&self, now: Instant, ip: IpAddr, thing: Thing) -> Option<Permit> {
        let origin = Origin::of(ip);
        let limits = &self.0.limits;
        let most = match thing {
            Thing::Connection => limits.connections_per_address,
            Thing::Client => limits.clients_per_address,
            Thing::Room => limits.rooms_per_address,
            Thing::Join => MAX_JOINING,
        };
        let mut state = self.state();
        let is_full = thing == Thing::Connection && limits.connections > 0 && state.connections >= limits.connections;
        let held = state.origins.get(&origin).map_or(0, |visitor| visitor.held[thing as usize]);
        if is_full || (origin != Origin::Loopback && most > 0 && held >= most) {
            drop(state);
            let limit = if is_full { Limit::Connections } else { Limit::Address(thing) };
            self.turn_away(now, limit, Met::at(ip));
            return None;
        }
        state.visitor(now, origin).held[thing as usize] += 1;
        state.connections += usize::from(thing == Thing::Connection);
        Some(Permit { door: self.clone(), origin, thing })
    }

    /// Lets an address hold what it has held in another process, whatever the limits.
    pub(super) fn readmit(&self, now: Instant, ip: IpAddr, thing: Thing) -> Permit {
        let origin = Origin::of(ip);
        let mut state = self.state();
        state.visitor(now, origin).held[thing as usize] += 1;
        state.connections += usize::from(thing == Thing::Connection);
        Permit { door: self.clone(), origin, thing }
    }

    /// Whether an address may ask to join; if not, in how many seconds it may.
    pub(crate) fn may_join(&self, now: Instant, ip: IpAddr) -> Result<(), u64> {
        let origin = Origin::of(ip);
        let mut state = self.state();
        let Some(visitor) = state.origins.get_mut(&origin) else { return Ok(()) };
        visitor.refill(now);
        if visitor.tokens >= 1.0 {
            return Ok(());
        }
        let seconds = ((1.0 - visitor.tokens) / REFUSALS_PER_S).ceil() as u64;
        drop(state);
        self.turn_away(now, Limit::Refusals, Met::at(ip));
        Err(seconds.max(1))
    }

    /// Whether an address may open a WebSocket; if not, in how many seconds it may. One that has clients may: they come back
    /// over another one when theirs is cut, whoever else was refused behind the same address.
    pub(super) fn may_connect(&self, now: Instant, ip: IpAddr) -> Result<(), u64> {
        let has_clients = |visitor: &Visitor| visitor.held[Thing::Client as usize] > 0;
        let may_resume = self.state().origins.get(&Origin::of(ip)).is_some_and(has_clients);
        if may_resume { Ok(()) } else { self.may_join(now, ip) }
    }

    /// Connections and joins that met a limit of the server, a room or their address.
    pub(crate) fn turned_away(&self) -> u64 {
        self.0.turned_away.count()
    }

    /// Counts and tells of somebody who has met a limit.
    pub(super) fn turn_away(&self, now: Instant, limit: Limit, met: Met<'_>) {
        self.0.turned_away.add(now, limit, met);
    }

    /// Tells of a join that comes to nothing, with what its client is told.
    pub(super) fn join_refused(
        &self,
        now: Instant,
        room: &RoomId,
        (client, origin): (&ClientId, Origin),
        reason: &str,
    ) {
        let Some(unsaid) = self.0.refused.due(now, room) else { return };
        let (address, unsaid) = (origin.ip(), (unsaid > 0).then_some(unsaid));
        tracing::info!(%room, %client, %address, reason, unsaid, "a join is refused");
    }

    /// Tells of a client whose connection was lost, with what has ended it.
    pub(super) fn connection_lost(&self, now: Instant, room: &RoomId, client: &ClientId, why: &str) {
        let Some(unsaid) = self.0.lost.due(now, room) else { return };
        let unsaid = (unsaid > 0).then_some(unsaid);
        tracing::info!(%room, %client, reason = why, unsaid, "the client's WebSocket is lost");
    }

    /// Counts are whole after each line, so that a panic elsewhere does no harm.
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn visitor(&mut self, now: Instant, origin: Origin) -> &mut Visitor {
        if self.origins.len() >= self.sweep_at.max(MAX_ORIGINS) && !self.origins.contains_key(&origin) {
            self.origins.retain(|_, visitor| visitor.holds_something());
            self.sweep_at = 2 * self.origins.len();
            #[cfg(test)]
            {
                self.sweeps += 1;
            }
        }
        self.origins.entry(origin).or_insert_with(|| Visitor {
            held: [0; THINGS],
            tokens: f64::from(REFUSALS),
            at: now,
        })
    }
}

impl Visitor {
    fn refill(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.tokens = (self.tokens + passed * REFUSALS_PER_S).min(f64::from(REFUSALS));
        self.at = self.at.max(now);
    }

    fn holds_something(&self) -> bool {
        self.held.iter().any(|held| *held > 0)
    }
}

impl Permit {
    /// Whose it is.
    pub(super) fn origin(&self) -> Origin {
        self.origin
    }

    /// A join of this address was refused.
    pub(crate) fn refused(&self, now: Instant) {
        if self.origin == Origin::Loopback {
            return;
        }
        let mut state = self.door.state();
        let visitor = state.visitor(now, self.origin);
        visitor.refill(now);
        // Joins that were under way together may take it below zero, and then it takes longer.
        visitor.tokens -= 1.0;
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut state = self.door.state();
        state.connections -= usize::from(self.thing == Thing::Connection);
        let Some(visitor) = state.origins.get_mut(&self.origin) else { return };
        visitor.held[self.thing as usize] -= 1;
        if !visitor.holds_something() && visitor.tokens >= f64::from(REFUSALS) {
            state.origins.remove(&self.origin);
        }
    }
}

impl Origin {
    pub(super) fn of(ip: IpAddr) -> Self {
        match ip.to_canonical() {
            ip if ip.is_loopback() => Self::Loopback,
            ip => Self::Network(network_of(ip)),
        }
    }

    /// An address of it.
    pub(super) fn ip(self) -> IpAddr {
        match self {
            Self::Loopback => Ipv4Addr::LOCALHOST.into(),
            Self::Network(ip) => ip,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const LIMITS: DoorLimits =
        DoorLimits { connections: 5, connections_per_address: 2, clients_per_address: 1, rooms_per_address: 0 };

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn an_address_holds_as_much_as_it_may_and_loopback_as_much_as_there_is() {
        let (door, now) = (Door::new(LIMITS), Instant::now());
        let mut permits = Vec::new();
        for (address, thing, admitted) in [
            ("192.0.2.1", Thing::Connection, true),
            ("::ffff:192.0.2.1", Thing::Connection, true),
            ("192.0.2.1", Thing::Connection, false),
            ("192.0.2.1", Thing::Client, true),
            ("192.0.2.1", Thing::Client, false),
            ("2001:db8::1", Thing::Client, true),
            ("2001:db8::ffff:2", Thing::Client, false),
            ("2001:db8:0:1::1", Thing::Client, true),
            ("192.0.2.1", Thing::Room, true),
            ("127.0.0.1", Thing::Connection, true),
            ("127.0.0.1", Thing::Connection, true),
            ("::1", Thing::Connection, true),
            ("127.0.0.1", Thing::Connection, false),
        ] {
            let permit = door.admit(now, ip(address), thing);
            assert_eq!(permit.is_some(), admitted, "{address} {thing:?}");
            permits.extend(permit);
        }
        assert_eq!(door.turned_away(), 4);
        permits.clear();
        assert!(door.admit(now, ip("192.0.2.1"), Thing::Connection).is_some());
        assert_eq!(door.state().origins.len(), 0, "an address that holds nothing is forgotten");
    }

    #[test]
    fn an_address_whose_joins_are_refused_has_to_wait_and_others_do_not() {
        let (door, now) = (Door::new(DoorLimits::default()), Instant::now());
        let permit = door.admit(now, ip("192.0.2.1"), Thing::Client).unwrap();
        let refused = (0..100).take_while(|_| door.may_join(now, ip("192.0.2.1")).is_ok()).map(|_| permit.refused(now));
        assert_eq!(refused.count(), REFUSALS as usize);
        assert_eq!(door.may_join(now, ip("192.0.2.1")), Err(2));
        assert_eq!(door.may_join(now, ip("192.0.2.2")), Ok(()));
        assert_eq!(door.may_connect(now, ip("192.0.2.1")), Ok(()), "its client may be about to resume");
        drop(permit);
        assert_eq!(door.may_connect(now, ip("192.0.2.1")), Err(2));
        assert_eq!(door.may_join(now, ip("192.0.2.1")), Err(2), "leaving does not forgive");
        assert_eq!(door.may_join(now + Duration::from_secs(2), ip("192.0.2.1")), Ok(()));
    }

    #[test]
    fn loopback_is_never_told_to_wait() {
        let (door, now) = (Door::new(DoorLimits::default()), Instant::now());
        let permit = door.admit(now, ip("127.0.0.1"), Thing::Client).unwrap();
        (0..1000).for_each(|_| permit.refused(now));
        assert_eq!(door.may_join(now, ip("127.0.0.1")), Ok(()));
    }

    #[test]
    fn the_number_of_remembered_addresses_is_bounded() {
        let (door, now) = (Door::new(DoorLimits::default()), Instant::now());
        let holder = door.admit(now, ip("192.0.2.1"), Thing::Client).unwrap();
        for n in 0..=MAX_ORIGINS as u32 {
            let address = IpAddr::V4(Ipv4Addr::from(0x0A00_0000 + n));
            door.admit(now, address, Thing::Client).unwrap().refused(now);
        }
        assert!(door.state().origins.len() <= MAX_ORIGINS);
        drop(holder);
    }

    #[test]
    fn addresses_that_hold_something_are_not_all_looked_at_for_each_that_comes() {
        let (door, now) = (Door::new(DoorLimits::default()), Instant::now());
        let admit = |n: u32| door.admit(now, IpAddr::V4(Ipv4Addr::from(0x0A00_0000 + n)), Thing::Connection);
        let held: Vec<_> = (0..MAX_ORIGINS as u32 + 1_000).map(|n| admit(n).unwrap()).collect();
        assert_eq!((held.len(), door.state().sweeps), (MAX_ORIGINS + 1_000, 1));
    }
}
