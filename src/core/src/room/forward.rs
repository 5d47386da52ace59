//! The edge from a track to a client: which packets pass, under which numbers, and how they are resent.

use std::time::{Duration, Instant};

use super::history::{History, Packet};
use super::pictures::{LastPicture, PictureShift};
use super::track::{KEY_FRAME_INTERVAL, Track};
use moonring_wire::id::{Mid, Pt, Ssrc, TrackKey};
use moonring_wire::media::{CodecName, Kind};

/// Numberings remembered for resending: each layer switch or pause starts a new one.
const NUMBERINGS: usize = 4;
/// Outgoing indexes remembered as used, so that none is ever sealed twice.
const WINDOW: u64 = 512;

/// Retransmissions of one forward (RFC 4588): a stream of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rtx {
    /// Its SSRC.
    pub ssrc: Ssrc,
    /// The client's payload type for it.
    pub pt: Pt,
    /// Its next extended sequence number.
    pub next_index: u64,
}

/// How the publisher's numbers become the client's, from one switch to the next.
#[derive(Clone, Copy, Debug)]
struct Numbering {
    layer: u8,
    /// The publisher's index of the first packet; older ones do not pass.
    first: u64,
    /// Added (wrapping) to the publisher's index.
    index_offset: u64,
    /// Added (wrapping) to the publisher's time stamp.
    timestamp_offset: u32,
    pictures: PictureShift,
}

/// What a packet leaves with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// The client's extended sequence number: the SRTP index.
    pub index: u64,
    /// The client's time stamp.
    pub timestamp: u32,
    /// Change of the payload's picture numbers.
    pub pictures: PictureShift,
}

/// One edge.
#[derive(Debug)]
pub struct Forward {
    /// What is forwarded.
    pub track: TrackKey,
    /// The client's media section.
    pub mid: Mid,
    /// The SSRC the client knows it by.
    pub ssrc: Ssrc,
    /// The client's payload type.
    pub pt: Pt,
    /// Retransmissions, when negotiated.
    pub rtx: Option<Rtx>,
    /// The highest layer the client asked for.
    pub client_limit: Option<u8>,
    /// The highest layer the policy allows.
    pub policy_limit: Option<u8>,
    /// Packets forwarded, for sender reports.
    pub packets: u32,
    /// Packets that were overwritten before they could be forwarded: overload.
    pub skipped: u64,
    /// Payload bytes forwarded, for sender reports.
    pub octets: u32,
    /// The track's codec.
    pub codec: CodecName,
    kind: Kind,
    /// The layer to switch to at its next key frame.
    target: u8,
    numberings: [Option<Numbering>; NUMBERINGS],
    /// Arrival number of the next packet to look at, in the current layer or, before the first key frame, the target.
    cursor: u64,
    /// The same, in the target while it is another than the current layer.
    target_cursor: u64,
    next_index: u64,
    used: [u64; (WINDOW / 64) as usize],
    last: Option<(u32, Instant)>,
    last_picture: LastPicture,
}

impl Forward {
    /// A forward that starts at `track`'s next packet. `first_index` is random, below 2^15, so that the receiver's
    /// rollover counter starts in step (RFC 3711 section 3.3.1).
    pub fn new(key: TrackKey, track: &Track, mid: Mid, ssrc: Ssrc, pt: Pt, rtx: Option<Rtx>, first_index: u64) -> Self {
        let target = track.top_layer();
        Self {
            track: key,
            mid,
            ssrc,
            pt,
            rtx,
            client_limit: None,
            policy_limit: None,
            packets: 0,
            skipped: 0,
            octets: 0,
            kind: track.info.kind,
            codec: track.info.codec,
            target,
            numberings: [None; NUMBERINGS],
            cursor: 0,
            target_cursor: track.layers[usize::from(target)].history.end(),
            next_index: first_index,
            used: [0; (WINDOW / 64) as usize],
            last: None,
            last_picture: LastPicture::default(),
        }
    }

    /// Lets a forward that has sent nothing yet begin with the last key frame, when everything since is still here
    /// and it is so young that no other would be asked for: a late joiner sees a picture at once. From an older one
    /// it would start behind the others.
    pub fn begin_with_last_key_frame(&mut self, now: Instant, track: &Track) {
        if self.kind != Kind::Video || self.layer().is_some() || self.last.is_some() {
            return;
        }
        let history = &track.layers[usize::from(self.target)].history;
        let is_young =
            |n: &u64| history.get(*n).is_some_and(|p| now.saturating_duration_since(p.arrival) < KEY_FRAME_INTERVAL);
        self.target_cursor = history.key_frame().filter(is_young).unwrap_or(history.end());
    }

    /// The layer being forwarded.
    pub fn layer(&self) -> Option<u8> {
        self.numberings[0].map(|n| n.layer)
    }

    /// The layer that is or will be forwarded.
    pub fn target(&self) -> u8 {
        self.target
    }

    /// True while a key frame of the target layer is needed to go on.
    pub fn waits_for_key_frame(&self) -> bool {
        self.kind == Kind::Video && self.layer() != Some(self.target)
    }

    /// Chooses the layer to forward; the switch happens at that layer's next key frame.
    pub fn set_target(&mut self, track: &Track, target: u8) {
        let target = target.min(track.top_layer());
        if target != self.target {
            self.target = target;
            self.target_cursor = track.layers[usize::from(target)].history.end();
        }
    }

    /// Forgets where the publisher was: the next packet (for video, key frame) starts a new numbering. For a pause
    /// that must not look like loss.
    pub fn restart(&mut self, track: &Track) {
        self.numberings.rotate_right(1);
        self.numberings[0] = None;
        self.target_cursor = track.layers[usize::from(self.target)].history.end();
    }

