//! Where clients are: no address is taken over, and none is sent media that nobody is known to be at.

use std::net::SocketAddr;

use moonring_core::command::{Command, Event};
use moonring_loadtest::peer::PeerEvent;
use moonring_wire::drops::DropReason;
use moonring_wire::id::Mid;
use moonring_wire::media::CodecName::Vp8;
use moonring_wire::negotiate::Direction;

use crate::sim::flows::{assert_unbroken, wants};
use crate::sim::raw::section;
use crate::sim::{SERVER, World};

/// Alice publishes to Bob; Mallory is a member of the same room who receives Alice, too.
fn scene(seed: u64) -> (World, usize, usize, usize) {
    let mut world = World::new(seed);
    let (alice, bob, mallory) = (world.join("alice"), world.join("bob"), world.join_raw("mallory"));
    let track = world.publish(alice, Vp8);
    world.subscribe(bob, &track, Vp8);
    let mid = Mid::parse("0").unwrap();
    world.raw(mallory).sections = vec![section("0", Vp8, Direction::RecvOnly)];
    world.offer(mallory, vec![], vec![wants(&mid, Some(&track))]);
    world.run_ms(1_500);
    assert!(world.raw(mallory).connected);
    (world, alice, bob, mallory)
}

/// A nominating check under Mallory's credentials that seems to come from somewhere else.
fn claim(world: &mut World, mallory: usize, from: SocketAddr) -> Option<DropReason> {
    let check = world.raw(mallory).check();
    world.inject(from, &check)
}

#[test]
fn a_members_address_is_not_taken_by_another_members_request() {
    crate::sim::places::on_one_shard();
    let (mut world, alice, bob, mallory) = scene(700);
    for victim in [alice, bob] {
        let address = world.members[victim].address;
        for _ in 0..20 {
            assert_eq!(claim(&mut world, mallory, address), Some(DropReason::StunAddressTaken));
            world.run_ms(300);
        }
    }
    world.forget_received();
    world.run_ms(2_000);
    let got = world.got(bob, 96);
    assert!(got.len() > 100, "{}", got.len());
    assert_unbroken(&got);
    assert!(world.audit().is_empty(), "{:?}", world.audit());
}

#[test]
fn a_third_address_is_sent_one_check_for_each_request_and_no_media() {
    crate::sim::places::on_one_shard();
    let (mut world, _, _, mallory) = scene(701);
    world.raw(mallory).answers_checks = false;
    let target: SocketAddr = "203.0.113.9:9".parse().unwrap();
    let before = world.net_bytes_to(target);
    for _ in 0..20 {
        assert_eq!(claim(&mut world, mallory, target), None);
        world.run_ms(500);
    }
    let sent = world.net_bytes_to(target) - before;
    assert!(sent > 0 && sent <= 20 * 2 * 160, "{sent} bytes for 20 requests of 100");
    let address = world.members[mallory].address;
    assert!(world.net_bytes_to(address) > 100_000, "media goes where the client is");
}

#[test]
fn a_client_that_answers_at_its_new_address_is_sent_media_there_and_without_an_answer_nowhere_else() {
    for answers in [true, false] {
        let (mut world, _, _, mallory) = scene(702);
        world.raw(mallory).answers_checks = answers;
        world.members[mallory].address = "192.168.7.7:7000".parse().unwrap();
        let check = world.raw(mallory).check();
        world.raw(mallory).out.push(check);
        world.run_ms(1_000);
        world.forget_received();
        world.run_ms(2_000);
        assert_eq!(world.members[mallory].got.len() > 100, answers, "answers: {answers}");
    }
}

#[test]
fn a_check_of_a_new_address_that_is_lost_is_sent_again_before_the_clients_next_request() {
    for lost in 1..=2 {
        let (mut world, _, _, mallory) = scene(706);
        world.members[mallory].address = "192.168.7.7:7000".parse().unwrap();
        let check = world.raw(mallory).check();
        world.raw(mallory).out.push(check);
        world.members[mallory].down.loss = 1.0;
        // The first check leaves at once, the next half a second later.
        world.run_ms(if lost == 1 { 200 } else { 800 });
        world.members[mallory].down.loss = 0.0;
        world.run_ms(1_000);
        world.forget_received();
        world.run_ms(500);
        assert!(world.members[mallory].got.len() > 20, "{} after {lost} were lost", world.members[mallory].got.len());
    }
}

#[test]
fn an_address_goes_to_the_client_that_proves_to_be_there() {
    let (mut world, _, bob, mallory) = scene(703);
    // Bob's network has given his address to Mallory, and Bob is elsewhere.
    let address = world.members[bob].address;
    world.members[bob].address = "192.168.8.8:8000".parse().unwrap();
    world.members[mallory].address = address;
    for _ in 0..4 {
        let check = world.raw(mallory).check();
        world.raw(mallory).out.push(check);
        world.run_ms(300);
    }
    world.forget_received();
    world.run_ms(2_000);
    assert!(world.members[mallory].got.len() > 100);
    assert!(world.audit().is_empty(), "{:?}", world.audit());
    // Bob's own next check finds him.
    world.run_ms(6_000);
    world.forget_received();
    world.run_ms(1_000);
    assert!(world.members[bob].got.len() > 50);
}

#[test]
fn ports_cannot_be_swept() {
    crate::sim::places::on_one_shard();
    let (mut world, _, _, mallory) = scene(704);
    world.raw(mallory).answers_checks = false;
    let mut answered = 0;
    for port in 1..=2_000 {
        answered += u32::from(claim(&mut world, mallory, SocketAddr::from(([203, 0, 113, 9], port))).is_none());
    }
    assert!(answered < 30, "{answered}");
    assert!(world.drops(DropReason::StunTooManyAddresses) > 1_900);
    let address = world.members[mallory].address;
    assert_eq!(claim(&mut world, mallory, address), None, "the address that it has stays its own");
}

#[test]
fn an_address_that_was_claimed_before_its_client_came_does_not_keep_that_out() {
    let (mut world, _, _, mallory) = scene(704);
    let late = world.join("late");
    let address = world.members[late].address;
    claim(&mut world, mallory, address);
    world.run_ms(300);
    world.publish(late, Vp8);
    world.run_ms(8_000);
    assert!(world.members[late].told.contains(&PeerEvent::Connected), "{:?}", world.members[late].told);
}

#[test]
fn who_comes_after_the_machine_has_got_another_address_is_told_that_one() {
    crate::sim::places::on_one_shard();
    let mut world = World::new(705);
    let told = |world: &World| {
        let answer = world.events.iter().rev().find_map(|event| match event {
            Event::Answered { answer, .. } => Some(answer.candidates.clone()),
            _ => None,
        });
        answer.unwrap()
    };
    let alice = world.join("alice");
    world.publish(alice, Vp8);
    let before = told(&world);
    // The peers of this world send to the first one.
    let own: Vec<SocketAddr> = [SERVER, "198.51.100.7:40000"].map(|address| address.parse().unwrap()).into();
    world.command(Command::Candidates { own: own.clone(), all: vec![own.clone()] });
    let bob = world.join("bob");
    world.publish(bob, Vp8);
    assert_eq!((before, told(&world)), (vec![SERVER.parse().unwrap()], own));
}
