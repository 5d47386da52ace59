//! Who goes over to another layer with a key frame that has come already catches up with it, and stays in the publisher's time.

use moonring_core::command::Command;

use crate::sim::places::on_one_shard;
use crate::sim::{Got, World};
use crate::simulcast::{assert_continuous, layer_of, scene};

/// How much later a packet's time stamp is than when it came, in ticks.
fn ahead(world: &World, got: &Got) -> u32 {
    got.timestamp.wrapping_sub(((got.at - world.start).as_micros() * 90 / 1_000) as u32)
}

#[test]
fn behind_an_older_key_frame_a_layer_goes_on_in_its_publishers_time() {
    on_one_shard();
    let (mut world, mut encoder, bob, track) = scene(103);
    let choose = |world: &mut World, layer| {
        world.command(Command::SetLayer { client: world.id(bob), track: track.clone(), layer });
    };
    let mut last = None;
    for old in [10, 3, 12] {
        choose(&mut world, Some(0));
        encoder.run(&mut world, 45);
        // Somebody else has asked for a key frame.
        encoder.layers[2].frames = 0;
        encoder.run(&mut world, old);
        let before = world.got(bob, 96).last().map(|got| (layer_of(got), ahead(&world, got))).unwrap();
        choose(&mut world, None);
        encoder.run(&mut world, 6);
        let after = world.got(bob, 96).last().map(|got| (layer_of(got), ahead(&world, got))).unwrap();
        assert_eq!((before.0, after.0), (0, 2));
        for before in [before.1, last.unwrap_or(before.1)] {
            let ticks = after.1.wrapping_sub(before) as i32;
            assert!(ticks.abs() <= 90, "{ticks} ticks later behind a key frame of {old} pictures ago");
        }
        last = Some(after.1);
    }
    assert_continuous(&world.got(bob, 96));
}
