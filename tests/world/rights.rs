//! What a policy gives and takes takes effect on what is live, and clients are told.

use moonring_core::command::{Command, Event, LeaveCause, News, PublishIntent};
use moonring_policy::client::Via;
use moonring_wire::id::{ClientId, TrackId};
use moonring_wire::media::CodecName::{Opus, Vp8};
use moonring_wire::media::Source;
use serde_json::{Value, json};

use crate::sim::World;
use crate::sim::flows::wants;

const SCRIPT: &str = r#"
function on_client_connect(client, token)
  if token:find("ghost") then client:set_hidden(true) end
  if token == "guest" then
    client:set_attributes({ role = "guest" })
    client:set_rights({ publish = { "screen" }, message = false })
  end
  return true
end
local asked = 0
function on_publish_request(client, track)
  asked = asked + 1
  if track.kind == "video" and client:get_id() == "slow" then sfu.sleep(1000) end
  return true
end
function on_track_unpublished(client, track) sfu.broadcast("unpublished " .. track.kind) end
function on_message(client, order)
  local who = sfu.client(order.who or "")
  if order.rights then who:set_rights(order.rights, order.reason) end
  if order.attributes then who:set_attributes(order.attributes) end
  if order.unpublish then who:unpublish(order.unpublish, order.reason) end
  if order.unsubscribe then who:unsubscribe(order.unsubscribe, order.reason) end
  if order.hidden ~= nil then who:set_hidden(order.hidden) end
  if order.announce then sfu.announce(order.announce) end
  if order.asked then sfu.broadcast(asked) end
end
"#;

fn say(world: &mut World, who: usize, order: Value) {
    world.command(Command::Message { client: world.id(who), value: order });
}

/// What an event tells its client, in short.
fn short(event: &Event) -> Option<(&ClientId, String)> {
    let text = |value: &Value| serde_json::to_string(value).unwrap();
    Some(match event {
        Event::Joined { client, clients, tracks, attributes, rights, .. } => {
            let ids: Vec<_> = clients.iter().map(|info| format!("{}{}", info.client, text(&info.attributes))).collect();
            let rights = if rights.message { "" } else { " no messages" };
            (client, format!("joined {} {} {}{rights}", ids.join(","), tracks.len(), text(attributes)))
        }
        Event::News { client, news } => match &**news {
            News::ClientJoined(other) => (client, format!("+{}{}", other.client, text(&other.attributes))),
            News::ClientLeft(other) => (client, format!("-{other}")),
            News::ClientChanged { client: other, attributes } => (client, format!("{other}={}", text(attributes))),
            News::TrackPublished(track) => (client, format!("track of {}", track.client)),
            News::TrackUnpublished(_) => (client, "track gone".into()),
            News::Message(value) => (client, format!("says {}", text(value))),
            _ => return None,
        },
        Event::TrackEnded { client, reason, .. } => (client, format!("track ended {reason}")),
        Event::Unsubscribed { client, reason, .. } => (client, format!("unsubscribed {reason}")),
        Event::Rights { client, rights } => (client, format!("rights {}", serde_json::to_string(rights).unwrap())),
        Event::Refused { client, message, .. } => (client, format!("refused {message}")),
        _ => return None,
    })
}

/// What `who` was told since the last time.
fn told(world: &mut World, who: usize) -> Vec<String> {
    let id = world.id(who);
    let told = world.events.iter().filter_map(short).filter(|(of, _)| **of == id).map(|(_, words)| words).collect();
    world.events.retain(|event| short(event).is_none_or(|(of, _)| *of != id));
    told
}

/// Why the section that asks to publish is refused.
fn refused(world: &mut World, who: usize, source: Source) -> Option<String> {
    let mid = world.peer(who).publish(Vp8);
    world.offer(who, vec![PublishIntent { mid, source, makes_key_frames: false }], vec![]).remove(0).reason
}

/// Alice and bob, who publishes sound and pictures that alice receives.
fn pair(seed: u64) -> (World, usize, usize, [TrackId; 2]) {
    let mut world = World::ruled(seed, SCRIPT);
    let (alice, bob) = (world.join("alice"), world.join("bob"));
    let tracks = [world.publish(bob, Opus), world.publish(bob, Vp8)];
    world.subscribe(alice, &tracks[0], Opus);
    world.subscribe(alice, &tracks[1], Vp8);
    world.run_ms(1_500);
    told(&mut world, alice);
    told(&mut world, bob);
    (world, alice, bob, tracks)
}

