//! The ways into a call: either DTLS role, the best SRTP profile, a network that loses datagrams.

use std::net::SocketAddr;

use moonring_wire::id::Ssrc;
use moonring_wire::media::CodecName::Opus;
use moonring_wire::negotiate::{Direction, Setup};
use moonring_wire::transport::srtp::SrtpProfile;

use crate::sim::flows::sends;
use crate::sim::raw::{Fields, section};
use crate::sim::{OPEN, World, settings};

/// A client of this setup joins, publishes and sends ten packets; how many of them the server believed.
fn call(world: &mut World, setup: Setup, ms: u64) -> u64 {
    let who = world.join_raw("alice");
    let mut sound = section("0", Opus, Direction::SendOnly);
    sound.ssrcs = vec![(Ssrc(9), None)];
    (world.raw(who).sections, world.raw(who).setup) = (vec![sound], setup);
    world.offer(who, vec![sends("0")], vec![]);
    world.run_ms(ms);
    assert!(world.raw(who).connected, "{setup:?} is connected within {ms} ms: {:?}", world.left(who));
    let address = world.members[who].address;
    for index in 0..10 {
        let fields = Fields { ssrc: 9, pt: 111, index: 65_530 + index, ..Fields::default() };
        let packet = world.raw(who).seal(&fields, &[0xFC; 80]);
        assert_eq!(world.inject(address, &packet), None);
    }
    world.shard.counters().packets_in
}

#[test]
fn either_dtls_role_leads_to_a_call() {
    for setup in [Setup::ActPass, Setup::Active, Setup::Passive] {
        let mut world = World::with(120, settings(), OPEN);
        assert_eq!(call(&mut world, setup, 1_000), 10, "{setup:?}");
    }
}

#[test]
fn the_best_profile_is_taken_of_those_that_both_have() {
    let mut world = World::new(121);
    call(&mut world, Setup::ActPass, 1_000);
    assert_eq!(world.raw(0).profile, Some(SrtpProfile::AeadAes256Gcm));
}

#[test]
fn a_peer_behind_fifteen_percent_loss_still_gets_in_over_ipv6() {
    for seed in 122..152 {
        let mut world = World::new(seed);
        let who = world.join("alice");
        world.members[who].address = SocketAddr::from(([0xFD00, 0, 0, 0, 0, 0, 0, 1], 5_000));
        (world.members[who].up.loss, world.members[who].down.loss) = (0.15, 0.15);
        world.publish(who, Opus);
        world.run_ms(19_000);
        assert!(world.peer(who).is_connected(), "seed {seed}: {:?}", world.left(who));
        assert!(world.shard.counters().packets_in > 100);
    }
}
