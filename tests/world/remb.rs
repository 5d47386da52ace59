//! Receivers that estimate their bandwidth themselves (REMB) and send no transport-wide feedback.

use std::time::Duration;

use moonring_core::command::Event;
use moonring_loadtest::media::{VideoSettings, VideoSource};
use moonring_wire::id::{Mid, Ssrc};
use moonring_wire::media::CodecName::{Opus, Vp8};
use moonring_wire::negotiate::{AnswerStream, Direction};
use rand::SeedableRng;
use rand::rngs::SmallRng;

use crate::sim::flows::wants;
use crate::sim::places::over_three_shards;
use crate::sim::raw::section;
use crate::sim::{Feed, World};
use crate::simulcast::{layer_of, scene};

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

#[test]
fn what_a_receiver_has_estimated_counts_on_when_it_moves_to_its_publishers_shard() {
    over_three_shards();
    let (mut world, mut encoder, bob, _) = scene(102);
    for _ in 0..6 {
        let remb = world.raw(bob).control(|w| w.remb(Ssrc(1), 35_000, &[]).unwrap());
        world.raw(bob).out.push(remb);
        encoder.run(&mut world, 30);
    }
    let (before, to) = (world.members[bob].got.len(), world.members[0].place);
    assert_ne!(world.members[bob].place, to);
    world.move_raw(bob, to);
    encoder.run(&mut world, 60);
    let after = &world.members[bob].got[before..];
    assert!(after.len() > 50 && after.iter().all(|got| layer_of(got) == 0), "{} packets", after.len());
}

/// Receivers of three cameras, each of [`CAMERA_BPS`], that estimate what comes as aiortc and libwebrtc do.
struct Follower {
    world: World,
    bob: usize,
    mids: [Mid; 3],
    kind: Kind,
    /// What the path carries, in bit/s.
    carries: f64,
    estimates: [f64; 3],
    /// Seconds in which something came.
    seen: [u32; 3],
    /// What came in each second, in bit/s.
    come: Vec<f64>,
}

const CAMERA_BPS: f64 = 330_000.0;
/// What of a datagram is no payload: RTP with its extensions, and SRTP.
const HEADERS: usize = 36;

impl Follower {
    fn new(seed: u64, kind: Kind, carries: f64) -> Self {
        let mut world = World::new(seed);
        let (alice, bob) = (world.join("alice"), world.join_raw("bob"));
        let tracks: Vec<_> = (0..3).map(|_| world.publish(alice, Vp8)).collect();
        for n in 0..3 {
            let settings = VideoSettings { bitrate_bps: CAMERA_BPS as u64, variation: 0.0, ..VideoSettings::default() };
            let source = VideoSource::new(settings, world.now, SmallRng::seed_from_u64(world.seed + n as u64));
            world.members[alice].feeds[n].1 = Feed::Video(source);
        }
        let mids = ["0", "1", "2"].map(|mid| Mid::parse(mid).unwrap());
        let mut follower =
            Self { world, bob, mids, kind, carries, estimates: [0.0; 3], seen: [0; 3], come: Vec::new() };
        for (second, wanted) in [(0, 0..1), (5, 1..3)] {
            let sections = follower.mids[..wanted.end].iter().map(|mid| {
                let mut section = section(mid.as_str(), Vp8, Direction::RecvOnly);
                section.codecs[0].rtx = section.codecs[0].rtx.filter(|_| kind.rtx.0);
                section
            });
            follower.world.raw(bob).sections = sections.collect();
            let wanted = wanted.map(|n| wants(&follower.mids[n], Some(&tracks[n]))).collect();
            follower.world.offer(bob, vec![], wanted);
            (second..5).for_each(|_| follower.second());
        }
        follower
    }

    /// Lets a second pass, and estimates.
    fn second(&mut self) {
        self.world.raw(self.bob).sealed.clear();
        self.world.run_ms(1_000);
        let mids = self.mids.clone();
        let raw = self.world.raw(self.bob);
        let streams = mids.map(|mid| raw.stream(&mid));
        let counts_rtx = self.kind.rtx.1;
        let come = |stream: &Option<AnswerStream>| {
            let ssrcs = stream.as_ref().map(|stream| [Some(stream.ssrc), stream.rtx_ssrc.filter(|_| counts_rtx)]);
            let is_of = |packet: &&Vec<u8>| {
                let ssrc = Ssrc(u32::from_be_bytes(packet[8..12].try_into().unwrap()));
                ssrcs.is_some_and(|ssrcs| ssrcs.contains(&Some(ssrc)))
            };
            raw.sealed.iter().filter(is_of).map(|packet| packet.len().saturating_sub(HEADERS) as f64 * 8.0).sum::<f64>()
        };
        let come = streams.each_ref().map(come);
        let all: f64 = come.iter().sum();
        self.come.push(all);
        let of_each = if self.kind.is_apart { come.to_vec() } else { vec![all] };
        let heard = streams.iter().zip(come).filter(|(_, come)| *come > 0.0);
        let heard: Vec<_> = heard.filter_map(|(stream, _)| Some(stream.as_ref()?.ssrc)).collect();
        for (n, come) in of_each.into_iter().enumerate().filter(|(_, come)| *come > 0.0) {
            let (before, most) = (self.estimates[n], 1.5 * come + 10_000.0);
            // libwebrtc's, until some years ago, followed what came down again.
            let most = if self.kind.is_apart { most.max(before) } else { most };
            // The first comes after three seconds, and is what comes.
            self.seen[n] += 1;
            if self.seen[n] < 3 {
                continue;
            }
            let grown = if before == 0.0 { come } else { (before * 1.08).min(most) };
            self.estimates[n] = if all > self.carries { 0.85 * come * self.carries / all } else { grown };
            let of = streams[n].as_ref().map(|stream| vec![stream.ssrc]);
            let of = if self.kind.is_apart { of.unwrap() } else { heard.clone() };
            let bps = self.estimates[n] as u64;
            let remb = self.world.raw(self.bob).control(|w| w.remb(Ssrc(n as u32), bps, &of).unwrap());
            self.world.raw(self.bob).out.push(remb);
        }
    }

