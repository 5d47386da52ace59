//! The room as one client is told of it.

use super::Shard;
use crate::command::{ClientInfo, Event};
use moonring_policy::hook::Presence;
use moonring_wire::id::ClientId;

impl Shard {
    /// Tells a joined client who and what is in its room; a client that is gone, or still waits for its policy's
    /// verdict, is told of that when its time comes.
    pub(super) fn snapshot(&mut self, id: &ClientId) {
        let Some(key) = self.index.clients.get(id).copied() else { return };
        let joined = |key| self.world.clients.get(key).filter(|c| c.facts.presence.get() == Presence::Joined);
        let Some(client) = joined(key) else { return };
        let Some(room) = self.world.rooms.get(client.room) else { return };
        let others = room.clients.iter().filter(|other| **other != key).filter_map(|other| joined(*other));
        let clients = others.map(|c| ClientInfo { client: c.id.clone(), metadata: c.facts.metadata.clone() }).collect();
        let tracks = room.tracks.iter().filter_map(|track| self.world.tracks.get(*track));
        let (own, tracks): (Vec<_>, Vec<_>) = tracks.partition(|track| track.owner == key);
        let infos = |tracks: Vec<&crate::room::track::Track>| tracks.into_iter().map(|t| t.info.clone()).collect();
        self.work.events.push_back(Event::Joined {
            client: id.clone(),
            clients,
            tracks: infos(tracks),
            own: infos(own),
        });
    }
}
