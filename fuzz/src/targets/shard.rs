//! Datagrams into a shard with a call: from a client that means ill, and from strangers.

use std::net::SocketAddr;

use moonring::id::Ssrc;
use moonring::media::CodecName::{Opus, Vp8, Vp9};
use moonring::negotiate::Direction;

use super::text::POLICY;
use super::{Parts, joined, media};
use crate::sim::World;
use crate::sim::flows::{sends, wants};
use crate::sim::raw::section;

/// Said when a panic was contained.
pub(super) const PANICS: &str = "a panic was contained, which ends a client or a room";
/// Datagrams of one input.
const MOST: usize = 40;

/// Datagrams, each behind a byte that says who sends it: sealed or not by a client that publishes and receives, not
/// sealed by a stranger; or that time passes.
pub(super) fn shard(bytes: &[u8]) {
    let (mut world, mallory, bob) = call();
    let stranger: SocketAddr = ([10, 66, 0, 1], 6_666).into();
    let known = [mallory, bob].map(|who| world.members[who].address);
    for part in Parts(bytes).take(MOST) {
        let Some((kind, datagram)) = part.split_first() else { continue };
        match kind {
            0..100 => {
                if let Some(sealed) = world.raw(mallory).seal_any(datagram) {
                    world.inject(known[0], &sealed);
                }
            }
            100..130 => _ = world.inject(known[0], datagram),
            130..160 => _ = world.inject(known[1], datagram),
            160..180 => _ = world.inject(stranger, datagram),
            180.. => world.run_ms(u64::from(kind - 180)),
        }
    }
    world.run_ms(20);
    assert_eq!(world.shard.counters().panics, 0, "{PANICS}");
    assert!(world.left(bob).is_none(), "somebody else's session ended");
}

/// Mallory sends sound as SSRC 900, VP8 as 901 and VP9 as 902, and receives Bob's sound; Bob receives hers.
fn call() -> (World, usize, usize) {
    let mut world = World::ruled(1, POLICY);
    let (mallory, bob) = (world.join_raw("mallory"), world.join("bob"));
    let track = world.publish(bob, Opus);
    let sections = [("0", Opus, 900), ("1", Vp8, 901), ("2", Vp9, 902)].map(|(mid, codec, ssrc)| {
        let mut section = section(mid, codec, Direction::SendOnly);
        section.ssrcs = vec![(Ssrc(ssrc), None)];
        section
    });
    let receives = section("3", Opus, Direction::RecvOnly);
    let wanted = wants(&receives.mid, Some(&track));
    world.raw(mallory).sections = sections.into_iter().chain([receives]).collect();
    let outcomes = world.offer(mallory, ["0", "1", "2"].map(sends).to_vec(), vec![wanted]);
    let published: Vec<_> = outcomes.into_iter().filter_map(|outcome| outcome.track).take(2).collect();
    for (track, codec) in published.iter().zip([Opus, Vp8]) {
        world.subscribe(bob, &track.id, codec);
    }
    for _ in 0..100 {
        if world.raw(mallory).connected && world.peer(bob).is_connected() {
            return (world, mallory, bob);
        }
        world.run_ms(5);
    }
    panic!("the call did not connect");
}

pub(super) fn shard_seeds() -> Vec<Vec<u8>> {
    let with = |kind: u8, bytes: &[u8]| [&[kind], bytes].concat();
    let rtp = |ssrc: u32, pt: u8, sequence: u8, payload: &[u8]| {
        [&[0, 0x80, pt, 0, sequence, 0, 0, 0, sequence], &ssrc.to_be_bytes()[..], payload].concat()
    };
    let vp8 = [0x90, 0xE0, 0x81, 0x23, 5, 0x20, 0, 0, 0, 1, 2, 3];
    let mut talk: Vec<_> = (0..6).map(|n| rtp(901, 96, n * 2, &vp8)).collect();
    talk.extend((0..4).map(|n| rtp(900, 111, n, &[0xFC, 1, 2, 3])));
    talk.insert(5, vec![220]);
    let reports: Vec<_> = media::rtcp_seeds().iter().map(|report| with(0, report)).collect();
    let records: Vec<_> = [110, 140, 170]
        .iter()
        .map(|kind| with(*kind, &[22, 0xFE, 0xFD, 0, 0, 0, 0, 0, 0, 0, 1, 0, 4, 1, 2, 3, 4]))
        .collect();
    let parts = [talk, reports, records];
    parts.iter().map(|parts| joined(parts.iter().map(Vec::as_slice))).collect()
}
