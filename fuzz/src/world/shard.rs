//! Datagrams into a shard with a call: from a client that means ill, and from strangers.

use std::net::SocketAddr;
use std::time::Duration;

use moonring_core::command::Command;
use moonring_wire::id::{Pt, Ssrc};
use moonring_wire::media::CodecName::{Opus, Vp8};
use moonring_wire::media::Extension;
use moonring_wire::negotiate::Direction;
use moonring_wire::rtp::header::{NewHeader, write_header};
use moonring_wire::rtp::rtcp::Writer;

use super::estimator::feedback;
use super::{PANICS, POLICY, Parts, joined};
use crate::sim::World;
use crate::sim::flows::{sends, wants};
use crate::sim::raw::{REPAIRED_RID_ID, RID_ID, section, simulcast};

/// Datagrams of one input.
const MOST: usize = 40;
/// Beside those that carry the names of sections and layers.
const EXTENSIONS: [(u8, Extension); 6] = [
    (1, Extension::AudioLevel),
    (2, Extension::AbsSendTime),
    (3, Extension::TransportSequence),
    (5, Extension::VideoOrientation),
    (6, Extension::PlayoutDelay),
    (12, Extension::DependencyDescriptor),
];

/// Datagrams, each behind a byte that says who sends it: sealed or not by a client that publishes and receives, not
/// sealed by another or by a stranger; or that a packet is asked for again, that the first one claims an address of
/// another, offers anew or changes a track, or that time passes.
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
            130..150 => _ = world.inject(known[1], datagram),
            150..170 => _ = world.inject(stranger, datagram),
            170..180 => ask_again(&mut world, mallory, datagram),
            180..190 => {
                // Under her own credentials, from the other's address or a third one.
                let check = world.raw(mallory).check();
                world.inject(if datagram.is_empty() { stranger } else { known[1] }, &check);
            }
            190..195 => drop(world.offer(mallory, vec![], vec![])),
            195..200 => {
                let (who, nth) = (if kind % 2 == 0 { mallory } else { bob }, datagram.first().copied().unwrap_or(0));
                change(&mut world, who, nth);
            }
            // Up to six seconds: reports, time-outs, consent.
            200.. => world.run_ms(2 * u64::from(kind - 200).pow(2)),
        }
    }
    world.run_ms(20);
    assert_eq!(world.shard.counters().panics, 0, "{PANICS}");
    assert!(world.left(bob).is_none(), "somebody else's session ended");
    assert_eq!(world.shard.audit(), Vec::<String>::new(), "the tables do not agree");
}

/// Unpublishes a track, or mutes it.
fn change(world: &mut World, who: usize, nth: u8) {
    let client = world.id(who);
    let tracks: Vec<_> = world.published_by(who);
    let Some(track) = tracks.get(usize::from(nth) % tracks.len().max(1)).cloned() else { return };
    world.command(match nth % 2 {
        0 => Command::Unpublish { client, track },
        _ => Command::SetMuted { client, track, muted: nth % 4 == 1 },
    });
}

/// A NACK for packets so far before the last one that came.
fn ask_again(world: &mut World, who: usize, backwards: &[u8]) {
    let Some(last) = world.got(who, 96).pop() else { return };
    let sequences: Vec<_> = backwards.iter().map(|back| last.sequence.wrapping_sub((*back).into())).collect();
    let sealed = world.raw(who).control(|writer| _ = writer.nack(Ssrc(1), last.ssrc, &sequences));
    world.inject(world.members[who].address, &sealed);
}

/// Mallory sends sound as SSRC 900, VP8 as 901, and VP8 in layers `q` and `h`; she receives Bob's sound and picture,
/// and he hers.
fn call() -> (World, usize, usize) {
    let mut world = World::ruled(1, POLICY);
    let (mallory, bob) = (world.join_raw("mallory"), world.join("bob"));
    let tracks = [world.publish(bob, Opus), world.publish(bob, Vp8)];
    let (mut sound, mut picture) = (section("0", Opus, Direction::SendOnly), section("1", Vp8, Direction::SendOnly));
    sound.ssrcs = vec![(Ssrc(900), None)];
    picture.ssrcs = vec![(Ssrc(901), None)];
    let mut sections = vec![sound, picture, simulcast("2", &["q", "h"])];
    for section in &mut sections {
        section.extensions.extend(EXTENSIONS);
        section.codecs[0].feedback.transport_cc = true;
    }
    world.raw(mallory).sections = sections;
    let outcomes = world.offer(mallory, ["0", "1", "2"].map(sends).to_vec(), vec![]);
    let published: Vec<_> = outcomes.into_iter().filter_map(|outcome| outcome.track).collect();
    assert_eq!(published.len(), 3);
    for (track, codec) in published.iter().zip([Opus, Vp8, Vp8]) {
        world.subscribe(bob, &track.id, codec);
    }
    until(&mut world, |world| world.raw(mallory).connected && world.peer(bob).is_connected());
    let receives = [section("3", Opus, Direction::RecvOnly), section("4", Vp8, Direction::RecvOnly)];
    let wanted = receives.iter().zip(&tracks).map(|(section, track)| wants(&section.mid, Some(track))).collect();
    world.raw(mallory).sections.extend(receives);
    let outcomes = world.offer(mallory, vec![], wanted);
    assert!(outcomes.iter().all(|outcome| outcome.reason.is_none()), "{outcomes:?}");
    until(&mut world, |world| !world.got(mallory, 96).is_empty());
    (world, mallory, bob)
}

