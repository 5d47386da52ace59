//! Layers inside one stream: those that a receiver does not get are left out without a gap, and are told of.

use std::time::Duration;

use moonring_core::command::Command;
use moonring_wire::id::{Mid, Ssrc, TrackId};
use moonring_wire::media::CodecName::{self, Av1, Vp8, Vp9};
use moonring_wire::media::Extension;
use moonring_wire::negotiate::{AnswerSection, Direction};
use moonring_wire::rtp::codec::{vp8, vp9};

use crate::sim::flows::{assert_unbroken, sends, wants};
use crate::sim::places::{on_one_shard, over_three_shards};
use crate::sim::raw::{Fields, MID_ID, section};
use crate::sim::{Got, World};

/// Pictures a second.
const RATE: u64 = 30;
/// The id that clients give the dependency descriptor.
const DESCRIPTOR_ID: u8 = 12;

/// Alice sends layers, Bob receives.
struct Scene {
    world: World,
    alice: usize,
    bob: usize,
    track: TrackId,
    codec: CodecName,
    index: u64,
    picture: u16,
    tl0: u8,
    /// How many spatial layers of a picture the encoder does not drop; the marker bit is that of the highest one there is.
    kept: u8,
}

impl Scene {
    fn new(seed: u64, codec: CodecName) -> Self {
        let mut world = World::new(seed);
        let (alice, bob) = (world.join_raw("alice"), world.join_raw("bob"));
        let with_descriptor = |direction| {
            let mut section = section("0", codec, direction);
            section.extensions.push((DESCRIPTOR_ID, Extension::DependencyDescriptor));
            section
        };
        world.raw(alice).sections = vec![with_descriptor(Direction::SendOnly)];
        let track = world.offer(alice, vec![sends("0")], vec![])[0].track.clone().unwrap();
        assert_eq!((track.layers, track.temporal_layers), (1, 1));
        world.raw(bob).sections = vec![with_descriptor(Direction::RecvOnly)];
        world.offer(bob, vec![], vec![wants(&Mid::parse("0").unwrap(), Some(&track.id))]);
        world.run_ms(300);
        Self { world, alice, bob, track: track.id, codec, index: 100, picture: 0x7FF0, tl0: 250, kept: u8::MAX }
    }

    /// A picture: one packet, of three spatial layers with VP9 one packet each.
    fn picture(&mut self) {
        let reports = std::mem::take(&mut self.world.raw(self.alice).reports);
        let is_key = self.picture == 0x7FF0 || reports.iter().any(|(_, words)| words.starts_with("Pli"));
        if is_key {
            self.picture = self.picture.next_multiple_of(4);
        }
        let temporal = if is_key { 0 } else { [0, 2, 1, 2][usize::from(self.picture % 4)] };
        self.tl0 = self.tl0.wrapping_add(u8::from(temporal == 0));
        let [high, low] = ((self.picture % 0x8000) | 0x8000).to_be_bytes();
        let spatial_layers = if self.codec == Vp9 { 3 } else { 1 };
        for spatial in 0..spatial_layers.min(self.kept) {
            let mut payload = match self.codec {
                Vp9 => {
                    let flags = 0xAC | if is_key { 0 } else { 0x40 };
                    let layers = temporal << 5 | 0x10 | spatial << 1 | u8::from(spatial > 0);
                    vec![flags, high, low, layers, self.tl0]
                }
                _ => vec![0x90, 0xE0, high, low, self.tl0, temporal << 6 | 0x20, u8::from(!is_key)],
            };
            payload.resize(if self.codec == Vp9 { 300 << spatial } else { 900 }, 0);
            let timestamp = (self.world.since_start().as_micros() * 90 / 1_000) as u32;
            let marker = spatial + 1 == spatial_layers;
            let elements: [(u8, &[u8]); 1] = [(MID_ID, b"0")];
            let fields = Fields { ssrc: 77, pt: 96, index: self.index, timestamp, marker, elements: &elements };
            let packet = self.world.raw(self.alice).seal(&fields, &payload);
            self.world.raw(self.alice).out.push(packet);
            self.index += 1;
        }
        self.picture = (self.picture + 1) % 0x8000;
    }

    fn run(&mut self, seconds: u64) {
        self.run_pictures(seconds * RATE);
    }

    fn run_pictures(&mut self, pictures: u64) {
        for _ in 0..pictures {
            self.picture();
            self.world.run(Duration::from_micros(1_000_000 / RATE));
        }
    }

    /// Bob says what he can receive, a second long, for `seconds`.
    fn estimate(&mut self, bps: u64, seconds: u64) {
        for _ in 0..seconds {
            let remb = self.world.raw(self.bob).control(|w| w.remb(Ssrc(1), bps, &[]).unwrap());
            self.world.raw(self.bob).out.push(remb);
            self.run(1);
        }
    }

