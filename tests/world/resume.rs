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
    let [joined] = &told[..] else { panic!("{told:?}") };
    let (room, mine) = joined.split_once("own: ").unwrap();
    assert!(joined.starts_with("Joined") && room.contains("\"bob\"") && room.contains(other.as_str()), "{joined}");
    assert!(mine.contains(own.as_str()) && !room.contains(own.as_str()), "{joined}");
    assert_eq!(world.take_words(bob), Vec::<String>::new());
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
