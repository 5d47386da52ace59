//! What operators do to rooms from outside, and what their webhook is told.

use moonring_core::command::{Command, Event, LeaveCause};
use moonring_core::shard::ShardSettings;
use moonring_policy::hook::Action;
use moonring_wire::id::{ClientId, RoomId};
use moonring_wire::media::CodecName::{Opus, Vp8};
use serde_json::{Value, json};

use crate::sim::places::count;
use crate::sim::{OPEN, World, settings};

const SCRIPT: &str = "
    function on_client_connect() return true end
    function on_publish_request() return true end
    function on_client_disconnect(client, reason) sfu.webhook('bye', { client:get_id(), reason }) end
    function on_admin(request) if request == 'wait' then sfu.sleep(50) end return { sfu.room_id, #sfu.clients() } end";

fn answers(world: &World) -> Vec<(u64, Result<Value, String>)> {
    let answer = |event: &Event| match event {
        Event::Called { id, answer } => Some((*id, answer.clone())),
        _ => None,
    };
    world.events.iter().filter_map(answer).collect()
}

fn room(id: &str) -> RoomId {
    RoomId::parse(id).unwrap()
}

#[test]
fn calls_are_answered_once_by_the_room_or_with_the_reason() {
    let mut world = World::ruled(101, SCRIPT);
    let name = room("demo");
    world.join("alice");
    for (id, room, request) in
        [(1, name.clone(), json!("wait")), (2, name.clone(), json!(1)), (3, room("none"), json!(1))]
    {
        world.command(Command::Call { id, room, request });
    }
    world.run_ms(100);
    let expected = || Ok(json!([name.as_str(), 1]));
    assert_eq!(answers(&world), [(3, Err("there is no such room".into())), (1, expected()), (2, expected())]);
}

#[test]
fn an_operator_sees_who_is_in_a_room_page_by_page_and_what_each_publishes_and_receives() {
    let mut world = World::ruled(104, OPEN);
    let (alice, bob) = (world.join("alice"), world.join("bob"));
    let track = world.publish(alice, Opus);
    world.subscribe(bob, &track, Opus);
    world.run_ms(1_000);
    for n in 0..40 {
        world.join(&format!("guest{n:02}"));
    }
    let list = |world: &mut World, name: &str, after: Option<&str>| {
        let after = after.map(|after| ClientId::parse(after).unwrap());
        world.command(Command::ListClients { id: 7, room: room(name), after });
        answers(world).pop().unwrap().1
    };
    let first = list(&mut world, "demo", None).unwrap();
    let ids = |page: &Value| {
        let clients = page["clients"].as_array().unwrap();
        clients.iter().map(|client| client["client"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!((ids(&first).len(), first["next"].as_str()), (32, Some("guest29")));
    let (alice, bob) = (&first["clients"][0], &first["clients"][1]);
    assert_eq!([&alice["client"], &bob["client"]], ["alice", "bob"]);
    assert_eq!([&alice["via"], &bob["via"]], ["websocket", "websocket"]);
    // Where somebody is who is elsewhere, the home knows; the way of the media knows that shard alone.
    for client in [alice, bob] {
        let expected = if client["here"] == true { (json!("udp"), false) } else { (Value::Null, true) };
        assert_eq!((client["transport"].clone(), client["place"].is_u64()), expected, "{client}");
    }
    let published = &alice["publishes"][0];
    assert_eq!((&published["track"], &published["source"]), (&json!(track), &json!("microphone")));
    assert_eq!((&published["muted"], &alice["joined"]), (&json!(false), &json!(true)));
    let second = list(&mut world, "demo", Some("guest29")).unwrap();
    assert_eq!((ids(&second).len(), ids(&second)[0].as_str(), &second["next"]), (10, "guest30", &Value::Null));
    // What somebody at another shard receives, that shard knows.
    if count() == 1 {
        assert_eq!(bob["receives"][0]["track"], json!(track));
        assert_eq!((&bob["receives"][0]["client"], &bob["connected"]), (&json!("alice"), &json!(true)));
    }
    assert_eq!(list(&mut world, "none", None), Err("there is no such room".into()));
}

#[test]
fn an_operator_is_told_no_bit_rate_of_what_has_stopped() {
    let mut world = World::ruled(105, OPEN);
    let (alice, bob) = (world.join("alice"), world.join("bob"));
    let track = world.publish(alice, Vp8);
    world.subscribe(bob, &track, Vp8);
    let bps = |world: &mut World| {
        world.command(Command::ListClients { id: 7, room: room("demo"), after: None });
        let page = answers(world).pop().unwrap().1.unwrap();
        page["clients"][0]["publishes"][0]["bps"][0].as_u64().unwrap()
    };
    world.run_ms(3_000);
    assert!(bps(&mut world) > 100_000);
    world.members[alice].up.loss = 1.0;
    world.run_ms(3_000);
    assert_eq!(bps(&mut world), 0);
}

#[test]
fn an_operator_kicks_and_closes_and_the_policy_and_the_webhook_hear_of_it() {
    let mut world = World::with(102, ShardSettings { webhooks: true, ..settings() }, SCRIPT);
    let room = room("demo");
    let (alice, bob) = (world.join("alice"), world.join("bob"));
    world.publish(bob, Opus);
    let kick = |client: ClientId| Action::Kick { client, reason: "Enough".into() };
    let acts = [
        kick(world.id(alice)),
        kick(ClientId::parse("nobody").unwrap()),
        Action::CloseRoom { reason: "Over".into() },
        Action::CloseRoom { reason: "Again".into() },
    ];
    for (id, action) in (1..).zip(acts) {
        world.command(Command::Act { id, room: room.clone(), action });
    }
    assert_eq!(world.left(alice), Some(&LeaveCause::Kicked("Enough".into())));
    assert_eq!(world.left(bob), Some(&LeaveCause::Kicked("Over".into())));
    let no_client = "there is no such client or track in the room";
    let expected = [Ok(Value::Null), Err(no_client.into()), Ok(Value::Null), Err("there is no such room".into())];
    assert_eq!(answers(&world).into_iter().map(|(_, answer)| answer).collect::<Vec<_>>(), expected);
    let told: Vec<_> = world
        .events
        .iter()
        .filter_map(|event| match event {
            Event::Webhook { event, .. } => Some(event.as_str()),
            _ => None,
        })
        .collect();
    let expected = [
        "room_opened",
        "client_joined",
        "client_joined",
        "track_published",
        "client_left",
        "bye",
        "track_unpublished",
        "client_left",
        "bye",
        "room_closed",
    ];
    assert_eq!(told, expected);
}
