//! How rooms begin and end.

use moonring_core::command::{Command, Event, LeaveCause, News, PlaceMessage};
use moonring_core::shard::ShardSettings;
use moonring_policy::PolicyReply;
use moonring_policy::hook::Action;
use moonring_wire::id::RoomId;
use serde_json::{Value, json};

use crate::sim::places::{id_at, over_two_nodes};
use crate::sim::{World, settings};

const SCRIPT: &str = r#"
local joins = 0
function on_client_connect(client, token)
  if token == "stranger" then return false end
  joins = joins + 1
  client:send(joins)
  return true
end
function on_message(client, message)
  if message == "close" then sfu.close("It is over") end
end
function on_client_disconnect(client) sfu.webhook("left", client:get_id()) end
function on_close(reason) sfu.webhook("closing", reason) end
function on_admin(request) return sfu.room.metadata end
"#;

fn script(more: &str) -> String {
    format!("{SCRIPT}\n{more}")
}

fn room() -> RoomId {
    RoomId::parse("demo").unwrap()
}

/// What webhooks were told and which rooms are gone since the last time.
fn happened(world: &mut World) -> Vec<String> {
    let words = |event: &Event| match event {
        Event::Webhook { event, data: Value::Null, .. } => Some(event.clone()),
        Event::Webhook { event, data: Value::String(text), .. } => Some(format!("{event} {text}")),
        Event::RoomClosed(room) => Some(format!("gone {room}")),
        Event::News { client, news } => match &**news {
            News::Message(value) => Some(format!("{client} {}", Value::clone(value))),
            _ => None,
        },
        _ => None,
    };
    let all = std::mem::take(&mut world.events);
    let happened = all.iter().filter_map(words).collect();
    world.events = all.into_iter().filter(|event| words(event).is_none()).collect();
    happened
}

fn say(world: &mut World, who: usize, text: &str) {
    world.command(Command::Message { client: world.id(who), value: json!(text) });
}

fn webhooks() -> ShardSettings {
    ShardSettings { webhooks: true, ..settings() }
}

#[test]
fn a_room_ends_with_its_last_client_and_its_script_hears_of_it_last() {
    let mut world = World::with(950, webhooks(), &script(""));
    let (alice, bob) = (world.join("alice"), world.join("bob"));
    world.leave(alice);
    happened(&mut world);
    world.leave(bob);
    assert_eq!(happened(&mut world), ["left bob", "closing empty", "room_closed", "gone demo"]);
    world.join("carol");
    assert_eq!(happened(&mut world), ["room_opened", "carol 1"]);
}

#[test]
fn a_room_that_was_closed_says_so() {
    let mut world = World::ruled(951, &script("EMPTY_TIMEOUT_S = 600"));
    let (alice, bob) = (world.join("alice"), world.join("bob"));
    happened(&mut world);
    say(&mut world, alice, "close");
    assert_eq!(happened(&mut world), ["left alice", "left bob", "closing closed", "gone demo"]);
    assert_eq!(world.left(bob), Some(&LeaveCause::Kicked("It is over".into())));
    assert_eq!(world.audit(), Vec::<String>::new());
}

#[test]
fn a_room_that_gives_way_ends_with_its_last_wing_even_if_its_script_keeps_it() {
    over_two_nodes();
    let mut world = World::ruled(958, &script("EMPTY_TIMEOUT_S = 600"));
    let [alice, bob, ..] = ["alice", "bob", "carol", "dan"].map(|name| world.join(name));
    world.run_ms(500);
    happened(&mut world);
    world.leave(alice);
    // Its other shard is slower, and the other node's wing is told of last.
    world.command_to(0, Command::CloseIfEmpty { room: room(), gives_way: true });
    world.leave(bob);
    assert_eq!(happened(&mut world), ["left alice", "left bob"]);
    let messages = vec![(room(), PlaceMessage::Detach)];
    world.command_to(0, Command::FromPlace { from: id_at(0, 2), messages });
    assert_eq!(happened(&mut world), ["left carol", "left dan", "closing empty", "gone demo"]);
}

#[test]
fn nobody_hears_of_a_room_that_only_strangers_have_asked_for() {
    let mut world = World::with(952, webhooks(), &script("EMPTY_TIMEOUT_S = 600"));
    world.join("stranger");
    assert_eq!(happened(&mut world), ["gone demo"]);
}

#[test]
fn a_room_is_kept_as_long_as_its_script_says() {
    let timer = "EMPTY_TIMEOUT_S = 60 sfu.set_interval(25000, function() sfu.webhook('tick', sfu.room.id) end)";
    let mut world = World::ruled(953, &script(timer));
    let alice = world.join("alice");
    world.leave(alice);
    happened(&mut world);
    world.run_ms(59_000);
    assert_eq!(happened(&mut world), ["tick demo", "tick demo"], "timers go on");
    let bob = world.join("bob");
    assert_eq!(happened(&mut world), ["bob 2"], "and so does the state");
    world.run_ms(120_000);
    world.leave(bob);
    happened(&mut world);
    assert_eq!(world.audit(), Vec::<String>::new());
    world.run_ms(61_000);
    let last = happened(&mut world);
    assert_eq!(last[last.len() - 2..], ["closing empty", "gone demo"], "{last:?}");
    assert_eq!(world.audit(), Vec::<String>::new());
}

