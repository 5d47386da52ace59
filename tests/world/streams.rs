//! Whose packet is it: SSRCs that change, come back, differ from the description, or belong to nobody; and the counters
//! of those that were used before.

use std::time::Duration;

use moonring_core::command::Command;
use moonring_wire::drops::DropReason;
use moonring_wire::id::{Mid, Pt, Ssrc, TrackId};
use moonring_wire::media::CodecName::Vp8;
use moonring_wire::media::Extension;
use moonring_wire::negotiate::Direction;

use crate::sim::World;
use crate::sim::flows::{assert_unbroken, sends, wants};
use crate::sim::raw::{Fields, MID_ID, section};
use crate::simulcast::{assert_continuous, layer_of, scene};

/// Alice with two video sections of one payload type, Bob who receives the first.
struct Scene {
    world: World,
    alice: usize,
    bob: usize,
    track: TrackId,
}

impl Scene {
    fn new(seed: u64, ssrcs: &[(Ssrc, Option<Ssrc>)]) -> Self {
        let mut world = World::new(seed);
        let (alice, bob) = (world.join_raw("alice"), world.join_raw("bob"));
        let mut first = section("0", Vp8, Direction::SendOnly);
        first.ssrcs = ssrcs.to_vec();
        world.raw(alice).sections = vec![first, section("1", Vp8, Direction::SendOnly)];
        let outcomes = world.offer(alice, vec![sends("0"), sends("1")], vec![]);
        let track = outcomes[0].track.clone().unwrap().id;
        let mut scene = Self { world, alice, bob, track };
        scene.subscribe("0");
        scene.world.run_ms(300);
        scene
    }

    fn subscribe(&mut self, mid: &str) {
        let (bob, track) = (self.bob, self.track.clone());
        self.world.raw(bob).sections.push(section(mid, Vp8, Direction::RecvOnly));
        self.world.offer(bob, vec![], vec![wants(&Mid::parse(mid).unwrap(), Some(&track))]);
    }

    /// Sends one picture a packet, each a key frame; the datagram.
    fn send(&mut self, ssrc: u32, index: u64, mid: Option<&str>) -> Vec<u8> {
        let elements: Vec<(u8, &[u8])> = mid.map(|mid| (MID_ID, mid.as_bytes())).into_iter().collect();
        let timestamp = (self.world.since_start().as_micros() * 90 / 1_000) as u32;
        let fields = Fields { ssrc, pt: 96, index, timestamp, marker: true, elements: &elements };
        let mut payload = vec![0x90, 0x80, 0x80 | (index >> 8) as u8 & 0x7F, index as u8, 0, 0, 0];
        payload.extend([0x9D, 0x01, 0x2A, 0x80, 0x02, 0xE0, 0x01, 0, 0]);
        let packet = self.world.raw(self.alice).seal(&fields, &payload);
        self.world.raw(self.alice).out.push(packet.clone());
        self.world.run(Duration::from_millis(33));
        packet
    }

    fn received(&self) -> usize {
        self.world.got(self.bob, 96).len()
    }
}

#[test]
fn a_stream_goes_on_behind_an_interruption_of_any_length() {
    for (seed, gap) in [(54, 32_768), (55, 40_000), (56, 65_530), (57, 65_536), (58, 100_000), (59, 131_000)] {
        let mut scene = Scene::new(seed, &[(Ssrc(700), None)]);
        for n in 0..30 {
            scene.send(700, 10 + n, Some("0"));
        }
        assert_eq!(scene.received(), 30, "{gap}");
        // Until the server doubts its rollover counter it opens some in vain, or takes them for replays.
        for n in 0..15 {
            scene.send(700, 40 + gap + n, Some("0"));
        }
        let doubted = 45 - scene.received();
        assert!(doubted <= 10, "{doubted} of {gap}");
        for n in 15..40 {
            scene.send(700, 40 + gap + n, Some("0"));
        }
        let got = scene.world.got(scene.bob, 96);
        assert_eq!(got.len(), 70 - doubted, "{gap}");
        assert_unbroken(&got);
        // What is lost from now on is missed.
        scene.world.raw(scene.alice).reports.clear();
        for n in [80, 82, 83] {
            scene.send(700, gap + n, Some("0"));
        }
        let missed = format!("Nack 700 [{}]", (gap + 81) as u16);
        let is_told = scene.world.raw(scene.alice).reports.iter().any(|(_, words)| *words == missed);
        assert!(is_told, "{gap}: {:?}", scene.world.raw(scene.alice).reports);
    }
}

