//! What was sent: a ring by transport-wide sequence number, eight bytes a packet.

use super::probe::ProbeId;

/// Packets remembered at first; the ring doubles when packets fall out of it before they are acknowledged.
const FIRST_CAPACITY: usize = 512;
/// The most it grows to: 64 KiB, more than a second of 1,200-byte packets at 60 Mbit/s.
const MAX_CAPACITY: usize = 8192;
/// A packet that was overwritten before it was acknowledged, and younger than this, makes the ring grow.
const WORTH_REMEMBERING_US: i64 = 3_000_000;

const _: () = assert!(FIRST_CAPACITY.is_power_of_two() && MAX_CAPACITY.is_power_of_two());

/// What is known of the fate of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// No packet was sent with this number.
    Empty,
    /// Sent, nothing heard.
    Pending,
    /// Said not to have arrived. A later feedback may still say that it did.
    Lost,
    /// Arrived.
    Received,
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    /// Microseconds, the low 32 bits.
    at: u32,
    bytes: u16,
    probe: Option<ProbeId>,
    fate: Fate,
}

const EMPTY: Slot = Slot { at: 0, bytes: 0, probe: None, fate: Fate::Empty };

/// A packet as it was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SentPacket {
    /// Its number, extended to 64 bits.
    pub(super) index: u64,
    /// When, in microseconds of the estimator's clock.
    pub(super) at: i64,
    pub(super) bytes: u32,
    pub(super) probe: Option<ProbeId>,
    /// What was known of it before this report.
    pub(super) before: Fate,
}

/// The packets sent last.
#[derive(Clone, Debug)]
pub(super) struct SentRing {
    slots: Box<[Slot]>,
    /// The index that follows the highest sent; 0: nothing sent.
    next: u64,
    /// Time of the last packet, to extend the 32 bits of the others.
    last_at: i64,
    must_grow: bool,
}

impl SentRing {
    pub(super) fn new() -> Self {
        Self { slots: vec![EMPTY; FIRST_CAPACITY].into(), next: 0, last_at: 0, must_grow: false }
    }

    /// Reads where the next packet is noted.
    pub(super) fn glance(&self) -> u64 {
        u64::from(self.slots[(self.next as usize) & (self.slots.len() - 1)].at)
    }

    /// Reads where the ring itself is.
    pub(super) fn glance_head(&self) -> u64 {
        self.slots.len() as u64 ^ self.next
    }

    /// Notes a packet. Numbers that were skipped were not sent; a number that goes back is ignored, and so is nothing
    /// else: a caller that jumps by more than the ring starts it afresh.
    #[inline]
    /// Returns its index.
    pub(super) fn push(&mut self, at: i64, sequence: u16, bytes: usize, probe: Option<ProbeId>) -> u64 {
        let index = match self.next {
            0 => u64::from(sequence) + 0x1_0000,
            next => next.wrapping_add_signed(i64::from(sequence.wrapping_sub(next as u16) as i16)),
        };
        if self.next != 0 && index < self.next {
            return index;
        }
        if self.next != 0 && index > self.next {
            let first = self.next.max(index.saturating_sub(self.slots.len() as u64));
            (first..index).for_each(|skipped| self.overwrite(skipped, EMPTY));
        }
        let bytes = bytes.min(usize::from(u16::MAX)) as u16;
        self.overwrite(index, Slot { at: at as u32, bytes, probe, fate: Fate::Pending });
        self.next = index + 1;
        self.last_at = at;
        index
    }

    #[inline]
    fn overwrite(&mut self, index: u64, slot: Slot) {
        let place = self.place(index);
        let old = std::mem::replace(&mut self.slots[place], slot);
        if old.fate == Fate::Pending {
            self.must_grow |= self.extend(old.at) + WORTH_REMEMBERING_US > self.last_at;
        }
    }

    /// Looks up what a report says of `sequence` and remembers it. `None`: never sent, too old, or no news.
    #[inline]
    pub(super) fn report(&mut self, sequence: u16, received: bool) -> Option<SentPacket> {
        // The newest index with these low 16 bits that has been sent.
        let back = (self.next as u16).wrapping_sub(1).wrapping_sub(sequence);
        let index = self.next.checked_sub(1 + u64::from(back))?;
        if usize::from(back) >= self.slots.len() {
            return None;
        }
        let place = self.place(index);
        let slot = self.slots[place];
        let news = match slot.fate {
            Fate::Empty | Fate::Received => false,
            Fate::Lost => received,
            Fate::Pending => true,
        };
        if !news {
            return None;
        }
        self.slots[place].fate = if received { Fate::Received } else { Fate::Lost };
        let (at, bytes) = (self.extend(slot.at), u32::from(slot.bytes));
        Some(SentPacket { index, at, bytes, probe: slot.probe, before: slot.fate })
    }

    /// Doubles the ring when packets fell out of it too early. Not called per packet.
    pub(super) fn grow_if_needed(&mut self) {
        if !std::mem::take(&mut self.must_grow) || self.slots.len() == MAX_CAPACITY {
            return;
        }
        let doubled = vec![EMPTY; self.slots.len() * 2].into();
        let old = std::mem::replace(&mut self.slots, doubled);
        for index in self.next.saturating_sub(old.len() as u64)..self.next {
            let place = self.place(index);
            self.slots[place] = old[index as usize & (old.len() - 1)];
        }
    }

    fn place(&self, index: u64) -> usize {
        index as usize & (self.slots.len() - 1)
    }

    fn extend(&self, at: u32) -> i64 {
        self.last_at - i64::from((self.last_at as u32).wrapping_sub(at))
    }
}

#[cfg(test)]
mod tests;
