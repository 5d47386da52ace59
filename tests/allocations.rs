//! What a forwarded packet costs in allocations after warm-up: none. And what is over gives its memory back.
#![allow(missing_docs, reason = "tests")]

#[allow(dead_code, reason = "the world has more than is needed here")]
#[path = "world/sim/mod.rs"]
mod sim;

// Per thread, so that tests do not see each other.
#[allow(unreachable_pub, reason = "the benchmarks' own")]
#[path = "../benches/common/counting.rs"]
mod counting;

use std::time::Duration;

use counting::{Counting, allocations, live_bytes};

use moonring_core::command::Command;
use moonring_wire::id::{Mid, Ssrc, TrackId};
use moonring_wire::media::CodecName::{Opus, Vp8};
use moonring_wire::negotiate::Direction;
use moonring_wire::packet::SendBatch;

use sim::World;
use sim::flows::{sends, wants};
use sim::raw::{Fields, section};

#[global_allocator]
static COUNTING: Counting = Counting;

const SUBSCRIBERS: usize = 50;

/// A publisher of sound (SSRC 31) and pictures (SSRC 32), and those who receive both.
fn scene() -> (World, usize) {
    let mut world = World::new(110);
    let alice = world.join_raw("alice");
    let mut sections = vec![section("0", Opus, Direction::SendOnly), section("1", Vp8, Direction::SendOnly)];
    (sections[0].ssrcs, sections[1].ssrcs) = (vec![(Ssrc(31), None)], vec![(Ssrc(32), None)]);
    world.raw(alice).sections = sections;
    let outcomes = world.offer(alice, vec![sends("0"), sends("1")], vec![]);
    let tracks: Vec<TrackId> = outcomes.into_iter().map(|outcome| outcome.track.unwrap().id).collect();
    let mids = ["0", "1"].map(|mid| Mid::parse(mid).unwrap());
    for n in 0..SUBSCRIBERS {
        let bob = world.join_raw(&format!("bob{n}"));
        world.raw(bob).sections = vec![section("0", Opus, Direction::RecvOnly), section("1", Vp8, Direction::RecvOnly)];
        world.offer(bob, vec![], vec![wants(&mids[0], Some(&tracks[0])), wants(&mids[1], Some(&tracks[1]))]);
    }
    world.run_ms(1_000);
    assert!((1..=SUBSCRIBERS).all(|who| world.raw(who).connected));
    (world, alice)
}

/// One packet in, all forwards out; the datagrams and the allocations.
fn forward(world: &mut World, alice: usize, packet: &mut [u8], out: &mut SendBatch) -> (usize, u64) {
    let from = world.members[alice].address;
    let before = allocations();
    world.shard.handle_datagram(world.now, from, packet, out);
    let mut datagrams = 0;
    while world.shard.forward(world.now, out) {
        datagrams += out.datagrams();
        out.clear();
    }
    let allocations = allocations() - before;
    datagrams += out.datagrams();
    out.clear();
    (datagrams, allocations)
}

#[test]
fn a_forwarded_packet_allocates_nothing_after_warm_up() {
    let (mut world, alice) = scene();
    let mut out = SendBatch::new(1 << 20, 1_024);
    // (SSRC, payload type, payload bytes, packets in a second, first index, whether pictures have temporal layers)
    let streams =
        [(31, 111, 160, 50_u64, 100, false), (32, 96, 1_100, 250, 100, false), (32, 96, 1_100, 250, 9_000, true)];
    for (ssrc, pt, len, per_second, first, has_layers) in streams {
        let (mut measured, mut allocated) = (0, Vec::new());
        for n in 0..per_second * 6 {
            let is_first = n == 0;
            let mut payload = vec![if pt == 96 && is_first { 0x10 } else { 0 }; len];
            payload[1] = u8::from(pt == 96 && !is_first);
            payload[4..7].copy_from_slice(&[0x9D, 0x01, 0x2A]);
            if pt == 96 {
                payload[0] = 0x10;
            }
            if has_layers {
                let temporal = [0, 2, 1, 2][n as usize % 4];
                payload[..7].copy_from_slice(&[0x90, 0xE0, 0x80, n as u8, 0, temporal << 6 | 0x20, 1]);
            }
            let fields =
                Fields { ssrc, pt, index: first + n, timestamp: (first + n) as u32 * 3_000, ..Fields::default() };
            let mut packet = world.raw(alice).seal(&fields, &payload);
            let (datagrams, allocations) = forward(&mut world, alice, &mut packet, &mut out);
            // After the warm-up: the history has its size, queues have theirs.
            if n > per_second * 3 {
                assert_eq!(datagrams, SUBSCRIBERS, "packet {n} of {ssrc}");
                measured += 1;
                if allocations > 0 {
                    allocated.push((n, allocations));
                }
            }
            world.run(Duration::from_micros(1_000_000 / per_second));
            world.members.iter_mut().for_each(|member| member.got.clear());
        }
        assert!(measured > 100);
        assert!(allocated.is_empty(), "SSRC {ssrc}: (packet, allocations) {allocated:?} of {measured} packets");
    }
}

