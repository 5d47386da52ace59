//! Sound with the packets of the past in it (RED), and lost sound that is asked for again.

use std::time::Duration;

use moonring_wire::drops::DropReason;
use moonring_wire::id::{Mid, Pt, Ssrc};
use moonring_wire::media::Codec;
use moonring_wire::media::CodecName::Opus;
use moonring_wire::negotiate::{AnswerSection, Direction, OfferSection, OfferedCodec};

use crate::sim::World;
use crate::sim::flows::{assert_unbroken, sends, wants};
use crate::sim::raw::{Fields, section};

/// Opus as `opus` and, if it is given, with the packets of the past as `red`, which is preferred.
fn microphone(direction: Direction, opus: u8, red: Option<u8>) -> OfferSection {
    let mut section = section("0", Opus, direction);
    section.codecs[0].pt = Pt(opus);
    section.codecs[0].codec.fmtp = "minptime=10;useinbandfec=1".into();
    section.codecs[0].feedback.nack = true;
    if let Some(red) = red {
        let codec = Codec { name: Opus, fmtp: format!("{opus}/{opus}") };
        let feedback = Default::default();
        section.codecs.insert(0, OfferedCodec { pt: Pt(red), codec, rtx: None, feedback });
    }
    section
}

/// Alice, who sends to Bob, who takes RED, and to Carol, who does not.
struct Scene {
    world: World,
    alice: usize,
    bob: usize,
    carol: usize,
}

impl Scene {
    fn new(seed: u64) -> Self {
        let mut world = World::new(seed);
        let [alice, bob, carol] = ["alice", "bob", "carol"].map(|name| world.join_raw(name));
        let mut sending = microphone(Direction::SendOnly, 111, Some(63));
        sending.ssrcs = vec![(Ssrc(31), None)];
        world.raw(alice).sections = vec![sending];
        let track = world.offer(alice, vec![sends("0")], vec![])[0].track.clone().unwrap();
        assert_eq!(track.codec, Opus);
        for (who, red) in [(bob, Some(100)), (carol, None)] {
            world.raw(who).sections = vec![microphone(Direction::RecvOnly, 101, red)];
            let outcome = world.offer(who, vec![], vec![wants(&Mid::parse("0").unwrap(), Some(&track.id))]).remove(0);
            assert_eq!(outcome.reason, None);
        }
        world.run_ms(500);
        Self { world, alice, bob, carol }
    }

    fn send(&mut self, pt: u8, index: u64, timestamp: u32, payload: &[u8]) {
        let fields = Fields { ssrc: 31, pt, index, timestamp, ..Fields::default() };
        let packet = self.world.raw(self.alice).seal(&fields, payload);
        self.world.raw(self.alice).out.push(packet);
        self.world.run(Duration::from_millis(20));
    }

    /// Payload types and payloads that came.
    fn got(&self, who: usize) -> Vec<(u8, Vec<u8>)> {
        self.world.members[who].got.iter().map(|got| (got.pt, got.head.clone())).collect()
    }
}

#[test]
fn redundancy_is_answered_as_offered_with_the_parameters_of_opus() {
    let mut scene = Scene::new(320);
    for (who, expected) in [(scene.alice, &[63, 111][..]), (scene.bob, &[100, 101]), (scene.carol, &[101])] {
        let answer = scene.world.raw(who).answer.clone().unwrap();
        let AnswerSection::Accepted { codecs, .. } = &answer.sections[0] else { panic!("{answer:?}") };
        assert_eq!(codecs.iter().map(|codec| codec.pt.0).collect::<Vec<_>>(), expected);
        let opus = codecs.last().unwrap();
        assert_eq!(opus.codec.fmtp, "minptime=10;useinbandfec=1");
        assert!(opus.feedback.nack && !opus.codec.is_red());
    }
}

#[test]
fn who_takes_redundancy_gets_it_and_who_does_not_gets_the_packet_without() {
    let mut scene = Scene::new(321);
    scene.send(111, 10, 960, &[1, 2, 3]);
    scene.send(63, 11, 1_920, &[0xEF, 0x0F, 0x00, 3, 111, 1, 2, 3, 4, 5, 6]);
    // Silence for half a second, and comfort noise of one byte: DTX.
    scene.send(111, 12, 25_920, &[9]);
    scene.send(63, 13, 26_880, &[0xEF, 0x0F, 0x00, 3, 111]);
    assert_eq!(
        scene.got(scene.bob),
        [(101, vec![1, 2, 3]), (100, vec![0xE5, 0x0F, 0x00, 3, 101, 1, 2, 3, 4, 5, 6]), (101, vec![9])]
    );
    assert_eq!(scene.got(scene.carol), [(101, vec![1, 2, 3]), (101, vec![4, 5, 6]), (101, vec![9])]);
    for who in [scene.bob, scene.carol] {
        let got = &scene.world.members[who].got;
        assert_unbroken(got);
        let steps: Vec<u32> = got.windows(2).map(|pair| pair[1].timestamp.wrapping_sub(pair[0].timestamp)).collect();
        assert_eq!(steps, [960, 24_000]);
    }
}

