//! Sound of several speakers leaves as few sends.

use std::time::{Duration, Instant};

use moonring_core::room::load::Backlog;
use moonring_core::shard::ShardSettings;
use moonring_wire::id::{Mid, Ssrc};
use moonring_wire::media::CodecName::Opus;
use moonring_wire::negotiate::Direction;
use moonring_wire::packet::SendBatch;

use crate::sim::flows::{sends, wants};
use crate::sim::raw::{Fields, section};
use crate::sim::{OPEN, World, settings};

/// A room of `speakers` and one who only listens; the listener stands last.
fn room(speakers: usize, sound_hold: Duration) -> World {
    let mut world = World::with(77, ShardSettings { sound_hold, ..settings() }, OPEN);
    let mut tracks = Vec::new();
    for n in 0..speakers {
        let who = world.join_raw(&format!("speaker{n}"));
        let mut microphone = section("0", Opus, Direction::SendOnly);
        microphone.codecs[0].feedback.nack = true;
        microphone.ssrcs = vec![(Ssrc(100 + n as u32), None)];
        world.raw(who).sections = vec![microphone];
        let outcome = world.offer(who, vec![sends("0")], vec![]).remove(0);
        tracks.push(outcome.track.unwrap().id);
    }
    let listener = world.join_raw("listener");
    let mids: Vec<Mid> = (0..speakers).map(|n| Mid::parse(&n.to_string()).unwrap()).collect();
    world.raw(listener).sections = mids.iter().map(|mid| section(mid.as_str(), Opus, Direction::RecvOnly)).collect();
    let wanted = mids.iter().zip(&tracks).map(|(mid, track)| wants(mid, Some(track))).collect();
    world.offer(listener, vec![], wanted);
    world.run_ms(1_000);
    world
}

/// One packet of each speaker with a payload of that length, at one time.
fn speak(world: &mut World, index: u64, lengths: &[usize]) {
    let mut out = SendBatch::new(1 << 16, 64);
    for (who, len) in lengths.iter().enumerate() {
        let fields =
            Fields { ssrc: 100 + who as u32, pt: 111, index, timestamp: index as u32 * 960, ..Fields::default() };
        let mut packet = world.raw(who).seal(&fields, &vec![7; *len]);
        let from = world.members[who].address;
        world.shard.handle_datagram(world.now, from, &mut packet, &mut out);
    }
    assert!(out.is_empty());
}

/// Lengths of the datagrams to the listener, a list for each send, relative to the shortest.
fn sent(world: &mut World, now: Instant) -> Vec<Vec<usize>> {
    let mut out = SendBatch::new(1 << 16, 64);
    assert!(!world.shard.forward(now, &mut out));
    let sends = out.runs().iter().map(|run| {
        let lengths = (0..u32::from(run.datagrams)).map(|n| {
            let start = n * u32::from(run.segment);
            (run.len - start).min(run.segment.into()) as usize
        });
        lengths.collect::<Vec<_>>()
    });
    let sends: Vec<Vec<usize>> = sends.collect();
    let shortest = sends.iter().flatten().copied().min().unwrap_or(0);
    sends.into_iter().map(|send| send.into_iter().map(|len| len - shortest).collect()).collect()
}

#[test]
fn sound_of_several_speakers_leaves_the_longest_first_and_nearly_as_long_ones_padded() {
    crate::sim::places::on_one_shard();
    for (lengths, expected) in [
        // 100 is padded to 120, which takes a fifth of it; the last of a send may be shorter.
        (&[100, 120, 80][..], &[&[40, 40, 0][..]][..]),
        (&[100, 100, 100], &[&[0, 0, 0]]),
        // A shorter one ends a send: the one after begins another.
        (&[240, 80, 160], &[&[160, 80], &[0]]),
        (&[80, 100, 160, 170, 200], &[&[100, 100, 100, 0], &[0]]),
    ] {
        let mut world = room(lengths.len(), Duration::ZERO);
        for index in 0..3 {
            speak(&mut world, index, lengths);
            let now = world.now;
            assert_eq!(sent(&mut world, now), expected, "{lengths:?}");
            world.run_ms(20);
        }
    }
}

#[test]
fn a_shard_that_is_short_of_time_sends_the_sound_of_several_speakers_at_once_whatever_its_lengths() {
    crate::sim::places::on_one_shard();
    for (lengths, packets, expected) in [
        // What takes more than its own length again is left as it is: a shorter one may end a send.
        (&[240, 80, 160][..], 1, &[&[160, 160, 0][..]][..]),
        (&[100, 180], 2, &[&[0, 0, 0, 0]]),
    ] {
        let mut world = room(lengths.len(), Duration::ZERO);
        let quarter = Duration::from_millis(250);
        for n in 0..8 {
            world.shard.note_tick(world.now + quarter * n, quarter, Backlog::Little);
        }
        (0..packets).for_each(|index| speak(&mut world, index, lengths));
        let now = world.now;
        assert_eq!(sent(&mut world, now), expected, "{lengths:?}");
    }
}

#[test]
fn sound_is_held_back_only_where_many_speak_and_the_server_is_told_to() {
    crate::sim::places::on_one_shard();
    for (speakers, hold_ms, expected_ms) in [(4, 3, 3), (3, 3, 0), (4, 0, 0)] {
        let mut world = room(speakers, Duration::from_millis(hold_ms));
        for index in 0..20 {
            speak(&mut world, index, &vec![100; speakers]);
            world.run_ms(20);
        }
        speak(&mut world, 20, &vec![100; speakers]);
        let mut waited = 0;
        let mut now = world.now;
        while sent(&mut world, now).is_empty() {
            waited += 1;
            now += Duration::from_millis(1);
            world.shard.handle_timeout(now, &mut SendBatch::new(1 << 16, 64));
            assert!(waited <= 20, "{speakers} speakers, {hold_ms} ms");
        }
        assert_eq!(waited, expected_ms, "{speakers} speakers, {hold_ms} ms");
    }
}

#[test]
fn lost_sound_is_asked_for_while_it_can_still_be_played() {
    let mut world = room(1, Duration::ZERO);
    let asked = |world: &mut World| {
        let reports = std::mem::take(&mut world.raw(0).reports);
        reports.iter().filter(|(_, words)| words.starts_with("Nack")).count()
    };
    for index in 10..12 {
        speak(&mut world, index, &[100]);
        world.run_ms(20);
    }
    assert_eq!(asked(&mut world), 0, "nothing is lost");
    // Packet 12 does not come.
    speak(&mut world, 13, &[100]);
    world.run_ms(60);
    assert_eq!(asked(&mut world), 1, "80 ms are taken for the round trip until one is known");
    world.run_ms(400);
    assert_eq!(asked(&mut world), 1, "it is asked for twice within 200 ms");
    world.forget_received();
    speak(&mut world, 12, &[100]);
    world.run_ms(20);
    let heard = world.members[1].got.len();
    assert_eq!(heard, 1, "what comes late is forwarded all the same");
    for index in [14, 16] {
        speak(&mut world, index, &[100]);
        world.run_ms(5);
    }
    speak(&mut world, 15, &[100]);
    world.run_ms(300);
    assert_eq!(asked(&mut world), 0, "it was reordered only");
}
