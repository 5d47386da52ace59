//! The packets of one layer, in plaintext, once: what every forward encrypts from, and what resending reads.
//!
//! Payloads lie in a byte ring, so a layer's memory is one allocation of bounded size; the newest packet overwrites
//! the oldest. Received packets are copied here once (however many clients they go to); receive buffers go back to
//! the kernel at once, which coalesced receive buffers of 64 KiB need.

#[cfg(test)]
mod tests;

use std::time::{Duration, Instant};

use moonring_wire::rtp::codec::PayloadInfo;
use moonring_wire::rtp::dependency::Links;
pub use moonring_wire::rtp::extension::KeptExtensions;

/// Bytes of payload memory that a layer starts with.
const FIRST_BYTES: usize = 16 * 1024;
/// Packets that a layer has room for per KiB of payload memory.
const PACKETS_PER_KIB: usize = 2;
/// Packets that may overtake one: so many may come while a lost one is asked for.
const MAX_OVERTAKING: u64 = 256;
/// Most bytes of padding that evening out may add to a packet.
const MAX_PADDING: usize = 8;
/// Longest dependency descriptor kept with a packet: a structure of three by three layers takes about 100 bytes.
pub const MAX_DESCRIPTOR: usize = 200;

/// How much a layer keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HistoryLimits {
    /// Memory grows while packets younger than this would be overwritten.
    pub age: Duration,
    /// Payload bytes at most; rounded up to a power of two.
    pub bytes: usize,
}

/// One packet. Build one with `..Packet::new(arrival)`; [`History::push`] fills in where its bytes are.
#[derive(Clone, Copy, Debug)]
pub struct Packet {
    /// Extended sequence number (48 bit) of the publisher's stream.
    pub index: u64,
    /// The publisher's time stamp.
    pub timestamp: u32,
    /// The marker bit.
    pub marker: bool,
    /// What the codec says of it.
    pub info: PayloadInfo,
    /// What its dependency descriptor says of its frame.
    pub links: Links,
    /// It has packets of the past in it (RFC 2198).
    pub is_red: bool,
    /// Header extensions to pass on.
    pub kept: KeptExtensions,
    /// When it came.
    pub arrival: Instant,
    /// Bytes of padding it leaves with, so that it is as long as its neighbours: see [`History::even_out`].
    pub padding: u8,
    start: u64,
    payload_len: u16,
    descriptor_len: u8,
}

impl Packet {
    /// A packet that came at `arrival`, all else zero.
    pub fn new(arrival: Instant) -> Self {
        Self {
            index: 0,
            timestamp: 0,
            marker: false,
            info: PayloadInfo::default(),
            links: Links::default(),
            is_red: false,
            kept: KeptExtensions::default(),
            arrival,
            padding: 0,
            start: 0,
            payload_len: 0,
            descriptor_len: 0,
        }
    }

    /// Bytes of payload.
    pub fn payload_len(&self) -> usize {
        usize::from(self.payload_len)
    }

    /// Its spatial and its temporal layer; the lowest where nothing is said.
    pub fn layers(&self) -> (usize, usize) {
        (usize::from(self.info.spatial.unwrap_or(0)), usize::from(self.info.temporal.unwrap_or(0)))
    }

    fn stored_len(&self) -> usize {
        self.payload_len() + usize::from(self.descriptor_len)
    }
}

/// The recent packets of one layer. Packets are numbered by arrival from 0; `oldest()..end()` are here.
#[derive(Debug)]
pub struct History {
    limits: HistoryLimits,
    bytes: Vec<u8>,
    /// Bytes ever written; a byte's place is this modulo the memory's length.
    head: u64,
    packets: Vec<Packet>,
    /// `by_index[index % len]` is the arrival number of the packet with that index, if it is still here.
    by_index: Vec<u64>,
    oldest: u64,
    end: u64,
    /// Arrival number of the packet that starts the last key frame.
    key_frame: Option<u64>,
}

impl History {
    /// Empty, without memory until the first packet.
    pub fn new(limits: HistoryLimits) -> Self {
        let limits = HistoryLimits { bytes: limits.bytes.next_power_of_two(), ..limits };
        Self {
            limits,
            bytes: Vec::new(),
            head: 0,
            packets: Vec::new(),
            by_index: Vec::new(),
            oldest: 0,
            end: 0,
            key_frame: None,
        }
    }

    /// Arrival number of the oldest packet here.
    pub fn oldest(&self) -> u64 {
        self.oldest
    }

    /// Arrival number that the next packet gets.
    pub fn end(&self) -> u64 {
        self.end
    }

    /// Arrival number of the first packet of the last key frame, if all since then is here.
    pub fn key_frame(&self) -> Option<u64> {
        self.key_frame.filter(|n| *n >= self.oldest)
    }

    /// Bytes of the payloads of all packets here from arrival `first` on.
    pub fn bytes_since(&self, first: u64) -> usize {
        (first.max(self.oldest)..self.end).filter_map(|n| self.get(n)).map(Packet::payload_len).sum()
    }

