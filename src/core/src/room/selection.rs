//! Which spatial and temporal layers of an encoding one client gets, and the numbers that they leave with.
//!
//! Down goes it at any picture. Up goes it where nothing is missing: at a key frame to everything; else layer by layer,
//! where the dependency descriptor says that a frame is a switch (and nothing that it needs was left out), or, without one,
//! where the codec's header does: VP8's and VP9's sync bit for temporal layers, and for VP9's spatial ones a frame that
//! refers to no earlier picture. All packets of a layer's frame have one fate, also those that come late.
//!
//! Sequence numbers, and VP8's picture ids, have no gaps where something was left out. A packet that came late keeps the
//! number that was free for it; is it one to be left out, then a packet without payload fills that number. TL0PICIDX counts
//! pictures that are never left out; VP9's picture ids are what its references are told by, and stay.

use serde::{Deserialize, Serialize};

use super::history::Packet;
use super::layering::{MAX_SPATIAL, Point};
use super::left_out::{Frames, LeftOut};
pub use marker::{Behind, waits_until};
use moonring_wire::media::CodecName;

/// Pictures remembered: two seconds at 30 a second, as long as packets are sent again.
const PICTURES: usize = 64;

/// How far behind others a picture is shown that is sent after them, in ticks of the time stamp: ten seconds. What comes with a
/// smaller one goes on elsewhere.
const MOST_BEHIND: i32 = 900_000;

/// How a packet leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leaves {
    /// How many packets before it were left out.
    pub packets_before: u64,
    /// How many pictures before it were left out, if its codec counts them.
    pub pictures_before: u16,
    /// Its marker bit.
    pub marker: bool,
    /// It is left out, but its number is free: an empty packet takes it.
    pub is_filler: bool,
}

impl Leaves {
    /// Of an encoding of which everything is forwarded.
    pub fn unchanged(packet: &Packet) -> Self {
        Self { packets_before: 0, pictures_before: 0, marker: packet.marker, is_filler: false }
    }
}

/// What was decided on a picture: the frames of all spatial layers with one time stamp.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
struct Picture {
    timestamp: u32,
    /// Pictures left out before it.
    before: u16,
    /// A bit for each spatial layer that was decided on, and for each that is forwarded.
    decided: u8,
    passes: u8,
    /// The highest spatial layer that was forwarded then, and the highest temporal layer of each.
    spatial: u8,
    temporal: [u8; MAX_SPATIAL],
    /// The spatial layer that is the last one of it.
    last: u8,
    /// It was left out, and those behind it count on that.
    is_counted: bool,
    /// The marker bit has left: nothing of a higher layer follows.
    is_over: bool,
    /// The packet that got the marker bit, though it had none.
    marked: Option<u64>,
}

/// The newest packet.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Newest {
    timestamp: u32,
    spatial: usize,
    /// Left out, and its frame goes on.
    is_within_left_out: bool,
}

/// See the module's words.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Selection {
    /// What is wanted from the next picture on.
    wanted_next: Point,
    /// What was wanted when the newest picture began.
    wanted: Point,
    /// The highest spatial layer that is forwarded, and the highest temporal layer of each.
    spatial: u8,
    temporal: [u8; MAX_SPATIAL],
    #[serde(with = "serial")]
    pictures: [Picture; PICTURES],
    next_place: usize,
    newest_picture: Option<usize>,
    pictures_left_out: u16,
    counts_pictures: bool,
    newest: Option<Newest>,
    packets: LeftOut,
    frames: Frames,
}

impl Selection {
    /// Everything that comes is forwarded, up to now.
    pub fn new(codec: CodecName, wanted: Point) -> Self {
        Self {
            wanted_next: wanted,
            wanted,
            spatial: u8::MAX,
            temporal: [u8::MAX; MAX_SPATIAL],
            pictures: [Picture::default(); PICTURES],
            next_place: 0,
            newest_picture: None,
            pictures_left_out: 0,
            counts_pictures: codec == CodecName::Vp8,
            newest: None,
            packets: LeftOut::default(),
            frames: Frames::default(),
        }
    }

