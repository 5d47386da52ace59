//! A packet's way into its layer's history, whether its publisher is here or elsewhere.

use std::time::Instant;

use super::Shard;
use super::datagrams::Opened;
use super::faults::Stage;
use crate::room::client::Incoming;
use crate::room::history::Packet;
use moonring_wire::drops::DropReason;
use moonring_wire::id::{ClientKey, TrackKey};
use moonring_wire::packet::MAX_DATAGRAM;
use moonring_wire::rtp::codec;
use moonring_wire::rtp::extension::{AudioLevel, KeptExtensions};
use moonring_wire::rtp::red;

/// Longest payload that is forwarded: what fits into a datagram behind a header with a transport-wide number and a send time, which
/// all browsers have, and in front of an SRTP tag. It would leave for hardly anybody, and nobody would learn why.
const MAX_PAYLOAD: usize = MAX_DATAGRAM - 40;

/// A packet that is to be kept.
pub(super) struct Arrived<'a> {
    pub(super) index: u64,
    pub(super) timestamp: u32,
    pub(super) marker: bool,
    pub(super) is_red: bool,
    pub(super) kept: KeptExtensions,
    pub(super) descriptor: &'a [u8],
    pub(super) payload: &'a [u8],
}

impl Shard {
    /// Keeps a client's packet for forwarding.
    pub(super) fn keep(
        &mut self,
        now: Instant,
        (key, incoming): (ClientKey, Incoming),
        opened: &Opened<'_>,
    ) -> Result<(), DropReason> {
        let Opened { header, index: sealed, bytes, elements } = opened;
        let payload = &bytes[header.payload_range(bytes)?];
        let track = self.world.tracks.get(incoming.track).ok_or(DropReason::RtpUnknownSsrc)?;
        // Behind a cut there is a gap, which all receivers would ask about.
        if incoming.layer >= track.kept_layers || track.is_cut {
            return Err(DropReason::Shed);
        }
        if !track.formats.is_media(header.payload_type) {
            self.follow_format(now, incoming.track, header.payload_type, (bytes, payload, elements))?;
        }
        let mut track = self.world.tracks.get_mut(incoming.track).ok_or(DropReason::RtpUnknownSsrc)?;
        // Padding alone is no sound with sound of the past in it, whatever payload type it has.
        let is_red = !payload.is_empty() && track.formats.is_red(header.payload_type);
        if is_red && red::primary(payload).is_none() {
            return Err(DropReason::RtpMalformed);
        }
        if !incoming.rtx && !track.layers[usize::from(incoming.layer)].stats.follows(header.sequence, *sealed) {
            self.go_on_behind_gap(now, incoming);
            track = self.world.tracks.get_mut(incoming.track).ok_or(DropReason::RtpUnknownSsrc)?;
        }
        // Of what nobody is sent nothing is missing.
        let (asks_again, is_video) = (track.feedback.nack && !track.is_muted(), track.is_video());
        let is_received = track.is_received(incoming.layer);
        let layer = &mut track.layers[usize::from(incoming.layer)];
        let index = match incoming.rtx {
            true => layer.stats.repeated(header.sequence).ok_or(DropReason::SrtpTooOld)?,
            false => layer.stats.received(header.sequence, header.timestamp, now),
        };
        let is_due_sooner = asks_again && is_received && layer.missing.received(index, now);
        // What is not asked for makes the last key frame no beginning for who comes later.
        if asks_again && !is_received && layer.missing.pass(index) {
            layer.history.forget_key_frame();
        }
        // What a publisher sends twice, as many do to find out what their path carries, is no part of the layer's rate.
        let is_known = layer.history.find(index).is_some();
        layer.count(now, if is_known { 0 } else { bytes.len() });
        if track.is_muted() {
            return Err(DropReason::Muted);
        }
        if is_known {
            return Err(DropReason::SrtpReplay);
        }
        if payload.len() > MAX_PAYLOAD {
            return Err(DropReason::TooLong);
        }
        if is_due_sooner {
            self.schedule(key);
        }
        let level = elements.kept.audio_level.and_then(|byte| AudioLevel::parse(&[byte]));
        if !is_video && let Err(reason) = self.hear(now, key, incoming.track, level) {
            if let Some(track) = self.world.tracks.get_mut(incoming.track) {
                track.layers[usize::from(incoming.layer)].forget_missing();
            }
            return Err(reason);
        }
        let (timestamp, marker, kept) = (header.timestamp, header.marker, elements.kept);
        let descriptor = elements.descriptor(bytes);
        let arrived = Arrived { index, timestamp, marker, is_red, kept, descriptor, payload };
        self.keep_packet(now, (incoming.track, incoming.layer), &arrived)
    }

    /// Keeps a packet whose index is known.
    pub(super) fn keep_packet(
        &mut self,
        now: Instant,
        (key, place): (TrackKey, u8),
        arrived: &Arrived<'_>,
    ) -> Result<(), DropReason> {
        let track = self.world.tracks.get_mut(key).ok_or(DropReason::RtpUnknownSsrc)?;
        let is_one_of_several = track.layers.len() > 1;
        let layer = &mut track.layers[usize::from(place)];
        let Arrived { descriptor, payload, .. } = *arrived;
        let info = codec::inspect(track.codec.name, payload, (!descriptor.is_empty()).then_some(descriptor));
        if info.key_frame {
            layer.key_frame_came();
        }
        let size =
            if info.key_frame && is_one_of_several { codec::picture_size(track.codec.name, payload) } else { None };
        let mut packet = Packet::new(now);
        (packet.index, packet.timestamp, packet.marker) = (arrived.index, arrived.timestamp, arrived.marker);
        (packet.info, packet.kept) = (info, arrived.kept);
        packet.is_red = arrived.is_red;
        let insight = layer.look_inside(&mut packet, descriptor, payload.len());
        layer.history.push(packet, descriptor, payload);
        self.stage(Stage::Kept);
        self.mark_dirty(now, key);
        if let Some(insight) = insight {
            self.layers_seen(now, key, insight);
        }
        if let Some(size) = size {
            self.size_came(now, (key, place), size.pixels());
        }
        Ok(())
    }
}
