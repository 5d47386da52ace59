//! Tracks whose publisher moves: where they come from changes, and everybody who receives them goes on.
//!
//! All places know a track's packets by the publisher's own indexes, so histories are joined at the seam: what the former
//! place had and this one has not is asked for there, what came to neither is asked of the publisher.

use std::time::{Duration, Instant};

use super::STRAY_TIME;
use crate::command::FarTrack;
use crate::room::hop::{Far, Former, Hop};
use crate::room::track::TrackState;
use crate::shard::Shard;
use crate::shard::keeping::Arrived;
use crate::shard::links::{grouped, near, rtt_of};
use moonring_wire::drops::DropReason;
use moonring_wire::id::{ClientKey, PlaceId, RoomKey, Ssrc, TrackId, TrackKey};
use moonring_wire::link::{Frame, Media, Stream};
use moonring_wire::negotiate::Feedback;
use moonring_wire::packet::SendBatch;

/// Receivers of all tracks of a client that are told of; others say again what they want.
const MAX_RECEIVERS: usize = 128;

impl Shard {
    /// A track's publisher is at `to` from now on, which has not told its number there yet.
    pub(super) fn track_leaves(&mut self, now: Instant, key: TrackKey, to: PlaceId) {
        let Some(track) = self.world.tracks.get_mut(key) else { return };
        let mut far = Far::new(to, 0);
        for (known, layer) in far.restarts.iter_mut().zip(&track.layers) {
            *known = Some(layer.restarts);
        }
        track.far = Some(Box::new(far));
        track.former = None;
        // The next telling counts: see [`Self::track_is_elsewhere`].
        track.feedback = Feedback { nack: true, pli: true, ..track.feedback };
        for layer in &mut track.layers {
            (layer.rid, layer.ssrc, layer.rtx_ssrc) = (None, Some(Ssrc(1)), None);
            let highest = layer.stats.counts().highest;
            let missing: Vec<_> = layer.missing.missing_indexes().collect();
            layer.missing.resume(highest);
            layer.missing.miss(missing, now);
        }
        track.muted_by_client = track.info.muted;
        track.muted_by_policy = false;
        let room = track.room;
        let (kept, leaving): (Vec<_>, Vec<_>) = match self.gate(room, to) {
            // What comes from another node comes to this shard, for its node's others as well.
            Some(gate) if gate == self.world.links.own => {
                let hops = std::mem::take(&mut self.world.tracks[key].hops);
                hops.into_iter().partition(|hop| self.world.links.is_near(hop.link))
            }
            _ => (Vec::new(), std::mem::take(&mut self.world.tracks[key].hops)),
        };
        self.world.tracks[key].hops = kept;
        if !leaving.is_empty() {
            self.moves.last_hops.push((key, leaving));
        }
        let (wanted, useful) = self.wanted_of(key);
        if let Some(far) = self.world.tracks.get_mut(key).and_then(|track| track.far.as_deref_mut()) {
            (far.wanted, far.useful) = (wanted, useful);
        }
        self.schedule_places(now);
    }

    /// What was kept of tracks whose publishers have left, and not sent to other shards yet, leaves.
    pub(in crate::shard) fn send_last_hops(&mut self, out: &mut SendBatch) {
        for (key, hops) in std::mem::take(&mut self.moves.last_hops) {
            let Some(track) = self.world.tracks.get_mut(key) else { continue };
            let kept = std::mem::replace(&mut track.hops, hops);
            // It has come from the publisher itself.
            let far = track.far.take();
            // What does not fit is asked for.
            let drops = &mut self.report.counters.drops;
            crate::room::relay::send_waiting(key, track, &mut self.world.links, out, drops);
            (track.far, track.hops) = (far, kept);
        }
    }

