//! Whose packet is it? RFC 8843 section 9.2: the MID names the section whatever the SSRC is; else the SSRC as it was
//! announced or seen; else a payload type that only one section has. What changes in mid-call is followed: a new SSRC in
//! a section begins a new numbering at its next key frame.

use std::time::{Duration, Instant};

use slotmap::SlotMap;

use super::Shard;
use super::header_extensions::{HeaderExtensions, Names};
use crate::room::client::{Inbound, Incoming, MAX_SSRCS};
use crate::room::former::FormerStream;
use crate::room::forward::Forward;
use crate::room::track::{KeyFrameNeed, Layer, Track};
use moonring_wire::drops::DropReason;
use moonring_wire::id::{ClientKey, Ssrc, TrackKey};
use moonring_wire::media::{Extension, ExtensionIds};
use moonring_wire::negotiate::OfferSection;
use moonring_wire::rtp::header::Header;

/// A payload type alone gives a stream another SSRC only when nothing has come of the one before for this long: two
/// that alternate are not one stream.
const SILENCE: Duration = Duration::from_millis(100);

/// Of so many header extensions one may be the MID of a stream that is not known: nobody writes more.
const MAX_NAMING: usize = 16;

/// Layers that were put into order keep it for this long at least.
const ORDERED_FOR: Duration = Duration::from_secs(10);

/// Where a packet belongs: a track of the client, and the layer.
struct Place {
    track: TrackKey,
    layer: u8,
    rtx: bool,
}

impl Shard {
    /// A random SSRC; 0 stands for "none" in some implementations.
    pub(super) fn random_ssrc(&mut self) -> Ssrc {
        Ssrc(rand::Rng::random_range(&mut self.rng, 1..=u32::MAX))
    }

    /// An SSRC that was not used under the client's keys before: one that was would seal its indexes twice.
    pub(super) fn fresh_ssrc(&mut self, key: ClientKey) -> Ssrc {
        let client = &mut self.world.clients[key];
        client.outbound.ssrcs.next(client.inbound.report_ssrc)
    }

    /// Which stream an authenticated packet is of; `known` is the one that its SSRC has. A stream that comes with another SSRC than
    /// before is bound to it.
    pub(super) fn stream_of(
        &mut self,
        now: Instant,
        (key, known): (ClientKey, Option<Incoming>),
        header: &Header,
        bytes: &[u8],
        elements: &HeaderExtensions,
    ) -> Result<Incoming, DropReason> {
        let client = &self.world.clients[key];
        let mid = elements.mid(bytes);
        if let Some(incoming) = known
            && mid.is_none_or(|mid| self.world.tracks.get(incoming.track).is_some_and(|t| t.mid.as_str() == mid))
        {
            return Ok(incoming);
        }
        if client.inbound.streams.len() >= MAX_SSRCS {
            return Err(DropReason::RtpTooManySsrcs);
        }
        let names = Names::read(header, bytes, &elements.ids);
        let place = match mid {
            Some(mid) => self.place_by_mid(key, mid, header, names),
            None => self.place_by_payload_type(now, key, header, names),
        };
        let Place { track, layer, rtx } = place.ok_or(DropReason::RtpUnknownSsrc)?;
        // Everybody who receives the track begins anew with another SSRC: not for each packet of who alternates.
        let held = &mut self.world.tracks[track].layers[usize::from(layer)];
        if slot(held, rtx).is_some() && held.rebound.is_some_and(|at| now.saturating_duration_since(at) < SILENCE) {
            return Err(DropReason::RtpUnknownSsrc);
        }
        held.rebound = Some(now);
        self.bind_ssrc(now, key, header.ssrc, Incoming { track, layer, rtx });
        self.schedule(key);
        Ok(Incoming { track, layer, rtx })
    }

    /// The place in the section that the packet names.
    fn place_by_mid(&self, key: ClientKey, mid: &str, header: &Header, names: Names<'_>) -> Option<Place> {
        let published = &self.world.clients[key].inbound.published;
        let named = published.iter().find(|k| self.world.tracks.get(**k).is_some_and(|t| t.mid.as_str() == mid))?;
        let track = &self.world.tracks[*named];
        let rtx = rtx_or_media(track, header)?;
        let layer = track.layers.iter().position(|layer| is_named(layer, names.rid_of(rtx)))?;
        Some(Place { track: *named, layer: layer as u8, rtx })
    }

    /// The place in the only section that has the packet's payload type; of several, the first that waits for an SSRC.
    fn place_by_payload_type(&self, now: Instant, key: ClientKey, header: &Header, names: Names<'_>) -> Option<Place> {
        let published = self.world.clients[key].inbound.published.iter();
        let tracks = published.filter_map(|key| Some((*key, self.world.tracks.get(*key)?)));
        let fitting: Vec<_> =
            tracks.filter_map(|(key, track)| Some((key, track, rtx_or_media(track, header)?))).collect();
        let is_only = fitting.len() == 1;
        fitting.into_iter().find_map(|(key, track, rtx)| {
            let is_free = |layer: &Layer| match if rtx { layer.rtx_ssrc } else { layer.ssrc } {
                None => true,
                Some(_) => layer.rid.is_some() || (is_only && layer.silence(now).is_none_or(|time| time >= SILENCE)),
            };
            let layer = track.layers.iter().position(|layer| is_named(layer, names.rid_of(rtx)) && is_free(layer))?;
            Some(Place { track: key, layer: layer as u8, rtx })
        })
    }

