//! Frames from other shards and to them: media, and what is asked of it.

use std::time::{Duration, Instant};

use slotmap::KeyData;

use super::keeping::Arrived;
use super::{Shard, Timer};
use crate::command::Event;
use crate::room::cap::Room;
use crate::room::client::Incoming;
use crate::room::links::Health;
use crate::room::relay;
use crate::room::rungs::UNMEASURED_BPS;
use crate::room::track::{KeyFrameNeed, SenderClock, Track};
use moonring_wire::drops::DropReason;
use moonring_wire::id::{ClientKey, PlaceId, TrackKey};
use moonring_wire::link::{Frame, Frames, MAX_LAYERS, Media, Stream};
use moonring_wire::packet::{AddressPair, SendBatch};

/// Time between two looks at what is wanted of far tracks, and of what is told of this shard's.
pub(super) const INTERVAL: Duration = Duration::from_millis(500);
/// Round-trip time assumed for asking again over a link: within one machine.
const LINK_RTT: Duration = Duration::from_millis(20);
/// What is added to the measured round trip between nodes: the event loops' ticks.
const MARGIN: Duration = Duration::from_millis(5);
/// Packets sent again for one datagram.
const MAX_AGAIN: usize = 200;
/// Bits of [`Frame::Missing`] beside its first number.
pub(super) const OTHERS: u64 = 64;

impl Shard {
    pub(super) fn receive_link(
        &mut self,
        now: Instant,
        from: AddressPair,
        bytes: &mut [u8],
        out: &mut SendBatch,
    ) -> Result<(), DropReason> {
        let (place, frames) = self.world.links.open(from.remote, bytes)?;
        if !self.world.links.is_near(place) {
            self.peer_heard(now, place);
        }
        let mut again = MAX_AGAIN;
        for frame in Frames(frames) {
            match frame.map_err(|_| DropReason::LinkMalformed)? {
                Frame::Media(media) => self.far_media(now, place, &media)?,
                Frame::Missing { stream, first, others } => {
                    self.send_again((now, place), stream, (first, others), &mut again, out);
                }
                Frame::Want { handle, layers, useful, room } => {
                    let key = own_key(handle);
                    self.wanted_by(now, (place, layers, useful), key, out);
                    self.room_told(place, key, room);
                }
                Frame::Key(stream) => self.key_frame_wanted(now, place, stream),
                Frame::Clock { stream, ntp, timestamp, age_ms } => {
                    let at = now.checked_sub(Duration::from_millis(age_ms.into())).unwrap_or(now);
                    let track = self.far_track(place, stream.handle).and_then(|key| self.world.tracks.get_mut(key));
                    if let Some(layer) = track.and_then(|t| t.layers.get_mut(usize::from(stream.layer))) {
                        layer.clock = Some(SenderClock { ntp, timestamp, at });
                    }
                }
                Frame::Rates { handle, kbps } => self.far_rates(now, (place, handle), kbps, out),
                Frame::Stray { client, is_selected, datagram } => {
                    self.stray_came(now, (place, client, is_selected), datagram, out)?;
                }
                Frame::Alive { sent, at, echo, held } => self.alive(now, place, (sent, at, echo, held)),
            }
        }
        Ok(())
    }

    fn far_track(&mut self, place: PlaceId, handle: u64) -> Option<TrackKey> {
        self.world.links.get_mut(place)?.tracks.get(&handle).copied()
    }

