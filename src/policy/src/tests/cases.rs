//! Scripts that failed once, as they came.

use super::logs::errors;
use super::*;

const UNLOAD_TRAP: &str = include_str!("cases/unload_trap.lua");
const LOBBY_KNOCK: &str = include_str!("cases/lobby_knock.lua");
const LOST_MESSAGE: &str = include_str!("cases/lost_message.lua");

#[test]
fn a_state_that_cannot_be_carried_over_names_the_way_out_and_the_way_out_works() {
    let mut world = World::new(UNLOAD_TRAP);
    let c = world.join("c1");
    let later = UNLOAD_TRAP.replace("\"old\"", "\"new\"");
    let said = |world: &mut World| match &world.message(&c, json!(0)).actions[..] {
        [Action::Send { value, .. }] => value.clone(),
        other => panic!("{other:?}"),
    };
    for _ in 0..2 {
        let error = world.reload(&later).unwrap_err();
        for words in
            ["on_unload", "a client can't cross a reload: take its id, client:get_id()", "moonring reload --drop-state"]
        {
            assert!(error.contains(words), "{words:?} is not in {error}");
        }
        assert_eq!(said(&mut world), json!("old"));
    }
    world.engine.reload_without_state(world.now, world.key, compiled(&later));
    assert!(matches!(&world.outputs()[..], [PolicyOutput::Reloaded { result: Ok(_), .. }]));
    assert_eq!(said(&mut world), json!("new"));
}

#[test]
fn a_knock_is_heard_with_a_flush_at_once_and_without_one_when_the_hook_is_over() {
    let flushing = LOBBY_KNOCK.replace("  sfu.sleep", "  sfu.flush()\n  sfu.sleep");
    for (script, at_once) in [(LOBBY_KNOCK, false), (&flushing, true)] {
        let mut world = World::new(script);
        let host = client(world.now, "host");
        world.call(HookCall::ClientConnect { client: host.clone(), auth_token: "H".into() });
        let guest = client(world.now, "guest");
        world.submit(HookCall::ClientConnect { client: guest, auth_token: "G".into() });
        let knock = Action::Send { client: host.id.clone(), value: json!({ "type": "knock", "id": "guest" }) };
        let flushed = PolicyOutput::Actions { key: world.key, actions: vec![knock.clone()] };
        assert_eq!(world.outputs(), if at_once { vec![flushed] } else { vec![] });
        world.pass(Duration::from_secs(11));
        let outputs = world.outputs();
        let [PolicyOutput::Outcome { outcome, .. }] = &outputs[..] else { panic!("{outputs:?}") };
        assert_eq!(outcome.verdict, Verdict::Reject("nobody answered".into()));
        assert_eq!(outcome.actions, if at_once { vec![] } else { vec![knock] });
    }
}

#[test]
fn a_failure_always_has_its_message() {
    for (number, words) in [
        (1, "attempt to compare"),
        (2, "bad argument #1 to 'wrap' (function expected, got number)"),
        (3, "bad argument #1 to 'tostring' (value expected)"),
        (4, "bad argument #2 to 'xpcall' (function expected, got number)"),
    ] {
        let lines = errors(|| {
            let mut world = World::new(LOST_MESSAGE);
            let c = world.join("c1");
            world.message(&c, json!(number));
        });
        let [line] = &lines[..] else { panic!("{number}: {lines:?}") };
        let told = line["message"].as_str().unwrap();
        assert!(told.contains(words) && told.contains("room.lua:"), "{number}: {told}");
    }
}
