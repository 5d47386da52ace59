//! What the policy gives and takes while a client is there.

use std::time::Instant;

use super::Shard;
use crate::command::{Event, LeaveCause};
use moonring_policy::client::{HIDDEN_MAY_NOT_PUBLISH, Presence, RightsChange, Via};
use moonring_policy::hook::{MAY_NOT_PUBLISH, MAY_NOT_SUBSCRIBE};
use moonring_wire::id::{ClientKey, TrackKey};
use moonring_wire::media::Source;

impl Shard {
    /// Why a client may not publish something of `source`, whatever the policy's hook would say.
    pub(super) fn no_right_to_publish(&self, key: ClientKey, source: Source) -> Option<&'static str> {
        let facts = &self.world.clients.get(key)?.facts;
        match facts.rights.get().publish.has(source) {
            _ if facts.is_hidden.get() => Some(HIDDEN_MAY_NOT_PUBLISH),
            true => None,
            false => Some(MAY_NOT_PUBLISH),
        }
    }

    /// The same about receiving.
    pub(super) fn no_right_to_subscribe(&self, key: ClientKey) -> Option<&'static str> {
        let rights = self.world.clients.get(key)?.facts.rights.get();
        (!rights.subscribe).then_some(MAY_NOT_SUBSCRIBE)
    }

    /// Gives and takes rights; what the client has no right to any more ends, with the reason.
    pub(super) fn change_rights(&mut self, now: Instant, key: ClientKey, change: RightsChange, reason: &str) {
        let Some(client) = self.world.clients.get(key) else { return };
        let (before, id) = (client.facts.rights.get(), client.id.clone());
        let rights = change.applied_to(before);
        if rights == before {
            return;
        }
        client.facts.rights.set(rights);
        if client.facts.presence.get() == Presence::Joined {
            self.work.events.push(Event::Rights { client: id, rights });
        }
        let Some(client) = self.world.clients.get(key) else { return };
        let is_taken =
            |track: &&TrackKey| self.world.tracks.get(**track).is_some_and(|t| !rights.publish.has(t.info.source));
        let taken: Vec<_> = client.inbound.published.iter().filter(is_taken).copied().collect();
        let places = if rights.subscribe { 0 } else { client.outbound.forwards.len() };
        for track in taken {
            self.end_track(now, track, reason);
        }
        for place in 0..places {
            self.end_subscription(now, key, place as u16, reason);
        }
    }

    /// Others may hear of a client from now on, or, as long as it has not joined, may not.
    pub(super) fn set_hidden(&mut self, key: ClientKey, is_hidden: bool) {
        let Some(client) = self.world.clients.get(key) else { return };
        let may_be = client.facts.presence.get() != Presence::Joined || client.facts.is_hidden.get();
        client.facts.is_hidden.set(is_hidden && may_be);
        self.announce(key);
    }

    /// Ends a client's track, which it has not asked for, and tells it why.
    pub(super) fn end_track(&mut self, now: Instant, key: TrackKey, reason: &str) {
        let Some(track) = self.world.tracks.get(key) else { return };
        let (owner, id) = (track.owner, track.info.id.clone());
        self.remove_track(now, key);
        let Some(client) = self.world.clients.get(owner).map(|client| client.id.clone()) else { return };
        tracing::info!(%client, track = %id, reason, "a track is ended");
        self.work.events.push(Event::TrackEnded { client, track: id, reason: reason.to_owned() });
        self.end_session_without_use(now, owner, reason);
    }

    /// Ends what a client receives, which it has not asked for, and tells it why.
    pub(super) fn end_subscription(&mut self, now: Instant, key: ClientKey, place: u16, reason: &str) {
        let Some(client) = self.world.clients.get(key) else { return };
        let forward = client.outbound.forwards.get(usize::from(place)).and_then(Option::as_ref);
        let Some(forward) = forward else { return };
        let track = self.world.tracks.get(forward.track).map(|track| track.info.id.clone());
        let client = client.id.clone();
        self.remove_forward(key, place);
        // A player's place that waits for its next track has none to name.
        if let Some(track) = track {
            tracing::info!(%client, %track, reason, "a subscription is ended");
            self.work.events.push(Event::Unsubscribed { client, track, reason: reason.to_owned() });
        }
        self.end_session_without_use(now, key, reason);
    }

    /// An encoder or a player over HTTP cannot be told that nothing is left of its session, nor ask for something else.
    fn end_session_without_use(&mut self, now: Instant, key: ClientKey, reason: &str) {
        let Some(client) = self.world.clients.get(key) else { return };
        let is_used = match client.facts.connection.via {
            Via::WebSocket => true,
            Via::Whip => !client.inbound.published.is_empty(),
            Via::Whep => client.outbound.forwards.iter().any(Option::is_some),
        };
        if !is_used {
            self.remove_client(now, key, LeaveCause::Kicked(reason.to_owned()), reason);
        }
    }
}
