//! How the publisher's numbers become the client's: one numbering from each switch to the next.

use serde::{Deserialize, Serialize};

use super::Outgoing;
use super::catching_up::CatchingUp;
use crate::room::form::Redundancy;
use crate::room::history::{History, Packet};
use crate::room::indexes::SentIndexes;
use crate::room::layering::Point;
use crate::room::pictures::PictureShift;
use crate::room::selection::{Behind, Leaves, Selection};
use crate::room::track::Track;
use moonring_wire::media::CodecName;

/// Numberings remembered for resending: each layer switch or pause starts a new one.
const NUMBERINGS: usize = 4;
/// Indexes of a stream stay far below this: half of what SRTP has.
const MAX_SOUND: u64 = 1 << 47;

/// From one switch to the next.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct Numbering {
    pub(super) layer: u8,
    /// The publisher's index of the first packet; older ones do not pass.
    pub(super) first: u64,
    /// Added (wrapping) to the publisher's index, less the packets that were left out before.
    pub(super) index_offset: u64,
    /// Added (wrapping) to the publisher's time stamp.
    pub(super) timestamp_offset: u32,
    /// Its first pictures are older than the last one before.
    pub(super) catching_up: CatchingUp,
    /// Added to the payload's picture numbers, less the pictures that were left out before.
    pub(super) pictures: PictureShift,
}

impl Numbering {
    #[inline]
    fn leave(&self, packet: &Packet, leaves: Leaves) -> Outgoing {
        Outgoing {
            index: packet.index.wrapping_sub(leaves.packets_before).wrapping_add(self.index_offset),
            timestamp: self.catching_up.timestamp(packet.timestamp, self.timestamp_offset),
            pictures: self.pictures.without(leaves.pictures_before),
            marker: leaves.marker,
            redundancy: Redundancy::None,
            is_filler: leaves.is_filler,
        }
    }
}

/// The current numbering and those before it, each with what was left out, where the encoding has layers inside.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Numberings {
    all: [Option<Numbering>; NUMBERINGS],
    selections: [Option<Box<Selection>>; NUMBERINGS],
}

impl Numberings {
    /// The current one; `None` during a pause.
    pub(super) fn current(&self) -> Option<&Numbering> {
        self.all[0].as_ref()
    }

    /// The current one or, during a pause, the one before it; `None` when nothing is known any more of what it was of.
    pub(super) fn latest(&self) -> Option<&Numbering> {
        self.all.iter().flatten().next()
    }

    /// Begins a new one.
    pub(super) fn begin(&mut self, numbering: Numbering) {
        self.pause();
        self.all[0] = Some(numbering);
    }

    /// Ends the current one.
    pub(super) fn pause(&mut self) {
        self.all.rotate_right(1);
        self.selections.rotate_right(1);
        (self.all[0], self.selections[0]) = (None, None);
    }

    /// Forgets all.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Forgets those that cannot be of an encoding with so many layers, or would give numbers that no packet has.
    pub(super) fn keep_sound(&mut self, layers: usize) {
        for (numbering, selection) in self.all.iter_mut().zip(&mut self.selections) {
            let is_sound = numbering.is_some_and(|n| {
                let begins_at = n.first.wrapping_add(n.index_offset);
                let is_within = n.first <= MAX_SOUND && begins_at <= MAX_SOUND;
                is_within
                    && usize::from(n.layer) < layers
                    && selection.as_deref().is_none_or(|selection| selection.is_sound(n.first, MAX_SOUND))
            });
            if !is_sound {
                (*numbering, *selection) = (None, None);
            }
        }
    }

    /// Forgets those of `layer`, and those before them, as the numbers of what is forgotten would be taken for theirs.
    pub(super) fn forget_layer(&mut self, layer: u8) {
        let newest = self.all.iter().position(|numbering| numbering.is_some_and(|n| n.layer == layer));
        let from = newest.unwrap_or(NUMBERINGS);
        self.all[from..].fill(None);
        self.selections[from..].fill_with(Default::default);
    }

