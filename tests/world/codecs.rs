//! Every common codec is answered: what a publisher may then send, and what its receivers get.

use std::time::Duration;

use moonring_core::command::LeaveCause;
use moonring_policy::client::Via;
use moonring_wire::drops::DropReason;
use moonring_wire::id::{Mid, Pt};
use moonring_wire::media::CodecName::{self, H264, Opus, Vp8};
use moonring_wire::media::{Codec, TrackInfo};
use moonring_wire::negotiate::{AnswerSection, Direction, OfferSection, OfferedCodec};
use moonring_wire::sdp;

use crate::sim::World;
use crate::sim::flows::{assert_unbroken, sends, wants};
use crate::sim::raw::{Fields, MID_ID, RID_ID, section, simulcast};

const VP8_KEY: [u8; 14] = [0x90, 0xE0, 0x80, 1, 1, 0x20, 0, 0, 0, 0x9D, 0x01, 0x2A, 0x80, 0x02];
const VP8_DELTA: [u8; 9] = [0x90, 0xE0, 0x80, 2, 2, 0x20, 1, 0, 0];
/// Its parameters are in the same packet.
const H264_KEY: [u8; 11] = [24, 0, 2, 0x67, 0x42, 0, 4, 0x65, 0x88, 0x80, 0x10];
const H264_DELTA: [u8; 4] = [0x41, 0x9A, 0x01, 0x02];

fn mid() -> Mid {
    Mid::parse("0").unwrap()
}

/// A section that offers VP8 as 96 and H.264 as 102 and, single NAL units only, 104.
fn both(direction: Direction) -> OfferSection {
    let mut section = section("0", Vp8, direction);
    for (pt, mode) in [(102, 1), (104, 0)] {
        let fmtp = format!("packetization-mode={mode};profile-level-id=42e01f");
        let codec = Codec { name: H264, fmtp };
        let feedback = section.codecs[0].feedback;
        section.codecs.push(OfferedCodec { pt: Pt(pt), codec, rtx: Some(Pt(pt + 1)), feedback });
    }
    section
}

/// Alice publishes in a section of both codecs and has sent nothing; Bob, of both, and Carol, of VP8 only, receive.
struct Scene {
    world: World,
    alice: usize,
    bob: usize,
    carol: usize,
    track: TrackInfo,
    next: u64,
}

impl Scene {
    fn new(seed: u64) -> Self {
        let mut world = World::new(seed);
        let [alice, bob, carol] = ["alice", "bob", "carol"].map(|name| world.join_raw(name));
        world.raw(alice).sections = vec![both(Direction::SendOnly)];
        let track = world.offer(alice, vec![sends("0")], vec![])[0].track.clone().unwrap();
        for (who, section) in [(bob, both(Direction::RecvOnly)), (carol, section("0", Vp8, Direction::RecvOnly))] {
            world.raw(who).sections = vec![section];
            let outcomes = world.offer(who, vec![], vec![wants(&mid(), Some(&track.id))]);
            assert_eq!(outcomes[0].reason, None);
        }
        world.run_ms(300);
        world.forget_received();
        for who in [alice, bob, carol] {
            world.take_words(who);
        }
        Self { world, alice, bob, carol, track, next: 100 }
    }

    /// Alice sends a frame of one packet.
    fn send(&mut self, pt: u8, payload: &[u8]) {
        let elements: [(u8, &[u8]); 1] = [(MID_ID, b"0")];
        let timestamp = self.next as u32 * 3_000;
        let fields = Fields { ssrc: 77, pt, index: self.next, timestamp, marker: true, elements: &elements };
        let packet = self.world.raw(self.alice).seal(&fields, payload);
        self.world.raw(self.alice).out.push(packet);
        self.next += 1;
        self.world.run(Duration::from_millis(33));
    }

    /// The payload types that came, each once for as long as it stayed.
    fn payload_types(&self, who: usize) -> Vec<(u8, usize)> {
        let mut seen: Vec<(u8, usize)> = Vec::new();
        for got in &self.world.members[who].got {
            match seen.last_mut().filter(|(pt, _)| *pt == got.pt) {
                Some((_, count)) => *count += 1,
                None => seen.push((got.pt, 1)),
            }
        }
        seen
    }

