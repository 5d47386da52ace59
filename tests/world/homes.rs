//! Several subscribers at one address, who share what its line carries.

use std::time::Duration;

use moonring_core::command::{Command, Event};

use crate::encoder::Encoder;
use crate::sim::{World, places, room};
use crate::slow::{FRAMES, layer_lately, scene_in};

/// `count` subscribers behind one link of `bps`, after 15 s.
fn home(seed: u64, (count, bps): (usize, u64), is_home: bool) -> (World, Encoder, Vec<usize>) {
    let mut world = World::new(seed);
    world.net.is_home = is_home;
    let (mut world, mut encoder, subscribers, _) = scene_in(world, &vec![None; count], (FRAMES, 30, 0));
    subscribers[1..].iter().for_each(|who| world.members[*who].behind = Some(subscribers[0]));
    let link = &mut world.members[subscribers[0]].down;
    (link.rate_bps, link.queue) = (Some(bps), Duration::from_millis(400));
    encoder.run(&mut world, 15);
    (world, encoder, subscribers)
}

/// The layer that each of them had in each third of the minute from then on.
fn layers(seed: u64, scene: (usize, u64)) -> Vec<Vec<Option<u8>>> {
    let (mut world, mut encoder, subscribers) = home(seed, scene, true);
    let mut had = vec![Vec::new(); subscribers.len()];
    for _ in 0..20 {
        encoder.run(&mut world, 3);
        subscribers.iter().zip(&mut had).for_each(|(who, had)| had.push(layer_lately(&world, *who, 3)));
    }
    had
}

/// Over several shards the subscribers are on different ones, which do not know of each other.
fn are_apart() -> bool {
    places::count() > 1
}

/// The middle layer takes about 530 kbit/s, the top one 1,580: there is room for one of these and three of those, if nothing comes
/// between. Each for itself one had the top layer, and another one fell to the lowest for seven of the twenty times.
#[test]
fn subscribers_at_one_address_have_the_layer_that_all_can_have() {
    if are_apart() {
        return;
    }
    for seed in 300..306 {
        let had = layers(seed, (4, 3_200_000));
        assert!(had.iter().flatten().all(|had| *had >= Some(1)), "seed {seed}: {had:?}");
    }
}

/// Frames that leave for all of them at once make a queue that moves with nobody's rate; it tells that they share, and must not take
/// from anybody what fits.
#[test]
fn what_fits_for_all_subscribers_at_one_address_stays() {
    for (seed, count, bps) in [(70, 4, 2_600_000), (71, 4, 2_450_000), (74, 2, 1_300_000), (75, 3, 2_000_000)] {
        let had = layers(seed, (count, bps));
        assert!(had.iter().flatten().all(|had| *had == Some(1)), "seed {seed}, {bps} bit/s: {had:?}");
    }
}

/// Whoever has none looks for room as often as it does alone.
#[test]
fn where_not_all_can_have_a_picture_those_that_can_have_it_and_the_others_come_back_soon() {
    if are_apart() {
        return;
    }
    let had: Vec<_> = (300..304).flat_map(|seed| layers(seed, (4, 500_000))).collect();
    let none = had.iter().flatten().filter(|had| had.is_none()).count();
    assert!(none <= 24, "{none} of 320 times: {had:?}");
}

#[test]
fn operators_see_who_shares_a_line() {
    for is_home in [true, false] {
        let (mut world, mut encoder, subscribers) = home(300, (4, 500_000), is_home);
        encoder.run(&mut world, 10);
        world.command(Command::Report { id: 1, rooms: vec![room("demo")] });
        let paths = world.events.iter().rev().find_map(|event| match event {
            Event::Report { rooms, .. } => Some(rooms[0].paths.clone()),
            _ => None,
        });
        let ids: Vec<_> = subscribers.iter().map(|who| world.id(*who)).collect();
        let paths = paths.into_iter().flatten().filter(|path| ids.contains(&path.client));
        let sharing: Vec<_> = paths.map(|path| path.sharing).collect();
        assert_eq!(sharing, if is_home && !are_apart() { vec![3; 4] } else { vec![0; sharing.len()] });
    }
}
