//! Which packets and frames of an encoding a forward has left out lately, so that its own numbers have no gaps.

use serde::{Deserialize, Serialize};

/// Packets remembered behind the newest.
const PACKETS: u64 = 1_024;
const WORDS: usize = (PACKETS / 64) as usize;
/// Frames remembered behind the newest.
const FRAMES: i16 = 128;

/// The packets, by the publisher's index.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct LeftOut {
    newest: Option<u64>,
    total: u64,
    bits: [u64; WORDS],
}

impl LeftOut {
    /// True for a packet that is not newer than the newest.
    pub(super) fn is_late(&self, index: u64) -> bool {
        self.newest.is_some_and(|newest| index <= newest)
    }

    /// Notes the newest packet, and whether it is left out; `with_gap`: those that are missing before it are, too.
    pub(super) fn advance(&mut self, index: u64, is_left_out: bool, with_gap: bool) {
        let next = self.newest.map_or(index, |newest| newest + 1);
        // Of a jump nothing is known.
        let with_gap = with_gap && index - next < PACKETS;
        if with_gap {
            self.total += index - next;
        }
        let first = next.max((index + 1).saturating_sub(PACKETS));
        for n in first..=index {
            self.set(n, if n == index { is_left_out } else { with_gap });
        }
        self.total += u64::from(is_left_out);
        self.newest = Some(index);
    }

    /// Whether it can be of a stream whose first packet was `first`, and none beyond `highest`.
    pub(super) fn is_sound(&self, first: u64, highest: u64) -> bool {
        let known: u64 = self.bits.iter().map(|word| u64::from(word.count_ones())).sum();
        match self.newest {
            None => self.total == 0 && known == 0,
            Some(newest) => {
                newest <= highest && known <= self.total && self.total <= (newest + 1).saturating_sub(first)
            }
        }
    }

    fn set(&mut self, index: u64, to: bool) {
        let (word, bit) = place(index);
        self.bits[word] = if to { self.bits[word] | bit } else { self.bits[word] & !bit };
    }

    /// Whether a packet was left out; of old ones it is not known.
    pub(super) fn contains(&self, index: u64) -> bool {
        let (word, bit) = place(index);
        self.is_known(index) && self.bits[word] & bit != 0
    }

    fn is_known(&self, index: u64) -> bool {
        self.newest.is_some_and(|newest| index <= newest && newest - index < PACKETS)
    }

    /// How many were left out before the packet `index`; `None` when it is too old to know.
    pub(super) fn before(&self, index: u64) -> Option<u64> {
        let newest = self.newest.filter(|_| self.is_known(index))?;
        if index == newest && !self.contains(index) {
            return Some(self.total);
        }
        let mut later = 0;
        let mut at = index;
        while at <= newest {
            let end = (at | 63).min(newest);
            let mask = (u64::MAX >> (63 - (end - at))) << (at % 64);
            later += u64::from((self.bits[place(at).0] & mask).count_ones());
            at = end + 1;
        }
        Some(self.total - later)
    }

    /// The packet that was not left out and has `number` that were not before it; counted from index 0.
    pub(super) fn find(&self, number: u64) -> Option<u64> {
        let mut before = self.total;
        loop {
            let index = number.checked_add(before)?;
            // Beyond the newest, as far as anything is known, `total` were left out before.
            let now = self.before(index)?;
            if now == before {
                return (!self.contains(index)).then_some(index);
            }
            before = now;
        }
    }
}

fn place(index: u64) -> (usize, u64) {
    (((index % PACKETS) / 64) as usize, 1 << (index % 64))
}

/// What became of frames, by the numbers of the dependency descriptor.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Frames {
    newest: Option<u16>,
    /// Bit `k`: the frame whose number is smaller than the newest by `k` was left out.
    left_out: u128,
    /// The same of those that were forwarded. Neither is what has not come.
    forwarded: u128,
    /// The same of those that frames which were forwarded need.
    needed: u128,
}

impl Frames {
    /// A key frame comes: nothing behind it needs what was before it, which may have had other numbers.
    pub(super) fn begin(&mut self, number: u16) {
        if self.newest.is_some_and(|newest| !(1..FRAMES).contains(&(number.wrapping_sub(newest) as i16))) {
            *self = Self::default();
        }
    }

    /// Notes what became of a frame.
    pub(super) fn note(&mut self, number: u16, is_left_out: bool) {
        let ahead = number.wrapping_sub(self.newest.unwrap_or(number)) as i16;
        if ahead > 0 || self.newest.is_none() {
            let shifted = |bits: u128| if ahead < FRAMES { bits << ahead } else { 0 };
            (self.left_out, self.forwarded) = (shifted(self.left_out), shifted(self.forwarded));
            self.needed = shifted(self.needed);
            self.newest = Some(number);
        }
        let behind = self.newest.unwrap_or(number).wrapping_sub(number);
        if behind < FRAMES as u16 {
            let bits = if is_left_out { &mut self.left_out } else { &mut self.forwarded };
            *bits |= 1 << behind;
        }
    }

    /// Notes what the newest frame needs, which is forwarded.
    pub(super) fn note_needs(&mut self, number: u16, needs: u64) {
        if self.newest == Some(number) {
            self.needed |= u128::from(needs) << 1;
        }
    }