    /// The codecs that Bob was told of.
    fn told(&mut self) -> Vec<CodecName> {
        let words = self.world.take_words(self.bob);
        let codecs = [("codec: H264", H264), ("codec: Vp8", Vp8)];
        let changed = words.iter().filter(|words| words.starts_with("TrackChanged"));
        changed.filter_map(|w| codecs.iter().find(|(text, _)| w.contains(text)).map(|(_, codec)| *codec)).collect()
    }
}

#[test]
fn an_answer_has_every_common_codec_in_the_offers_order_for_both_directions() {
    let mut scene = Scene::new(90);
    assert_eq!(scene.track.codec, Vp8);
    for (who, expected) in [(scene.alice, &[96, 102, 104][..]), (scene.bob, &[96, 102, 104]), (scene.carol, &[96])] {
        let answer = scene.world.raw(who).answer.clone().unwrap();
        let AnswerSection::Accepted { codecs, .. } = &answer.sections[0] else { panic!("{answer:?}") };
        let payload_types: Vec<u8> = codecs.iter().map(|codec| codec.pt.0).collect();
        assert_eq!(payload_types, expected);
        assert!(codecs.iter().all(|codec| codec.feedback.nack && codec.rtx == Some(Pt(codec.pt.0 + 1))));
    }
}

#[test]
fn a_track_follows_the_payload_type_that_comes_and_its_forwards_go_on_as_they_can() {
    let mut scene = Scene::new(91);
    // Not the first codec of the answer, and not from a frame that could be decoded.
    scene.send(102, &H264_DELTA);
    assert_eq!(scene.payload_types(scene.bob), []);
    for payload in [&H264_KEY[..], &H264_DELTA, &H264_DELTA] {
        scene.send(102, payload);
    }
    assert_eq!(scene.told(), [H264]);
    assert_eq!(scene.payload_types(scene.bob), [(102, 3)]);
    assert_eq!(scene.payload_types(scene.carol), [], "her section has VP8 only");

    // Single NAL units are fine for a receiver of mode 1: nothing changes.
    scene.send(104, &H264_DELTA);
    assert_eq!((scene.told(), scene.payload_types(scene.bob)), (vec![], vec![(102, 4)]));

    let words = scene.world.take_words(scene.carol);
    let at = |word: &str| words.iter().position(|words| words.starts_with(word));
    assert!(at("TrackChanged") < at("Unsubscribed"), "told what it is now, then that she does not get it: {words:?}");
    let reason = "the track goes on as H264, which its section does not take";
    assert!(at("TrackChanged").is_some() && words[at("Unsubscribed").unwrap()].contains(reason), "{words:?}");

    scene.world.run_ms(1_000);
    scene.send(96, &VP8_DELTA);
    scene.send(96, &VP8_KEY);
    scene.send(96, &VP8_DELTA);
    assert_eq!(scene.told(), [Vp8]);
    assert_eq!(scene.payload_types(scene.bob), [(102, 4), (96, 2)]);
    assert_unbroken(&scene.world.members[scene.bob].got);
    assert_eq!(scene.payload_types(scene.carol), [], "her forward ended");
}

#[test]
fn a_player_over_http_whose_codec_ends_ends() {
    let mut scene = Scene::new(98);
    let player = scene.world.join_via("player", Via::Whep);
    let mid = scene.world.peer(player).receive(Vp8);
    assert!(scene.world.offer(player, vec![], vec![wants(&mid, None)])[0].track.is_some());
    scene.world.run_ms(300);
    scene.send(102, &H264_KEY);
    let reason = "the track goes on as H264, which its section does not take";
    assert_eq!(scene.world.left(player), Some(&LeaveCause::Kicked(reason.into())));
    assert_eq!(scene.world.audit(), Vec::<String>::new());
}

