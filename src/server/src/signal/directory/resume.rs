//! Clients that lost their connection and may go on with their stay on another one.
//!
//! ```text
//!  attached --connection lost--> detached --after `Bounds::resume`--> goodbye, as a client that left
//!     ^   \                         |
//!     |    +-----resume-----+       resume (ticket)
//!     +---------------------+-------+
//! ```
//! A ticket is 128 random bits from the operating system behind the client's id, which finds the route; the bits are
//! compared in constant time, and whoever presents them first has the stay. A take-over counts the route's generation
//! up, so that whatever the connection before it still does is without effect.

use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

use ring::rand::{SecureRandom, SystemRandom};
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;
use tokio::task::AbortHandle;

use super::inbox::{Backlog, CLIENT_QUEUE, Meter, Queued, inbox};
use super::{CONNECTION_LOST, Directory, Membership, Outlet, PendingOffer, Route, SHUTS_DOWN, State};
use moonring_core::command::{Event, LeaveCause, News};
use moonring_wire::id::{ClientId, RoomId};

/// Clients that were kicked lately and are remembered for it.
const MAX_KICKS: usize = 4096;

/// The secret part of a ticket.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Ticket([u8; 16]);

/// Events that a detached client's next connection has to know beside the room's snapshot.
#[derive(Debug, Default)]
pub(in crate::signal) struct Kept {
    events: VecDeque<Queued>,
    meter: Meter,
}

/// The end of a detached stay, when its time is over; dropping this calls it off.
#[derive(Debug)]
pub(super) struct Expiry(Option<AbortHandle>);

impl Drop for Expiry {
    fn drop(&mut self) {
        if let Some(task) = &self.0 {
            task.abort();
        }
    }
}

/// What a client that was kicked while it was away is told when it comes back.
#[derive(Debug)]
pub(super) struct Kick {
    ticket: Ticket,
    reason: String,
    _expiry: Expiry,
}

/// What a ticket is good for.
#[derive(Debug)]
pub(crate) enum Resumed {
    /// The stay goes on.
    Stay(Box<Stay>),
    /// The client was kicked meanwhile, with this reason.
    Kicked(String),
    /// It goes on at another node, whose WebSockets are at this address.
    Elsewhere(String),
    /// Nobody can say yet: another process takes over, or does not; or the client's state is on its way here.
    Later,
    /// Nothing: it is malformed, guessed, used or expired.
    Unknown,
}

/// A stay that goes on.
#[derive(Debug)]
pub(crate) struct Stay {
    pub(crate) room: RoomId,
    pub(crate) member: Membership,
    /// What happened without a connection, as far as a snapshot of the room does not say it.
    pub(in crate::signal) kept: Kept,
    /// The offer that is still being decided on.
    pub(in crate::signal) offer: Option<PendingOffer>,
}

impl Ticket {
    /// `None` when the operating system has no randomness to give.
    pub(super) fn random() -> Option<Self> {
        let mut secret = [0; 16];
        SystemRandom::new().fill(&mut secret).ok()?;
        Some(Self(secret))
    }

    /// Splits a ticket's text into the client and the secret.
    pub(super) fn parse(text: &str) -> Option<(ClientId, Self)> {
        let (client, secret) = text.rsplit_once('.')?;
        let is_secret = secret.len() == 32 && secret.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        let secret = u128::from_str_radix(secret, 16).ok().filter(|_| is_secret)?;
        Some((ClientId::parse(client).ok()?, Self(secret.to_be_bytes())))
    }

    fn text(&self, client: &ClientId) -> String {
        format!("{client}.{:032x}", u128::from_be_bytes(self.0))
    }

    pub(super) fn matches(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ticket(...)")
    }
}

impl Kept {
    /// Nothing yet, for a client of the room with this backlog.
    pub(super) fn of(room: &Backlog) -> Self {
        Self { events: VecDeque::new(), meter: Meter::of(room) }
    }

    /// Keeps what the snapshot does not say, at most what may wait for a connection: the oldest message makes way first.
    pub(in crate::signal) fn push(&mut self, event: Event) {
        match &event {
            Event::Joined { .. }
            | Event::Rights { .. }
            | Event::TrackEnded { .. }
            | Event::TrackPaused { .. }
            | Event::TrackResumed { .. }
            | Event::WantedLayers { .. }
            | Event::KeyFrame { .. } => return,
            Event::News { news, .. } if !matches!(**news, News::Message(_)) => return,
            _ => {}
        }
        // What is left of it in the end has room for any.
        while !self.events.is_empty() && (self.events.len() >= CLIENT_QUEUE || !self.meter.has_room_for(&event)) {
            let is_decision = |kept: &Queued| matches!(kept.event, Event::Answered { .. } | Event::Refused { .. });
            self.events.remove(self.events.iter().position(|kept| !is_decision(kept)).unwrap_or(0));
        }
        self.events.push_back(self.meter.hold(event));
    }

    pub(in crate::signal) fn into_events(self) -> Vec<Event> {
        self.events.into_iter().map(|kept| kept.event).collect()
    }
}

impl Membership {
    /// A new ticket for the stay, which ends the one before it; empty when stays end with their connection.
    pub(in crate::signal) fn new_ticket(&self) -> String {
        if self.directory.0.bounds.resume.is_zero() {
            return String::new();
        }
        let Some(ticket) = Ticket::random() else { return String::new() };
        let text = ticket.text(&self.client);
        let mut state = self.directory.state();
        // The process that takes over would not know it.
        if state.is_frozen {
            return String::new();
        }
        if let Some(route) = state.current(self) {
            route.ticket = Some(ticket);
        }
        text
    }

