//! A recorded room of the whole core, replayed.

use std::collections::HashMap;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};

use moonring_core::command::{Command, Event, JoinRequest, PublishIntent};
use moonring_policy::Script;
use moonring_policy::client::RightsChange;
use moonring_policy::hook::Action;
use moonring_policy::tape::{Delivery, Depth, Sink};
use moonring_policy::tools::replay::{Recording, Report, replay};
use moonring_wire::id::{ClientId, RoomId};
use moonring_wire::media::CodecName::{Opus, Vp8};
use moonring_wire::media::Source;
use serde_json::{Value, json};

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

/// Records every room of the world from its first moment on.
fn recorded(world: &mut World) -> Receiver<Vec<u8>> {
    let (sender, lines) = channel();
    let sender = Arc::new(Mutex::new(sender));
    world.shard.record_rooms(Box::new(move |_: &RoomId| {
        let sender = sender.lock().unwrap().clone();
        Some(Sink::new(move |line| if sender.send(line).is_ok() { Delivery::Taken } else { Delivery::Gone }))
    }));
    lines
}

fn replayed(recording: &Recording, script: &str, world: &World) -> Report {
    let script = Script::compile("room.lua", script.as_bytes()).unwrap();
    replay(recording, Arc::new(script), world.now)
}

fn say(world: &mut World, who: usize, text: &str) {
    world.command(Command::Message { client: world.id(who), value: json!(text) });
}

#[test]
fn a_meeting_replayed_with_its_own_script_shows_no_difference_and_with_another_one_what_it_changes() {
    let mut world = World::ruled(620, MEETING);
    let lines = recorded(&mut world);
    let (alice, bob, carol) = (world.join("alice"), world.join("bob"), world.join("carol"));
    world.join("mallory");
    world.run_ms(100);
    let track = world.publish(alice, Opus);
    world.subscribe(bob, &track, Opus);
    world.run_ms(700);
    let mid = world.peer(carol).publish(Vp8);
    let intent = PublishIntent { mid, source: Source::Camera, makes_key_frames: false };
    world.offer(carol, vec![intent], vec![]);
    say(&mut world, bob, "hush");
    world.run_ms(300);
    say(&mut world, carol, "spam");
    world.run_ms(300);
    world.leave(bob);
    say(&mut world, alice, "over");
    world.run_ms(300);
    let text: Vec<u8> = lines.try_iter().flatten().collect();
    let recording = Recording::read(&*text).unwrap();
    let run = |script: &str| replayed(&recording, script, &world);
    let same = run(MEETING);
    let text = String::from_utf8_lossy(&text);
    assert!(same.is_same() && same.warnings.is_empty() && same.compared > 15, "{same}{:?}\n{text}", same.warnings);
    let lenient = run(&MEETING.replace("client:kick(\"No spam\")", "client:send(\"Please\")"));
    assert!(lenient.differences[0].to_string().contains("- kick"), "{lenient}");
    let strict = run(&MEETING.replace("~= \"mallory\"", "~= \"carol\""));
    assert!(strict.not_compared > 0 && strict.differences.len() >= 2, "{strict}");
}

/// A lesson. Roles are given by an operator's program: hosts alone show pictures. No trolls.
const LESSON: &str = r#"
function on_client_connect(client, token) return token:find("troll") == nil, "Not you" end
function on_publish_request(client, track)
  return track.kind == "audio" or client:attributes().role == "host", "Only hosts show pictures"
end
function on_message(client, message)
  sfu.broadcast({ text = message, from = client:get_id(), role = client:attributes().role, hears = client:rights().subscribe })
end
"#;

/// Members of the lesson, before those who come and go.
const MEMBERS: usize = 12;

/// What an operator does to a member.
fn operate(world: &mut World, who: usize, of: impl FnOnce(ClientId) -> Action) {
    let action = of(world.id(who));
    world.command(Command::Act { id: 0, room: crate::sim::room("demo"), action });
}

fn role(world: &mut World, who: usize, role: &str) {
    operate(world, who, |client| Action::SetAttributes { client, attributes: json!({ "role": role }) });
}

/// Somebody without media asks to join, says something four times, if let in, and leaves.
fn visit(world: &mut World, name: &str) {
    let (id, connection) = (ClientId::parse(name).unwrap(), Box::new([10, 0, 2, 1].into()));
    let (token, metadata) = (name.to_owned(), json!({ "name": name }));
    let request = JoinRequest { room: crate::sim::room("demo"), client: id.clone(), token, metadata, connection };
    world.command(Command::Join(request));
    for n in 0..4 {
        world.command(Command::Message { client: id.clone(), value: json!({ "n": n }) });
    }
    world.command(Command::Leave { client: id, reason: "left".into() });
}

