//! The edge from a track to a client: which packets pass, under which numbers, and how they are resent.

use std::time::{Duration, Instant};

mod allotted;
mod catching_up;
mod given_up;
mod key_frame;
mod numbering;
mod reported;
mod state;
mod stream;
mod switching;

pub use allotted::Allotted;
use given_up::GivenUp;
pub use given_up::{Cure, Means};
use key_frame::SentKeyFrame;
use numbering::Numberings;
pub use reported::Reported;
pub use state::ForwardState;
pub use stream::{LayerLimits, Outgoing, OutgoingSsrcs, OutgoingStream, Rtx, SentCounts, Terms};
use switching::Position;

use super::form::Redundancy;
use super::formats::Format;
use super::history::{History, Packet};
use super::indexes::SentIndexes;
use super::kept_headers::{Keeping, KeptHeaders};
use super::layering::Point;
use super::pictures::LastPicture;
use super::selection::{Behind, waits_until};
use super::track::{KeyFrameNeed, Track};
use moonring_wire::id::{Mid, TrackKey};
use moonring_wire::media::{CodecName, Kind};

/// One edge.
#[derive(Debug)]
pub struct Forward {
    /// What is forwarded.
    pub track: TrackKey,
    /// The client's media section.
    pub mid: Mid,
    /// What the client knows it by.
    pub stream: OutgoingStream,
    /// The layers it may have.
    pub limits: LayerLimits,
    /// What was sent.
    pub sent: SentCounts,
    /// When it was reported.
    pub reported: Reported,
    /// The track's codec.
    pub codec: CodecName,
    /// What the allocation has decided.
    pub allotted: Allotted,
    /// The server chose the track: when it ends, the next one takes its place.
    pub follows: bool,
    /// The policy is being asked whether it may go on with another track.
    pub is_asked: bool,
    /// What the client's section was answered: the codecs it can be sent.
    pub formats: Vec<Format>,
    /// For resends without RTX; from the first packet on.
    pub kept: Option<Box<KeptHeaders>>,
    position: Position,
    /// The spatial and temporal layers to forward of the encoding.
    point: Point,
    numberings: Numberings,
    indexes: SentIndexes,
    last: Option<(u32, Instant)>,
    last_picture: LastPicture,
    last_key_frame: Option<SentKeyFrame>,
    given_up: GivenUp,
}

impl Forward {
    /// A forward that starts at `track`'s next packet. `first_index` is random, below 2^15, so that the receiver's
    /// rollover counter starts in step (RFC 3711 section 3.3.1).
    pub fn new((key, track): (TrackKey, &Track), mid: Mid, stream: OutgoingStream, first_index: u64) -> Self {
        let target = track.top_layer();
        Self {
            track: key,
            mid,
            stream,
            limits: LayerLimits::default(),
            sent: SentCounts::default(),
            reported: Reported::default(),
            codec: track.info.codec,
            allotted: Allotted::default(),
            follows: false,
            is_asked: false,
            formats: Vec::new(),
            kept: None,
            position: Position::new(target, track.layers[usize::from(target)].history.end()),
            point: Point::ALL,
            numberings: Numberings::default(),
            indexes: SentIndexes::new(first_index),
            last: None,
            last_picture: LastPicture::default(),
            last_key_frame: None,
            given_up: GivenUp::default(),
        }
    }

    /// The layer being forwarded.
    pub fn layer(&self) -> Option<u8> {
        self.numberings.current().map(|n| n.layer)
    }

    /// The layer that is or will be forwarded.
    pub fn target(&self) -> u8 {
        self.position.target
    }

    /// True while a key frame of the target layer is needed to go on.
    pub fn waits_for_key_frame(&self) -> bool {
        self.codec.kind() == Kind::Video && self.layer() != Some(self.position.target)
    }

