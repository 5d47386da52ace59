//! Publishers that make key frames when a message tells them to.

use moonring_core::command::{Command, PublishIntent};
use moonring_wire::id::TrackId;

use crate::encoder::{CHROMIUM, Encoder, publisher_with};
use crate::sim::World;
use crate::sim::flows::sends;
use crate::sim::places;
use crate::slow::{layer_lately, subscriber};

/// Alice publishes three layers as her offer says, and Bob has the top.
fn scene(seed: u64, makes_key_frames: bool) -> (World, Encoder, usize, TrackId) {
    let mut world = World::new(seed);
    let intent = PublishIntent { makes_key_frames, ..sends("0") };
    let (mut encoder, track) = publisher_with(&mut world, "alice", intent, (CHROMIUM, 15));
    let bob = subscriber(&mut world, "bob", &track, (None, 0));
    encoder.run(&mut world, 8);
    assert_eq!(layer_lately(&world, bob, 1), Some(2));
    (world, encoder, bob, track)
}

/// Bob goes down to the lowest layer and, two seconds later, up again, for which a key frame is needed: how often Alice is told in the
/// seconds after that, and how often she is asked by RTCP, if she begins anew whenever she is told, or never.
fn requests_of((world, encoder, bob, track): &mut (World, Encoder, usize, TrackId), does_it: bool) -> (usize, usize) {
    let choose = |world: &mut World, layer| {
        world.command(Command::SetLayer { client: world.id(*bob), track: track.clone(), layer });
    };
    choose(world, Some(0));
    encoder.run(world, 4);
    world.take_words(encoder.who);
    encoder.asked = 0;
    choose(world, None);
    let mut told = 0;
    for _ in 0..2 * encoder.fps {
        encoder.picture(world);
        let words = world.take_words(encoder.who);
        let count = words.iter().filter(|words| words.starts_with("KeyFrame ")).count();
        if count > 0 && does_it {
            encoder.begin_anew();
        }
        told += count;
    }
    (told, encoder.asked)
}

#[test]
fn who_makes_key_frames_is_told_when_they_are_needed_and_asked_by_rtcp_where_none_comes() {
    for (makes_key_frames, does_it, expected) in [(true, true, (1, 0)), (true, false, (1, 1)), (false, false, (0, 1))] {
        let mut scene = scene(1_500, makes_key_frames);
        assert_eq!(requests_of(&mut scene, does_it), expected, "says so: {makes_key_frames}, does it: {does_it}");
        let (world, encoder, bob, _) = &mut scene;
        encoder.run(world, 2);
        assert_eq!(layer_lately(world, *bob, 1), Some(2));
    }
}

#[test]
fn who_has_moved_to_another_shard_is_told_as_before() {
    if places::count() == 1 {
        return;
    }
    let mut scene = scene(1_501, true);
    let (world, encoder, ..) = &mut scene;
    for to in [2, 0, 1] {
        world.move_raw(encoder.who, to);
    }
    encoder.run(world, 2);
    assert_eq!(requests_of(&mut scene, true), (1, 0));
}