fn until(world: &mut World, is_so: impl Fn(&mut World) -> bool) {
    let is_in_time = (0..200).any(|_| {
        world.run_ms(5);
        is_so(world)
    });
    assert!(is_in_time, "this takes too long");
}

/// Reports of a receiver, good ones.
fn reports() -> Vec<Vec<u8>> {
    type Write = fn(&mut Writer<'_>);
    let writes: [Write; 4] = [
        |w| w.nack(Ssrc(1), Ssrc(901), &[1, 2, 40]).expect("room"),
        |w| w.pli(Ssrc(1), Ssrc(901)).expect("room"),
        |w| w.remb(Ssrc(1), 500_000, &[Ssrc(901)]).expect("room"),
        |w| w.bye(&[Ssrc(901)]).expect("room"),
    ];
    let written = |write: Write| {
        let mut bytes = [0; 256];
        let mut writer = Writer::new(&mut bytes);
        write(&mut writer);
        writer.as_bytes().to_vec()
    };
    writes.map(written).to_vec()
}

pub(super) fn shard_seeds() -> Vec<Vec<u8>> {
    let with = |kind: u8, bytes: &[u8]| [&[kind], bytes].concat();
    let rtp = |ssrc: u32, pt: u8, sequence: u8, elements: &[(u8, &[u8])], payload: &[u8]| {
        let (payload_type, ssrc) = (Pt(pt), Ssrc(ssrc));
        let fields = NewHeader { marker: true, payload_type, sequence: sequence.into(), timestamp: 9, ssrc };
        let mut bytes = vec![0; 200];
        let len = write_header(&mut bytes, &fields, elements);
        [&[0], &bytes[..len], payload].concat()
    };
    let vp8 = [0x90, 0xE0, 0x81, 0x23, 5, 0x20, 0, 0, 0, 1, 2, 3];
    let mut talk: Vec<_> = (0..6).map(|n| rtp(901, 96, n * 2, &[(3, &[0, n])], &vp8)).collect();
    talk.extend((0..4).map(|n| rtp(900, 111, n, &[(1, &[0x80]), (4, b"0")], &[0xFC, 1, 2, 3])));
    talk.insert(5, vec![220]);
    let mut layers: Vec<_> =
        (0..3).map(|n| rtp(902, 96, n, &[(4, b"2"), (RID_ID, b"q"), (2, &[1, 2, 3])], &vp8)).collect();
    layers.extend((0..3).map(|n| rtp(903, 96, n, &[(4, b"2"), (RID_ID, b"h"), (5, &[1]), (6, &[0, 1, 2])], &vp8)));
    layers.push(rtp(904, 97, 0, &[(4, b"2"), (REPAIRED_RID_ID, b"q")], &[&[0, 1], &vp8[..]].concat()));
    let mut reports: Vec<_> = reports().iter().map(|report| with(0, report)).collect();
    reports.push(with(0, &feedback(&[0, 1, 2, 5, 6], Duration::from_millis(3))));
    reports.extend([with(170, &[0, 1, 1, 7, 200]), vec![255]]);
    let changes = vec![
        with(180, &[1]),
        vec![205],
        with(181, &[]),
        vec![190],
        with(196, &[1]),
        with(195, &[0]),
        with(196, &[2]),
        vec![255],
    ];
    let record = [22, 0xFE, 0xFD, 0, 0, 0, 0, 0, 0, 0, 1, 0, 4, 1, 2, 3, 4];
    let records = [110, 140, 160].map(|kind| with(kind, &record)).to_vec();
    let parts = [talk, layers, reports, records, changes];
    parts.iter().map(|parts| joined(parts.iter().map(Vec::as_slice))).collect()
}
