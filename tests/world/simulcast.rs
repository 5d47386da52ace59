//! Simulcast: layers are told apart by their RIDs, and a switch is neither seen in the numbers nor made elsewhere than at
//! a key frame.

use std::time::Duration;

use moonring_core::command::Command;
use moonring_wire::drops::DropReason;
use moonring_wire::id::{Mid, Ssrc, TrackId};
use moonring_wire::media::CodecName::Vp8;
use moonring_wire::media::Extension;
use moonring_wire::negotiate::Direction;
use moonring_wire::rtp::codec::vp8;
use moonring_wire::rtp::rtcp::SenderInfo;
use moonring_wire::sdp;

use crate::sim::flows::{assert_unbroken, sends, wants};
use crate::sim::places::over_two_nodes;
use crate::sim::raw::{Fields, MID_ID, REPAIRED_RID_ID, RID_ID, section, simulcast};
use crate::sim::{Got, World};

const RIDS: [&str; 3] = ["q", "h", "f"];
/// Payload bytes of a frame of each layer: 24, 72 and 264 kbit/s of payload at 30 frames a second.
const BYTES: [usize; 3] = [100, 300, 1_100];
/// Where in the payload the layer's number stands.
const MARK: usize = 18;

/// A publisher of three layers, each with numbers of its own.
pub(crate) struct Encoder {
    who: usize,
    pub(crate) layers: [Layer; 3],
    active: [bool; 3],
    /// So often each picture of the middle layer is sent again, as Chromium does to find out what its path carries.
    again: u64,
}

#[derive(Clone, Copy)]
pub(crate) struct Layer {
    ssrc: u32,
    index: u64,
    picture: u16,
    tl0: u8,
    timestamp: u32,
    pub(crate) frames: u32,
}

impl Encoder {
    fn new(who: usize) -> Self {
        let layer = |n: u32| Layer {
            ssrc: 700 + n,
            index: 65_000 + 200 * u64::from(n),
            picture: 0x7FF0 - 1_000 * n as u16,
            tl0: 250 - 40 * n as u8,
            timestamp: 1_000_000_000 * n,
            frames: 0,
        };
        Self { who, layers: [layer(0), layer(1), layer(2)], active: [true; 3], again: 0 }
    }

    /// Makes and sends a frame of each active layer; a key frame where one was asked for.
    fn frame(&mut self, world: &mut World) {
        let since = world.since_start();
        let reports = std::mem::take(&mut world.raw(self.who).reports);
        for n in (0..3).filter(|n| self.active[*n]) {
            let layer = &mut self.layers[n];
            let asked = reports.iter().any(|(_, words)| *words == format!("Pli {}", layer.ssrc));
            let key = layer.frames == 0 || asked;
            let [high, low] = layer.picture.to_be_bytes();
            let mut payload = vec![0x90, 0xE0, high | 0x80, low, layer.tl0, 0x20, u8::from(!key), 0, 0];
            // 160x90, 320x180, 640x360.
            payload.extend([0x9D, 0x01, 0x2A, [0xA0, 0x40, 0x80][n], n as u8, [0x5A, 0xB4, 0x68][n], (n / 2) as u8]);
            payload.resize(BYTES[n], 0);
            payload[MARK] = n as u8;
            let names: [(u8, &[u8]); 2] = [(MID_ID, b"0"), (RID_ID, RIDS[n].as_bytes())];
            let elements = if layer.frames < 60 { &names[..] } else { &[] };
            let media = (since.as_micros() * 90 / 1_000) as u32;
            let timestamp = layer.timestamp.wrapping_add(media);
            let fields = Fields { ssrc: layer.ssrc, pt: 96, index: layer.index, timestamp, marker: true, elements };
            let packet = world.raw(self.who).seal(&fields, &payload);
            world.raw(self.who).out.push(packet);
            for again in 0..if n == 1 { self.again } else { 0 } {
                let names: [(u8, &[u8]); 2] = [(MID_ID, b"0"), (REPAIRED_RID_ID, RIDS[n].as_bytes())];
                let index = u64::from(layer.frames) * self.again + again;
                let fields = Fields { ssrc: layer.ssrc + 100, pt: 97, index, elements: &names, ..fields };
                let repeated = [&(layer.index as u16).to_be_bytes()[..], &payload].concat();
                let packet = world.raw(self.who).seal(&fields, &repeated);
                world.raw(self.who).out.push(packet);
            }
            if layer.frames.is_multiple_of(30) {
                let ntp = (1_000_u64 << 32) + (since.as_secs_f64() * 4_294_967_296.0) as u64;
                let info =
                    SenderInfo { ssrc: Ssrc(layer.ssrc), ntp, rtp_time: timestamp, packets: layer.frames, octets: 0 };
                let report = world.raw(self.who).control(|w| w.sender_report(&info, &[]).unwrap());
                world.raw(self.who).out.push(report);
            }
            layer.index += 1;
            layer.picture = (layer.picture + 1) % 0x8000;
            layer.tl0 = layer.tl0.wrapping_add(1);
            layer.frames += 1;
        }
    }

