//! A client goes on at a shard of another node: nothing is lost, doubled or sealed twice, whatever goes wrong on the way.

use std::time::Duration;

use moonring_core::command::{Command, LeaveCause, MoveMessage, PlaceMessage};
use moonring_wire::drops::DropReason;
use moonring_wire::id::TrackId;
use moonring_wire::media::CodecName::{Opus, Vp8};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use serde_json::json;

use crate::moves::{HEARD, assert_complete, assert_sealed_once};
use crate::nodes::four;
use crate::sim::places::id_at;
use crate::sim::{OPEN, World, room};
use crate::spread::OBEDIENT;

/// The longest that a message between nodes is on its way.
const MAIL: Duration = Duration::from_millis(30);

/// Alice publishes a picture and Dan a voice, which all others receive. They are on shards 0 to 3, in their order.
fn call(seed: u64, script: &str) -> (World, [usize; 4], [TrackId; 2]) {
    let (mut world, members) = four(seed, script);
    let [alice, _, _, dan] = members;
    let tracks = [world.publish(alice, Vp8), world.publish(dan, Opus)];
    world.run_ms(200);
    for who in members {
        if who != alice {
            world.subscribe(who, &tracks[0], Vp8);
        }
        if who != dan {
            world.subscribe(who, &tracks[1], Opus);
        }
    }
    world.mail.delay = MAIL;
    world.run_ms(1_500);
    world.forget_received();
    world.run_ms(500);
    (world, members, tracks)
}

fn assert_all_complete(world: &World, [alice, bob, carol, dan]: [usize; 4]) {
    for who in [bob, carol, dan] {
        assert_complete(world, who, &[96, 97]);
    }
    for who in [alice, bob, carol] {
        assert_complete(world, who, &[111]);
    }
    assert_sealed_once(world);
    for who in [alice, bob, carol, dan] {
        assert_eq!(world.left(who), None, "WORLD_SEED={}", world.seed);
    }
    assert_eq!(world.drops(DropReason::LinkMalformed), 0);
}

fn assert_at_rest(world: &mut World) {
    world.run_ms(10_000);
    assert_eq!(world.audit(), Vec::<String>::new(), "WORLD_SEED={}", world.seed);
}

#[test]
fn a_client_goes_round_all_shards_of_two_nodes_and_everybody_gets_every_packet_once() {
    for who in 0..4 {
        let (mut world, members, _) = call(1_400 + who as u64, OPEN);
        for step in 1..=6 {
            world.move_to(members[who], (who + step) % 4);
            world.run_ms(500);
        }
        assert_all_complete(&world, members);
        assert_eq!(world.moved, 6);
        assert_at_rest(&mut world);
    }
}

#[test]
fn the_last_client_of_a_node_may_leave_it_and_come_back() {
    let (mut world, members, _) = call(1_405, OPEN);
    let [alice, bob, carol, dan] = members;
    for (to_carol, to_dan) in [(0, 1), (2, 3), (1, 0), (3, 3)] {
        world.move_to(carol, to_carol);
        world.move_to(dan, to_dan);
        world.run_ms(7_000);
        assert_eq!(world.audit(), Vec::<String>::new());
    }
    // The home's node, too.
    for (to_alice, to_bob) in [(2, 3), (0, 0)] {
        world.move_to(alice, to_alice);
        world.move_to(bob, to_bob);
        world.run_ms(7_000);
        assert_eq!(world.audit(), Vec::<String>::new());
    }
    assert_all_complete(&world, members);
}

/// Everybody moves at random, alone and together; how often somebody did.
fn wander(seed: u64, moves: usize) -> usize {
    let (mut world, members, _) = call(seed, OPEN);
    let mut rng = SmallRng::seed_from_u64(world.seed);
    let mut tried = 0;
    while world.moved < moves && tried < 4 * moves {
        tried += 1;
        for _ in 0..rng.random_range(1..=3) {
            // It is there, on its way, or has just come.
            let _ = world.begin_move(members[rng.random_range(0..4)], rng.random_range(0..4));
            if rng.random_bool(0.5) {
                world.run_ms(rng.random_range(0..100));
            }
        }
        world.run_ms(rng.random_range(100..600));
    }
    world.run_ms(2_000);
    assert_all_complete(&world, members);
    assert_at_rest(&mut world);
    world.moved
}

#[test]
fn nothing_is_lost_doubled_or_sealed_twice_in_a_thousand_moves_between_nodes() {
    let moved: usize = (0..20).map(|n| wander(1_410 + n, 50)).sum();
    assert!(moved >= 1_000, "{moved}");
}

