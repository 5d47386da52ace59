//! A publisher of three layers, made by hand.

use std::time::Duration;

use moonring_core::command::PublishIntent;
use moonring_wire::id::TrackId;
use moonring_wire::media::Source;

use crate::sim::World;
use crate::sim::flows::sends;
use crate::sim::raw::{Fields, MID_ID, RID_ID, simulcast};

const RIDS: [&str; 3] = ["q", "h", "f"];
/// Packets of a frame of each layer, and bytes of each.
pub(crate) type Frames = [(usize, usize); 3];
/// About 150, 500 and 1,500 kbit/s at 30 frames a second.
pub(crate) const FRAMES: Frames = [(1, 620), (2, 1_040), (6, 1_040)];
/// About 100, 350 and 1,400 kbit/s at 15 frames a second, as Chromium makes of 960x540.
pub(crate) const CHROMIUM: Frames = [(1, 800), (3, 960), (11, 1_040)];
/// Packets of a key frame, relative to others.
const KEY_FRAME: usize = 4;
/// The same of a picture that is hard to compress.
const HARD_KEY_FRAME: usize = 18;
/// Where in the payload the layer's number stands, and whether it is a packet of a key frame.
pub(crate) const MARK: usize = 18;

/// A publisher of three layers.
pub(crate) struct Encoder {
    pub(crate) who: usize,
    layers: [Layer; 3],
    pub(crate) frames: Frames,
    pub(crate) fps: usize,
    /// As Chromium does with a picture that is hard to compress: whichever layer is asked for, all have a key frame, a large one.
    pub(crate) is_hard: bool,
    /// What stands in its payloads behind the layer's number.
    pub(crate) tag: u8,
    /// How often key frames were asked for.
    pub(crate) asked: usize,
}

#[derive(Clone, Copy)]
struct Layer {
    ssrc: u32,
    index: u64,
    picture: u16,
    frames: u32,
}

impl Encoder {
    fn new(who: usize, frames: Frames, fps: usize) -> Self {
        let layer = |n: u32| Layer { ssrc: 700 + n, index: 1_000 * u64::from(n), picture: 100 * n as u16, frames: 0 };
        Self { who, layers: [layer(0), layer(1), layer(2)], frames, fps, is_hard: false, tag: 0, asked: 0 }
    }

    pub(crate) fn frame(&mut self, world: &mut World) {
        let timestamp = (world.since_start().as_micros() * 90 / 1_000) as u32;
        let reports = std::mem::take(&mut world.raw(self.who).reports);
        let is_any_asked = reports.iter().any(|(_, words)| words.starts_with("Pli "));
        self.asked += usize::from(is_any_asked);
        let key_frame = if self.is_hard { HARD_KEY_FRAME } else { KEY_FRAME };
        for (n, layer) in self.layers.iter_mut().enumerate() {
            let asked = reports.iter().any(|(_, words)| *words == format!("Pli {}", layer.ssrc));
            let asked = asked || (self.is_hard && is_any_asked);
            let is_key = layer.frames == 0 || asked;
            let (packets, bytes) = self.frames[n];
            let packets = if is_key { packets * key_frame } else { packets };
            for packet in 0..packets {
                let [high, low] = layer.picture.to_be_bytes();
                let start = if packet == 0 { 0x10 } else { 0 };
                let mut payload = vec![0x80 | start, 0xE0, high | 0x80, low, 0, 0x20, u8::from(!is_key), 0, 0];
                payload.extend([0x9D, 0x01, 0x2A, 0x80, 0x02, 0xE0, 0x01]);
                payload.resize(bytes, 0);
                payload[MARK] = n as u8;
                payload[MARK + 1] = self.tag;
                let names: [(u8, &[u8]); 2] = [(MID_ID, b"0"), (RID_ID, RIDS[n].as_bytes())];
                let elements = if layer.frames < 60 { &names[..] } else { &[] };
                let marker = packet + 1 == packets;
                let fields = Fields { ssrc: layer.ssrc, pt: 96, index: layer.index, timestamp, marker, elements };
                let sealed = world.raw(self.who).seal(&fields, &payload);
                world.raw(self.who).out.push(sealed);
                layer.index += 1;
            }
            layer.picture = (layer.picture + 1) % 0x8000;
            layer.frames += 1;
        }
    }

    /// Its next pictures are key frames, as behind a pause.
    pub(crate) fn begin_anew(&mut self) {
        self.layers.iter_mut().for_each(|layer| layer.frames = 0);
    }

    pub(crate) fn run(&mut self, world: &mut World, seconds: usize) {
        (0..seconds * self.fps).for_each(|_| self.picture(world));
    }

    pub(crate) fn picture(&mut self, world: &mut World) {
        self.frame(world);
        world.run(Duration::from_secs(1) / self.fps as u32);
    }
}

/// Joins and publishes three layers.
pub(crate) fn publisher(world: &mut World, name: &str, source: Source, frames: (Frames, usize)) -> (Encoder, TrackId) {
    publisher_with(world, name, PublishIntent { source, ..sends("0") }, frames)
}

/// The same, as its offer says.
pub(crate) fn publisher_with(
    world: &mut World,
    name: &str,
    intent: PublishIntent,
    (frames, fps): (Frames, usize),
) -> (Encoder, TrackId) {
    let who = world.join_raw(name);
    world.raw(who).sections = vec![simulcast("0", &RIDS)];
    let track = world.offer(who, vec![intent], vec![])[0].track.clone().unwrap();
    world.run_ms(300);
    (Encoder::new(who, frames, fps), track.id)
}
