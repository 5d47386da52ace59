//! A room goes on in another process: the two halves of a reload in two engines.

use super::*;

const COUNTS: &str = "STATE_VERSION = 1
    local n = 0
    function on_client_connect() sfu.count('joins') return true end
    function on_message(c, m) n = n + 1 sfu.broadcast({ n, #sfu.clients() }) end
    function on_unload() sfu.broadcast('never') return { n = n } end
    function on_load(s) n = s.n end";

/// The room of `world`, with `c` in it, in another engine with another version of its script.
fn carried(world: &mut World, script: &str, c: &Rc<ClientFacts>) -> World {
    let carried = world.engine.hand_over(world.now, world.key).unwrap().unwrap();
    let metadata = world.engine.metadata(world.key).unwrap();
    let mut next = World::new(script);
    next.now = world.now;
    next.engine.set_clock(next.now, Duration::from_secs(1_786_000_000));
    let (id, script) = (room("carried"), Ok(compiled(script)));
    let opened = next.engine.open_carried(next.now, (&id, metadata, vec![c.clone()]), script, Some(&carried));
    next.key = opened.unwrap();
    next
}

fn said(world: &mut World, client: &Rc<ClientFacts>) -> Value {
    match &world.message(client, json!(0)).actions[..] {
        [Action::Broadcast { value, .. }] => value.clone(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_room_goes_on_with_its_state_and_its_clients_and_changes_nothing_where_it_was() {
    let mut world = World::new(COUNTS);
    let c = world.join("c1");
    said(&mut world, &c);
    let mut next = carried(&mut world, COUNTS, &c);
    assert_eq!(said(&mut next, &c), json!([2, 1]));
    assert_eq!(next.engine.room_status(next.key).unwrap().counters, [("joins".to_owned(), 1.0)]);
    assert_eq!((said(&mut world, &c), world.outputs().len()), (json!([2, 1]), 0));
}

#[test]
fn a_script_that_fails_on_its_state_begins_anew() {
    let mut world = World::new(COUNTS);
    let c = world.join("c1");
    said(&mut world, &c);
    for fails in ["error('no')", "while true do end", "sfu.sleep(1)"] {
        let mut next = carried(&mut world, &COUNTS.replace("n = s.n", fails), &c);
        assert_eq!(said(&mut next, &c), json!([1, 1]), "{fails}");
    }
    let words = world.engine.hand_over(world.now, world.key).unwrap().is_ok();
    assert!(words);
    let mut stuck = World::new(&COUNTS.replace("return { n = n }", "return { n = print }"));
    let error = stuck.engine.hand_over(stuck.now, stuck.key).unwrap().unwrap_err().to_string();
    assert!(error.contains("state.n: a function can't cross a reload"), "{error}");
}

#[test]
fn a_room_whose_script_does_not_start_is_not_opened() {
    let mut world = World::new(COUNTS);
    let (id, script) = (room("other"), Ok(compiled("function on_init() error('boom') end")));
    let metadata = world.engine.metadata(world.key).unwrap();
    assert!(world.engine.open_carried(world.now, (&id, metadata, vec![]), script, None).is_err());
}

#[test]
fn named_timers_are_due_when_they_were_due_where_the_room_was() {
    let script = "function on_init() sfu.set_timeout('bell', 10000, function() sfu.broadcast('ding') end) end
        function on_client_connect() return true end";
    let mut world = World::new(script);
    let c = world.join("c1");
    world.pass(Duration::from_secs(7));
    let mut next = carried(&mut world, script, &c);
    let dings = |world: &mut World| {
        let key = world.key;
        let of_it = |output: &&PolicyOutput| matches!(output, PolicyOutput::Actions { key: of, .. } if *of == key);
        world.outputs().iter().filter(of_it).count()
    };
    next.outputs();
    next.pass(Duration::from_millis(2_900));
    assert_eq!(dings(&mut next), 0);
    next.pass(Duration::from_millis(200));
    assert_eq!(dings(&mut next), 1);
}
