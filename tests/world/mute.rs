//! A pause is no loss: what comes after it follows what came before.

use moonring_core::command::Command;
use moonring_wire::drops::DropReason;
use moonring_wire::media::CodecName::{Opus, Vp8};
use moonring_wire::rtp::codec::inspect;

use crate::sim::World;
use crate::sim::flows::assert_unbroken;

#[test]
fn a_muted_track_is_silent_for_everybody_and_goes_on_without_a_gap() {
    for codec in [Opus, Vp8] {
        let mut world = World::new(30);
        let (alice, bob) = (world.join("alice"), world.join("bob"));
        let track = world.publish(alice, codec);
        world.subscribe(bob, &track, codec);
        world.run_ms(1_000);
        let client = world.id(alice);
        world.take_words(bob);
        world.command(Command::SetMuted { client: client.clone(), track: track.clone(), muted: true });
        world.run_ms(100);
        let (before, dropped) = (world.members[bob].got.len(), world.drops(DropReason::Muted));
        world.run_ms(2_000);
        assert_eq!(world.members[bob].got.len(), before, "{codec:?} is silent");
        assert!(world.drops(DropReason::Muted) > dropped + 50);
        world.command(Command::SetMuted { client, track, muted: false });
        world.run_ms(1_000);
        let got = &world.members[bob].got;
        assert_unbroken(got);
        let first = &got[before];
        if codec == Vp8 {
            assert!(inspect(Vp8, &first.head, None).key_frame, "pictures begin with a key frame");
        }
        let step = first.timestamp.wrapping_sub(got[before - 1].timestamp);
        let seconds = f64::from(step) / f64::from(codec.clock_rate());
        assert!((1.9..2.6).contains(&seconds), "{codec:?}: {seconds} s by its time stamps");
        let changes: Vec<bool> = world
            .take_words(bob)
            .iter()
            .filter(|w| w.starts_with("TrackChanged"))
            .map(|w| w.contains("muted: true"))
            .collect();
        assert_eq!(changes, [true, false]);
    }
}

#[test]
fn muting_twice_is_muting_once() {
    let mut world = World::new(31);
    let (alice, bob) = (world.join("alice"), world.join("bob"));
    let track = world.publish(alice, Opus);
    world.take_words(bob);
    world.take_words(alice);
    for muted in [true, true, false, false] {
        world.command(Command::SetMuted { client: world.id(alice), track: track.clone(), muted });
    }
    assert_eq!(world.take_words(bob).len(), 2);
    world.command(Command::SetMuted { client: world.id(bob), track, muted: true });
    let told = world.take_words(alice);
    let changes = told.iter().filter(|words| words.starts_with("TrackChanged")).count();
    assert_eq!(changes, 2, "nobody mutes another's track: {told:?}");
}
