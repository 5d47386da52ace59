//! A room's server is lost: the room begins with its checkpoint where it is opened again, or where its home is then.

use std::collections::BTreeMap;

use moonring_core::command::{Command, LeaveCause};
use moonring_policy::hook::{SCRIPT_ERROR, Undecided};
use serde_json::{Value, json};

use crate::sim::places::{id_at, on_one_shard, over_three_nodes};
use crate::sim::take_over::Carried;
use crate::sim::{World, library, room};

/// Says how often it was asked in all, who is there, and what was said of the room.
const COUNTS: &str = "
CHECKPOINT_SECONDS = 2
local asked = 0
function on_unload() return asked end
function on_load(state) asked = state or 1000 end
function on_client_connect() return true end
function on_message(client)
  asked = asked + 1
  local names = {}
  for _, other in ipairs(sfu.clients()) do names[#names + 1] = other:get_id() end
  table.sort(names)
  client:send(asked .. ' ' .. table.concat(names, ' ') .. ' ' .. tostring(sfu.room.metadata.plan))
end";

fn ask(world: &mut World, who: usize) -> String {
    world.take_words(who);
    world.command(Command::Message { client: world.id(who), value: json!(1) });
    world.run_ms(100);
    match &crate::home_moves::answers(world, who)[..] {
        [Value::String(answer)] => answer.clone(),
        other => panic!("{other:?}"),
    }
}

fn open(world: &mut World, id: u64, metadata: Value) -> Result<Value, String> {
    world.command(Command::Open { id, room: room("demo"), metadata });
    world.called(id)
}

#[test]
fn a_room_whose_process_was_lost_goes_on_with_what_its_script_had() {
    on_one_shard();
    let mut world = World::ruled(2_100, COUNTS);
    open(&mut world, 1, json!({ "plan": "gold" })).unwrap();
    let alice = world.join("alice");
    assert_eq!([ask(&mut world, alice), ask(&mut world, alice)], ["1 alice gold", "2 alice gold"]);
    world.run_ms(2_000);
    // It is lost with the process.
    assert_eq!(ask(&mut world, alice), "3 alice gold");
    world.lose_process();
    let bob = world.join("bob");
    assert_eq!([ask(&mut world, bob), ask(&mut world, bob)], ["3 bob gold", "4 bob gold"]);
    assert_eq!(world.audit(), Vec::<String>::new());
}

#[test]
fn a_room_that_has_ended_leaves_no_checkpoint_behind() {
    on_one_shard();
    let mut world = World::ruled(2_101, COUNTS);
    let alice = world.join("alice");
    assert_eq!(ask(&mut world, alice), "1 alice nil");
    world.run_ms(2_000);
    assert_eq!(world.mail.kept.len(), 1);
    world.leave(alice);
    world.run_ms(100);
    assert_eq!(world.mail.kept, BTreeMap::new());
    let bob = world.join("bob");
    assert_eq!(ask(&mut world, bob), "1 bob nil", "without a checkpoint on_load is not called");
}

#[test]
fn who_comes_first_waits_until_it_is_known_whether_there_is_a_checkpoint_and_then_no_longer() {
    on_one_shard();
    let mut world = World::ruled(2_102, COUNTS);
    let alice = world.join("alice");
    ask(&mut world, alice);
    world.run_ms(2_000);
    world.lose_process();
    world.mail.keeps_silent = true;
    let [bob, carol] = ["bob", "carol"].map(|name| world.join(name));
    world.run_ms(3_000);
    assert!(world.take_words(bob).is_empty() && world.take_words(carol).is_empty());
    world.say_what_is_kept(0, room("demo"));
    world.run_ms(100);
    assert_eq!(ask(&mut world, carol), "2 bob carol nil");
    // What nobody waits for any more changes nothing.
    world.say_what_is_kept(0, room("demo"));
    assert_eq!(ask(&mut world, bob), "3 bob carol nil");
    world.lose_process();
    let dan = world.join("dan");
    world.run_ms(4_900);
    assert!(world.take_words(dan).is_empty());
    world.run_ms(200);
    assert_eq!(ask(&mut world, dan), "1 dan nil", "nobody says anything: it begins anew");
    world.say_what_is_kept(0, room("demo"));
    assert_eq!(ask(&mut world, dan), "2 dan nil");
}

#[test]
fn a_script_that_does_not_start_leaves_the_checkpoint_to_the_one_that_does() {
    on_one_shard();
    let mut world = World::ruled(2_103, COUNTS);
    let alice = world.join("alice");
    ask(&mut world, alice);
    world.run_ms(2_000);
    world.lose_process();
    world.command(Command::Scripts(library(&format!("{COUNTS}\nfunction on_init() error('boom') end"))));
    let bob = world.join("bob");
    world.run_ms(100);
    let failed = LeaveCause::Undecided(Undecided::Failed, SCRIPT_ERROR.into());
    assert_eq!(world.left(bob), Some(&failed));
    world.command(Command::Scripts(library(COUNTS)));
    let carol = world.join("carol");
    assert_eq!(ask(&mut world, carol), "2 carol nil");
    assert_eq!(world.audit(), Vec::<String>::new());
}

#[test]
fn a_room_that_is_opened_before_anybody_comes_is_kept_as_long_as_its_script_wants() {
    on_one_shard();
    let mut world = World::ruled(2_104, &format!("EMPTY_TIMEOUT_S = 600 {COUNTS}"));
    open(&mut world, 1, json!({ "plan": "gold" })).unwrap();
    assert_eq!(open(&mut world, 2, json!({})).unwrap_err(), "the room is open already");
    world.run_ms(590_000);
    let alice = world.join("alice");
    assert_eq!(ask(&mut world, alice), "1 alice gold");
    world.run_ms(2_000);
    world.lose_process();
    open(&mut world, 3, json!({ "plan": "silver" })).unwrap();
    let bob = world.join("bob");
    assert_eq!(ask(&mut world, bob), "2 bob silver", "who opens it anew knows better");
}

#[test]
fn a_wing_that_becomes_the_home_goes_on_with_the_checkpoint_of_the_home_that_is_gone() {
    over_three_nodes();
    for keeps_silent in [false, true] {
        let mut world = World::ruled(2_105, COUNTS);
        let [alice, bob, carol] = ["alice", "bob", "carol"].map(|name| world.join(name));
        assert_eq!(ask(&mut world, alice), "1 alice bob carol nil");
        world.run_ms(3_000);
        world.link_nodes_but(Some(0));
        world.run_ms(1_000);
        world.mail.keeps_silent = keeps_silent;
        world.command_to(1, Command::BecomeHome { room: room("demo") });
        world.command_to(2, Command::HomeIs { room: room("demo"), home: id_at(2, 1) });
        world.run_ms(if keeps_silent { 5_500 } else { 500 });
        let n = if keeps_silent { 1_001 } else { 2 };
        assert_eq!(ask(&mut world, carol), format!("{n} bob carol nil"));
        assert_eq!(ask(&mut world, bob), format!("{} bob carol nil", n + 1));
        world.run_ms(6_000);
        assert_eq!(ask(&mut world, bob), format!("{} bob carol nil", n + 2));
        assert_eq!([bob, carol].map(|who| world.left(who).cloned()), [None, None]);
        assert_eq!(world.audit(), Vec::<String>::new());
    }
}

#[test]
fn a_new_home_whose_script_does_not_start_ends_the_room_for_all_its_wings() {
    over_three_nodes();
    let mut world = World::ruled(2_106, COUNTS);
    let [_, bob, carol] = ["alice", "bob", "carol"].map(|name| world.join(name));
    world.run_ms(3_000);
    world.link_nodes_but(Some(0));
    let broken = format!("{COUNTS}\nfunction on_init() error('boom') end");
    world.command_to(1, Command::Scripts(library(&broken)));
    world.command_to(1, Command::BecomeHome { room: room("demo") });
    world.command_to(2, Command::HomeIs { room: room("demo"), home: id_at(2, 1) });
    world.run_ms(2_000);
    let ended = Some(LeaveCause::Kicked("the room's script does not start".into()));
    assert_eq!([bob, carol].map(|who| world.left(who).cloned()), [ended.clone(), ended]);
    assert_eq!(world.mail.kept.len(), 1, "it is there for a script that starts");
    assert_eq!(world.audit(), Vec::<String>::new());
}

/// A room that an operator opens has a checkpoint, of which nobody says anything yet when another process takes over.
fn taken_over_while_it_waits(seed: u64) -> (World, Vec<Carried>) {
    on_one_shard();
    let mut world = World::ruled(seed, COUNTS);
    let alice = world.join("alice");
    assert_eq!(ask(&mut world, alice), "1 alice nil");
    world.run_ms(2_000);
    world.lose_process();
    world.mail.keeps_silent = true;
    open(&mut world, 1, json!({ "plan": "gold" })).unwrap();
    assert!(!world.shard.is_at_rest_for_hand_over(), "it is waited for, for a while");
    let carried = world.take_over_media();
    (world, carried)
}

#[test]
fn a_room_that_waits_for_its_checkpoint_when_another_process_takes_over_goes_on_with_it_there() {
    let (mut world, carried) = taken_over_while_it_waits(2_107);
    let bob = world.join("bob");
    world.run_ms(3_000);
    world.mail.keeps_silent = false;
    assert!(world.take_words(bob).is_empty());
    world.bring(carried);
    assert_eq!([ask(&mut world, bob), ask(&mut world, bob)], ["2 bob gold", "3 bob gold"]);
    assert!(world.shard.is_at_rest_for_hand_over());
    // A process before that has ended says nothing more.
    let (mut world, _) = taken_over_while_it_waits(2_108);
    let bob = world.join("bob");
    world.mail.keeps_silent = false;
    world.run_ms(4_900);
    assert!(world.take_words(bob).is_empty());
    world.run_ms(200);
    assert_eq!(ask(&mut world, bob), "2 bob gold");
    // Nor is it waited for without an end where nobody knows of a checkpoint.
    let (mut world, carried) = taken_over_while_it_waits(2_109);
    world.bring(carried.clone());
    let bob = world.join("bob");
    world.run_ms(3_000);
    world.bring(carried);
    world.run_ms(1_900);
    assert!(world.take_words(bob).is_empty());
    world.run_ms(200);
    assert_eq!(ask(&mut world, bob), "1 bob gold");
    assert_eq!(world.audit(), Vec::<String>::new());
}

#[test]
fn a_room_whose_state_has_not_come_from_the_process_before_goes_on_with_its_checkpoint() {
    on_one_shard();
    let mut world = World::ruled(2_110, COUNTS);
    let alice = world.join("alice");
    ask(&mut world, alice);
    world.run_ms(2_000);
    assert_eq!(ask(&mut world, alice), "2 alice nil");
    // The second one begins before the first has had the state.
    drop(world.take_over_media());
    assert!(!world.shard.is_at_rest_for_hand_over());
    let carried = world.take_over_media();
    world.bring(carried);
    assert_eq!(ask(&mut world, alice), "2 alice nil", "what was decided since the checkpoint is lost");
    world.take_over();
    assert_eq!(ask(&mut world, alice), "3 alice nil");
    assert_eq!((world.left(alice), world.audit()), (None, vec![]));
}
