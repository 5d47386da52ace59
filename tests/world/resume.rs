//! What the core does for connections that come back: a snapshot for one client, and the end of a dead encoder.

use std::time::Duration;

use moonring_core::command::{Command, LeaveCause};
use moonring_wire::id::ClientId;
use moonring_wire::media::CodecName::{Opus, Vp8};

use crate::sim::World;

#[test]
fn a_snapshot_tells_its_client_alone_who_and_what_is_there() {
    let mut world = World::new(80);
    let (alice, bob) = (world.join("alice"), world.join("bob"));
    let (own, other) = (world.publish(alice, Vp8), world.publish(bob, Opus));
    world.run_ms(100);
    world.take_words(alice);
    world.take_words(bob);
    world.command(Command::Snapshot { client: world.id(alice) });
    world.command(Command::Snapshot { client: ClientId::parse("nobody").unwrap() });
    let told = world.take_words(alice);
    let [joined, speakers] = &told[..] else { panic!("{told:?}") };
    assert!(speakers.starts_with("ActiveSpeakers") && speakers.contains("[]"), "{speakers}");
    let (room, mine) = joined.split_once("own: ").unwrap();
    assert!(joined.starts_with("Joined") && room.contains("\"bob\"") && room.contains(other.as_str()), "{joined}");
    assert!(mine.contains(own.as_str()) && !room.contains(own.as_str()), "{joined}");
    assert_eq!(world.take_words(bob), Vec::<String>::new());
}

#[test]
fn a_snapshot_is_followed_by_what_is_paused_and_wanted_now() {
    let mut world = World::new(82);
    let (alice, bob) = (world.join("alice"), world.join("bob"));
    let (first, second) = (world.publish(alice, Vp8), world.publish(alice, Vp8));
    world.subscribe(bob, &first, Vp8);
    world.subscribe(bob, &second, Vp8);
    let hide = |world: &mut World, height| {
        let (client, track) = (world.id(bob), first.clone());
        world.command(Command::SetView { client, track, width: 16 * height / 9, height });
        // A publisher is told of what nobody wants after a while.
        world.run_ms(2_500);
    };
    let again = |world: &mut World, who: usize| {
        world.take_words(who);
        world.command(Command::Snapshot { client: world.id(who) });
        let told = world.take_words(who);
        told.into_iter()
            .filter(|words| !words.starts_with("Joined") && !words.starts_with("Active"))
            .collect::<Vec<_>>()
    };
    for (height, pauses, wanted) in [(0, 1, "layers: []"), (180, 0, "layers: [0]")] {
        hide(&mut world, height);
        let told = again(&mut world, bob);
        assert_eq!(told.len(), pauses, "{told:?}");
        assert!(
            told.iter().all(|words| words.starts_with("TrackPaused") && words.contains(first.as_str())),
            "{told:?}"
        );
        let told = again(&mut world, alice);
        let of = |track: &moonring_wire::id::TrackId| told.iter().find(|words| words.contains(track.as_str())).unwrap();
        assert!(of(&first).starts_with("WantedLayers") && of(&first).contains(wanted), "{told:?}");
        assert!(of(&second).contains("layers: [0]"), "{told:?}");
    }
}

#[test]
fn an_encoder_ends_when_asked_for_silence_and_only_when_it_was_silent_for_so_long() {
    let mut world = World::new(81);
    let encoder = world.join("encoder");
    let ask = |world: &mut World| {
        let (client, silence) = (world.id(encoder), Duration::from_secs(2));
        world.command(Command::LeaveIfSilent { client, silence, reason: "replaced".into() });
        world.left(encoder).cloned()
    };
    assert_eq!(ask(&mut world), None, "it has just come");
    world.publish(encoder, Vp8);
    world.run_ms(3_000);
    assert_eq!(ask(&mut world), None, "it sends");
    world.members[encoder].paused = true;
    world.run_ms(1_500);
    assert_eq!(ask(&mut world), None, "it may send again");
    world.run_ms(1_000);
    assert_eq!(ask(&mut world), Some(LeaveCause::Left));
}