    /// Keeps a packet that has come over a link, as if its publisher were here.
    fn far_media(&mut self, now: Instant, place: PlaceId, media: &Media<'_>) -> Result<(), DropReason> {
        let Stream { handle, layer } = media.stream;
        if media.hop && !self.world.links.is_near(place) {
            // It has been over a link between nodes, and goes over no other one.
            return Err(DropReason::LinkMalformed);
        }
        // One that has just ended, or is to be told of in a moment.
        let key = self.far_track(place, handle).ok_or(DropReason::LinkUnknownTrack)?;
        let track = self.world.tracks.get_mut(key).ok_or(DropReason::LinkUnknownTrack)?;
        let Some(far) = track.far.as_deref_mut() else { return self.former_media(now, (place, key), media) };
        if usize::from(layer) >= track.layers.len() {
            return Err(DropReason::LinkMalformed);
        }
        if layer >= track.kept_layers {
            return Err(DropReason::Shed);
        }
        let known = &mut far.restarts[usize::from(layer)];
        match known.map(|known| media.restarts.wrapping_sub(known) as i8) {
            // Of before the publisher began anew: overtaken on the way.
            Some(..0) => return Ok(()),
            Some(ahead @ 1..) => {
                *known = Some(media.restarts);
                let incoming = Incoming { track: key, layer, rtx: false };
                // Of another beginning before this one nothing has come here.
                if media.goes_on && ahead == 1 {
                    self.go_on_behind_gap(now, incoming);
                } else {
                    self.restart_layer(now, incoming);
                }
            }
            Some(0) => {}
            None => *known = Some(media.restarts),
        }
        let Some(track) = self.world.tracks.get_mut(key) else { return Ok(()) };
        self.report.counters.relayed_in += 1;
        let (owner, held) = (track.owner, &mut track.layers[usize::from(layer)]);
        let is_due_sooner = held.missing.received(media.index, now);
        let is_known = held.history.find(media.index).is_some();
        held.count(now, if is_known { 0 } else { media.payload.len() });
        if is_known {
            return Ok(());
        }
        if is_due_sooner {
            self.schedule(owner);
        }
        let Media { index, timestamp, marker, is_red, kept, descriptor, payload, .. } = *media;
        let arrived = Arrived { index, timestamp, marker, is_red, kept, descriptor, payload };
        self.keep_packet(now, (key, layer), &arrived)?;
        // Forwards ask for key frames where nobody looks at timers; a far client has no reports that would.
        if self.world.tracks.get(key).is_some_and(|t| t.layers[usize::from(layer)].key_frame_deadline().is_some()) {
            self.schedule_far(owner);
        }
        Ok(())
    }

    /// How much comes of a far track.
    fn far_rates(
        &mut self,
        now: Instant,
        (place, handle): (PlaceId, u64),
        mut kbps: [u32; MAX_LAYERS],
        out: &mut SendBatch,
    ) {
        let Some(key) = self.far_track(place, handle) else { return };
        let down = self.world.links.layers_down(place);
        let Some(track) = self.world.tracks.get_mut(key) else { return };
        // What is not asked for does not come.
        kbps.iter_mut().skip(track.layers.len().saturating_sub(down).max(1)).for_each(|kbps| *kbps = 0);
        let is_passed_on = !track.hops.is_empty();
        let mut is_news = false;
        for (layer, kbps) in track.layers.iter_mut().zip(kbps) {
            is_news |= layer.is_active(now) != (kbps > 0);
            layer.comes_elsewhere(now, if kbps == 1 { UNMEASURED_BPS } else { u64::from(kbps) * 1_000 });
        }
        if is_news && track.is_video() {
            for (client, _) in track.subscribers.clone() {
                self.choose_layers(now, client);
            }
        }
        if is_passed_on {
            self.tell_rates(now, key, None, out);
        }
    }

    /// Tells other shards how much comes of a track, and its publisher's clock: one of them, or all that know it.
    pub(super) fn tell_rates(&mut self, now: Instant, key: TrackKey, only: Option<PlaceId>, out: &mut SendBatch) {
        let Some(track) = self.world.tracks.get(key) else { return };
        let handle = relay::handle(key);
        let mut kbps = [0; MAX_LAYERS];
        for (rate, layer) in kbps.iter_mut().zip(&track.layers).filter(|(_, layer)| layer.is_active(now)) {
            *rate = u32::try_from(layer.bitrate_bps / 1_000).unwrap_or(u32::MAX).max(1);
        }
        for hop in track.hops.iter().filter(|hop| only.is_none_or(|only| only == hop.link)) {
            // What does not fit is told a second later.
            let _ = self.world.links.gather(hop.link, &Frame::Rates { handle, kbps }, out);
            for (n, layer) in track.layers.iter().enumerate().take(MAX_LAYERS) {
                let Some(SenderClock { ntp, timestamp, at }) = layer.clock else { continue };
                let age_ms = now.saturating_duration_since(at).as_millis().try_into().unwrap_or(u16::MAX);
                let stream = Stream { handle, layer: n as u8 };
                let _ = self.world.links.gather(hop.link, &Frame::Clock { stream, ntp, timestamp, age_ms }, out);
            }
        }
    }

