//! Subscribers on slow links: what they get fits, does not freeze, comes back when the link does, and is nobody else's
//! trouble.

use std::sync::Arc;
use std::time::{Duration, Instant};

use moonring_core::command::{Command, Event};
use moonring_loadtest::peer::PeerConfig;
use moonring_wire::id::TrackId;
use moonring_wire::media::CodecName::Vp8;
use moonring_wire::media::Source;

pub(crate) use crate::encoder::{CHROMIUM, Encoder, FRAMES, Frames, MARK, publisher};
use crate::sim::flows::wants;
use crate::sim::{Got, World};

/// A publisher, and one subscriber per link; `None` is a link without a limit.
pub(crate) fn scene(seed: u64, links_bps: &[Option<u64>]) -> (World, Encoder, Vec<usize>, TrackId) {
    scene_of(seed, links_bps, (FRAMES, 30, 0))
}

/// The same with the frames of another encoder, and token buckets of `burst` bytes on the links.
pub(crate) fn scene_of(
    seed: u64,
    links_bps: &[Option<u64>],
    encoder: (Frames, usize, usize),
) -> (World, Encoder, Vec<usize>, TrackId) {
    scene_in(World::new(seed), links_bps, encoder)
}

/// The same in a world in which nobody is yet.
pub(crate) fn scene_in(
    mut world: World,
    links_bps: &[Option<u64>],
    (frames, fps, burst): (Frames, usize, usize),
) -> (World, Encoder, Vec<usize>, TrackId) {
    let config = PeerConfig { transport_feedback: true, ..(*world.config).clone() };
    world.config = Arc::new(config);
    let (mut encoder, track) = publisher(&mut world, "alice", Source::Camera, (frames, fps));
    encoder.run(&mut world, 2);
    let mut subscribers = Vec::new();
    for (n, bps) in links_bps.iter().enumerate() {
        subscribers.push(subscriber(&mut world, &format!("s{n}"), &track, (*bps, burst)));
    }
    (world, encoder, subscribers, track)
}

/// Joins and receives a track over a link of this rate and token bucket.
pub(crate) fn subscriber(world: &mut World, name: &str, track: &TrackId, (bps, burst): (Option<u64>, usize)) -> usize {
    let who = world.join(name);
    world.members[who].down.rate_bps = bps;
    world.members[who].down.burst = burst;
    world.members[who].down.queue = Duration::from_millis(400);
    let mid = world.peer(who).receive(Vp8);
    world.offer(who, vec![], vec![wants(&mid, Some(track))]);
    who
}

/// The layer of most of the packets that came in the last `seconds`.
pub(crate) fn layer_lately(world: &World, who: usize, seconds: u64) -> Option<u8> {
    let since = world.now - Duration::from_secs(seconds);
    let mut counts = [0_usize; 3];
    let lately = world.members[who].got.iter().filter(|got| got.at >= since && !got.repaired && got.is_of_picture());
    lately.for_each(|got| counts[usize::from(got.head[MARK])] += 1);
    let most = (0..3).max_by_key(|n| counts[*n]).unwrap();
    (counts[most] > 0).then_some(most as u8)
}

/// Longest time between two pictures that came, from `seconds` ago on.
pub(crate) fn longest_gap(world: &World, who: usize, seconds: u64) -> Duration {
    let since = world.now - Duration::from_secs(seconds);
    let ends = world.members[who].got.iter().filter(|g| g.marker && g.is_of_picture() && g.at >= since);
    let ends: Vec<_> = ends.map(|g| g.at).collect();
    let gaps = ends.windows(2).map(|pair| pair[1] - pair[0]);
    gaps.chain(ends.last().map(|at| world.now - *at)).max().unwrap_or(Duration::from_secs(seconds))
}