    /// Forgets all packets, not the numbers of their arrivals: the publisher's stream begins anew, with other indexes.
    pub fn restart(&mut self) {
        self.oldest = self.end;
        self.key_frame = None;
        self.by_index.fill(u64::MAX);
    }

    /// A key frame may say so more than once, as one of H.264 does whose parameter sets have a packet of their own;
    /// a receiver needs all of it.
    fn is_of_last_key_frame(&self, packet: &Packet) -> bool {
        let last = self.key_frame().and_then(|n| self.get(n));
        last.is_some_and(|last| last.timestamp == packet.timestamp)
    }

    /// From here on nobody begins with the last key frame.
    pub fn forget_key_frame(&mut self) {
        self.key_frame = None;
    }

    /// The packet with arrival number `n`, if it is here.
    pub fn get(&self, n: u64) -> Option<&Packet> {
        (self.oldest..self.end).contains(&n).then(|| &self.packets[(n as usize) & (self.packets.len() - 1)])
    }

    /// The packet with the publisher's index `index`, if it is here.
    pub fn find(&self, index: u64) -> Option<&Packet> {
        self.arrival_of(index).and_then(|n| self.get(n))
    }

    /// The arrival number of the packet with the publisher's index `index`, if it is here.
    pub fn arrival_of(&self, index: u64) -> Option<u64> {
        if self.by_index.is_empty() {
            return None;
        }
        let n = self.by_index[(index as usize) & (self.by_index.len() - 1)];
        self.get(n).filter(|p| p.index == index).map(|_| n)
    }

    /// The arrival number of the first packet here that has overtaken `packet`, which came as number `n`.
    pub fn first_to_overtake(&self, n: u64, packet: &Packet) -> Option<u64> {
        let is_later = |other: &Packet| {
            // Where a publisher's numbers have jumped back, those of the past are larger.
            other.index > packet.index && other.timestamp.wrapping_sub(packet.timestamp) as i32 >= 0
        };
        let from = n.saturating_sub(MAX_OVERTAKING).max(self.oldest);
        (from..n).find(|n| self.get(*n).is_some_and(is_later))
    }

    /// The arrival number of the first packet that is here whose index is `index` or later; the end when there is none.
    pub fn arrival_from(&self, index: u64) -> u64 {
        let is_from = |n: &u64| self.get(*n).is_some_and(|packet| packet.index >= index);
        (self.oldest..self.end).find(is_from).unwrap_or(self.end)
    }

    /// The payload of a packet that is here.
    pub fn payload(&self, packet: &Packet) -> &[u8] {
        let start = self.place(packet) + usize::from(packet.descriptor_len);
        &self.bytes[start..start + packet.payload_len()]
    }

    /// The dependency descriptor of a packet that is here; empty without one.
    pub fn descriptor(&self, packet: &Packet) -> &[u8] {
        let start = self.place(packet);
        &self.bytes[start..start + usize::from(packet.descriptor_len)]
    }

    fn place(&self, packet: &Packet) -> usize {
        (packet.start as usize) & (self.bytes.len() - 1)
    }

    /// Gives the packets from arrival number `first` on the padding that makes neighbours equally long, where that
    /// takes at most 8 bytes. Encoders cut a frame into packets that differ by a byte; equally long ones
    /// leave as one send.
    pub fn even_out(&mut self, first: u64) {
        let mut longest = 0_usize;
        for n in (first.max(self.oldest)..self.end).rev() {
            let mask = self.packets.len() - 1;
            let packet = &mut self.packets[(n as usize) & mask];
            let len = packet.payload_len();
            match longest.checked_sub(len) {
                Some(missing) if missing <= MAX_PADDING && len > 0 => packet.padding = missing as u8,
                _ => longest = len,
            }
        }
    }

    /// Bytes of the longest payload from arrival number `first` on.
    pub fn longest_from(&self, first: u64) -> Option<usize> {
        (first.max(self.oldest)..self.end).filter_map(|n| self.get(n)).map(Packet::payload_len).max()
    }

    /// Gives the packets from arrival number `first` on the padding that makes them `target` bytes long or, where that is
    /// too little or takes more than `most` says for a packet's length, as long as their longest. Returns how long that is,
    /// `target` without packets.
    pub fn pad_to(&mut self, first: u64, target: usize, most: impl Fn(usize) -> usize) -> usize {
        let new = first.max(self.oldest)..self.end;
        let len = |n: u64| self.get(n).map_or(0, Packet::payload_len);
        let Some(longest) = self.longest_from(first) else { return target };
        let fits = |len: usize| target.checked_sub(len).is_some_and(|missing| missing <= most(len));
        let target = if new.clone().map(len).all(fits) { target } else { longest };
        let mask = self.packets.len() - 1;
        for n in new {
            let packet = &mut self.packets[(n as usize) & mask];
            let (len, missing) = (packet.payload_len(), target - packet.payload_len());
            if missing <= most(len) {
                packet.padding = u8::try_from(missing).unwrap_or(0);
            }
        }
        target
    }

