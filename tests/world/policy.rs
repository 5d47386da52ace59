//! What a room's script decides happens, whole or not at all.

use moonring_core::command::{Command, Event, LeaveCause, News, RefusalCode};
use moonring_policy::hook::Undecided;
use moonring_wire::media::CodecName::{Opus, Vp8};
use serde_json::json;

use crate::sim::World;

const MEETING: &str = r#"
function on_client_connect(client, token)
  if token == "mallory" then return false, "No seat for you" end
  client:send({ welcome = token })
  return true
end
function on_publish_request(client, track)
  if track.kind == "video" then sfu.broadcast({ refused = client:get_id() }) return false, "No pictures here" end
  client:send({ published = track.kind })
  return true
end
function on_message(client, message)
  if message == "spam" then client:kick("No spam") end
  if message == "over" then sfu.close("It is over") end
  if message == "fail" then sfu.broadcast("never") error("boom") end
  if message == "hush" then for _, c in ipairs(sfu.clients()) do for _, t in ipairs(c:tracks()) do c:mute(t) end end end
end
function on_client_disconnect(client, reason) sfu.broadcast({ gone = client:get_id(), why = reason }) end
"#;

fn say(world: &mut World, who: usize, text: &str) {
    world.command(Command::Message { client: world.id(who), value: json!(text) });
}

fn starts(words: &[String]) -> Vec<&str> {
    words.iter().map(|words| words.split(' ').next().unwrap()).collect()
}

#[test]
fn a_rejected_client_hears_why_and_nobody_hears_of_it() {
    let mut world = World::ruled(80, MEETING);
    let alice = world.join("alice");
    world.take_words(alice);
    let mallory = world.join("mallory");
    assert_eq!(world.left(mallory), Some(&LeaveCause::Rejected("No seat for you".into())));
    assert_eq!(world.take_words(alice), Vec::<String>::new());
}

#[test]
fn a_verdict_and_its_actions_come_in_one_step() {
    let mut world = World::ruled(81, MEETING);
    let alice = world.join("alice");
    assert_eq!(starts(&world.take_words(alice)), ["Joined", "Message"], "first in the room, then the message");
    world.publish(alice, Opus);
    let told = world.take_words(alice);
    assert!(told.iter().any(|words| words.contains("published")), "{told:?}");
    let mid = world.peer(alice).publish(Vp8);
    let intent = moonring_core::command::PublishIntent {
        mid,
        source: moonring_wire::media::Source::Camera,
        makes_key_frames: false,
    };
    let outcomes = world.offer(alice, vec![intent], vec![]);
    assert_eq!(outcomes[0].reason.as_deref(), Some("No pictures here"));
    let told = world.take_words(alice);
    assert!(told.iter().any(|words| words.contains("refused")), "{told:?}");
}

#[test]
fn a_kick_ends_the_media_and_everybody_hears_of_it() {
    let mut world = World::ruled(82, MEETING);
    let (alice, bob) = (world.join("alice"), world.join("bob"));
    let track = world.publish(alice, Opus);
    world.subscribe(bob, &track, Opus);
    world.run_ms(1_000);
    world.take_words(bob);
    say(&mut world, alice, "spam");
    assert_eq!(world.left(alice), Some(&LeaveCause::Kicked("No spam".into())));
    let told = world.take_words(bob);
    assert_eq!(starts(&told)[..3], ["TrackUnpublished", "ClientLeft", "Message"], "{told:?}");
    assert!(told[2].contains("No spam"));
    world.run_ms(50);
    world.forget_received();
    world.run_ms(1_000);
    assert_eq!(world.members[bob].got.len(), 0);
}

#[test]
fn a_hook_that_fails_has_done_nothing() {
    let mut world = World::ruled(83, MEETING);
    let alice = world.join("alice");
    world.take_words(alice);
    say(&mut world, alice, "fail");
    world.run_ms(100);
    assert_eq!(world.take_words(alice), Vec::<String>::new());
    assert!(world.left(alice).is_none());
}

#[test]
fn without_on_message_the_sender_is_told_that_nobody_listens() {
    let mut world = World::new(84);
    let alice = world.join("alice");
    world.events.clear();
    say(&mut world, alice, "hello?");
    assert_eq!(world.refusals()[0].0, RefusalCode::MessageDropped);
}