#[test]
fn a_right_to_publish_that_is_taken_ends_what_it_was_for_and_nothing_else() {
    let (mut world, alice, bob, _) = pair(900);
    let rights = json!({ "who": "bob", "rights": { "publish": ["microphone"] }, "reason": "No pictures, please" });
    say(&mut world, alice, rights);
    let rights = r#"rights {"publish":["microphone"],"subscribe":true,"message":true}"#;
    let gone = "track ended No pictures, please";
    assert_eq!(told(&mut world, bob), [rights, gone, r#"says "unpublished video""#]);
    assert_eq!(told(&mut world, alice), ["track gone", r#"says "unpublished video""#]);
    world.run_ms(50);
    world.forget_received();
    world.run_ms(1_000);
    let kinds: std::collections::BTreeSet<_> = world.members[alice].got.iter().map(|got| got.pt).collect();
    assert_eq!(kinds.len(), 1, "the sound goes on: {kinds:?}");
    assert_eq!(world.audit(), Vec::<String>::new());
}

#[test]
fn who_has_no_right_is_refused_before_the_script_is_asked() {
    let mut world = World::ruled(901, SCRIPT);
    let (alice, guest) = (world.join("alice"), world.join("guest"));
    assert_eq!(refused(&mut world, guest, Source::Camera).as_deref(), Some("You may not publish this here"));
    told(&mut world, guest);
    say(&mut world, guest, json!({ "asked": true }));
    assert_eq!(told(&mut world, guest), ["refused You may not send messages here"]);
    told(&mut world, alice);
    say(&mut world, alice, json!({ "asked": true }));
    assert_eq!(told(&mut world, alice), ["says 0"]);
    assert_eq!(refused(&mut world, guest, Source::Screen), None);
    say(&mut world, alice, json!({ "who": "guest", "rights": { "publish": true, "message": true } }));
    assert_eq!(refused(&mut world, guest, Source::Camera), None);
    assert_eq!(world.audit(), Vec::<String>::new());
}

#[test]
fn a_right_that_is_taken_while_the_script_decides_is_not_there_afterwards() {
    let mut world = World::ruled(902, SCRIPT);
    let (alice, slow) = (world.join("alice"), world.join("slow"));
    let mid = world.peer(slow).publish(Vp8);
    world.offer(slow, vec![PublishIntent { mid, source: Source::Camera, makes_key_frames: false }], vec![]);
    say(&mut world, alice, json!({ "who": "slow", "rights": { "publish": false } }));
    world.run_ms(1_500);
    let outcome = world.members[slow].outcomes.last().unwrap();
    assert_eq!(outcome.reason.as_deref(), Some("You may not publish this here"));
    assert!(world.published_by(slow).is_empty());
}

#[test]
fn a_right_to_receive_that_is_taken_ends_subscriptions_and_later_ones_are_refused() {
    let (mut world, alice, bob, tracks) = pair(903);
    say(&mut world, bob, json!({ "who": "alice", "rights": { "subscribe": false }, "reason": "Time is over" }));
    let all = r#"["camera","microphone","screen","screen_audio","other"]"#;
    let rights = format!(r#"rights {{"publish":{all},"subscribe":false,"message":true}}"#);
    assert_eq!(told(&mut world, alice), [&rights, "unsubscribed Time is over", "unsubscribed Time is over"]);
    assert_eq!(told(&mut world, bob), Vec::<String>::new());
    world.run_ms(50);
    world.forget_received();
    world.run_ms(500);
    assert!(world.members[alice].got.is_empty());
    let again = |world: &mut World| {
        let mid = world.peer(alice).receive(Opus);
        world.offer(alice, vec![], vec![wants(&mid, Some(&tracks[0]))]).remove(0).reason
    };
    assert_eq!(again(&mut world).as_deref(), Some("You may not receive tracks here"));
    say(&mut world, bob, json!({ "who": "alice", "rights": { "subscribe": true } }));
    assert_eq!(again(&mut world), None);
    assert_eq!(world.audit(), Vec::<String>::new());
}

#[test]
fn single_tracks_and_subscriptions_end_with_the_reason() {
    let (mut world, alice, bob, tracks) = pair(904);
    for (order, to_alice, to_bob) in [
        (
            json!({ "who": "alice", "unsubscribe": tracks[0], "reason": "Not yours" }),
            vec!["unsubscribed Not yours"],
            vec![],
        ),
        (json!({ "who": "alice", "unsubscribe": tracks[0] }), vec![], vec![]),
        (json!({ "who": "alice", "unpublish": tracks[1] }), vec![], vec![]),
        (
            json!({ "who": "bob", "unpublish": tracks[1] }),
            vec!["track gone", r#"says "unpublished video""#],
            vec!["track ended The room has ended it", r#"says "unpublished video""#],
        ),
        (json!({ "who": "bob", "unpublish": tracks[1] }), vec![], vec![]),
        (json!({ "who": "bob", "unpublish": "t0000000000000000" }), vec![], vec![]),
    ] {
        say(&mut world, alice, order.clone());
        assert_eq!(told(&mut world, alice), to_alice, "{order}");
        assert_eq!(told(&mut world, bob), to_bob, "{order}");
    }
    assert_eq!(world.audit(), Vec::<String>::new());
}

#[test]
fn an_encoder_and_a_player_over_http_end_with_what_they_came_for() {
    let mut world = World::ruled(905, SCRIPT);
    let alice = world.join("alice");
    let encoder = world.join_via("encoder", Via::Whip);
    world.publish(encoder, Opus);
    let player = world.join_via("player", Via::Whep);
    let mid = world.peer(player).receive(Opus);
    world.offer(player, vec![], vec![wants(&mid, None)]);
    world.run_ms(500);
    say(&mut world, alice, json!({ "who": "player", "rights": { "subscribe": false }, "reason": "Pay first" }));
    assert_eq!(world.left(player), Some(&LeaveCause::Kicked("Pay first".into())));
    say(&mut world, alice, json!({ "who": "encoder", "rights": { "publish": false }, "reason": "Not on air" }));
    assert_eq!(world.left(encoder), Some(&LeaveCause::Kicked("Not on air".into())));
    assert_eq!(world.audit(), Vec::<String>::new());
}

#[test]
fn attributes_are_there_from_the_join_on_and_changes_are_told_to_everybody() {
    let mut world = World::ruled(906, SCRIPT);
    let (alice, guest) = (world.join("alice"), world.join("guest"));
    assert_eq!(told(&mut world, alice), ["joined  0 {}", r#"+guest{"role":"guest"}"#]);
    assert_eq!(told(&mut world, guest), [r#"joined alice{} 0 {"role":"guest"} no messages"#]);
    say(&mut world, alice, json!({ "who": "guest", "attributes": { "hand": true } }));
    for who in [alice, guest] {
        assert_eq!(told(&mut world, who), [r#"guest={"hand":true}"#]);
    }
    let bob = world.join("bob");
    assert_eq!(told(&mut world, bob), [r#"joined alice{},guest{"hand":true} 0 {}"#]);
}

#[test]
fn others_never_hear_of_a_hidden_client() {
    let mut world = World::ruled(907, SCRIPT);
    let (alice, ghost) = (world.join("alice"), world.join("ghost"));
    let track = world.publish(alice, Opus);
    world.subscribe(ghost, &track, Opus);
    assert_eq!(told(&mut world, alice), ["joined  0 {}"]);
    assert_eq!(told(&mut world, ghost), ["joined alice{} 0 {}", "track of alice"]);
    assert_eq!(refused(&mut world, ghost, Source::Camera).as_deref(), Some("Who is hidden may not publish"));
    say(&mut world, alice, json!({ "who": "ghost", "attributes": { "secret": true } }));
    assert_eq!(told(&mut world, alice), Vec::<String>::new());
    assert_eq!(told(&mut world, ghost), [r#"ghost={"secret":true}"#]);
    let bob = world.join("bob");
    assert_eq!(told(&mut world, bob), ["joined alice{} 1 {}"]);
    world.leave(ghost);
    for who in [alice, bob] {
        assert!(told(&mut world, who).iter().all(|words| !words.contains("ghost")));
    }
}

#[test]
fn a_hidden_client_that_is_shown_is_one_like_the_others() {
    let mut world = World::ruled(908, SCRIPT);
    let (alice, ghost) = (world.join("alice"), world.join("ghost"));
    told(&mut world, alice);
    for (hidden, expected) in [(false, vec!["+ghost{}"]), (false, vec![])] {
        say(&mut world, alice, json!({ "who": "ghost", "hidden": hidden }));
        assert_eq!(told(&mut world, alice), expected);
    }
    world.publish(ghost, Opus);
    world.leave(ghost);
    let expected = ["track of ghost", "track gone", "-ghost", r#"says "unpublished audio""#];
    assert_eq!(told(&mut world, alice), expected);
}

#[test]
fn in_a_room_that_announces_publishers_only_they_are_heard_of() {
    let mut world = World::ruled(909, &format!("sfu.announce('publishers') {SCRIPT}"));
    let (alice, bob) = (world.join("alice"), world.join("bob"));
    assert_eq!(told(&mut world, alice), ["joined  0 {}"]);
    assert_eq!(told(&mut world, bob), ["joined  0 {}"]);
    let first = world.publish(bob, Opus);
    let second = world.publish(bob, Vp8);
    assert_eq!(told(&mut world, alice), ["+bob{}", "track of bob", "track of bob"]);
    let carol = world.join("carol");
    assert_eq!(told(&mut world, carol), ["joined bob{} 2 {}"]);
    for track in [first, second] {
        world.command(Command::Unpublish { client: world.id(bob), track });
    }
    let heard: Vec<_> = told(&mut world, alice).into_iter().filter(|words| !words.starts_with("says")).collect();
    assert_eq!(heard, ["track gone", "track gone", "-bob"]);
    world.leave(bob);
    assert_eq!(told(&mut world, alice), Vec::<String>::new());
}

#[test]
fn a_change_of_whom_a_room_is_told_of_is_told_and_takes_its_time() {
    crate::sim::places::on_one_shard();
    let mut world = World::ruled(910, SCRIPT);
    let (alice, bob) = (world.join("alice"), world.join("bob"));
    world.publish(bob, Opus);
    told(&mut world, alice);
    say(&mut world, alice, json!({ "announce": "none" }));
    assert_eq!(told(&mut world, alice), ["-bob"]);
    let carol = world.join("carol");
    assert_eq!(told(&mut world, carol), ["joined  1 {}"], "tracks are told of all the same");
    for who in ["all", "publishers", "all", "publishers"] {
        say(&mut world, alice, json!({ "announce": who }));
    }
    assert_eq!(told(&mut world, alice), Vec::<String>::new());
    world.run_ms(1_100);
    assert_eq!(told(&mut world, alice), ["+bob{}"]);
    say(&mut world, alice, json!({ "announce": "all" }));
    world.run_ms(1_100);
    assert_eq!(told(&mut world, alice), ["+carol{}"]);
    assert_eq!(told(&mut world, carol), ["+bob{}", "+alice{}"]);
    assert_eq!(world.audit(), Vec::<String>::new());
}

#[test]
fn a_large_room_is_told_of_those_who_are_there_a_hundred_a_second() {
    crate::sim::places::on_one_shard();
    let settings = moonring_core::shard::ShardSettings { max_clients_per_room: 200, ..crate::sim::settings() };
    let mut world = World::with(912, settings, &format!("sfu.announce('none') {SCRIPT}"));
    let alice = world.join("alice");
    for n in 0..150 {
        world.join_raw(&format!("c{n}"));
    }
    told(&mut world, alice);
    say(&mut world, alice, json!({ "announce": "all" }));
    let newcomer = world.join("newcomer");
    let mut heard = Vec::new();
    for _ in 0..3 {
        heard.push(told(&mut world, alice).len());
        world.events.clear();
        world.run_ms(1_010);
    }
    assert_eq!(heard, [100, 51, 0], "99 beside herself and the newcomer, then the rest");
    assert_eq!(told(&mut world, newcomer), Vec::<String>::new());
    assert_eq!(world.audit(), Vec::<String>::new());
}

#[test]
fn beyond_two_hundred_clients_only_the_first_and_those_who_publish_are_announced() {
    let sizes = crate::sim::settings();
    let settings = moonring_core::shard::ShardSettings { max_clients_per_room: 300, max_clients: 300, ..sizes };
    let mut world = World::with(913, settings, SCRIPT);
    let alice = world.join("alice");
    for n in 1..199 {
        world.join_raw(&format!("c{n}"));
    }
    told(&mut world, alice);
    let mut join = |name: &str, expected: &[&str]| {
        let who = world.join(name);
        assert_eq!(told(&mut world, alice), expected, "{name}");
        who
    };
    let [early, late, later] = [join("early", &["+early{}"]), join("late", &[]), join("later", &[])];
    let track = world.publish(late, Opus);
    assert_eq!(told(&mut world, alice), ["+late{}", "track of late"]);
    world.command(Command::Unpublish { client: world.id(late), track });
    let heard: Vec<_> = told(&mut world, alice).into_iter().filter(|words| !words.starts_with("says")).collect();
    assert_eq!(heard, ["track gone", "-late"]);
    // There is a seat among the first again, for who comes next; who was announced early stays so.
    for gone in [early, late, later] {
        world.leave(gone);
    }
    told(&mut world, alice);
    let next = world.join("next");
    assert_eq!(told(&mut world, alice), ["+next{}"]);
    assert!(told(&mut world, next)[0].starts_with("joined alice{},c1{},c2{}"));
    assert_eq!(world.audit(), Vec::<String>::new());
}

#[test]
fn what_is_asked_about_a_client_of_another_room_does_nothing() {
    let mut world = World::ruled(911, SCRIPT);
    let alice = world.join("alice");
    let other = world.join_room("other", "elsewhere");
    told(&mut world, other);
    say(&mut world, alice, json!({ "who": "other", "rights": { "publish": false } }));
    assert_eq!(told(&mut world, other), Vec::<String>::new());
    assert_eq!(refused(&mut world, other, Source::Camera), None);
}