    /// From now on `ssrc` of a client is this stream. What had that place before is out of use; what follows has other
    /// numbers, so that everybody who receives it begins anew at its next key frame.
    pub(super) fn bind_ssrc(&mut self, now: Instant, key: ClientKey, ssrc: Ssrc, incoming: Incoming) {
        let Some(client) = self.world.clients.get_mut(key) else { return };
        // The SSRC may have had another place, from which its MID has moved it.
        if let Some(elsewhere) = client.inbound.streams.insert(ssrc, incoming).filter(|other| *other != incoming)
            && let Some(track) = self.world.tracks.get_mut(elsewhere.track)
        {
            let layer = &mut track.layers[usize::from(elsewhere.layer)];
            *slot(layer, elsewhere.rtx) = None;
            if !elsewhere.rtx {
                layer.forget_missing();
            }
        }
        let Some(track) = self.world.tracks.get_mut(incoming.track) else { return };
        let former = slot(&mut track.layers[usize::from(incoming.layer)], incoming.rtx).replace(ssrc);
        let Some(former) = former.filter(|former| *former != ssrc) else { return };
        client.inbound.streams.remove(&former);
        if let Some(transport) = &mut client.transport {
            transport.retire_ssrc(former.0);
        }
        if !incoming.rtx {
            self.restart_layer(now, incoming);
        }
    }

    /// The layers of a track whose section had others of these names before go on under their SSRCs, until they come under others:
    /// see [`crate::room::former`].
    pub(super) fn bind_former(&mut self, now: Instant, key: ClientKey, track_key: TrackKey) {
        let Some(track) = self.world.tracks.get(track_key) else { return };
        let Inbound { former, streams, .. } = &self.world.clients[key].inbound;
        let of_it = former.of(&track.mid).filter(|former| !streams.contains_key(&former.ssrc));
        let bind = |former: &FormerStream| {
            let layer = track.layers.iter().position(|layer| layer.rid.as_ref() == Some(&former.rid))?;
            Some((former.ssrc, Incoming { track: track_key, layer: layer as u8, rtx: former.rtx }))
        };
        let known: Vec<_> = of_it.filter_map(bind).collect();
        known.into_iter().for_each(|(ssrc, incoming)| self.bind_ssrc(now, key, ssrc, incoming));
    }

    pub(super) fn restart_layer(&mut self, now: Instant, incoming: Incoming) {
        let Some(track) = self.world.tracks.get_mut(incoming.track) else { return };
        let clock_rate = track.codec.name.clock_rate();
        track.layers[usize::from(incoming.layer)].restart(clock_rate);
        self.begin_behind(now, incoming, false);
    }

    /// The same stream goes on behind a gap that is no loss, or too long for one: what it was known by holds, and everybody who
    /// receives it is sent what follows without the gap.
    pub(super) fn go_on_behind_gap(&mut self, now: Instant, incoming: Incoming) {
        let Some(track) = self.world.tracks.get_mut(incoming.track) else { return };
        track.layers[usize::from(incoming.layer)].pass_gap();
        let owner = track.owner;
        self.begin_behind(now, incoming, true);
        self.schedule(owner);
    }

    /// Lets everybody who receives a layer begin with what comes next: of the same stream or of another one.
    fn begin_behind(&mut self, now: Instant, incoming: Incoming, is_same: bool) {
        let Some(track) = self.world.tracks.get_mut(incoming.track) else { return };
        let is_video = track.is_video();
        for (client, place) in track.subscribers.clone() {
            let Some(client) = self.world.clients.get_mut(client) else { continue };
            let Some(forward) = &mut client.outbound.forwards[usize::from(place)] else { continue };
            if forward.layer() == Some(incoming.layer) || forward.target() == incoming.layer {
                // Who is still sent another layer goes on with that until it can switch.
                if forward.layer().is_none_or(|layer| layer == incoming.layer) {
                    forward.restart(track);
                }
                if !is_same {
                    forward.forget_layer(incoming.layer);
                }
                if is_video {
                    track.layers[usize::from(incoming.layer)].want_key_frame(now, KeyFrameNeed::Anew);
                }
            }
        }
    }

