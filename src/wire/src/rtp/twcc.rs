//! The receiver's side of transport-wide congestion control (draft-holmer-rmcat-transport-wide-cc-extensions-01): when
//! each packet of a transport came, told to the sender, whose bandwidth estimation it feeds.
//!
//! ```text
//! |      base sequence number     |      packet status count      |
//! |                 reference time (64 ms)        | fb pkt. count |
//! |          packet chunk         |         packet chunk ...      |
//! |  recv delta   |  recv delta (250 us; one or two bytes) ...    |
//! ```

use std::time::Instant;

use super::rtcp::Writer;
use super::sequence::Extender;
use crate::id::Ssrc;

/// How many sequence numbers back arrivals are remembered. A power of two.
const WINDOW: u64 = 1024;
/// Most packets told in one feedback: it stays below 1,200 bytes.
const MAX_STATUSES: usize = 500;
/// Bytes of a feedback packet before the chunks: header, SSRCs and the fixed fields.
const FIXED_LEN: usize = 20;
/// The unit of arrival times, in microseconds.
const TICK_US: u128 = 250;
/// Ticks in a unit of the reference time.
const TICKS_PER_REFERENCE: i64 = 256;
/// In the window: not received.
const NEVER: i64 = i64::MIN;

/// Remembers arrivals and writes them into feedback packets.
#[derive(Clone, Debug)]
pub struct ArrivalRecorder {
    sequences: Extender,
    /// Arrival times by index modulo the window, in ticks since `epoch`.
    arrivals: Box<[i64; WINDOW as usize]>,
    epoch: Option<Instant>,
    /// The first index that the next feedback tells.
    base: u64,
    feedback_count: u8,
    /// An arrival at or after `base` has not been told.
    pending: bool,
}

impl Default for ArrivalRecorder {
    fn default() -> Self {
        Self::new()
    }
}

impl ArrivalRecorder {
    /// Reads what the next arrival touches: see `read_ahead` in moonring-core.
    pub fn glance(&self) -> u64 {
        self.base ^ self.arrivals[(self.base % WINDOW) as usize] as u64
    }

    /// Nothing recorded. All the memory it will need is allocated here.
    pub fn new() -> Self {
        Self {
            sequences: Extender::default(),
            arrivals: Box::new([NEVER; WINDOW as usize]),
            epoch: None,
            base: 0,
            feedback_count: 0,
            pending: false,
        }
    }

    /// Records that the packet with the transport-wide number `sequence` came at `arrival`. The first arrival of a
    /// number counts.
    pub fn record(&mut self, sequence: u16, arrival: Instant) {
        let epoch = *self.epoch.get_or_insert(arrival);
        let ticks = (arrival.saturating_duration_since(epoch).as_micros() / TICK_US) as i64;
        let previous = self.sequences.highest();
        let index = self.sequences.extend(sequence);
        match previous {
            None => self.base = index,
            Some(previous) if index > previous => {
                let first_new = (previous + 1).max((index + 1).saturating_sub(WINDOW));
                (first_new..index).for_each(|gap| self.arrivals[slot(gap)] = NEVER);
                self.arrivals[slot(index)] = NEVER;
                self.leave_behind(index);
            }
            Some(previous) if previous - index >= WINDOW => return,
            Some(_) if self.arrivals[slot(index)] != NEVER => return,
            // Told as lost already: the next feedback starts with it again, as libwebrtc's does.
            Some(_) => self.base = self.base.min(index),
        }
        self.arrivals[slot(index)] = ticks;
        self.pending = true;
    }

    /// Gives up what falls out of the window when `highest` comes in.
    fn leave_behind(&mut self, highest: u64) {
        let oldest = (highest + 1).saturating_sub(WINDOW);
        if self.base < oldest {
            let first = (oldest..highest).find(|index| self.arrivals[slot(*index)] != NEVER);
            self.base = first.unwrap_or(highest);
        }
    }

    /// True when there is something to tell.
    pub fn is_pending(&self) -> bool {
        self.pending
    }

