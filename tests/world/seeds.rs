//! A world is drawn from its seed, all of it: which of the two ends a test has is no matter of chance.

use std::time::Duration;

use moonring_core::command::Command;
use moonring_wire::media::CodecName::{Opus, Vp8};
use serde_json::json;

use crate::sim::net::Link;
use crate::sim::places::{count, id_at, over_three_nodes, over_three_shards};
use crate::sim::trace;
use crate::sim::{OPEN, World, room};
use crate::slow::scene;

/// A scene leaves the same trace twice, each time in a world of its own, and another one with another seed.
fn assert_same_twice(name: &str, scene: impl Fn(u64)) {
    let of = |seed: u64| trace::of(|| scene(seed));
    let (first, second, other) = (of(1), of(1), of(2));
    let differs = first.iter().zip(&second).position(|(one, two)| one != two);
    let at = differs.unwrap_or(first.len().min(second.len()));
    let lines = |of: &[String]| of[at.min(of.len())..].iter().take(3).cloned().collect::<String>();
    assert!(first == second, "{name}, line {at} of {}:\n{}and\n{}", first.len(), lines(&first), lines(&second));
    assert!(first.len() > 1_000, "{name}: {}", first.len());
    // It would be the same twice if it were always the same.
    assert!(std::env::var_os("WORLD_SEED").is_some() || first != other, "{name}");
}

/// All share a link that is too narrow for what they want, from their handshakes on.
fn narrow(seed: u64) {
    let (mut world, mut encoder, subscribers, _) = scene(seed, &[Some(900_000); 4]);
    for who in &subscribers {
        world.members[*who].behind = Some(subscribers[0]);
        world.members[*who].up = Link { loss: 0.01, rate_bps: Some(100_000), ..Link::GOOD };
    }
    encoder.run(&mut world, 8);
}

/// Six clients on three shards publish for everybody, and move, two at once.
fn moving(seed: u64) {
    over_three_shards();
    let mut world = World::ruled(seed, OPEN);
    let names = ["ada", "bob", "cem", "dan", "eva", "fay"];
    let members = names.map(|name| world.join(name));
    for publisher in members {
        let tracks = [world.publish(publisher, Vp8), world.publish(publisher, Opus)];
        for who in members.into_iter().filter(|who| *who != publisher) {
            world.subscribe(who, &tracks[0], Vp8);
            world.subscribe(who, &tracks[1], Opus);
        }
    }
    (world.between.loss, world.between.jitter) = (0.02, Duration::from_millis(5));
    for n in 0..4 {
        for who in [members[n], members[n + 1], members[n + 2]] {
            let to = (world.members[who].place + 1) % count();
            let _ = world.begin_move(who, to);
        }
        world.run_ms(700);
    }
}

/// Three nodes with four clients each, whom a script knows and answers; the home's node is gone, then a further one.
fn losing(seed: u64) {
    over_three_nodes();
    let script = "
        function on_client_connect(client) sfu.set_interval(300, function() client:send(sfu.uuid() .. math.random()) end) return true end
        function on_publish_request() return true end
        function on_message(client) for _, other in ipairs(sfu.clients()) do other:send(client:get_id()) end end";
    let mut world = World::ruled(seed, script);
    let names: Vec<String> = (0..12).map(|n| format!("client-{n}")).collect();
    let members: Vec<usize> = names.iter().map(|name| world.join(name)).collect();
    for who in &members {
        world.publish(*who, Opus);
    }
    world.run_ms(1_000);
    world.link_nodes_but(Some(0));
    // Each of them waits for a home that is gone.
    for who in &members[1..] {
        world.command(Command::Message { client: world.id(*who), value: json!("anybody?") });
    }
    world.run_ms(1_000);
    world.command_to(1, Command::BecomeHome { room: room("demo") });
    world.command_to(2, Command::HomeIs { room: room("demo"), home: id_at(2, 1) });
    world.run_ms(6_000);
    for who in &members[1..] {
        world.command(Command::Message { client: world.id(*who), value: json!("anybody?") });
    }
    world.run_ms(1_000);
}

#[test]
fn the_same_seed_makes_the_same_datagrams_and_events_at_the_same_times() {
    assert_same_twice("narrow", narrow);
}

#[test]
fn the_same_seed_makes_the_same_moves_between_shards() {
    assert_same_twice("moving", moving);
}

#[test]
fn the_same_seed_loses_the_same_clients_with_a_node_in_the_same_order() {
    assert_same_twice("losing", losing);
}
