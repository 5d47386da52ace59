//! Only the loudest of a room are heard, where that is wanted.

use std::collections::HashMap;
use std::time::Duration;

use moonring_core::shard::ShardSettings;
use moonring_wire::drops::DropReason;
use moonring_wire::media::CodecName::Opus;

use crate::sim::flows::assert_unbroken;
use crate::sim::{Got, OPEN, World, settings};

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
