//! Reads ahead: what forwarding is about to touch is read for several rooms or clients at once.
//!
//! A shard with thousands of rooms does not fit the caches: each packet finds its client, its track and its receivers in
//! memory, one pointer after the other, and waits for each. Those of different rooms do not depend on each other, and the
//! processor waits for many at a time if it meets them close enough together. So each step of the way is made for a
//! batch before the next step. What is read is not used: it is in the cache afterwards.

use std::hint::black_box;

use slotmap::SlotMap;

use super::World;
use super::client::Client;
use moonring_wire::id::{ClientKey, RoomKey, TrackKey};

/// Clients that are read together.
pub const CLIENTS: usize = 32;
/// Rooms that are read together.
pub const ROOMS: usize = 16;
/// Receivers that are read together, at most, those of several rooms.
pub const RECEIVERS: usize = 64;
/// The same of one large room.
const TOUCHED: usize = 16;

/// Memory to note what was found in one step for the next.
#[derive(Debug, Default)]
pub struct ReadAhead {
    tracks: Vec<TrackKey>,
    receivers: Vec<(ClientKey, u16)>,
}

impl ReadAhead {
    /// Reads what the next packets of these clients touch on their way in.
    pub fn clients(world: &World, clients: &[ClientKey]) {
        let World { clients: known, tracks, rooms, .. } = world;
        let all = || clients.iter().filter_map(|key| known.get(*key));
        let mut seen = 0;
        for client in all() {
            seen ^= client.transport.as_ref().map_or(0, |t| t.glance_in());
            seen ^= client.inbound.published.len() as u64;
        }
        for client in all() {
            seen ^= client.transport.as_ref().map_or(0, |t| t.glance_in_keys()) ^ client.facts.traffic.packets_in.get();
            seen ^= u64::from(client.deadlines.feedback.is_some());
            if let Some((ssrc, incoming)) = client.inbound.streams.first_key_value() {
                seen ^= u64::from(ssrc.0) ^ u64::from(incoming.layer);
            }
            if let Some(room) = rooms.get(client.room) {
                seen ^= room.dirty.len() as u64 ^ room.touched.len() as u64 ^ room.hopping.len() as u64;
            }
            if let Some(arrivals) = &client.inbound.arrivals {
                seen ^= arrivals.glance();
            }
            if let Some(track) = client.inbound.published.first().and_then(|key| tracks.get(*key)) {
                seen ^= track.glance();
            }
        }
        for track in all().filter_map(|client| tracks.get(*client.inbound.published.first()?)) {
            seen ^= track.layers.first().map_or(0, |layer| layer.glance());
        }
        for track in all().filter_map(|client| tracks.get(*client.inbound.published.first()?)) {
            seen ^= track.layers.first().map_or(0, |layer| layer.history.glance());
        }
        black_box(seen);
    }

    /// Reads what forwarding in these rooms touches.
    pub fn rooms(&mut self, world: &World, rooms: impl Iterator<Item = RoomKey>) {
        let World { rooms: known, tracks, clients, .. } = world;
        self.tracks.clear();
        self.receivers.clear();
        for room in rooms.filter_map(|key| known.get(key)) {
            self.tracks.extend(room.dirty.first());
        }
        for track in self.tracks.iter().filter_map(|key| tracks.get(*key)) {
            // What does not fit in is left out; those of a room of more are read while they are sent to.
            if track.subscribers.len() <= RECEIVERS - self.receivers.len() {
                self.receivers.extend(track.subscribers.iter());
            }
        }
        let receivers = &self.receivers;
        read_receivers(|| receivers.iter().filter_map(|(key, place)| Some((clients.get(*key)?, usize::from(*place)))));
    }

    /// Reads what sending to the last of `touched`, clients with something waiting, touches; of how many.
    pub fn touched(clients: &SlotMap<ClientKey, Client>, touched: &[ClientKey]) -> usize {
        let next = &touched[touched.len().saturating_sub(TOUCHED)..];
        let with_place = |client: &Client| client.outbound.todo.last().map(|place| usize::from(*place));
        read_receivers(|| {
            let all = next.iter().filter_map(|key| clients.get(*key));
            all.filter_map(|client| Some((client, with_place(client)?)))
        });
        next.len()
    }
}

/// Reads what sending touches, of clients and their forwards' places.
fn read_receivers<'c, I: Iterator<Item = (&'c Client, usize)>>(all: impl Fn() -> I) {
    let mut seen = 0;
    for (client, _) in all() {
        seen ^= client.transport.as_ref().map_or(0, |t| t.glance_out());
        seen ^= client.outbound.forwards.len() as u64;
        seen ^= client.outbound.todo.len() as u64 ^ u64::from(client.outbound.congestion.is_some());
    }
    for (client, place) in all() {
        seen ^= client.transport.as_ref().map_or(0, |t| t.glance_out_keys()) ^ client.facts.traffic.packets_out.get();
        seen ^= client.outbound.todo.capacity() as u64 ^ u64::from(client.outbound.is_touched);
        if let Some(Some(forward)) = client.outbound.forwards.get(place) {
            seen ^= forward.glance();
        }
        if let Some(congestion) = &client.outbound.congestion {
            seen ^= congestion.glance();
        }
    }
    for congestion in all().filter_map(|(client, _)| client.outbound.congestion.as_deref()) {
        seen ^= congestion.glance_sent();
    }
    black_box(seen);
}
