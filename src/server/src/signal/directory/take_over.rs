//! Who is where, for a process that takes over from this one.

use std::collections::HashSet;
use std::net::IpAddr;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::inbox::{Backlog, inbox};
use super::resume::Ticket;
use super::waiting::Waiting;
use super::{Directory, Kept, Membership, Outlet, Permit, Placement, Route};
use crate::signal::door::Thing;
use moonring_wire::id::{ClientId, RoomId};

/// All stays that go on, with their rooms.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(in crate::signal) struct Stays {
    rooms: Vec<RoomStay>,
    clients: Vec<ClientStay>,
    slow_clients: u64,
}

#[derive(Debug, Serialize, Deserialize)]
struct RoomStay {
    room: RoomId,
    shard: usize,
    entered: usize,
    /// The address that opened it.
    opener: Option<IpAddr>,
}

#[derive(Debug, Serialize, Deserialize)]
struct ClientStay {
    client: ClientId,
    room: RoomId,
    shard: usize,
    /// The address whose place it has.
    ip: IpAddr,
    ticket: Option<Ticket>,
}

impl Stays {
    /// How many clients there are.
    pub(in crate::signal) fn clients(&self) -> usize {
        self.clients.len()
    }

    /// Whether this is of a server with so many shards.
    pub(in crate::signal) fn fits(&self, shards: usize) -> bool {
        self.rooms.iter().map(|room| room.shard).chain(self.clients.iter().map(|c| c.shard)).all(|n| n < shards)
    }
}

impl Directory {
    /// Lets nobody in, or everybody again.
    pub(in crate::signal) fn close(&self, is_closed: bool) {
        self.state().is_closed = is_closed;
    }

    /// The stays of these clients, and the rooms that somebody was admitted to. From here on no ticket is given out or taken.
    pub(in crate::signal) fn freeze(&self, clients: &HashSet<ClientId>) -> Stays {
        let mut state = self.state();
        state.is_frozen = true;
        let stays = state.clients.iter().filter(|(client, route)| clients.contains(*client) && route.joining.is_none());
        let stay = |(client, route): (&ClientId, &Route)| ClientStay {
            client: client.clone(),
            room: route.room.clone(),
            shard: route.shard,
            ip: route.permit.origin().ip(),
            ticket: route.ticket.clone(),
        };
        let rooms = state.rooms.iter().filter(|(_, placement)| placement.lived);
        let room = |(room, placement): (&RoomId, &Placement)| RoomStay {
            room: room.clone(),
            shard: placement.shard,
            entered: placement.entered,
            opener: placement._permit.as_ref().map(|permit| permit.origin().ip()),
        };
        Stays { rooms: rooms.map(room).collect(), clients: stays.map(stay).collect(), slow_clients: state.slow_clients }
    }

    /// No other process takes over.
    pub(in crate::signal) fn thaw(&self) {
        self.state().is_frozen = false;
    }

    /// Takes in everybody of the process before, without their connections. Limits that are lower now hold for who comes next.
    pub(in crate::signal) fn inherit(&self, stays: Stays) {
        let (door, now) = (&self.0.door, Instant::now());
        let mut state = self.state();
        state.slow_clients = stays.slow_clients;
        for RoomStay { room, shard, entered, opener } in stays.rooms {
            let placement = Placement {
                shard,
                wings: Vec::new(),
                far_home: None,
                far_wings: Vec::new(),
                entered,
                clients: 0,
                waiting: Waiting::default(),
                lived: true,
                backlog: Backlog::default(),
                _permit: opener.map(|ip| door.readmit(now, ip, Thing::Room)),
            };
            state.rooms_lived += usize::from(state.rooms.insert(room, placement).is_none());
        }
        for ClientStay { client, room, shard, ip, ticket } in stays.clients {
            let Some(placement) = state.rooms.get_mut(&room) else { continue };
            placement.clients += 1;
            let permit: Permit = door.readmit(now, ip, Thing::Client);
            let kept = Kept::of(&placement.backlog);
            let outlet = Outlet::Detached { kept, _expiry: self.expire_later(client.clone(), 0) };
            let route = Route { shard, room, outlet, generation: 0, ticket, offer: None, permit, joining: None };
            state.clients.insert(client, route);
        }
    }

    /// Connects a stay without a ticket: one that is held over HTTP.
    pub(in crate::signal) fn attach(&self, client: &ClientId) -> Option<Membership> {
        let mut state = self.state();
        let backlog = state.backlog_of(client);
        let route = state.clients.get_mut(client)?;
        let (outbox, events) = inbox(&backlog);
        route.generation += 1;
        route.outlet = Outlet::Attached(outbox);
        let (client, generation) = (client.clone(), route.generation);
        Some(Membership::new(self, client, events, generation))
    }
}
