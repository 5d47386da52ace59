//! What ends is gone: no events for the dead, no addresses of theirs, no room without anybody.

use moonring_core::command::{Command, Event, LeaveCause};
use moonring_loadtest::peer::PeerEvent;
use moonring_policy::client::Via;
use moonring_policy::hook::Action;
use moonring_wire::drops::DropReason;
use moonring_wire::id::RoomId;
use moonring_wire::media::CodecName::{Opus, Vp8};

use crate::sim::flows::{assert_unbroken, wants};
use crate::sim::{OPEN, World};

#[test]
fn after_unsubscribing_nothing_comes_and_subscribing_again_begins_anew() {
    let mut world = World::new(40);
    let (alice, bob) = (world.join("alice"), world.join("bob"));
    let track = world.publish(alice, Vp8);
    let mid = world.subscribe(bob, &track, Vp8);
    world.run_ms(1_000);
    let first = world.got(bob, 96)[0].ssrc;
    world.command(Command::Unsubscribe { client: world.id(bob), track: track.clone() });
    world.peer(bob).stop(&mid);
    world.run_ms(50);
    world.forget_received();
    world.run_ms(1_000);
    assert_eq!(world.members[bob].got.len(), 0);
    world.take_words(bob);
    world.command(Command::Unsubscribe { client: world.id(bob), track: track.clone() });
    assert_eq!(world.take_words(bob), Vec::<String>::new(), "it is received no longer, as was asked");
    world.subscribe(bob, &track, Vp8);
    world.run_ms(1_000);
    let got = world.got(bob, 96);
    assert_unbroken(&got);
    assert_ne!(got[0].ssrc, first);
}

#[test]
fn after_unpublishing_everybody_is_told_and_packets_that_still_come_are_unknown() {
    let mut world = World::new(41);
    let (alice, bob) = (world.join("alice"), world.join("bob"));
    let (sound, picture) = (world.publish(alice, Opus), world.publish(alice, Vp8));
    world.subscribe(bob, &sound, Opus);
    world.subscribe(bob, &picture, Vp8);
    world.run_ms(1_000);
    world.take_words(bob);
    world.command(Command::Unpublish { client: world.id(alice), track: picture.clone() });
    let told = world.take_words(bob);
    assert!(
        told.len() == 1 && told[0].starts_with("TrackUnpublished") && told[0].contains(picture.as_str()),
        "{told:?}"
    );
    world.run_ms(50);
    world.forget_received();
    world.run_ms(1_000);
    assert!(world.drops(DropReason::RtpUnknownSsrc) > 30);
    assert_eq!(world.got(bob, 96).len(), 0);
    assert_unbroken(&world.got(bob, 111));
}

#[test]
fn what_is_asked_of_a_track_that_has_just_ended_is_no_mistake_and_of_one_that_never_was_is_one() {
    let mut world = World::new(43);
    let (alice, bob) = (world.join("alice"), world.join("bob"));
    let track = world.publish(alice, Vp8);
    world.subscribe(bob, &track, Vp8);
    world.command(Command::Unpublish { client: world.id(alice), track: track.clone() });
    for (track, mistakes) in [(track, 0), (moonring_wire::id::TrackId::parse("never").unwrap(), 4)] {
        world.take_words(alice);
        world.take_words(bob);
        let (client, publisher) = (world.id(bob), world.id(alice));
        world.command(Command::SetLayer { client: client.clone(), track: track.clone(), layer: Some(0) });
        world.command(Command::Unsubscribe { client, track: track.clone() });
        world.command(Command::SetMuted { client: publisher.clone(), track: track.clone(), muted: true });
        world.command(Command::Unpublish { client: publisher, track });
        let told = [world.take_words(alice), world.take_words(bob)].concat();
        assert_eq!(told.iter().filter(|words| words.contains("UnknownTrack")).count(), mistakes, "{told:?}");
        assert_eq!(told.len(), mistakes);
    }
}

