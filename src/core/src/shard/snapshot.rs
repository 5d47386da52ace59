//! The room as one client is told of it.

use super::Shard;
use super::announce::client_info;
use crate::command::{Event, News};
use moonring_policy::hook::Presence;
use moonring_wire::id::{ClientId, ClientKey};
use moonring_wire::shared::Shared;

impl Shard {
    /// Tells a joined client who and what is in its room; a client that is gone, or still waits for its policy's
    /// verdict, is told of that when its time comes.
    pub(super) fn snapshot(&mut self, id: &ClientId) {
        let Some(key) = self.joined_client(id) else { return };
        let known = |key| self.world.clients.get(key);
        let Some(room) = self.world.rooms.get(self.world.clients[key].room) else { return };
        let others = room.announced.iter().filter(|other| **other != key).filter_map(|other| known(*other));
        let clients = others.map(client_info).collect();
        let tracks = room.tracks.iter().filter_map(|track| self.world.tracks.get(*track));
        let (own, tracks): (Vec<_>, Vec<_>) = tracks.partition(|track| track.owner == key);
        let infos = |tracks: Vec<&crate::room::track::Track>| tracks.into_iter().map(|t| t.info.clone()).collect();
        let facts = self.world.clients[key].facts.clone();
        self.work.events.push(Event::Joined {
            client: id.clone(),
            clients,
            tracks: infos(tracks),
            own: infos(own),
            attributes: facts.attributes.borrow().clone(),
            rights: facts.rights.get(),
        });
    }

    /// The room as it is for a client whose connection is a new one: what the one before was told of pauses, wanted
    /// layers and speakers may be lost, so it is all told again. A track that is not said to be paused is not.
    pub(super) fn snapshot_again(&mut self, id: &ClientId) {
        let Some(key) = self.joined_client(id) else { return };
        self.snapshot(id);
        let client = &self.world.clients[key];
        let paused = client.outbound.forwards.iter().flatten().filter_map(|forward| {
            let track = self.world.tracks.get(forward.track)?.info.id.clone();
            Some(Event::TrackPaused { client: id.clone(), track, reason: forward.allotted.paused? })
        });
        let published = client.inbound.published.iter().filter_map(|track| self.world.tracks.get(*track));
        let wanted = published.filter_map(|track| {
            let (track, layers) = (track.info.id.clone(), track.wanted_layers.clone()?);
            Some(Event::WantedLayers { client: id.clone(), track, layers })
        });
        let speaking = self.world.rooms.get(client.room).into_iter().flat_map(|room| room.speakers.current());
        let speakers = speaking.filter_map(|key| Some(self.world.clients.get(*key)?.id.clone())).collect();
        let speakers = Event::News { client: id.clone(), news: Shared::new(News::ActiveSpeakers(speakers)) };
        let told: Vec<_> = paused.chain(wanted).chain([speakers]).collect();
        told.into_iter().for_each(|event| self.work.events.push(event));
    }

    fn joined_client(&self, id: &ClientId) -> Option<ClientKey> {
        let key = self.index.clients.get(id).copied()?;
        let client = self.world.clients.get(key)?;
        (client.facts.presence.get() == Presence::Joined).then_some(key)
    }
}
