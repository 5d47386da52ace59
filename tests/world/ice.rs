//! Where a client is, is learnt from authenticated connectivity checks and nothing else.

use std::net::SocketAddr;

use moonring_wire::drops::DropReason;
use moonring_wire::media::CodecName::{Opus, Vp8};
use moonring_wire::rtp::codec::vp8;

use crate::sim::World;
use crate::sim::flows::assert_unbroken;
use crate::sim::stun::check;

#[test]
fn a_publisher_and_a_subscriber_whose_addresses_change_go_on_after_their_next_check() {
    let mut world = World::new(50);
    let (alice, bob) = (world.join("alice"), world.join("bob"));
    let track = world.publish(alice, Opus);
    world.subscribe(bob, &track, Opus);
    world.run_ms(1_000);
    for (who, last) in [(alice, 71), (bob, 72)] {
        world.members[who].address = SocketAddr::from(([192, 168, 7, last], 6_000));
        let unknown = world.drops(DropReason::UnknownAddress);
        world.run_ms(7_000);
        if who == alice {
            assert!(world.drops(DropReason::UnknownAddress) > unknown, "until the check nothing is believed");
        }
        world.forget_received();
        world.run_ms(2_000);
        assert!(world.members[bob].got.len() > 90);
        assert_unbroken(&world.members[bob].got);
    }
    assert!(world.left(alice).is_none() && world.left(bob).is_none());
}

#[test]
fn the_picture_of_a_subscriber_whose_address_fell_silent_goes_on_with_a_key_frame() {
    let mut world = World::new(58);
    let (alice, bob) = (world.join("alice"), world.join("bob"));
    let track = world.publish(alice, Vp8);
    world.subscribe(bob, &track, Vp8);
    world.run_ms(2_000);
    world.forget_received();
    world.members[bob].address = SocketAddr::from(([192, 168, 7, 73], 6_000));
    world.run_ms(8_000);
    let got = world.got(bob, 96);
    assert!(got.len() > 100, "{}", got.len());
    assert!(vp8::inspect(&got[0].head).key_frame);
}

#[test]
fn a_check_with_a_wrong_password_moves_nobody() {
    crate::sim::places::on_one_shard();
    let mut world = World::new(51);
    let (alice, bob) = (world.join("alice"), world.join_raw("bob"));
    let track = world.publish(alice, Opus);
    let mid = moonring_wire::id::Mid::parse("0").unwrap();
    world.raw(bob).sections = vec![crate::sim::raw::section("0", Opus, moonring_wire::negotiate::Direction::RecvOnly)];
    world.offer(bob, vec![], vec![crate::sim::flows::wants(&mid, Some(&track))]);
    world.run_ms(1_000);
    let evil: SocketAddr = "10.66.0.1:6666".parse().unwrap();
    let answer = world.raw(bob).answer.clone().unwrap();
    let user = format!("{}:{}", answer.ice.ufrag, world.raw(bob).ice.ufrag);
    for n in 0..50 {
        let forged = check(&user, "a guess", n);
        assert_eq!(world.inject(evil, &forged), Some(DropReason::StunBadIntegrity));
        assert_eq!(world.answered, 0, "not even an answer");
    }
    world.forget_received();
    world.run_ms(1_000);
    assert!(world.members[bob].got.len() > 45);
}

#[test]
fn an_ice_restart_changes_the_credentials_and_not_the_media() {
    let mut world = World::new(52);
    let (alice, bob) = (world.join("alice"), world.join("bob"));
    let track = world.publish(alice, Vp8);
    world.subscribe(bob, &track, Vp8);
    world.run_ms(1_000);
    for who in [alice, bob] {
        world.forget_received();
        world.peer(who).restart_ice();
        world.offer(who, vec![], vec![]);
        // From another address, as after a change of networks.
        world.members[who].address = SocketAddr::from(([192, 168, 9, who as u8], 7_000));
        world.run_ms(3_000);
        world.forget_received();
        world.run_ms(1_000);
        assert_unbroken(&world.members[bob].got);
    }
}

#[test]
fn after_a_restart_the_old_credentials_end_with_the_first_check_under_the_new_ones() {
    let mut world = World::new(53);
    let who = world.join_raw("alice");
    world.raw(who).sections = vec![crate::sim::raw::section("0", Opus, moonring_wire::negotiate::Direction::SendOnly)];
    world.offer(who, vec![crate::sim::flows::sends("0")], vec![]);
    world.run_ms(500);
    let address = world.members[who].address;
    let old = world.raw(who).check();
    world.raw(who).ice.ufrag = "another1".into();
    world.offer(who, vec![], vec![]);
    world.raw(who).out.clear();
    assert_eq!(world.inject(address, &old), None, "until then they hold: checks under way are answered");
    let new = world.raw(who).check();
    assert_eq!(world.inject(address, &new), None);
    assert_eq!(world.inject(address, &old), Some(DropReason::StunUnknownUser));
    assert!(world.raw(who).connected && world.left(who).is_none());
}