#[test]
fn a_shard_keeps_so_many_rooms_and_the_one_that_waits_longest_makes_way() {
    let settings = ShardSettings { max_kept_rooms: 2, ..settings() };
    let mut world = World::with(954, settings, &script("EMPTY_TIMEOUT_S = 600"));
    for name in ["one", "two", "three"] {
        let who = world.join_room(name, name);
        world.leave(who);
    }
    let gone: Vec<_> = happened(&mut world).into_iter().filter(|words| words.starts_with("gone")).collect();
    assert_eq!(gone, ["gone one"]);
    let back = world.join_room("back", "two");
    assert_eq!(happened(&mut world), ["back 2"]);
    world.leave(back);
    let four = world.join_room("four", "four");
    world.leave(four);
    let gone: Vec<_> = happened(&mut world).into_iter().filter(|words| words.starts_with("gone")).collect();
    assert_eq!(gone, ["gone three"]);
    world.command(Command::CloseIfEmpty { room: RoomId::parse("four").unwrap(), gives_way: false });
    world.command(Command::CloseIfEmpty { room: RoomId::parse("none").unwrap(), gives_way: false });
    let gone: Vec<_> = happened(&mut world).into_iter().filter(|words| words.starts_with("gone")).collect();
    assert_eq!(gone, ["gone four"]);
    assert_eq!(world.audit(), Vec::<String>::new());
}

#[test]
fn who_comes_while_a_room_ends_waits_and_finds_a_new_one() {
    let more = "function on_close(reason) sfu.store.set('bill', reason) sfu.webhook('billed', reason) end";
    let mut world = World::ruled(955, &script(more));
    let alice = world.join("alice");
    world.leave(alice);
    happened(&mut world);
    let request = world.events.iter().find_map(|event| match event {
        Event::PolicyRequest { id, .. } => Some(*id),
        _ => None,
    });
    let bob = world.join("bob");
    let carol = world.join("carol");
    assert_eq!(happened(&mut world), Vec::<String>::new());
    world.leave(carol);
    assert_eq!(world.audit(), Vec::<String>::new());
    world.command(Command::PolicyReply { id: request.unwrap(), reply: PolicyReply::Shared(Ok(None)) });
    assert_eq!(happened(&mut world), ["billed empty", "gone demo", "bob 1"]);
    // Over several shards Carol has been taken in by hers.
    assert!(world.left(bob).is_none() && matches!(world.left(carol), None | Some(LeaveCause::Left)));
    assert_eq!(world.audit(), Vec::<String>::new());
}

#[test]
fn a_room_does_not_wait_for_ever_for_its_hooks() {
    for more in ["function on_close() sfu.sleep(6e8) end", "function on_client_disconnect() sfu.sleep(6e8) end"] {
        let mut world = World::ruled(956, &script(more));
        let alice = world.join("alice");
        happened(&mut world);
        say(&mut world, alice, "close");
        let bob = world.join("bob");
        world.command(Command::Call { id: 1, room: room(), request: Value::Null });
        world.run_ms(125_000);
        let all = happened(&mut world);
        assert!(all.contains(&"gone demo".to_owned()) && all.contains(&"bob 1".to_owned()), "{more}: {all:?}");
        assert!(world.left(bob).is_none());
        assert_eq!(world.audit(), Vec::<String>::new());
    }
}

#[test]
fn a_room_that_was_closed_waits_a_minute_for_what_its_hooks_have_to_say_and_lets_nobody_in_meanwhile() {
    let more = "function on_client_disconnect(client) sfu.sleep(50000) sfu.webhook('billed', client:get_id()) end
                function on_close(reason) sfu.sleep(50000) sfu.webhook('closing', reason) end";
    let mut world = World::ruled(957, &script(more));
    let alice = world.join("alice");
    happened(&mut world);
    say(&mut world, alice, "close");
    world.run_ms(40_000);
    let bob = world.join("bob");
    assert_eq!(happened(&mut world), Vec::<String>::new());
    world.run_ms(12_000);
    assert_eq!(happened(&mut world), ["billed alice"]);
    world.run_ms(51_000);
    assert_eq!(happened(&mut world), ["closing closed", "gone demo", "bob 1"]);
    assert!(world.left(bob).is_none());
    assert_eq!(world.audit(), Vec::<String>::new());
}