/// Freezes as Chromium counts them, from `since` on: pictures that come 150 ms later than the mean, or three times. Their
/// times in ms, from the start of the world, and lengths.
pub(crate) fn freezes(world: &World, who: usize, since: Instant) -> Vec<(u128, u128)> {
    let ends: Vec<_> = world.members[who].got.iter().filter(|g| g.marker && g.is_of_picture()).map(|g| g.at).collect();
    let (mut mean, mut found) = (0.07, Vec::new());
    for pair in ends.windows(2).filter(|pair| pair[0] >= since) {
        let gap = (pair[1] - pair[0]).as_secs_f64();
        if gap >= f64::max(3.0 * mean, mean + 0.15) {
            found.push(((pair[0] - world.start).as_millis(), (pair[1] - pair[0]).as_millis()));
        }
        mean += (gap - mean) / 30.0;
    }
    found
}

fn first(got: &[Got]) -> Option<&Got> {
    got.iter().find(|got| got.is_of_picture())
}

#[test]
fn every_subscriber_gets_the_highest_layer_that_its_link_carries() {
    let links = [None, Some(3_000_000), Some(900_000), Some(300_000)];
    let (mut world, mut encoder, subscribers, _) = scene(41, &links);
    encoder.run(&mut world, 15);
    let layers: Vec<_> = subscribers.iter().map(|who| layer_lately(&world, *who, 3)).collect();
    assert_eq!(layers, [Some(2), Some(2), Some(1), Some(0)]);
    let gaps: Vec<_> = subscribers.iter().map(|who| longest_gap(&world, *who, 5)).collect();
    assert!(gaps.iter().all(|gap| *gap < Duration::from_millis(250)), "{gaps:?}");
}

#[test]
fn a_newcomer_begins_low_and_has_the_top_layer_within_seconds() {
    let (mut world, mut encoder, subscribers, _) = scene(42, &[None]);
    encoder.run(&mut world, 1);
    assert_eq!(first(&world.members[subscribers[0]].got).map(|got| got.head[MARK]), Some(0));
    encoder.run(&mut world, 3);
    assert_eq!(layer_lately(&world, subscribers[0], 1), Some(2));
}

#[test]
fn who_moves_is_sent_pictures_at_once_and_not_held_to_the_silence_of_the_former_path() {
    for seed in 60..64 {
        let (mut world, mut encoder, subscribers, _) = scene(seed, &[None]);
        encoder.run(&mut world, 6);
        let who = subscribers[0];
        let address = "192.168.7.7:7000".parse().unwrap();
        world.members[who].address = address;
        let mut step = |world: &mut World, until: &dyn Fn(&World) -> bool| {
            for _ in 0..encoder.fps * 8 {
                if until(world) {
                    return;
                }
                encoder.frame(world);
                world.run(Duration::from_secs(1) / encoder.fps as u32);
            }
        };
        step(&mut world, &|world| world.net_bytes_to(address) > 0);
        let found = world.now;
        let pictures = |world: &World| {
            let got = world.members[who].got.iter().filter(|got| got.at > found && got.marker && got.is_of_picture());
            got.count()
        };
        step(&mut world, &|world| pictures(world) >= 10);
        let waited = (world.now - found).as_millis();
        // Over several shards a key frame is asked for at two places, each of which holds requests back for a while.
        let most = if crate::sim::places::count() > 1 { 1_500 } else { 1_000 };
        assert!(waited < most, "seed {seed}: ten pictures {waited} ms after the first check");
        step(&mut world, &|world| layer_lately(world, who, 1) == Some(2) && world.now > found + Duration::from_secs(2));
        assert!(world.now < found + Duration::from_secs(6), "seed {seed}: {:?}", layer_lately(&world, who, 1));
    }
}

#[test]
fn what_does_not_fit_at_all_is_paused_told_and_comes_back() {
    let (mut world, mut encoder, subscribers, track) = scene(44, &[Some(80_000)]);
    encoder.run(&mut world, 12);
    let told = |world: &World| {
        let of = |event: &Event| match event {
            Event::TrackPaused { track: t, .. } if *t == track => Some("paused"),
            Event::TrackResumed { track: t, .. } if *t == track => Some("resumed"),
            _ => None,
        };
        world.events.iter().filter_map(of).collect::<Vec<_>>()
    };
    assert_eq!(told(&world).first(), Some(&"paused"));
    world.members[subscribers[0]].down.rate_bps = None;
    encoder.run(&mut world, 15);
    assert_eq!(told(&world).last(), Some(&"resumed"));
    assert_eq!(layer_lately(&world, subscribers[0], 2), Some(2));
}

