//! The node of a room's home is gone: the wings go on, and one of them becomes the home.

use moonring_core::command::{Command, Event, LeaveCause};
use moonring_core::shard::ShardSettings;
use moonring_wire::drops::DropReason;
use moonring_wire::media::CodecName::{Opus, Vp8};
use serde_json::json;

use crate::sim::flows::assert_unbroken;
use crate::sim::places::{id_at, over_three_nodes, over_two_nodes};
use crate::sim::{World, room, settings};

/// Says who is there, and how it began, when it is asked.
const COUNTS: &str = "
local began = 'init'
function on_load(state) began = began .. ' load ' .. tostring(state) end
function on_client_connect() return true end
function on_publish_request() return true end
function on_client_disconnect(client) began = began .. ' -' .. client:get_id() end
function on_message()
  local names = {}
  for _, client in ipairs(sfu.clients()) do names[#names + 1] = client:get_id() end
  table.sort(names)
  sfu.broadcast(began .. ': ' .. table.concat(names, ' '))
end";

/// What everybody is told when one of them asks.
fn answers(world: &mut World, who: &[usize]) -> Vec<usize> {
    for who in who {
        world.take_words(*who);
    }
    world.command(Command::Message { client: world.id(who[0]), value: json!(1) });
    world.run_ms(50);
    who.to_vec()
}

fn assert_all_hear(world: &mut World, who: &[usize], words: &str) {
    for who in answers(world, who) {
        let told = world.take_words(who);
        assert!(told.iter().any(|told| told.starts_with("Message") && told.contains(words)), "{words}: {told:?}");
    }
}

#[test]
fn when_the_homes_node_is_gone_one_wing_is_the_home_and_nobody_else_leaves() {
    over_three_nodes();
    let mut world = World::ruled(1_200, COUNTS);
    let [alice, bob, carol] = ["alice", "bob", "carol"].map(|name| world.join(name));
    assert_eq!([alice, bob, carol].map(|who| world.members[who].place), [0, 1, 2]);
    let (hers, his) = (world.publish(alice, Opus), world.publish(bob, Vp8));
    world.subscribe(carol, &hers, Opus);
    world.subscribe(carol, &his, Vp8);
    world.run_ms(2_000);
    for who in [bob, carol] {
        world.take_words(who);
    }
    world.link_nodes_but(Some(0));
    world.run_ms(1_000);
    assert_eq!(
        [bob, carol].map(|who| (world.left(who).cloned(), world.take_words(who))),
        [(None, vec![]), (None, vec![])]
    );
    let id = room("demo");
    world.command_to(1, Command::BecomeHome { room: id.clone() });
    world.command_to(2, Command::HomeIs { room: id, home: id_at(2, 1) });
    world.run_ms(500);
    assert_all_hear(&mut world, &[bob, carol], "init load nil: bob carol");
    assert_all_hear(&mut world, &[carol, bob], "init load nil: bob carol");
    world.forget_received();
    world.run_ms(6_000);
    assert!(world.got(carol, 96).len() > 300);
    assert_unbroken(&world.got(carol, 96));
    for who in [bob, carol] {
        let words = world.take_words(who);
        let told = |begin: &str| words.iter().filter(|words| words.starts_with(begin)).count();
        assert_eq!((told("ClientLeft"), told("TrackUnpublished"), told("ClientJoined")), (1, 1, 0), "{words:?}");
        assert_eq!(world.left(who), None);
    }
    assert_all_hear(&mut world, &[bob, carol], "init load nil: bob carol");
    assert_eq!(world.audit(), Vec::<String>::new());
}

#[test]
fn a_whole_node_goes_on_with_its_lead_as_the_home() {
    over_two_nodes();
    let mut world = World::ruled(1_201, COUNTS);
    let [alice, _, carol, dan] = ["alice", "bob", "carol", "dan"].map(|name| world.join(name));
    let (hers, his) = (world.publish(alice, Opus), world.publish(dan, Vp8));
    world.subscribe(carol, &his, Vp8);
    world.subscribe(dan, &hers, Opus);
    world.run_ms(2_000);
    world.link_nodes_but(Some(0));
    let id = room("demo");
    world.command_to(2, Command::BecomeHome { room: id });
    world.forget_received();
    world.run_ms(6_000);
    assert!(world.got(carol, 96).len() > 300);
    assert_unbroken(&world.got(carol, 96));
    assert_all_hear(&mut world, &[dan, carol], "init load nil: carol dan");
    for who in [carol, dan] {
        assert_eq!(world.left(who), None);
    }
    world.command(Command::Leave { client: world.id(dan), reason: "gone".into() });
    world.run_ms(100);
    assert_all_hear(&mut world, &[carol], "init load nil -dan: carol");
    assert_eq!(world.audit(), Vec::<String>::new());
}

#[test]
fn a_wing_that_finds_no_home_within_its_time_lets_its_clients_join_anew() {
    over_three_nodes();
    let mut world = World::ruled(1_202, COUNTS);
    let [_, bob, carol] = ["alice", "bob", "carol"].map(|name| world.join(name));
    world.run_ms(500);
    world.link_nodes_but(Some(0));
    world.run_ms(14_000);
    assert_eq!([bob, carol].map(|who| world.left(who).cloned()), [None, None]);
    world.run_ms(2_000);
    for who in [bob, carol] {
        assert!(matches!(world.left(who), Some(LeaveCause::Later(words)) if words.contains("join again")));
    }
    assert_eq!(world.audit(), Vec::<String>::new());
    // The home was only thought to be gone.
    world.link_nodes_but(None);
    let again = ["dan", "erin", "fay"].map(|name| world.join(name));
    world.run_ms(500);
    assert_eq!(again.map(|who| (world.members[who].place, world.left(who).cloned())), [0, 1, 2].map(|n| (n, None)));
    assert_all_hear(&mut world, &[again[2], again[1]], ": alice dan erin fay");
}

#[test]
fn whoever_comes_after_an_orphan_that_its_last_client_has_left_is_asked_for_at_the_home() {
    over_three_nodes();
    let mut world = World::ruled(1_203, COUNTS);
    let [_, bob, _] = ["alice", "bob", "carol"].map(|name| world.join(name));
    world.run_ms(500);
    world.link_nodes_but(Some(0));
    world.leave(bob);
    world.link_nodes_but(None);
    let [_, erin] = ["dan", "erin"].map(|name| world.join(name));
    world.run_ms(500);
    assert_eq!((world.members[erin].place, world.left(erin)), (1, None));
}

#[test]
fn what_came_from_a_home_that_was_only_thought_to_be_gone_comes_again() {
    over_two_nodes();
    let mut world = World::ruled(1_204, COUNTS);
    let [alice, _, carol, dan] = ["alice", "bob", "carol", "dan"].map(|name| world.join(name));
    let track = world.publish(alice, Vp8);
    for who in [carol, dan] {
        world.subscribe(who, &track, Vp8);
    }
    world.run_ms(1_000);
    // The home goes on seeing the other node, which does not see the home.
    for place in [2, 3] {
        world.command_to(place, Command::Peers(Vec::new()));
    }
    world.run_ms(5_000);
    let dropped = world.drops(DropReason::LinkUnknownTrack);
    world.link_nodes_but(None);
    world.command_to(2, Command::HomeIs { room: room("demo"), home: id_at(2, 0) });
    world.forget_received();
    world.run_ms(4_000);
    for who in [carol, dan] {
        assert!(world.got(who, 96).len() > 200, "{}", world.got(who, 96).len());
        assert_unbroken(&world.got(who, 96));
        assert_eq!(world.left(who), None);
    }
    assert_eq!(world.drops(DropReason::LinkUnknownTrack), dropped);
    // And whoever receives it only now.
    let [_, _, gil] = ["erin", "fay", "gil"].map(|name| world.join(name));
    world.run_ms(200);
    world.subscribe(gil, &track, Vp8);
    world.run_ms(1_000);
    assert!(world.got(gil, 96).len() > 50);
    assert_eq!(world.audit(), Vec::<String>::new());
}

/// What webhooks were told of what has ended, sorted.
fn ended(world: &mut World) -> Vec<String> {
    let told = |event: Event| match event {
        Event::Webhook { event, data, .. } if event == "client_left" => Some(format!("{event} {}", data["client"])),
        Event::Webhook { event, data, .. } if event == "track_unpublished" => Some(format!("{event} {}", data["id"])),
        _ => None,
    };
    let mut told: Vec<_> = std::mem::take(&mut world.events).into_iter().filter_map(told).collect();
    told.sort_unstable();
    told
}

#[test]
fn the_webhook_hears_of_those_who_were_at_a_node_that_is_gone_from_the_home() {
    let webhooks = || ShardSettings { webhooks: true, ..settings() };
    over_two_nodes();
    let mut world = World::with(1_205, webhooks(), COUNTS);
    let [_, _, _, dan] = ["alice", "bob", "carol", "dan"].map(|name| world.join(name));
    let his = world.publish(dan, Opus);
    world.run_ms(500);
    ended(&mut world);
    world.link_nodes_but(Some(1));
    world.run_ms(1_000);
    let track = format!("track_unpublished \"{his}\"");
    assert_eq!(ended(&mut world), ["client_left \"carol\"", "client_left \"dan\"", track.as_str()]);
    // The home's own node is gone, and another one is the home.
    over_three_nodes();
    let mut world = World::with(1_206, webhooks(), COUNTS);
    let [alice, ..] = ["alice", "bob", "carol"].map(|name| world.join(name));
    let hers = world.publish(alice, Opus);
    world.run_ms(500);
    world.link_nodes_but(Some(0));
    world.run_ms(100);
    // Also what that node says of the others.
    ended(&mut world);
    world.command_to(1, Command::BecomeHome { room: room("demo") });
    world.command_to(2, Command::HomeIs { room: room("demo"), home: id_at(2, 1) });
    world.run_ms(6_000);
    assert_eq!(ended(&mut world), ["client_left \"alice\"".to_owned(), format!("track_unpublished \"{hers}\"")]);
}
