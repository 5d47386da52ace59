//! Receivers that estimate their bandwidth themselves (REMB) and send no transport-wide feedback.

use std::time::Duration;

use moonring_core::command::Event;
use moonring_loadtest::media::{VideoSettings, VideoSource};
use moonring_wire::id::{Mid, Ssrc};
use moonring_wire::media::CodecName::{Opus, Vp8};
use moonring_wire::negotiate::Direction;
use rand::SeedableRng;
use rand::rngs::SmallRng;

use crate::sim::flows::wants;
use crate::sim::raw::section;
use crate::sim::{Feed, World};

/// What the pictures take, and an estimate that they fit into by themselves but not together with the sound.
const PICTURE_BPS: u64 = 150_000;
const ESTIMATE_BPS: u64 = 180_000;

/// Alice speaks and is seen, Bob receives both and sends REMBs.
struct Scene {
    world: World,
    bob: usize,
    sound: Ssrc,
    picture: Ssrc,
}

impl Scene {
    fn new(seed: u64) -> Self {
        let mut world = World::new(seed);
        let (alice, bob) = (world.join("alice"), world.join_raw("bob"));
        let (sound, picture) = (world.publish(alice, Opus), world.publish(alice, Vp8));
        let settings = VideoSettings { bitrate_bps: PICTURE_BPS, variation: 0.0, ..VideoSettings::default() };
        let source = VideoSource::new(settings, world.now, SmallRng::seed_from_u64(world.seed));
        world.members[alice].feeds[1].1 = Feed::Video(source);
        let mids = ["0", "1"].map(|mid| Mid::parse(mid).unwrap());
        world.raw(bob).sections = vec![section("0", Opus, Direction::RecvOnly), section("1", Vp8, Direction::RecvOnly)];
        world.offer(bob, vec![], vec![wants(&mids[0], Some(&sound)), wants(&mids[1], Some(&picture))]);
        let [sound, picture] = mids.map(|mid| world.raw(bob).stream(&mid).unwrap().ssrc);
        world.run_ms(3_000);
        Self { world, bob, sound, picture }
    }

    fn estimate(&mut self, bps: u64, streams: &[Ssrc]) {
        let remb = self.world.raw(self.bob).control(|w| w.remb(Ssrc(1), bps, streams).unwrap());
        self.world.raw(self.bob).out.push(remb);
        self.world.run_ms(1_000);
    }

    /// Bits of pictures and of sound that came in the last second and would come in one.
    fn rates(&mut self) -> [u64; 2] {
        let seen = |scene: &Self, ssrc| {
            scene.world.members[scene.bob].got.iter().filter(|got| got.ssrc == ssrc).count() as u64
        };
        let before = [self.picture, self.sound].map(|ssrc| seen(self, ssrc));
        self.world.run(Duration::from_millis(1_000));
        let after = [self.picture, self.sound].map(|ssrc| seen(self, ssrc));
        [after[0] - before[0], after[1] - before[1]]
    }
}

#[test]
fn an_estimate_of_pictures_alone_need_not_carry_the_sound_too() {
    let mut scene = Scene::new(97);
    let (both, pictures) = ([scene.sound, scene.picture], [scene.picture]);
    for (streams, flows) in [(&pictures[..], true), (&both[..], false)] {
        // A pause is not for a dip.
        for _ in 0..5 {
            scene.estimate(ESTIMATE_BPS, streams);
        }
        let [pictures, sound] = scene.rates();
        assert_eq!((pictures > 10, sound > 40), (flows, true), "{streams:?}: {pictures} and {sound} packets");
    }
}

#[test]
fn pictures_that_an_old_estimate_paused_are_tried_again() {
    let mut scene = Scene::new(98);
    for _ in 0..5 {
        scene.estimate(1_000, &[scene.picture]);
    }
    assert_eq!(scene.rates()[0], 0);
    scene.world.run_ms(6_000);
    assert!(scene.rates()[0] > 10);
}

#[test]
fn of_several_estimates_in_one_datagram_the_last_counts() {
    let mut scene = Scene::new(34);
    let streams = [scene.sound, scene.picture];
    let estimates = [10_000, 5_000_000].repeat(10);
    let control = scene.world.raw(scene.bob).control(|w| {
        estimates.iter().for_each(|bps| w.remb(Ssrc(1), *bps, &streams).unwrap());
    });
    scene.world.raw(scene.bob).out.push(control);
    scene.world.run_ms(1_000);
    let told = scene.world.events.iter();
    let told: Vec<_> = told.filter(|e| matches!(e, Event::TrackPaused { .. } | Event::TrackResumed { .. })).collect();
    assert!(told.is_empty(), "{told:?}");
}