    /// How often something was paused.
    fn pauses(&self) -> usize {
        self.world.events.iter().filter(|event| matches!(event, Event::TrackPaused { .. })).count()
    }

    /// Which cameras come.
    fn cameras(&mut self) -> usize {
        let before = self.world.members[self.bob].got.len();
        self.second();
        let mids = self.mids.clone();
        let ssrcs = mids.map(|mid| self.world.raw(self.bob).stream(&mid).unwrap().ssrc);
        let got = &self.world.members[self.bob].got[before..];
        ssrcs.iter().filter(|ssrc| got.iter().any(|got| got.ssrc == **ssrc)).count()
    }
}

/// How a receiver estimates.
#[derive(Clone, Copy, Debug)]
struct Kind {
    /// It has an estimator for each camera, each with a name of its own (aiortc), or one for all (libwebrtc).
    is_apart: bool,
    /// It takes retransmissions, which padding goes out as, and counts them.
    rtx: (bool, bool),
}

const KINDS: [Kind; 5] = [
    Kind { is_apart: true, rtx: (true, true) },
    // With several cameras aiortc finds no receiver for retransmissions.
    Kind { is_apart: true, rtx: (true, false) },
    Kind { is_apart: true, rtx: (false, false) },
    Kind { is_apart: false, rtx: (true, true) },
    Kind { is_apart: false, rtx: (false, false) },
];

#[test]
fn an_estimate_that_only_follows_what_comes_pauses_nothing_for_good() {
    for kind in KINDS {
        let mut follower = Follower::new(99, kind, 20e6);
        (0..40).for_each(|_| follower.second());
        let pauses = follower.pauses();
        assert_eq!(follower.cameras(), 3, "{kind:?}");
        (0..60).for_each(|_| follower.second());
        assert_eq!(follower.pauses(), pauses, "{kind:?}");
    }
}

/// What a path carries is in cameras. Most of the time as many come as fit, and one more is tried now and then.
#[test]
fn what_fits_stays_on_a_path_that_carries_no_more_and_more_is_tried_now_and_then() {
    for (carries, kind) in [1.2, 1.6, 2.05, 2.3, 2.9].into_iter().flat_map(|carries| KINDS.map(|kind| (carries, kind)))
    {
        let mut follower = Follower::new(99, kind, carries * CAMERA_BPS);
        (0..300).for_each(|_| follower.second());
        let later = &follower.come[follower.come.len() - 200..];
        let too_much = later.iter().filter(|bps| **bps > follower.carries).count();
        let mean = later.iter().sum::<f64>() / later.len() as f64 / CAMERA_BPS;
        // Where nothing can be padded, a whole camera is tried, and one that shows goes with it at times.
        let fit = if kind.rtx.1 { 0.97 * (carries - 0.1).floor() } else { 0.95 };
        assert!((1..=20).contains(&too_much) && mean > fit, "{carries} {kind:?}: {too_much} s, {mean} cameras");
        assert!(follower.pauses() <= 12, "{carries} {kind:?}: {} pauses", follower.pauses());
    }
}

#[test]
fn who_could_not_be_sent_any_picture_is_sent_one_now_and_then_and_not_all_at_once() {
    for kind in KINDS {
        let mut follower = Follower::new(99, kind, 0.9 * CAMERA_BPS);
        (0..100).for_each(|_| follower.second());
        let later = &follower.come[follower.come.len() - 60..];
        let most = later.iter().copied().fold(0.0, f64::max);
        let none = later.iter().filter(|bps| **bps == 0.0).count();
        assert!(
            (0.95 * CAMERA_BPS..1.3 * CAMERA_BPS).contains(&most) && (20..58).contains(&none),
            "{kind:?}: {most}, {none} s"
        );
    }
}
