//! What viewers see, on virtual time.

use std::time::{Duration, Instant};

use moonring_wire::id::Ssrc;

use super::viewer::{View, Viewer, Viewing};
use crate::media::{Packet, Stamp};
use crate::peer::RtpReceived;

/// Pictures in a second.
const FPS: u64 = 25;
/// Packets of a picture.
const PACKETS: u16 = 3;
const KEY: [u8; 4] = [0x10, 0, 0, 0];
const DELTA: [u8; 4] = [0x10, 1, 0, 0];
const REST: [u8; 4] = [0, 0, 0, 0];

/// A viewer, and a sender whose packets can be kept from it.
struct Scene {
    start: Instant,
    ms: u64,
    viewer: Viewer,
    sequence: u16,
    layer: u8,
    asked: Vec<u64>,
}

impl Scene {
    fn new(right: Option<u8>) -> Self {
        let mut viewer = Viewer::new(Viewing { link: 0, pictures: 1, right, top: 2 });
        let start = Instant::now();
        viewer.connected(start);
        Self { start, ms: 0, viewer, sequence: 65_500, layer: 0, asked: Vec::new() }
    }

    fn now(&self) -> Instant {
        self.start + Duration::from_millis(self.ms)
    }

    /// The packet of a picture that begins with `sequence`, at `place` in it.
    fn packet(&mut self, (first, place): (u16, u16), key: bool, repaired: bool) {
        let header = if place > 0 { REST } else { [DELTA, KEY][usize::from(key)] };
        let mut packet = Packet::new(&header, 100, 0, false);
        let stamp = Stamp { sent_ns: 0, counter: 0, layer: self.layer };
        packet.stamp(stamp);
        let mut datagram = vec![0; 100];
        packet.write(&mut datagram);
        let received = RtpReceived {
            ssrc: Ssrc(1),
            sequence: first.wrapping_add(place),
            timestamp: 0,
            marker: place + 1 == PACKETS,
            payload: 0..100,
            stamp: Some(stamp),
            duplicate: false,
            repaired,
        };
        if self.viewer.take(self.now(), &received, &datagram).is_some() {
            self.asked.push(self.ms);
        }
    }

    /// One picture, without those of its packets that are `lost`; then the time until the next.
    fn picture(&mut self, key: bool, lost: &[u16]) {
        let first = self.sequence;
        for place in (0..PACKETS).filter(|place| !lost.contains(place)) {
            self.packet((first, place), key, false);
        }
        self.sequence = first.wrapping_add(PACKETS);
        self.ms += 1_000 / FPS;
    }

    /// A key frame of a layer and other pictures, for so many seconds.
    fn run(&mut self, layer: u8, seconds: u64) {
        self.layer = layer;
        self.picture(true, &[]);
        (1..seconds * FPS).for_each(|_| self.picture(false, &[]));
    }

    fn view(&self) -> View {
        *self.viewer.views(self.now()).last().unwrap()
    }

    fn frozen_ms(&self) -> f64 {
        let view = self.view();
        (view.frozen * view.time.as_secs_f64() * 1_000.0).round()
    }
}

#[test]
fn the_right_layer_is_reached_when_it_stays_for_three_seconds() {
    let mut scene = Scene::new(Some(1));
    scene.run(0, 2);
    scene.run(1, 2);
    scene.run(0, 1);
    assert_eq!(scene.view().reached, None, "it went after two seconds");
    scene.run(1, 3);
    assert_eq!(scene.view().reached, None, "the last picture of three seconds comes 40 ms before their end");
    scene.run(2, 1);
    let view = scene.view();
    assert_eq!((view.reached, view.frozen), (Some(Duration::from_secs(5)), 0.0));
    assert!((view.stayed - 1.0).abs() < 1e-9);
    scene.run(0, 4);
    // Four of eight seconds since; what stood last counts until the end.
    assert!((scene.view().stayed - 0.5).abs() < 1e-9, "{:?}", scene.view());
    assert_eq!(scene.view().reached, Some(Duration::from_secs(5)));
}

