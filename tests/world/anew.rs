//! Messages between two places of a room were lost for good: the room goes on, and its clients learn the difference.

use moonring_core::command::{Command, Event, LeaveCause};
use moonring_policy::hook::Undecided;
use moonring_wire::media::CodecName::{Opus, Vp8};
use serde_json::json;

use crate::sim::flows::assert_unbroken;
use crate::sim::places::{id_at, over_two_nodes};
use crate::sim::{OPEN, World};

/// How many of these words begin so and speak of somebody.
fn count(words: &[String], begin: &str, of: &str) -> usize {
    words.iter().filter(|words| words.starts_with(begin) && words.contains(of)).count()
}

/// The messages of both nodes to each other are lost until [`found_again`].
fn lost(world: &mut World) {
    world.mail.is_cut = true;
}

fn found_again(world: &mut World) {
    world.mail.lose();
    world.mail.is_cut = false;
    for (at, of) in [(0, 2), (2, 0)] {
        world.command_to(at, Command::PlaceLost { from: id_at(at, of) });
    }
    world.run_ms(100);
}

fn four(seed: u64, script: &str) -> (World, [usize; 4]) {
    over_two_nodes();
    let mut world = World::ruled(seed, script);
    let members = ["alice", "bob", "carol", "dan"].map(|name| world.join(name));
    (world, members)
}

#[test]
fn what_both_sides_missed_they_are_told_and_nothing_else() {
    let (mut world, [alice, bob, carol, dan]) = four(1_100, OPEN);
    let kept = world.publish(alice, Vp8);
    let gone = world.publish(dan, Opus);
    for who in [carol, dan] {
        world.subscribe(who, &kept, Vp8);
    }
    world.run_ms(2_000);
    lost(&mut world);
    let erin = world.join("erin");
    world.command(Command::Leave { client: world.id(bob), reason: "gone".into() });
    world.command(Command::Unpublish { client: world.id(dan), track: gone.clone() });
    world.command(Command::Leave { client: world.id(carol), reason: "gone".into() });
    world.run_ms(1_000);
    let late = ["fay", "gil"].map(|name| world.join(name));
    assert_eq!(late.map(|who| world.members[who].place), [1, 2]);
    for who in [alice, dan, erin] {
        world.take_words(who);
    }
    world.forget_received();
    found_again(&mut world);
    let words = world.take_words(dan);
    let told = |begin, of| count(&words, begin, of);
    assert_eq!(
        (told("ClientJoined", "erin"), told("ClientLeft", "bob"), told("ClientJoined", "fay")),
        (1, 1, 1),
        "{words:?}"
    );
    assert_eq!(
        (told("ClientJoined", "alice"), told("TrackPublished", ""), told("TrackUnpublished", "")),
        (0, 0, 0),
        "{words:?}"
    );
    for who in [alice, erin] {
        let words = world.take_words(who);
        let told = |begin, of| count(&words, begin, of);
        assert_eq!((told("ClientLeft", "carol"), told("TrackUnpublished", "")), (1, 1), "{words:?}");
        assert_eq!(
            (told("ClientLeft", "dan"), told("ClientJoined", "dan"), told("ClientLeft", "bob")),
            (0, 0, 0),
            "{words:?}"
        );
    }
    // Whoever waited for the policy does not know whether it has heard.
    assert!(matches!(world.left(late[1]), Some(LeaveCause::Undecided(Undecided::Unheard, _))));
    assert_eq!([alice, dan, erin, late[0]].map(|who| world.left(who).cloned()), [None, None, None, None]);
    world.run_ms(2_000);
    assert!(world.got(dan, 96).len() > 150);
    assert_unbroken(&world.got(dan, 96));
    assert_eq!(world.audit(), Vec::<String>::new());
    // And the room is one: who comes now is told of by all.
    let hal = world.join("hal");
    world.run_ms(200);
    assert_eq!(world.left(hal), None);
    for who in [alice, dan, erin] {
        assert_eq!(count(&world.take_words(who), "ClientJoined", "hal"), 1);
    }
    assert_eq!(world.audit(), Vec::<String>::new());
}

#[test]
fn a_loss_of_nothing_changes_nothing() {
    let (mut world, members) = four(1_101, OPEN);
    let track = world.publish(members[3], Vp8);
    for who in &members[..3] {
        world.subscribe(*who, &track, Vp8);
    }
    world.run_ms(1_000);
    for who in members {
        world.take_words(who);
    }
    world.forget_received();
    for _ in 0..3 {
        found_again(&mut world);
    }
    world.run_ms(2_000);
    for who in members {
        assert_eq!(world.left(who), None);
        assert_eq!(world.take_words(who), Vec::<String>::new());
    }
    for who in &members[..3] {
        assert!(world.got(*who, 96).len() > 150);
        assert_unbroken(&world.got(*who, 96));
    }
    assert_eq!(world.audit(), Vec::<String>::new());
}