    /// Notes the size of the pictures of a layer, and puts the layers of its track into their order. Everybody who receives one
    /// begins anew; whoever changes sizes again and again has that after a while only.
    pub(super) fn size_came(&mut self, now: Instant, (key, layer): (TrackKey, u8), pixels: u64) {
        let Some(track) = self.world.tracks.get_mut(key) else { return };
        track.layers[usize::from(layer)].pixels = Some(pixels);
        let is_early = track.ordered.is_some_and(|at| now.saturating_duration_since(at) < ORDERED_FOR);
        if is_early || !track.is_upside_down() {
            return;
        }
        track.ordered = Some(now);
        track.turn_over();
        let (owner, layers) = (track.owner, track.layers.len() as u8);
        tracing::info!(track = %track.info.id, "its layers are in the offer from the largest to the smallest");
        if let Some(client) = self.world.clients.get_mut(owner) {
            let streams = client.inbound.streams.values_mut().filter(|incoming| incoming.track == key);
            streams.for_each(|incoming| incoming.layer = layers - 1 - incoming.layer);
        }
        for layer in 0..layers {
            self.restart_layer(now, Incoming { track: key, layer, rtx: false });
        }
        self.schedule(owner);
    }

    /// A later offer announces other SSRCs or gives other payload types to a section that publishes: they hold.
    pub(super) fn follow_offer(&mut self, now: Instant, key: ClientKey, track_key: TrackKey, section: &OfferSection) {
        let Some(track) = self.world.tracks.get(track_key) else { return };
        let layers = track.layers.iter().map(|layer| (layer.ssrc, layer.rtx_ssrc));
        let changes: Vec<_> = layers
            .zip(&section.ssrcs)
            .enumerate()
            .flat_map(|(layer, ((ssrc, rtx_ssrc), (offered, offered_rtx)))| {
                let media = (ssrc != Some(*offered)).then_some((layer as u8, false, *offered));
                let repairs = offered_rtx.filter(|offered| rtx_ssrc != Some(*offered));
                [media, repairs.map(|offered| (layer as u8, true, offered))]
            })
            .flatten()
            .collect();
        for (layer, rtx, ssrc) in changes {
            self.bind_ssrc(now, key, ssrc, Incoming { track: track_key, layer, rtx });
        }
    }

    /// Says once per client and reason why media that it sends goes nowhere.
    pub(super) fn explain_drop(&mut self, key: ClientKey, reason: DropReason) {
        let words = match reason {
            DropReason::RtpUnknownSsrc => "no MID, SSRC or payload type says which published section it belongs to",
            DropReason::RtpUnknownPayloadType => "its payload type is not the one that was answered for its section",
            DropReason::TooLong => "its packets are longer than any that are sent: give the encoder an MTU of 1,200",
            DropReason::RtpTooManySsrcs => "the client has used too many SSRCs",
            _ => return,
        };
        let Some(client) = self.world.clients.get_mut(key) else { return };
        if !client.inbound.explained.contains(&reason) {
            client.inbound.explained.push(reason);
            tracing::info!(client = %client.id, reason = reason.label(), "media is dropped: {words}");
        }
    }
}

/// The ids that a packet's header extensions have: those of the section of its stream. Of a stream that is not known, those of the
/// section whose own id for MID holds its own MID; else of the first one with its payload type.
pub(super) fn ids_of(
    known: Option<Incoming>,
    published: &[TrackKey],
    tracks: &SlotMap<TrackKey, Track>,
    (header, bytes): (&Header, &[u8]),
) -> ExtensionIds {
    if let Some(track) = known.and_then(|incoming| tracks.get(incoming.track)) {
        return track.formats.ids;
    }
    let all = || published.iter().filter_map(|key| tracks.get(*key));
    let is_of = |track: &&Track, (id, value): (u8, &[u8])| {
        track.formats.ids.get(Extension::Mid) == Some(id) && track.mid.as_str().as_bytes() == value
    };
    let mut elements = header.extensions(bytes).take(MAX_NAMING);
    let named = elements.find_map(|element| all().find(|track| is_of(track, element)));
    let fitting = || all().find(|track| rtx_or_media(track, header).is_some());
    named.or_else(fitting).or_else(|| all().next()).map(|track| track.formats.ids).unwrap_or_default()
}

fn slot(layer: &mut Layer, rtx: bool) -> &mut Option<Ssrc> {
    if rtx { &mut layer.rtx_ssrc } else { &mut layer.ssrc }
}

/// True for a payload type of retransmissions, false for one of media, `None` for none of the track's.
fn rtx_or_media(track: &Track, header: &Header) -> Option<bool> {
    if track.formats.is_rtx(header.payload_type) {
        return Some(true);
    }
    track.formats.codec(header.payload_type).map(|_| false)
}

/// Whether a packet with `rid` is of this layer. Without simulcast there is one layer and no name.
fn is_named(layer: &Layer, rid: Option<&str>) -> bool {
    match (&layer.rid, rid) {
        (Some(own), Some(rid)) => own.as_str() == rid,
        (None, _) => true,
        (Some(_), None) => false,
    }
}

/// Lets a forward of `track` start afresh at once: sound with its next packet, a picture with a key frame, which is asked
/// for.
pub(super) fn restart_now(now: Instant, forward: &mut Forward, track: &mut Track) {
    forward.restart(track);
    if track.is_video() {
        track.layers[usize::from(forward.target())].want_key_frame(now, KeyFrameNeed::Anew);
    }
}