    /// Whether one that was forwarded needs a frame.
    pub(super) fn is_counted_on(&self, number: u16) -> bool {
        self.is_in(self.needed, number)
    }

    /// Whether it was noted what became of a frame.
    pub(super) fn is_known(&self, number: u16) -> bool {
        self.is_in(self.left_out | self.forwarded, number)
    }

    fn is_in(&self, bits: u128, number: u16) -> bool {
        let behind = self.newest.map_or(u16::MAX, |newest| newest.wrapping_sub(number));
        behind < FRAMES as u16 && bits >> behind & 1 == 1
    }

    /// Whether a frame needs one that was left out; bit `k` of `needs` is the frame before it by `k + 1`.
    pub(super) fn are_needed(&self, number: u16, needs: u64) -> bool {
        self.before(number, self.left_out) & needs != 0
    }

    /// Whether all that a frame needs was forwarded.
    pub(super) fn are_all_forwarded(&self, number: u16, needs: u64) -> bool {
        self.before(number, self.forwarded) & needs == needs
    }

    /// The bits of the frames before `number`, the next one in the lowest.
    fn before(&self, number: u16, bits: u128) -> u64 {
        let Some(newest) = self.newest else { return 0 };
        // The frame before the newest is bit 1: shifted so that the one before `number` is bit 0.
        let shift = i32::from(newest.wrapping_sub(number) as i16) + 1;
        match shift {
            0..=127 => (bits >> shift) as u64,
            -127..0 => (bits << -shift) as u64,
            _ => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_without_those_left_out_lead_back_to_the_packets() {
        // Every pattern of what is left out of 12 packets, from an index before a word's end.
        for pattern in 0_u64..4_096 {
            let mut left_out = LeftOut::default();
            let (first, mut number, mut kept) = (1_018, 1_018, Vec::new());
            for n in 0..12 {
                let index = first + n;
                let is_left_out = pattern >> n & 1 == 1;
                left_out.advance(index, is_left_out, false);
                if !is_left_out {
                    kept.push((index, number));
                    number += 1;
                }
            }
            for (index, number) in kept {
                assert_eq!(left_out.before(index), Some(index - number), "{pattern:#b} {index}");
                assert_eq!(left_out.find(number), Some(index), "{pattern:#b} {number}");
            }
            assert_eq!(left_out.find(number), None, "{pattern:#b}: not sent yet");
        }
    }

    #[test]
    fn what_is_missing_keeps_its_numbers_or_goes_with_what_was_left_out() {
        let mut left_out = LeftOut::default();
        left_out.advance(10, false, false);
        left_out.advance(13, true, false);
        assert_eq!(
            [11, 12, 13].map(|n| (left_out.before(n), left_out.contains(n))),
            [(Some(0), false), (Some(0), false), (Some(0), true)]
        );
        left_out.advance(16, true, true);
        left_out.advance(17, false, false);
        assert_eq!([14, 15, 16].map(|n| left_out.contains(n)), [true; 3]);
        assert_eq!((left_out.before(17), left_out.find(13)), (Some(4), Some(17)));
        assert!(left_out.is_late(17) && !left_out.is_late(18));
    }

    #[test]
    fn what_is_too_old_is_not_known_and_a_jump_leaves_nothing_behind() {
        let mut left_out = LeftOut::default();
        for index in 0..3_000 {
            left_out.advance(index, index % 3 == 0, false);
        }
        assert_eq!((left_out.before(1_975), left_out.contains(1_974)), (None, false));
        assert_eq!(left_out.before(2_999), Some(1_000));
        assert_eq!(left_out.find(2_998 - 1_000), Some(2_998));
        left_out.advance(900_000, false, false);
        assert_eq!(left_out.before(900_000), Some(1_000));
        assert_eq!(left_out.before(899_990), Some(1_000));
        assert_eq!(left_out.find(899_990 - 1_000), Some(899_990));
        left_out.advance(1_900_000, true, true);
        left_out.advance(1_900_001, false, false);
        assert_eq!(left_out.find(1_900_001 - left_out.before(1_900_001).unwrap()), Some(1_900_001));
    }

    #[test]
    fn a_frame_that_needs_one_that_was_left_out_is_known() {
        let mut frames = Frames::default();
        for (number, is_left_out) in [(65_534, true), (65_535, false), (1, true), (0, false)] {
            frames.note(number, is_left_out);
        }
        for (number, needs, expected) in [
            (2, 0b1, true),
            (2, 0b10, false),
            (2, 0b1000, true),
            (3, 0b1, false),
            (3, 0b10, true),
            (0, 0b1, false),
            (0, 0b10, true),
            (60, 1 << 58, true),
            (60, 1 << 57, false),
            (200, u64::MAX, false),
        ] {
            assert_eq!(frames.are_needed(number, needs), expected, "{number} {needs:#b}");
        }
        for (number, needs, expected) in
            [(1, 0b11, true), (1, 0b111, false), (2, 0b10, true), (2, 0b1, false), (1, 0, true), (3, 0b1, false)]
        {
            assert_eq!(frames.are_all_forwarded(number, needs), expected, "{number} {needs:#b}");
        }
        frames.note(900, false);
        assert!(!frames.are_needed(901, u64::MAX));
    }
}
