//! The edge from a track to a client: which packets pass, under which numbers, and how they are resent.

use std::time::{Duration, Instant};

mod numbering;
mod state;
mod stream;

use numbering::{Numbering, Numberings};
pub use state::ForwardState;
pub use stream::{LayerLimits, Outgoing, OutgoingStream, Rtx, SentCounts};

use super::cap::Room;
use super::form::Redundancy;
use super::formats::Format;
use super::history::{History, Packet};
use super::indexes::SentIndexes;
use super::kept_headers::{Keeping, KeptHeaders};
use super::layering::Point;
use super::pictures::LastPicture;
use super::track::{KEY_FRAME_INTERVAL, Track};
use moonring_wire::id::{Mid, TrackKey};
use moonring_wire::media::{CodecName, Kind, PauseReason};

/// What the allocation has decided on a forward.
#[derive(Clone, Copy, Debug, Default)]
pub struct Allotted {
    /// Nothing is sent: it does not fit, or the client does not show it.
    pub paused: Option<PauseReason>,
    /// When its layer was last changed, unless somebody has changed its limits since.
    pub changed: Option<Instant>,
    /// Since when not even its lowest layer fits.
    pub tight: Option<Instant>,
    /// Since when the layer that is sent has not fit.
    pub squeezed: Option<Instant>,
    /// The size at which the client shows it, in pixels; `None` until it says.
    pub view: Option<(u32, u32)>,
    /// What the path has room for of a single encoding; `None` while that is not known.
    pub room: Option<Room>,
    /// What of it the path has shown in a rehearsal to carry, in bit/s, and when.
    pub shown: Option<(Instant, u64)>,
}

