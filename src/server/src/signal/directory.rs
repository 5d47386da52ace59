//! Who is where: which shard owns a room, which shard and which connection a client belongs to.
//!
//! ```text
//! connection --Command--> Directory --bounded queue--> shard k
//! connection <--bounded queue-- dispatcher of shard k <--Event-- shard k
//! ```
//! Nobody waits for anybody slow: a full queue towards a shard refuses the request, a full queue towards a client ends
//! that client. A client whose connection is lost may stay for a while and resume on another one: see [`resume`].

mod give_way;
mod goodbye;
mod inbox;
mod moves;
mod nodes;
mod placement;
mod refusal;
mod resume;
mod spread;
mod take_over;
#[cfg(test)]
mod tests;
mod waiting;

use std::borrow::Cow;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use self::inbox::{Backlog, Inbox, Outbox, inbox};
use self::moves::GoneOn;
pub(super) use self::moves::Movable;
pub(crate) use self::nodes::WingHold;
use self::placement::Placed;
pub(crate) use self::refusal::Refusal;
pub(super) use self::resume::Kept;
pub(crate) use self::resume::Resumed;
use self::resume::{Expiry, Kick, Ticket};
use self::spread::Load;
pub(super) use self::take_over::Stays;
use self::waiting::Waiting;
use super::door::{Door, DoorLimits, Permit, Thing};
use crate::config::RoomSpread;
use crate::shard_handle::{Full, ShardHandle};
use moonring_core::command::{Command, Event, LeaveCause};
use moonring_wire::id::{ClientId, PlaceId, RoomId};
use rand::Rng;
use rand::distr::Alphanumeric;

/// Characters of a client id: 95 bits.
const ID_CHARACTERS: usize = 16;
/// What policies are told of a client whose connection ended without a goodbye.
const CONNECTION_LOST: &str = "connection lost";
/// The same of one whose connection this process has ended, as it ends itself; as the shards say it.
pub(super) const SHUTS_DOWN: &str = "the server shuts down";

/// Bounds of the whole server.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// Most rooms that somebody was admitted to.
    pub rooms_max: usize,
    /// Most clients that were admitted.
    pub clients_max: usize,
    /// For how long a client stays without its connection; zero: not at all.
    pub resume: Duration,
    /// What one address may hold.
    pub door: DoorLimits,
    /// Whether a room may be on several shards.
    pub spread: RoomSpread,
}

/// A room as the admin page shows it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub(crate) struct RoomEntry {
    /// Its id.
    pub room: RoomId,
    /// Which shard owns it.
    pub shard: usize,
    /// How many clients it has, those still joining included.
    pub clients: usize,
    /// The other shards that have had clients of it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub wings: Vec<usize>,
    /// Its home is another node.
    #[serde(skip)]
    pub is_wing: bool,
}

/// Who is where; cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Directory(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    shards: Vec<ShardHandle>,
    bounds: Bounds,
    door: Door,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    rooms: HashMap<RoomId, Placement>,
    clients: HashMap<ClientId, Route>,
    /// Those of the clients whose join has no verdict.
    waiting: Waiting,
    /// Rooms that somebody was admitted to.
    rooms_lived: usize,
    /// Clients that were kicked lately, for those that come back with their ticket.
    kicked: HashMap<ClientId, Kick>,
    /// Clients that have gone on at other nodes lately, for those that ask here.
    gone_on: HashMap<ClientId, GoneOn>,
    slow_clients: u64,
    /// How busy the shards are.
    loads: Vec<Load>,
    /// Another process takes over: nobody is let in.
    is_closed: bool,
    /// It has been told of everybody: nothing is promised any more that it does not know of.
    is_frozen: bool,
}

#[derive(Debug)]
struct Placement {
    /// Its home.
    shard: usize,
    /// Other shards that have had clients of it.
    wings: Vec<usize>,
    /// Its home, if that is another node: `shard` is then the shard that speaks to it.
    far_home: Option<PlaceId>,
    /// Shards of other nodes that speak to it, if its home is here.
    far_wings: Vec<PlaceId>,
    /// Clients that have come.
    entered: usize,
    clients: usize,
    /// Those of them whose join has no verdict.
    waiting: Waiting,
    /// Whether somebody was admitted.
    lived: bool,
    /// What waits for its clients' connections.
    backlog: Backlog,
    /// Held by the address that opened it.
    _permit: Option<Permit>,
}

