//! One encoding of a track: what came of it, and what is asked for.

use std::time::{Duration, Instant};

use super::SenderClock;
use super::key_frames::{KeyFrameNeed, KeyFrameRequest, KeyFrameRequests};
use crate::room::fading::most_lately;
use crate::room::history::{History, HistoryLimits, Packet};
use crate::room::layering::{Insight, Layering};
use moonring_wire::id::{Rid, Ssrc};
use moonring_wire::media::{Codec, Kind};
use moonring_wire::rtp::nack::{NackGenerator, PICTURE_PATIENCE, SOUND_PATIENCE};
use moonring_wire::rtp::receive::ReceiveStats;

/// A layer that was silent for this long is not chosen.
pub(super) const LAYER_SILENCE: Duration = Duration::from_secs(2);
/// The layers of a publisher begin within this time: the first packets of some may have been lost, and their encoders pause then.
const BEGINS_WITHIN: Duration = Duration::from_millis(1_500);
/// Over how long a layer's bit rate is averaged.
const RATE_INTERVAL: Duration = Duration::from_millis(500);
/// Weight of the newest measurement: a key frame in half a second does not make a layer one that no longer fits.
const RATE_WEIGHT: f64 = 0.35;

/// One simulcast encoding, or the only one.
#[derive(Debug)]
pub struct Layer {
    /// The publisher's name for it, with simulcast.
    pub rid: Option<Rid>,
    /// The publisher's SSRC, once announced or seen.
    pub ssrc: Option<Ssrc>,
    /// The SSRC of the publisher's retransmissions, once announced or seen.
    pub rtx_ssrc: Option<Ssrc>,
    /// What came.
    pub history: History,
    /// For receiver reports.
    pub stats: ReceiveStats,
    /// What did not come.
    pub missing: NackGenerator,
    /// The layers inside it, once packets tell of more than one.
    pub layering: Option<Box<Layering>>,
    /// The publisher's clock.
    pub clock: Option<SenderClock>,
    /// Measured, in bit/s.
    pub bitrate_bps: u64,
    /// The most that it was lately.
    pub most_bps: u64,
    /// When it last got another SSRC from a packet.
    pub rebound: Option<Instant>,
    /// Of its last key frame's picture, as far as that says.
    pub pixels: Option<u64>,
    /// How often the publisher has begun it anew, modulo 256.
    pub restarts: u8,
    /// The last time it was the same stream that went on, behind a gap.
    pub goes_on: bool,
    /// Packets up to this arrival number have their padding.
    pub evened: u64,
    pub(super) last_packet: Option<Instant>,
    /// When packets came again after a silence, or first.
    began: Option<Instant>,
    rate_since: Option<Instant>,
    rate_bytes: u64,
    pub(super) key_frames: KeyFrameRequests,
}

impl Layer {
    pub(super) fn new(
        rid: Option<Rid>,
        ssrcs: (Option<Ssrc>, Option<Ssrc>),
        codec: &Codec,
        limits: HistoryLimits,
    ) -> Self {
        Self {
            rid,
            ssrc: ssrcs.0,
            rtx_ssrc: ssrcs.1,
            history: History::new(limits),
            stats: ReceiveStats::new(codec.name.clock_rate()),
            missing: NackGenerator::new(patience(codec.name.kind())),
            layering: None,
            clock: None,
            bitrate_bps: 0,
            most_bps: 0,
            rebound: None,
            pixels: None,
            restarts: 0,
            goes_on: false,
            evened: 0,
            last_packet: None,
            began: None,
            rate_since: None,
            rate_bytes: 0,
            key_frames: KeyFrameRequests::default(),
        }
    }

    /// Another stream of the publisher takes this place: its numbers and time stamps are its own.
    pub fn restart(&mut self, clock_rate: u32) {
        (self.restarts, self.goes_on) = (self.restarts.wrapping_add(1), false);
        self.history.restart();
        self.evened = self.history.end();
        self.stats = ReceiveStats::new(clock_rate);
        self.missing.restart();
        self.layering = None;
        self.clock = None;
    }

    /// Changes places with another layer of its track: each sends what the other did. What is kept here is of the stream that was
    /// here; [`Self::restart`] is due for both.
    pub(super) fn change_places(&mut self, other: &mut Self) {
        std::mem::swap(self, other);
        std::mem::swap(&mut self.history, &mut other.history);
        std::mem::swap(&mut self.restarts, &mut other.restarts);
        std::mem::swap(&mut self.goes_on, &mut other.goes_on);
        std::mem::swap(&mut self.evened, &mut other.evened);
    }

    /// Nothing of what has not come so far is asked for any more.
    pub fn forget_missing(&mut self) {
        self.missing.restart();
    }

    /// Reads what a packet touches of this.
    pub(in crate::room) fn glance(&self) -> u64 {
        let counts = self.rate_bytes ^ self.bitrate_bps ^ self.missing.missing() as u64;
        let times = self.last_packet.is_some() ^ self.rate_since.is_some() ^ self.layering.is_some();
        counts ^ self.history.end() ^ self.evened ^ u64::from(self.stats.glance()) ^ u64::from(times)
    }

    /// How long nothing has come.
    pub fn silence(&self, now: Instant) -> Option<Duration> {
        self.last_packet.map(|at| now.saturating_duration_since(at))
    }