    /// True when another connection has taken over the stay.
    pub(in crate::signal) fn is_replaced(&self) -> bool {
        let state = self.directory.state();
        state.clients.get(&self.client).is_some_and(|route| route.generation != self.generation)
    }

    /// The connection is lost: keeps the client for as long as it may resume. A client without a ticket leaves.
    pub(crate) fn detach(mut self) {
        let directory = self.directory.clone();
        let mut state = directory.state();
        let backlog = state.backlog_of(&self.client);
        let Some(route) = state.current(&self).filter(|route| route.ticket.is_some()) else {
            // Dropping the membership says goodbye, which needs the lock.
            drop(state);
            return;
        };
        let mut kept = Kept::of(&backlog);
        while let Ok(event) = self.events.try_recv() {
            kept.push(event);
        }
        route.generation += 1;
        // Called off when it is resumed: who loses its connection again and again leaves no tasks behind.
        let expiry = directory.expire_later(self.client.clone(), route.generation);
        route.outlet = Outlet::Detached { kept, _expiry: expiry };
    }
}

impl Directory {
    /// Takes over the stay that a ticket belongs to, from the connection that has it or from none.
    pub(crate) fn resume(&self, ticket: &str) -> Resumed {
        let Some((client, ticket)) = Ticket::parse(ticket) else { return Resumed::Unknown };
        let mut state = self.state();
        let is_frozen = state.is_frozen;
        let backlog = state.backlog_of(&client);
        let State { clients, .. } = &mut *state;
        let Some(route) = clients.get_mut(&client) else {
            let gone = state.gone_to(&client, &ticket);
            return gone.map_or_else(|| state.take_kick(&client, &ticket), Resumed::Elsewhere);
        };
        // Its ticket comes with its state, or nothing does and the place goes.
        if matches!(route.outlet, Outlet::Expected(_)) {
            return Resumed::Later;
        }
        if !route.ticket.as_ref().is_some_and(|own| own.matches(&ticket)) {
            return Resumed::Unknown;
        }
        if is_frozen {
            return Resumed::Later;
        }
        route.ticket = None;
        route.generation += 1;
        let (outbox, events) = inbox(&backlog);
        let kept = match std::mem::replace(&mut route.outlet, Outlet::Attached(outbox)) {
            Outlet::Attached(_) | Outlet::Expected(_) => Kept::of(&backlog),
            Outlet::Detached { kept, .. } => kept,
        };
        let (room, generation, offer) = (route.room.clone(), route.generation, route.offer);
        drop(state);
        let member = Membership::new(self, client, events, generation);
        Resumed::Stay(Box::new(Stay { room, member, kept, offer }))
    }

    /// Ends a stay that nobody has resumed since its connection was lost.
    pub(super) fn expire(&self, client: &ClientId, generation: u32) {
        self.end_detached(client, generation, CONNECTION_LOST);
    }

    /// The same, for this reason.
    fn end_detached(&self, client: &ClientId, generation: u32, reason: &str) {
        let mut state = self.state();
        let is_over = |route: &Route| route.generation == generation && matches!(route.outlet, Outlet::Detached { .. });
        match state.clients.get(client) {
            // Its former node has it, or nobody.
            Some(Route { outlet: Outlet::Expected(_), generation: of, .. }) if *of == generation => {
                drop(state.remove(client));
            }
            Some(route) if is_over(route) => {
                let route = state.remove(client);
                drop(state);
                if let Some(route) = route {
                    self.say_goodbye(route.shard, client.clone(), reason);
                }
            }
            Some(_) => {}
            None => drop(state.kicked.remove(client)),
        }
    }

    /// Ends every stay that has no connection: the server shuts down.
    pub(in crate::signal) fn expire_all(&self) {
        let is_detached = |route: &Route| matches!(route.outlet, Outlet::Detached { .. });
        let state = self.state();
        let detached = state.clients.iter().filter(|(_, route)| is_detached(route));
        let detached: Vec<_> = detached.map(|(client, route)| (client.clone(), route.generation)).collect();
        drop(state);
        for (client, generation) in detached {
            self.end_detached(&client, generation, SHUTS_DOWN);
        }
    }

    /// A client that was kicked is told so even when its connection was lost just then; any other end makes it join anew.
    pub(super) fn remember_kick(&self, state: &mut State, client: ClientId, route: Route, cause: LeaveCause) {
        if let (LeaveCause::Kicked(reason), Some(ticket)) = (cause, route.ticket)
            && state.kicked.len() < MAX_KICKS
        {
            let _expiry = self.expire_later(client.clone(), route.generation);
            state.kicked.insert(client, Kick { ticket, reason, _expiry });
        }
    }

    pub(super) fn expire_later(&self, client: ClientId, generation: u32) -> Expiry {
        self.expire_after(client, generation, self.0.bounds.resume)
    }

    pub(super) fn expire_after(&self, client: ClientId, generation: u32, time: Duration) -> Expiry {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return Expiry(None) };
        let directory = self.clone();
        let task = runtime.spawn(async move {
            tokio::time::sleep(time).await;
            directory.expire(&client, generation);
        });
        Expiry(Some(task.abort_handle()))
    }
}

impl State {
    fn take_kick(&mut self, client: &ClientId, ticket: &Ticket) -> Resumed {
        match self.kicked.get(client).is_some_and(|kick| kick.ticket.matches(ticket)) {
            true => self.kicked.remove(client).map_or(Resumed::Unknown, |kick| Resumed::Kicked(kick.reason)),
            false => Resumed::Unknown,
        }
    }
}
