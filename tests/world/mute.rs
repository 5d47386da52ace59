//! A pause is no loss: what comes after it follows what came before.

use moonring_core::command::Command;
use moonring_wire::drops::DropReason;
use moonring_wire::id::Ssrc;
use moonring_wire::media::CodecName::{Opus, Vp8};
use moonring_wire::negotiate::Direction;
use moonring_wire::rtp::codec::inspect;

use crate::sim::World;
use crate::sim::flows::{assert_unbroken, sends};
use crate::sim::raw::{Fields, section};

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
fn nobody_asks_for_packets_of_a_track_that_is_muted() {
    let mut world = World::new(32);
    let alice = world.join_raw("alice");
    let mut sending = section("0", Vp8, Direction::SendOnly);
    sending.ssrcs = vec![(Ssrc(700), None)];
    world.raw(alice).sections = vec![sending];
    let track = world.offer(alice, vec![sends("0")], vec![])[0].track.clone().unwrap().id;
    let bob = world.join("bob");
    world.subscribe(bob, &track, Vp8);
    world.run_ms(300);
    let send = |world: &mut World, indexes: &[u64]| {
        for index in indexes {
            let fields =
                Fields { ssrc: 700, pt: 96, index: *index, timestamp: *index as u32 * 3_000, ..Fields::default() };
            let packet = world.raw(alice).seal(&fields, &[0x10, 0x01, 0, 0]);
            world.raw(alice).out.push(packet);
            world.run_ms(5);
        }
        world.run_ms(200);
        let reports = std::mem::take(&mut world.raw(alice).reports);
        let mut nacks: Vec<_> =
            reports.into_iter().map(|(_, words)| words).filter(|words| words.starts_with("Nack")).collect();
        nacks.dedup();
        nacks
    };
    assert_eq!(send(&mut world, &[100, 102, 103]), ["Nack 700 [101]"]);
    for (muted, indexes, asked) in [
        // What was missing before is of no use either.
        (true, &[104, 106, 107][..], &[][..]),
        (false, &[110, 112, 113], &["Nack 700 [111]"]),
    ] {
        world.command(Command::SetMuted { client: world.id(alice), track: track.clone(), muted });
        assert_eq!(send(&mut world, indexes), asked, "muted: {muted}");
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