#[derive(Debug)]
struct Route {
    shard: usize,
    room: RoomId,
    outlet: Outlet,
    /// Counts the connections that the stay has had: what an earlier one still does is without effect.
    generation: u32,
    /// The right to resume, while it is unused.
    ticket: Option<Ticket>,
    /// The offer that the shard has not answered yet.
    offer: Option<PendingOffer>,
    /// The place that its address holds.
    permit: Permit,
    /// While its join has no verdict.
    joining: Option<Permit>,
}

/// Where a client's events go.
#[derive(Debug)]
enum Outlet {
    /// To its connection.
    Attached(Outbox),
    /// Its connection is lost: what the next one has to know is kept.
    Detached { kept: Kept, _expiry: Expiry },
    /// It is to come from another node.
    Expected(#[expect(dead_code, reason = "it is held")] Expiry),
}

/// An offer without an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PendingOffer {
    /// The client's number for it.
    pub(super) request: u64,
    /// Whether its sections share one transport, which the answer then has to say.
    pub(super) bundled: bool,
}

/// A client's place: its id and its events. Dropping it says goodbye to the shard, however the connection ended,
/// unless [`Membership::detach`] keeps the client.
#[derive(Debug)]
pub(crate) struct Membership {
    /// The client's id.
    pub client: ClientId,
    /// What its shard tells it; closed when it was too slow, or when another connection took over.
    pub events: Inbox,
    /// What the policy is told as the reason of the goodbye.
    pub goodbye: Cow<'static, str>,
    generation: u32,
    directory: Directory,
}

impl Directory {
    /// A directory over all shards, in their order.
    pub(crate) fn new(shards: Vec<ShardHandle>, bounds: Bounds) -> Self {
        let door = Door::new(bounds.door);
        Self(Arc::new(Inner { shards, bounds, door, state: Mutex::new(State::default()) }))
    }

    /// What addresses hold.
    pub(super) fn door(&self) -> &Door {
        &self.0.door
    }

    /// Finds or places the room and gives a new client a place there; its `Command::Join` is the caller's to send.
    pub(crate) fn enter(&self, room: &RoomId, ip: IpAddr) -> Result<Membership, Refusal> {
        let (door, now) = (&self.0.door, Instant::now());
        door.may_join(now, ip).map_err(Refusal::Later)?;
        let permit = door.admit(now, ip, Thing::Client).ok_or(Refusal::Address("clients"))?;
        let joining = door.admit(now, ip, Thing::Join).ok_or(Refusal::Address("joins at once"))?;
        let origin = joining.origin();
        let mut state = self.state();
        if state.is_closed {
            return Err(Refusal::Replaced);
        }
        if state.members() >= self.0.bounds.clients_max {
            return Err(self.met(Refusal::Clients, room));
        }
        let gives_way = state.gives_way(room, origin).map_err(|()| self.met(Refusal::Joins, room))?;
        let open = || door.admit(now, ip, Thing::Room).map(Some).ok_or(Refusal::Address("rooms"));
        let placed = state.place(room, self.0.shards.len(), self.0.bounds.rooms_max, open);
        let Placed { backlog, evicted, .. } = placed.map_err(|refusal| self.met(refusal, room))?;
        // Not before the newcomer has its place: it may still be refused.
        let made_way = gives_way.and_then(|client| state.remove(&client).map(|route| (client, route)));
        let shard = state.seat(room, self.0.bounds.spread, self.0.shards.len());
        let (outbox, events) = inbox(&backlog);
        let client = loop {
            let client = random_id();
            if !state.clients.contains_key(&client) {
                break client;
            }
        };
        let route = Route {
            shard,
            room: room.clone(),
            outlet: Outlet::Attached(outbox),
            generation: 0,
            ticket: None,
            offer: None,
            permit,
            joining: Some(joining),
        };
        state.insert(client.clone(), route, origin);
        drop(state);
        self.close_evicted(evicted);
        if let Some((client, route)) = made_way {
            self.turn_out(client, route, LeaveCause::Later, &self.met(Refusal::Joins, room).to_string());
        }
        Ok(Membership::new(self, client, events, 0))
    }

