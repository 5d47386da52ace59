//! A track whose publisher is at another place, or goes on at one: everybody who receives it goes on with the same numbers, as the
//! publisher's own indexes are the same at both places.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::layer::{LAYER_SILENCE, Layer};
use super::{SenderClock, Track};
use crate::room::fading::most_lately;
use crate::room::formats::PublishedFormats;
use crate::room::layering::{Layering, LayeringState};
use moonring_wire::id::{Mid, Pt, Rid, Ssrc};
use moonring_wire::media::{Codec, ExtensionIds, TrackInfo};
use moonring_wire::negotiate::{AnswerCodec, Feedback};
use moonring_wire::rtp::nack::MAX_MISSING;
use moonring_wire::rtp::receive::{ReceiveCounts, ReceiveStats};

/// No index of a stream is beyond this: half of what SRTP has.
const MAX_INDEX: u64 = 1 << 47;

/// What goes on of a track at its publisher's new place.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TrackState {
    /// What everybody is told.
    pub info: TrackInfo,
    /// The publisher's media section.
    pub mid: Mid,
    /// Every codec that was answered.
    pub answered: Vec<AnswerCodec>,
    ids: ExtensionIds,
    /// The codec that it is sent in.
    pub codec: Codec,
    /// Its encodings, the lowest first.
    pub layers: Vec<LayerState>,
    pt: Pt,
    feedback: Feedback,
    wanted_layers: Option<Vec<u8>>,
    makes_key_frames: bool,
    is_muted_by_client: bool,
    is_muted_by_policy: bool,
    /// How often its publisher has moved, this time counted.
    moves: u32,
}

/// One encoding.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LayerState {
    /// The publisher's SSRC.
    pub ssrc: Option<Ssrc>,
    /// Of its retransmissions.
    pub rtx_ssrc: Option<Ssrc>,
    /// What came of it; its highest index counts for all places.
    pub counts: ReceiveCounts,
    /// The indexes of what did not come.
    pub missing: Vec<u64>,
    rid: Option<Rid>,
    restarts: u8,
    /// NTP, the time stamp, and how long ago the report came, in microseconds.
    clock: Option<(u64, u32, u64)>,
    bitrate_bps: u64,
    /// How long ago the last packet came, in microseconds.
    silence: Option<u64>,
    layering: Option<LayeringState>,
}

impl Layer {
    /// Packets come of it to another shard, at this bit rate: it may be chosen although none come here. At 0 none come at all.
    pub fn comes_elsewhere(&mut self, now: Instant, bps: u64) {
        match bps {
            0 => {
                self.last_packet = self
                    .last_packet
                    .filter(|at| now.saturating_duration_since(*at) >= LAYER_SILENCE)
                    .or_else(|| self.last_packet.and(now.checked_sub(LAYER_SILENCE)))
            }
            bps => {
                let age = self.silence(now).unwrap_or_default();
                self.most_bps = most_lately(self.most_bps, age, bps);
                self.bitrate_bps = bps;
                self.comes(now);
            }
        }
    }
}

impl Track {
    /// What goes on elsewhere.
    pub fn state(&self, now: Instant) -> TrackState {
        let age = |at: Instant| u64::try_from(now.saturating_duration_since(at).as_micros()).unwrap_or(u64::MAX);
        let layers = self.layers.iter().map(|layer| LayerState {
            ssrc: layer.ssrc,
            rtx_ssrc: layer.rtx_ssrc,
            counts: layer.stats.counts(),
            missing: layer.missing.missing_indexes().collect(),
            rid: layer.rid.clone(),
            restarts: layer.restarts,
            clock: layer.clock.map(|clock| (clock.ntp, clock.timestamp, age(clock.at))),
            bitrate_bps: layer.bitrate_bps,
            silence: layer.last_packet.map(age),
            layering: layer.layering.as_deref().map(Layering::state),
        });
        TrackState {
            info: self.info.clone(),
            mid: self.mid.clone(),
            answered: self.formats.answered().to_vec(),
            ids: self.formats.ids,
            codec: self.codec.clone(),
            layers: layers.collect(),
            pt: self.pt,
            feedback: self.feedback,
            wanted_layers: self.wanted_layers.clone(),
            makes_key_frames: self.layers.iter().any(|layer| layer.key_frames.are_by_message()),
            is_muted_by_client: self.muted_by_client,
            is_muted_by_policy: self.muted_by_policy,
            moves: self.moves.wrapping_add(1),
        }
    }

    /// Its publisher is here from now on. The packets that are kept stay, and what comes goes on behind them.
    pub fn resume(&mut self, now: Instant, state: &TrackState) {
        let at = |age: u64| now.checked_sub(Duration::from_micros(age)).unwrap_or(now);
        (self.mid, self.moves) = (state.mid.clone(), state.moves);
        (self.pt, self.feedback, self.codec) = (state.pt, state.feedback, state.codec.clone());
        self.formats = PublishedFormats::new(state.answered.clone(), &self.codec);
        self.formats.ids = state.ids;
        self.info = state.info.clone();
        self.wanted_layers.clone_from(&state.wanted_layers);
        if state.makes_key_frames {
            self.ask_by_message();
        }
        // Who receives it is looked at anew.
        self.unwanted_for = 1;
        (self.muted_by_client, self.muted_by_policy) = (state.is_muted_by_client, state.is_muted_by_policy);
        let clock_rate = self.codec.name.clock_rate();
        for (layer, state) in self.layers.iter_mut().zip(&state.layers) {
            (layer.rid, layer.ssrc, layer.rtx_ssrc) = (state.rid.clone(), state.ssrc, state.rtx_ssrc);
            layer.stats = ReceiveStats::resumed(clock_rate, state.counts);
            layer.missing.resume(state.counts.highest);
            layer.missing.miss(state.missing.iter().copied(), now);
            layer.restarts = state.restarts;
            layer.clock = state.clock.map(|(ntp, timestamp, age)| SenderClock { ntp, timestamp, at: at(age) });
            (layer.bitrate_bps, layer.last_packet) = (state.bitrate_bps, state.silence.map(at));
            if let Some(known) = &state.layering {
                layer.layering.get_or_insert_with(|| Box::new(Layering::new(now))).learn(known);
            }
        }
    }

    /// How often the publisher has begun an encoding anew, as far as it is known here.
    pub fn restarts(&self, layer: u8) -> Option<u8> {
        let layer = usize::from(layer);
        match self.far.as_deref() {
            Some(far) => far.restarts.get(layer).copied().flatten(),
            None => self.layers.get(layer).map(|layer| layer.restarts),
        }
    }

    /// Whether another place and this one know of as many beginnings of an encoding; this one learns of it if it has heard
    /// nothing of the encoding.
    pub fn agrees_on_restarts(&mut self, layer: u8, restarts: Option<u8>) -> bool {
        let known = self.restarts(layer);
        if let (Some(far), None) = (self.far.as_deref_mut(), known)
            && let Some(place) = far.restarts.get_mut(usize::from(layer))
        {
            *place = restarts;
        }
        known.is_none() || restarts.is_none() || known == restarts
    }
}

impl TrackState {
    /// Whether it can be of a track with at most so many encodings.
    pub fn is_sound(&self, max_layers: usize) -> bool {
        let is_sound = |layer: &LayerState| {
            layer.missing.len() <= MAX_MISSING
                && layer.counts.highest.is_none_or(|highest| highest <= MAX_INDEX)
                && layer.missing.is_sorted()
        };
        let layers = &self.layers;
        (1..=max_layers).contains(&layers.len()) && layers.iter().all(is_sound)
    }
}
