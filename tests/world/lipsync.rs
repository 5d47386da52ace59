//! Sound and pictures of one publisher stay together: the server's sender reports say the publisher's time.

use std::time::Duration;

use moonring_core::command::{Command, Event};
use moonring_wire::id::{Mid, Ssrc, TrackId};
use moonring_wire::media::CodecName::{Opus, Vp8};
use moonring_wire::negotiate::Direction;
use moonring_wire::rtp::rtcp::{ReportBlock, SenderInfo};

use crate::sim::flows::{sends, wants};
use crate::sim::places::on_one_shard;
use crate::sim::raw::{Fields, section};
use crate::sim::{World, room};

/// (SSRC, payload type, ticks in a second, first time stamp, packets in a second)
const STREAMS: [(u32, u8, u32, u32, u64); 2] = [(31, 111, 48_000, 4_000_000_000, 50), (32, 96, 90_000, 77, 25)];

/// Each packet's payload says when it was captured, in ms.
fn send(world: &mut World, alice: usize, ms: u64) {
    for (ssrc, pt, rate, first, per_second) in STREAMS {
        if !ms.is_multiple_of(1_000 / per_second) {
            continue;
        }
        let timestamp = first.wrapping_add((ms * u64::from(rate) / 1_000) as u32);
        let mut payload = vec![0x10, 0x00, 0, 0, 0x9D, 0x01, 0x2A, 0, 0, 0, 0];
        payload.extend(ms.to_be_bytes());
        let index = 100 + ms * per_second / 1_000;
        let fields = Fields { ssrc, pt, index, timestamp, marker: true, elements: &[] };
        let packet = world.raw(alice).seal(&fields, &payload);
        world.raw(alice).out.push(packet);
        if ms.is_multiple_of(1_000) {
            let info = SenderInfo { ssrc: Ssrc(ssrc), ntp: ntp(ms), rtp_time: timestamp, packets: 0, octets: 0 };
            let report = world.raw(alice).control(|w| w.sender_report(&info, &[]).unwrap());
            world.raw(alice).out.push(report);
        }
    }
}

/// Alice's clock.
fn ntp(ms: u64) -> u64 {
    (5_000 << 32) + (ms << 32) / 1_000
}

/// Alice, who sends sound and pictures, Bob, who receives them, the two tracks, and their sections.
fn scene(seed: u64) -> (World, [usize; 2], Vec<TrackId>, [Mid; 2]) {
    let mut world = World::new(seed);
    let (alice, bob) = (world.join_raw("alice"), world.join_raw("bob"));
    let both = |direction| {
        let mut sections = vec![section("0", Opus, direction), section("1", Vp8, direction)];
        if direction == Direction::SendOnly {
            (sections[0].ssrcs, sections[1].ssrcs) = (vec![(Ssrc(31), None)], vec![(Ssrc(32), None)]);
        }
        sections
    };
    world.raw(alice).sections = both(Direction::SendOnly);
    let tracks: Vec<_> =
        world.offer(alice, vec![sends("0"), sends("1")], vec![]).iter().map(|o| o.track.clone().unwrap().id).collect();
    world.raw(bob).sections = both(Direction::RecvOnly);
    let mids = ["0", "1"].map(|mid| Mid::parse(mid).unwrap());
    world.offer(bob, vec![], vec![wants(&mids[0], Some(&tracks[0])), wants(&mids[1], Some(&tracks[1]))]);
    world.run_ms(500);
    (world, [alice, bob], tracks, mids)
}

#[test]
fn by_the_servers_reports_every_packet_has_its_publishers_time() {
    let (mut world, [alice, bob], tracks, mids) = scene(100);
    let mut checked = 0;
    for ms in 0..12_000_u64 {
        // The pictures pause, and their time stamps change against the publisher's.
        if ms == 5_000 || ms == 7_000 {
            let muted = ms == 5_000;
            world.command(Command::SetMuted { client: world.id(alice), track: tracks[1].clone(), muted });
        }
        send(&mut world, alice, ms);
        world.run(Duration::from_millis(1));
        if ms % 500 == 499 && ms > 2_500 {
            checked += check(&mut world, bob, &mids);
        }
    }
    assert!(checked > 30, "{checked}");
}