#[test]
fn a_packet_that_goes_to_another_shard_allocates_nothing_there_nor_here() {
    sim::places::over_three_shards();
    let mut world = World::new(113);
    let (alice, bob) = (world.join_raw("alice"), world.join_raw("bob"));
    let mut sections = vec![section("0", Vp8, Direction::SendOnly)];
    sections[0].ssrcs = vec![(Ssrc(32), None)];
    world.raw(alice).sections = sections;
    let track = world.offer(alice, vec![sends("0")], vec![])[0].track.clone().unwrap().id;
    world.raw(bob).sections = vec![section("0", Vp8, Direction::RecvOnly)];
    world.offer(bob, vec![], vec![wants(&Mid::parse("0").unwrap(), Some(&track))]);
    world.run_ms(1_000);
    let (mut home, mut wing) = (SendBatch::new(1 << 20, 1_024), SendBatch::new(1 << 20, 1_024));
    let server = sim::SERVER.parse::<std::net::SocketAddr>().unwrap();
    let mut allocated = Vec::new();
    for n in 0..1_500_u64 {
        let fields = Fields { ssrc: 32, pt: 96, index: 100 + n, timestamp: n as u32 * 3_000, ..Fields::default() };
        let mut payload = vec![0; 1_100];
        payload[..7].copy_from_slice(&[0x10, u8::from(n > 0), 0, 0, 0x9D, 0x01, 0x2A]);
        let mut packet = world.raw(alice).seal(&fields, &payload);
        let (from, now) = (world.members[alice].address, world.now);
        let before = allocations();
        world.shard.handle_datagram(now, from, &mut packet, &mut home);
        assert!(!world.shard.forward(now, &mut home));
        let here = allocations() - before;
        let mut relayed: Vec<Vec<u8>> = home.iter().map(|(_, datagram)| datagram.to_vec()).collect();
        home.clear();
        let before = allocations();
        for datagram in &mut relayed {
            world.others[0].handle_datagram(now, server, datagram, &mut wing);
        }
        assert!(!world.others[0].forward(now, &mut wing));
        let there = allocations() - before;
        // After the warm-up: the histories have their size.
        if n > 1_000 {
            assert_eq!((relayed.len(), wing.datagrams()), (1, 1), "packet {n}");
            allocated.extend((here + there > 0).then_some((n, here, there)));
        }
        wing.clear();
        world.run(Duration::from_millis(4));
        world.members.iter_mut().for_each(|member| member.got.clear());
    }
    assert!(allocated.is_empty(), "(packet, allocations at home, at the wing) {allocated:?}");
}