#[test]
fn a_script_sees_how_the_path_to_a_client_is() {
    let script = "function on_client_connect() return true end
        on_publish_request, on_subscribe_request = on_client_connect, on_client_connect
        function on_message(c)
          local path = c:stats().path
          c:send(path and { path.estimate > 1e6, path.rtt > 0 and path.rtt < 1000, path.paused, path.loss } or 'none')
        end";
    let mut world = World::ruled(48, script);
    world.config = Arc::new(PeerConfig { transport_feedback: true, ..(*world.config).clone() });
    let (alice, bob) = (world.join("alice"), world.join("bob"));
    let track = world.publish(alice, Vp8);
    world.subscribe(bob, &track, Vp8);
    world.run_ms(5_000);
    let mut asked = |who: usize| {
        world.take_words(who);
        world.command(Command::Message { client: world.id(who), value: 0.into() });
        world.run_ms(50);
        world.take_words(who)
    };
    let words = asked(bob);
    assert!(words.len() == 1 && words[0].contains("[Bool(true), Bool(true), Number(0), Number(0)]"), "{words:?}");
    let words = asked(alice);
    assert!(words.len() == 1 && words[0].contains("none"), "nothing is forwarded to the publisher: {words:?}");
}

#[test]
fn a_token_bucket_does_not_make_a_link_look_faster_than_it_is() {
    let (mut world, mut encoder, subscribers, _) = scene(45, &[Some(900_000), Some(300_000)]);
    for who in &subscribers {
        world.members[*who].down.burst = 8_000;
    }
    encoder.run(&mut world, 8);
    for second in 8..28 {
        encoder.run(&mut world, 1);
        let layers: Vec<_> = subscribers.iter().map(|who| layer_lately(&world, *who, 1)).collect();
        assert_eq!(layers, [Some(1), Some(0)], "after {second} s");
    }
    let gaps: Vec<_> = subscribers.iter().map(|who| longest_gap(&world, *who, 20)).collect();
    assert!(gaps.iter().all(|gap| *gap < Duration::from_millis(400)), "{gaps:?}");
    for who in &subscribers {
        world.members[*who].down.rate_bps = None;
    }
    // The goal for the way back; most seeds take a second less.
    encoder.run(&mut world, 15);
    let layers: Vec<_> = subscribers.iter().map(|who| layer_lately(&world, *who, 1)).collect();
    assert_eq!(layers, [Some(2), Some(2)]);
}

#[test]
fn a_link_that_just_carries_the_lowest_layer_shows_it_without_pauses() {
    let (mut world, mut encoder, subscribers, _) = scene(46, &[Some(200_000)]);
    world.members[subscribers[0]].down.burst = 8_000;
    encoder.run(&mut world, 30);
    let paused = world.events.iter().filter(|event| matches!(event, Event::TrackPaused { .. })).count();
    assert_eq!(paused, 0);
    assert_eq!(layer_lately(&world, subscribers[0], 2), Some(0));
}

#[test]
fn slow_links_with_token_buckets_do_not_freeze_while_the_server_finds_out_what_they_carry() {
    let links = [Some(3_000_000), Some(600_000), Some(200_000)];
    let (mut world, mut encoder, subscribers, _) = scene_of(47, &links, (CHROMIUM, 15, 8_000));
    let start = world.now;
    encoder.run(&mut world, 24);
    let layers: Vec<_> = subscribers.iter().map(|who| layer_lately(&world, *who, 10)).collect();
    assert_eq!(layers, [Some(2), Some(1), Some(0)]);
    let frozen: Vec<_> = subscribers.iter().map(|who| freezes(&world, *who, start)).collect();
    // Over several shards the rate of a layer that does not come here is known up to half a second later.
    let longest = if crate::sim::places::count() > 1 { 500 } else { 0 };
    assert!(frozen.iter().flatten().all(|(_, ms)| *ms < longest), "{frozen:?}");
    for who in &subscribers {
        world.members[*who].down.rate_bps = None;
    }
    encoder.run(&mut world, 14);
    let layers: Vec<_> = subscribers.iter().map(|who| layer_lately(&world, *who, 1)).collect();
    assert_eq!(layers, [Some(2), Some(2), Some(2)]);
}