    pub(crate) fn run(&mut self, world: &mut World, frames: usize) {
        for _ in 0..frames {
            self.frame(world);
            world.run(Duration::from_micros(33_333));
        }
    }
}

/// Alice's encoder, Bob, and the track.
pub(crate) fn scene(seed: u64) -> (World, Encoder, usize, TrackId) {
    scene_with(seed, &[])
}

/// The same, where others have joined between the two.
fn scene_with(seed: u64, others: &[&str]) -> (World, Encoder, usize, TrackId) {
    scene_of(seed, &RIDS, others)
}

/// The same, with the names in this order in the offer.
fn scene_of(seed: u64, rids: &[&str], others: &[&str]) -> (World, Encoder, usize, TrackId) {
    let mut world = World::new(seed);
    let alice = world.join_raw("alice");
    for other in others {
        world.join_raw(other);
    }
    let bob = world.join_raw("bob");
    world.raw(alice).sections = vec![simulcast("0", rids)];
    let track = world.offer(alice, vec![sends("0")], vec![])[0].track.clone().unwrap();
    assert_eq!(track.layers, 3);
    world.raw(bob).sections = vec![section("0", Vp8, Direction::RecvOnly)];
    world.offer(bob, vec![], vec![wants(&Mid::parse("0").unwrap(), Some(&track.id))]);
    world.run_ms(300);
    let mut encoder = Encoder::new(alice);
    encoder.run(&mut world, 90);
    (world, encoder, bob, track.id)
}

pub(crate) fn layer_of(got: &Got) -> u8 {
    got.head[MARK]
}

/// The layers received, one after the other.
fn layers(got: &[Got]) -> Vec<u8> {
    let mut layers: Vec<u8> = got.iter().map(layer_of).collect();
    layers.dedup();
    layers
}

/// Numbers go on, picture by picture, and each switch is at a key frame.
pub(crate) fn assert_continuous(got: &[Got]) {
    assert_unbroken(got);
    for pair in got.windows(2) {
        let [a, b] = [&pair[0], &pair[1]];
        let ids = |g: &Got| vp8::Descriptor::parse(&g.head).unwrap().ids;
        let (from, to) = (ids(a), ids(b));
        let (from_id, to_id) = (from.picture_id.unwrap().value, to.picture_id.unwrap().value);
        assert_eq!(to_id, (from_id + 1) % 0x8000, "picture ids");
        assert_eq!(to.tl0_picture.unwrap().0, from.tl0_picture.unwrap().0.wrapping_add(1), "TL0PICIDX");
        let step = b.timestamp.wrapping_sub(a.timestamp);
        assert!((1..9_000).contains(&step), "time goes on: {step} from layer {} to {}", layer_of(a), layer_of(b));
        if layer_of(a) != layer_of(b) {
            assert!(vp8::inspect(&b.head).key_frame, "a switch is at a key frame");
        }
    }
}