#[test]
fn a_gap_that_is_repaired_late_is_a_freeze_and_breaks_the_stay() {
    let mut scene = Scene::new(Some(0));
    scene.run(0, 2);
    let first = scene.sequence;
    scene.picture(false, &[1]);
    (0..9).for_each(|_| scene.picture(false, &[]));
    // The last picture stood for 440 ms.
    scene.packet((first, 1), false, true);
    assert_eq!(scene.frozen_ms(), 440.0);
    (0..2 * FPS).for_each(|_| scene.picture(false, &[]));
    assert_eq!(scene.view().reached, None);
    (0..2 * FPS).for_each(|_| scene.picture(false, &[]));
    assert_eq!((scene.view().reached, scene.frozen_ms()), (Some(Duration::from_millis(2_400)), 440.0));
    assert_eq!((scene.view().resent_bytes, scene.asked.len()), (100, 0));
}

#[test]
fn a_gap_that_is_repaired_soon_is_no_freeze() {
    let mut scene = Scene::new(Some(0));
    scene.run(0, 2);
    let first = scene.sequence;
    scene.picture(false, &[0, 2]);
    scene.picture(false, &[]);
    scene.packet((first, 2), false, true);
    scene.packet((first, 0), false, true);
    (0..2 * FPS).for_each(|_| scene.picture(false, &[]));
    assert_eq!((scene.view().reached, scene.frozen_ms()), (Some(Duration::ZERO), 0.0));
}

#[test]
fn after_a_gap_that_nobody_repairs_the_picture_goes_on_with_a_complete_key_frame() {
    let mut scene = Scene::new(Some(0));
    scene.run(0, 2);
    scene.picture(false, &[0]);
    (0..4 * FPS).for_each(|_| scene.picture(false, &[]));
    // Three seconds after the last picture, which came at 1,960 ms.
    assert_eq!(scene.asked, [4_960]);
    scene.picture(true, &[2]);
    let before = scene.ms;
    scene.picture(true, &[]);
    assert_eq!(scene.frozen_ms(), (before - 1_960) as f64);
    scene.picture(false, &[]);
    assert_eq!(scene.frozen_ms(), (before - 1_960) as f64);
}

#[test]
fn a_picture_that_stands_still_at_the_end_is_frozen_and_so_is_one_that_never_came() {
    let mut scene = Scene::new(Some(0));
    scene.run(0, 4);
    scene.ms += 4_040;
    assert_eq!(scene.frozen_ms(), 4_080.0);
    let mut nothing = Scene::new(None);
    nothing.ms = 5_000;
    assert_eq!((nothing.view().frozen, nothing.view().reached), (1.0, None));
    nothing.sequence = 7;
    nothing.picture(false, &[]);
    assert_eq!(nothing.view().frozen, 1.0, "without a key frame there is no picture");
    assert!(nothing.asked.is_empty());
}

#[test]
fn of_two_videos_both_have_to_come() {
    let mut scene = Scene::new(Some(0));
    scene.viewer = Viewer::new(Viewing { pictures: 2, ..scene.viewer.viewing });
    scene.viewer.connected(scene.start);
    scene.run(0, 5);
    assert_eq!((scene.view().reached, scene.view().frozen), (None, 0.5));
}

#[test]
fn when_limits_are_lifted_the_top_layer_is_waited_for() {
    let mut scene = Scene::new(Some(0));
    scene.run(0, 4);
    scene.viewer.lift(scene.now());
    scene.run(0, 2);
    scene.run(2, 4);
    let views = scene.viewer.views(scene.now());
    assert_eq!(views.iter().map(|view| view.time.as_secs()).collect::<Vec<_>>(), [4, 6]);
    let reached: Vec<_> = views.iter().map(|view| view.reached).collect();
    assert_eq!(reached, [Some(Duration::ZERO), Some(Duration::from_secs(2))]);
    assert_eq!(views[0].bytes, 4 * FPS * u64::from(PACKETS) * 100);
    // One that comes after that has no part of it before.
    let mut late = Viewer::new(scene.viewer.viewing);
    late.lift(scene.now());
    assert_eq!(late.views(scene.now()), [View::default()]);
    late.connected(scene.now());
    assert_eq!(late.views(scene.now() + Duration::from_secs(1))[1].time, Duration::from_secs(1));
}