#[test]
fn an_offer_without_the_codec_that_a_section_is_used_with_ends_the_use() {
    let mut scene = Scene::new(99);
    let (alice, carol) = (scene.alice, scene.carol);
    let told = |scene: &mut Scene, who: usize, name: &str, reason: &str| {
        let words = scene.world.take_words(who);
        assert!(words.iter().any(|words| words.starts_with(name) && words.contains(reason)), "{words:?}");
    };
    scene.send(96, &VP8_KEY);
    scene.world.raw(carol).sections[0].codecs.splice(.., both(Direction::RecvOnly).codecs.drain(1..));
    scene.world.offer(carol, vec![], vec![]);
    told(&mut scene, carol, "Unsubscribed", "section 0 does not offer VP8");
    let before = scene.payload_types(carol);
    scene.send(96, &VP8_DELTA);
    assert_eq!(scene.payload_types(carol), before);
    scene.world.raw(carol).sections = vec![both(Direction::RecvOnly)];
    let again = wants(&mid(), Some(&scene.track.id));
    assert_eq!(scene.world.offer(carol, vec![], vec![again])[0].reason, None);

    // Of H.265 alone nothing is known to the server.
    scene.world.raw(alice).sections[0].codecs.clear();
    scene.world.offer(alice, vec![], vec![]);
    told(&mut scene, alice, "TrackEnded", "section 0 offers no codec that this server takes");
    let bob = scene.bob;
    told(&mut scene, bob, "TrackUnpublished", "");
    assert_eq!(scene.world.audit(), Vec::<String>::new());
}

#[test]
fn who_comes_later_is_chosen_for_the_codec_that_is_sent() {
    let mut scene = Scene::new(92);
    scene.send(102, &H264_KEY);
    let dora = scene.world.join_raw("dora");
    let ask = |scene: &mut Scene| {
        let track = scene.track.id.clone();
        scene.world.offer(dora, vec![], vec![wants(&mid(), Some(&track))]).remove(0)
    };
    scene.world.raw(dora).sections = vec![section("0", Vp8, Direction::RecvOnly)];
    assert_eq!(ask(&mut scene).reason.as_deref(), Some("section 0 does not offer H264"));
    scene.world.raw(dora).sections = vec![both(Direction::RecvOnly)];
    assert_eq!(ask(&mut scene).track.unwrap().codec, H264);
}

#[test]
fn a_publisher_that_changes_to_and_fro_changes_the_codec_once_a_second() {
    let mut scene = Scene::new(93);
    for n in 0..60 {
        let (pt, payload) = if n % 2 == 0 { (102, &H264_KEY[..]) } else { (96, &VP8_KEY[..]) };
        scene.send(pt, payload);
    }
    assert_eq!(scene.told(), [H264, Vp8]);
}

#[test]
fn a_payload_type_that_was_not_answered_is_dropped() {
    let mut scene = Scene::new(94);
    scene.send(102, &H264_KEY);
    let before = scene.world.drops(DropReason::RtpUnknownPayloadType);
    for pt in [98, 103, 127] {
        scene.send(pt, &H264_KEY);
    }
    assert_eq!(scene.world.drops(DropReason::RtpUnknownPayloadType) - before, 3);
    assert_eq!(scene.payload_types(scene.bob), [(102, 1)]);
}

#[test]
fn a_payload_type_that_another_offer_numbers_anew_is_followed_on_both_sides() {
    let mut scene = Scene::new(95);
    scene.send(96, &VP8_KEY);
    let renumber = |scene: &mut Scene, who: usize, pt: u8| {
        let codec = &mut scene.world.raw(who).sections[0].codecs[0];
        (codec.pt, codec.rtx) = (Pt(pt), Some(Pt(pt + 1)));
        scene.world.offer(who, vec![], vec![]);
    };
    let (alice, bob) = (scene.alice, scene.bob);
    renumber(&mut scene, alice, 120);
    scene.send(120, &VP8_DELTA);
    renumber(&mut scene, bob, 110);
    scene.send(120, &VP8_DELTA);
    assert_eq!(scene.payload_types(bob), [(96, 2), (110, 1)]);
    assert_eq!(scene.told(), []);
}