    /// Writes one feedback packet; false when there is nothing (more) to tell or no room. Call until false: one packet
    /// tells of at most 500.
    pub fn build(&mut self, sender: Ssrc, media: Ssrc, out: &mut Writer<'_>) -> bool {
        // A packet takes two bytes of delta at most, and a chunk of two bytes tells of at least seven.
        let most = (out.room().saturating_sub(FIXED_LEN + 8) * 7 / 16).min(MAX_STATUSES);
        let Some(highest) = self.sequences.highest().filter(|_| self.pending) else { return false };
        let Some(first) = self.first_told(highest, most) else { return false };
        // The reference is not above the first arrival, so that the first delta is a small one.
        let reference = self.arrivals[slot(first)].div_euclid(TICKS_PER_REFERENCE);
        let mut statuses = Statuses::new();
        let mut last = reference * TICKS_PER_REFERENCE;
        for index in self.base..=highest {
            let arrival = self.arrivals[slot(index)];
            let delta = if arrival == NEVER { None } else { Some(arrival - last) };
            // A delta of more than 8 s starts a feedback with another reference.
            if statuses.len == most || !statuses.push(delta) {
                break;
            }
            last = if arrival == NEVER { last } else { arrival };
        }
        let next = self.base + statuses.len as u64;
        let information = (8 + statuses.encoded_len()).next_multiple_of(4);
        let head = [self.base as u16, statuses.len as u16];
        let count = self.feedback_count;
        let written = out.transport_feedback(sender, media, information, |w| {
            head.iter().for_each(|value| w.u16(*value));
            let [.., a, b, c] = (reference as u32).to_be_bytes();
            w.bytes(&[a, b, c, count]);
            statuses.write(w);
            // Zeros up to the word, without the padding bit: that is for the last packet of a compound only.
            w.bytes(&[0; 4][..information - 8 - statuses.encoded_len()]);
        });
        if written.is_ok() {
            self.feedback_count = count.wrapping_add(1);
            self.base = next;
            self.pending = next <= highest;
        }
        written.is_ok()
    }

    /// The first received index of the next feedback. Moves the base up to it when it would not be among the first
    /// `most`: nothing but losses tells nobody anything.
    fn first_told(&mut self, highest: u64, most: usize) -> Option<u64> {
        let first = (self.base..=highest).find(|index| self.arrivals[slot(*index)] != NEVER)?;
        if most == 0 {
            return None;
        }
        if first - self.base >= most as u64 {
            self.base = first;
        }
        Some(first)
    }
}

fn slot(index: u64) -> usize {
    (index % WINDOW) as usize
}

/// The packets of one feedback: symbols and deltas.
struct Statuses {
    symbols: [Symbol; MAX_STATUSES],
    deltas: [i16; MAX_STATUSES],
    len: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Symbol {
    NotReceived = 0,
    SmallDelta = 1,
    LargeDelta = 2,
}

/// A packet chunk: its 16 bits and how many symbols it stands for (draft section 3.1.2 to 3.1.4).
struct Chunk {
    bits: u16,
    symbols: usize,
}

impl Statuses {
    fn new() -> Self {
        Self { symbols: [Symbol::NotReceived; MAX_STATUSES], deltas: [0; MAX_STATUSES], len: 0 }
    }

    /// Adds a packet; false when its delta does not fit.
    fn push(&mut self, delta: Option<i64>) -> bool {
        let (symbol, delta) = match delta {
            None => (Symbol::NotReceived, 0),
            Some(delta) => match i16::try_from(delta) {
                Ok(small @ 0..=255) => (Symbol::SmallDelta, small),
                Ok(large) => (Symbol::LargeDelta, large),
                Err(_) => return false,
            },
        };
        self.symbols[self.len] = symbol;
        self.deltas[self.len] = delta;
        self.len += 1;
        true
    }

    fn encoded_len(&self) -> usize {
        let deltas: usize = self.symbols[..self.len].iter().map(|symbol| *symbol as usize).sum();
        self.chunks().count() * 2 + deltas
    }

    fn write(&self, out: &mut Writer<'_>) {
        self.chunks().for_each(|chunk| out.u16(chunk.bits));
        for (symbol, delta) in self.symbols.iter().zip(&self.deltas).take(self.len) {
            match symbol {
                Symbol::NotReceived => {}
                Symbol::SmallDelta => out.bytes(&[*delta as u8]),
                Symbol::LargeDelta => out.u16(*delta as u16),
            }
        }
    }

    fn chunks(&self) -> impl Iterator<Item = Chunk> {
        let mut rest = &self.symbols[..self.len];
        std::iter::from_fn(move || {
            let chunk = next_chunk(rest)?;
            rest = &rest[chunk.symbols..];
            Some(chunk)
        })
    }
}

/// The chunk that tells most of the symbols in front: a run, 14 symbols of one bit, or 7 of two bits.
fn next_chunk(symbols: &[Symbol]) -> Option<Chunk> {
    let first = *symbols.first()?;
    let run = symbols.iter().take_while(|symbol| **symbol == first).count();
    let narrow = symbols.iter().take(14).all(|symbol| *symbol != Symbol::LargeDelta);
    if run == symbols.len() || run >= if narrow { 14 } else { 7 } {
        return Some(Chunk { bits: (first as u16) << 13 | run as u16, symbols: run });
    }
    let (kind, count, width) = if narrow { (0b10, 14, 1) } else { (0b11, 7, 2) };
    let count = count.min(symbols.len());
    let vector = symbols[..count].iter().enumerate();
    let bits = vector.fold(kind << 14, |bits, (n, symbol)| bits | (*symbol as u16) << (14 - width * (n + 1)));
    Some(Chunk { bits, symbols: count })
}

#[cfg(test)]
mod tests;
