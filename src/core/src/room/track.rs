//! Something published: its layers, and who receives it.

use std::time::{Duration, Instant};

use super::history::{History, HistoryLimits};
use moonring_wire::id::{ClientKey, Mid, Pt, Rid, RoomKey, Ssrc};
use moonring_wire::media::{Codec, Kind, TrackInfo};
use moonring_wire::negotiate::{AnswerCodec, Feedback};
use moonring_wire::rtp::nack::NackGenerator;
use moonring_wire::rtp::receive::ReceiveStats;

/// Least time between two requests for a key frame of one layer: encoders need about that long to answer the first.
pub const KEY_FRAME_INTERVAL: Duration = Duration::from_millis(500);
/// A layer that was silent for this long is not chosen.
const LAYER_SILENCE: Duration = Duration::from_secs(2);
/// Over how long a layer's bit rate is averaged.
const RATE_INTERVAL: Duration = Duration::from_millis(500);

/// The publisher's wall clock at one of its time stamps, from a sender report (RFC 3550 section 6.4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SenderClock {
    /// NTP, 32.32 bits.
    pub ntp: u64,
    /// The RTP time stamp of the same moment.
    pub timestamp: u32,
    /// When the report came.
    pub at: Instant,
}

impl SenderClock {
    /// (NTP, RTP time stamp) of `now`, with `rate` ticks per second.
    pub fn at(&self, now: Instant, rate: u32) -> (u64, u32) {
        let elapsed = now.saturating_duration_since(self.at).as_secs_f64();
        let ntp = self.ntp.wrapping_add((elapsed * 4_294_967_296.0) as u64);
        (ntp, self.timestamp.wrapping_add((elapsed * f64::from(rate)) as u64 as u32))
    }

    /// What to subtract from a time stamp of `other` to get this clock's time stamp of the same moment.
    pub fn shift_to(&self, other: &Self, rate: u32) -> u32 {
        let seconds = (other.ntp.wrapping_sub(self.ntp) as i64) as f64 / 4_294_967_296.0;
        let expected = self.timestamp.wrapping_add((seconds * f64::from(rate)).round() as i64 as u32);
        other.timestamp.wrapping_sub(expected)
    }
}

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
    /// The publisher's clock.
    pub clock: Option<SenderClock>,
    /// Measured, in bit/s.
    pub bitrate_bps: u64,
    /// Packets up to this arrival number have their padding.
    pub evened: u64,
    last_packet: Option<Instant>,
    rate_since: Option<Instant>,
    rate_bytes: u64,
    key_frame_wanted: Option<Instant>,
    key_frame_asked: Option<Instant>,
    key_frames_asked: u8,
}

impl Layer {
    fn new(rid: Option<Rid>, ssrcs: (Option<Ssrc>, Option<Ssrc>), codec: &Codec, limits: HistoryLimits) -> Self {
        Self {
            rid,
            ssrc: ssrcs.0,
            rtx_ssrc: ssrcs.1,
            history: History::new(limits),
            stats: ReceiveStats::new(codec.name.clock_rate()),
            missing: NackGenerator::new(),
            clock: None,
            bitrate_bps: 0,
            evened: 0,
            last_packet: None,
            rate_since: None,
            rate_bytes: 0,
            key_frame_wanted: None,
            key_frame_asked: None,
            key_frames_asked: 0,
        }
    }

    /// Counts a packet of `bytes` bytes towards the bit rate.
    pub fn count(&mut self, now: Instant, bytes: usize) {
        self.last_packet = Some(now);
        self.rate_bytes += bytes as u64;
        let since = *self.rate_since.get_or_insert(now);
        let elapsed = now.saturating_duration_since(since);
        if elapsed >= RATE_INTERVAL {
            self.bitrate_bps = (self.rate_bytes as f64 * 8.0 / elapsed.as_secs_f64()) as u64;
            (self.rate_since, self.rate_bytes) = (Some(now), 0);
        }
    }

    /// True when packets came lately.
    pub fn is_active(&self, now: Instant) -> bool {
        self.last_packet.is_some_and(|at| now.saturating_duration_since(at) < LAYER_SILENCE)
    }

    /// Asks for a key frame; [`Self::take_key_frame_request`] says when the request is to be sent.
    pub fn want_key_frame(&mut self, now: Instant) {
        self.key_frame_wanted.get_or_insert(now);
    }

    /// Notes that one came.
    pub fn key_frame_came(&mut self) {
        self.key_frame_wanted = None;
    }

    /// The SSRC to ask for a key frame and the number of the request, if one is due now: requests of all subscribers
    /// are one, and not sent too often.
    pub fn take_key_frame_request(&mut self, now: Instant) -> Option<(Ssrc, u8)> {
        let ssrc = self.ssrc?;
        if self.key_frame_deadline()? > now {
            return None;
        }
        self.key_frame_asked = Some(now);
        self.key_frames_asked = self.key_frames_asked.wrapping_add(1);
        Some((ssrc, self.key_frames_asked))
    }