#[test]
fn a_packet_that_goes_to_another_node_and_on_to_its_other_shard_allocates_nothing_anywhere() {
    sim::places::over_two_nodes();
    let mut world = World::new(114);
    let [alice, .., dan] = ["alice", "bob", "carol", "dan"].map(|name| world.join_raw(name));
    let mut sections = vec![section("0", Vp8, Direction::SendOnly)];
    sections[0].ssrcs = vec![(Ssrc(32), None)];
    world.raw(alice).sections = sections;
    let track = world.offer(alice, vec![sends("0")], vec![])[0].track.clone().unwrap().id;
    world.raw(dan).sections = vec![section("0", Vp8, Direction::RecvOnly)];
    world.offer(dan, vec![], vec![wants(&Mid::parse("0").unwrap(), Some(&track))]);
    world.run_ms(1_000);
    let mut out = SendBatch::new(1 << 20, 1_024);
    let address = |place: u8| std::net::SocketAddr::from(([10, 0, 0, 1 + place], 40_000));
    let mut allocated = Vec::new();
    for n in 0..1_500_u64 {
        let fields = Fields { ssrc: 32, pt: 96, index: 100 + n, timestamp: n as u32 * 3_000, ..Fields::default() };
        let mut payload = vec![0; 1_100];
        payload[..7].copy_from_slice(&[0x10, u8::from(n > 0), 0, 0, 0x9D, 0x01, 0x2A]);
        let packet = world.raw(alice).seal(&fields, &payload);
        let (mut from, now) = (world.members[alice].address, world.now);
        let mut datagrams = vec![packet];
        // The home, the lead of the other node, its sibling.
        for place in [0, 2, 3] {
            let before = allocations();
            let shard = world.shard_at(place);
            for datagram in &mut datagrams {
                shard.handle_datagram(now, from, datagram, &mut out);
            }
            assert!(!shard.forward(now, &mut out));
            let made = allocations() - before;
            // After the warm-up: the histories have their size.
            if n > 1_000 {
                assert_eq!(out.datagrams(), 1, "packet {n} at shard {place}");
                allocated.extend((made > 0).then_some((n, place, made)));
            }
            datagrams = out.iter().map(|(_, datagram)| datagram.to_vec()).collect();
            from = address(place as u8);
            out.clear();
        }
        world.run(Duration::from_millis(4));
        world.members.iter_mut().for_each(|member| member.got.clear());
    }
    assert!(allocated.is_empty(), "(packet, shard, allocations) {allocated:?}");
}

#[test]
fn whoever_leaves_takes_all_its_memory_along() {
    let mut world = World::new(111);
    let anchor = world.join_raw("anchor");
    let mut live = Vec::new();
    for round in 0..200_u32 {
        let who = world.join_raw("visitor");
        let mut video = section("0", Vp8, Direction::SendOnly);
        video.ssrcs = vec![(Ssrc(32), None)];
        world.raw(who).sections = vec![video];
        world.offer(who, vec![sends("0")], vec![]);
        world.run_ms(300);
        for n in 0..if round == 0 { 1_000 } else { 10_u64 } {
            let fields = Fields { ssrc: 32, pt: 96, index: n, timestamp: n as u32, ..Fields::default() };
            let packet = world.raw(who).seal(&fields, &[0x10; 1_100]);
            let from = world.members[who].address;
            assert_eq!(world.inject(from, &packet), None);
        }
        if round == 0 {
            let held = live_bytes();
            world.leave(who);
            assert!(held - live_bytes() > 1_000_000, "the history of the track is given back");
        } else {
            world.leave(who);
        }
        world.run_ms(2_000);
        world.members.truncate(anchor + 1);
        world.events.clear();
        live.push(live_bytes());
    }
    let growth = live[199] - live[99];
    assert!(growth < 20_000, "{growth} bytes more after 100 visitors: {live:?}");
}

#[test]
fn restarts_and_offers_leave_nothing_behind() {
    let mut world = World::new(112);
    let who = world.join_raw("alice");
    world.raw(who).sections = vec![section("0", Opus, Direction::SendOnly)];
    let track = world.offer(who, vec![sends("0")], vec![])[0].track.clone().unwrap().id;
    world.run_ms(500);
    let mut live = Vec::new();
    for n in 0..2_000 {
        world.raw(who).ice.ufrag = format!("restart{n:06}");
        world.offer(who, vec![], vec![]);
        if n % 2 == 0 {
            world.run_ms(50);
        }
        let muted = n % 2 == 0;
        world.command(Command::SetMuted { client: world.id(who), track: track.clone(), muted });
        world.events.clear();
        live.push(live_bytes());
    }
    let growth = live[1_999] - live[999];
    assert!(growth < 20_000, "{growth} bytes more after 1,000 restarts");
    assert!(world.left(who).is_none());
}
