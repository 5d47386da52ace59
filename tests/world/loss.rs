//! What gets lost is sent again, on both ways.

use std::time::Duration;

use moonring_wire::id::{Mid, Ssrc};
use moonring_wire::media::CodecName::{Opus, Vp8};
use moonring_wire::negotiate::Direction;

use crate::sim::World;
use crate::sim::flows::{sends, wants};
use crate::sim::net::Link;
use crate::sim::raw::{Fields, section};

/// Publishes for `seconds` over these links; (packets sent, packets received, repaired, resent by the publisher).
fn call(seed: u64, up: Link, down: Link, seconds: u64) -> (u64, u64, u64, u64) {
    let mut world = World::new(seed);
    let (alice, bob) = (world.join("alice"), world.join("bob"));
    let track = world.publish(alice, Vp8);
    world.subscribe(bob, &track, Vp8);
    world.run_ms(1_000);
    (world.members[alice].up, world.members[bob].down) = (up, down);
    world.forget_received();
    let before = world.peer(bob).streams()[0].counts();
    let resent = world.peer(alice).sent().resent;
    world.run(Duration::from_secs(seconds));
    world.members[alice].paused = true;
    world.run_ms(500);
    let after = world.peer(bob).streams()[0].counts();
    let sent = world.members[alice].sent.len() as u64;
    let resent = world.peer(alice).sent().resent - resent;
    (sent, after.received - before.received, after.repaired - before.repaired, resent)
}

#[test]
fn a_subscriber_behind_five_percent_loss_gets_nearly_all_by_retransmission() {
    let (sent, received, repaired, _) = call(20, Link::GOOD, Link::lossy(0.05), 20);
    assert!(received as f64 > sent as f64 * 0.998, "{received} of {sent}");
    assert!(repaired > sent / 30, "{repaired} of {sent} were repaired");
}

#[test]
fn what_a_publisher_loses_is_asked_for_by_the_server_and_reaches_subscribers() {
    let (sent, received, repaired, resent) = call(21, Link::lossy(0.05), Link::GOOD, 20);
    assert!(resent > sent / 30, "{resent} of {sent} were sent again");
    assert!(received as f64 > sent as f64 * 0.998, "{received} of {sent}");
    // The server forwards what comes late; now and then the subscriber was faster in asking.
    assert!(repaired < resent, "{repaired} of {resent}");
}

#[test]
fn loss_reordering_duplicates_and_jitter_on_both_ways_still_leave_a_picture() {
    let bad = Link { loss: 0.03, duplicates: 0.02, jitter: Duration::from_millis(15), ..Link::GOOD };
    for seed in [22, 23, 24] {
        let (sent, received, ..) = call(seed, bad, bad, 10);
        assert!(received as f64 > sent as f64 * 0.99 && received <= sent + 10, "seed {seed}: {received} of {sent}");
    }
}

#[test]
fn a_bottleneck_that_is_wide_enough_but_queues_does_no_harm() {
    let narrow = Link { rate_bps: Some(3_000_000), ..Link::GOOD };
    let (sent, received, ..) = call(25, Link::GOOD, narrow, 10);
    assert!(received as f64 > sent as f64 * 0.998, "{received} of {sent}");
}

#[test]
fn a_packet_comes_as_retransmission_in_a_stream_of_its_own_and_only_while_it_is_kept() {
    let mut world = World::new(26);
    let (alice, bob) = (world.join_raw("alice"), world.join_raw("bob"));
    let mid = Mid::parse("0").unwrap();
    let mut sending = section("0", Vp8, Direction::SendOnly);
    sending.ssrcs = vec![(Ssrc(500), Some(Ssrc(501)))];
    world.raw(alice).sections = vec![sending];
    let track = world.offer(alice, vec![sends("0")], vec![])[0].track.clone().unwrap().id;
    world.raw(bob).sections = vec![section("0", Vp8, Direction::RecvOnly)];
    world.offer(bob, vec![], vec![wants(&mid, Some(&track))]);
    world.run_ms(300);
    for index in 0..20_u64 {
        let payload = [if index == 0 { 0x10 } else { 0x00 }, 0x00, index as u8, 0, 0x9d, 0x01, 0x2a];
        let fields = Fields { ssrc: 500, pt: 96, index: 65_530 + index, timestamp: 9, ..Fields::default() };
        let packet = world.raw(alice).seal(&fields, &payload);
        world.raw(alice).out.push(packet);
        world.run_ms(5);
    }
    world.run_ms(50);
    let got = world.got(bob, 96);
    assert_eq!(got.len(), 20);
    let stream = world.raw(bob).stream(&mid).unwrap();
    let (wanted, never) = (got[7].sequence, got[19].sequence.wrapping_add(1));
    let ask = |world: &mut World, sequences: &[u16]| {
        let nack = world.raw(bob).control(|w| w.nack(Ssrc(1), stream.ssrc, sequences).unwrap());
        world.raw(bob).out.push(nack);
        world.run_ms(50);
    };
    ask(&mut world, &[wanted, never]);
    let again = world.got(bob, 97);
    assert_eq!(again.len(), 1);
    assert_eq!((again[0].ssrc, again[0].timestamp), (stream.rtx_ssrc.unwrap(), 9));
    // RFC 4588 section 4: the original sequence number, then the original payload.
    assert_eq!(again[0].head[..2], wanted.to_be_bytes());
    assert_eq!(again[0].head[2..5], got[7].head[..3]);
    assert_eq!(world.resent(), 1);
    world.run_ms(1);
    ask(&mut world, &[got[3].sequence, got[3].sequence]);
    assert!(world.got(bob, 97).len() >= 2);
}

#[test]
fn sound_is_neither_asked_for_again_nor_broken_by_loss() {
    let mut world = World::new(27);
    let (alice, bob) = (world.join("alice"), world.join("bob"));
    let track = world.publish(alice, Opus);
    world.subscribe(bob, &track, Opus);
    world.run_ms(1_000);
    world.members[alice].up = Link::lossy(0.1);
    world.run_ms(10_000);
    assert_eq!(world.peer(alice).sent().resent, 0);
    let counts = world.peer(bob).streams()[0].counts();
    // The publisher's gaps stay gaps: the receiver's jitter buffer must see them to conceal them.
    let lost = (counts.expected - counts.received) as f64 / counts.expected as f64;
    assert!((0.06..0.13).contains(&lost), "{counts:?}");
}
