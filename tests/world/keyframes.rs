//! Key frames are asked for once, however many need one, and whoever comes late gets a picture soon.

use moonring_core::command::Command;
use moonring_wire::id::{Mid, Ssrc};
use moonring_wire::media::CodecName::Vp8;
use moonring_wire::negotiate::Direction;
use moonring_wire::rtp::codec::inspect;

use crate::sim::World;
use crate::sim::flows::{assert_unbroken, wants};
use crate::sim::raw::section;
use crate::slow::{CHROMIUM, scene_of};

#[test]
fn five_late_joiners_cause_one_request_and_begin_with_a_key_frame() {
    let mut world = World::new(10);
    let alice = world.join("alice");
    let track = world.publish(alice, Vp8);
    world.run_ms(5_000);
    world.forget_received();
    let late: Vec<usize> = (0..5).map(|n| world.join(&format!("late{n}"))).collect();
    for who in &late {
        world.subscribe(*who, &track, Vp8);
    }
    world.run_ms(450);
    assert_eq!(world.members[alice].key_frames_asked(), 1, "one for all who came at the same time");
    for who in &late {
        let got = world.got(*who, 96);
        assert_unbroken(&got);
        assert!(inspect(Vp8, &got[0].head, None).key_frame, "the first packet starts a key frame");
        assert!(got[0].at < world.now - std::time::Duration::from_millis(100), "soon");
    }
}

#[test]
fn who_comes_within_a_second_of_a_key_frame_begins_with_that_if_little_has_come_since() {
    // At a shard that had nobody for it before, a layer has no past.
    let is_far = usize::from(crate::sim::places::count() > 1);
    for (pictures, requests) in [(9, 0), (13, is_far), (22, 1)] {
        let (mut world, mut encoder, _, track) = scene_of(12, &[Some(300_000)], (CHROMIUM, 15, 0));
        (0..pictures).for_each(|_| encoder.picture(&mut world));
        let late = world.join("late");
        let mid = world.peer(late).receive(Vp8);
        world.offer(late, vec![], vec![wants(&mid, Some(&track))]);
        world.members[late].down.rate_bps = Some(300_000);
        encoder.asked = 0;
        (0..10).for_each(|_| encoder.picture(&mut world));
        assert_eq!(encoder.asked, requests, "after {pictures} pictures at 15 a second");
        let got = world.got(late, 96);
        assert!(inspect(Vp8, &got[0].head, None).key_frame, "{pictures}: the first packet starts a key frame");
    }
}

#[test]
fn a_storm_of_requests_is_one_request_a_second() {
    let mut world = World::new(11);
    let alice = world.join("alice");
    let track = world.publish(alice, Vp8);
    let storm: Vec<usize> = (0..4).map(|n| world.join_raw(&format!("storm{n}"))).collect();
    let mid = Mid::parse("0").unwrap();
    for who in &storm {
        world.raw(*who).sections = vec![section("0", Vp8, Direction::RecvOnly)];
        let outcomes = world.offer(*who, vec![], vec![wants(&mid, Some(&track))]);
        assert_eq!(outcomes[0].reason, None);
    }
    world.run_ms(2_000);
    world.forget_received();
    for _ in 0..60 {
        for who in &storm {
            let media = world.raw(*who).stream(&mid).unwrap().ssrc;
            let pli = world.raw(*who).control(|w| w.pli(Ssrc(1), media).unwrap());
            world.raw(*who).out.push(pli);
        }
        world.run_ms(50);
    }
    let asked = world.members[alice].key_frames_asked();
    assert!((3..=4).contains(&asked), "{asked} requests in 3 s of 240 wishes");
}

#[test]
fn who_asks_for_a_key_frame_of_what_is_paused_stops_nobodys_picture_for_it() {
    let mut world = World::new(13);
    let (alice, bob) = (world.join("alice"), world.join_raw("bob"));
    let (track, mid) = (world.publish(alice, Vp8), Mid::parse("0").unwrap());
    world.raw(bob).sections = vec![section("0", Vp8, Direction::RecvOnly)];
    world.offer(bob, vec![], vec![wants(&mid, Some(&track))]);
    world.run_ms(3_000);
    for (size, asked) in [(0, 0), (360, 1)] {
        let client = world.id(bob);
        world.command(Command::SetView { client, track: track.clone(), width: size, height: size });
        world.run_ms(1_500);
        world.forget_received();
        // Chromium asks for some seconds when nothing comes any more.
        let media = world.raw(bob).stream(&mid).unwrap().ssrc;
        let pli = world.raw(bob).control(|w| w.pli(Ssrc(1), media).unwrap());
        world.raw(bob).out.push(pli);
        world.run_ms(1_500);
        assert_eq!(world.members[alice].key_frames_asked(), asked, "{size}");
    }
}

#[test]
fn nobody_is_asked_for_key_frames_of_a_muted_track_and_unmuting_asks_at_once() {
    let mut world = World::new(12);
    let (alice, bob) = (world.join("alice"), world.join("bob"));
    let track = world.publish(alice, Vp8);
    world.run_ms(1_000);
    world.command(Command::SetMuted { client: world.id(alice), track: track.clone(), muted: true });
    world.run_ms(500);
    world.forget_received();
    world.subscribe(bob, &track, Vp8);
    world.run_ms(5_000);
    assert_eq!(world.members[alice].key_frames_asked(), 0);
    world.command(Command::SetMuted { client: world.id(alice), track, muted: false });
    world.run_ms(100);
    assert_eq!(world.members[alice].key_frames_asked(), 1);
    assert!(inspect(Vp8, &world.got(bob, 96)[0].head, None).key_frame);
}
