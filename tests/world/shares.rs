//! What is not sent takes no share of a path, and what is sent takes its own.

use moonring_core::shard::ShardSettings;
use moonring_wire::media::CodecName::Opus;

use crate::sim::{OPEN, World, settings};
use crate::slow::{FRAMES, layer_lately, scene_in, subscriber};

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