    /// When a request may be sent that somebody waits for.
    pub fn key_frame_deadline(&self) -> Option<Instant> {
        self.ssrc?;
        let wanted = self.key_frame_wanted?;
        Some(self.key_frame_asked.map_or(wanted, |at| wanted.max(at + KEY_FRAME_INTERVAL)))
    }
}

/// What is known of a track when it is published.
#[derive(Debug)]
pub struct Publication<'a> {
    /// What everybody is told.
    pub info: TrackInfo,
    /// Where.
    pub room: RoomKey,
    /// By whom.
    pub owner: ClientKey,
    /// The owner's media section.
    pub mid: Mid,
    /// The codec, as it was answered.
    pub codec: &'a AnswerCodec,
    /// Its layers from the lowest to the highest; empty without simulcast.
    pub rids: &'a [Rid],
    /// The SSRCs, with those of retransmissions, that the offer announced for them.
    pub ssrcs: &'a [(Ssrc, Option<Ssrc>)],
}

/// Something published.
#[derive(Debug)]
pub struct Track {
    /// What everybody is told.
    pub info: TrackInfo,
    /// Where.
    pub room: RoomKey,
    /// By whom.
    pub owner: ClientKey,
    /// The owner's media section.
    pub mid: Mid,
    /// The codec with its parameters.
    pub codec: Codec,
    /// The owner's payload type.
    pub pt: Pt,
    /// The owner's payload type for retransmissions.
    pub rtx_pt: Option<Pt>,
    /// The feedback the owner takes.
    pub feedback: Feedback,
    /// From the lowest to the highest.
    pub layers: Vec<Layer>,
    /// The forwards: client and place in its list.
    pub subscribers: Vec<(ClientKey, u16)>,
    /// Muted by its publisher.
    pub muted_by_client: bool,
    /// Muted by the policy.
    pub muted_by_policy: bool,
    /// True while packets wait to be forwarded.
    pub dirty: bool,
}

impl Track {
    /// A track without packets; `limits` are each layer's.
    pub fn new(publication: Publication<'_>, limits: HistoryLimits) -> Self {
        let Publication { info, room, owner, mid, codec, rids, ssrcs } = publication;
        let announced = |n: usize| match ssrcs.get(n) {
            Some((ssrc, rtx)) => (Some(*ssrc), *rtx),
            None => (None, None),
        };
        let layers = if rids.is_empty() {
            vec![Layer::new(None, announced(0), &codec.codec, limits)]
        } else {
            let layer = |(n, rid): (usize, &Rid)| Layer::new(Some(rid.clone()), announced(n), &codec.codec, limits);
            rids.iter().enumerate().map(layer).collect()
        };
        Self {
            info,
            room,
            owner,
            mid,
            codec: codec.codec.clone(),
            pt: codec.pt,
            rtx_pt: codec.rtx,
            feedback: codec.feedback,
            layers,
            subscribers: Vec::new(),
            muted_by_client: false,
            muted_by_policy: false,
            dirty: false,
        }
    }

    /// The highest layer.
    pub fn top_layer(&self) -> u8 {
        (self.layers.len() - 1) as u8
    }

    /// The highest layer up to `limit` that packets come of; the lowest active one when there is none up to it.
    pub fn best_layer(&self, now: Instant, limit: u8) -> u8 {
        let active = |n: &u8| self.layers[usize::from(*n)].is_active(now);
        let top = self.top_layer();
        (0..=limit.min(top)).rev().find(active).or_else(|| (0..=top).find(active)).unwrap_or(limit.min(top))
    }

    /// True when its packets are dropped.
    pub fn is_muted(&self) -> bool {
        self.muted_by_client || self.muted_by_policy
    }

    /// True for pictures.
    pub fn is_video(&self) -> bool {
        self.info.kind == Kind::Video
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_senders_clock_runs_on_between_its_reports() {
        let at = Instant::now();
        let clock = SenderClock { ntp: 5 << 32, timestamp: u32::MAX - 44_999, at };
        assert_eq!(clock.at(at + Duration::from_secs(1), 90_000), (6 << 32, 45_000));
    }

    #[test]
    fn two_layers_with_unlike_time_stamps_are_aligned_by_their_reports() {
        let at = Instant::now();
        let low = SenderClock { ntp: 10 << 32, timestamp: 1_000, at };
        let high = SenderClock { ntp: 11 << 32, timestamp: 500_000, at };
        // At NTP 11 the low layer is at 1,000 + 90,000.
        assert_eq!(high.timestamp.wrapping_sub(low.shift_to(&high, 90_000)), 91_000);
        let earlier = SenderClock { ntp: 9 << 32, timestamp: 7, at };
        assert_eq!(7u32.wrapping_sub(low.shift_to(&earlier, 90_000)), 1_000u32.wrapping_sub(90_000));
    }
}