    /// Whether there is something for [`Self::flush_links`].
    pub(super) fn has_said(&self) -> bool {
        !self.work.wants.is_empty() || !self.work.said.is_empty() || self.world.links.is_waiting()
    }

    /// Sends what is newly wanted, everything that was gathered, and what other shards are told beside the links.
    pub(super) fn flush_links(&mut self, out: &mut SendBatch) {
        self.send_last_hops(out);
        self.flush_said();
        while let Some(key) = self.work.wants.pop() {
            let Some(track) = self.world.tracks.get(key) else { continue };
            if let Some(far) = track.far.as_deref() {
                let room = self.best_room(track).map_or(0, Room::to_word);
                let (handle, layers, useful) = (far.handle, far.wanted, far.useful);
                let _ = self.world.links.gather(far.link, &Frame::Want { handle, layers, useful, room }, out);
            }
        }
        self.world.links.flush(out);
    }

    /// Hands over what other shards are told.
    pub(super) fn flush_said(&mut self) {
        for (to, messages) in std::mem::take(&mut self.work.said) {
            self.work.events.push(Event::ToPlace { to, messages });
        }
    }

    /// Sets the timer that looks after what is spread.
    pub(super) fn schedule_places(&mut self, now: Instant) {
        if !std::mem::replace(&mut self.work.places_set, true) {
            self.set_timer(now + INTERVAL, Timer::Places);
        }
    }

    /// Repeats what is wanted of far tracks, tells of this shard's own, and of the traffic of wings' clients.
    pub(super) fn places_timer(&mut self, now: Instant, out: &mut SendBatch) {
        self.work.places_set = false;
        let far = self.world.links.far_tracks();
        for key in &far {
            self.want_far_track(*key);
            if !self.work.wants.contains(key) {
                self.work.wants.push(*key);
            }
        }
        for key in std::mem::take(&mut self.world.links.hopped) {
            let Some(track) = self.world.tracks.get_mut(key) else { continue };
            let before = track.hops.len();
            track.hops.retain(|hop| !hop.is_over(now));
            if track.hops.len() != before {
                self.tell_wanted_layers(key);
            }
            if self.world.tracks.get(key).is_some_and(|track| !track.hops.is_empty()) {
                self.world.links.hopped.push(key);
                self.tell_rates(now, key, None, out);
            }
        }
        let wings = self.tell_traffic();
        self.check_expected_again(now, out);
        self.sweep_moves(now);
        self.sweep_homes(now);
        if wings
            || self.homes_are_under_way()
            || self.moves.are_under_way()
            || !far.is_empty()
            || !self.world.links.hopped.is_empty()
        {
            self.schedule_places(now);
        }
    }

    /// The time that an answer over the link takes that a track comes over.
    fn link_rtt(&self, track: &Track) -> Duration {
        rtt_of(track.far.as_deref().and_then(|far| self.world.links.health(far.link)))
    }

    /// When something is to be asked for of a far client's tracks.
    pub(super) fn schedule_far(&mut self, key: ClientKey) {
        let Some(client) = self.world.clients.get(key) else { return };
        let tracks = client.inbound.published.iter().filter_map(|track| self.world.tracks.get(*track));
        let layers = tracks.flat_map(|track| track.layers.iter().map(move |layer| (track, layer)));
        let due = layers.flat_map(|(track, layer)| {
            let key_frame = layer.key_frame_deadline().filter(|_| track.asks_for_pictures());
            [layer.missing.next_due(), key_frame]
        });
        let Some(at) = due.flatten().min() else { return };
        let Some(client) = self.world.clients.get_mut(key) else { return };
        if client.deadlines.scheduled.is_none_or(|scheduled| at < scheduled) {
            client.deadlines.scheduled = Some(at);
            self.set_timer(at, Timer::Client(key));
        }
    }