    /// The next packet of `track` that goes to the client, and how. `None` when all that came is dealt with.
    pub fn next<'t>(&mut self, now: Instant, track: &'t Track) -> Option<(&'t History, &'t Packet, Outgoing)> {
        loop {
            self.look_for_switch(now, track);
            let layer = self.layer()?;
            let history = &track.layers[usize::from(layer)].history;
            if self.cursor < history.oldest() {
                self.skipped += history.oldest() - self.cursor;
                self.cursor = history.oldest();
            }
            let packet = history.get(self.cursor)?;
            self.cursor += 1;
            if let Some(outgoing) = self.number(now, packet, history) {
                return Some((history, packet, outgoing));
            }
        }
    }

    /// True when [`Self::next`] has something to look at.
    pub fn is_behind(&self, track: &Track) -> bool {
        let end = |layer: u8| track.layers[usize::from(layer)].history.end();
        match self.layer() {
            Some(layer) if layer == self.target => self.cursor < end(layer),
            Some(layer) => self.cursor < end(layer) || self.target_cursor < end(self.target),
            None => self.target_cursor < end(self.target),
        }
    }

    /// Takes the target layer's packets up to its first key frame, and switches there.
    fn look_for_switch(&mut self, now: Instant, track: &Track) {
        if self.layer() == Some(self.target) {
            return;
        }
        let history = &track.layers[usize::from(self.target)].history;
        self.target_cursor = self.target_cursor.max(history.oldest());
        while let Some(packet) = history.get(self.target_cursor) {
            let starts = self.kind == Kind::Audio || (packet.info.key_frame && packet.info.frame_start);
            if starts && packet.payload_len() > 0 {
                self.switch(now, track, packet, history);
                return;
            }
            self.target_cursor += 1;
        }
    }

    fn switch(&mut self, now: Instant, track: &Track, packet: &Packet, history: &History) {
        let timestamp = match self.last {
            None => packet.timestamp,
            Some((timestamp, at)) => self.timestamp_after(now, track, packet, timestamp, at),
        };
        let pictures = self.last_picture.shift_for(self.codec, history.payload(packet));
        self.numberings.rotate_right(1);
        self.numberings[0] = Some(Numbering {
            layer: self.target,
            first: packet.index,
            index_offset: self.next_index.wrapping_sub(packet.index),
            timestamp_offset: timestamp.wrapping_sub(packet.timestamp),
            pictures,
        });
        self.cursor = self.target_cursor;
    }

    /// The time stamp that the first packet after a switch gets: by the publisher's sender reports where both layers
    /// have one, else by the time that passed.
    fn timestamp_after(&self, now: Instant, track: &Track, packet: &Packet, last: u32, at: Instant) -> u32 {
        let new = &track.layers[usize::from(self.target)];
        let rate = self.codec.clock_rate();
        let aligned = self.numberings[0].and_then(|old| {
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
        let numbering = self.numberings[0]?;
        if packet.index < numbering.first {
            return None;
        }
        let index = packet.index.wrapping_add(numbering.index_offset);
        if !self.use_index(index) {
            return None;
        }
        let timestamp = packet.timestamp.wrapping_add(numbering.timestamp_offset);
        if index + 1 == self.next_index {
            self.last = Some((timestamp, now));
            self.last_picture.note(self.codec, history.payload(packet), numbering.pictures);
        }
        self.packets = self.packets.wrapping_add(1);
        self.octets = self.octets.wrapping_add(packet.payload_len() as u32);
        Some(Outgoing { index, timestamp, pictures: numbering.pictures })
    }

    /// Marks an outgoing index as used; false when it was, or is too old to know. An SRTP index must never seal two
    /// different packets (RFC 7714 section 8.1: the IV would repeat).
    fn use_index(&mut self, index: u64) -> bool {
        let place = |index: u64| (((index % WINDOW) / 64) as usize, 1u64 << (index % 64));
        if index >= self.next_index {
            if index - self.next_index >= WINDOW {
                self.used = [0; (WINDOW / 64) as usize];
            } else {
                for skipped in self.next_index..index {
                    let (word, bit) = place(skipped);
                    self.used[word] &= !bit;
                }
            }
            self.next_index = index + 1;
        } else {
            let (word, bit) = place(index);
            if self.next_index - index > WINDOW || self.used[word] & bit != 0 {
                return false;
            }
        }
        let (word, bit) = place(index);
        self.used[word] |= bit;
        true
    }

    /// Finds the packet that went out with sequence number `sequence`, to resend it.
    pub fn find_sent<'t>(&self, track: &'t Track, sequence: u16) -> Option<(&'t History, &'t Packet, Outgoing)> {
        let newest = self.next_index.checked_sub(1)?;
        let behind = (newest as u16).wrapping_sub(sequence);
        let index = newest.checked_sub(u64::from(behind))?;
        self.numberings.iter().flatten().find_map(|n| {
            let from = index.wrapping_sub(n.index_offset);
            if from < n.first {
                return None;
            }
            let history = &track.layers[usize::from(n.layer)].history;
            let packet = history.find(from)?;
            let timestamp = packet.timestamp.wrapping_add(n.timestamp_offset);
            Some((history, packet, Outgoing { index, timestamp, pictures: n.pictures }))
        })
    }

    /// The publisher's clock in this forward's time stamps: (NTP, RTP) of `now`, for a sender report.
    pub fn report_times(&self, now: Instant, track: &Track) -> Option<(u64, u32)> {
        let numbering = self.numberings[0]?;
        let clock = track.layers[usize::from(numbering.layer)].clock?;
        let (ntp, timestamp) = clock.at(now, self.codec.clock_rate());
        Some((ntp, timestamp.wrapping_add(numbering.timestamp_offset)))
    }
}
