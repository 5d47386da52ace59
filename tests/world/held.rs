//! A publisher of a single stream is held to what the best of its receivers' paths carries, and let go when that is enough.

use std::sync::Arc;
use std::time::Duration;

use moonring_core::command::Event;
use moonring_loadtest::peer::PeerConfig;
use moonring_wire::media::CodecName::Vp8;
use moonring_wire::negotiate::Direction;
use moonring_wire::rtp::codec::vp8;

use crate::sim::World;
use crate::sim::flows::{sends, wants};
use crate::sim::raw::{Fields, MID_ID, section};

const FPS: u64 = 15;
/// What the encoder sends of itself, in bit/s.
const FULL: f64 = 1_000_000.0;
const KEY_FRAME: f64 = 3.0;
const PACKET: usize = 1_000;

/// Alice encodes VP8 with or without three temporal layers, at what she is told; each of the others is behind a link of its own.
struct Scene {
    world: World,
    alice: usize,
    others: Vec<usize>,
    temporal_layers: bool,
    told_bps: f64,
    index: u64,
    picture: u16,
    tl0: u8,
}

impl Scene {
    fn new(seed: u64, temporal_layers: bool, links_bps: &[Option<u64>]) -> Self {
        let mut world = World::new(seed);
        world.config = Arc::new(PeerConfig { transport_feedback: true, ..(*world.config).clone() });
        let alice = world.join_raw("alice");
        world.raw(alice).sections = vec![section("0", Vp8, Direction::SendOnly)];
        let track = world.offer(alice, vec![sends("0")], vec![])[0].track.clone().unwrap();
        world.run_ms(300);
        let mut scene = Self {
            world,
            alice,
            others: Vec::new(),
            temporal_layers,
            told_bps: f64::INFINITY,
            index: 100,
            picture: 1,
            tl0: 0,
        };
        scene.run(2);
        for (n, bps) in links_bps.iter().enumerate() {
            let who = scene.world.join(&format!("s{n}"));
            let down = &mut scene.world.members[who].down;
            (down.rate_bps, down.burst, down.queue) = (*bps, 8_000, Duration::from_millis(400));
            let mid = scene.world.peer(who).receive(Vp8);
            scene.world.offer(who, vec![], vec![wants(&mid, Some(&track.id))]);
            scene.others.push(who);
        }
        scene
    }

    fn picture(&mut self) {
        let reports = std::mem::take(&mut self.world.raw(self.alice).reports);
        for (_, words) in &reports {
            if let Some((_, rest)) = words.split_once("Remb { bitrate_bps: ") {
                self.told_bps = rest.split_once(',').unwrap().0.parse().unwrap();
            }
        }
        let is_key = self.picture == 1 || reports.iter().any(|(_, words)| words.starts_with("Pli"));
        if is_key {
            self.picture = self.picture.next_multiple_of(4);
        }
        let place = usize::from(self.picture % 4);
        let temporal = if is_key || !self.temporal_layers { 0 } else { [0, 2, 1, 2][place] };
        // Of four pictures Chromium gives 40 % of the bits to the first, 20 % to each of the others.
        let share = if self.temporal_layers { [1.6, 0.8, 0.8, 0.8][place] } else { 1.0 };
        let share = if is_key { KEY_FRAME } else { share };
        self.tl0 = self.tl0.wrapping_add(u8::from(temporal == 0));
        let [high, low] = ((self.picture % 0x8000) | 0x8000).to_be_bytes();
        let bytes = self.told_bps.min(FULL) / 8.0 / FPS as f64 * share;
        let packets = (bytes as usize).div_ceil(PACKET).max(1);
        for packet in 0..packets {
            let start = if packet == 0 { 0x90 } else { 0x80 };
            let mut payload = vec![start, 0xE0, high, low, self.tl0, temporal << 6 | 0x20, u8::from(!is_key)];
            payload.resize(bytes as usize / packets, 0);
            let timestamp = (self.world.since_start().as_micros() * 90 / 1_000) as u32;
            let elements: [(u8, &[u8]); 1] = [(MID_ID, b"0")];
            let marker = packet + 1 == packets;
            let fields = Fields { ssrc: 77, pt: 96, index: self.index, timestamp, marker, elements: &elements };
            let packet = self.world.raw(self.alice).seal(&fields, &payload);
            self.world.raw(self.alice).out.push(packet);
            self.index += 1;
        }
        self.picture = (self.picture + 1) % 0x8000;
    }