    /// Chooses the layers from the next picture, or the next switch, on.
    pub fn set_wanted(&mut self, wanted: Point) {
        self.wanted_next = wanted;
    }

    /// The highest spatial layer that is forwarded.
    pub fn spatial(&self) -> u8 {
        self.spatial
    }

    /// The next packet of the encoding by its arrival, and what is behind it. `None`: it is left out.
    pub fn judge(&mut self, packet: &Packet, behind: Behind<'_>) -> Option<Leaves> {
        let is_late = self.packets.is_late(packet.index);
        if is_late && self.packets.contains(packet.index) {
            return None;
        }
        let place = self.picture(packet, is_late);
        let passes = self.decide(place, packet, is_late);
        if !is_late {
            self.advance(packet, passes);
            if !passes {
                return None;
            }
        }
        let packets_before = self.packets.before(packet.index)?;
        let behind = if is_late { behind.of_late() } else { behind };
        let marker = passes && (packet.marker || self.ends_picture(place, packet, behind));
        let pictures_before = self.pictures[place].before;
        Some(Leaves { packets_before, pictures_before, marker, is_filler: !passes })
    }

    /// How a packet left, to send it again.
    pub fn left(&self, packet: &Packet) -> Option<Leaves> {
        let packets_before = self.packets.before(packet.index).filter(|_| !self.packets.contains(packet.index))?;
        let (spatial, _) = packet.layers();
        let picture = self.pictures.iter().find(|p| p.decided != 0 && p.timestamp == packet.timestamp)?;
        let passes = picture.passes >> (spatial % MAX_SPATIAL) & 1 == 1;
        let marker = passes && (packet.marker || picture.marked == Some(packet.index));
        Some(Leaves { packets_before, pictures_before: picture.before, marker, is_filler: !passes })
    }

    /// The publisher's index of the packet that left with `number` (which is its index without those left out before it).
    pub fn index_of(&self, number: u64) -> Option<u64> {
        self.packets.find(number)
    }

    fn advance(&mut self, packet: &Packet, passes: bool) {
        let (spatial, _) = packet.layers();
        // What is missing between two packets of one frame is of that frame.
        let with_gap = self.newest.is_some_and(|newest| {
            newest.is_within_left_out && newest.timestamp == packet.timestamp && newest.spatial == spatial
        });
        self.packets.advance(packet.index, !passes, with_gap && !passes && !packet.info.frame_start);
        let is_over = packet.marker || packet.info.frame_end == Some(true);
        self.newest = Some(Newest { timestamp: packet.timestamp, spatial, is_within_left_out: !passes && !is_over });
    }

    /// The place of the packet's picture, which is new or known.
    fn picture(&mut self, packet: &Packet, is_late: bool) -> usize {
        let newest = self.newest_picture.map(|place| (place, self.pictures[place].timestamp));
        if let Some((place, timestamp)) = newest
            && timestamp == packet.timestamp
        {
            return place;
        }
        let ahead = newest.map_or(1, |(_, timestamp)| packet.timestamp.wrapping_sub(timestamp) as i32);
        let is_newer = ahead > 0 || (ahead < -MOST_BEHIND && !is_late);
        let is_it = |p: &Picture| p.decided != 0 && p.timestamp == packet.timestamp;
        if !is_newer && let Some(place) = self.pictures.iter().position(is_it) {
            return place;
        }
        let mut picture = Picture {
            timestamp: packet.timestamp,
            before: self.pictures_left_out,
            spatial: self.spatial,
            temporal: self.temporal,
            last: self.spatial,
            ..Picture::default()
        };
        if is_newer {
            self.wanted = self.wanted_next;
            // Of the very first one some may have left before.
            if newest.is_some() {
                self.lower();
                (picture.spatial, picture.temporal) = (self.spatial, self.temporal);
                picture.last = self.last_of_picture(packet);
            }
        } else if let Some(older) = self.older(packet.timestamp) {
            // What came meanwhile has counted on it as it would have been then.
            (picture.spatial, picture.temporal, picture.last) = (older.spatial, older.temporal, older.spatial);
            picture.before = older.before.wrapping_add(u16::from(older.is_counted));
        }
        let place = self.next_place;
        self.next_place = (place + 1) % PICTURES;
        self.pictures[place] = picture;
        if is_newer {
            self.newest_picture = Some(place);
        } else if self.newest_picture == Some(place) {
            self.newest_picture = None;
        }
        place
    }

