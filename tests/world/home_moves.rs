//! The home of a room moves to the node where all its clients are: its script goes on with its state, and nobody notices.

use std::time::Duration;

use moonring_core::command::{Command, Event, HomeMessage, PlaceMessage};
use moonring_policy::hook::Action;
use moonring_wire::id::TrackId;
use moonring_wire::media::CodecName::{Opus, Vp8};
use serde_json::json;

use crate::moves::{assert_complete, assert_sealed_once};
use crate::nodes::four;
use crate::sim::places::id_at;
use crate::sim::{World, room};

/// Counts the messages, whichever process it runs in.
const COUNTS: &str = "
local count, starts = 0, 0
function on_init() starts = starts + 1 end
function on_client_connect(client) client:set_attributes({ name = client:get_id() }) return true end
function on_publish_request() return true end
function on_message(client, value)
  if value.kick then
    for _, who in ipairs(sfu.clients()) do if who:get_id() == value.kick then who:kick('Out') end end
  end
  count = count + 1
  client:send({ count = count, starts = starts, clients = #sfu.clients(), mine = #client:tracks(), said = value.n })
end
function on_unload() return { count = count } end
function on_load(state) count = state.count end";

/// Everybody is at the second node: Alice and Carol on its lead, Bob and Dan on its other shard. The home is at the first one,
/// where nobody is.
fn gathered(seed: u64, script: &str) -> (World, [usize; 4], TrackId) {
    let (mut world, members) = four(seed, script);
    let [alice, bob, carol, dan] = members;
    let track = world.publish(alice, Vp8);
    world.run_ms(200);
    for who in [bob, carol, dan] {
        world.subscribe(who, &track, Vp8);
    }
    world.mail.delay = Duration::from_millis(20);
    world.run_ms(1_000);
    world.move_to(alice, 2);
    world.move_to(bob, 3);
    // Shards let go of a room some seconds after its last client has left.
    world.run_ms(8_000);
    world.forget_received();
    world.run_ms(500);
    (world, members, track)
}

/// Says something to the script; the numbers in its answer.
fn say(world: &mut World, who: usize, value: serde_json::Value) -> Vec<serde_json::Value> {
    world.take_words(who);
    world.command(Command::Message { client: world.id(who), value });
    world.run_ms(200);
    answers(world, who)
}

/// What the script has answered since the last look.
pub(crate) fn answers(world: &mut World, who: usize) -> Vec<serde_json::Value> {
    let id = world.id(who);
    let (mine, others) = std::mem::take(&mut world.events).into_iter().partition(|event: &Event| {
        matches!(event, Event::News { client, news } if *client == id && matches!(**news, moonring_core::command::News::Message(_)))
    });
    world.events = others;
    let mine: Vec<Event> = mine;
    let value = |event: &Event| match event.news() {
        Some(moonring_core::command::News::Message(value)) => Some((**value).clone()),
        _ => None,
    };
    mine.iter().filter_map(value).collect()
}

fn move_home(world: &mut World, number: u64) {
    world.command_to(0, Command::MoveHome { id: number, room: room("demo"), to: id_at(0, 2) });
}

#[test]
fn the_script_goes_on_with_its_state_and_reaches_everybody_and_media_does_not_notice() {
    let (mut world, members, track) = gathered(1_500, COUNTS);
    let [alice, bob, carol, dan] = members;
    let expected = |count: u64, mine: u64| json!({ "count": count, "starts": 1, "clients": 4, "mine": mine });
    assert_eq!(say(&mut world, alice, json!({})), [expected(1, 1)]);
    move_home(&mut world, 1);
    world.run_ms(1_000);
    assert_eq!(world.called(1), Ok(serde_json::Value::Null));
    for (n, who) in [alice, bob, carol, dan].into_iter().enumerate() {
        assert_eq!(say(&mut world, who, json!({})), [expected(2 + n as u64, u64::from(who == alice))]);
    }
    for who in [bob, carol, dan] {
        assert_complete(&world, who, &[96]);
    }
    assert_sealed_once(&world);
    assert_eq!(world.shard_at(0).report().links.len(), 2, "the other node is still there");
    // Who comes now comes to the new home, and is seen by all.
    for who in members {
        world.take_words(who);
    }
    world.command(Command::Unsubscribe { client: world.id(bob), track });
    say(&mut world, dan, json!({ "kick": "carol" }));
    assert!(world.left(carol).is_some());
    for who in [alice, bob, dan] {
        let words = world.take_words(who);
        assert_eq!(words.iter().filter(|words| words.starts_with("ClientLeft")).count(), 1, "{words:?}");
    }
    world.run_ms(10_000);
    assert_eq!(world.audit(), Vec::<String>::new());
}

#[test]
fn what_is_said_to_the_script_meanwhile_is_heard_once_and_in_its_order() {
    let (mut world, [alice, bob, ..], _) = gathered(1_501, COUNTS);
    world.take_words(alice);
    world.take_words(bob);
    assert_heard_once(&mut world, [alice, bob], |world| move_home(world, 1));
}

/// Two talk to the script, in turn, while its home moves.
pub(crate) fn assert_heard_once(world: &mut World, who: [usize; 2], move_home: impl Fn(&mut World)) {
    for n in 0..200 {
        if n == 50 {
            move_home(world);
        }
        world.command(Command::Message { client: world.id(who[n % 2]), value: json!({ "n": n }) });
        world.run_ms(1);
    }
    world.run_ms(1_000);
    assert_eq!(world.called(1), Ok(serde_json::Value::Null));
    let mut counts = Vec::new();
    for (first, who) in who.into_iter().enumerate() {
        let answers = answers(world, who);
        let said: Vec<_> = answers.iter().map(|answer| answer["said"].as_u64().unwrap()).collect();
        assert_eq!(said, (first as u64..200).step_by(2).collect::<Vec<_>>());
        counts.extend(answers.iter().map(|answer| answer["count"].as_u64().unwrap()));
    }
    counts.sort_unstable();
    assert_eq!(counts, (1..=200).collect::<Vec<_>>(), "each is counted once");
    assert_eq!(world.audit(), Vec::<String>::new());
}

#[test]
fn whatever_fails_on_the_way_the_home_stays_as_if_nothing_had_been() {
    let broken = COUNTS.replace("count = state.count", "if starts > 0 then error('no') end");
    type Trouble = fn(&mut World);
    let cases: [(&str, &str, Trouble, &str); 4] = [
        ("the claim", COUNTS, |world| world.mail.claims_fail = true, "the room could not be claimed"),
        ("on_load", &broken, |_| {}, "the script does not begin here"),
        (
            "the wing's answer",
            COUNTS,
            |world| world.lose = Some(|message| matches!(message, PlaceMessage::Home(HomeMessage::Ready))),
            "takes too long",
        ),
        (
            "on_unload",
            "function on_client_connect() return true end function on_publish_request() return true end
            local count = 0
            function on_message(client) count = count + 1 client:send({ count = count, clients = #sfu.clients() }) end
            function on_unload() error('not now') end",
            |_| {},
            "not now",
        ),
    ];
    for (n, (what, script, trouble, words)) in cases.into_iter().enumerate() {
        let (mut world, [alice, bob, carol, dan], _) = gathered(1_510 + n as u64, script);
        assert_eq!(say(&mut world, alice, json!({}))[0]["count"], 1, "{what}");
        trouble(&mut world);
        move_home(&mut world, 1);
        for _ in 0..4 {
            world.command(Command::Message { client: world.id(bob), value: json!({}) });
            world.run_ms(2_000);
        }
        let error = world.called(1).unwrap_err();
        assert!(error.contains(words), "{what}: {error}");
        assert_eq!(answers(&mut world, bob).last().unwrap()["count"], 5, "{what}");
        for (n, who) in [carol, dan].into_iter().enumerate() {
            assert_eq!(say(&mut world, who, json!({}))[0]["count"], 6 + n as u64, "{what}");
        }
        for who in [bob, carol, dan] {
            assert_complete(&world, who, &[96]);
            assert_eq!(world.left(who), None, "{what}");
        }
        assert_eq!(world.audit(), Vec::<String>::new(), "{what}");
    }
}

#[test]
fn a_home_with_clients_or_with_further_places_stays_and_says_why() {
    let (mut world, [alice, bob, ..]) = four(1_520, COUNTS);
    let voice = world.publish(alice, Opus);
    world.subscribe(bob, &voice, Opus);
    world.run_ms(500);
    move_home(&mut world, 1);
    assert_eq!(world.called(1), Err("clients of the room are still here".into()));
    world.move_to(alice, 2);
    move_home(&mut world, 2);
    assert_eq!(world.called(2), Err("clients of the room are still at other shards of this node".into()));
    world.command_to(0, Command::MoveHome { id: 3, room: room("other"), to: id_at(0, 2) });
    assert_eq!(world.called(3), Err("there is no such room".into()));
}

/// Tells the webhook who has left, and that the room ends.
const LEAVES: &str = "
function on_client_connect() return true end
function on_publish_request() return true end
function on_client_disconnect(client) sfu.webhook('left', client:get_id()) end
function on_close(reason) sfu.webhook('closing', reason) end
function on_unload() return {} end
function on_load() end";

/// What webhooks were told by the script.
pub(crate) fn webhooks(world: &World) -> Vec<String> {
    let told = |event: &Event| match event {
        Event::Webhook { event, data, .. } => Some(format!("{event} {}", data.as_str().unwrap_or_default())),
        _ => None,
    };
    world.events.iter().filter_map(told).collect()
}

#[test]
fn its_last_client_may_leave_at_any_moment_and_the_script_hears_of_that_and_of_the_end_once() {
    for (n, claims_fail) in (0..12).flat_map(|n| [(n, false), (n, true)]) {
        let (mut world, [alice, bob, carol, dan], _) = gathered(1_530 + n, LEAVES);
        for who in [bob, carol, dan] {
            world.leave(who);
        }
        world.run_ms(8_000);
        world.events.clear();
        world.mail.claims_fail = claims_fail;
        move_home(&mut world, 1);
        world.run_ms(5 * n);
        world.leave(alice);
        world.run_ms(20_000);
        assert_eq!(webhooks(&world), ["left alice", "closing empty"], "after {} ms, {claims_fail}", 5 * n);
        for place in 0..4 {
            let report = world.shard_at(place).report();
            assert_eq!((report.rooms, report.clients), (0, 0), "after {} ms, {claims_fail}", 5 * n);
        }
        assert_eq!(world.audit(), Vec::<String>::new());
    }
}

#[test]
fn what_an_operator_does_at_any_moment_is_done_or_refused_and_whoever_has_ordered_the_move_is_answered() {
    let mut refused = 0;
    for n in 0..24 {
        let (mut world, [alice, ..], _) = gathered(1_560 + n, LEAVES);
        world.events.clear();
        move_home(&mut world, 1);
        world.run_ms(2 * n);
        let action = Action::CloseRoom { reason: "Over".into() };
        world.command(Command::Act { id: 2, room: room("demo"), action });
        world.run_ms(30_000);
        let what = format!("after {} ms", 2 * n);
        assert!(world.events.iter().any(|event| matches!(event, Event::Called { id: 1, .. })), "{what}: no answer");
        let is_done = match world.called(2) {
            Ok(_) => true,
            Err(words) if words == "there is no such room" => false,
            Err(words) => {
                assert_eq!(words, "the room's home changes, please try again");
                refused += 1;
                false
            }
        };
        assert_eq!(world.left(alice).is_some(), is_done, "{what}");
        let reports = [0, 1, 2, 3].map(|place| world.shard_at(place).report());
        let expected = if is_done { [(0, 0); 4] } else { [(0, 0), (0, 0), (1, 2), (1, 2)] };
        assert_eq!(reports.map(|report| (report.rooms, report.clients)), expected, "{what}");
        assert_eq!(world.audit(), Vec::<String>::new(), "{what}");
    }
    assert!(refused > 0);
}
