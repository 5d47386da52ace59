//! Receivers that leave the choice to the server (WHEP): what they see is live, and goes on when publishers come and go.

use moonring_core::command::LeaveCause;
use moonring_wire::id::{Mid, Ssrc};
use moonring_wire::media::CodecName::{H264, Vp8};
use moonring_wire::negotiate::Direction;

use crate::sim::World;
use crate::sim::flows::{sends, wants};
use crate::sim::raw::{Fields, section};

/// A viewer that takes whatever there is.
pub(crate) fn viewer(world: &mut World, name: &str) -> usize {
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

#[test]
fn a_viewer_goes_on_with_a_track_of_a_profile_that_it_was_set_up_for_not_with_the_newest() {
    const CONSTRAINED_BASELINE: &str = "packetization-mode=1;profile-level-id=42e01f";
    let mut world = World::new(75);
    let publish = |world: &mut World, name: &str, fmtp: &str, ssrc: u32| {
        let who = world.join_raw(name);
        let mut sending = section("0", H264, Direction::SendOnly);
        sending.codecs[0].codec.fmtp = fmtp.into();
        sending.ssrcs = vec![(Ssrc(ssrc), None)];
        world.raw(who).sections = vec![sending];
        world.offer(who, vec![sends("0")], vec![]);
        world.run_ms(300);
        who
    };
    let first = publish(&mut world, "first", CONSTRAINED_BASELINE, 1);
    let fitting = publish(&mut world, "fitting", CONSTRAINED_BASELINE, 2);
    let high = publish(&mut world, "high", "packetization-mode=1;profile-level-id=640c1f", 3);
    let no_mode = publish(&mut world, "no_mode", "packetization-mode=0;profile-level-id=42e01f", 4);
    // Pictures of one NAL unit, each an IDR, that say whose they are.
    let film = |world: &mut World, pictures: u64| {
        for index in 0..pictures {
            for who in [first, fitting, high, no_mode] {
                if world.left(who).is_some() {
                    continue;
                }
                let at = world.since_start().as_micros() as u64;
                let fields = Fields {
                    ssrc: who as u32 + 1,
                    pt: 96,
                    index: at / 33_000,
                    timestamp: (at * 9 / 100) as u32,
                    marker: true,
                    ..Fields::default()
                };
                let packet = world.raw(who).seal(&fields, &[0x65, 0x88, who as u8, index as u8]);
                world.raw(who).out.push(packet);
            }
            world.run_ms(33);
        }
    };
    let viewer = world.join_raw("viewer");
    let mut receiving = section("0", H264, Direction::RecvOnly);
    receiving.codecs[0].codec.fmtp = CONSTRAINED_BASELINE.into();
    world.raw(viewer).sections = vec![receiving];
    film(&mut world, 10);
    let mid = Mid::parse("0").unwrap();
    world.offer(viewer, vec![], vec![wants(&mid, None)]);
    world.run_ms(300);
    film(&mut world, 60);
    let sources =
        |world: &World| world.members[viewer].got.iter().map(|got| usize::from(got.head[2])).collect::<Vec<_>>();
    let seen = sources(&world);
    // The newest that suits: single NAL units, all of mode 0, go to every receiver.
    assert!(seen.len() > 30 && seen.iter().all(|who| *who == no_mode), "{seen:?}");
    for (gone, next) in [(no_mode, fitting), (fitting, first)] {
        world.leave(gone);
        world.forget_received();
        film(&mut world, 90);
        let seen = sources(&world);
        assert!(seen.len() > 30 && seen.iter().all(|who| *who == next), "{seen:?} after {gone}");
    }
}