    /// Asks for what is due of a far client's tracks: packets that have not come, and key frames.
    pub(super) fn ask_far(&mut self, now: Instant, key: ClientKey, out: &mut SendBatch) {
        let Some(client) = self.world.clients.get_mut(key) else { return };
        let mut sequences = std::mem::take(&mut client.inbound.sequences);
        for track in client.inbound.published.clone() {
            let Some(rtt) = self.world.tracks.get(track).map(|track| self.link_rtt(track)) else { continue };
            let Some(track) = self.world.tracks.get_mut(track) else { continue };
            let Some((link, handle)) = track.far.as_deref().map(|far| (far.link, far.handle)) else { continue };
            let former = track.former.as_deref().map(|former| (former.link, former.handle));
            let (is_video, asks_for_pictures) = (track.is_video(), track.asks_for_pictures());
            for (n, layer) in track.layers.iter_mut().enumerate() {
                let stream = Stream { handle, layer: n as u8 };
                sequences.clear();
                if layer.missing.due(now, rtt, &mut sequences) && is_video {
                    layer.want_key_frame(now, KeyFrameNeed::Gap);
                }
                let newest = layer.history.end().checked_sub(1).and_then(|n| layer.history.get(n));
                if let Some(newest) = newest.map(|packet| packet.index) {
                    let indexes = sequences.iter().map(|sequence| near(newest, *sequence));
                    for (first, others) in grouped(indexes) {
                        // What was sent before the publisher moved may be where it was only.
                        for (link, handle) in [Some((link, handle)), former].into_iter().flatten() {
                            let stream = Stream { handle, ..stream };
                            let _ = self.world.links.gather(link, &Frame::Missing { stream, first, others }, out);
                        }
                    }
                }
                if asks_for_pictures && layer.take_key_frame_request(now).is_some() {
                    let _ = self.world.links.gather(link, &Frame::Key(stream), out);
                }
            }
        }
        if let Some(client) = self.world.clients.get_mut(key) {
            client.inbound.sequences = sequences;
        }
        self.schedule_far(key);
    }
}

/// The time that an answer takes over a link; between shards of a node it is not measured.
pub(super) fn rtt_of(health: Option<&Health>) -> Duration {
    health.map_or(LINK_RTT, |health| health.rtt() + MARGIN)
}

/// The track of this shard that has this number on links.
pub(super) fn own_key(handle: u64) -> TrackKey {
    KeyData::from_ffi(handle).into()
}

/// The index with the low bits `sequence` that is nearest to `newest`.
pub(super) fn near(newest: u64, sequence: u16) -> u64 {
    let ahead = sequence.wrapping_sub(newest as u16) as i16;
    newest.saturating_add_signed(i64::from(ahead))
}

/// Indexes in their order as first ones and those up to 64 after each.
pub(super) fn grouped(indexes: impl Iterator<Item = u64>) -> Vec<(u64, u64)> {
    let mut groups: Vec<(u64, u64)> = Vec::new();
    for index in indexes {
        match groups.last_mut() {
            Some((first, others)) if index > *first && index - *first <= OTHERS => *others |= 1 << (index - *first - 1),
            _ => groups.push((index, 0)),
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_packets_are_asked_for_by_their_whole_numbers() {
        assert_eq!([65_535, 3, 65_530].map(|sequence| near(0x1_0002, sequence)), [0xFFFF, 0x1_0003, 0xFFFA]);
        assert_eq!(near(5, 65_535), 0, "there is nothing before the first");
        let grouped = grouped([7, 8, 10, 71, 72, 200].into_iter());
        assert_eq!(grouped, [(7, 1 | 1 << 2 | 1 << 63), (72, 0), (200, 0)]);
    }
}