#[test]
fn whoever_left_is_told_nothing_more_and_its_address_is_nobodys() {
    let mut world = World::new(42);
    let (alice, bob) = (world.join("alice"), world.join_raw("bob"));
    let track = world.publish(alice, Vp8);
    let mid = moonring_wire::id::Mid::parse("0").unwrap();
    world.raw(bob).sections = vec![crate::sim::raw::section("0", Vp8, moonring_wire::negotiate::Direction::RecvOnly)];
    world.offer(bob, vec![], vec![wants(&mid, Some(&track))]);
    world.run_ms(1_000);
    assert!(world.members[bob].got.len() > 30);
    world.leave(bob);
    assert_eq!(world.left(bob), Some(&LeaveCause::Left));
    world.take_words(bob);
    let came = world.members[bob].datagrams_in;
    let check = world.raw(bob).check();
    let report = world.raw(bob).control(|_| {});
    let address = world.members[bob].address;
    assert_eq!(world.inject(address, &check), Some(DropReason::StunUnknownUser));
    assert_eq!(world.inject(address, &report), Some(DropReason::UnknownAddress));
    for command in [
        Command::Unpublish { client: world.id(bob), track: track.clone() },
        Command::Unsubscribe { client: world.id(bob), track: track.clone() },
        Command::SetMuted { client: world.id(bob), track: track.clone(), muted: true },
        Command::SetLayer { client: world.id(bob), track, layer: None },
        Command::Message { client: world.id(bob), value: serde_json::Value::Null },
        Command::Leave { client: world.id(bob), reason: "again".into() },
    ] {
        world.command(command);
    }
    world.run_ms(3_000);
    assert_eq!(world.take_words(bob), Vec::<String>::new());
    // What was on its way when it left still arrived.
    assert!(world.members[bob].datagrams_in <= came + 20);
}

#[test]
fn a_room_closes_with_its_last_client_however_it_goes() {
    for way in ["leave", "dtls goodbye", "silence", "never connected"] {
        let mut world = World::new(43);
        let who = world.join_raw("alice");
        world.raw(who).sections =
            vec![crate::sim::raw::section("0", Opus, moonring_wire::negotiate::Direction::SendOnly)];
        if way != "never connected" {
            world.offer(who, vec![crate::sim::flows::sends("0")], vec![]);
            world.run_ms(1_000);
            assert!(world.raw(who).connected);
        }
        match way {
            "leave" | "never connected" => world.leave(who),
            "dtls goodbye" => {
                let now = world.now;
                world.raw(who).close(now);
            }
            _ => {}
        }
        world.run_ms(if way == "silence" { 31_000 } else { 1_000 });
        assert!(world.left(who).is_some(), "{way}: {:?}", world.events);
        let closed = world.events.iter().any(|event| matches!(event, Event::RoomClosed(_)));
        assert!(closed, "{way}: {:?}", world.events);
    }
}

#[test]
fn a_client_whose_transport_ends_takes_its_tracks_with_it() {
    let mut world = World::new(44);
    let (alice, bob) = (world.join("alice"), world.join("bob"));
    let track = world.publish(alice, Opus);
    world.subscribe(bob, &track, Opus);
    world.run_ms(1_000);
    world.take_words(bob);
    let now = world.now;
    world.members[alice].paused = true;
    let (peer, outbox) = world.peer_and_outbox(alice);
    peer.close(now, outbox);
    world.run_ms(200);
    let told = world.take_words(bob);
    let starts: Vec<&str> = told.iter().map(|words| words.split(' ').next().unwrap()).collect();
    assert_eq!(starts[..2], ["TrackUnpublished", "ClientLeft"], "{told:?}");
    assert!(matches!(world.left(alice), Some(LeaveCause::TransportFailed(_))));
}

#[test]
fn an_encoder_and_a_player_over_http_are_told_on_their_media_path_however_they_end() {
    for way in ["deleted", "kicked", "closed"] {
        let mut world = World::ruled(45, OPEN);
        let encoder = world.join_via("encoder", Via::Whip);
        world.publish(encoder, Opus);
        let player = world.join_via("player", Via::Whep);
        let mid = world.peer(player).receive(Opus);
        world.offer(player, vec![], vec![wants(&mid, None)]);
        world.run_ms(500);
        let act = |world: &mut World, action| {
            world.command(Command::Act { id: 1, room: RoomId::parse("demo").unwrap(), action });
        };
        for who in [encoder, player] {
            let client = world.id(who);
            match way {
                "deleted" => world.leave(who),
                "kicked" => act(&mut world, Action::Kick { client, reason: "Enough".into() }),
                _ => act(&mut world, Action::CloseRoom { reason: "Over".into() }),
            }
        }
        world.run_ms(100);
        for who in [encoder, player] {
            let told: Vec<_> = world.members[who].told.iter().filter(|e| matches!(e, PeerEvent::Closed(_))).collect();
            assert_eq!(told, [&PeerEvent::Closed("the server closed the connection".into())], "{way}");
        }
    }
}
