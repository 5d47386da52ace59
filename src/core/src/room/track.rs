//! Something published: its layers, and who receives it.

use std::time::Instant;

mod key_frames;
mod layer;
mod state;

use slotmap::Key;

use super::cap::Cap;
use super::formats::PublishedFormats;
use super::history::HistoryLimits;
use super::hop::{Far, Former, Hop};
use super::layering::useful_layer;
use moonring_wire::id::{ClientKey, Mid, Pt, RoomKey, Ssrc};
use moonring_wire::media::{Codec, Kind, TrackInfo};
use moonring_wire::negotiate::{AnswerCodec, Feedback, SimulcastLayer};

pub use super::sender_clock::SenderClock;
pub use key_frames::{Asking, KEY_FRAME_INTERVAL, KeyFrameCounts, KeyFrameNeed, KeyFrameRequest};
pub use layer::Layer;
pub use state::TrackState;

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
    pub rids: &'a [SimulcastLayer],
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
    /// From the lowest to the highest, whatever the order of their names in the offer: see [`Track::is_upside_down`].
    pub layers: Vec<Layer>,
    /// When its layers were put into order last.
    pub ordered: Option<Instant>,
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
        let layer =
            |n: usize| Layer::new(rids.get(n).map(|layer| layer.rid.clone()), announced(n), &codec.codec, limits);
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
            ordered: None,
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
        if !self.feedback.nack {
            self.layers.iter_mut().for_each(|layer| layer.missing.forget_missing());
        }
        self.formats.set_current(&codec.codec);
        if self.info.codec != codec.codec.name {
            self.info.codec = codec.codec.name;
            self.layers.iter_mut().for_each(|layer| layer.history.forget_key_frame());
        }
    }

    /// True when its layers, told apart by RIDs, turn out to be from the highest to the lowest. The order of the names in an offer
    /// says which layer is preferred (RFC 8853 section 5.2), and senders read that either way: browsers' applications begin with
    /// the smallest picture, OBS with the largest.
    pub fn is_upside_down(&self) -> bool {
        let known: Vec<u64> = self.layers.iter().filter_map(|layer| layer.pixels).collect();
        known.len() > 1 && known.is_sorted_by(|a, b| a > b) && self.layers.iter().all(|layer| layer.rid.is_some())
    }

    /// Each layer goes on as the one that it really is. Nothing that was kept is of use.
    pub fn turn_over(&mut self) {
        let middle = self.layers.len() / 2;
        let (lower, upper) = self.layers.split_at_mut(middle);
        lower.iter_mut().zip(upper.iter_mut().rev()).for_each(|(low, high)| low.change_places(high));
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

    /// True for a layer that packets come of or, of a publisher that has just begun, or gone on, will: one below those that have
    /// come. Who took what came first for all there is would send the largest pictures down the narrowest path.
    pub fn is_sent(&self, now: Instant, layer: u8) -> bool {
        let is_active = |layer: &Layer| layer.is_active(now);
        let (below, from) = self.layers.split_at(usize::from(layer));
        let [layer, above @ ..] = from else { return false };
        let is_lowest = || !below.iter().any(is_active) && above.iter().any(|layer| layer.has_just_begun(now));
        is_active(layer) || is_lowest()
    }

    /// The highest layer up to `limit` that packets come of; the lowest active one when there is none up to it.
    pub fn best_layer(&self, now: Instant, limit: u8) -> u8 {
        let active = |n: &u8| self.is_sent(now, *n);
        let top = self.top_layer();
        (0..=limit.min(top)).rev().find(active).or_else(|| (0..=top).find(active)).unwrap_or(limit.min(top))
    }

    /// Whether somebody receives a layer, here or on another shard, or may at any moment: else nobody minds what is missing in it.
    pub fn is_received(&self, layer: u8) -> bool {
        match &self.wanted_layers {
            Some(wanted) if self.layers.len() > 1 => wanted.contains(&layer),
            // Of the only encoding they are those inside.
            Some(wanted) => !wanted.is_empty(),
            // Of sound no layers are told, nor of video before somebody asks for it.
            None => !self.subscribers.is_empty() || self.hops.iter().any(|hop| hop.wanted != 0),
        }
    }

    /// True when its packets are dropped.
    pub fn is_muted(&self) -> bool {
        self.muted_by_client || self.muted_by_policy
    }

    /// True when key frames of it may be asked for: those of a muted one would be dropped, and asked for again and again.
    pub fn asks_for_pictures(&self) -> bool {
        self.is_video() && !self.is_muted()
    }

    /// From now on its publisher is told by a message that key frames are needed, while it is several encodings of VP8. Chromium's
    /// encoder makes these of any size when it is asked by RTCP, and no other pictures for up to a second, of no layer; where it
    /// begins anew they are an eighth of that, and it goes on at once.
    pub fn ask_by_message(&mut self) {
        if self.is_video() && self.layers.len() > 1 {
            self.layers.iter_mut().for_each(|layer| layer.key_frames.ask_by_message());
        }
    }

    /// True for pictures.
    pub fn is_video(&self) -> bool {
        self.info.kind == Kind::Video
    }
}