#[test]
fn layers_are_learnt_by_rid_and_the_best_is_forwarded() {
    let (world, _, bob, _) = scene(90);
    let got = world.got(bob, 96);
    assert_continuous(&got);
    assert_eq!(layer_of(got.last().unwrap()), 2);
}

#[test]
fn a_client_chooses_a_layer_and_the_picture_goes_on() {
    let (mut world, mut encoder, bob, track) = scene(91);
    for layer in [Some(0), Some(1), None, Some(0), Some(9)] {
        world.command(Command::SetLayer { client: world.id(bob), track: track.clone(), layer });
        encoder.run(&mut world, 45);
        let expected = layer.unwrap_or(2).min(2);
        assert_eq!(layer_of(world.members[bob].got.last().unwrap()), expected, "{layer:?}");
    }
    let got = world.got(bob, 96);
    assert_continuous(&got);
    let seen = layers(&got);
    assert_eq!(seen[seen.len() - 5..], [2, 0, 1, 2, 0, 2][1..], "{seen:?}");
}

#[test]
fn an_estimate_of_the_receiver_chooses_the_layer_that_fits() {
    assert_fitting_layers(scene(92));
}

/// The layer that fits is chosen at each estimate, and the picture goes on.
fn assert_fitting_layers((mut world, mut encoder, bob, _): (World, Encoder, usize, TrackId)) {
    for (bps, expected) in [(60_000, 0), (150_000, 1), (5_000_000, 2), (10_000, 0)] {
        // A layer is not raised twice within five seconds.
        for _ in 0..6 {
            let remb = world.raw(bob).control(|w| w.remb(Ssrc(1), bps, &[]).unwrap());
            world.raw(bob).out.push(remb);
            encoder.run(&mut world, 30);
        }
        assert_eq!(layer_of(world.members[bob].got.last().unwrap()), expected, "{bps} bit/s");
    }
    assert_continuous(&world.got(bob, 96));
}

#[test]
fn what_a_publisher_sends_twice_counts_once_towards_the_rate_of_its_layer() {
    let mut scene = scene(100);
    scene.1.again = 3;
    let before = scene.0.drops(DropReason::SrtpReplay);
    scene.1.run(&mut scene.0, 30);
    assert_eq!(scene.0.drops(DropReason::SrtpReplay) - before, 90);
    assert_fitting_layers(scene);
}

#[test]
fn layers_offered_from_the_largest_on_are_known_by_their_pictures() {
    let scene = scene_of(97, &["f", "h", "q"], &[]);
    assert_eq!(layer_of(scene.0.members[scene.2].got.last().unwrap()), 2);
    assert_fitting_layers(scene);
}

#[test]
fn a_layer_that_is_no_longer_sent_is_replaced_by_one_that_is() {
    let (mut world, mut encoder, bob, _) = scene(93);
    encoder.active = [true, true, false];
    encoder.run(&mut world, 150);
    assert_eq!(layer_of(world.members[bob].got.last().unwrap()), 1);
    encoder.active = [true; 3];
    encoder.run(&mut world, 90);
    assert_eq!(layer_of(world.members[bob].got.last().unwrap()), 2);
    let got = world.got(bob, 96);
    assert_unbroken(&got);
}