/// Notes who comes and goes, and says it when it is asked.
const NOTES: &str = "
local heard = {}
function on_client_connect(client) heard[#heard + 1] = '+' .. client:get_id() return true end
function on_client_disconnect(client) heard[#heard + 1] = '-' .. client:get_id() end
function on_message() sfu.broadcast(table.concat(heard, ' ') .. ' are ' .. #sfu.clients()) end";

#[test]
fn the_policy_hears_of_those_who_went_unheard_and_of_nobody_twice() {
    let (mut world, [alice, _, carol, dan]) = four(1_102, NOTES);
    world.run_ms(200);
    lost(&mut world);
    world.command(Command::Leave { client: world.id(dan), reason: "gone".into() });
    world.run_ms(500);
    found_again(&mut world);
    let erin = world.join("erin");
    world.run_ms(200);
    for who in [carol, alice, erin] {
        world.take_words(who);
    }
    world.command(Command::Message { client: world.id(carol), value: json!(1) });
    for who in [alice, carol, erin] {
        let words = world.take_words(who);
        assert_eq!(count(&words, "Message", "+alice +bob +carol +dan -dan +erin are 4"), 1, "{words:?}");
        assert_eq!(world.left(who), None);
    }
    assert_eq!(world.audit(), Vec::<String>::new());
}

/// Everybody at the second node leaves while its words do not arrive.
fn a_node_empties_unheard(world: &mut World, [carol, dan]: [usize; 2]) {
    lost(world);
    let away = |is_away| Command::PlaceAway { place: id_at(2, 0), is_away };
    world.command_to(2, away(true));
    for who in [carol, dan] {
        world.leave(who);
    }
    world.run_ms(1_000);
    assert_eq!(world.shard_at(2).report().rooms, 0);
    world.command_to(2, away(false));
}

#[test]
fn a_wing_that_ended_unheard_is_gone_for_the_home_and_for_its_policy() {
    let (mut world, [alice, bob, carol, dan]) = four(1_103, NOTES);
    world.run_ms(200);
    a_node_empties_unheard(&mut world, [carol, dan]);
    for who in [alice, bob] {
        world.take_words(who);
    }
    found_again(&mut world);
    for who in [alice, bob] {
        let words = world.take_words(who);
        assert_eq!(["carol", "dan"].map(|of| count(&words, "ClientLeft", of)), [1, 1], "{words:?}");
    }
    world.command(Command::Message { client: world.id(alice), value: json!(1) });
    let words = world.take_words(bob);
    let gone = ["-carol -dan are 2", "-dan -carol are 2"].map(|heard| count(&words, "Message", heard));
    assert_eq!(gone.iter().sum::<usize>(), 1, "{words:?}");
    // With them the room ends.
    for who in [alice, bob] {
        world.leave(who);
    }
    world.run_ms(500);
    assert_eq!(world.events.iter().filter(|event| matches!(event, Event::RoomClosed(_))).count(), 1);
    assert_eq!(world.audit(), Vec::<String>::new());
}

#[test]
fn whoever_comes_where_a_wing_ended_unheard_sees_the_whole_room() {
    // The loss is noticed before somebody comes, or by what is said for that.
    for (seed, is_noticed) in [(1_104, true), (1_105, false)] {
        let script = format!("{NOTES} function on_publish_request() return true end");
        let (mut world, [alice, _, carol, dan]) = four(seed, &script);
        let track = world.publish(alice, Vp8);
        world.run_ms(200);
        a_node_empties_unheard(&mut world, [carol, dan]);
        if is_noticed {
            found_again(&mut world);
        }
        world.mail.lose();
        world.mail.is_cut = false;
        let [erin, _, gil] = ["erin", "fay", "gil"].map(|name| world.join(name));
        assert_eq!(world.members[gil].place, 2);
        world.run_ms(200);
        assert_eq!(world.left(gil), None);
        let words = world.take_words(erin);
        assert_eq!(
            ["carol", "dan"].map(|of| count(&words, "ClientLeft", of)),
            [1 - usize::from(is_noticed); 2],
            "{words:?}"
        );
        world.subscribe(gil, &track, Vp8);
        world.run_ms(1_000);
        assert!(world.got(gil, 96).len() > 50);
        assert_eq!(world.audit(), Vec::<String>::new());
    }
}

#[test]
fn whoever_a_home_has_told_to_be_gone_comes_in_anew_and_its_policy_hears_of_it() {
    let (mut world, [alice, bob, carol, dan]) = four(1_106, NOTES);
    world.run_ms(200);
    // The home does not see the other node for a while, which goes on as if nothing had been.
    world.command_to(0, Command::Peers(Vec::new()));
    world.run_ms(500);
    world.link_nodes_but(None);
    world.command_to(2, Command::PlaceLost { from: id_at(2, 0) });
    world.run_ms(500);
    for who in [carol, dan] {
        assert!(matches!(world.left(who), Some(LeaveCause::Later(words)) if words.contains("join again")));
    }
    let [_, _, carla, dana] = ["erin", "fay", "carla", "dana"].map(|name| world.join(name));
    world.run_ms(500);
    world.leave(carla);
    world.run_ms(500);
    world.take_words(bob);
    world.command(Command::Message { client: world.id(alice), value: json!(1) });
    let words = world.take_words(bob);
    let heard = |names: &str| format!("+alice +bob +carol +dan {names} +erin +fay +carla +dana -carla are 5");
    let told = ["-carol -dan", "-dan -carol"].map(|names| count(&words, "Message", &heard(names)));
    assert_eq!(told.iter().sum::<usize>(), 1, "{words:?}");
    assert_eq!(world.left(dana), None);
    assert_eq!(world.audit(), Vec::<String>::new());
}

#[test]
fn a_shard_that_is_asked_how_its_links_are_says_at_once_what_has_come_over_them() {
    let (mut world, [alice, _, carol, _]) = four(1_120, OPEN);
    let track = world.publish(alice, Vp8);
    world.subscribe(carol, &track, Vp8);
    let received = |world: &mut World| {
        world.events.retain(|event| !matches!(event, Event::Links(_)));
        world.command_to(2, Command::TellLinks);
        let links =
            world.events.iter().find_map(|event| if let Event::Links(links) = event { Some(links) } else { None });
        links.expect("an answer").iter().map(|link| link.received).sum::<u64>()
    };
    let before = received(&mut world);
    world.run_ms(300);
    assert!(received(&mut world) > before + 5);
}
