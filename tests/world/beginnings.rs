//! What a subscriber is sent when a publisher begins.

use crate::sim::World;
use crate::slow::{FRAMES, MARK, scene_of};

/// The layers whose packets came, one after the other.
fn layers_of(world: &World, who: usize) -> Vec<u8> {
    let came = world.members[who].got.iter().filter(|got| !got.repaired && !got.head.is_empty());
    let mut layers: Vec<u8> = came.map(|got| got.head[MARK]).collect();
    layers.dedup();
    layers
}

/// Found with Chromium and a subscriber behind 200 kbit/s, in three of 22 calls: of the lowest layer the first packets came last. The
/// subscriber was sent a higher one for half a second, and saw nothing for up to three.
#[test]
fn who_is_there_before_the_publishers_lowest_layer_waits_for_it() {
    let (mut world, mut encoder, subscribers, _) = scene_of(1_236, &[Some(200_000)], ([(0, 0); 3], 15, 0));
    let bob = subscribers[0];
    encoder.frames = [(0, 0), (0, 0), FRAMES[2]];
    (0..10).for_each(|_| encoder.picture(&mut world));
    encoder.frames = FRAMES;
    encoder.run(&mut world, 2);
    assert_eq!(layers_of(&world, bob), [0]);
    // Where the lowest never comes, there is no waiting for ever.
    let (mut world, mut encoder, subscribers, _) = scene_of(1_237, &[None], ([(0, 0); 3], 15, 0));
    encoder.frames = [(0, 0), (0, 0), FRAMES[2]];
    encoder.run(&mut world, 3);
    assert_eq!(layers_of(&world, subscribers[0]), [2]);
}
