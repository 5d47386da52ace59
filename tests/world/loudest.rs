//! Only the loudest of a room are heard, where that is wanted.

use std::collections::HashMap;
use std::time::Duration;

use moonring_core::shard::ShardSettings;
use moonring_wire::drops::DropReason;
use moonring_wire::id::Ssrc;
use moonring_wire::media::CodecName::Opus;
use moonring_wire::media::Extension;
use moonring_wire::negotiate::Direction;

use crate::sim::flows::{assert_unbroken, sends};
use crate::sim::raw::{Fields, section};
use crate::sim::{Got, OPEN, World, settings};

/// The id that clients give the level of their sound.
const LEVEL_ID: u8 = 5;

/// How often somebody begins to be heard.
fn begins(world: &World, who: usize) -> usize {
    let mut last = HashMap::new();
    let is_first = |got: &&Got| last.insert(got.ssrc, got.at).is_none_or(|at| got.at - at > Duration::from_millis(30));
    world.members[who].got.iter().filter(is_first).count()
}

#[test]
fn of_three_who_talk_two_are_heard_without_a_gap_and_a_script_can_let_all_be_heard() {
    let script = format!("{OPEN} function on_message() sfu.set_audio_last_n() end");
    let mut world = World::with(71, ShardSettings { audio_last_n: Some(2), ..settings() }, &script);
    let talkers: Vec<usize> = (0..3).map(|n| world.join(&format!("t{n}"))).collect();
    let listener = world.join("listener");
    let tracks: Vec<_> = talkers.iter().map(|who| world.publish(*who, Opus)).collect();
    for track in &tracks {
        world.subscribe(listener, track, Opus);
    }
    world.run_ms(3_000);
    let streams = |world: &World| {
        let mut ssrcs: Vec<_> = world.got(listener, 111).iter().map(|got| got.ssrc).collect();
        ssrcs.sort_unstable();
        ssrcs.dedup();
        ssrcs
    };
    world.forget_received();
    world.run_ms(2_000);
    // Two at any time, of 50 packets a second each. Who they are may change: the first packet of who is louder leaves between
    // two of who was heard before.
    let heard = world.got(listener, 111).len();
    let most = 202 + begins(&world, listener);
    // Over several shards the decision takes a quarter of a second, in which one more may be heard.
    let most = if crate::sim::places::count() > 1 { most.max(240) } else { most };
    assert!((190..=most).contains(&heard), "{heard} of at most {most}");
    assert!(world.drops(DropReason::NotLoudest) > 90);
    let client = world.id(talkers[0]);
    world.command(moonring_core::command::Command::Message { client, value: "all".into() });
    world.run_ms(2_000);
    let all = streams(&world);
    assert_eq!(all.len(), 3);
    for ssrc in all {
        let got: Vec<_> = world.got(listener, 111).into_iter().filter(|got| got.ssrc == ssrc).collect();
        assert_unbroken(&got);
    }
}

#[test]
fn packets_of_sound_that_nobody_hears_are_not_asked_for_again() {
    let mut world = World::with(72, ShardSettings { audio_last_n: Some(1), ..settings() }, OPEN);
    let talkers = ["loud", "quiet"].map(|name| world.join_raw(name));
    let listener = world.join("listener");
    for who in talkers {
        let mut sending = section("0", Opus, Direction::SendOnly);
        sending.ssrcs = vec![(Ssrc(700), None)];
        sending.extensions.push((LEVEL_ID, Extension::AudioLevel));
        sending.codecs[0].feedback.nack = true;
        world.raw(who).sections = vec![sending];
        let track = world.offer(who, vec![sends("0")], vec![])[0].track.clone().unwrap().id;
        world.subscribe(listener, &track, Opus);
    }
    world.run_ms(300);
    // Every tenth packet is lost.
    for index in (100..200).filter(|index| index % 10 != 5) {
        for (who, level) in talkers.into_iter().zip([10, 60]) {
            let elements: [(u8, &[u8]); 1] = [(LEVEL_ID, &[0x80 | level])];
            let timestamp = index as u32 * 960;
            let fields = Fields { ssrc: 700, pt: 111, index, timestamp, marker: false, elements: &elements };
            let packet = world.raw(who).seal(&fields, &[1, 2, 3]);
            world.raw(who).out.push(packet);
        }
        if index == 150 {
            // By now it is known who is louder.
            talkers.into_iter().for_each(|who| world.raw(who).reports.clear());
        }
        world.run_ms(20);
    }
    let is_asked = |(_, words): &(_, String)| words.starts_with("Nack");
    let asked = talkers.map(|who| world.raw(who).reports.iter().filter(|report| is_asked(report)).count());
    assert!(asked[0] > 0 && asked[1] == 0, "{asked:?}");
}

#[test]
fn padding_of_who_is_not_heard_is_not_forwarded_either() {
    let mut world = World::with(73, ShardSettings { audio_last_n: Some(1), ..settings() }, OPEN);
    // Who comes first is heard until the other one is known to be louder.
    let [quiet, loud] = ["quiet", "loud"].map(|name| world.join_raw(name));
    let listener = world.join("listener");
    for who in [quiet, loud] {
        let mut sending = section("0", Opus, Direction::SendOnly);
        sending.ssrcs = vec![(Ssrc(700), None)];
        sending.extensions.push((LEVEL_ID, Extension::AudioLevel));
        world.raw(who).sections = vec![sending];
        let track = world.offer(who, vec![sends("0")], vec![])[0].track.clone().unwrap().id;
        world.subscribe(listener, &track, Opus);
    }
    world.run_ms(300);
    for index in 100..200 {
        if index == 150 {
            // By now it is known who is louder.
            world.forget_received();
        }
        for (who, level) in [(quiet, 60), (loud, 10)] {
            let elements: [(u8, &[u8]); 1] = [(LEVEL_ID, &[0x80 | level])];
            // libwebrtc pads without a level.
            let is_padding = who == quiet && index % 10 == 9;
            let (elements, payload): (&[_], &[u8]) = if is_padding { (&[], &[]) } else { (&elements, &[1, 2, 3]) };
            let fields = Fields { ssrc: 700, pt: 111, index, timestamp: index as u32 * 960, marker: false, elements };
            let packet = world.raw(who).seal(&fields, payload);
            world.raw(who).out.push(packet);
        }
        world.run_ms(20);
    }
    let got = &world.members[listener].got;
    assert!(got.len() >= 49, "{}", got.len());
    assert_unbroken(got);
}
