//! Opus as browsers send it: a packet every 20 ms, with its level.

use std::time::{Duration, Instant};

use moonring_wire::rtp::extension::AudioLevel;
use rand::Rng;
use rand::rngs::SmallRng;

use super::Packet;

/// Ticks of an Opus time stamp in one packet's time.
const TICKS_PER_MS: u32 = 48;
/// CELT, full band, 20 ms, stereo, one frame (RFC 6716 section 3.1).
const TOC: u8 = 0xFC;

/// What a microphone's sound is like.
#[derive(Clone, Debug, PartialEq)]
pub struct AudioSettings {
    /// Payload of a packet on average.
    pub payload_bytes: usize,
    /// Packets differ in size by up to this share of the average, as Opus's do.
    pub variation: f64,
    /// Time in a packet.
    pub packet_ms: u32,
    /// How long somebody speaks or is silent, about.
    pub turn: Duration,
}

impl Default for AudioSettings {
    fn default() -> Self {
        Self { payload_bytes: 160, variation: 0.5, packet_ms: 20, turn: Duration::from_secs(4) }
    }
}

/// Makes one packet after another.
#[derive(Debug)]
pub struct AudioSource {
    settings: AudioSettings,
    rng: SmallRng,
    start: Instant,
    packets: u64,
    first_timestamp: u32,
    speaks: bool,
}

impl AudioSource {
    /// Begins at `start`.
    pub fn new(settings: AudioSettings, start: Instant, mut rng: SmallRng) -> Self {
        let (first_timestamp, speaks) = (rng.random(), rng.random_bool(0.2));
        Self { settings, rng, start, packets: 0, first_timestamp, speaks }
    }

    /// When the next packet is due.
    pub fn next_at(&self) -> Instant {
        self.start + Duration::from_millis(self.packets * u64::from(self.settings.packet_ms))
    }

    /// Makes the packet that is due.
    pub fn packet(&mut self) -> Packet {
        let turn = self.settings.turn.as_secs_f64().max(0.1) * 1_000.0 / f64::from(self.settings.packet_ms.max(1));
        let (was, chance) = (self.speaks, if self.speaks { 1.0 / turn } else { 0.25 / turn });
        self.speaks ^= self.rng.random_bool(chance.clamp(0.0, 1.0));
        let ticks = (self.packets as u32).wrapping_mul(self.settings.packet_ms * TICKS_PER_MS);
        // RFC 7587 section 4.2: the marker bit starts a talkspurt.
        let marker = self.speaks && !was;
        let mut packet = Packet::new(&[TOC], self.payload_bytes(), self.first_timestamp.wrapping_add(ticks), marker);
        let level = if self.speaks { self.rng.random_range(15..45) } else { self.rng.random_range(70..=127) };
        packet.level = Some(AudioLevel { level, voice: self.speaks });
        self.packets += 1;
        packet
    }

    fn payload_bytes(&mut self) -> usize {
        let spread = (self.settings.payload_bytes as f64 * self.settings.variation) as usize;
        let least = self.settings.payload_bytes.saturating_sub(spread).max(1);
        self.rng.random_range(least..=self.settings.payload_bytes + spread)
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    #[test]
    fn fifty_packets_a_second_of_sound_and_silence_in_turns() {
        let start = Instant::now();
        let mut source = AudioSource::new(AudioSettings::default(), start, SmallRng::seed_from_u64(2));
        let mut packets = Vec::new();
        while source.next_at() < start + Duration::from_secs(600) {
            packets.push(source.packet());
        }
        assert_eq!(packets.len(), 600 * 50);
        let sizes = packets.iter().map(|p| p.payload_len());
        assert_eq!((sizes.clone().min(), sizes.clone().max()), (Some(80), Some(240)));
        assert!((159..=161).contains(&(sizes.sum::<usize>() / packets.len())));
        assert!(packets.windows(2).all(|p| p[1].timestamp.wrapping_sub(p[0].timestamp) == 960));
        let voiced = packets.iter().filter(|p| p.level.unwrap().voice).count() as f64 / packets.len() as f64;
        assert!((0.05..0.5).contains(&voiced), "{voiced}");
    }
}