    /// The publisher of a track that came from another shard is here from now on.
    pub(super) fn track_arrives(&mut self, now: Instant, (key, owner): (TrackKey, ClientKey), state: &TrackState) {
        let Some(track) = self.world.tracks.get_mut(key) else { return };
        let far = track.far.take();
        let wanted = far.as_deref().map_or(0, |far| far.wanted);
        let mut missing = Vec::new();
        for (n, (layer, state)) in track.layers.iter().zip(&state.layers).enumerate() {
            let mut generator = layer.missing.clone();
            if let Some(highest) = state.counts.highest.filter(|_| wanted >> n & 1 == 1) {
                // Everything up to there that is not here is there, but for what is missing there, too.
                generator.received(highest + 1, now);
                for index in &state.missing {
                    generator.received(*index, now);
                }
                missing.push(Some(generator));
            } else {
                missing.push(None);
            }
        }
        track.owner = owner;
        track.resume(now, state);
        track.former = far.map(|far| {
            let (link, handle, until) = (far.link, far.handle, now + STRAY_TIME);
            Box::new(Former { link, handle, until, missing })
        });
        if let Some(former) = track.former.as_deref() {
            self.moves.former.push(key);
            if let Some(link) = self.world.links.get_mut(former.link) {
                link.tracks.insert(former.handle, key);
            }
        }
        if let Some(owner) = self.world.clients.get_mut(owner) {
            owner.deadlines.former = Some(now);
        }
        self.schedule_places(now);
    }

    /// Knows the other places that receive a track before they say so: they have to hear of its number first.
    pub(super) fn foresee_receivers(&mut self, now: Instant, room: RoomKey, receivers: &[(TrackId, PlaceId, u8, u8)]) {
        for (id, place, layers, useful) in receivers.iter().take(MAX_RECEIVERS) {
            let own = self.track_in(room, id).filter(|_| self.world.links.is_linked(*place));
            let Some(key) = own else { continue };
            let Some(track) = self.world.tracks.get_mut(key).filter(|track| track.far.is_none()) else { continue };
            let mut hop = Hop::new(now, *place);
            hop.want(now, track.layers.iter().map(|layer| &layer.history), *layers);
            hop.useful = *useful;
            track.hops.retain(|known| known.link != *place);
            track.hops.push(hop);
            if !self.world.links.hopped.contains(&key) {
                self.world.links.hopped.push(key);
            }
        }
    }

    /// A far track comes from another place, or under another number, than before: its publisher has moved. False when what
    /// was told is older than what is known.
    pub(in crate::shard) fn track_is_elsewhere(&mut self, now: Instant, key: TrackKey, told: &FarTrack) -> bool {
        let Some(track) = self.world.tracks.get_mut(key) else { return false };
        if (told.moves.wrapping_sub(track.moves) as i32) < 0 {
            return false;
        }
        let Some(far) = track.far.as_deref_mut() else { return false };
        track.moves = told.moves;
        if (far.link, far.handle) == (told.place, told.handle) {
            return true;
        }
        let (link, handle) = (far.link, far.handle);
        (far.link, far.handle) = (told.place, told.handle);
        // 0 is the number that nobody has told yet.
        if handle != 0 {
            track.former = Some(Box::new(Former { link, handle, until: now + STRAY_TIME, missing: Vec::new() }));
            self.moves.former.push(key);
        }
        if let Some(link) = self.world.links.get_mut(told.place) {
            link.tracks.insert(told.handle, key);
        }
        // Nothing of it goes back to where it comes from.
        track.hops.retain(|hop| hop.link != told.place);
        self.work.wants.push(key);
        self.schedule_places(now);
        true
    }

    /// Asks former places for what was under way when publishers of this shard's moved here; when to ask again.
    pub(in crate::shard) fn ask_former(&mut self, now: Instant, client: ClientKey, out: &mut SendBatch) {
        let Some(published) = self.world.clients.get(client).map(|client| client.inbound.published.clone()) else {
            return;
        };
        let mut next = None;
        for key in published {
            let Some(track) = self.world.tracks.get_mut(key) else { continue };
            let Some(former) = track.former.as_deref_mut().filter(|former| former.until > now) else { continue };
            for (n, generator) in former.missing.iter_mut().enumerate() {
                let Some(generator) = generator else { continue };
                let mut sequences = Vec::new();
                let rtt = rtt_of(self.world.links.health(former.link));
                generator.due(now, rtt, &mut sequences);
                let stream = Stream { handle: former.handle, layer: n as u8 };
                let indexes = sequences.iter().map(|sequence| near(generator.highest(), *sequence));
                for (first, others) in grouped(indexes) {
                    let _ = self.world.links.gather(former.link, &Frame::Missing { stream, first, others }, out);
                }
                next = [next, generator.next_due()].into_iter().flatten().min();
            }
        }
        if let Some(client) = self.world.clients.get_mut(client) {
            client.deadlines.former = next.map(|at| at.max(now + Duration::from_millis(1)));
        }
    }