#[test]
fn a_closed_room_puts_everybody_out_and_the_next_one_begins_anew() {
    let mut world = World::ruled(85, &format!("{MEETING}\nn = 0 function on_init() n = n + 1 sfu.log_info(n) end"));
    let (alice, bob) = (world.join("alice"), world.join("bob"));
    let track = world.publish(alice, Opus);
    world.subscribe(bob, &track, Opus);
    world.run_ms(500);
    say(&mut world, bob, "over");
    world.run_ms(100);
    for who in [alice, bob] {
        assert_eq!(world.left(who), Some(&LeaveCause::Kicked("It is over".into())));
    }
    assert!(world.events.iter().any(|event| matches!(event, Event::RoomClosed { .. })));
    let carol = world.join("carol");
    let alone = world.events.iter().any(|event| {
        matches!(event, Event::Joined { client, clients, tracks, .. } if client.as_str() == "carol" && clients.is_empty() && tracks.is_empty())
    });
    assert!(alone && world.left(carol).is_none());
}

#[test]
fn a_policy_mutes_and_a_publisher_cannot_undo_it() {
    let mut world = World::ruled(86, MEETING);
    let (alice, bob) = (world.join("alice"), world.join("bob"));
    let track = world.publish(alice, Opus);
    world.subscribe(bob, &track, Opus);
    world.run_ms(1_000);
    say(&mut world, bob, "hush");
    world.command(Command::SetMuted { client: world.id(alice), track: track.clone(), muted: false });
    world.run_ms(50);
    world.forget_received();
    world.run_ms(1_000);
    assert_eq!(world.members[bob].got.len(), 0);
}

#[test]
fn a_script_that_does_not_compile_rejects_newcomers_and_the_room_is_over() {
    let mut world = World::ruled(87, "function on_client_connect( return true end");
    let alice = world.join("alice");
    assert!(matches!(world.left(alice), Some(LeaveCause::Undecided(Undecided::Failed, _))), "{:?}", world.events);
    assert!(world.events.iter().any(|event| matches!(event, Event::RoomClosed { .. })));
}

#[test]
fn a_bitrate_set_by_the_policy_reaches_the_publisher_as_an_estimate() {
    let script = "function on_client_connect() return true end function on_publish_request() return true end
        function on_message(client, bps) client:set_max_bitrate(bps) end";
    let mut world = World::ruled(88, script);
    let who = world.join_raw("alice");
    let mut video = crate::sim::raw::section("0", Vp8, moonring_wire::negotiate::Direction::SendOnly);
    video.ssrcs = vec![(moonring_wire::id::Ssrc(5), None)];
    world.raw(who).sections = vec![video];
    world.offer(who, vec![crate::sim::flows::sends("0")], vec![]);
    world.run_ms(1_000);
    world.raw(who).reports.clear();
    world.command(Command::Message { client: world.id(who), value: json!(250_000) });
    world.run_ms(50);
    let reports = format!("{:?}", world.raw(who).reports);
    assert!(reports.contains("bitrate_bps: 250000"), "{reports}");
}

#[test]
fn a_publisher_that_gives_transport_wide_numbers_is_told_when_its_limit_is_lifted() {
    let script = "function on_client_connect() return true end function on_publish_request() return true end
        function on_message(client, bps) client:set_max_bitrate(bps > 0 and bps or nil) end";
    let mut world = World::ruled(88, script);
    let who = world.join_raw("alice");
    let mut video = crate::sim::raw::section("0", Vp8, moonring_wire::negotiate::Direction::SendOnly);
    video.codecs[0].feedback.transport_cc = true;
    video.extensions.push((5, moonring_wire::media::Extension::TransportSequence));
    video.ssrcs = vec![(moonring_wire::id::Ssrc(5), None)];
    world.raw(who).sections = vec![video];
    world.offer(who, vec![crate::sim::flows::sends("0")], vec![]);
    world.run_ms(1_000);
    for (bps, expected) in [(250_000, "bitrate_bps: 250000"), (0, "bitrate_bps: 49999872")] {
        world.raw(who).reports.clear();
        world.command(Command::Message { client: world.id(who), value: json!(bps) });
        world.run_ms(50);
        let reports = format!("{:?}", world.raw(who).reports);
        assert!(reports.contains(expected), "{bps}: {reports}");
    }
}

