//! Something published: its layers, and who receives it.

use std::time::{Duration, Instant};

mod state;

use slotmap::Key;

use super::cap::Cap;
use super::fading::most_lately;
use super::formats::PublishedFormats;
use super::history::{History, HistoryLimits, Packet};
use super::hop::{Far, Former, Hop};
use super::layering::{Layering, useful_layer};
use moonring_wire::id::{ClientKey, Mid, Pt, Rid, RoomKey, Ssrc};
use moonring_wire::media::{Codec, Kind, TrackInfo};
use moonring_wire::negotiate::{AnswerCodec, Feedback};
use moonring_wire::rtp::nack::{NackGenerator, PICTURE_PATIENCE, SOUND_PATIENCE};
use moonring_wire::rtp::receive::ReceiveStats;

pub use super::sender_clock::SenderClock;
pub use state::TrackState;

/// Least time between two requests for a key frame of one layer: encoders need about that long to answer the first.
pub const KEY_FRAME_INTERVAL: Duration = Duration::from_millis(500);
/// A layer that was silent for this long is not chosen.
const LAYER_SILENCE: Duration = Duration::from_secs(2);
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
    /// How often the publisher has begun it anew, modulo 256.
    pub restarts: u8,
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
            missing: NackGenerator::new(patience(codec.name.kind())),
            layering: None,
            clock: None,
            bitrate_bps: 0,
            most_bps: 0,
            rebound: None,
            restarts: 0,
            evened: 0,
            last_packet: None,
            rate_since: None,
            rate_bytes: 0,
            key_frame_wanted: None,
            key_frame_asked: None,
            key_frames_asked: 0,
        }
    }

    /// Another stream of the publisher takes this place: its numbers and time stamps are its own.
    pub fn restart(&mut self, clock_rate: u32) {
        self.begin_anew();
        self.history.restart();
        self.evened = self.history.end();
        self.stats = ReceiveStats::new(clock_rate);
        self.missing.restart();
        self.layering = None;
        self.clock = None;
    }

    /// Nothing of what has not come so far is asked for any more.
    pub fn forget_missing(&mut self) {
        self.missing.restart();
    }

    /// Reads what a packet touches of this.
    pub(super) fn glance(&self) -> u64 {
        let counts = self.rate_bytes ^ self.bitrate_bps ^ self.missing.missing() as u64;
        let times = self.last_packet.is_some() ^ self.rate_since.is_some() ^ self.layering.is_some();
        counts ^ self.history.end() ^ self.evened ^ u64::from(self.stats.glance()) ^ u64::from(times)
    }

    /// How long nothing has come.
    pub fn silence(&self, now: Instant) -> Option<Duration> {
        self.last_packet.map(|at| now.saturating_duration_since(at))
    }

    /// Counts a packet of `bytes` bytes towards the bit rate.
    pub fn count(&mut self, now: Instant, bytes: usize) {
        self.last_packet = Some(now);
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
    /// says of its frame. True when there are more layers than were known.
    pub fn look_inside(&mut self, packet: &mut Packet, descriptor: &[u8], bytes: usize) -> bool {
        if self.layering.is_none() && descriptor.is_empty() && packet.layers() == (0, 0) {
            return false;
        }
        let now = packet.arrival;
        let layering = self.layering.get_or_insert_with(|| Box::new(Layering::new(now)));
        if !descriptor.is_empty() {
            layering.describe(descriptor, packet);
        }
        layering.count(now, packet, bytes)
    }

    /// What comes next does not go on where the last packet was, and its numbers show a gap that is no loss.
    pub fn begin_anew(&mut self) {
        self.restarts = self.restarts.wrapping_add(1);
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
        // Of a layer that is not sent any more none can come: looked at again when another could be asked for.
        if self.last_packet.is_some() && !self.is_active(now) {
            return None;
        }
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
    /// The codec that it will be sent in, as far as the answer goes.
    pub codec: &'a AnswerCodec,
    /// Every codec that was answered.
    pub answered: Vec<AnswerCodec>,
    /// How many layers it has.
    pub layers: usize,
    /// Its layers' names from the lowest to the highest; empty where SSRCs tell them apart, and without simulcast.
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
    /// The feedback the owner takes.
    pub feedback: Feedback,
    /// The payload types that the owner may send with.
    pub formats: PublishedFormats,
    /// When the owner last went on in another codec.
    pub followed: Option<Instant>,
    /// From the lowest to the highest.
    pub layers: Vec<Layer>,
    /// What its publisher is held to, where it is a single encoding.
    pub cap: Cap,
    /// The layers that its publisher was told somebody receives.
    pub wanted_layers: Option<Vec<u8>>,
    /// So many reports of its publisher's ago somebody wanted more than now; 0 when it was told all.
    pub unwanted_for: u8,
    /// The forwards: client and place in its list.
    pub subscribers: Vec<(ClientKey, u16)>,
    /// The other shards that know it.
    pub hops: Vec<Hop>,
    /// Where it comes from, if its publisher is on another shard.
    pub far: Option<Box<Far>>,
    /// How often its publisher has moved from shard to shard: what is told of an earlier place is out of date.
    pub moves: u32,
    /// Where it came from until its publisher moved, for a while.
    pub former: Option<Box<Former>>,
    /// Muted by its publisher.
    pub muted_by_client: bool,
    /// Muted by the policy.
    pub muted_by_policy: bool,
    /// True while packets wait to be forwarded.
    pub dirty: bool,
    /// So many of its layers, from the lowest, there is time for: all but under overload.
    pub kept_layers: u8,
    /// Some of its video was dropped because it had waited for too long.
    pub is_cut: bool,
}

/// How long a missing packet is of use.
fn patience(kind: Kind) -> Duration {
    if kind == Kind::Audio { SOUND_PATIENCE } else { PICTURE_PATIENCE }
}

impl Track {
    /// Reads what a packet touches of this, but for its layer.
    pub(super) fn glance(&self) -> u64 {
        let flags =
            self.dirty ^ self.is_cut ^ self.muted_by_client ^ self.feedback.nack ^ self.formats.is_media(self.pt);
        self.layers.len() as u64 ^ self.subscribers.len() as u64 ^ self.room.data().as_ffi() ^ u64::from(flags)
    }

    /// A track without packets; `limits` are each layer's.
    pub fn new(publication: Publication<'_>, limits: HistoryLimits) -> Self {
        let Publication { info, room, owner, mid, codec, answered, layers, rids, ssrcs } = publication;
        let announced = |n: usize| match ssrcs.get(n) {
            Some((ssrc, rtx)) => (Some(*ssrc), *rtx),
            None => (None, None),
        };
        let layer = |n: usize| Layer::new(rids.get(n).cloned(), announced(n), &codec.codec, limits);
        Self {
            info,
            room,
            owner,
            mid,
            codec: codec.codec.clone(),
            pt: codec.pt,
            feedback: codec.feedback,
            formats: PublishedFormats::new(answered, &codec.codec),
            followed: None,
            layers: (0..layers.max(1)).map(layer).collect(),
            cap: Cap::default(),
            wanted_layers: None,
            unwanted_for: 0,
            subscribers: Vec::new(),
            hops: Vec::new(),
            far: None,
            moves: 0,
            former: None,
            muted_by_client: false,
            muted_by_policy: false,
            dirty: false,
            kept_layers: u8::MAX,
            is_cut: false,
        }
    }

    /// Goes on in `codec`, which is one of those answered. What was kept in another is no beginning for anybody.
    pub fn follow(&mut self, codec: &AnswerCodec) {
        self.codec = codec.codec.clone();
        (self.pt, self.feedback) = (codec.pt, codec.feedback);
        self.formats.set_current(&codec.codec);
        if self.info.codec != codec.codec.name {
            self.info.codec = codec.codec.name;
            self.layers.iter_mut().for_each(|layer| layer.history.forget_key_frame());
        }
    }

    /// The highest layer.
    pub fn top_layer(&self) -> u8 {
        (self.layers.len() - 1) as u8
    }

    /// How many layers clients are told of and choose from: encodings, or spatial layers of the only one.
    pub fn told_layers(&self) -> u8 {
        match &self.layers[..] {
            [only] => only.layering.as_ref().map_or(1, |layering| layering.seen().0),
            several => several.len() as u8,
        }
    }

    /// The highest layer, of those that clients are told of, that a view of `height` pixels has use for.
    pub fn useful_layer(&self, height: u32) -> u8 {
        let layering = if let [only] = &self.layers[..] { only.layering.as_ref() } else { None };
        layering.and_then(|layering| layering.spatial_for(height)).unwrap_or(useful_layer(height))
    }

    /// Notes the layers that were seen in what is told of it; true when that is news.
    pub fn note_layers(&mut self) -> bool {
        let seen = self.layers.iter().filter_map(|layer| layer.layering.as_ref());
        let temporal = seen.map(|layering| layering.seen().1).fold(1, u8::max);
        let news = (self.told_layers(), temporal);
        let before = (self.info.layers, self.info.temporal_layers);
        (self.info.layers, self.info.temporal_layers) = news;
        news != before
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
