//! What real codecs hand to RTP: video frames in bursts with key frames, and sound. The payload carries a time stamp
//! behind the codec's own header, the rest is filler.

mod audio;
mod video;

use std::time::{Duration, Instant};

use moonring_wire::rtp::extension::AudioLevel;

pub use audio::{AudioSettings, AudioSource};
pub use video::{VideoSettings, VideoSource};

/// Bytes of a payload that are not filler: the codec's header and the stamp.
pub const MAX_HEAD: usize = 45;
/// Marks a stamp.
const MAGIC: [u8; 4] = *b"mR\xC7\x9A";
const STAMP_LEN: usize = 21;
/// What payloads are filled up with.
const FILLER: u8 = 0xA5;

/// Turns [`Instant`]s into nanoseconds, so that one process can read another's stamps.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    base: Instant,
    base_ns: u64,
}

impl Clock {
    /// `base` is `base_ns` nanoseconds (of CLOCK_MONOTONIC, or 0 on virtual time).
    pub fn new(base: Instant, base_ns: u64) -> Self {
        Self { base, base_ns }
    }

    /// The nanoseconds of `at`.
    pub fn nanos(&self, at: Instant) -> u64 {
        match at.checked_duration_since(self.base) {
            Some(later) => self.base_ns + later.as_nanos() as u64,
            None => self.base_ns.saturating_sub(self.base.saturating_duration_since(at).as_nanos() as u64),
        }
    }

    /// Time since 0 ns.
    pub fn since_start(&self, at: Instant) -> Duration {
        Duration::from_nanos(self.nanos(at))
    }
}

/// What a payload says of its sending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// When it was first sent, in nanoseconds of the sender's [`Clock`].
    pub sent_ns: u64,
    /// Counts the packets of the publisher's track, of each layer for itself, from 0: says what the server left out
    /// without a gap.
    pub counter: u64,
    /// The simulcast layer, from 0, the lowest.
    pub layer: u8,
}

impl Stamp {
    fn write(self, out: &mut [u8; STAMP_LEN]) {
        out[..4].copy_from_slice(&MAGIC);
        out[4..12].copy_from_slice(&self.sent_ns.to_be_bytes());
        out[12..20].copy_from_slice(&self.counter.to_be_bytes());
        out[20] = self.layer;
    }

    /// Finds a stamp near the start of a payload, behind whatever header the codec has.
    pub fn find(payload: &[u8]) -> Option<Self> {
        let head = &payload[..payload.len().min(MAX_HEAD)];
        let at = head.windows(MAGIC.len()).position(|window| window == MAGIC)?;
        let sent_ns = head.get(at + 4..)?.first_chunk().map(|b| u64::from_be_bytes(*b))?;
        let counter = head.get(at + 12..)?.first_chunk().map(|b| u64::from_be_bytes(*b))?;
        Some(Self { sent_ns, counter, layer: *head.get(at + 20)? })
    }
}

/// A packet to send: the payload's head, then filler up to its length. Small, so that thousands can be kept for
/// resending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet {
    /// The RTP time stamp.
    pub timestamp: u32,
    /// The marker bit.
    pub marker: bool,
    /// How loud it is, of sound.
    pub level: Option<AudioLevel>,
    /// The simulcast layer that it is sent in; 0 without simulcast.
    pub layer: u8,
    head: [u8; MAX_HEAD],
    head_len: u8,
    stamp_at: u8,
    len: u16,
}

impl Packet {
    /// A payload of `len` bytes that starts with `codec_header` (at most 24 bytes) and then has room for the stamp,
    /// which is written when it is sent.
    pub fn new(codec_header: &[u8], len: usize, timestamp: u32, marker: bool) -> Self {
        let start = codec_header.len();
        let mut head = [FILLER; MAX_HEAD];
        head[..start].copy_from_slice(codec_header);
        let head_len = start + STAMP_LEN;
        let len = len.max(head_len);
        Self {
            timestamp,
            marker,
            level: None,
            layer: 0,
            head,
            head_len: head_len as u8,
            stamp_at: start as u8,
            len: len as u16,
        }
    }

    /// A payload of at most [`MAX_HEAD`] bytes as it is, without stamp.
    pub fn plain(payload: &[u8], timestamp: u32, marker: bool) -> Self {
        let len = payload.len().min(MAX_HEAD);
        let mut head = [FILLER; MAX_HEAD];
        head[..len].copy_from_slice(&payload[..len]);
        Self { timestamp, marker, level: None, layer: 0, head, head_len: len as u8, stamp_at: u8::MAX, len: len as u16 }
    }

    /// Bytes of the payload.
    pub fn payload_len(&self) -> usize {
        usize::from(self.len)
    }

    /// Puts the stamp in.
    pub fn stamp(&mut self, stamp: Stamp) {
        if let Some(place) = self.head.get_mut(usize::from(self.stamp_at)..).and_then(|rest| rest.first_chunk_mut()) {
            stamp.write(place);
        }
    }

    /// Writes the payload to the start of `out`, which has room for it.
    pub fn write(&self, out: &mut [u8]) {
        let head_len = usize::from(self.head_len);
        out[..head_len].copy_from_slice(&self.head[..head_len]);
        out[head_len..self.payload_len()].fill(FILLER);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_is_found_behind_any_header() {
        let stamp = Stamp { sent_ns: 0x0102_0304_0506_0708, counter: 99, layer: 2 };
        for header in [&[][..], &[0x78], &[0x90, 0x80, 0x81, 0x02, 0, 0, 0, 0x9d, 1, 0x2a, 1, 2, 3, 4]] {
            let mut packet = Packet::new(header, 160, 0, false);
            packet.stamp(stamp);
            let mut payload = [0; 160];
            packet.write(&mut payload);
            assert_eq!(&payload[..header.len()], header);
            assert_eq!(Stamp::find(&payload), Some(stamp));
            assert_eq!(Stamp::find(&payload[..header.len() + STAMP_LEN - 1]), None);
        }
        assert_eq!(Stamp::find(&[FILLER; 100]), None);
    }

    #[test]
    fn a_plain_packet_is_its_bytes() {
        let mut packet = Packet::plain(b"hello", 5, true);
        packet.stamp(Stamp { sent_ns: 1, counter: 2, layer: 0 });
        let mut out = [0; 5];
        packet.write(&mut out);
        assert_eq!((&out, packet.payload_len()), (b"hello", 5));
    }

    #[test]
    fn a_clock_counts_both_ways_from_its_base() {
        let base = Instant::now() + Duration::from_secs(10);
        let clock = Clock::new(base, 5_000);
        assert_eq!(clock.nanos(base + Duration::from_nanos(7)), 5_007);
        assert_eq!(clock.nanos(base - Duration::from_nanos(7)), 4_993);
        assert_eq!(clock.nanos(base - Duration::from_secs(1)), 0);
    }
}
