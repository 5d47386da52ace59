//! Stays that go on at another node, together with their clients' media.
//!
//! ```text
//!  node A: a stay --what it is, with its client's state--> node B: expected, then detached as after a lost connection
//!          remembered for a while: who asks here is told where it is              resume (the ticket of A)
//! ```
//! The ticket that the client has goes along: it is good at B, and only there.

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use rand::seq::IteratorRandom;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::resume::Ticket;
use super::{Directory, Kept, Membership, Outlet, Placement, Route, State};
use crate::signal::door::Thing;
use moonring_core::command::{Event, LeaveCause, News};
use moonring_wire::id::{ClientId, PlaceId, RoomId};
use moonring_wire::shared::Shared;

/// Stays that have gone on elsewhere and are remembered.
const MAX_GONE: usize = 4_096;
/// For how long.
const REMEMBERED: Duration = Duration::from_secs(30);
/// How long a client may take from being expected to being here: as long as its shards wait for it, and a little more.
const EXPECTED: Duration = Duration::from_secs(40);
/// Longest stay in bytes, with the messages that have waited for its client.
const MAX_STAY: usize = 64 * 1024;

/// A stay on its way.
#[derive(Debug, Serialize, Deserialize)]
struct MovingStay {
    /// The address whose place it has.
    ip: IpAddr,
    ticket: Ticket,
    /// What its client has not been told, as it had no connection.
    kept: Vec<Shared<News>>,
}

/// A stay that has gone on elsewhere.
#[derive(Debug)]
pub(super) struct GoneOn {
    pub(super) ticket: Ticket,
    /// The WebSockets of its node.
    pub(super) url: String,
    /// The shard that it was on, which passes on what still comes for it.
    pub(super) shard: usize,
    /// Its last connection here.
    pub(super) generation: u32,
    until: Instant,
}

/// A client that may go on elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Movable {
    /// Where it is.
    pub(crate) room: RoomId,
    /// Who.
    pub(crate) client: ClientId,
    /// Its room's home, where that is another node.
    pub(crate) home: Option<PlaceId>,
    /// Where else its room is, where its home is here.
    pub(crate) wings: Vec<PlaceId>,
}