    /// Hands an event of `shard` to the connection it is for. A connection that does not keep up is ended.
    pub(super) fn route(&self, shard: usize, event: Event) {
        if let Event::RoomClosed(room) = &event {
            self.state().room_closed(room, shard);
            return;
        }
        let Some(client) = event.client().cloned() else { return };
        let mut state = self.state();
        let Some(route) = state.clients.get_mut(&client) else { return };
        route.offer_decided(&event);
        if matches!(event, Event::Joined { .. })
            && let Err(refusal) = state.admitted(&client, &self.0.bounds)
        {
            let Some(route) = state.remove(&client) else { return };
            drop(state);
            let reason = self.met(refusal, &route.room).to_string();
            return self.turn_out(client, route, LeaveCause::Limit, &reason);
        }
        let Some(route) = state.clients.get_mut(&client) else { return };
        if let Event::Left { cause, .. } = &event {
            let cause = cause.clone();
            if let Some(route) = state.remove(&client) {
                if route.joining.is_some() {
                    self.join_ended(&client, &route, &cause);
                }
                if let Outlet::Attached(outbox) = &route.outlet {
                    // A connection that does not keep up, or is gone, misses its goodbye too.
                    let _ = outbox.push(event);
                }
                let elsewhere = Some(route.shard).filter(|on| *on != shard);
                self.remember_kick(&mut state, client.clone(), route, cause);
                drop(state);
                // It was to move from there, and could not.
                if let Some(elsewhere) = elsewhere {
                    self.say_goodbye(elsewhere, client, "could not move to another shard");
                }
            }
            return;
        }
        let slow = match &mut route.outlet {
            Outlet::Attached(outbox) => !outbox.push(event),
            Outlet::Detached { kept, .. } => {
                kept.push(event);
                false
            }
            Outlet::Expected(_) => false,
        };
        if slow {
            state.remove(&client);
            state.slow_clients += 1;
            drop(state);
            tracing::warn!(%client, "does not take its messages and is disconnected");
            self.say_goodbye(shard, client, "too slow");
        }
    }

    /// Sends a command to the shard of a client that is somebody else's.
    pub(super) fn send(&self, client: &ClientId, command: Command) -> Result<(), Full> {
        let state = self.state();
        let shard = state.clients.get(client).map(|route| route.shard);
        match shard.and_then(|shard| self.0.shards.get(shard)) {
            Some(handle) => handle.send(command),
            None => Err(Full(Box::new(command))),
        }
    }

    /// The way to a shard.
    pub(super) fn shard(&self, shard: usize) -> Option<&ShardHandle> {
        self.0.shards.get(shard)
    }

    /// Clients ended because they did not take their messages.
    pub(crate) fn slow_clients(&self) -> u64 {
        self.state().slow_clients
    }

    /// How many clients have a place.
    pub(crate) fn client_count(&self) -> usize {
        self.state().clients.len()
    }

    /// A panic while it was held left whole entries behind: each change is one insertion or removal.
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Route {
    fn offer_decided(&mut self, event: &Event) {
        let decided = match event {
            Event::Answered { request, .. } | Event::Refused { request: Some(request), .. } => *request,
            _ => return,
        };
        if self.offer.is_some_and(|offer| offer.request == decided) {
            self.offer = None;
        }
    }
}

impl Membership {
    /// The place of a client at the connection that reads these events.
    fn new(directory: &Directory, client: ClientId, events: Inbox, generation: u32) -> Self {
        Self { client, events, goodbye: CONNECTION_LOST.into(), generation, directory: directory.clone() }
    }

    /// Sends an offer, whose answer may be for the connection after this one.
    pub(super) fn send_offer(&self, command: Command, offer: PendingOffer) -> Result<(), Full> {
        // Before it is sent, as the answer may come at once.
        if let Some(route) = self.directory.state().current(self) {
            route.offer = Some(offer);
        }
        let sent = self.send(command);
        if sent.is_err()
            && let Some(route) = self.directory.state().current(self)
        {
            route.offer = None;
        }
        sent
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        let route = {
            let mut state = self.directory.state();
            if state.current(self).is_some() { state.remove(&self.client) } else { None }
        };
        if let Some(route) = route {
            self.directory.say_goodbye(route.shard, self.client.clone(), &self.goodbye);
        }
    }
}

/// Letters and digits from a generator that the operating system seeds.
pub(super) fn random_text(characters: usize) -> String {
    rand::rng().sample_iter(Alphanumeric).take(characters).map(char::from).collect()
}

fn random_id() -> ClientId {
    loop {
        // Letters and digits are always an id.
        if let Ok(id) = ClientId::parse(&random_text(ID_CHARACTERS)) {
            return id;
        }
    }
}