/// An hour of the lesson, more than 1,000 events, with what the operator's program does meanwhile.
fn lesson(world: &mut World) {
    for n in 0..MEMBERS {
        world.join(&format!("p{n}"));
    }
    (0..2).for_each(|who| role(world, who, "host"));
    (2..6).for_each(|who| role(world, who, "guest"));
    for n in 0..200 {
        visit(world, &if n % 2 == 0 { format!("troll-{n}") } else { format!("late-{n}") });
        (0..2).for_each(|_| say(world, n % MEMBERS, "Good question"));
        match n {
            60 => role(world, 2, "host"),
            100 => role(world, 0, "guest"),
            140 => operate(world, 3, |client| {
                let change = RightsChange { subscribe: Some(false), ..RightsChange::default() };
                Action::SetRights { client, change, reason: "Listen no more".into() }
            }),
            _ => {}
        }
        if n % 5 == 0 {
            let who = (n / 5) % MEMBERS;
            let mid = world.peer(who).publish(Vp8);
            world.offer(who, vec![PublishIntent { mid, source: Source::Camera, makes_key_frames: false }], vec![]);
        }
        world.run_ms(20);
    }
}

/// By hand: which lines are of guests who ask to show pictures, told as a replay tells of them.
fn guests_with_pictures(recording: &str) -> Vec<String> {
    let (mut roles, mut found) = (HashMap::new(), Vec::new());
    for (number, text) in (1..).zip(recording.lines()) {
        let line: Value = serde_json::from_str(text).unwrap();
        let client = |of: &Value| of["client"].as_str().unwrap_or_default().to_owned();
        if let Some(role) = line["action"]["set_attributes"]["role"].as_str() {
            roles.insert(client(&line["action"]), role.to_owned());
        }
        let (track, who) = (&line["track"], client(&line));
        if line["hook"] == "on_publish_request"
            && line["line"] == "event"
            && track["kind"] == "video"
            && roles.get(&who).is_some_and(|role| role == "guest")
        {
            let (s, id) = (line["t"].as_u64().unwrap() as f64 / 1e9, track["id"].as_str().unwrap());
            found.push(format!("line {number}, {s:.3} s: on_publish_request {who} \"{id} video camera\"\n"));
        }
    }
    found
}

#[test]
fn an_incident_of_a_thousand_events_replayed_through_a_changed_script_prints_exactly_the_verdicts_that_differ() {
    let mut world = World::ruled(622, LESSON);
    let lines = recorded(&mut world);
    lesson(&mut world);
    world.command(Command::Act {
        id: 0,
        room: crate::sim::room("demo"),
        action: Action::CloseRoom { reason: "Over".into() },
    });
    let bytes: Vec<u8> = lines.try_iter().flatten().collect();
    let text = String::from_utf8(bytes).unwrap();
    let recording = Recording::read(text.as_bytes()).unwrap();
    let events = text.lines().filter(|line| line.contains("\"line\":\"event\"")).count();
    assert!(events > 1_000, "{events}");

    let same = replayed(&recording, LESSON, &world);
    assert!(same.is_same() && same.warnings.is_empty() && same.compared > 1_000, "{same}{:?}", same.warnings);

    let lenient = LESSON.replace("role == \"host\"", "role ~= nil");
    let report = replayed(&recording, &lenient, &world);
    let expected = guests_with_pictures(&text);
    assert!(expected.len() >= 10, "{expected:?}");
    let told = |what: &String| format!("{what}  - rejected: Only hosts show pictures\n  + allowed\n");
    let last = format!("{} of {} events and timers differ\n", expected.len(), report.compared);
    assert_eq!(report.to_string(), expected.iter().map(told).collect::<String>() + &last);

    // What the operator's program did is what it hangs on.
    let without: Vec<_> = text.lines().filter(|line| !line.contains("\"line\":\"operator\"")).collect();
    let recording = Recording::read(without.join("\n").as_bytes()).unwrap();
    let unlike = replayed(&recording, LESSON, &world);
    assert!(unlike.warnings.iter().any(|warning| warning.contains("does not repeat what it did")), "{unlike}");
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