#[test]
fn the_ssrcs_of_a_sim_group_are_layers() {
    let mut world = World::new(96);
    let (alice, bob) = (world.join_raw("alice"), world.join_raw("bob"));
    let offer = sdp::parse_offer(include_str!("../../src/wire/src/sdp/fixtures/sim_group.sdp")).unwrap();
    world.raw(alice).sections = offer.sections;
    let track = world.offer(alice, vec![sends("0")], vec![])[0].track.clone().unwrap();
    assert_eq!(track.layers, 2);
    world.raw(bob).sections = vec![section("0", Vp8, Direction::RecvOnly)];
    world.offer(bob, vec![], vec![wants(&mid(), Some(&track.id))]);
    world.run_ms(300);
    world.forget_received();
    // The low layer is told apart by the length of its payload.
    for (index, payload) in (0..90).map(|n| (n, if n % 30 == 0 { &VP8_KEY[..] } else { &VP8_DELTA })) {
        for (ssrc, extra) in [(1_815_289_772, 0), (3_974_668_332, 5)] {
            let payload = [payload, &[extra; 5]].concat();
            let timestamp = index as u32 * 3_000;
            let fields = Fields { ssrc, pt: 96, index: index + 1, timestamp, marker: true, elements: &[] };
            let packet = world.raw(alice).seal(&fields, &payload);
            world.raw(alice).out.push(packet);
        }
        world.run(Duration::from_millis(33));
    }
    let layers: Vec<u8> = world.members[bob].got.iter().map(|got| *got.head.last().unwrap()).collect();
    assert!(layers.len() > 60, "{layers:?}");
    assert_eq!(layers.last(), Some(&5), "the last of the group is the best");
    assert_unbroken(&world.members[bob].got);
}

#[test]
fn names_that_were_not_negotiated_bring_nothing() {
    let mut world = World::new(97);
    let (alice, bob) = (world.join_raw("alice"), world.join_raw("bob"));
    world.raw(alice).sections = vec![simulcast("0", &["q", "h"]), section("1", Opus, Direction::SendOnly)];
    let track = world.offer(alice, vec![sends("0"), sends("1")], vec![])[0].track.clone().unwrap();
    world.raw(bob).sections = vec![section("0", Vp8, Direction::RecvOnly)];
    world.offer(bob, vec![], vec![wants(&mid(), Some(&track.id))]);
    world.run_ms(300);
    // A RID that no layer has, a section that is not there, one of sound, and no names at all.
    let cases: [&[(u8, &[u8])]; 5] = [
        &[(MID_ID, b"0"), (RID_ID, b"zz")],
        &[(MID_ID, b"9"), (RID_ID, b"q")],
        &[(MID_ID, b"1"), (RID_ID, b"q")],
        &[(MID_ID, b"0")],
        &[],
    ];
    for (n, elements) in cases.into_iter().enumerate() {
        let fields = Fields { ssrc: 500 + n as u32, pt: 96, index: 1, timestamp: 0, marker: true, elements };
        let packet = world.raw(alice).seal(&fields, &VP8_KEY);
        world.raw(alice).out.push(packet);
    }
    world.run_ms(200);
    assert_eq!(world.drops(DropReason::RtpUnknownSsrc), 5);
    assert_eq!(world.members[bob].got.len(), 0);
}

#[test]
fn a_player_that_leaves_the_choice_to_the_server_is_told_which_codec_it_does_not_offer() {
    let mut world = World::new(77);
    let (alice, player) = (world.join("alice"), world.join_via("player", Via::Whep));
    let mid = world.peer(player).receive(Vp8);
    let reason = |world: &mut World| world.offer(player, vec![], vec![wants(&mid, None)]).remove(0).reason.unwrap();
    world.publish(alice, Opus);
    assert_eq!(reason(&mut world), format!("nothing is published that section {mid} could receive"));
    world.publish(alice, H264);
    assert_eq!(reason(&mut world), format!("section {mid} does not offer H264"));
}