    /// The spatial and temporal layers of what came in the last second, each once, in order.
    fn last_layers(&self) -> Vec<(u8, u8)> {
        let got = self.world.got(self.bob, 96);
        let since = got.last().unwrap().at - Duration::from_millis(900);
        let recent = got.iter().filter(|got| got.at >= since && self.world.now - got.at < Duration::from_secs(1));
        let mut layers: Vec<_> = recent.map(|got| self.layers_of(got)).collect();
        layers.sort_unstable();
        layers.dedup();
        layers
    }

    fn layers_of(&self, got: &Got) -> (u8, u8) {
        match self.codec {
            Vp9 => vp9::Descriptor::parse(&got.head).map(|d| (d.spatial.unwrap(), d.temporal.unwrap())),
            _ => vp8::Descriptor::parse(&got.head).map(|d| (0, d.temporal.unwrap())),
        }
        .unwrap()
    }

    /// What Bob was told since the last time, by its first word.
    fn told(&mut self) -> Vec<String> {
        let words = self.world.take_words(self.bob);
        words.iter().map(|words| words.split([' ', '{']).next().unwrap_or_default().to_owned()).collect()
    }
}

#[test]
fn a_picture_that_does_not_fit_loses_temporal_layers_before_it_is_paused() {
    let mut scene = Scene::new(310, Vp8);
    scene.run(3);
    assert_eq!(scene.last_layers(), [(0, 0), (0, 1), (0, 2)]);
    assert!(scene.told().contains(&"TrackChanged".to_owned()));
    // 216 kbit/s of payload, a quarter of it in each of the lower layers; with the sound of nobody beside it.
    for (bps, expected, told) in [
        (160_000, &[(0, 0), (0, 1)][..], &[][..]),
        (80_000, &[(0, 0)], &[]),
        (5_000, &[], &["TrackPaused"]),
        (600_000, &[(0, 0), (0, 1), (0, 2)], &["TrackResumed"]),
    ] {
        scene.estimate(bps, 9);
        let layers = if scene.world.got(scene.bob, 96).is_empty() { vec![] } else { scene.last_layers() };
        let is_paused = told.contains(&"TrackPaused");
        if !is_paused {
            assert_eq!(layers, expected, "{bps} bit/s");
        }
        assert_eq!(scene.told(), told, "{bps} bit/s");
    }
    let got = scene.world.got(scene.bob, 96);
    assert_unbroken(&got);
    for pair in got.windows(2) {
        let ids = |got: &Got| vp8::Descriptor::parse(&got.head).unwrap().ids;
        let [(from, to)] = [(ids(&pair[0]), ids(&pair[1]))];
        assert_eq!(to.picture_id.unwrap().value, (from.picture_id.unwrap().value + 1) % 0x8000);
        let step = to.tl0_picture.unwrap().0.wrapping_sub(from.tl0_picture.unwrap().0);
        assert_eq!(step == 1, scene.layers_of(&pair[1]).1 == 0);
    }
}

#[test]
fn a_spatial_layer_that_is_wanted_again_is_asked_for_at_once_or_as_soon_as_it_may_be() {
    on_one_shard();
    let mut scene = Scene::new(316, Vp9);
    scene.run(3);
    let mut last = scene.world.start;
    // Whenever the next report to the publisher is due.
    for (seconds, pictures) in [(6, 0), (6, 8), (2, 8), (6, 4), (2, 0), (2, 15)] {
        let (client, track) = (scene.world.id(scene.bob), scene.track.clone());
        scene.world.command(Command::SetLayer { client: client.clone(), track: track.clone(), layer: Some(0) });
        let lives = scene.world.raw(scene.bob).check();
        scene.world.raw(scene.bob).out.push(lives);
        scene.run_pictures(seconds * RATE + pictures);
        let before = scene.world.now;
        scene.world.command(Command::SetLayer { client, track, layer: None });
        let asked = (0..6 * RATE).find_map(|_| {
            scene.run_pictures(1);
            let reports = scene.world.raw(scene.alice).reports.iter();
            reports.filter(|(_, words)| words.starts_with("Pli")).map(|(at, _)| *at).next()
        });
        let asked = asked.expect("a request");
        // A packet that has it looked at comes every 33 ms, and takes ten, as the request does.
        let delay = asked.saturating_duration_since(before.max(last + Duration::from_secs(5)));
        assert!(delay < Duration::from_millis(60), "{delay:?} behind {seconds} s and {pictures} pictures");
        last = asked;
        scene.run(1);
        assert_eq!(scene.last_layers().last().map(|layers| layers.0), Some(2));
    }
}

#[test]
fn spatial_layers_are_chosen_by_their_number_and_everybody_is_told_how_many_there_are() {
    let mut scene = Scene::new(311, Vp9);
    scene.run(3);
    let words = scene.world.take_words(scene.bob);
    let changed = words.iter().find(|words| words.starts_with("TrackChanged")).expect("told");
    assert!(changed.contains("layers: 3, temporal_layers: 3"), "{changed}");
    for (layer, highest) in [(Some(0), 0), (Some(1), 1), (None, 2), (Some(0), 0)] {
        let (client, track) = (scene.world.id(scene.bob), scene.track.clone());
        scene.world.command(Command::SetLayer { client, track, layer });
        scene.run(3);
        let spatial: Vec<u8> = scene.last_layers().iter().map(|(spatial, _)| *spatial).collect();
        assert_eq!(spatial.iter().max(), Some(&highest), "{layer:?}");
    }
    let got = scene.world.got(scene.bob, 96);
    assert_unbroken(&got);
    for pair in got.windows(2) {
        assert_eq!(pair[0].marker, pair[0].timestamp != pair[1].timestamp, "the last of a picture says so");
    }
    assert!(scene.told().is_empty(), "nothing was paused");
}