    /// Chooses the layer to forward; the switch happens at that layer's next key frame.
    pub fn set_target(&mut self, track: &Track, target: u8) {
        let target = target.min(track.top_layer());
        if target != self.position.target {
            self.position.target = target;
            self.position.target_cursor = track.layers[usize::from(target)].history.end();
        }
    }

    /// The spatial and temporal layers that are forwarded of it.
    pub fn point(&self) -> Point {
        self.point
    }

    /// Chooses the spatial and temporal layers to forward, from the next picture on that allows it.
    pub fn set_point(&mut self, point: Point) {
        self.point = point;
        // On the way to another encoding the present one stays as it is.
        if self.layer() == Some(self.position.target) {
            self.numberings.set_wanted(point);
        }
    }

    /// Asks for a key frame where one is needed to go on, or to get to a wanted spatial layer. True when nobody has asked for
    /// it before.
    pub fn ask_for_key_frame(&self, now: Instant, track: &mut Track) -> bool {
        if !self.waits_for_key_frame() {
            return self.ask_for_spatial_layer(now, track);
        }
        let layer = &mut track.layers[usize::from(self.position.target)];
        // One that the pacer holds back is here.
        let need = if self.layer().is_some() { KeyFrameNeed::Switch } else { KeyFrameNeed::Begin };
        layer.history.key_frame().is_none_or(|at| at < self.position.target_cursor) && layer.want_key_frame(now, need)
    }

    /// Asks for a key frame where one is needed to get to a wanted spatial layer. True when nobody has asked for it before.
    pub fn ask_for_spatial_layer(&self, now: Instant, track: &mut Track) -> bool {
        let is_needed = !self.waits_for_key_frame() && self.waits_for_spatial_layer(track);
        let layer = &mut track.layers[usize::from(self.position.target)];
        is_needed
            && layer.layering.as_mut().is_some_and(|layering| layering.may_ask_for_upper(now))
            && layer.want_key_frame(now, KeyFrameNeed::Switch)
    }

    /// True while a spatial layer is wanted that only a key frame brings.
    pub fn waits_for_spatial_layer(&self, track: &Track) -> bool {
        let Some(layer) = self.layer() else { return false };
        let Some(layering) = &track.layers[usize::from(layer)].layering else { return false };
        let highest = layering.layers().0.saturating_sub(1).min(self.point.spatial);
        self.numberings.spatial().is_some_and(|spatial| spatial < highest)
    }

    /// Forgets where the publisher was: the next packet (for video, key frame) starts a new numbering. For a pause
    /// that must not look like loss.
    pub fn restart(&mut self, track: &Track) {
        self.numberings.pause();
        self.position.target_cursor = track.layers[usize::from(self.position.target)].history.end();
    }

    /// Goes on as `format`, from `track`'s next key frame. What was sent in another codec is not resent any more: it
    /// would leave with this payload type.
    pub fn follow(&mut self, track: &Track, format: Format) {
        self.renumber(format);
        if self.codec != track.info.codec {
            self.codec = track.info.codec;
            self.last_picture = LastPicture::default();
        }
        self.numberings.clear();
        self.restart(track);
    }

    /// Leaves with the payload types of `format` from now on, where another offer numbers them anew.
    pub fn renumber(&mut self, format: Format) {
        self.stream.pt = format.pt;
        self.stream.rtx = self.stream.rtx.zip(format.rtx).map(|(rtx, pt)| Rtx { pt, ..rtx });
    }