    fn run(&mut self, seconds: u64) {
        for _ in 0..seconds * FPS {
            self.picture();
            self.world.run(Duration::from_micros(1_000_000 / FPS));
        }
    }

    /// Pictures a second, in the last `seconds`.
    fn fps(&self, who: usize, seconds: u64) -> f64 {
        let since = self.world.now - Duration::from_secs(seconds);
        let got = self.world.members[self.others[who]].got.iter();
        let ends = got.filter(|got| got.at >= since && got.marker && got.is_of_picture());
        ends.count() as f64 / seconds as f64
    }

    /// Longest time between two pictures, in the last `seconds`.
    fn longest_gap(&self, who: usize, seconds: u64) -> u128 {
        let since = self.world.now - Duration::from_secs(seconds);
        let got = self.world.members[self.others[who]].got.iter();
        let ends: Vec<_> = got.filter(|g| g.at >= since && g.marker && g.is_of_picture()).map(|g| g.at).collect();
        ends.windows(2).map(|pair| (pair[1] - pair[0]).as_millis()).max().unwrap_or(u128::MAX)
    }

    fn has_upper_temporal_layers(&self, who: usize) -> bool {
        let since = self.world.now - Duration::from_secs(1);
        let got = self.world.members[self.others[who]].got.iter().filter(|got| got.at >= since);
        got.filter_map(|got| vp8::Descriptor::parse(&got.head)).any(|d| d.temporal == Some(2))
    }
}

#[test]
fn a_single_stream_that_fits_nobody_is_made_smaller_by_its_publisher_and_not_slower() {
    for (seed, temporal_layers) in [(400, true), (401, false), (6, false)] {
        let mut scene = Scene::new(seed, temporal_layers, &[Some(600_000)]);
        scene.run(10);
        let mut told = Vec::new();
        for _ in 0..20 {
            scene.run(1);
            told.push((scene.told_bps / 1e3) as u64);
        }
        // From another shard the publisher may hear of it a second later.
        let is_elsewhere = scene.world.members[scene.others[0]].place > 0;
        let fps = if is_elsewhere { 13.0 } else { 14.5 };
        assert!(scene.fps(0, 20) > fps, "{temporal_layers}: {} a second, told {told:?}", scene.fps(0, 20));
        let gap = scene.longest_gap(0, 20);
        assert!(gap < 250, "{temporal_layers}: {gap} ms, told {told:?}");
        let others = told.iter().filter(|kbps| !(350..670).contains(*kbps)).count();
        // Another shard does not know that the publisher is held, and offers all at once that the path seems to have left: of 77
        // worlds of other seeds two were told more than it carries for two seconds of twenty, the others for fewer.
        assert!(others <= if is_elsewhere { 2 } else { 0 }, "{temporal_layers}: {told:?}");
        let (passed, dropped) = scene.world.members[scene.others[0]].down.passed;
        assert!(dropped * if is_elsewhere { 12 } else { 20 } <= passed, "{dropped} of {passed}");
        scene.world.members[scene.others[0]].down.rate_bps = None;
        scene.run(15);
        assert!(scene.told_bps > FULL, "{temporal_layers}: {}", scene.told_bps);
        assert!(scene.fps(0, 3) > 14.0);
    }
}

#[test]
fn a_publisher_is_held_to_the_best_of_the_paths_and_the_others_get_fewer_pictures() {
    let mut scene = Scene::new(402, true, &[Some(300_000), None]);
    scene.run(15);
    assert!(scene.told_bps > FULL, "{}", scene.told_bps);
    assert!(!scene.has_upper_temporal_layers(0) && scene.has_upper_temporal_layers(1));
    assert!(scene.fps(1, 5) > 14.5, "{}", scene.fps(1, 5));
    let paused = |event: &Event| matches!(event, Event::TrackPaused { .. });
    assert!(!scene.world.events.iter().skip(50).any(paused) || scene.fps(0, 5) < 8.0);
}