impl Directory {
    /// Whether a client may go on at another node: it is here, has a connection to be told by, and a ticket; in words why not.
    pub(in crate::signal) fn may_go_on(&self, room: &RoomId, client: &ClientId) -> Result<usize, &'static str> {
        let state = self.state();
        let route = state.clients.get(client).filter(|route| route.room == *room);
        let route = route.ok_or(crate::cluster::NOT_HERE)?;
        match (&route.outlet, &route.ticket) {
            (Outlet::Attached(_), Some(_)) => Ok(route.shard),
            (Outlet::Attached(_), None) => Err("the client cannot resume its stay, and stays where it is"),
            (Outlet::Detached { .. } | Outlet::Expected(_), _) => Err("the client has no connection to be told by"),
        }
    }

    /// The stay of a client whose media goes on at the node with its WebSockets at `url`: it is not here any more, and its
    /// connection is told.
    pub(in crate::signal) fn give_stay(&self, client: &ClientId, url: &str) -> Option<Zeroizing<Vec<u8>>> {
        let mut state = self.state();
        let Route { shard, outlet, generation, ticket, permit, .. } = state.remove(client)?;
        // Without a ticket nobody can take it up.
        let ticket = ticket.or_else(Ticket::random)?;
        let gone = GoneOn {
            ticket: ticket.clone(),
            url: url.to_owned(),
            shard,
            generation,
            until: Instant::now() + REMEMBERED,
        };
        state.remember_gone(client.clone(), gone);
        drop(state);
        let kept = match outlet {
            Outlet::Attached(outbox) => {
                // A connection that does not keep up, or is gone, finds its way with the ticket.
                let cause = LeaveCause::GoesOn(url.to_owned());
                let _ = outbox.push(Event::Left { client: client.clone(), cause });
                Vec::new()
            }
            Outlet::Detached { kept, .. } => kept.into_events(),
            Outlet::Expected(_) => Vec::new(),
        };
        let mut kept: Vec<_> = kept.into_iter().filter_map(news).collect();
        let ip = permit.origin().ip();
        loop {
            let stay = MovingStay { ip, ticket: ticket.clone(), kept: kept.clone() };
            match postcard::to_extend(&stay, Vec::new()) {
                Ok(bytes) if bytes.len() <= MAX_STAY => return Some(bytes.into()),
                Ok(_) | Err(_) if kept.is_empty() => return None,
                // The oldest message makes way first.
                Ok(_) | Err(_) => drop(kept.remove(0)),
            }
        }
    }

    /// A client of another node is to go on at this shard: its place is kept. The shard of this node that speaks to its room's
    /// `home`, where that is of another node; an error when it cannot come.
    pub(in crate::signal) fn expect_stay(
        &self,
        (room, shard): (&RoomId, usize),
        client: &ClientId,
        home: PlaceId,
    ) -> Result<Option<PlaceId>, &'static str> {
        let mut state = self.state();
        if state.is_closed || shard >= self.0.shards.len() {
            return Err("this process ends");
        }
        let is_home = usize::from(home.0) < self.0.shards.len();
        let is_new = !state.rooms.contains_key(room);
        if is_new && is_home {
            return Err("its room is gone");
        }
        let place = state.place(room, self.0.shards.len(), self.0.bounds.rooms_max, || Ok(None));
        let Ok(placed) = place else { return Err("there is no place for its room") };
        let Some(placement) = state.rooms.get_mut(room) else { return Err("its room is gone") };
        if is_new {
            (placement.far_home, placement.shard) = (Some(home), shard);
        }
        let is_it = if is_home { placement.far_home.is_none() } else { placement.far_home == Some(home) };
        let lead = (!is_home).then_some(placement.shard).and_then(|lead| u16::try_from(lead).ok()).map(PlaceId);
        if is_it && !state.clients.contains_key(client) {
            // Whose place it has is told with its state.
            let permit = self.0.door.readmit(Instant::now(), Ipv4Addr::LOCALHOST.into(), Thing::Client);
            let outlet = Outlet::Expected(self.expire_after(client.clone(), 0, EXPECTED));
            let room = room.clone();
            let route = Route { shard, room, outlet, generation: 0, ticket: None, offer: None, permit, joining: None };
            state.add_route(client.clone(), route);
        }
        drop(state);
        self.close_evicted(placed.evicted);
        if is_it { Ok(lead) } else { Err("its room has another home here") }
    }

    /// A client goes on at a shard of this node: whoever has its ticket may take its stay up. Without effect when it was taken
    /// before.
    pub(in crate::signal) fn take_stay(&self, (room, shard): (&RoomId, usize), client: &ClientId, stay: &[u8]) {
        let Ok(MovingStay { ip, ticket, kept: waiting }) = postcard::from_bytes(stay) else {
            // It had none where it was: nobody could take it up.
            let route = self.state().remove(client);
            drop(route);
            return self.say_goodbye(shard, client.clone(), "it was lost on its way to another node");
        };
        let permit = self.0.door.readmit(Instant::now(), ip, Thing::Client);
        let mut state = self.state();
        let mut kept = Kept::of(&state.rooms.get(room).map(|placement| placement.backlog.clone()).unwrap_or_default());
        for news in waiting {
            kept.push(Event::News { client: client.clone(), news });
        }
        state.gone_on.remove(client);
        let generation = match state.clients.get(client) {
            Some(Route { outlet: Outlet::Expected(_), generation, .. }) => generation + 1,
            Some(_) => return,
            None => 0,
        };
        let outlet = Outlet::Detached { kept, _expiry: self.expire_later(client.clone(), generation) };
        let (ticket, room) = (Some(ticket), room.clone());
        let route = Route { shard, room, outlet, generation, ticket, offer: None, permit, joining: None };
        match state.clients.get_mut(client) {
            Some(known) => *known = route,
            None => state.add_route(client.clone(), route),
        }
    }

    /// Whether somebody is here, or somewhere else in a room whose home is here.
    pub(in crate::signal) fn is_used(&self) -> bool {
        let state = self.state();
        !state.clients.is_empty() || state.rooms.values().any(|placement| !placement.far_wings.is_empty())
    }

    /// Some rooms that have their home here, and all their clients at other nodes: any of them, so that those that cannot move,
    /// and are asked again and again, keep nobody else's from being asked.
    pub(in crate::signal) fn movable_homes(&self, most: usize, is_wanted: impl Fn(&RoomId) -> bool) -> Vec<RoomId> {
        let state = self.state();
        let can = |placement: &Placement| {
            placement.far_home.is_none() && placement.clients == 0 && !placement.far_wings.is_empty()
        };
        let rooms = state.rooms.iter().filter(|(room, placement)| can(placement) && is_wanted(room));
        let some = rooms.choose_multiple(&mut rand::rng(), most);
        some.into_iter().map(|(room, _)| room.clone()).collect()
    }

    /// Some clients that could go on elsewhere, any of them likewise; `is_wanted` is asked of each with its room, and the room's home
    /// where that is another node.
    pub(in crate::signal) fn movable(
        &self,
        most: usize,
        is_wanted: impl Fn(&ClientId, &RoomId, Option<PlaceId>) -> bool,
    ) -> Vec<Movable> {
        let state = self.state();
        let movable = state.clients.iter().filter_map(|(client, route)| {
            let can = matches!(route.outlet, Outlet::Attached(_)) && route.ticket.is_some();
            let placement = state.rooms.get(&route.room).filter(|_| can)?;
            is_wanted(client, &route.room, placement.far_home).then_some((client, &route.room, placement))
        });
        let some = movable.choose_multiple(&mut rand::rng(), most).into_iter();
        let movable = some.map(|(client, room, placement)| Movable {
            room: room.clone(),
            client: client.clone(),
            home: placement.far_home,
            wings: placement.far_wings.clone(),
        });
        movable.collect()
    }

    /// Whether a stay is here, or is about to be.
    pub(in crate::signal) fn has_stay(&self, ticket: &str) -> bool {
        Ticket::parse(ticket).is_some_and(|(client, _)| self.state().clients.contains_key(&client))
    }

    /// The shard for one more client of a room, who comes from another node; `None` when nobody may come.
    pub(in crate::signal) fn shard_for(&self, room: &RoomId) -> Option<usize> {
        let state = self.state();
        if self.0.bounds.resume.is_zero() || state.is_closed {
            return None;
        }
        let clients = |shard: usize| state.clients.values().filter(|route| route.shard == shard).count();
        let known = state.rooms.get(room).map(|placement| placement.shard);
        known.or_else(|| (0..self.0.shards.len()).min_by_key(|shard| clients(*shard)))
    }
}

