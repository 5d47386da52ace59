//! A recorded room of the whole core, replayed.

use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};

use moonring_core::command::{Command, Event};
use moonring_policy::Script;
use moonring_policy::tape::{Delivery, Depth, Sink};
use moonring_policy::tools::replay::{Recording, replay};
use moonring_wire::id::RoomId;
use moonring_wire::media::CodecName::{Opus, Vp8};
use serde_json::json;

use crate::sim::World;

const MEETING: &str = r#"
function on_init() sfu.set_interval(500, function() for _, c in ipairs(sfu.clients()) do c:send(c:stats().packets_in) end end) end
function on_client_connect(client, token) sfu.sleep(20) return token ~= "mallory", "No seat for you" end
function on_publish_request(client, track) return track.kind == "audio", "No pictures " .. math.random(100) end
function on_subscribe_request(client, track) return track.client_id ~= "carol" end
function on_track_published(client, track) sfu.broadcast({ published = track.id }) end
function on_track_unpublished(client, track) sfu.broadcast({ ended = track.id, left = #client:tracks() }) end
function on_message(client, message)
  if message == "spam" then client:kick("No spam") end
  if message == "hush" then for _, c in ipairs(sfu.clients()) do for _, t in ipairs(c:tracks()) do c:mute(t) end end end
  if message == "over" then sfu.close("It is over") end
end
function on_client_disconnect(client, reason)
  sfu.broadcast({ gone = client:get_id(), why = reason, sent = client:stats().packets_out })
end
function on_active_speakers(clients) sfu.broadcast({ speak = #clients }) end
"#;

#[test]
fn a_meeting_replayed_with_its_own_script_shows_no_difference_and_with_another_one_what_it_changes() {
    let mut world = World::ruled(620, MEETING);
    let (sender, lines) = channel();
    let sender = Arc::new(Mutex::new(sender));
    world.shard.record_rooms(Box::new(move |_: &RoomId| {
        let sender = sender.lock().unwrap().clone();
        Some(Sink::new(move |line| if sender.send(line).is_ok() { Delivery::Taken } else { Delivery::Gone }))
    }));
    let (alice, bob, carol) = (world.join("alice"), world.join("bob"), world.join("carol"));
    world.join("mallory");
    world.run_ms(100);
    let track = world.publish(alice, Opus);
    world.subscribe(bob, &track, Opus);
    world.run_ms(700);
    let mid = world.peer(carol).publish(Vp8);
    let intent = moonring_core::command::PublishIntent { mid, source: moonring_wire::media::Source::Camera };
    world.offer(carol, vec![intent], vec![]);
    let say = |world: &mut World, who: usize, text: &str| {
        world.command(Command::Message { client: world.id(who), value: json!(text) });
    };
    say(&mut world, bob, "hush");
    world.run_ms(300);
    say(&mut world, carol, "spam");
    world.run_ms(300);
    world.leave(bob);
    say(&mut world, alice, "over");
    world.run_ms(300);
    let text: Vec<u8> = lines.try_iter().flatten().collect();
    let recording = Recording::read(&*text).unwrap();
    let run = |script: &str| {
        let script = Script::compile("room.lua", script.as_bytes()).unwrap();
        replay(&recording, Arc::new(script), world.now)
    };
    let same = run(MEETING);
    let text = String::from_utf8_lossy(&text);
    assert!(same.is_same() && same.warnings.is_empty() && same.compared > 15, "{same}{:?}\n{text}", same.warnings);
    let lenient = run(&MEETING.replace("client:kick(\"No spam\")", "client:send(\"Please\")"));
    assert!(lenient.differences[0].to_string().contains("- kick"), "{lenient}");
    let strict = run(&MEETING.replace("~= \"mallory\"", "~= \"carol\""));
    assert!(strict.not_compared > 0 && strict.differences.len() >= 2, "{strict}");
}

#[test]
fn a_room_that_is_not_there_and_a_crowd_of_watchers_are_told_why_not() {
    let mut world = World::ruled(621, MEETING);
    world.join("alice");
    for (id, room) in [(1, "nowhere")].into_iter().chain((2..8).map(|id| (id, "demo"))) {
        let sink = Sink::new(|_| Delivery::Taken);
        world.command(Command::Watch { id, room: crate::sim::room(room), sink, depth: Depth::Trace });
    }
    let answers: Vec<_> = world
        .events
        .iter()
        .filter_map(|event| match event {
            Event::Called { id, answer } => Some((*id, answer.clone().err())),
            _ => None,
        })
        .collect();
    let full = Some("too many watch or record this room already".to_owned());
    let nowhere = Some("there is no such room".to_owned());
    let expected = [(1, nowhere), (2, None), (3, None), (4, None), (5, None), (6, full.clone()), (7, full)];
    assert_eq!(answers, expected);
}
