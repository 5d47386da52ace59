//! Header extensions that have other ids in each section of a bundle, as baresip, webrtc-rs and aiortc number them.

use std::time::Duration;

use moonring_wire::id::Mid;
use moonring_wire::media::CodecName::{Opus, Vp8};
use moonring_wire::media::Extension::{self, AudioLevel, TransportSequence, VideoOrientation};
use moonring_wire::negotiate::{AnswerSection, Direction, OfferSection};
use moonring_wire::rtp::header::Header;

use crate::sim::World;
use crate::sim::flows::{sends, wants};
use crate::sim::raw::{Fields, section};

/// Sound, and two videos of one payload type.
const SECTIONS: [(&str, u8); 3] = [("0", 111), ("1", 96), ("2", 96)];
/// Of Alice: her MID has three ids, and 2 and 3 are something else in each section.
const ALICE: [&[(u8, Extension)]; 3] = [
    &[(1, Extension::Mid), (2, AudioLevel), (3, TransportSequence)],
    &[(2, Extension::Mid), (7, TransportSequence), (3, VideoOrientation)],
    &[(9, Extension::Mid), (3, TransportSequence), (2, VideoOrientation)],
];
/// Of Bob.
const BOB: [&[(u8, Extension)]; 3] = [
    &[(1, AudioLevel), (3, TransportSequence)],
    &[(5, TransportSequence), (1, VideoOrientation)],
    &[(1, TransportSequence), (20, VideoOrientation)],
];

fn sections(direction: Direction, ids: [&[(u8, Extension)]; 3]) -> Vec<OfferSection> {
    let numbered = |((mid, _), ids): ((&str, u8), &[(u8, Extension)])| {
        let mut section = section(mid, if mid == "0" { Opus } else { Vp8 }, direction);
        section.extensions = ids.to_vec();
        section.codecs[0].feedback.transport_cc = true;
        section
    };
    SECTIONS.into_iter().zip(ids).map(numbered).collect()
}

/// The ids of header extensions that came with their values, but for the transport-wide numbers' values; each once.
fn seen(world: &mut World, who: usize, ssrc: u32) -> Vec<(u8, Vec<u8>)> {
    let mut seen = Vec::new();
    for sealed in &world.raw(who).sealed {
        let header = Header::parse(sealed).unwrap();
        for (id, value) in header.extensions(sealed).filter(|_| header.ssrc.0 == ssrc) {
            seen.push((id, if value.len() == 1 { value.to_vec() } else { vec![] }));
        }
    }
    seen.sort();
    seen.dedup();
    seen
}

#[test]
fn a_header_extension_has_the_id_of_the_section_that_its_packet_is_of() {
    let mut world = World::new(700);
    let [alice, bob] = ["alice", "bob"].map(|name| world.join_raw(name));
    world.raw(alice).sections = sections(Direction::SendOnly, ALICE);
    let published = world.offer(alice, ["0", "1", "2"].map(sends).into(), vec![]);
    let answer = world.raw(alice).answer.clone().unwrap();
    for (section, ids) in answer.sections.iter().zip(ALICE) {
        let AnswerSection::Accepted { extensions, .. } = section else { panic!("{section:?}") };
        assert_eq!(extensions, ids);
    }
    world.raw(bob).sections = sections(Direction::RecvOnly, BOB);
    let wanted = SECTIONS
        .iter()
        .zip(&published)
        .map(|((mid, _), outcome)| wants(&Mid::parse(mid).unwrap(), Some(&outcome.track.as_ref().unwrap().id)));
    world.offer(bob, vec![], wanted.collect());
    world.run_ms(300);

    // Nothing but MID tells the two videos apart.
    let key = [0x90, 0x80, 0x80, 1, 0, 0, 0, 0x9D, 0x01, 0x2A, 0x80, 0x02, 0xE0, 0x01, 0, 0];
    let mut number = 500_u16;
    for n in 0..20 {
        for (at, (mid, pt)) in SECTIONS.into_iter().enumerate() {
            let (numbered, turned) = (number.to_be_bytes(), [at as u8]);
            number += 1;
            let value = |extension| match extension {
                Extension::Mid => mid.as_bytes(),
                TransportSequence => &numbered[..],
                AudioLevel => &[0x85],
                _ => &turned[..],
            };
            let elements: Vec<_> = ALICE[at].iter().map(|(id, extension)| (*id, value(*extension))).collect();
            let timestamp = n as u32 * 2_970;
            let ssrc = 700 + at as u32;
            let fields = Fields { ssrc, pt, index: 10 + n, timestamp, marker: true, elements: &elements };
            let packet = world.raw(alice).seal(&fields, &key);
            world.raw(alice).out.push(packet);
        }
        world.run(Duration::from_millis(33));
    }
    world.run_ms(300);

    let expected: [&[(u8, Vec<u8>)]; 3] =
        [&[(1, vec![0x85]), (3, vec![])], &[(1, vec![1]), (5, vec![])], &[(1, vec![]), (20, vec![2])]];
    for ((mid, _), expected) in SECTIONS.into_iter().zip(expected) {
        let ssrc = world.raw(bob).stream(&Mid::parse(mid).unwrap()).unwrap().ssrc;
        let count = world.members[bob].got.iter().filter(|got| got.ssrc == ssrc).count();
        assert_eq!((count, &seen(&mut world, bob, ssrc.0)[..]), (20, expected), "section {mid}");
    }
    // All of Alice's transport-wide numbers were read.
    let reports = &world.raw(alice).reports;
    let told: usize = reports.iter().map(|(_, words)| feedback_count(words)).sum();
    assert!(told >= 60, "{told} of 60");
}

/// How many packets a report of transport-wide feedback tells of.
fn feedback_count(words: &str) -> usize {
    let bytes = words.strip_prefix("TransportFeedback { packet: [").and_then(|rest| rest.split(']').next());
    let bytes: Vec<usize> =
        bytes.into_iter().flat_map(|list| list.split(", ")).map(|byte| byte.parse().unwrap()).collect();
    if bytes.is_empty() { 0 } else { bytes[14] << 8 | bytes[15] }
}