#[test]
fn what_a_client_and_its_script_say_during_a_move_is_done_in_its_order() {
    for (seed, to) in [(1_440, 2), (1_441, 3), (1_442, 1)] {
        let (mut world, [alice, bob, carol, dan], tracks) = call(seed, OPEN);
        world.begin_move(alice, to).unwrap();
        for n in 0..400 {
            let muted = n % 2 == 0;
            world.command(Command::SetMuted { client: world.id(alice), track: tracks[0].clone(), muted });
            world.run_ms(1);
        }
        assert_eq!(world.members[alice].place, to);
        world.run_ms(500);
        world.forget_received();
        world.run_ms(1_000);
        for who in [bob, carol, dan] {
            assert!(world.got(who, 96).len() > 50, "{}", world.got(who, 96).len());
        }
        assert_at_rest(&mut world);
    }
}

#[test]
fn hooks_hear_nothing_of_a_move_between_nodes_and_reach_the_client_after_it() {
    let (mut world, members, _) = call(1_445, HEARD);
    for (n, to) in [(0, 3), (1, 2), (3, 0), (0, 1), (2, 1), (0, 0)] {
        world.move_to(members[n], to);
        world.run_ms(500);
        world.take_words(members[n]);
        world.command(Command::Message { client: world.id(members[n]), value: json!(to) });
        world.run_ms(300);
        let words = world.take_words(members[n]);
        let own = format!("\"tracks\": Number({})", u8::from(n == 0 || n == 3));
        let heard = "String(\"connect connect connect connect request published request published\")";
        assert!(words.iter().any(|words| words.contains(heard) && words.contains(&own)), "{words:?}");
    }
    assert_at_rest(&mut world);
}

#[test]
fn a_script_mutes_and_kicks_a_client_wherever_it_is_on_its_way() {
    for (seed, to) in [(1_446, 0), (1_447, 1), (1_448, 2)] {
        for ms in [0, 15, 30, 45, 60, 80, 120] {
            let (mut world, [alice, bob, carol, dan], _) = call(seed, OBEDIENT);
            world.begin_move(dan, to).unwrap();
            world.run_ms(ms);
            world.command(Command::Message { client: world.id(alice), value: json!({ "who": "dan", "mute": true }) });
            world.run_ms(600);
            assert_eq!(world.members[dan].place, to);
            world.forget_received();
            world.run_ms(300);
            assert_eq!(world.got(bob, 111).len(), 0, "muted after {ms} ms on the way to {to}");
            world.begin_move(dan, 3).unwrap();
            world.run_ms(ms);
            world.command(Command::Message { client: world.id(alice), value: json!({ "who": "dan", "kick": true }) });
            world.run_ms(1_000);
            assert_eq!(world.left(dan), Some(&LeaveCause::Kicked("Out".into())), "after {ms} ms");
            for who in [alice, bob, carol] {
                let words = world.take_words(who);
                let gone = words.iter().filter(|words| words.starts_with("ClientLeft")).count();
                assert_eq!(gone, 1, "{ms}: {words:?}");
            }
            assert_at_rest(&mut world);
        }
    }
}

#[test]
fn a_client_that_leaves_on_its_way_to_another_node_is_gone_everywhere() {
    for (n, ms) in [0, 10, 25, 40, 50, 60, 75, 100, 200].into_iter().enumerate() {
        let (mut world, [alice, bob, carol, dan], _) = call(1_450 + n as u64, OPEN);
        world.begin_move(alice, 2 + n % 2).unwrap();
        world.run_ms(ms);
        world.leave(alice);
        world.run_ms(20_000);
        assert_eq!(world.left(alice), Some(&LeaveCause::Left), "after {ms} ms");
        for who in [bob, carol, dan] {
            let words = world.take_words(who);
            assert_eq!(words.iter().filter(|words| words.starts_with("ClientLeft")).count(), 1, "{ms}: {words:?}");
        }
        assert_sealed_once(&world);
        assert_eq!(world.audit(), Vec::<String>::new(), "after {ms} ms");
    }
}

#[test]
fn a_client_whose_new_node_is_not_told_of_it_stays_and_may_move_later() {
    let (mut world, members, _) = call(1_460, OPEN);
    let bob = members[1];
    world.lose = Some(|message| matches!(message, PlaceMessage::Move(MoveMessage::Expect(_))));
    world.begin_move(bob, 2).unwrap();
    world.run_ms(16_000);
    assert_eq!((world.members[bob].place, world.moved), (1, 0));
    assert_all_complete(&world, members);
    world.lose = None;
    world.move_to(bob, 3);
    world.run_ms(500);
    assert_all_complete(&world, members);
    assert_at_rest(&mut world);
}

