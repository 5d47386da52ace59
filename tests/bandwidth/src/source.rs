//! What a sender has to send.

use crate::random::Random;

/// Layers of a stream of the SFU source, in bit/s; the first: paused.
pub const LAYERS: [f64; 4] = [0.0, 150e3, 500e3, 1500e3];
const STREAMS: usize = 3;
const FRAME_US: i64 = 33_333;
const FRAME_JITTER_US: f64 = 8_000.0;
const PACKET: usize = 1200;
/// The SFU source's sound: 40 kbit/s.
const SOUND: usize = 100;
const SOUND_US: i64 = 20_000;
/// What the continuous source would send if it could.
const CONTINUOUS_WANTED: f64 = 25e6;
/// The SFU source's key frames, when a stream goes up a layer, in usual frames.
const KEY_FRAME: f64 = 3.0;

/// A kind of source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An encoder that follows the target.
    Continuous,
    /// Sound, and three streams with three layers, chosen so that they fit.
    Sfu,
}

/// Makes frames.
#[derive(Debug)]
pub struct Source {
    kind: Kind,
    nominal_at: i64,
    next_at: i64,
    sound_at: i64,
    frame_us: i64,
    layers: [usize; STREAMS],
}

impl Source {
    /// A source that starts at `from`; the `number`th has frames of a slightly different length.
    pub fn new(kind: Kind, from: i64, number: i64) -> Self {
        let frame_us = FRAME_US + number * 97;
        Self { kind, nominal_at: from, next_at: from, sound_at: from, frame_us, layers: [0; STREAMS] }
    }

    /// What it would send if it could.
    pub fn wanted(&self) -> f64 {
        match self.kind {
            Kind::Continuous => CONTINUOUS_WANTED,
            Kind::Sfu => STREAMS as f64 * LAYERS[3],
        }
    }

    /// The least that it can send of pictures, with its sound.
    pub fn least(&self) -> f64 {
        match self.kind {
            Kind::Continuous => 0.0,
            Kind::Sfu => LAYERS[1] + SOUND as f64 * 8e6 / SOUND_US as f64,
        }
    }

    /// The packets of the frames due at `now`, for `target` (continuous) and `budget` (layers).
    pub fn packets(&mut self, now: i64, target: f64, budget: f64, random: &mut Random) -> Vec<usize> {
        let mut packets = Vec::new();
        if self.kind == Kind::Sfu && now >= self.sound_at {
            self.sound_at += SOUND_US;
            packets.push(SOUND);
        }
        if now < self.next_at {
            return packets;
        }
        // Cameras and encoders don't keep time exactly, and no two senders stay in step.
        self.nominal_at += self.frame_us;
        self.next_at = self.nominal_at + (random.unit() * FRAME_JITTER_US) as i64;
        match self.kind {
            Kind::Continuous => split(target.min(CONTINUOUS_WANTED) * self.frame_us as f64 / 8e6, &mut packets),
            Kind::Sfu => {
                let layers = allocate(budget);
                for (old, new) in self.layers.iter().zip(layers) {
                    if new == 0 {
                        continue;
                    }
                    let noise = 0.8 + 0.4 * random.unit();
                    let size = if new > *old { KEY_FRAME } else { noise };
                    split((LAYERS[new] / 30.0 / 8.0 * size).max(60.0), &mut packets);
                }
                self.layers = layers;
            }
        }
        packets
    }
}

fn split(bytes: f64, packets: &mut Vec<usize>) {
    let bytes = (bytes as usize).max(60);
    let count = bytes.div_ceil(PACKET);
    packets.extend((0..count).map(|_| bytes / count + 40));
}

/// The layers that fit into `budget`: the lowest for everybody first.
pub fn allocate(budget: f64) -> [usize; STREAMS] {
    let mut layers = [0; STREAMS];
    let mut used = 0.0;
    for level in 1..LAYERS.len() {
        for layer in &mut layers {
            let more = LAYERS[level] - LAYERS[level - 1];
            if *layer == level - 1 && used + more <= budget {
                (*layer, used) = (level, used + more);
            }
        }
    }
    layers
}

/// What the layers that fit into `budget` take.
pub fn allocated(budget: f64) -> f64 {
    allocate(budget).iter().map(|layer| LAYERS[*layer]).sum()
}