    /// Reads what the next packet touches, if it is as long as the last one.
    pub(super) fn glance(&self) -> u64 {
        if self.bytes.is_empty() {
            return 0;
        }
        let (at, mask) = ((self.head as usize) & (self.bytes.len() - 1), self.packets.len() - 1);
        let packet = |n: u64| &self.packets[(n as usize) & mask];
        let (next, last, oldest) = (packet(self.end), packet(self.end.wrapping_sub(1)), packet(self.oldest));
        let mut seen =
            next.start ^ u64::from(next.timestamp) ^ oldest.start ^ u64::from(oldest.arrival == next.arrival);
        seen ^= self.by_index[(last.index as usize + 1) & mask];
        for byte in self.bytes[at..].iter().take(last.stored_len()).step_by(64) {
            seen ^= u64::from(*byte);
        }
        seen
    }

    /// Bytes of memory held.
    pub fn memory(&self) -> usize {
        self.bytes.capacity()
            + self.packets.capacity() * size_of::<Packet>()
            + self.by_index.capacity() * size_of::<u64>()
    }

    /// Keeps a packet that came at `packet.arrival`. A `descriptor` longer than [`MAX_DESCRIPTOR`] is left out; a
    /// payload longer than the whole memory may be is not kept at all.
    pub fn push(&mut self, mut packet: Packet, descriptor: &[u8], payload: &[u8]) {
        let descriptor = if descriptor.len() > MAX_DESCRIPTOR { &[] } else { descriptor };
        packet.descriptor_len = descriptor.len() as u8;
        packet.payload_len = payload.len() as u16;
        let need = packet.stored_len();
        if need > self.limits.bytes || payload.len() > usize::from(u16::MAX) {
            return;
        }
        self.make_room(packet.arrival, need);
        packet.start = self.head;
        let at = (self.head as usize) & (self.bytes.len() - 1);
        self.bytes[at..at + descriptor.len()].copy_from_slice(descriptor);
        self.bytes[at + descriptor.len()..at + need].copy_from_slice(payload);
        self.head += need as u64;
        if packet.info.begins_key_frame() && !self.is_of_last_key_frame(&packet) {
            self.key_frame = Some(self.end);
        }
        let mask = self.packets.len() - 1;
        self.by_index[(packet.index as usize) & mask] = self.end;
        self.packets[(self.end as usize) & mask] = packet;
        self.end += 1;
    }

    /// Makes `need` contiguous bytes at `head` and one place in `packets` free.
    fn make_room(&mut self, now: Instant, need: usize) {
        if self.bytes.len() < need || self.bytes.is_empty() {
            self.grow(now, need.max(FIRST_BYTES));
        }
        loop {
            let capacity = self.bytes.len() as u64;
            let tail = capacity - (self.head & (capacity - 1));
            // A packet does not wrap: a tail that is too short for it stays unused.
            let start = if tail < need as u64 { self.head + tail } else { self.head };
            let overwritten = |packet: &Packet| packet.start + capacity < start + need as u64;
            let crowded = self.end - self.oldest == self.packets.len() as u64;
            let Some(oldest) = self.get(self.oldest).filter(|p| crowded || overwritten(p)) else {
                self.head = start;
                return;
            };
            let young = now.saturating_duration_since(oldest.arrival) < self.limits.age;
            if !(young && self.grow(now, self.bytes.len() * 2)) {
                self.oldest += 1;
            }
        }
    }

    /// Moves to memory of up to `bytes` bytes; false when the limit does not allow more.
    fn grow(&mut self, now: Instant, bytes: usize) -> bool {
        let bytes = bytes.next_power_of_two().min(self.limits.bytes);
        if bytes <= self.bytes.len() {
            return false;
        }
        let places = (bytes / 1024 * PACKETS_PER_KIB).next_power_of_two().max(16);
        let mut grown = Self { bytes: vec![0; bytes], ..Self::new(self.limits) };
        (grown.oldest, grown.end, grown.key_frame) = (self.oldest, self.end, self.key_frame);
        grown.by_index = vec![u64::MAX; places];
        grown.packets = vec![Packet::new(now); places];
        for n in self.oldest..self.end {
            let mut packet = self.packets[(n as usize) & (self.packets.len() - 1)];
            let from = (packet.start as usize) & (self.bytes.len() - 1);
            let (len, to) = (packet.stored_len(), grown.head as usize);
            grown.bytes[to..to + len].copy_from_slice(&self.bytes[from..from + len]);
            packet.start = grown.head;
            grown.head += len as u64;
            grown.packets[(n as usize) & (places - 1)] = packet;
            grown.by_index[(packet.index as usize) & (places - 1)] = n;
        }
        *self = grown;
        true
    }
}