    /// The next packet of `track` that goes to the client, and how. `None` when all that came is dealt with, or when it waits for
    /// what is behind it, if it may: see [`Self::held_until`].
    #[inline]
    pub fn next<'t>(
        &mut self,
        (now, may_wait): (Instant, bool),
        track: &'t Track,
    ) -> Option<(&'t History, &'t Packet, Outgoing)> {
        loop {
            if self.layer() != Some(self.position.target) {
                self.look_for_switch((now, may_wait), track);
            }
            let layer = self.layer()?;
            let history = &track.layers[usize::from(layer)].history;
            if self.position.cursor < history.oldest() {
                self.sent.skipped += history.oldest() - self.position.cursor;
                self.position.cursor = history.oldest();
            }
            self.position.pass_beginning();
            let packet = history.get(self.position.cursor)?;
            if track.layers[usize::from(layer)].layering.is_some() {
                self.numberings.select(self.codec, self.point);
                let may_wait = may_wait && now < waits_until(packet);
                let next = || history.get(self.position.cursor + 1);
                if may_wait
                    && self.numberings.awaits_what_is_behind(packet)
                    && matches!(Behind::of(now, packet, next(), history), Behind::Missing)
                {
                    return None;
                }
            }
            self.position.cursor += 1;
            if let Some(outgoing) = self.number(now, packet, history) {
                self.position.gave(packet, history);
                return Some((history, packet, outgoing));
            }
        }
    }

    /// Until when the packet waits for what is behind it, or before it, with which [`Self::next`] has ended, if there is one.
    pub fn held_until(&self, track: &Track) -> Option<Instant> {
        let (layer, at) = match self.layer() {
            Some(layer) => (layer, self.position.cursor),
            None => (self.position.target, self.position.target_cursor),
        };
        track.layers[usize::from(layer)].history.get(at).map(waits_until)
    }

    /// Goes on with another track, as `format`, from its next key frame on.
    pub fn move_to(&mut self, key: TrackKey, track: &Track, format: Format) {
        let target = track.top_layer();
        self.position = Position::new(target, 0);
        self.point = Point::ALL;
        self.track = key;
        self.follow(track, format);
    }

    /// The publisher's numbers of `layer` mean something else from now on.
    pub fn forget_layer(&mut self, layer: u8) {
        self.numberings.forget_layer(layer);
    }

    /// How long the oldest packet has waited that [`Self::next`] would look at, but for what a key frame before it took. None
    /// for a key frame's own: those are worth waiting for, other pictures are stale after a while, and what is no longer
    /// here is.
    pub fn has_waited(&self, now: Instant, track: &Track) -> Option<Duration> {
        let history = &track.layers[usize::from(self.layer()?)].history;
        if self.position.cursor < history.oldest() {
            return Some(Duration::MAX);
        }
        let packet = history.get(self.position.cursor).filter(|packet| !packet.info.key_frame)?;
        let patience = match &self.last_key_frame {
            Some(key_frame) if key_frame.has(packet) => return None,
            Some(key_frame) => key_frame.patience(now),
            None => Duration::ZERO,
        };
        Some(now.saturating_duration_since(packet.arrival).saturating_sub(patience))
    }

    /// True while the last key frame may still be on its way to the client, over a path of this round trip and rate in bit/s.
    pub fn key_frame_is_under_way(&self, now: Instant, rtt: Duration, bps: u64) -> bool {
        self.last_key_frame.is_some_and(|key_frame| key_frame.is_under_way(now, rtt, bps))
    }

    /// Leaves out all that has come, for a pause.
    pub fn skip_to_end(&mut self, track: &Track) {
        let end = |layer: u8| track.layers[usize::from(layer)].history.end();
        if let Some(layer) = self.layer() {
            self.position.cursor = end(layer);
        }
        self.position.target_cursor = end(self.position.target);
    }

    /// True when [`Self::next`] has something to look at.
    pub fn is_behind(&self, track: &Track) -> bool {
        let end = |layer: u8| track.layers[usize::from(layer)].history.end();
        match self.layer() {
            Some(layer) if layer == self.position.target => self.position.cursor < end(layer),
            Some(layer) => self.position.cursor < end(layer) || self.position.target_cursor < end(self.position.target),
            None => self.position.target_cursor < end(self.position.target),
        }
    }

    #[inline]
    fn number(&mut self, now: Instant, packet: &Packet, history: &History) -> Option<Outgoing> {
        let at = self.position.cursor;
        let behind = || Behind::of(now, packet, history.get(at), history);
        let mut outgoing = self.numberings.number(packet, behind)?;
        outgoing.redundancy = self.redundancy(packet);
        if !self.indexes.mark(outgoing.index) {
            return None;
        }
        if self.codec.kind() == Kind::Video {
            SentKeyFrame::note(&mut self.last_key_frame, now, (packet, outgoing.index));
            if packet.info.begins_key_frame() {
                self.given_up.key_frame_begins(outgoing.index);
            }
        }
        if outgoing.index + 1 == self.indexes.next() {
            self.last = Some((outgoing.timestamp, now));
            if self.codec.kind() == Kind::Video {
                self.last_picture.note(self.codec, history.payload(packet), (packet.links, outgoing.pictures));
            }
        }
        self.sent.packets = self.sent.packets.wrapping_add(1);
        self.sent.octets = self.sent.octets.wrapping_add(packet.payload_len() as u32);
        Some(outgoing)
    }

    /// Finds the packet that went out with `sequence`, to resend it by RTX: without packets of the past, as the payload type
    /// of retransmissions is that of media without them.
    pub fn find_sent<'t>(&self, track: &'t Track, sequence: u16) -> Option<(&'t History, &'t Packet, Outgoing)> {
        let (history, packet, outgoing) = self.numberings.find(self.index_of(sequence)?, track)?;
        let redundancy = if packet.is_red { Redundancy::Removed } else { Redundancy::None };
        Some((history, packet, Outgoing { redundancy, ..outgoing }))
    }

    /// The newest index so far with these low 16 bits.
    fn index_of(&self, sequence: u16) -> Option<u64> {
        let newest = self.indexes.next().checked_sub(1)?;
        let behind = (newest as u16).wrapping_sub(sequence);
        newest.checked_sub(u64::from(behind))
    }

    fn redundancy(&self, packet: &Packet) -> Redundancy {
        match self.stream.red {
            _ if !packet.is_red => Redundancy::None,
            None => Redundancy::Removed,
            Some(red) => Redundancy::Kept { red, inner: self.stream.pt },
        }
    }

    /// Where the packet that [`Self::next`] just gave is noted; `None` where it is sent again by RTX, or not.
    #[inline]
    pub fn keeping(&mut self) -> Option<Keeping<'_>> {
        let layer = self.layer().filter(|_| self.stream.nack && self.stream.rtx.is_none())?;
        let headers = self.kept.get_or_insert_default();
        Some(Keeping { headers, track: self.track, layer, arrival: self.position.given })
    }

    /// Reads what a packet touches of this.
    pub(super) fn glance(&self) -> u64 {
        let position = self.position.cursor ^ u64::from(self.sent.packets) ^ u64::from(self.stream.ssrc.0);
        self.numberings.glance()
            ^ position
            ^ self.indexes.glance()
            ^ u64::from(self.last.is_some() ^ self.last_key_frame.is_some() ^ self.allotted.paused.is_some())
            ^ self.codec as u64
    }

    /// True when something was sent.
    pub fn has_begun(&self) -> bool {
        self.last.is_some()
    }

    /// The sequence number of the newest packet that was sent.
    pub fn newest_sequence(&self) -> Option<u16> {
        self.last.and(self.indexes.next().checked_sub(1)).map(|index| index as u16)
    }

    /// The time stamp of the newest packet that was sent.
    pub fn last_timestamp(&self) -> Option<u32> {
        self.last.map(|(timestamp, _)| timestamp)
    }

    /// The publisher's clock in this forward's time stamps: (NTP, RTP) of `now`, for a sender report.
    pub fn report_times(&self, now: Instant, track: &Track) -> Option<(u64, u32)> {
        let numbering = self.numberings.current()?;
        let clock = track.layers[usize::from(numbering.layer)].clock?;
        let (ntp, timestamp) = clock.at(now, self.codec.clock_rate());
        Some((ntp, timestamp.wrapping_add(numbering.timestamp_offset)))
    }
}