    /// Notes that packets come of it, here or elsewhere.
    pub(super) fn comes(&mut self, now: Instant) {
        if !self.is_active(now) {
            self.began = Some(now);
        }
        self.last_packet = Some(now);
    }

    /// Counts a packet of `bytes` bytes towards the bit rate.
    pub fn count(&mut self, now: Instant, bytes: usize) {
        self.comes(now);
        self.rate_bytes += bytes as u64;
        let since = *self.rate_since.get_or_insert(now);
        let elapsed = now.saturating_duration_since(since);
        if elapsed >= LAYER_SILENCE {
            // Silence is no rate: it begins anew, and what it was is the best guess until then.
            (self.rate_since, self.rate_bytes) = (Some(now), 0);
        } else if elapsed >= RATE_INTERVAL {
            let rate = self.rate_bytes as f64 * 8.0 / elapsed.as_secs_f64();
            let before = if self.bitrate_bps == 0 { rate } else { self.bitrate_bps as f64 };
            self.bitrate_bps = (before + RATE_WEIGHT * (rate - before)) as u64;
            self.most_bps = most_lately(self.most_bps, elapsed, self.bitrate_bps);
            (self.rate_since, self.rate_bytes) = (Some(now), 0);
        }
    }

    /// Takes in what a packet of `bytes` bytes says of the layers inside the encoding, and adds what its dependency descriptor
    /// says of its frame. What that has brought to light.
    pub fn look_inside(&mut self, packet: &mut Packet, descriptor: &[u8], bytes: usize) -> Option<Insight> {
        if self.layering.is_none() && descriptor.is_empty() && packet.layers() == (0, 0) {
            return None;
        }
        let now = packet.arrival;
        let layering = self.layering.get_or_insert_with(|| Box::new(Layering::new(now)));
        if !descriptor.is_empty() {
            layering.describe(descriptor, packet);
        }
        layering.count(now, packet, bytes)
    }

    /// What comes next does not go on where the last packet was, and its numbers show a gap that nothing is asked for in. Other
    /// shards are told by the next packet.
    pub fn pass_gap(&mut self) {
        (self.restarts, self.goes_on) = (self.restarts.wrapping_add(1), true);
        self.forget_missing();
    }

    /// True when packets came lately.
    pub fn is_active(&self, now: Instant) -> bool {
        self.last_packet.is_some_and(|at| now.saturating_duration_since(at) < LAYER_SILENCE)
    }

    /// True when packets were kept lately, and forwarded: of a muted track, or one that others are louder than, some come and
    /// none are.
    pub fn is_kept(&self, now: Instant) -> bool {
        let newest = self.history.end().checked_sub(1).and_then(|n| self.history.get(n));
        newest.is_some_and(|packet| now.saturating_duration_since(packet.arrival) < LAYER_SILENCE)
    }

    /// True when its first packet, or the first after a silence, came here within [`BEGINS_WITHIN`].
    pub(super) fn has_just_begun(&self, now: Instant) -> bool {
        self.began.is_some_and(|at| now.saturating_duration_since(at) < BEGINS_WITHIN)
    }

    /// Asks for a key frame; [`Self::take_key_frame_request`] says when the request is to be sent. True when nobody has asked
    /// before: whoever looks at timers has to be told.
    pub fn want_key_frame(&mut self, now: Instant, need: KeyFrameNeed) -> bool {
        self.key_frames.want(now, need)
    }

    /// Notes that one came.
    pub fn key_frame_came(&mut self) {
        self.key_frames.came();
    }

    /// The SSRC to ask for a key frame, and the request, if one is due now.
    pub fn take_key_frame_request(&mut self, now: Instant) -> Option<(Ssrc, KeyFrameRequest)> {
        let ssrc = self.ssrc?;
        let is_sent = self.last_packet.is_none() || self.is_active(now);
        Some((ssrc, self.key_frames.take(now, is_sent)?))
    }

    /// When a request may be sent that somebody waits for.
    pub fn key_frame_deadline(&self) -> Option<Instant> {
        self.ssrc?;
        self.key_frames.deadline()
    }
}

/// How long a missing packet is of use.
fn patience(kind: Kind) -> Duration {
    if kind == Kind::Audio { SOUND_PATIENCE } else { PICTURE_PATIENCE }
}

#[cfg(test)]
mod tests {
    use super::*;
    use moonring_wire::media::CodecName;

    #[test]
    fn a_layers_rate_is_not_that_of_one_key_frame_nor_of_its_silence() {
        let t0 = Instant::now();
        let codec = Codec { name: CodecName::Vp8, fmtp: String::new() };
        let limits = HistoryLimits { age: Duration::from_secs(1), bytes: 4_096 };
        let mut layer = Layer::new(None, (None, None), &codec, limits);
        // 10 kB every half a second: 160 kbit/s; then a key frame of 40 kB.
        for (ms, bytes) in [(0, 10_000), (500, 0), (501, 10_000), (1_001, 0), (1_002, 40_000), (1_503, 0)] {
            layer.count(t0 + Duration::from_millis(ms), bytes);
        }
        assert!((320_000..340_000).contains(&layer.bitrate_bps), "{}", layer.bitrate_bps);
        let before = layer.bitrate_bps;
        layer.count(t0 + Duration::from_secs(60), 1_000);
        assert_eq!(layer.bitrate_bps, before);
    }
}
