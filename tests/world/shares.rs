//! What is not sent takes no share of a path, and what is sent takes its own.

use std::time::Duration;

use moonring_core::command::{Command, Event};
use moonring_core::shard::ShardSettings;
use moonring_loadtest::media::{VideoSettings, VideoSource};
use moonring_wire::id::TrackId;
use moonring_wire::media::CodecName::{Opus, Vp8};
use rand::SeedableRng;
use rand::rngs::SmallRng;

use crate::sim::{Feed, OPEN, World, settings};
use crate::slow::{FRAMES, layer_lately, longest_gap, scene, scene_in, subscriber};

const RATE: Option<u64> = Some(900_000);

#[test]
fn sound_that_is_not_heard_takes_nothing_of_what_a_path_carries() {
    let world = World::with(101, ShardSettings { audio_last_n: Some(1), ..settings() }, OPEN);
    let (mut world, mut encoder, _, track) = scene_in(world, &[], (FRAMES, 30, 0));
    // All of them together take as much as the link carries.
    let talkers: Vec<_> = (0..12).map(|n| world.join(&format!("t{n}"))).collect();
    let sounds: Vec<_> = talkers.into_iter().map(|who| world.publish(who, Opus)).collect();
    encoder.run(&mut world, 2);
    let who = subscriber(&mut world, "bob", &track, (RATE, 0));
    for sound in &sounds {
        world.subscribe(who, sound, Opus);
    }
    encoder.run(&mut world, 15);
    assert_eq!(layer_lately(&world, who, 3), Some(1));
}

#[test]
fn a_muted_video_takes_nothing_of_what_a_path_carries() {
    let (mut world, mut encoder, _, track) = scene(102, &[]);
    let carol = world.join("carol");
    let other = world.publish(carol, Vp8);
    let rng = SmallRng::seed_from_u64(7);
    let source = VideoSource::new(VideoSettings { bitrate_bps: 500_000, ..VideoSettings::default() }, world.now, rng);
    world.members[carol].feeds[0].1 = Feed::Video(source);
    encoder.run(&mut world, 2);
    world.command(Command::SetMuted { client: world.id(carol), track: other.clone(), muted: true });
    let who = subscriber(&mut world, "bob", &track, (RATE, 0));
    world.subscribe(who, &other, Vp8);
    encoder.run(&mut world, 15);
    assert_eq!(layer_lately(&world, who, 3), Some(1));
}

/// When a client was told that a track is paused (true) or goes on.
fn told(world: &World, track: &TrackId) -> Vec<bool> {
    let of = |event: &Event| match event {
        Event::TrackPaused { track: t, .. } => (t == track).then_some(true),
        Event::TrackResumed { track: t, .. } => (t == track).then_some(false),
        _ => None,
    };
    world.events.iter().filter_map(of).collect()
}

#[test]
fn a_track_of_which_only_larger_pictures_come_than_are_wanted_is_paused_where_they_do_not_fit() {
    let (mut world, mut encoder, _, track) = scene(103, &[]);
    encoder.frames[0] = (0, 0);
    encoder.frames[1] = (0, 0);
    encoder.run(&mut world, 3);
    for (name, bps, is_paused) in [("bob", Some(500_000), true), ("carol", Some(3_000_000), false)] {
        let who = subscriber(&mut world, name, &track, (bps, 0));
        world.command(Command::SetView { client: world.id(who), track: track.clone(), width: 160, height: 90 });
        encoder.run(&mut world, 12);
        let (passed, dropped) = world.members[who].down.passed;
        assert_eq!(
            (told(&world, &track).last() == Some(&true), layer_lately(&world, who, 3)),
            (is_paused, (!is_paused).then_some(2)),
            "{name}: {dropped} of {passed} dropped"
        );
        world.events.clear();
    }
}

#[test]
fn behind_a_pause_a_slow_link_is_not_sent_the_largest_pictures_first() {
    let (mut world, mut encoder, subscribers, _) = scene(104, &[Some(300_000)]);
    let who = subscribers[0];
    encoder.run(&mut world, 10);
    assert_eq!(layer_lately(&world, who, 3), Some(0));
    world.run(Duration::from_secs(5));
    let (since, before) = (world.now, world.members[who].down.passed.1);
    encoder.begin_anew();
    encoder.run(&mut world, 4);
    let larger = world.members[who]
        .got
        .iter()
        .filter(|got| got.at >= since && got.is_of_picture() && got.head[crate::slow::MARK] > 0)
        .count();
    let dropped = world.members[who].down.passed.1 - before;
    assert_eq!((larger, dropped), (0, 0));
    let gap = longest_gap(&world, who, 3);
    assert!(gap < Duration::from_millis(300), "{gap:?}");
}
