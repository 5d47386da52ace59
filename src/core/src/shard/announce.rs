//! Whom the others in a room hear of.
//!
//! Each client is either announced or not; what is and what should be are compared after everything that may change it,
//! and the difference is told.

use std::time::{Duration, Instant};

use super::Shard;
use crate::command::{ClientInfo, Event, News};
use moonring_policy::client::{Announced, Presence};
use moonring_wire::id::{ClientKey, RoomKey};
use moonring_wire::shared::{Shared, SharedValue};

/// Clients of a room up to which everybody is told of everybody, unless its policy says otherwise: a room of n tells n x n
/// times. Who comes beyond them is told of once it publishes.
pub(super) const MAX_ANNOUNCED: usize = 200;
/// Clients of whom a room is told at once, or no longer told, when that changes: each is a message to everybody, and a
/// connection's queue has an end. A room that may be over several shards shares them out.
const MAX_SLICE: usize = 100;
/// Time until the next ones.
pub(super) const SLICE_INTERVAL: Duration = Duration::from_secs(1);

impl Shard {
    /// Tells the others of a client if they should know of it and do not, or know of it and should not.
    pub(super) fn announce(&mut self, key: ClientKey) {
        let wanted = self.is_to_be_announced(key);
        // Of a client that is elsewhere its own place tells.
        let Some(client) = self.world.clients.get_mut(key).filter(|client| client.far.is_none()) else { return };
        if std::mem::replace(&mut client.is_announced, wanted) == wanted {
            return;
        }
        let (room, other) = (client.room, client_info(client));
        if let Some(room) = self.world.rooms.get_mut(room) {
            room.announced.retain(|other| *other != key);
            if wanted {
                room.announced.push(key);
            }
        }
        match wanted {
            true => self.tell_room(room, Some(key), News::ClientJoined(other)),
            false => self.tell_room(room, Some(key), News::ClientLeft(other.client)),
        }
    }

    fn is_to_be_announced(&self, key: ClientKey) -> bool {
        let Some(client) = self.world.clients.get(key) else { return false };
        let is_in = client.facts.presence.get() == Presence::Joined && !client.facts.is_hidden.get();
        let publishes = !client.inbound.published.is_empty();
        let announcing = self.world.rooms.get(client.room).map(|room| room.announcing.wanted);
        is_in
            && match announcing.flatten() {
                None => client.came_early || publishes,
                Some(Announced::All) => true,
                Some(Announced::Publishers) => publishes,
                Some(Announced::Nobody) => false,
            }
    }

    /// Tells of others than before: of who comes from now on at once, of who is there in slices.
    pub(super) fn set_announced(&mut self, now: Instant, key: RoomKey, wanted: Announced) {
        if let Some(room) = self.world.rooms.get_mut(key)
            && room.announcing.wanted.replace(wanted) != Some(wanted)
        {
            room.announcing.is_pending = true;
            self.announce_slice(now, key);
        }
    }

    /// Tells of some who are in the room and are not told of as they should be.
    pub(super) fn announce_slice(&mut self, now: Instant, key: RoomKey) {
        let Some(room) = self.world.rooms.get_mut(key).filter(|room| room.announcing.is_pending) else { return };
        if room.announcing.changed.is_some_and(|at| at + SLICE_INTERVAL > now) {
            return self.attend(key);
        }
        let clients = room.clients.clone();
        let differs = |client: &ClientKey| {
            let own = self.world.clients.get(*client).filter(|c| c.far.is_none());
            own.is_some_and(|c| c.is_announced != self.is_to_be_announced(*client))
        };
        let slice = (MAX_SLICE / self.world.links.places().max(1)).max(1);
        let mut wrong: Vec<_> = clients.into_iter().filter(differs).take(slice + 1).collect();
        let is_more = wrong.len() > slice;
        wrong.truncate(slice);
        let told = !wrong.is_empty();
        wrong.into_iter().for_each(|client| self.announce(client));
        if let Some(room) = self.world.rooms.get_mut(key) {
            room.announcing.is_pending = is_more;
            room.announcing.changed = if told { Some(now) } else { room.announcing.changed };
            self.attend(key);
        }
    }

    /// Something else is said of a client: it is told itself, and whoever knows of it.
    pub(super) fn set_attributes(&mut self, key: ClientKey, attributes: SharedValue) {
        let Some(client) = self.world.clients.get(key) else { return };
        client.facts.attributes.replace(attributes.clone());
        let (room, other, is_announced) = (client.room, client.id.clone(), client.is_announced);
        if client.facts.presence.get() != Presence::Joined {
            return;
        }
        let news = News::ClientChanged { client: other.clone(), attributes };
        match is_announced {
            true => self.tell_room(room, None, news),
            false => self.work.events.push(Event::News { client: other, news: Shared::new(news) }),
        }
    }
}

/// A client as others see it.
pub(super) fn client_info(client: &crate::room::client::Client) -> ClientInfo {
    let (metadata, attributes) = (client.facts.metadata.clone(), client.facts.attributes.borrow().clone());
    ClientInfo { client: client.id.clone(), metadata, attributes }
}
