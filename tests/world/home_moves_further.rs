//! The home of a room moves to one of several nodes that have clients of it: the others learn where it is, and nobody notices.

use std::time::Duration;

use moonring_core::command::{Command, Event, HomeMessage, News, PlaceMessage};
use moonring_wire::id::TrackId;
use moonring_wire::media::CodecName::{Opus, Vp8};
use serde_json::{Value, json};

use crate::home_moves::{answers, assert_heard_once, webhooks};
use crate::moves::{assert_complete, assert_sealed_once};
use crate::sim::places::{id_at, name_of, node_of, over_three_nodes, over_three_nodes_of_two};
use crate::sim::{World, room};

/// Counts the messages, tells the webhook of everything, and says who is there.
const KEEPS: &str = "
local count, starts = 0, 0
local function tell(what, client) sfu.webhook(what, client:get_id()) end
function on_init() starts = starts + 1 end
function on_client_connect(client) tell('joined', client) return true end
function on_client_disconnect(client) tell('left', client) end
function on_publish_request() return true end
function on_track_published(client) tell('published', client) end
function on_track_unpublished(client) tell('unpublished', client) end
function on_message(client, value)
  count = count + 1
  local names = {}
  for _, who in ipairs(sfu.clients()) do
    names[#names + 1] = who:get_id() .. #who:tracks()
    if who:get_id() == value.kick then who:kick('Out') end
  end
  table.sort(names)
  client:send({ count = count, starts = starts, who = table.concat(names, ' '), said = value.n })
end
function on_unload() return { count = count } end
function on_load(state) count = state.count end";

type Gathered = fn(u64, &str) -> (World, [usize; 4], TrackId);

/// Nobody is at the home: Alice, who publishes, and Bob are at the second node, Carol and Dan at the third one.
fn gathered(seed: u64, script: &str) -> (World, [usize; 4], TrackId) {
    over_three_nodes();
    let mut world = World::ruled(seed, script);
    let [alice, bob, carol, dan] = ["alice", "bob", "carol", "dan"].map(|name| world.join(name));
    gathered_at(world, [(alice, 1), (bob, 1), (carol, 2), (dan, 2)])
}

/// The same where each of them is on a shard of its own, Bob and Dan not on the one that speaks for their node.
fn gathered_on_two_shards(seed: u64, script: &str) -> (World, [usize; 4], TrackId) {
    over_three_nodes_of_two();
    let mut world = World::ruled(seed, script);
    let [alice, bob, erin, fay, carol, dan] =
        ["alice", "bob", "erin", "fay", "carol", "dan"].map(|name| world.join(name));
    world.leave(erin);
    world.leave(fay);
    gathered_at(world, [(alice, 2), (bob, 3), (carol, 4), (dan, 5)])
}

fn gathered_at(mut world: World, at: [(usize, usize); 4]) -> (World, [usize; 4], TrackId) {
    let members = at.map(|(who, _)| who);
    let track = world.publish(members[0], Vp8);
    world.run_ms(200);
    for who in &members[1..] {
        world.subscribe(*who, &track, Vp8);
    }
    world.mail.delay = Duration::from_millis(20);
    world.run_ms(1_000);
    for (who, place) in at {
        if world.members[who].place != place {
            world.move_to(who, place);
        }
    }
    // Shards let go of a room some seconds after its last client has left.
    world.run_ms(8_000);
    assert_eq!(members.map(|who| world.members[who].place), at.map(|(_, place)| place));
    world.events.clear();
    world.forget_received();
    world.run_ms(500);
    (world, members, track)
}

/// To the second node.
fn move_home(world: &mut World) {
    let to = (0..6).find(|place| node_of(*place) == 1).unwrap();
    world.command_to(0, Command::MoveHome { id: 1, room: room("demo"), to: id_at(0, to) });
}

/// Says something to the script.
fn say(world: &mut World, who: usize, value: Value) -> Vec<Value> {
    world.command(Command::Message { client: world.id(who), value });
    world.run_ms(300);
    answers(world, who)
}

/// What the script has told the webhook, sorted.
fn told(world: &World) -> Vec<String> {
    let mut told = webhooks(world);
    told.sort_unstable();
    told
}

/// The news of a kind that somebody has got.
fn news(world: &World, who: usize, is_it: impl Fn(&News) -> bool) -> usize {
    let id = world.id(who);
    let mine = world.events.iter().filter(|event| matches!(event, Event::News { client, .. } if *client == id));
    mine.filter_map(Event::news).filter(|news| is_it(news)).count()
}

#[test]
fn the_script_goes_on_with_its_state_and_reaches_everybody_and_media_does_not_notice() {
    for gathered in [gathered, gathered_on_two_shards] {
        goes_on(gathered(1_550, KEEPS));
    }
}

fn goes_on((mut world, [alice, bob, carol, dan], _): (World, [usize; 4], TrackId)) {
    let expected = |count: u64| json!({ "count": count, "starts": 1, "who": "alice1 bob0 carol0 dan0" });
    assert_eq!(say(&mut world, carol, json!({})), [expected(1)]);
    move_home(&mut world);
    world.run_ms(1_000);
    assert_eq!(world.called(1), Ok(Value::Null));
    assert_eq!(world.shard_at(0).report().rooms, 0);
    for (n, who) in [dan, carol, bob, alice].into_iter().enumerate() {
        assert_eq!(say(&mut world, who, json!({})).pop(), Some(expected(2 + n as u64)), "{who}");
    }
    // Those whom no wing has named would be gone by now.
    world.run_ms(8_000);
    for who in [bob, carol, dan] {
        assert_complete(&world, who, &[96]);
    }
    assert_sealed_once(&world);
    assert_eq!(told(&world), Vec::<String>::new(), "nobody has left, and nothing has ended");
    for who in [alice, bob, carol, dan] {
        assert_eq!(news(&world, who, |news| !matches!(news, News::Message(_))), 0);
    }
    // Whoever is there may move on, from the shards beside the home's as well; nobody speaks of the former home any more.
    world.mail.pieces.clear();
    for (who, to) in [(bob, world.members[dan].place), (dan, world.members[alice].place)] {
        world.move_to(who, to);
    }
    world.run_ms(8_000);
    for who in [bob, carol, dan] {
        assert_complete(&world, who, &[96]);
    }
    let pieces = world.mail.pieces.iter().map(|piece| String::from_utf8_lossy(piece).into_owned());
    let former = format!("\"run\":{},", name_of(0).run);
    assert_eq!(pieces.filter(|piece| piece.contains(&former)).collect::<Vec<_>>(), Vec::<String>::new());
    world.events.clear();
    say(&mut world, bob, json!({ "kick": "carol" }));
    assert!(world.left(carol).is_some());
    assert_eq!([alice, bob, dan].map(|who| news(&world, who, |news| matches!(news, News::ClientLeft(_)))), [1; 3]);
    assert_eq!(say(&mut world, dan, json!({})).pop().unwrap()["who"], "alice1 bob0 dan0");
    assert_eq!(world.audit(), Vec::<String>::new());
}

#[test]
fn what_is_said_to_the_script_meanwhile_is_heard_once_and_in_its_order() {
    let (mut world, [_, bob, carol, _], _) = gathered_on_two_shards(1_551, KEEPS);
    assert_heard_once(&mut world, [bob, carol], move_home);
}

#[test]
fn what_somebody_of_a_further_wing_does_meanwhile_everybody_and_the_script_hear_of_once() {
    for (n, gathered) in (0..20).flat_map(|n| [(n, gathered as Gathered), (n, gathered_on_two_shards)]) {
        let (mut world, [alice, bob, carol, dan], _) = gathered(1_560 + n, KEEPS);
        let delay = std::mem::take(&mut world.mail.delay);
        let voice = world.publish(carol, Opus);
        world.mail.delay = delay;
        world.run_ms(500);
        world.events.clear();
        move_home(&mut world);
        world.run_ms(5 * n);
        // One leaves, one publishes no more, one says something, and somebody comes.
        world.leave(dan);
        world.command(Command::Unpublish { client: world.id(carol), track: voice });
        world.command(Command::Message { client: world.id(carol), value: json!({ "n": 7 }) });
        world.run_ms(9_000);
        assert_eq!(world.called(1), Ok(Value::Null), "after {} ms", 5 * n);
        assert_eq!(told(&world), ["left dan", "unpublished carol"], "after {} ms", 5 * n);
        assert_eq!(answers(&mut world, carol).len(), 1, "after {} ms", 5 * n);
        for who in [alice, bob, carol] {
            let left = news(&world, who, |news| matches!(news, News::ClientLeft(_)));
            let ended = news(&world, who, |news| matches!(news, News::TrackUnpublished(_)));
            assert_eq!((left, ended), (1, usize::from(who != carol)), "{who} after {} ms", 5 * n);
        }
        assert_eq!(say(&mut world, bob, json!({})).pop().unwrap()["who"], "alice1 bob0 carol0");
        assert_eq!(world.audit(), Vec::<String>::new(), "after {} ms", 5 * n);
    }
}

#[test]
fn what_somebody_of_a_further_wing_begins_meanwhile_the_script_hears_of_once() {
    for (n, gathered) in (0..20).flat_map(|n| [(n, gathered as Gathered), (n, gathered_on_two_shards)]) {
        let (mut world, [_, bob, _, dan], _) = gathered(1_590 + n, KEEPS);
        let when = format!("{} ms behind the order", 5 * n as i64 - 50);
        match n < 10 {
            true => {
                world.ask_to_publish(dan, Opus);
                world.run_ms(50 - 5 * n);
                move_home(&mut world);
            }
            false => {
                move_home(&mut world);
                world.run_ms(5 * n - 50);
                world.ask_to_publish(dan, Opus);
            }
        }
        world.run_ms(9_000);
        assert_eq!(world.called(1), Ok(Value::Null), "{when}");
        assert_eq!(told(&world), ["published dan"], "{when}");
        let voice = world.members[dan].outcomes.pop().and_then(|outcome| outcome.track).unwrap().id;
        assert_eq!(news(&world, bob, |news| matches!(news, News::TrackPublished(_))), 1, "{when}");
        world.mail.delay = Duration::ZERO;
        world.subscribe(bob, &voice, Opus);
        world.run_ms(1_000);
        assert!(world.got(bob, 111).len() > 30, "{when}");
        assert_eq!(world.audit(), Vec::<String>::new(), "{when}");
    }
}

#[test]
fn clients_of_a_further_wing_of_whom_nobody_is_told_are_known_to_the_script_as_before() {
    let silent = format!("sfu.announce('none')\n{KEEPS}");
    let (mut world, [alice, bob, carol, dan], _) = gathered(1_620, &silent);
    move_home(&mut world);
    world.run_ms(10_000);
    assert_eq!(world.called(1), Ok(Value::Null));
    assert_eq!(say(&mut world, alice, json!({})).pop().unwrap()["who"], "alice1 bob0 carol0 dan0");
    assert_eq!(told(&world), Vec::<String>::new());
    say(&mut world, bob, json!({ "kick": "dan" }));
    assert!(world.left(dan).is_some() && world.left(carol).is_none());
    assert_eq!(told(&world), ["left dan"]);
    assert_eq!(world.audit(), Vec::<String>::new());
}

#[test]
fn a_home_that_cannot_move_stays_and_all_its_wings_ask_it_as_before() {
    type Trouble = fn(&mut World);
    let cases: [(&str, Trouble, &str); 2] = [
        ("the claim", |world| world.mail.claims_fail = true, "could not be claimed"),
        (
            "a further wing's answer",
            |world| world.lose = Some(|message| matches!(message, PlaceMessage::Home(HomeMessage::Ready))),
            "takes too long",
        ),
    ];
    for (n, (what, trouble, words)) in cases.into_iter().enumerate() {
        let (mut world, [alice, bob, carol, dan], _) = gathered(1_630 + n as u64, KEEPS);
        trouble(&mut world);
        move_home(&mut world);
        for who in [bob, carol, dan] {
            world.command(Command::Message { client: world.id(who), value: json!({}) });
        }
        world.run_ms(8_000);
        let error = world.called(1).unwrap_err();
        assert!(error.contains(words), "{what}: {error}");
        for who in [bob, carol, dan] {
            assert_eq!(answers(&mut world, who).len(), 1, "{what}");
        }
        assert_eq!(say(&mut world, alice, json!({})).pop().unwrap()["count"], 4, "{what}");
        assert_eq!(told(&world), Vec::<String>::new(), "{what}");
        for who in [bob, carol, dan] {
            assert_complete(&world, who, &[96]);
        }
        assert_eq!(world.audit(), Vec::<String>::new(), "{what}");
    }
}

#[test]
fn a_wing_that_the_former_home_does_not_tell_any_more_asks_the_new_one_what_has_waited() {
    let (mut world, [alice, bob, carol, dan], _) = gathered(1_640, KEEPS);
    world.lose = Some(|message| matches!(message, PlaceMessage::Home(HomeMessage::Moved(_))));
    move_home(&mut world);
    world.run_ms(10);
    world.command(Command::Message { client: world.id(carol), value: json!({}) });
    world.run_ms(500);
    world.lose = None;
    world.command_to(2, Command::HomeIs { room: room("demo"), home: id_at(2, 1) });
    world.run_ms(10_000);
    assert_eq!(world.called(1), Ok(Value::Null), "it does not wait for ever");
    assert_eq!(answers(&mut world, carol).pop().unwrap()["who"], "alice1 bob0 carol0 dan0");
    assert_eq!(told(&world), Vec::<String>::new());
    assert_eq!([alice, bob, carol, dan].map(|who| world.left(who).cloned()), [const { None }; 4]);
    assert_eq!(world.audit(), Vec::<String>::new());
}

#[test]
fn who_moves_while_the_home_moves_gets_there_and_the_script_goes_on() {
    let all = (0..48).flat_map(|n| [(n, gathered as Gathered), (n, gathered_on_two_shards)]);
    for (n, gathered) in all {
        let ms = 5 * (n / 2) as i64 - 60;
        let when = format!("{ms} ms behind the order");
        let (mut world, [alice, bob, carol, dan], _) = gathered(1_650 + n, KEEPS);
        // To the new home's node, or away from there.
        let (who, to) = if n % 2 == 0 { (dan, alice) } else { (bob, carol) };
        let to = world.members[to].place;
        if ms < 0 {
            world.begin_move(who, to).unwrap();
            world.run_ms(ms.unsigned_abs());
            move_home(&mut world);
        } else {
            move_home(&mut world);
            world.run_ms(ms.unsigned_abs());
            world.begin_move(who, to).unwrap();
        }
        world.run_ms(15_000);
        assert_eq!((world.called(1), world.members[who].place), (Ok(Value::Null), to), "{when}");
        for who in [bob, carol, dan] {
            assert_complete(&world, who, &[96]);
            assert_eq!(world.left(who), None, "{when}");
        }
        assert_eq!(told(&world), Vec::<String>::new(), "{when}");
        for who in [alice, bob, carol, dan] {
            let answer = say(&mut world, who, json!({})).pop();
            assert_eq!(answer.unwrap_or_default()["who"], "alice1 bob0 carol0 dan0", "{who} {when}");
        }
        assert_eq!(world.audit(), Vec::<String>::new(), "{when}");
    }
}