    /// A packet of a publisher that is here now, from where it was.
    pub(in crate::shard) fn former_media(
        &mut self,
        now: Instant,
        (place, key): (PlaceId, TrackKey),
        media: &Media<'_>,
    ) -> Result<(), DropReason> {
        let Stream { handle, layer } = media.stream;
        let track = self.world.tracks.get_mut(key).ok_or(DropReason::LinkUnknownTrack)?;
        let former = track.former.as_deref_mut().filter(|former| (former.link, former.handle) == (place, handle));
        let former = former.ok_or(DropReason::LinkUnknownTrack)?;
        let held = track.layers.get(usize::from(layer)).ok_or(DropReason::LinkMalformed)?;
        if let Some(Some(generator)) = former.missing.get_mut(usize::from(layer)) {
            generator.received(media.index, now);
        }
        // Of another beginning its numbers mean something else.
        if held.restarts != media.restarts || held.history.find(media.index).is_some() {
            return Ok(());
        }
        self.report.counters.relayed_in += 1;
        let Media { index, timestamp, marker, is_red, kept, descriptor, payload, .. } = *media;
        self.keep_packet(now, (key, layer), &Arrived { index, timestamp, marker, is_red, kept, descriptor, payload })
    }

    /// Forgets former places whose time is over.
    pub(super) fn sweep_former(&mut self, now: Instant) {
        let former = std::mem::take(&mut self.moves.former);
        for key in former {
            let Some(track) = self.world.tracks.get_mut(key) else { continue };
            let Some(over) = track.former.take_if(|former| former.until <= now) else {
                if track.former.is_some() && !self.moves.former.contains(&key) {
                    self.moves.former.push(key);
                }
                continue;
            };
            let is_again = track.far.as_deref().is_some_and(|far| (far.link, far.handle) == (over.link, over.handle));
            if let Some(link) = self.world.links.get_mut(over.link).filter(|_| !is_again)
                && link.tracks.get(&over.handle) == Some(&key)
            {
                link.tracks.remove(&over.handle);
            }
        }
    }

    /// By which shard of this node a track comes whose publisher is at a place of another one; `None` for places of this node.
    fn gate(&self, room: RoomKey, publisher: PlaceId) -> Option<PlaceId> {
        let links = &self.world.links;
        let home = self.world.rooms.get(room).and_then(|room| room.home());
        (!links.is_near(publisher)).then(|| home.filter(|home| links.is_near(*home)).unwrap_or(links.own))
    }

    /// Who receives a track of this shard's from its publisher's next place: that is told before they say so themselves.
    pub(super) fn receivers_at(&self, key: TrackKey, to: PlaceId) -> Vec<(TrackId, PlaceId, u8, u8)> {
        let Some(track) = self.world.tracks.get(key) else { return Vec::new() };
        let (links, (mut wanted, mut useful)) = (&self.world.links, self.wanted_of(key));
        let gate = self.gate(track.room, to);
        let (near, far): (Vec<_>, Vec<_>) = track.hops.iter().partition(|hop| links.is_near(hop.link));
        let told = |hop: &Hop| (track.info.id.clone(), hop.link, hop.wanted, hop.useful);
        let mut receivers: Vec<_> = far.into_iter().map(told).collect();
        match gate {
            // One copy for all of this node.
            Some(_) => near.iter().for_each(|hop| (wanted, useful) = (wanted | hop.wanted, useful | hop.useful)),
            None => receivers.extend(near.into_iter().map(told)),
        }
        if wanted != 0 {
            receivers.push((track.info.id.clone(), gate.unwrap_or(links.own), wanted, useful));
        }
        receivers.retain(|(_, place, ..)| *place != to);
        receivers
    }
}
