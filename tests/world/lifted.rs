//! Links that get better: the subscriber has the top layer back within seconds.

use std::time::Duration;

use crate::slow::{CHROMIUM, MARK, freezes, layer_lately, longest_gap, scene, scene_of};

#[test]
fn a_link_that_recovers_gets_the_top_layer_back() {
    let (mut world, mut encoder, subscribers, _) = scene(43, &[None]);
    encoder.run(&mut world, 6);
    let who = subscribers[0];
    assert_eq!(layer_lately(&world, who, 1), Some(2));
    world.members[who].down.rate_bps = Some(600_000);
    encoder.run(&mut world, 15);
    assert!(layer_lately(&world, who, 3) <= Some(1));
    assert!(longest_gap(&world, who, 8) < Duration::from_millis(400), "{:?}", longest_gap(&world, who, 8));
    world.members[who].down.rate_bps = None;
    encoder.run(&mut world, 15);
    assert_eq!(layer_lately(&world, who, 3), Some(2));
}

/// A radio link loses a part of what is sent whatever that is. Each rehearsal of a higher layer was given up for it.
#[test]
fn a_link_that_loses_a_part_of_everything_gets_the_layer_that_it_carries_in_the_end() {
    for (loss, bps, layer) in [(0.06, None, 2), (0.09, None, 2), (0.12, None, 2), (0.12, Some(900_000), 1)] {
        let (mut world, mut encoder, subscribers, _) = scene(210, &[bps]);
        let who = subscribers[0];
        world.members[who].down.loss = loss;
        encoder.run(&mut world, 40);
        assert_eq!(layer_lately(&world, who, 8), Some(layer), "{loss} of all lost, {bps:?} bit/s");
    }
}

/// From the lowest layer to the middle one, and five seconds later to the top: the two seconds that it takes to find out whether
/// the link carries that are among the five.
#[test]
fn what_is_to_be_raised_next_is_rehearsed_while_raises_are_held_up() {
    for seed in 200..206 {
        let (mut world, mut encoder, subscribers, _) = scene_of(seed, &[Some(200_000)], (CHROMIUM, 15, 8_000));
        let who = subscribers[0];
        encoder.run(&mut world, 20);
        world.members[who].down.rate_bps = None;
        let mut until = |layer: u8| {
            for _ in 0..20 * encoder.fps {
                let newest = world.members[who].got.iter().rev().find(|got| got.is_of_picture() && !got.repaired);
                if newest.is_some_and(|got| got.head[MARK] == layer) {
                    break;
                }
                encoder.picture(&mut world);
            }
            world.since_start().as_millis()
        };
        let between = until(1).abs_diff(until(2));
        assert!((5_000..5_600).contains(&between), "seed {seed}: {between} ms from the middle layer to the top");
    }
}

/// The largest pictures take hardly less than the link carries, and their key frames fill its queue: they were tried again every ten
/// seconds or so, and froze each time.
#[test]
fn pictures_of_a_size_that_did_not_stay_come_again_where_there_is_more_room() {
    for seed in 300..304 {
        let (mut world, mut encoder, subscribers, _) = scene_of(seed, &[Some(1_500_000)], (CHROMIUM, 15, 8_000));
        let who = subscribers[0];
        encoder.is_hard = true;
        encoder.run(&mut world, 60);
        let pictures = world.members[who].got.iter().filter(|got| got.is_of_picture() && !got.repaired);
        let mut sizes: Vec<_> = pictures.map(|got| got.head[MARK]).collect();
        sizes.dedup();
        let tries = sizes.iter().filter(|size| **size == 2).count();
        assert_eq!(tries, 1, "seed {seed}");
        world.members[who].down.rate_bps = Some(4_000_000);
        encoder.run(&mut world, 15);
        assert_eq!(layer_lately(&world, who, 3), Some(2), "seed {seed}");
    }
}

/// The lowest layers' key frame and the first probes come through the bucket at any rate: for half a second more arrives than the
/// middle layer takes, of which the link carries half. Chromium behind 200 kbit/s had its picture frozen for three seconds.
#[test]
fn what_a_token_bucket_lets_pass_is_no_reason_to_raise_a_layer() {
    // Over several shards the rate of a layer that does not come here is known later, and a raise to it may be a mistake.
    if crate::sim::places::count() > 1 {
        return;
    }
    for seed in [301, 303, 305] {
        let (mut world, mut encoder, subscribers, _) = scene_of(seed, &[Some(200_000)], (CHROMIUM, 15, 16_000));
        let start = world.now;
        encoder.frames[1] = (2, 900);
        encoder.is_hard = true;
        for n in 0..15 * encoder.fps {
            encoder.frames[0].1 = [560, 880, 560, 1_080][n % 4];
            encoder.picture(&mut world);
        }
        assert_eq!(freezes(&world, subscribers[0], start), [], "seed {seed}");
    }
}