#[test]
fn what_was_reported_before_a_pause_holds_behind_it() {
    let (mut world, [alice, bob], tracks, mids) = scene(101);
    let mut checked = 0;
    for ms in 0..12_000_u64 {
        if ms == 5_000 || ms == 7_010 {
            for track in &tracks {
                let muted = ms == 5_000;
                world.command(Command::SetMuted { client: world.id(alice), track: track.clone(), muted });
            }
        }
        // The way here takes longer than it did.
        if ms == 6_000 {
            world.members[alice].up.delay = Duration::from_millis(140);
        }
        send(&mut world, alice, ms);
        world.run(Duration::from_millis(1));
        if ms > 2_500 && ms % 50 == 49 {
            checked += check(&mut world, bob, &mids);
        }
    }
    assert!(checked > 200, "{checked}");
}

#[test]
fn what_a_publisher_says_of_its_clock_is_no_round_trip_of_who_receives_it() {
    on_one_shard();
    for speed in [1, 100] {
        let (mut world, [alice, bob], ..) = scene(102);
        let mut told = 0;
        for ms in 0..6_000_u64 {
            send(&mut world, alice, ms);
            if ms % 10 == 0 {
                let info = SenderInfo { ssrc: Ssrc(32), ntp: ntp(ms * speed), rtp_time: 0, packets: 0, octets: 0 };
                let report = world.raw(alice).control(|w| w.sender_report(&info, &[]).unwrap());
                world.raw(alice).out.push(report);
            }
            let known = world.raw(bob).clocks.len();
            world.run(Duration::from_millis(1));
            told += world.raw(bob).clocks.len() - known;
            let news = world.raw(bob).clocks[known..].to_vec();
            for (about, ntp, _) in news {
                let block = ReportBlock {
                    about,
                    fraction_lost: 0,
                    cumulative_lost: 0,
                    highest_sequence: 0,
                    jitter: 0,
                    last_sr: (ntp >> 16) as u32,
                    delay_since_last_sr: 0,
                };
                let report = world.raw(bob).control(|w| w.receiver_report(Ssrc(1), &[block]).unwrap());
                world.raw(bob).out.push(report);
            }
        }
        assert!(told >= 10, "{told}");
        world.command(Command::Report { id: 1, rooms: vec![room("demo")] });
        let paths = world.events.iter().rev().find_map(|event| match event {
            Event::Report { rooms, .. } => Some(rooms[0].paths.clone()),
            _ => None,
        });
        // Ten milliseconds each way.
        let rtt = paths.unwrap()[0].figures.rtt.unwrap();
        assert!((15..=30).contains(&rtt.as_millis()), "{rtt:?} with a clock {speed} times as fast");
    }
}

/// Compares the newest packet of each stream with the newest report of it.
fn check(world: &mut World, bob: usize, mids: &[Mid; 2]) -> usize {
    let mut checked = 0;
    for (mid, (_, pt, rate, ..)) in mids.iter().zip(STREAMS) {
        let ssrc = world.raw(bob).stream(mid).unwrap().ssrc;
        let report = world.raw(bob).clocks.iter().rev().find(|clock| clock.0 == ssrc).copied();
        let newest = world.got(bob, pt).last().cloned().unwrap();
        let captured = u64::from_be_bytes(newest.head[11..19].try_into().unwrap());
        let Some((_, at, rtp)) = report else { continue };
        let ticks = newest.timestamp.wrapping_sub(rtp) as i32;
        let says = at as i128 + (i128::from(ticks) << 32) / i128::from(rate);
        let off_ms = (says - i128::from(ntp(captured))) * 1_000 / (1 << 32);
        assert!(off_ms.abs() <= 15, "stream {pt} is {off_ms} ms off at {:?}", world.since_start());
        checked += 1;
    }
    checked
}
