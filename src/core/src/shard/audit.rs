//! Whether the tables of a shard agree with each other. For tests and the simulator: it looks at everything.

use super::Shard;
use super::timers::FIRST_SWEEP;
use crate::room::client::{Client, SectionUse};
use moonring_policy::hook::Presence;
use moonring_wire::id::ClientKey;

/// SSRCs, sections and such of one client are bounded; this is far above what they add up to.
const MAX_CLIENT_ENTRIES: usize = 4_096;

impl Shard {
    /// Everything that does not fit together, in words; nothing when all is well.
    pub fn audit(&self) -> Vec<String> {
        let mut found = Vec::new();
        let mut check = |holds: bool, words: &dyn Fn() -> String| {
            if !holds {
                found.push(words());
            }
        };
        let (world, index) = (&self.world, &self.index);
        check(index.clients.len() == world.clients.len(), &|| "clients and their index differ in number".into());
        check(index.tracks.len() == world.tracks.len(), &|| "tracks and their index differ in number".into());
        check(index.rooms.len() == world.rooms.len(), &|| "rooms and their index differ in number".into());
        let is_joining = |client: &&Client| client.far.is_none() && client.facts.presence.get() != Presence::Joined;
        let joining = world.clients.values().filter(is_joining).count();
        let far = world.clients.values().filter(|client| client.far.is_some()).count();
        check(far == index.far, &|| format!("{far} clients are elsewhere, {} are counted", index.far));
        check(joining == index.joining, &|| format!("{joining} clients are joining, {} are counted", index.joining));
        let timers = 2 * (world.clients.len() + 2 * world.rooms.len() + 3) + FIRST_SWEEP;
        check(self.work.timers.len() <= timers, &|| format!("{} timers wait", self.work.timers.len()));
        for (address, key) in &index.addresses {
            let knows = world.clients.get(*key).is_some_and(|client| client.reach.addresses.contains(address));
            check(knows, &|| format!("{address} leads to a client that does not have it"));
        }
        for (key, _, late) in &self.work.late {
            let is_ending = world.rooms.get(*key).is_some_and(|room| room.life.ending.is_some());
            check(is_ending, &|| format!("{} waits for a room that does not end", late.client));
        }
        for key in self.homes.rooms() {
            check(world.rooms.contains_key(key), &|| "the home of a room that is gone is on its way".into());
        }
        for key in index.ufrags.values() {
            check(world.clients.contains_key(*key), &|| "a ufrag leads to nobody".into());
        }
        for (key, room) in &world.rooms {
            let members = || room.clients.iter().filter_map(|client| world.clients.get(*client));
            check(members().count() == room.clients.len(), &|| format!("room {} has a client that is gone", room.id));
            check(members().all(|client| client.room == key), &|| {
                format!("room {} has another room's client", room.id)
            });
            let is_home = room.policy().is_some();
            let is_member = |c: &&Client| c.facts.presence.get() == Presence::Joined && (is_home || c.far.is_none());
            let joined = members().filter(is_member).count();
            let here = members().filter(|client| client.far.is_none()).count();
            check(here == room.here, &|| {
                format!("room {} has {here} clients here, {} are counted", room.id, room.here)
            });
            check(joined == room.members, &|| {
                format!("room {} has {joined} members, {} are counted", room.id, room.members)
            });
            let announced = members().filter(|client| client.is_announced).count();
            check(announced == room.announced.len(), &|| format!("room {} has {announced} who are told of", room.id));
            let is_kept = room.life.kept_until.is_some();
            check(is_kept == self.work.kept.contains(&key), &|| format!("room {} is kept, or it is not", room.id));
            let is_used = if is_home { !room.is_empty() } else { room.here > 0 || !room.wings().is_empty() };
            let is_used = is_used || self.moves.hold(&room.id) || self.homes.comes_to(key);
            // Whether it ends is looked at once its script is here.
            let is_used = is_used || self.policy.awaited.contains_key(&key);
            check(is_used || room.hooks > 0 || is_kept, &|| format!("room {} is empty and stays", room.id));
            let tracks = room.tracks.iter().all(|track| world.tracks.get(*track).is_some_and(|t| t.room == key));
            check(tracks, &|| format!("room {} has a track that is gone or not its own", room.id));
        }
        for (key, client) in &world.clients {
            found.extend(self.audit_client(key, client));
        }
        for (key, track) in &world.tracks {
            let owner = world.clients.get(track.owner);
            if !owner.is_some_and(|owner| owner.inbound.published.contains(&key) && owner.room == track.room) {
                found.push(format!("track {} is not its owner's", track.info.id));
            }
            for (receiver, place) in &track.subscribers {
                let forward =
                    world.clients.get(*receiver).and_then(|c| c.outbound.forwards.get(usize::from(*place))?.as_ref());
                if forward.is_none_or(|forward| forward.track != key) {
                    found.push(format!("track {} has a receiver that has no forward of it", track.info.id));
                }
                if world.clients.get(*receiver).is_some_and(|receiver| receiver.room != track.room) {
                    found.push(format!("track {} is received from another room", track.info.id));
                }
            }
        }
        found
    }

    fn audit_client(&self, key: ClientKey, client: &Client) -> Vec<String> {
        let mut found = Vec::new();
        let mut check = |holds: bool, words: &str| {
            if !holds {
                found.push(format!("client {}: {words}", client.id));
            }
        };
        let world = &self.world;
        check(self.index.clients.get(&client.id) == Some(&key), "its id leads elsewhere");
        check(
            world.rooms.get(client.room).is_some_and(|room| room.clients.contains(&key)),
            "its room does not have it",
        );
        check(client.facts.presence.get() != Presence::Gone, "it is gone and here");
        check(client.inbound.published.iter().all(|track| world.tracks.contains_key(*track)), "a track of it is gone");
        let streams = client.inbound.streams.values().all(|incoming| world.tracks.contains_key(incoming.track));
        check(streams, "a stream of it leads to no track");
        for (place, forward) in client.outbound.forwards.iter().enumerate() {
            let Some(forward) = forward else { continue };
            let is_received = world.tracks.get(forward.track).map(|t| t.subscribers.contains(&(key, place as u16)));
            check(is_received.unwrap_or(forward.follows), "a forward of it is unknown to its track");
        }
        for (_, used) in &client.negotiated.sections {
            let is_used = match used {
                SectionUse::Publish(track) => client.inbound.published.contains(track),
                SectionUse::Receive(place) => {
                    client.outbound.forwards.get(usize::from(*place)).is_some_and(Option::is_some)
                }
            };
            check(is_used, "a section of it is used for nothing");
        }
        let entries = client.inbound.streams.len()
            + client.negotiated.sections.len()
            + client.outbound.forwards.len()
            + client.outbound.todo.len()
            + client.reach.addresses.len()
            + client.reach.ufrags.len();
        check(entries <= MAX_CLIENT_ENTRIES, "its tables grow");
        found
    }
}
