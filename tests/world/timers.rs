//! What a client sends makes no timer of the shard due again and again: everybody else's would wait behind it. The world
//! itself watches over that whenever time passes.

use moonring_core::command::Command;
use moonring_wire::id::{Mid, Ssrc, TrackId};
use moonring_wire::media::CodecName::{self, Opus, Vp8};
use moonring_wire::negotiate::Direction;

use crate::sim::World;
use crate::sim::flows::{sends, wants};
use crate::sim::raw::{Fields, MID_ID, section};

/// Alice publishes in sections "0" and "1", with SSRC 500 in the first, which Bob receives.
fn received(world: &mut World, codec: CodecName) -> (usize, TrackId) {
    let (alice, track) = published(world, codec);
    receive(world, codec, &track);
    (alice, track)
}

fn receive(world: &mut World, codec: CodecName, track: &TrackId) -> usize {
    let bob = world.join_raw("bob");
    world.raw(bob).sections = vec![section("0", codec, Direction::RecvOnly)];
    world.offer(bob, vec![], vec![wants(&Mid::parse("0").unwrap(), Some(track))]);
    world.run_ms(300);
    bob
}

/// Alice publishes in sections "0" and "1", with SSRC 500 in the first.
fn published(world: &mut World, codec: CodecName) -> (usize, TrackId) {
    let alice = world.join_raw("alice");
    let mut first = section("0", codec, Direction::SendOnly);
    first.ssrcs = vec![(Ssrc(500), None)];
    first.codecs[0].feedback.nack = true;
    world.raw(alice).sections = vec![first, section("1", codec, Direction::SendOnly)];
    let outcomes = world.offer(alice, vec![sends("0"), sends("1")], vec![]);
    world.run_ms(300);
    (alice, outcomes[0].track.clone().unwrap().id)
}

/// Packets 0, 1 and 4 of SSRC 500: two are missing, and asked for.
fn leave_a_gap(world: &mut World, alice: usize) {
    for index in [0, 1, 4] {
        send(world, alice, index, None);
    }
    world.run_ms(20);
    assert!(!nacks(world, alice).is_empty(), "the gap is asked for");
}

fn send(world: &mut World, alice: usize, index: u64, mid: Option<&str>) {
    send_picture(world, alice, index, (true, mid));
}

fn send_picture(world: &mut World, alice: usize, index: u64, (is_key_frame, mid): (bool, Option<&str>)) {
    let elements: Vec<(u8, &[u8])> = mid.map(|mid| (MID_ID, mid.as_bytes())).into_iter().collect();
    let timestamp = 3_000 * index as u32;
    let pt = world.raw(alice).sections[0].codecs[0].pt.0;
    let fields = Fields { ssrc: 500, pt, index, timestamp, elements: &elements, ..Fields::default() };
    let packet = world.raw(alice).seal(&fields, &[0x10, u8::from(!is_key_frame), 0, 0, 0x9D, 0x01, 0x2A]);
    world.raw(alice).out.push(packet);
    world.run_ms(1);
}

fn nacks(world: &mut World, alice: usize) -> Vec<String> {
    world.raw(alice).reports.iter().map(|(_, words)| words.clone()).filter(|words| words.starts_with("Nack")).collect()
}

#[test]
fn a_request_for_a_key_frame_of_sound_is_ignored() {
    let mut world = World::new(90);
    let (alice, track) = published(&mut world, Opus);
    let (bob, mid) = (receive(&mut world, Opus, &track), Mid::parse("0").unwrap());
    let media = world.raw(bob).stream(&mid).unwrap().ssrc;
    let asked = world.raw(bob).control(|w| w.pli(Ssrc(1), media).and_then(|()| w.fir(Ssrc(1), media, 1)).unwrap());
    world.raw(bob).out.push(asked);
    world.run_ms(3_000);
    let asked =
        world.raw(alice).reports.iter().filter(|(_, words)| words.starts_with("Pli") || words.starts_with("Fir"));
    assert_eq!(asked.count(), 0);
}

#[test]
fn what_is_missing_of_a_stream_that_another_section_has_now_is_not_asked_for_any_more() {
    let mut world = World::new(91);
    let (alice, _) = received(&mut world, Vp8);
    leave_a_gap(&mut world, alice);
    send(&mut world, alice, 5, Some("1"));
    world.run_ms(100);
    world.raw(alice).reports.clear();
    world.run_ms(3_000);
    assert_eq!(nacks(&mut world, alice), Vec::<String>::new());
}

#[test]
fn what_is_missing_is_not_asked_for_after_an_offer_without_requests_for_packets() {
    let mut world = World::new(92);
    let (alice, _) = received(&mut world, Vp8);
    leave_a_gap(&mut world, alice);
    for section in &mut world.raw(alice).sections {
        section.codecs[0].feedback.nack = false;
    }
    world.offer(alice, vec![], vec![]);
    world.run_ms(100);
    world.raw(alice).reports.clear();
    world.run_ms(3_000);
    assert_eq!(nacks(&mut world, alice), Vec::<String>::new());
}

#[test]
fn what_is_missing_of_a_track_is_asked_for_while_somebody_receives_it() {
    for codec in [Vp8, Opus] {
        let mut world = World::new(93);
        let (alice, track) = published(&mut world, codec);
        let mut index = 0;
        // Two packets are missing, and asked for or not, and nobody asks for them later.
        let mut asked = |world: &mut World| {
            world.raw(alice).reports.clear();
            for more in [1, 2, 5, 6] {
                send(world, alice, index + more, None);
            }
            index += 6;
            world.run_ms(100);
            let asked = !nacks(world, alice).is_empty();
            world.run_ms(3_000);
            asked
        };
        assert!(!asked(&mut world), "{codec:?}: nobody is there");
        let bob = receive(&mut world, codec, &track);
        assert!(asked(&mut world), "{codec:?}: Bob receives it");
        world.command(Command::Unsubscribe { client: world.id(bob), track: track.clone() });
        world.run_ms(5_000);
        assert!(!asked(&mut world), "{codec:?}: nobody does any more");
        world.offer(bob, vec![], vec![wants(&Mid::parse("0").unwrap(), Some(&track))]);
        world.run_ms(100);
        assert!(asked(&mut world), "{codec:?}: Bob receives it again");
    }
}

#[test]
fn a_key_frame_behind_which_something_is_missing_that_nobody_asked_for_is_no_beginning() {
    for gap in [false, true] {
        let mut world = World::new(94);
        let (alice, track) = published(&mut world, Vp8);
        for index in if gap { [0, 1, 4] } else { [0, 1, 2] } {
            send_picture(&mut world, alice, index, (index == 0, None));
        }
        world.run_ms(50); // until they have come
        let bob = world.join_raw("bob");
        world.raw(bob).sections = vec![section("0", Vp8, Direction::RecvOnly)];
        world.offer(bob, vec![], vec![wants(&Mid::parse("0").unwrap(), Some(&track))]);
        world.run_ms(200);
        let asked = world.raw(alice).reports.iter().any(|(_, words)| words.starts_with("Pli"));
        assert_eq!((world.got(bob, 96).len(), asked), if gap { (0, true) } else { (3, false) });
    }
}