    /// A new picture begins: from here on nothing is forwarded that is not wanted.
    fn lower(&mut self) {
        self.spatial = self.spatial.min(self.wanted.spatial);
        for temporal in &mut self.temporal {
            *temporal = (*temporal).min(self.wanted.temporal);
        }
    }

    /// The picture before one that comes late.
    fn older(&self, timestamp: u32) -> Option<&Picture> {
        let age = |p: &Picture| timestamp.wrapping_sub(p.timestamp) as i32;
        self.pictures.iter().filter(|p| p.decided != 0 && age(p) > 0).min_by_key(|p| age(p))
    }

    /// Whether the frame of a packet is forwarded.
    fn decide(&mut self, place: usize, packet: &Packet, is_late: bool) -> bool {
        let (spatial, temporal) = packet.layers();
        let bit = 1_u8 << (spatial % MAX_SPATIAL);
        if self.pictures[place].decided & bit != 0 {
            return self.pictures[place].passes & bit != 0;
        }
        let is_current = !is_late && self.newest_picture == Some(place);
        if packet.info.key_frame && is_current {
            self.spatial = self.wanted.spatial;
            self.temporal = [self.wanted.temporal; MAX_SPATIAL];
            self.frames.begin(packet.links.number);
        }
        let passes = self.passes_then(place, packet, is_current);
        let picture = &mut self.pictures[place];
        picture.decided |= bit;
        if passes {
            picture.passes |= bit;
        } else if self.counts_pictures && is_current {
            picture.is_counted = true;
            self.pictures_left_out = self.pictures_left_out.wrapping_add(1);
        }
        if packet.links.described {
            self.frames.note(packet.links.number, !passes);
        }
        if !passes && is_current && self.frames.are_needed(packet.links.number, packet.links.needs) {
            // Nothing of its layer can be decoded before another beginning.
            match (spatial, temporal) {
                (_, 1..) => self.temporal[spatial] = self.temporal[spatial].min(temporal as u8 - 1),
                (1.., 0) => self.spatial = self.spatial.min(spatial as u8 - 1),
                (0, 0) => {}
            }
        }
        if passes && is_current {
            self.raise(packet, (spatial, temporal));
            let last = self.last_of_picture(packet);
            let picture = &mut self.pictures[place];
            (picture.spatial, picture.temporal, picture.last) = (self.spatial, self.temporal, last);
            match packet.links.described {
                true => self.frames.note_needs(packet.links.number, packet.links.needs),
                // It may need the frames of its picture below it.
                false => picture.temporal[..spatial].iter_mut().for_each(|t| *t = (*t).max(temporal as u8)),
            }
        }
        passes
    }

    /// The highest spatial layer that is forwarded of a picture, of which `packet` is one.
    fn last_of_picture(&self, packet: &Packet) -> u8 {
        let (_, temporal) = packet.layers();
        let takes = |spatial: &u8| self.temporal.get(usize::from(*spatial)).is_none_or(|t| usize::from(*t) >= temporal);
        (0..=self.spatial.min(MAX_SPATIAL as u8 - 1)).rev().find(takes).unwrap_or(0)
    }

