//! What ends while its client stays: tracks and forwards.

use std::time::Instant;

use serde_json::json;

use super::faults::Stage;
use super::{Shard, follow};
use crate::command::News;
use crate::room::client::{Incoming, SectionUse};
use crate::room::former::FormerStream;
use crate::room::track::Track;
use moonring_policy::hook::HookCall;
use moonring_wire::id::{ClientId, ClientKey, TrackId, TrackKey};

impl Shard {
    pub(super) fn unpublish(&mut self, now: Instant, id: &ClientId, track: &TrackId) {
        match self.own_track(id, track) {
            Some(key) => self.remove_track(now, key),
            None => self.refuse_unknown_track(id, track),
        }
    }

    pub(super) fn unsubscribe(&mut self, id: &ClientId, track: &TrackId) {
        let key = self.index.clients.get(id).copied();
        let place = key.and_then(|k| self.world.clients[k].forward_of(*self.index.tracks.get(track)?));
        match (key, place) {
            (Some(key), Some(place)) => self.remove_forward(key, place),
            // What the client does not receive (any more) needs no end.
            (Some(key), None) if self.is_in_room_of(key, track) => {}
            _ => self.refuse_unknown_track(id, track),
        }
    }

    /// Takes a track out: its forwards, its streams. Everybody and the policy are told.
    pub(super) fn remove_track(&mut self, now: Instant, key: TrackKey) {
        let Some(track) = self.take_track_out(now, key) else { return };
        let Some(facts) = self.world.clients.get(track.owner).map(|owner| owner.facts.clone()) else { return };
        self.update_facts(track.owner);
        self.tell_room(track.room, Some(track.owner), News::TrackUnpublished(track.info.id.clone()));
        self.announce(track.owner);
        self.tell_webhook(track.room, "track_unpublished", || json!(track.info));
        self.notify_policy(now, track.room, HookCall::TrackUnpublished { client: facts, track: track.info });
    }

    /// Takes a track out, and tells nobody.
    pub(super) fn take_track_out(&mut self, now: Instant, key: TrackKey) -> Option<Track> {
        let track = self.world.tracks.remove(key)?;
        self.stage(Stage::Unpublishing);
        self.index.tracks.remove(&track.info.id);
        for (subscriber, place) in &track.subscribers {
            let Some(client) = self.world.clients.get_mut(*subscriber) else { continue };
            let forward = client.outbound.forwards[usize::from(*place)].as_ref();
            if forward.is_some_and(|forward| forward.follows) {
                // The next track takes its place: looked for soon, and again and again.
                client.deadlines.report = client.deadlines.report.min(now + follow::INTERVAL);
                self.schedule(*subscriber);
            } else {
                client.remove_forward(*place);
            }
        }
        if let Some(room) = self.world.rooms.get_mut(track.room) {
            room.tracks.retain(|k| *k != key);
            room.dirty.retain(|k| *k != key);
            room.speakers.remove(key);
            room.track_ended(track.info.id.clone());
        }
        let Some(owner) = self.world.clients.get_mut(track.owner) else { return Some(track) };
        owner.inbound.published.retain(|k| *k != key);
        owner.negotiated.sections.retain(|(_, used)| *used != SectionUse::Publish(key));
        let ended: Vec<_> =
            owner.inbound.streams.iter().filter(|(_, i)| i.track == key).map(|(ssrc, i)| (*ssrc, *i)).collect();
        for (ssrc, Incoming { layer, rtx, .. }) in ended {
            owner.inbound.streams.remove(&ssrc);
            if let Some(rid) = track.layers[usize::from(layer)].rid.clone() {
                owner.inbound.former.note(FormerStream { ssrc, mid: track.mid.clone(), rid, rtx });
            }
            if let Some(transport) = &mut owner.transport {
                transport.retire_ssrc(ssrc.0);
            }
        }
        Some(track)
    }

    pub(super) fn remove_forward(&mut self, key: ClientKey, place: u16) {
        let Some(forward) = self.world.clients.get_mut(key).and_then(|c| c.remove_forward(place)) else { return };
        if let Some(track) = self.world.tracks.get_mut(forward.track) {
            track.subscribers.retain(|s| *s != (key, place));
            self.tell_wanted_layers(forward.track);
        }
    }

    pub(super) fn remove_forwards(&mut self, key: ClientKey) {
        let places = self.world.clients.get(key).map_or(0, |c| c.outbound.forwards.len());
        for place in 0..places {
            self.remove_forward(key, place as u16);
        }
    }
}
