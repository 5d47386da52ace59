//! Which packet of a picture ends it: the marker bit of what is forwarded.
//!
//! Receivers wait for it. Where the layers above are not forwarded it moves to the last packet that is, and where the publisher's
//! encoder has dropped a picture's upper layers, Chromium's VP9 sets none at all. Whether anything of a picture follows behind a
//! frame, only the packet behind it tells: the frame's last packet waits for that.

use std::time::{Duration, Instant};

use super::{MAX_SPATIAL, Selection};
use crate::room::history::{History, Packet};

/// How long the frame of a layer may come after the one below: the encoder makes them one after the other.
pub(super) const SAME_PICTURE: Duration = Duration::from_millis(150);

/// Until when a packet waits for what is behind it.
pub fn waits_until(packet: &Packet) -> Instant {
    packet.arrival + SAME_PICTURE
}

/// What is behind a packet.
#[derive(Clone, Copy, Debug)]
pub enum Behind<'p> {
    /// This, with nothing between.
    Packet(&'p Packet),
    /// Something that has not come yet.
    Missing,
    /// Nothing of its picture: nothing came until [`waits_until`].
    Nothing,
}

impl<'p> Behind<'p> {
    /// What is behind `packet`; `next` came after it.
    pub fn of(now: Instant, packet: &Packet, next: Option<&'p Packet>, history: &'p History) -> Self {
        // The next number may have come before, and a frame may be followed by another one of which the first packet is missing.
        let is_next = |behind: &&Packet| behind.index == packet.index + 1;
        let is_next_frame = |behind: &&Packet| {
            let (this, links) = (packet.links, behind.links);
            this.described && links.described && links.number == this.number.wrapping_add(1)
        };
        let found = next.filter(is_next).or_else(|| history.find(packet.index + 1)).or(next.filter(is_next_frame));
        match found {
            Some(behind) => Self::Packet(behind),
            None if next.is_none() && now >= waits_until(packet) => Self::Nothing,
            None => Self::Missing,
        }
    }

    /// The same of a packet that comes late: what came before it may be behind it.
    pub(super) fn of_late(self) -> Self {
        if matches!(self, Self::Nothing) { Self::Missing } else { self }
    }
}

impl Selection {
    /// True for the last packet of a frame that does not say that its picture ends, when a frame of a higher layer may follow.
    pub fn awaits_what_is_behind(&self, packet: &Packet) -> bool {
        let (spatial, _) = packet.layers();
        let highest = self.spatial.max(self.wanted.spatial).max(self.wanted_next.spatial);
        let may_follow = spatial < usize::from(highest).min(MAX_SPATIAL - 1);
        packet.info.frame_end == Some(true) && !packet.marker && may_follow && !self.packets.is_late(packet.index)
    }

    /// Whether a packet that is forwarded is the last one of its picture that is, though it was not for the publisher. It has
    /// waited for what is behind it.
    pub(super) fn ends_picture(&mut self, place: usize, packet: &Packet, behind: Behind<'_>) -> bool {
        if self.pictures[place].marked == Some(packet.index) {
            return true;
        }
        let (spatial, _) = packet.layers();
        let has_higher = u32::from(self.pictures[place].passes) >> (spatial + 1) != 0;
        if packet.info.frame_end != Some(true) || self.pictures[place].is_over || has_higher {
            return false;
        }
        let is_last = match behind {
            Behind::Packet(next) if next.timestamp == packet.timestamp => {
                let (layer, _) = next.layers();
                let (picture, bit) = (&self.pictures[place], 1_u8 << (layer % MAX_SPATIAL));
                let passes = match picture.decided & bit {
                    0 => self.passes_then(place, next, self.newest_picture == Some(place)),
                    _ => picture.passes & bit != 0,
                };
                layer > spatial && !passes
            }
            Behind::Packet(_) | Behind::Nothing => true,
            // What needs it may be forwarded next.
            Behind::Missing => spatial >= usize::from(self.pictures[place].last),
        };
        if is_last {
            let picture = &mut self.pictures[place];
            (picture.is_over, picture.marked) = (true, Some(packet.index));
        }
        is_last
    }
}
