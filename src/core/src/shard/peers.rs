//! The links to the shards of other nodes: which there are, and how they are.

use std::collections::BTreeSet;
use std::time::Instant;

use super::{Shard, Timer};
use crate::report::LinkReport;
use crate::room::links::{Change, Health, INTERVAL};
use moonring_wire::id::{PlaceId, RoomId, TrackKey};
use moonring_wire::link::{Frame, LinkPeer};
use moonring_wire::packet::SendBatch;

impl Shard {
    /// The control plane says which shards of other nodes there are.
    pub(super) fn set_peers(&mut self, now: Instant, peers: &[LinkPeer]) {
        let known: Vec<_> = self.world.links.to_nodes().map(|(place, _)| place).collect();
        for place in self.world.links.set_peers(now, peers) {
            tracing::info!(place = place.0, "the link to a shard of another node ends");
            self.policy.away.remove(&place);
            self.place_gone(now, place);
        }
        let begun: Vec<_> =
            self.world.links.to_nodes().map(|(place, _)| place).filter(|p| !known.contains(p)).collect();
        if !begun.is_empty() {
            self.link_far_tracks(now, &begun);
        }
        if !peers.is_empty() && !self.work.links_set {
            self.schedule_links(now);
        }
    }

    /// What came from places that were only thought to be gone, and is still known here, comes from there again.
    fn link_far_tracks(&mut self, now: Instant, places: &[PlaceId]) {
        for (key, track) in &self.world.tracks {
            let far = track.far.as_deref().map(|far| (far.link, far.handle));
            let former = track.former.as_deref().map(|former| (former.link, former.handle));
            for (place, handle) in [far, former].into_iter().flatten().filter(|(place, _)| places.contains(place)) {
                if let Some(link) = self.world.links.get_mut(place) {
                    link.tracks.insert(handle, key);
                }
            }
        }
        // It is wanted from there on.
        self.schedule_places(now);
    }

    /// Sets the timer that looks after the links.
    pub(super) fn schedule_links(&mut self, now: Instant) {
        self.work.links_set = true;
        self.set_timer(now + INTERVAL, Timer::Links);
    }

    /// Tells peers that this shard lives, and looks whether they do.
    pub(super) fn links_timer(&mut self, now: Instant, out: &mut SendBatch) {
        let at = self.link_clock(now);
        let (mut due, mut changes, mut is_there) = (Vec::new(), Vec::new(), false);
        for (place, link) in self.world.links.to_nodes() {
            is_there = true;
            let (was_used, sent) = (std::mem::take(&mut link.was_used), link.sent());
            let Some(health) = link.health.as_deref_mut() else { continue };
            if was_used {
                health.used(now);
            }
            changes.extend(health.look(now).map(|change| (place, change)));
            if let Some((echo, held)) = health.due(now) {
                due.push((place, Frame::Alive { sent, at, echo, held }));
            }
        }
        for (place, alive) in due {
            // One that does not fit is said again.
            let _ = self.world.links.send(place, &alive, 0, out);
            if let Some(link) = self.world.links.get_mut(place) {
                link.was_used = false;
            }
        }
        changes.into_iter().for_each(|(place, change)| self.link_changed(now, place, change));
        self.refuse_unreachable(now);
        let is_waiting = self.look_at_orphans(now);
        self.work.links_set = false;
        if is_there || is_waiting {
            self.schedule_links(now);
        }
    }

    /// Microseconds, modulo 2^32, and never 0.
    fn link_clock(&self, now: Instant) -> u32 {
        (now.saturating_duration_since(self.start).as_micros() as u32).max(1)
    }

    /// A peer says that it lives.
    pub(super) fn alive(&mut self, now: Instant, place: PlaceId, word: (u64, u32, u32, u32)) {
        let clock = self.link_clock(now);
        let health = self.world.links.get_mut(place).and_then(|link| link.health.as_deref_mut());
        let change = health.and_then(|health| health.take_word(now, clock, word));
        change.into_iter().for_each(|change| self.link_changed(now, place, change));
    }

    /// A datagram of a peer was opened.
    pub(super) fn peer_heard(&mut self, now: Instant, place: PlaceId) {
        let health = self.world.links.get_mut(place).and_then(|link| link.health.as_deref_mut());
        let change = health.and_then(|health| health.heard(now));
        change.into_iter().for_each(|change| self.link_changed(now, place, change));
    }

    fn link_changed(&mut self, now: Instant, place: PlaceId, change: Change) {
        let node = place.0;
        match change {
            Change::Silent => {
                tracing::warn!(
                    place = node,
                    "a shard of another node is silent on its link: what comes from there stands still"
                );
            }
            Change::Heard => tracing::info!(place = node, "a shard of another node is heard again on its link"),
            Change::Layers(down, lost) => {
                tracing::warn!(
                    place = node,
                    lost_permille = lost,
                    layers_down = down,
                    "what is wanted over a link changes with its loss"
                );
                for key in self.world.links.tracks_from(place) {
                    self.hold_layers_down(now, key, down);
                    self.want_far_track(key);
                }
            }
        }
    }

    /// Layers of a far track that are not asked for now do not come: its receivers get lower ones.
    fn hold_layers_down(&mut self, now: Instant, key: TrackKey, down: u8) {
        let Some(track) = self.world.tracks.get_mut(key) else { return };
        let kept = track.layers.len().saturating_sub(down.into()).max(1);
        for layer in track.layers.iter_mut().skip(kept) {
            layer.comes_elsewhere(now, 0);
        }
        for (client, _) in track.subscribers.clone() {
            self.choose_layers(now, client);
        }
    }

    /// The links to other nodes, as operators see them.
    pub(super) fn link_reports(&self) -> Vec<LinkReport> {
        let report = |(place, sent, health): (PlaceId, u64, &Health)| LinkReport {
            place,
            sent,
            received: health.received,
            lost: health.lost,
            layers_down: health.layers_down,
            is_silent: health.is_silent,
            rooms: if health.is_silent { self.rooms_from(place) } else { Vec::new() },
            rtt: health.rtt(),
        };
        self.world.links.healths().map(report).collect()
    }

    /// The rooms with tracks of a place.
    fn rooms_from(&self, place: PlaceId) -> Vec<RoomId> {
        let tracks = self.world.links.tracks_from(place).into_iter();
        let keys = tracks.filter_map(|key| Some(self.world.tracks.get(key)?.room));
        let rooms: BTreeSet<_> = keys.filter_map(|key| Some(&self.world.rooms.get(key)?.id)).collect();
        rooms.into_iter().cloned().collect()
    }
}
