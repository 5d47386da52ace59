//! A thousand moves at random, over links that lose and reorder.

use std::time::Duration;

use moonring_core::command::Command;
use moonring_wire::media::CodecName::{Opus, Vp8};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use crate::moves::{assert_complete, assert_sealed_once, lacking, three};
use crate::sim::{OPEN, World, library};

/// Moves of one world.
const MOVES: usize = 50;

/// What happens beside the moves.
#[derive(Clone, Copy, Default)]
struct Trouble {
    /// Share of the datagrams between shards that are lost.
    loss: f64,
    /// Up to so many milliseconds are datagrams between shards held up, at random.
    jitter_ms: u64,
    /// Scripts are changed meanwhile.
    reloads: bool,
}

/// Two publishers and three receivers move at random, alone and together.
fn run(seed: u64, trouble: Trouble) -> usize {
    let (mut world, [alice, bob, carol]) = three(seed, OPEN);
    let mut rng = SmallRng::seed_from_u64(world.seed);
    world.between.loss = trouble.loss;
    world.between.jitter = Duration::from_millis(trouble.jitter_ms);
    let picture = world.publish(alice, Vp8);
    let voice = world.publish(bob, Opus);
    let members = [alice, bob, carol];
    for who in [bob, carol] {
        world.subscribe(who, &picture, Vp8);
    }
    for who in [alice, carol] {
        world.subscribe(who, &voice, Opus);
    }
    world.run_ms(1_500);
    world.forget_received();
    world.run_ms(500);
    let mut tried = 0;
    while world.moved < MOVES && tried < 4 * MOVES {
        tried += 1;
        for _ in 0..rng.random_range(1..=3) {
            let who = members[rng.random_range(0..members.len())];
            let to = rng.random_range(0..3);
            // It is there, on its way, or has just come.
            let _ = world.begin_move(who, to);
            if rng.random_bool(0.5) {
                world.run_ms(rng.random_range(0..60));
            }
        }
        if trouble.reloads && rng.random_bool(0.3) {
            world.command(Command::Scripts(library(&format!("{OPEN} -- {tried}"))));
        }
        world.run_ms(rng.random_range(100..500));
    }
    world.run_ms(2_000);
    check(&world, [alice, bob, carol], trouble);
    world.run_ms(8_000);
    assert_eq!(world.audit(), Vec::<String>::new(), "WORLD_SEED={}", world.seed);
    world.moved
}

fn check(world: &World, [alice, bob, carol]: [usize; 3], trouble: Trouble) {
    assert_sealed_once(world);
    for who in [bob, carol] {
        assert_complete(world, who, &[96, 97]);
    }
    for who in [alice, carol] {
        // These peers do not send sound again: what is lost of it on its way to the former shard, and from there on, is
        // lost as on any path.
        let lost = lacking(world, who, &[111]).len();
        assert!(lost <= if trouble.loss > 0.0 { 3 } else { 0 }, "{lost}, WORLD_SEED={}", world.seed);
    }
    for who in [alice, bob, carol] {
        assert_eq!(world.left(who), None, "WORLD_SEED={}", world.seed);
    }
}

#[test]
fn nothing_is_lost_doubled_or_sealed_twice_in_hundreds_of_moves() {
    let moved: usize = (0..8).map(|n| run(1_300 + n, Trouble::default())).sum();
    assert!(moved >= 400, "{moved}");
}

#[test]
fn nothing_is_lost_in_hundreds_of_moves_over_links_that_lose_and_reorder() {
    let moved: usize = (0..8).map(|n| run(1_320 + n, Trouble { loss: 0.02, jitter_ms: 5, reloads: false })).sum();
    assert!(moved >= 400, "{moved}");
}

#[test]
fn nothing_is_lost_in_hundreds_of_moves_while_scripts_change() {
    let moved: usize = (0..4).map(|n| run(1_340 + n, Trouble { reloads: true, ..Trouble::default() })).sum();
    assert!(moved >= 200, "{moved}");
}