impl State {
    fn remember_gone(&mut self, client: ClientId, gone: GoneOn) {
        if self.gone_on.len() >= MAX_GONE {
            let now = Instant::now();
            self.gone_on.retain(|_, gone| gone.until > now);
        }
        if self.gone_on.len() < MAX_GONE {
            self.gone_on.insert(client, gone);
        }
    }

    /// Where the stay of a ticket has gone on.
    pub(super) fn gone_to(&self, client: &ClientId, ticket: &Ticket) -> Option<String> {
        let gone = self.gone_on.get(client).filter(|gone| gone.until > Instant::now());
        gone.filter(|gone| gone.ticket.matches(ticket)).map(|gone| gone.url.clone())
    }

    /// The shard that passes on what a connection here still says for a stay that has gone on.
    pub(super) fn passes_on(&self, member: &Membership) -> Option<usize> {
        let gone = self.gone_on.get(&member.client).filter(|gone| gone.until > Instant::now());
        gone.filter(|gone| gone.generation == member.generation).map(|gone| gone.shard)
    }

    fn add_route(&mut self, client: ClientId, route: Route) {
        if let Some(placement) = self.rooms.get_mut(&route.room) {
            placement.clients += 1;
            if route.shard != placement.shard && !placement.wings.contains(&route.shard) {
                placement.wings.push(route.shard);
            }
        }
        self.clients.insert(client, route);
    }
}

/// What a client without a connection is told later; the rest it learns by the snapshot, or asks for again.
fn news(event: Event) -> Option<Shared<News>> {
    if let Event::News { news, .. } = event { Some(news) } else { None }
}