#[test]
fn an_operator_opens_a_room_with_something_to_say_of_it() {
    let mut world = World::with(957, webhooks(), &script(""));
    let open = |world: &mut World, id, metadata| world.command(Command::Open { id, room: room(), metadata });
    open(&mut world, 1, json!({ "plan": "gold" }));
    open(&mut world, 2, json!({ "plan": "tin" }));
    world.command(Command::Call { id: 3, room: room(), request: Value::Null });
    let answer = |event: &Event| match event {
        Event::Called { id, answer } => Some((*id, answer.clone())),
        _ => None,
    };
    let answers: Vec<_> = world.events.iter().filter_map(answer).collect();
    let expected =
        [(1, Ok(Value::Null)), (2, Err("the room is open already".to_owned())), (3, Ok(json!({ "plan": "gold" })))];
    assert_eq!(answers, expected);
    assert_eq!(happened(&mut world), ["room_opened"]);
    world.run_ms(59_000);
    let alice = world.join("alice");
    assert_eq!(happened(&mut world), ["alice 1"]);
    world.run_ms(10_000);
    world.leave(alice);
    assert_eq!(happened(&mut world), ["left alice", "closing empty", "room_closed", "gone demo"]);
    open(&mut world, 4, json!({}));
    world.run_ms(61_000);
    assert_eq!(happened(&mut world), ["room_opened", "closing empty", "room_closed", "gone demo"]);
    assert_eq!(world.audit(), Vec::<String>::new());
}

#[test]
fn a_room_whose_script_fails_is_not_opened() {
    let mut world = World::ruled(958, "error('no')");
    world.command(Command::Open { id: 1, room: room(), metadata: json!({}) });
    let failed =
        |event: &Event| matches!(event, Event::Called { id: 1, answer: Err(why) } if why == "Internal script error");
    assert!(world.events.iter().any(failed));
    assert_eq!(happened(&mut world), ["gone demo"]);
    assert_eq!(world.audit(), Vec::<String>::new());
}

#[test]
fn an_operator_closes_a_room_that_is_kept() {
    let mut world = World::ruled(959, &script("EMPTY_TIMEOUT_S = 600"));
    let alice = world.join("alice");
    world.leave(alice);
    happened(&mut world);
    let action = Action::CloseRoom { reason: "By the operator".into() };
    world.command(Command::Act { id: 1, room: room(), action });
    assert_eq!(happened(&mut world), ["closing closed", "gone demo"]);
}

#[test]
fn a_shutdown_ends_every_room_also_those_that_are_kept() {
    let mut world = World::ruled(960, &script("EMPTY_TIMEOUT_S = 600"));
    world.join("alice");
    let bob = world.join_room("bob", "kept");
    world.leave(bob);
    happened(&mut world);
    let (now, mut out) = (world.now, moonring_wire::packet::SendBatch::new(1 << 20, 64));
    world.shard.shut_down(now, &mut out);
    world.run_ms(1);
    let mut told = happened(&mut world);
    told.sort();
    assert_eq!(told, ["closing shutdown", "closing shutdown", "gone demo", "gone kept", "left alice"]);
    assert_eq!(world.audit(), Vec::<String>::new());
}

#[test]
fn a_room_that_everybody_has_left_waits_a_minute_for_what_its_hooks_have_to_say() {
    let report = |more: &str| {
        script(&format!(
            "{more}
             function on_client_disconnect(client, reason)
               sfu.sleep(reason == 'long' and 50000 or 6e8)
               sfu.webhook('billed', client:get_id())
             end"
        ))
    };
    let leave = |world: &mut World, who: usize, reason: &str| {
        world.command(Command::Leave { client: world.id(who), reason: reason.to_owned() });
    };
    let mut world = World::ruled(961, &report(""));
    let alice = world.join("alice");
    happened(&mut world);
    leave(&mut world, alice, "long");
    world.run_ms(49_000);
    assert_eq!(happened(&mut world), Vec::<String>::new());
    world.run_ms(2_000);
    assert_eq!(happened(&mut world), ["billed alice", "closing empty", "gone demo"]);

    let bob = world.join("bob");
    leave(&mut world, bob, "for ever");
    world.run_ms(50_000);
    let carol = world.join("carol");
    assert_eq!(happened(&mut world), ["bob 1", "carol 2"], "it is the same room");
    leave(&mut world, carol, "for ever");
    world.run_ms(59_000);
    assert_eq!(happened(&mut world), Vec::<String>::new(), "the minute begins anew");
    assert_eq!(world.audit(), Vec::<String>::new());
    world.run_ms(2_000);
    assert_eq!(happened(&mut world), ["closing empty"], "it does not wait for ever");
    world.run_ms(10_000);
    assert_eq!(happened(&mut world), ["gone demo"]);
    assert_eq!(world.audit(), Vec::<String>::new());

    let mut world = World::ruled(962, &report("EMPTY_TIMEOUT_S = 30"));
    let dora = world.join("dora");
    happened(&mut world);
    leave(&mut world, dora, "for ever");
    world.run_ms(89_000);
    assert_eq!(happened(&mut world), Vec::<String>::new(), "then it is kept as its script says");
    world.run_ms(72_000);
    assert_eq!(happened(&mut world), ["closing empty", "gone demo"]);
    assert_eq!(world.audit(), Vec::<String>::new());
}