/// A router that holds a few packets only: frames, probes and rehearsals must fit into that. At 300 kbit/s such a queue would hold
/// less than a packet.
#[test]
fn a_bottleneck_with_a_short_queue_drops_little() {
    let mut missed = Vec::new();
    // Over several shards rates are known a little later.
    let most = if crate::sim::places::count() > 1 { 0.06 } else { 0.05 };
    for (frames, fps) in [(FRAMES, 30), (CHROMIUM, 15)] {
        for (seed, bps, layer) in [(81, 700_000, 1), (82, 900_000, 1), (83, 2_000_000, 2), (84, 3_000_000, 2)] {
            let (mut world, mut encoder, subscribers, _) = scene_of(seed, &[Some(bps)], (frames, fps, 0));
            let who = subscribers[0];
            world.members[who].down.queue = Duration::from_millis(25);
            encoder.run(&mut world, 30);
            let (passed, dropped) = world.members[who].down.passed;
            let share = dropped as f64 / (passed + dropped) as f64;
            if layer_lately(&world, who, 10) != Some(layer) || share > most {
                missed.push(format!("{fps} a second, {bps} bit/s: {:?}, {share:.3}", layer_lately(&world, who, 10)));
            }
        }
    }
    assert_eq!(missed, [""; 0]);
}

/// Found by `moonring-loadtest run webinar --layers 3 --limit-kbps 2000 --share-link 4`, in each of four runs: the middle layer
/// of all four takes 2,080 kbit/s of 2,600, and one of them stays at the lowest one while the others' estimates go far
/// beyond what they get.
#[test]
fn all_subscribers_that_share_a_link_get_the_layer_that_fits_for_all() {
    // The middle layer takes about 530 kbit/s: there is room for that, and not for another one's top layer.
    for (seed, bps, count) in [
        (70, 2_600_000, 4),
        (71, 2_600_000, 4),
        (72, 2_600_000, 4),
        (73, 2_600_000, 4),
        (74, 1_300_000, 2),
        (75, 2_000_000, 3),
        (76, 2_450_000, 4),
    ] {
        let (mut world, mut encoder, subscribers, _) = scene(seed, &vec![None; count]);
        subscribers[1..].iter().for_each(|who| world.members[*who].behind = Some(subscribers[0]));
        let link = &mut world.members[subscribers[0]].down;
        (link.rate_bps, link.queue) = (Some(bps), Duration::from_millis(400));
        let mut log = Vec::new();
        for _ in 0..10 {
            encoder.run(&mut world, 3);
            log.push(subscribers.iter().map(|who| layer_lately(&world, *who, 3)).collect::<Vec<_>>());
        }
        let all_have_it = |layers: &Vec<Option<u8>>| layers.iter().all(|layer| *layer == Some(1));
        assert!(log.iter().all(all_have_it), "seed {seed}, {bps} bit/s, every 3 s: {log:?}");
    }
}

/// Found with Chromium's 960x540 of noise: the lowest layer's key frame takes 200 kbit/s most of a second. Its end was dropped as
/// stale, and another one asked for, 13 times in 20 s.
#[test]
fn a_key_frame_that_takes_long_on_a_slow_link_is_not_asked_for_again_and_again() {
    for bps in [150_000, 200_000, 250_000, 300_000] {
        let (mut world, mut encoder, subscribers, _) = scene_of(90, &[Some(bps)], (CHROMIUM, 15, 8_000));
        encoder.is_hard = true;
        encoder.run(&mut world, 20);
        assert_eq!(layer_lately(&world, subscribers[0], 15), Some(0), "{bps} bit/s");
        assert!((1..=2).contains(&encoder.asked), "{bps} bit/s: {} times", encoder.asked);
    }
}