/// Where a forward is in the layers' histories.
#[derive(Clone, Copy, Debug)]
struct Position {
    /// The layer to switch to at its next key frame.
    target: u8,
    /// Arrival number of the next packet to look at, in the current layer or, before the first key frame, the target.
    cursor: u64,
    /// The same, in the target while it is another than the current layer.
    target_cursor: u64,
}

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
            codec: track.info.codec,
            allotted: Allotted::default(),
            follows: false,
            is_asked: false,
            formats: Vec::new(),
            kept: None,
            position: Position { target, cursor: 0, target_cursor: track.layers[usize::from(target)].history.end() },
            point: Point::ALL,
            numberings: Numberings::default(),
            indexes: SentIndexes::new(first_index),
            last: None,
            last_picture: LastPicture::default(),
        }
    }

    /// Lets a forward that has sent nothing yet begin with the last key frame, when everything since is still here
    /// and it is so young that no other would be asked for: a late joiner sees a picture at once. From an older one
    /// it would start behind the others.
    pub fn begin_with_last_key_frame(&mut self, now: Instant, track: &Track) {
        if self.codec.kind() != Kind::Video || self.layer().is_some() || self.last.is_some() {
            return;
        }
        let history = &track.layers[usize::from(self.position.target)].history;
        let is_young =
            |n: &u64| history.get(*n).is_some_and(|p| now.saturating_duration_since(p.arrival) < KEY_FRAME_INTERVAL);
        self.position.target_cursor = history.key_frame().filter(is_young).unwrap_or(history.end());
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

    /// Asks for a key frame where one is needed to go on, or to get to a wanted spatial layer.
    pub fn ask_for_key_frame(&self, now: Instant, track: &mut Track) {
        let upper = !self.waits_for_key_frame() && self.waits_for_spatial_layer(track);
        let layer = &mut track.layers[usize::from(self.position.target)];
        let may_ask = upper && layer.layering.as_mut().is_some_and(|layering| layering.may_ask_for_upper(now));
        if self.waits_for_key_frame() || may_ask {
            layer.want_key_frame(now);
        }
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

    /// The next packet of `track` that goes to the client, and how. `None` when all that came is dealt with.
    pub fn next<'t>(&mut self, now: Instant, track: &'t Track) -> Option<(&'t History, &'t Packet, Outgoing)> {
        loop {
            self.look_for_switch(now, track);
            let layer = self.layer()?;
            let history = &track.layers[usize::from(layer)].history;
            if self.position.cursor < history.oldest() {
                self.sent.skipped += history.oldest() - self.position.cursor;
                self.position.cursor = history.oldest();
            }
            let packet = history.get(self.position.cursor)?;
            self.position.cursor += 1;
            if track.layers[usize::from(layer)].layering.is_some() {
                self.numberings.select(self.codec, self.point);
            }
            if let Some(outgoing) = self.number(now, packet, history) {
                return Some((history, packet, outgoing));
            }
        }
    }

    /// Goes on with another track, as `format`, from its next key frame on.
    pub fn move_to(&mut self, key: TrackKey, track: &Track, format: Format) {
        let target = track.top_layer();
        self.position = Position { target, cursor: 0, target_cursor: 0 };
        self.point = Point::ALL;
        self.track = key;
        self.follow(track, format);
    }

    /// The publisher's numbers of `layer` mean something else from now on.
    pub fn forget_layer(&mut self, layer: u8) {
        self.numberings.forget_layer(layer);
    }

    /// When the oldest packet came that [`Self::next`] would look at, if it is a picture that is not a key frame's:
    /// those are worth waiting for, others are stale after a while.
    pub fn waits_since(&self, track: &Track) -> Option<Instant> {
        let history = &track.layers[usize::from(self.layer()?)].history;
        history.get(self.position.cursor).filter(|p| !p.info.key_frame).map(|p| p.arrival)
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

    /// Takes the target layer's packets up to its first key frame, and switches there.
    fn look_for_switch(&mut self, now: Instant, track: &Track) {
        if self.layer() == Some(self.position.target) {
            return;
        }
        let history = &track.layers[usize::from(self.position.target)].history;
        self.position.target_cursor = self.position.target_cursor.max(history.oldest());
        while let Some(packet) = history.get(self.position.target_cursor) {
            let starts = self.codec.kind() == Kind::Audio || (packet.info.key_frame && packet.info.frame_start);
            if starts && packet.payload_len() > 0 {
                self.switch(now, track, packet, history);
                return;
            }
            self.position.target_cursor += 1;
        }
    }

    fn switch(&mut self, now: Instant, track: &Track, packet: &Packet, history: &History) {
        let timestamp = match self.last {
            None => packet.timestamp,
            Some((timestamp, at)) => self.timestamp_after(now, track, packet, timestamp, at),
        };
        let pictures = self.last_picture.shift_for(self.codec, history.payload(packet), packet.links);
        self.numberings.begin(Numbering {
            layer: self.position.target,
            first: packet.index,
            index_offset: self.indexes.next().wrapping_sub(packet.index),
            timestamp_offset: timestamp.wrapping_sub(packet.timestamp),
            pictures,
        });
        self.position.cursor = self.position.target_cursor;
    }

    /// The time stamp that the first packet after a switch gets: by the publisher's sender reports where both layers
    /// have one, else by the time that passed.
    fn timestamp_after(&self, now: Instant, track: &Track, packet: &Packet, last: u32, at: Instant) -> u32 {
        let new = &track.layers[usize::from(self.position.target)];
        let rate = self.codec.clock_rate();
        let aligned = self.numberings.current().and_then(|old| {
            let from = track.layers[usize::from(old.layer)].clock?;
            let shift = from.shift_to(new.clock.as_ref()?, rate);
            Some(packet.timestamp.wrapping_sub(shift).wrapping_add(old.timestamp_offset))
        });
        let elapsed = now.saturating_duration_since(at).max(Duration::from_millis(1));
        let by_time = last.wrapping_add((elapsed.as_secs_f64() * f64::from(rate)) as u32);
        match aligned {
            // Never backwards, and never far ahead: a report that lies is worth less than the clock.
            Some(t) if t.wrapping_sub(last) > 0 && t.wrapping_sub(last) < rate * 10 => t,
            _ => by_time,
        }
    }

    fn number(&mut self, now: Instant, packet: &Packet, history: &History) -> Option<Outgoing> {
        let mut outgoing = self.numberings.number(packet, history.get(self.position.cursor))?;
        outgoing.redundancy = self.redundancy(packet);
        if !self.indexes.mark(outgoing.index) {
            return None;
        }
        if outgoing.index + 1 == self.indexes.next() {
            self.last = Some((outgoing.timestamp, now));
            self.last_picture.note(self.codec, history.payload(packet), (packet.links, outgoing.pictures));
        }
        self.sent.packets = self.sent.packets.wrapping_add(1);
        self.sent.octets = self.sent.octets.wrapping_add(packet.payload_len() as u32);
        Some(outgoing)
    }

    /// Finds the packet that went out with `sequence`, to resend it.
    pub fn find_sent<'t>(&self, track: &'t Track, sequence: u16) -> Option<(&'t History, &'t Packet, Outgoing)> {
        let newest = self.indexes.next().checked_sub(1)?;
        let behind = (newest as u16).wrapping_sub(sequence);
        let index = newest.checked_sub(u64::from(behind))?;
        let (history, packet, outgoing) = self.numberings.find(index, track)?;
        Some((history, packet, Outgoing { redundancy: self.redundancy(packet), ..outgoing }))
    }

    fn redundancy(&self, packet: &Packet) -> Redundancy {
        match self.stream.red {
            _ if !packet.is_red => Redundancy::None,
            None => Redundancy::Removed,
            Some(red) => Redundancy::Kept { red, inner: self.stream.pt },
        }
    }

    /// Where the packet that [`Self::next`] just gave is noted; `None` where it is sent again by RTX, or not.
    pub fn keeping(&mut self) -> Option<Keeping<'_>> {
        let layer = self.layer().filter(|_| self.stream.nack && self.stream.rtx.is_none())?;
        let headers = self.kept.get_or_insert_default();
        Some(Keeping { headers, track: self.track, layer, arrival: self.position.cursor - 1 })
    }

    /// Reads what a packet touches of this.
    pub(super) fn glance(&self) -> u64 {
        let numbers = self.numberings.current().map_or(0, |numbering| numbering.first);
        let position = self.position.cursor ^ u64::from(self.sent.packets) ^ u64::from(self.stream.ssrc.0);
        numbers
            ^ position
            ^ self.indexes.glance()
            ^ u64::from(self.last.is_some())
            ^ u64::from(self.allotted.paused.is_some())
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