#[test]
fn padding_under_the_payload_type_of_redundancy_leaves_no_gap() {
    let mut scene = Scene::new(325);
    let red = |own: u8| [0xEF, 0x0F, 0x00, 1, 111, 8, own];
    scene.send(63, 10, 960, &red(1));
    // libwebrtc finds out what its path carries with packets of padding alone, under the payload type that it sent last.
    let mut padding = vec![0xA0, 63, 0, 11, 0, 0, 3, 0xC0, 0, 0, 0, 31];
    padding.resize(12 + 200, 0);
    padding[211] = 200;
    let sealed = scene.world.raw(scene.alice).seal_any(&padding).unwrap();
    scene.world.raw(scene.alice).out.push(sealed);
    scene.world.run_ms(20);
    scene.send(63, 12, 1_920, &red(2));
    scene.world.run_ms(200);
    let relabelled = |own: u8| vec![0xE5, 0x0F, 0x00, 1, 101, 8, own];
    assert_eq!(scene.got(scene.bob), [(100, relabelled(1)), (101, vec![]), (100, relabelled(2))]);
    assert_eq!(scene.got(scene.carol), [(101, vec![1]), (101, vec![]), (101, vec![2])]);
    [scene.bob, scene.carol].into_iter().for_each(|who| assert_unbroken(&scene.world.members[who].got));
    let asked = scene.world.raw(scene.alice).reports.iter().filter(|(_, words)| words.starts_with("Nack")).count();
    assert_eq!((asked, scene.world.drops(DropReason::RtpMalformed)), (0, 0));
}

#[test]
fn what_is_sent_again_by_rtx_is_what_its_payload_type_says() {
    let mut scene = Scene::new(324);
    let dave = scene.world.join_raw("dave");
    let mut section = microphone(Direction::RecvOnly, 101, Some(100));
    section.codecs[1].rtx = Some(Pt(102));
    scene.world.raw(dave).sections = vec![section];
    let track = scene.world.published_by(scene.alice).remove(0);
    scene.world.offer(dave, vec![], vec![wants(&Mid::parse("0").unwrap(), Some(&track))]);
    scene.world.run_ms(500);
    scene.send(111, 10, 960, &[1, 2, 3]);
    scene.send(63, 11, 1_920, &[0xEF, 0x0F, 0x00, 3, 111, 1, 2, 3, 4, 5, 6]);
    let before = scene.world.members[dave].got.clone();
    let sequences: Vec<u16> = before.iter().map(|got| got.sequence).collect();
    assert_eq!(before.iter().map(|got| got.pt).collect::<Vec<_>>(), [101, 100]);
    let nack = scene.world.raw(dave).control(|w| w.nack(Ssrc(1), before[0].ssrc, &sequences).unwrap());
    scene.world.raw(dave).out.push(nack);
    scene.world.run_ms(50);
    // Behind the original sequence number: Opus, as the offer says of that payload type.
    let again: Vec<_> = scene.world.got(dave, 102).iter().map(|got| got.head[2..].to_vec()).collect();
    assert_eq!(again, [vec![1, 2, 3], vec![4, 5, 6]]);
}

#[test]
fn lost_sound_is_asked_for_and_sent_again_byte_for_byte() {
    let mut scene = Scene::new(322);
    scene.send(111, 10, 960, &[1, 2, 3]);
    for index in [12, 13] {
        scene.send(63, index, index as u32 * 960, &[0xEF, 0x0F, 0x00, 1, 111, 8, index as u8]);
    }
    let asked: Vec<String> = scene.world.raw(scene.alice).reports.iter().map(|(_, words)| words.clone()).collect();
    assert!(asked.contains(&"Nack 31 [11]".to_owned()), "{asked:?}");
    scene.send(63, 11, 11 * 960, &[0xEF, 0x0F, 0x00, 1, 111, 8, 11]);
    // What Bob and Carol missed on the way: each gets again what it got.
    scene.world.run_ms(5);
    for who in [scene.bob, scene.carol] {
        let before = scene.world.members[who].got.clone();
        let (ssrc, sequences): (_, Vec<u16>) = (before[0].ssrc, before.iter().map(|got| got.sequence).collect());
        let sealed = scene.world.raw(who).sealed.clone();
        scene.world.raw(who).sealed.clear();
        let nack = scene.world.raw(who).control(|w| w.nack(Ssrc(1), ssrc, &sequences).unwrap());
        scene.world.raw(who).out.push(nack);
        scene.world.run_ms(50);
        let mut again = scene.world.raw(who).sealed.clone();
        let mut expected = sealed;
        again.sort();
        expected.sort();
        assert_eq!(again, expected);
    }
}
