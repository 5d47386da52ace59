//! What a subscriber is sent when a publisher begins.

use crate::sim::World;
use crate::slow::{CHROMIUM, Encoder, FRAMES, MARK, scene_of, subscriber};

/// The layers whose packets came, one after the other.
fn layers_of(world: &World, who: usize) -> Vec<u8> {
    let came = world.members[who].got.iter().filter(|got| !got.repaired && got.is_of_picture());
    let mut layers: Vec<u8> = came.map(|got| got.head[MARK]).collect();
    layers.dedup();
    layers
}

/// Chromium's lowest layer comes last, after a silence: nobody watched, or the publisher has just come.
fn begin_from_above(world: &mut World, encoder: &mut Encoder) {
    encoder.frames = [(0, 0), (0, 0), FRAMES[2]];
    (0..3).for_each(|_| encoder.picture(world));
    encoder.frames = [(0, 0), FRAMES[1], FRAMES[2]];
    (0..7).for_each(|_| encoder.picture(world));
    encoder.frames = FRAMES;
    encoder.run(world, 2);
}

/// Found with Chromium and a subscriber behind 200 kbit/s, in seven of 49 calls: it was sent a higher layer for a moment, and saw nothing
/// for up to three seconds.
#[test]
fn who_is_there_before_the_publishers_lowest_layer_waits_for_it() {
    let (mut world, mut encoder, subscribers, _) = scene_of(1_236, &[Some(200_000)], ([(0, 0); 3], 15, 0));
    begin_from_above(&mut world, &mut encoder);
    assert_eq!(layers_of(&world, subscribers[0]), [0]);
    // What is known of the layers from before does not change it.
    let (mut world, mut encoder, _, track) = scene_of(1_238, &[], (FRAMES, 15, 0));
    encoder.frames = [(0, 0); 3];
    encoder.run(&mut world, 5);
    let bob = subscriber(&mut world, "bob", &track, (Some(200_000), 0));
    begin_from_above(&mut world, &mut encoder);
    assert_eq!(layers_of(&world, bob), [0]);
}

#[test]
fn a_lowest_layer_that_does_not_come_is_not_waited_for_for_ever() {
    let (mut world, mut encoder, subscribers, _) = scene_of(1_237, &[None], ([(0, 0); 3], 15, 0));
    encoder.frames = [(0, 0), (0, 0), FRAMES[2]];
    encoder.run(&mut world, 3);
    assert_eq!(layers_of(&world, subscribers[0]), [2]);
}

/// The first probes went no further than what was known of a publisher that was just told to begin: nothing. Chromium behind 3 Mbit/s
/// had the middle layer after four seconds and the top after nine, each with a key frame of all layers.
#[test]
fn who_comes_before_the_publishers_layers_goes_to_the_top_in_one_step() {
    let link = (Some(3_000_000), 8_000);
    let (mut world, mut encoder, _, track) = scene_of(1_239, &[], (CHROMIUM, 15, 0));
    world.run_ms(4_000);
    let bob = subscriber(&mut world, "bob", &track, link);
    encoder.begin_anew();
    encoder.run(&mut world, 8);
    assert_eq!((layers_of(&world, bob), encoder.asked), (vec![0, 2], 1), "what they took before is known");

    let (mut world, mut encoder, _, track) = scene_of(1_240, &[], ([(0, 0); 3], 15, 0));
    let bob = subscriber(&mut world, "bob", &track, link);
    encoder.frames = CHROMIUM;
    encoder.run(&mut world, 8);
    assert_eq!(
        (layers_of(&world, bob), encoder.asked),
        (vec![0, 2], 2),
        "nothing is known; the first key frame is asked for"
    );
}

/// Where the top does not fit, the way there was rehearsed from the lowest layer up, by half as much again each time.
#[test]
fn who_comes_before_the_publishers_layers_soon_has_the_one_that_fits() {
    for (bps, burst) in [(500_000, 0), (500_000, 8_000), (600_000, 8_000), (700_000, 8_000)] {
        let (mut world, mut encoder, _, track) = scene_of(1_300, &[], (CHROMIUM, 15, 0));
        world.run_ms(4_000);
        let (since, bob) = (world.now, subscriber(&mut world, "bob", &track, (Some(bps), burst)));
        encoder.begin_anew();
        encoder.run(&mut world, 9);
        let came = world.members[bob].got.iter().filter(|got| !got.repaired && got.is_of_picture());
        let raised = came.map(|got| (got.head[MARK], got.at - since)).find(|(layer, _)| *layer > 0);
        let (layer, after) = raised.expect("larger pictures");
        assert!(layer == 1 && after.as_millis() < 4_000, "{bps} bit/s: layer {layer} after {after:?}");
        assert_eq!(layers_of(&world, bob), [0, 1], "{bps} bit/s");
    }
}