#[test]
fn a_link_between_nodes_that_loses_much_carries_lower_layers_until_it_does_not() {
    over_two_nodes();
    for (others, place) in [(&["carol"][..], 2), (&["carol", "dan"], 3)] {
        let (mut world, mut encoder, bob, _) = scene_with(96, others);
        assert_eq!(world.members[bob].place, place);
        // Who says nothing is taken for gone.
        let seconds = |world: &mut World, encoder: &mut Encoder, seconds: usize| {
            for _ in 0..seconds {
                let remb = world.raw(bob).control(|w| w.remb(Ssrc(1), 5_000_000, &[]).unwrap());
                world.raw(bob).out.push(remb);
                encoder.run(world, 30);
            }
        };
        seconds(&mut world, &mut encoder, 3);
        assert_eq!(layer_of(world.members[bob].got.last().unwrap()), 2);
        world.between_nodes.loss = 0.06;
        // It has to be bad for five seconds on end, and of thirty datagrams a second none may be lost in one of them.
        let layer = |world: &World| layer_of(world.members[bob].got.last().unwrap());
        let lasted = (0..25).find(|_| {
            seconds(&mut world, &mut encoder, 1);
            layer(&world) < 2
        });
        assert!(lasted.is_some_and(|lasted| lasted >= 5), "{lasted:?}");
        world.between_nodes.loss = 0.0;
        seconds(&mut world, &mut encoder, 50);
        assert_eq!(layer_of(world.members[bob].got.last().unwrap()), 2);
    }
}

#[test]
fn more_rids_than_layers_are_answered_with_the_layers_that_are_taken() {
    let mut world = World::new(94);
    let alice = world.join_raw("alice");
    world.raw(alice).sections = vec![simulcast("0", &["a", "b", "c", "d", "e"])];
    let track = world.offer(alice, vec![sends("0")], vec![])[0].track.clone().unwrap();
    assert_eq!(track.layers, 4);
    let answer = world.raw(alice).answer.clone().unwrap();
    let moonring_wire::negotiate::AnswerSection::Accepted { rids, .. } = &answer.sections[0] else {
        panic!("{answer:?}")
    };
    assert_eq!(rids.iter().map(|layer| layer.rid.as_str()).collect::<Vec<_>>(), ["a", "b", "c", "d"]);
}

#[test]
fn a_section_that_is_refused_or_given_up_keeps_its_layers_for_a_later_track() {
    const PUBLISHERS_ARE_ALLOWED_LATER: &str = r#"
        local allowed = false
        function on_client_connect() return true end
        function on_publish_request() if not allowed then allowed = true return false, "Not yet" end return true end
    "#;
    let mut world = World::ruled(99, PUBLISHERS_ARE_ALLOWED_LATER);
    let alice = world.join_raw("alice");
    let answered = |world: &mut World| {
        let text = sdp::render_answer(&world.raw(alice).answer.clone().unwrap());
        let (_, section) = text.split_once("m=video").unwrap();
        let names = ["a=inactive", "a=recvonly", "a=rid:", "a=simulcast:", "a=extmap:10 ", "a=extmap:11 "];
        let is_told = |line: &&str| names.iter().any(|name| line.starts_with(name));
        section.lines().filter(is_told).map(str::to_owned).collect::<Vec<_>>()
    };
    let expected = |direction: &str| {
        let [rid, repaired] = [Extension::Rid, Extension::RepairedRid].map(Extension::uri);
        let extensions = [format!("a=extmap:{RID_ID} {rid}"), format!("a=extmap:{REPAIRED_RID_ID} {repaired}")];
        let layers = ["a=rid:q recv", "a=rid:h recv", "a=rid:f recv", "a=simulcast:recv q;h;f"].map(String::from);
        [&extensions[..], &[direction.to_owned()], &layers].concat()
    };
    world.raw(alice).sections = vec![simulcast("0", &RIDS)];
    assert_eq!(world.offer(alice, vec![sends("0")], vec![])[0].reason.as_deref(), Some("Not yet"));
    assert_eq!(answered(&mut world), expected("a=inactive"));
    let track = world.offer(alice, vec![sends("0")], vec![])[0].track.clone().unwrap();
    assert_eq!(answered(&mut world), expected("a=recvonly"));
    // libwebrtc writes the layers of a sender that does not send, too.
    world.command(Command::Unpublish { client: world.id(alice), track: track.id });
    world.raw(alice).sections[0].direction = Direction::Inactive;
    world.offer(alice, vec![], vec![]);
    assert_eq!(answered(&mut world), expected("a=inactive"));
}