#[test]
fn a_picture_of_which_the_encoder_has_dropped_the_upper_layers_ends_before_the_next_one_and_by_itself() {
    let mut scene = Scene::new(315, Vp9);
    scene.run(3);
    let first = scene.world.got(scene.bob, 96).len();
    for kept in [1, 2, 3, 1, 1, 3, 2, 1] {
        scene.kept = kept;
        scene.picture();
        scene.world.run_ms(33);
    }
    let got = scene.world.got(scene.bob, 96);
    assert_unbroken(&got);
    assert_eq!(got.len() - first, 13, "the last one is held: more may follow");
    for pair in got.windows(2) {
        assert_eq!(pair[0].marker, pair[0].timestamp != pair[1].timestamp, "the last of a picture says so");
    }
    scene.world.run_ms(150);
    let got = scene.world.got(scene.bob, 96);
    assert_eq!((got.len() - first, got.last().map(|got| got.marker)), (14, Some(true)));
}

#[test]
fn a_view_as_high_as_the_lowest_spatial_layer_gets_that_one() {
    let mut scene = Scene::new(312, Vp9);
    scene.run(2);
    for (size, highest) in [((320, 180), 0), ((640, 360), 1), ((1_280, 720), 2)] {
        let (client, track) = (scene.world.id(scene.bob), scene.track.clone());
        scene.world.command(Command::SetView { client, track, width: size.0, height: size.1 });
        scene.run(3);
        assert_eq!(scene.last_layers().iter().map(|(spatial, _)| *spatial).max(), Some(highest), "{size:?}");
    }
    let wanted = scene.world.take_words(scene.alice);
    let wanted: Vec<&str> = wanted.iter().filter_map(|words| words.split("layers: ").nth(1)).collect();
    assert!(wanted.last().is_some_and(|last| last.starts_with("[0, 1, 2]")), "{wanted:?}");
    assert!(wanted.iter().any(|words| words.starts_with("[0] ")), "{wanted:?}");
}

#[test]
fn the_dependency_descriptor_is_agreed_on_towards_both() {
    let mut scene = Scene::new(313, Av1);
    for who in [scene.alice, scene.bob] {
        let answer = scene.world.raw(who).answer.clone().unwrap();
        let AnswerSection::Accepted { extensions, .. } = &answer.sections[0] else { panic!("{answer:?}") };
        assert!(extensions.contains(&(DESCRIPTOR_ID, Extension::DependencyDescriptor)), "{extensions:?}");
    }
}

#[test]
fn a_receiver_of_some_spatial_layers_goes_on_with_them_at_another_shard_without_a_gap() {
    over_three_shards();
    let mut scene = Scene::new(314, Vp9);
    scene.run(3);
    for (layer, highest, to) in [(Some(0), 0, 2), (Some(1), 1, 0), (None, 2, 1), (Some(1), 1, 2)] {
        let (client, track) = (scene.world.id(scene.bob), scene.track.clone());
        scene.world.command(Command::SetLayer { client, track, layer });
        scene.run(3);
        scene.world.move_raw(scene.bob, to);
        scene.run(2);
        assert_eq!(scene.last_layers().iter().map(|(spatial, _)| *spatial).max(), Some(highest), "{layer:?}");
    }
    // And so does its publisher.
    for to in [1, 2, 0] {
        scene.world.move_raw(scene.alice, to);
        scene.run(2);
    }
    let got = scene.world.got(scene.bob, 96);
    assert_unbroken(&got);
    for pair in got.windows(2) {
        assert_eq!(pair[0].marker, pair[0].timestamp != pair[1].timestamp, "the last of a picture says so");
    }
    assert!(scene.world.seals.repeated().next().is_none());
}

#[test]
fn pictures_of_a_receiver_of_some_temporal_layers_that_moves_are_numbered_without_a_gap() {
    over_three_shards();
    let mut scene = Scene::new(315, Vp8);
    scene.run(3);
    for to in [2, 0, 1] {
        scene.estimate(70_000, 9);
        scene.world.move_raw(scene.bob, to);
        scene.estimate(70_000, 9);
        assert_eq!(scene.last_layers(), [(0, 0)]);
    }
    let got = scene.world.got(scene.bob, 96);
    assert_unbroken(&got);
    for pair in got.windows(2) {
        let id = |got: &Got| vp8::Descriptor::parse(&got.head).unwrap().ids.picture_id.unwrap().value;
        assert_eq!(id(&pair[1]), (id(&pair[0]) + 1) % 0x8000);
    }
    assert!(scene.world.seals.repeated().next().is_none());
}
