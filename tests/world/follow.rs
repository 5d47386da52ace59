//! Receivers that leave the choice to the server (WHEP): what they see is live, and goes on when publishers come and go.

use moonring_core::command::LeaveCause;
use moonring_wire::media::CodecName::Vp8;

use crate::sim::World;
use crate::sim::flows::wants;

/// A viewer that takes whatever there is.
fn viewer(world: &mut World, name: &str) -> usize {
    let who = world.join(name);
    let mid = world.peer(who).receive(Vp8);
    world.offer(who, vec![], vec![wants(&mid, None)]);
    who
}

fn pictures(world: &World, who: usize) -> usize {
    world.members[who].got.iter().filter(|got| got.marker).count()
}

/// Stops what `who` sends, without a word.
fn fall_silent(world: &mut World, who: usize) {
    world.members[who].paused = true;
}

#[test]
fn a_newcomer_sees_the_track_that_packets_come_of_not_the_dead_one() {
    let mut world = World::new(71);
    let dead = world.join("dead");
    world.publish(dead, Vp8);
    fall_silent(&mut world, dead);
    let live = world.join("live");
    world.publish(live, Vp8);
    let silent = world.join("silent");
    world.publish(silent, Vp8);
    fall_silent(&mut world, silent);
    world.run_ms(3_000);
    let viewer = viewer(&mut world, "viewer");
    world.run_ms(2_000);
    assert!(pictures(&world, viewer) > 30, "{}", pictures(&world, viewer));
}

#[test]
fn a_viewer_goes_on_with_the_next_publisher_under_the_same_ssrc() {
    let mut world = World::new(72);
    let first = world.join("first");
    world.publish(first, Vp8);
    world.run_ms(1_000);
    let viewer = viewer(&mut world, "viewer");
    world.run_ms(2_000);
    world.leave(first);
    world.run_ms(3_000);
    let before = pictures(&world, viewer);
    let second = world.join("second");
    world.publish(second, Vp8);
    world.run_ms(3_000);
    assert!(pictures(&world, viewer) > before + 30);
    let ssrcs: std::collections::BTreeSet<_> =
        world.members[viewer].got.iter().filter(|got| !got.repaired).map(|got| got.ssrc).collect();
    assert_eq!(ssrcs.len(), 1);
}

#[test]
fn a_viewer_leaves_a_track_that_fell_silent_for_one_that_lives() {
    let mut world = World::new(73);
    let first = world.join("first");
    world.publish(first, Vp8);
    world.run_ms(1_000);
    let viewer = viewer(&mut world, "viewer");
    world.run_ms(1_000);
    let second = world.join("second");
    world.publish(second, Vp8);
    world.run_ms(1_000);
    fall_silent(&mut world, first);
    world.run_ms(6_000);
    let before = pictures(&world, viewer);
    world.run_ms(1_000);
    assert!(pictures(&world, viewer) >= before + 20);
}

#[test]
fn a_viewer_of_nothing_is_ended_after_the_grace_period_with_words() {
    let mut world = World::new(74);
    let first = world.join("first");
    world.publish(first, Vp8);
    world.run_ms(1_000);
    let viewer = viewer(&mut world, "viewer");
    world.run_ms(1_000);
    world.leave(first);
    world.run_ms(19_000);
    assert_eq!(world.left(viewer), None);
    world.run_ms(3_000);
    let Some(LeaveCause::TransportFailed(words)) = world.left(viewer) else { panic!("{:?}", world.left(viewer)) };
    assert_eq!(words, "nothing has been published for 20 s");
}
