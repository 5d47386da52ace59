//! What other shards ask of the tracks that this one has: layers, key frames, and packets that have not come.

use std::time::Instant;

use super::Shard;
use super::links::{OTHERS, own_key};
use crate::room::hop::Hop;
use crate::room::links::Sent;
use crate::room::relay;
use crate::room::track::KeyFrameNeed;
use moonring_wire::id::{PlaceId, TrackKey};
use moonring_wire::link::Stream;
use moonring_wire::packet::SendBatch;

impl Shard {
    /// Another shard says what it wants of a track of this one.
    pub(super) fn wanted_by(
        &mut self,
        now: Instant,
        (link, layers, useful): (PlaceId, u8, u8),
        key: TrackKey,
        out: &mut SendBatch,
    ) {
        if !self.may_have(link, key) {
            return;
        }
        let Some(track) = self.world.tracks.get_mut(key) else { return };
        let is_new = !track.hops.iter().any(|hop| hop.link == link);
        if is_new {
            track.hops.push(Hop::new(now, link));
            if !self.world.links.hopped.contains(&key) {
                self.world.links.hopped.push(key);
            }
        }
        let Some(hop) = track.hops.iter_mut().find(|hop| hop.link == link) else { return };
        let before = (hop.wanted, hop.useful);
        hop.want(now, track.layers.iter().map(|layer| &layer.history), layers);
        hop.useful = useful;
        let (wanted, is_other) = (hop.wanted, (hop.wanted, hop.useful) != before);
        if is_new || is_other {
            self.tell_rates(now, key, Some(link), out);
        }
        if is_other {
            self.tell_wanted_layers(key);
        }
        if wanted != before.0 {
            self.mark_dirty(now, key);
        }
        self.schedule_places(now);
    }

    /// Whether a place may have a track from here: what is published here, or comes from another node and is for this one. So no
    /// packet passes more than two links, and none comes back.
    fn may_have(&self, place: PlaceId, key: TrackKey) -> bool {
        let links = &self.world.links;
        let is_passed_on = |link: PlaceId| links.is_near(place) && !links.is_near(link);
        self.world.tracks.get(key).is_some_and(|t| t.far.as_deref().is_none_or(|far| is_passed_on(far.link)))
    }

    pub(super) fn key_frame_wanted(&mut self, now: Instant, place: PlaceId, stream: Stream) {
        let key = own_key(stream.handle);
        if !self.may_have(place, key) {
            return;
        }
        let Some(track) = self.world.tracks.get_mut(key) else { return };
        let (owner, is_video) = (track.owner, track.is_video());
        if let Some(layer) = track.layers.get_mut(usize::from(stream.layer)).filter(|_| is_video) {
            layer.want_key_frame(now, KeyFrameNeed::Relay);
            self.schedule(owner);
        }
    }

    pub(super) fn send_again(
        &mut self,
        (now, to): (Instant, PlaceId),
        stream: Stream,
        (first, others): (u64, u64),
        left: &mut usize,
        out: &mut SendBatch,
    ) {
        let key = own_key(stream.handle);
        // Also of a track whose publisher has left.
        let Some(track) = self.world.tracks.get(key) else { return };
        let place = usize::from(stream.layer);
        let Some(layer) = track.layers.get(place) else { return };
        let others = (0..OTHERS).filter(|bit| others >> bit & 1 == 1).map(|bit| first + 1 + bit);
        let mut lacking = Vec::new();
        for index in [first].into_iter().chain(others) {
            let Some(packet) = layer.history.find(index) else {
                lacking.push(index);
                continue;
            };
            if *left == 0 {
                continue;
            }
            *left -= 1;
            // Another node asks only for what its publisher has sent to here, before it moved.
            let is_passed_on = track.far.is_some() && self.world.links.is_near(to);
            let frame = relay::media(key, (place, layer), packet, (true, is_passed_on));
            // What does not fit is asked for again.
            if self.world.links.send(to, &frame, 0, out) == Sent::Yes {
                self.report.counters.relayed_again += 1;
            }
        }
        if !lacking.is_empty() && self.world.links.is_near(to) {
            self.ask_further(now, (key, place), &lacking);
        }
    }

    /// Another shard of this node lacks packets of a track that comes by way of this one, and have not come here either: they
    /// were lost, or nobody wanted them here when they passed. They are asked for where the track comes from.
    fn ask_further(&mut self, now: Instant, (key, layer): (TrackKey, usize), lacking: &[u64]) {
        let Some(track) = self.world.tracks.get_mut(key) else { return };
        let Some(far) = track.far.as_deref() else { return };
        let (owner, missing) = (track.owner, &mut track.layers[layer].missing);
        let last = lacking.iter().copied().max().unwrap_or_default();
        // What is wanted here as well is missed here as well, up to where the other is.
        if far.wanted >> layer & 1 == 1 && last > missing.highest() {
            missing.expect(last, now);
        } else {
            missing.reach(last);
        }
        missing.miss(lacking.iter().copied(), now);
        self.schedule_far(owner);
    }
}