    fn passes_then(&self, place: usize, packet: &Packet, is_current: bool) -> bool {
        if is_current { self.would_pass(place, packet) } else { self.would_have_passed(place, packet) }
    }

    /// Whether a frame of which a packet comes late is forwarded: as it would have been then. Nothing begins with it.
    fn would_have_passed(&self, place: usize, packet: &Packet) -> bool {
        let (picture, links) = (&self.pictures[place], &packet.links);
        let (spatial, temporal) = packet.layers();
        let is_complete = picture.is_over && picture.passes >> (spatial % MAX_SPATIAL) == 0;
        spatial < MAX_SPATIAL
            && !is_complete
            && spatial <= usize::from(picture.spatial)
            && (temporal <= usize::from(picture.temporal[spatial])
                || links.described && self.frames.is_counted_on(links.number))
            && !(links.described && self.frames.are_needed(links.number, links.needs))
    }

    fn would_pass(&self, place: usize, packet: &Packet) -> bool {
        let (picture, info, links) = (&self.pictures[place], &packet.info, &packet.links);
        let (spatial, temporal) = packet.layers();
        if spatial >= MAX_SPATIAL || spatial > usize::from(self.wanted.spatial.max(self.spatial)) {
            return false;
        }
        let is_in = |bits: u8, spatial: usize| bits >> spatial & 1 == 1;
        if picture.is_over && picture.passes >> spatial == 0 {
            return false;
        }
        let lower_is_out = |lower: usize| is_in(picture.decided, lower) && !is_in(picture.passes, lower);
        let (needs_what_is_out, needs_what_is_missing) = match links.described {
            true => (
                self.frames.are_needed(links.number, links.needs),
                links.needs & 1 == 1 && !self.frames.is_known(links.number.wrapping_sub(1)),
            ),
            false => {
                let needs_lower = info.inter_layer && spatial > 0;
                (needs_lower && lower_is_out(spatial - 1), needs_lower && !is_in(picture.decided, spatial - 1))
            }
        };
        // What it needs of the layers below comes late, and is left out then.
        let is_out_then = needs_what_is_missing && self.temporal[..spatial].iter().any(|t| usize::from(*t) < temporal);
        if needs_what_is_out || is_out_then {
            return false;
        }
        if spatial > usize::from(self.spatial) {
            let may_begin = match links.described {
                true => links.switches != 0 && self.frames.are_all_forwarded(links.number, links.needs),
                false => info.intra_picture && spatial == usize::from(self.spatial) + 1,
            };
            return may_begin && temporal <= usize::from(self.wanted.temporal);
        }
        let highest = usize::from(self.temporal[spatial]);
        let may_begin = || match links.described {
            true => {
                let is_switch = links.switches >> temporal & 1 == 1;
                is_switch && self.frames.are_all_forwarded(links.number, links.needs)
            }
            false => info.switching_point,
        };
        temporal <= highest || (temporal == highest + 1 && temporal <= usize::from(self.wanted.temporal) && may_begin())
    }

    /// A frame that is forwarded takes its layers up to where it is, or to where it says that they can be taken to.
    fn raise(&mut self, packet: &Packet, (spatial, temporal): (usize, usize)) {
        if spatial > usize::from(self.spatial) {
            self.spatial = spatial as u8;
            self.temporal[spatial] = temporal as u8;
        }
        if !packet.links.described {
            // Their frames of one picture are alike.
            for highest in &mut self.temporal[spatial..] {
                *highest = if usize::from(*highest) + 1 == temporal { temporal as u8 } else { *highest };
            }
        }
        let switches = packet.links.switches;
        let wanted = (0..8).rev().find(|t| switches >> t & 1 == 1 && *t <= self.wanted.temporal).unwrap_or(0);
        self.temporal[spatial] = self.temporal[spatial].max(temporal as u8).max(wanted);
    }
}

mod marker;
mod serial;
#[cfg(test)]
pub(super) mod tests;