#[test]
fn a_limit_of_the_policy_is_in_the_answer_only_to_who_takes_no_estimates() {
    let script = "function on_client_connect() return true end
        function on_publish_request(client) client:set_max_bitrate(250000) return true end";
    for (remb, expected) in [(true, None), (false, Some("b=TIAS:250000"))] {
        let mut world = World::ruled(90, script);
        let who = world.join_raw("alice");
        let mut video = crate::sim::raw::section("0", Vp8, moonring_wire::negotiate::Direction::SendOnly);
        video.codecs[0].feedback.remb = remb;
        world.raw(who).sections = vec![video];
        for _ in 0..2 {
            world.offer(who, vec![crate::sim::flows::sends("0")], vec![]);
        }
        let answer = moonring_wire::sdp::render_answer(&world.raw(who).answer.clone().unwrap());
        assert_eq!(answer.lines().find(|line| line.starts_with("b=")), expected);
    }
}

#[test]
fn what_a_script_says_to_a_goodbye_by_dtls_is_heard_at_once() {
    let mut world = World::ruled(89, MEETING);
    let (alice, bob) = (world.join("alice"), world.join_raw("bob"));
    world.raw(bob).sections = vec![crate::sim::raw::section("0", Opus, moonring_wire::negotiate::Direction::SendOnly)];
    world.offer(bob, vec![crate::sim::flows::sends("0")], vec![]);
    world.run_ms(990);
    world.take_words(alice);
    let now = world.now;
    world.raw(bob).close(now);
    world.run_ms(15);
    let told = world.take_words(alice);
    assert!(told.iter().any(|words| words.starts_with("Message") && words.contains("gone")), "{told:?}");
}

#[test]
fn joined_comes_first_and_everybody_hears_of_each_other_once() {
    let script = "function on_client_connect() sfu.sleep(100) return true end";
    let mut world = World::ruled(90, script);
    world.join("alice");
    world.join("bob");
    world.run_ms(200);
    let mut heard = Vec::new();
    for event in &world.events {
        match event {
            Event::Joined { client, clients, .. } => {
                heard.push((client.as_str(), "joined"));
                heard.extend(clients.iter().map(|other| (client.as_str(), other.client.as_str())));
            }
            Event::News { client, news } => {
                if let News::ClientJoined(other) = &**news {
                    heard.push((client.as_str(), other.client.as_str()));
                }
            }
            _ => {}
        }
    }
    assert_eq!(heard, [("alice", "joined"), ("bob", "joined"), ("bob", "alice"), ("alice", "bob")]);
}

#[test]
fn joins_that_wait_are_not_clients_of_the_room() {
    let script = "local first = true
        function on_client_connect() if first then first = false else sfu.sleep(60000) end return true end";
    let settings = moonring_core::shard::ShardSettings { max_clients_per_room: 2, ..crate::sim::settings() };
    let mut world = World::with(91, settings, script);
    let names = ["alice", "bob", "carol", "dave"];
    let members = names.map(|name| world.join(name));
    let refused = members.map(|who| matches!(world.left(who), Some(LeaveCause::Limit(_))));
    assert_eq!(refused, [false; 4], "one is in, three wait");
    world.run_ms(61_000);
    let refused = members.map(|who| matches!(world.left(who), Some(LeaveCause::Limit(_))));
    assert_eq!(refused, [false, false, true, true], "the room is full when they are decided on");
}

#[test]
fn a_message_that_is_nested_too_deep_is_refused_with_the_reason() {
    let mut world = World::ruled(92, MEETING);
    let alice = world.join("alice");
    world.events.clear();
    let value = (0..40).fold(json!(1), |inner, _| json!([inner]));
    world.command(Command::Message { client: world.id(alice), value });
    let refusals = world.refusals();
    assert_eq!(refusals[0].0, RefusalCode::MessageDropped);
    assert_eq!(refusals[0].1, "the message is nested more than 32 levels deep");
}