#[test]
fn while_messages_do_not_reach_the_other_node_nobody_is_lost_and_nobody_begins_to_go_there() {
    for (n, ms) in [10, 25, 40, 55, 70].into_iter().enumerate() {
        let (mut world, members, _) = call(1_461 + n as u64, OPEN);
        let [_, bob, carol, _] = members;
        world.begin_move(bob, 2).unwrap();
        world.run_ms(ms);
        // NATS is gone in the middle of it; what was said waits, and is said when it is back.
        world.mail.is_cut = true;
        world.run_ms(2_000);
        let away = |world: &mut World, is_away: bool| {
            world.command_to(1, Command::PlaceAway { place: id_at(1, 2), is_away });
        };
        away(&mut world, true);
        if world.members[bob].place == 1 {
            let words = world.begin_move(bob, 2).unwrap_err();
            assert!(words.contains("moving already") || words.contains("messages do not reach"), "{words}");
        }
        world.run_ms(1_000);
        away(&mut world, false);
        world.mail.is_cut = false;
        world.run_ms(3_000);
        world.forget_received();
        world.run_ms(1_000);
        for who in members {
            assert_eq!(world.left(who), None, "cut after {ms} ms");
        }
        for who in [bob, carol] {
            assert!(world.got(who, 96).len() > 50, "{} after {ms} ms", world.got(who, 96).len());
        }
        assert_sealed_once(&world);
        assert_at_rest(&mut world);
    }
}

#[test]
fn a_client_whose_state_is_lost_on_its_way_joins_anew_and_is_gone_for_the_others() {
    let (mut world, [_, bob, carol, dan], _) = call(1_470, OPEN);
    world.lose = Some(|message| matches!(message, PlaceMessage::Move(MoveMessage::Moved(_))));
    world.begin_move(bob, 3).unwrap();
    world.run_ms(20_000);
    let left = world.left(bob);
    assert!(
        matches!(left, Some(LeaveCause::Later(words)) if words.contains("join again")),
        "{left:?}, {:?}",
        world.members[bob].place
    );
    for who in [carol, dan] {
        assert_complete(&world, who, &[96]);
    }
    assert_sealed_once(&world);
}

#[test]
fn when_the_new_node_is_gone_who_was_to_go_there_stays_and_who_came_from_there_goes_on() {
    let (mut world, members, _) = call(1_471, OPEN);
    let [alice, bob, carol, _] = members;
    world.move_to(carol, 1);
    world.begin_move(bob, 3).unwrap();
    world.run_ms(5);
    world.mail.is_cut = true;
    for place in 0..4 {
        world.command_to(place, Command::Peers(Vec::new()));
    }
    world.run_ms(20_000);
    world.forget_received();
    for who in [alice, bob, carol] {
        assert_eq!(world.left(who), None);
    }
    // What it says is not held up by the node that it has come from.
    world.command(Command::Message { client: world.id(carol), value: json!(1) });
    world.run_ms(1_000);
    for who in [bob, carol] {
        assert!(world.got(who, 96).len() > 50, "{}", world.got(who, 96).len());
    }
    assert_sealed_once(&world);
    assert_at_rest(&mut world);
}

#[test]
fn who_cannot_move_to_another_node_is_told_why() {
    let (mut world, [alice, bob, ..], _) = call(1_472, OPEN);
    world.begin_move(alice, 2).unwrap();
    assert_eq!(world.begin_move(alice, 3).unwrap_err(), "client alice is moving already");
    let mut order = world.order_to(bob, 2);
    order.candidates.clear();
    world.command(Command::Move { id: 3, order });
    let words = world.called(3).unwrap_err();
    assert_eq!(words, "there is no shard 2; there are 0 to 1");
}

#[test]
fn whoever_moves_off_a_nodes_other_shard_is_heard_again_when_the_home_hears_nothing_of_it() {
    for (seed, is_gone) in [(1_450, true), (1_451, false)] {
        let (mut world, [_, bob, carol, dan], [_, voice]) = call(seed, OPEN);
        world.mail.is_cut = true;
        world.begin_move(dan, 2).unwrap();
        world.run_ms(500);
        assert_eq!(world.members[dan].place, 2);
        if is_gone {
            world.link_nodes_but(Some(0));
            world.command_to(2, Command::BecomeHome { room: room("demo") });
        } else {
            world.mail.lose();
            world.mail.is_cut = false;
            for (at, of) in [(0, 2), (2, 0)] {
                world.command_to(at, Command::PlaceLost { from: id_at(at, of) });
            }
        }
        world.run_ms(500);
        for who in [bob, carol] {
            world.take_words(who);
        }
        world.command(Command::SetMuted { client: world.id(dan), track: voice, muted: true });
        world.run_ms(200);
        for who in if is_gone { vec![carol] } else { vec![bob, carol] } {
            let words = world.take_words(who);
            assert_eq!(words.iter().filter(|words| words.starts_with("TrackChanged")).count(), 1, "{words:?}");
        }
        world.run_ms(30_000);
        assert_eq!(world.shard_at(3).report().rooms, 0);
        assert_eq!(world.left(dan), None);
        assert_eq!(world.audit(), Vec::<String>::new());
    }
}