#[test]
fn a_lower_layer_is_asked_for_as_soon_as_the_estimate_falls() {
    let (mut world, mut encoder, bob, _) = scene(95);
    encoder.run(&mut world, 7);
    let before = world.members[bob].got.len();
    let remb = world.raw(bob).control(|w| w.remb(Ssrc(1), 60_000, &[]).unwrap());
    world.raw(bob).out.push(remb);
    encoder.run(&mut world, 6);
    let got = &world.members[bob].got[before..];
    assert_eq!(layers(got), [2, 0], "within 200 ms");
}

#[test]
fn what_is_missing_after_a_switch_is_not_made_up_from_the_layer_before() {
    let (mut world, mut encoder, bob, track) = scene(96);
    world.command(Command::SetLayer { client: world.id(bob), track, layer: Some(0) });
    encoder.run(&mut world, 15);
    assert_eq!(layer_of(world.members[bob].got.last().unwrap()), 0);
    encoder.layers[0].index += 1;
    encoder.run(&mut world, 5);
    let got = world.got(bob, 96);
    let gap = got.windows(2).find(|pair| pair[1].sequence == pair[0].sequence.wrapping_add(2)).expect("a gap");
    let (ssrc, missing) = (gap[0].ssrc, gap[0].sequence.wrapping_add(1));
    let nack = world.raw(bob).control(|w| w.nack(Ssrc(1), ssrc, &[missing]).unwrap());
    world.raw(bob).out.push(nack);
    world.run_ms(50);
    assert_eq!(world.got(bob, 97).len(), 0);
}

#[test]
fn what_is_missing_of_a_stream_that_is_over_is_not_made_up_from_another_layer() {
    let (mut world, mut encoder, bob, track) = scene(98);
    for layer in [Some(0), None] {
        world.command(Command::SetLayer { client: world.id(bob), track: track.clone(), layer });
        encoder.run(&mut world, 45);
    }
    let last = world.members[bob].got.last().unwrap().clone();
    assert_eq!(layer_of(&last), 2);
    let layer = &mut encoder.layers[2];
    (layer.ssrc, layer.index, layer.frames) = (750, 30_000, 0);
    encoder.run(&mut world, 10);
    assert_eq!(layer_of(world.members[bob].got.last().unwrap()), 2, "it goes on");
    let missing: Vec<u16> = (0..5).map(|n| last.sequence.wrapping_sub(n)).collect();
    let nack = world.raw(bob).control(|w| w.nack(Ssrc(1), last.ssrc, &missing).unwrap());
    world.raw(bob).out.push(nack);
    world.run_ms(50);
    let repaired: Vec<_> = world.got(bob, 97).iter().map(|got| got.head.get(MARK + 2).copied()).collect();
    assert_eq!(repaired, [], "layers");
}

#[test]
fn a_picture_goes_on_while_the_layer_that_it_is_to_switch_to_begins_anew() {
    let (mut world, mut encoder, bob, track) = scene(99);
    world.command(Command::SetLayer { client: world.id(bob), track: track.clone(), layer: Some(0) });
    encoder.run(&mut world, 45);
    world.command(Command::SetLayer { client: world.id(bob), track, layer: None });
    // Its key frame, the first one, does not get through.
    let layer = &mut encoder.layers[2];
    (layer.ssrc, layer.index, layer.frames) = (750, 30_000, 1);
    let before = world.members[bob].got.len();
    encoder.run(&mut world, 10);
    assert_eq!(layers(&world.members[bob].got[before..]), [0]);
    assert!(world.members[bob].got.len() >= before + 9, "{}", world.members[bob].got.len() - before);
    encoder.run(&mut world, 60);
    assert_eq!(layer_of(world.members[bob].got.last().unwrap()), 2);
    assert_continuous(&world.got(bob, 96));
}