    /// Reads what the next packet touches.
    pub(super) fn glance(&self) -> u64 {
        self.current().map_or(0, |numbering| numbering.first) ^ u64::from(self.selections[0].is_some())
    }

    /// Has the layers inside the encoding looked at from here on.
    pub(super) fn select(&mut self, codec: CodecName, wanted: Point) {
        self.selections[0].get_or_insert_with(|| Box::new(Selection::new(codec, wanted)));
    }

    /// Chooses the layers inside the encoding.
    pub(super) fn set_wanted(&mut self, wanted: Point) {
        if let Some(selection) = &mut self.selections[0] {
            selection.set_wanted(wanted);
        }
    }

    /// The highest spatial layer that is forwarded, where the encoding has layers inside.
    pub(super) fn spatial(&self) -> Option<u8> {
        self.selections[0].as_ref().map(|selection| selection.spatial())
    }

    /// Whether the next packet has to wait for what is behind it.
    pub(super) fn awaits_what_is_behind(&self, packet: &Packet) -> bool {
        self.selections[0].as_ref().is_some_and(|selection| selection.awaits_what_is_behind(packet))
    }

    /// How the next packet leaves; `None` when it does not. `behind` says what is behind it, where that is asked.
    #[inline]
    pub(super) fn number<'p>(&mut self, packet: &Packet, behind: impl FnOnce() -> Behind<'p>) -> Option<Outgoing> {
        let numbering = self.all[0].as_mut().filter(|n| packet.index >= n.first)?;
        numbering.catching_up.end_behind(packet.timestamp);
        let leaves = match &mut self.selections[0] {
            None => Leaves::unchanged(packet),
            Some(selection) => selection.judge(packet, behind())?,
        };
        Some(numbering.leave(packet, leaves))
    }

    /// Whether a packet has left, or was left out.
    pub(super) fn is_done(&self, packet: &Packet, used: &SentIndexes) -> bool {
        let Some(numbering) = self.all[0].as_ref().filter(|n| packet.index >= n.first) else { return true };
        let leaves = match &self.selections[0] {
            None => Leaves::unchanged(packet),
            Some(selection) if selection.has_left_out(packet) => return true,
            Some(selection) => match selection.left(packet) {
                Some(leaves) => leaves,
                None => return false,
            },
        };
        used.is_used(numbering.leave(packet, leaves).index)
    }

    /// Whether the packet with the publisher's index `index` has left, or would not leave; likewise where that cannot be told.
    pub(super) fn has_left(&self, index: u64, used: &SentIndexes) -> bool {
        let numbering = self.all[0].as_ref().filter(|n| index >= n.first && self.selections[0].is_none());
        numbering.is_none_or(|n| used.is_used(index.wrapping_add(n.index_offset)))
    }

    /// The packet that left with the extended sequence number `index`, and how.
    pub(super) fn find<'t>(&self, index: u64, track: &'t Track) -> Option<(&'t History, &'t Packet, Outgoing)> {
        // The numbering under which it left; another layer may have a packet that would get the same number.
        let all = self.all.iter().zip(&self.selections).filter_map(|(n, selection)| Some((n.as_ref()?, selection)));
        let mut fitting = all.filter(|(n, _)| index >= n.first.wrapping_add(n.index_offset));
        let (n, selection) = fitting.next()?;
        let history = &track.layers[usize::from(n.layer)].history;
        let number = index.wrapping_sub(n.index_offset);
        let (packet, leaves) = match selection {
            None => history.find(number).map(|packet| (packet, Leaves::unchanged(packet)))?,
            Some(selection) => {
                let packet = history.find(selection.index_of(number)?)?;
                (packet, selection.left(packet)?)
            }
        };
        Some((history, packet, n.leave(packet, leaves)))
    }
}