#[test]
fn a_camera_that_is_switched_on_again_goes_on_with_its_rollover_counter_and_its_recordings_stay_replays() {
    let mut scene = Scene::new(51, &[(Ssrc(700), None)]);
    let recorded = scene.send(700, 10, Some("0"));
    for step in 1..=14 {
        scene.send(700, 10 + step * 10_000, Some("0"));
    }
    assert_eq!(scene.received(), 15);
    let alice = scene.world.id(scene.alice);
    scene.world.command(Command::Unpublish { client: alice, track: scene.track.clone() });
    let outcomes = scene.world.offer(scene.alice, vec![sends("0")], vec![]);
    scene.track = outcomes[0].track.clone().unwrap().id;
    scene.subscribe("1");
    let before = scene.received();
    for index in 140_011..140_016 {
        scene.send(700, index, Some("0"));
    }
    assert_eq!(scene.received() - before, 5);
    let address = scene.world.members[scene.alice].address;
    let refused = scene.world.inject(address, &recorded);
    assert!(
        matches!(refused, Some(DropReason::SrtpReplay | DropReason::SrtpTooOld | DropReason::SrtpBadTag)),
        "{refused:?}"
    );
    assert_eq!(scene.received() - before, 5);
}

#[test]
fn a_stream_is_followed_however_its_ssrc_comes() {
    type Step = (u32, u64, Option<&'static str>);
    type Variant = (&'static str, &'static [(Ssrc, Option<Ssrc>)], &'static [Step]);
    let variants: [Variant; 4] = [
        ("announced", &[(Ssrc(700), None)], &[(700, 5, None), (700, 6, None)]),
        ("differs from the description, named by MID", &[(Ssrc(700), None)], &[(800, 5, Some("0")), (800, 6, None)]),
        ("not announced, named by MID", &[], &[(800, 5, Some("0")), (800, 6, None)]),
        (
            "changes in mid-call, named by MID",
            &[(Ssrc(700), None)],
            &[(700, 5, Some("0")), (700, 6, None), (800, 60_000, Some("0")), (800, 60_001, None)],
        ),
    ];
    for (what, ssrcs, steps) in variants {
        let mut scene = Scene::new(52, ssrcs);
        for (ssrc, index, mid) in steps {
            scene.world.run_ms(200);
            scene.send(*ssrc, *index, *mid);
        }
        assert_eq!(scene.received(), steps.len(), "{what}");
        assert_unbroken(&scene.world.got(scene.bob, 96));
    }
}

#[test]
fn what_is_sent_again_of_a_stream_that_is_over_disturbs_none_that_has_taken_its_place() {
    let mut scene = Scene::new(56, &[(Ssrc(700), Some(Ssrc(701)))]);
    for index in 10..14 {
        scene.send(700, index, Some("0"));
    }
    scene.world.run_ms(200);
    scene.send(800, 60_000, Some("0"));
    // Packet 12 of the stream before, which was on its way.
    let fields = Fields { ssrc: 701, pt: 97, index: 1, timestamp: 0, marker: true, elements: &[(MID_ID, b"0")] };
    let packet = scene.world.raw(scene.alice).seal(&fields, &[0, 12, 0x90, 0x80, 0x80, 12, 1, 0, 0]);
    scene.world.raw(scene.alice).out.push(packet);
    for index in 60_001..60_020 {
        scene.send(800, index, None);
    }
    assert_eq!(scene.received(), 24);
    assert_unbroken(&scene.world.got(scene.bob, 96));
}

#[test]
fn an_ssrc_that_a_later_offer_announces_is_followed_without_any_name() {
    let mut scene = Scene::new(53, &[(Ssrc(700), None)]);
    scene.send(700, 5, None);
    let alice = scene.alice;
    scene.world.raw(alice).sections[0].ssrcs = vec![(Ssrc(900), None)];
    scene.world.offer(alice, vec![], vec![]);
    scene.send(900, 30_000, None);
    scene.send(900, 30_001, None);
    assert_eq!(scene.received(), 3);
    assert_unbroken(&scene.world.got(scene.bob, 96));
}

#[test]
fn a_payload_type_that_a_later_offer_renumbers_is_followed() {
    let mut scene = Scene::new(54, &[(Ssrc(700), None)]);
    scene.send(700, 5, None);
    let alice = scene.alice;
    for section in &mut scene.world.raw(alice).sections {
        section.codecs[0].pt = Pt(100);
        section.line.formats = vec!["100".into(), "97".into()];
    }
    scene.world.offer(alice, vec![], vec![]);
    let fields = Fields { ssrc: 700, pt: 100, index: 6, timestamp: 9_000, marker: true, elements: &[] };
    let packet = scene.world.raw(alice).seal(&fields, &[0x10, 0, 0, 0, 0x9D, 0x01, 0x2A, 0x80, 0x02, 0xE0, 0x01, 0]);
    scene.world.raw(alice).out.push(packet);
    scene.world.run_ms(50);
    assert_eq!(scene.received(), 2);
}

#[test]
fn packets_that_name_other_sections_or_nothing_known_go_nowhere_and_disturb_nothing() {
    let mut scene = Scene::new(55, &[(Ssrc(700), None)]);
    scene.send(700, 5, None);
    // A section that is not the client's own, one that publishes nothing, and no name where two sections fit.
    scene.send(801, 5, Some("7"));
    scene.send(802, 5, None);
    for ssrc in 0..400 {
        scene.send(10_000 + ssrc, 5, Some("9"));
    }
    scene.send(700, 6, None);
    let got: Vec<_> = scene.world.got(scene.bob, 96);
    assert_eq!(got.len(), 2);
    assert_unbroken(&got);
}

#[test]
fn layers_of_a_section_that_is_used_again_are_known_by_the_ssrcs_that_they_had_there() {
    // Chromium names the layers in its packets until the first report has come, and never again in the section.
    let (mut world, mut encoder, bob, track) = scene(98);
    let alice = 0;
    let mid = Mid::parse("0").unwrap();
    let mut own = track;
    for round in 0..3 {
        world.command(Command::Unpublish { client: world.id(alice), track: own });
        world.raw(alice).sections[0].direction = Direction::Inactive;
        world.offer(alice, vec![], vec![]);
        world.run_ms(1_000);
        world.raw(alice).sections[0].direction = Direction::SendOnly;
        own = world.offer(alice, vec![sends("0")], vec![])[0].track.clone().unwrap().id;
        world.offer(bob, vec![], vec![wants(&mid, Some(&own))]);
        world.forget_received();
        encoder.run(&mut world, 60);
        let got = world.got(bob, 96);
        assert_continuous(&got);
        assert_eq!((got.len() > 40, layer_of(got.last().unwrap())), (true, 2), "{round}");
    }
}

#[test]
fn packets_longer_than_any_that_are_sent_are_dropped_with_the_reason() {
    let mut scene = Scene::new(59, &[(Ssrc(700), None)]);
    let mut browser = section("0", Vp8, Direction::RecvOnly);
    browser.extensions = vec![(3, Extension::TransportSequence), (2, Extension::AbsSendTime)];
    browser.codecs[0].feedback.transport_cc = true;
    scene.world.raw(scene.bob).sections = vec![browser];
    scene.world.offer(scene.bob, vec![], vec![]);
    let address = scene.world.members[scene.alice].address;
    for (index, len, expected) in [(10, 1_460, None), (11, 1_461, Some(DropReason::TooLong)), (12, 1_460, None)] {
        let mut payload = vec![0x90, 0x80, 0x80, index, 0, 0, 0, 0x9D, 0x01, 0x2A, 0x80, 0x02, 0xE0, 0x01, 0, 0];
        payload.resize(len, 7);
        let fields = Fields { ssrc: 700, pt: 96, index: index.into(), marker: true, ..Fields::default() };
        let packet = scene.world.raw(scene.alice).seal(&fields, &payload);
        assert_eq!(scene.world.inject(address, &packet), expected, "{len} bytes");
        scene.world.run_ms(33);
    }
    assert_eq!(scene.received(), 2);
}
