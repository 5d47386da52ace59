//! A reload is a transaction: POLICY.md "Hot reload".

use super::*;

const V1: &str = "STATE_VERSION = 1
    local n = 0
    function on_client_connect() return true end
    function on_message(c, m) n = n + 1 sfu.broadcast({ 1, n }) end
    function on_unload() return { n = n } end
    function on_load(s) n = s.n end";

/// The next version of [`V1`], with something exchanged.
fn v2(from: &str, to: &str) -> String {
    let next = V1.replace("{ 1, n }", "{ 2, n }");
    assert!(from.is_empty() || next.contains(from));
    if from.is_empty() { next } else { next.replace(from, to) }
}

fn said(world: &mut World, client: &Rc<ClientFacts>) -> Value {
    let outcome = world.message(client, json!(0));
    match &outcome.actions[..] {
        [Action::Broadcast { value, .. }] => value.clone(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_good_version_takes_over_with_the_state() {
    let mut world = World::new(V1);
    let c = world.join("c1");
    assert_eq!(said(&mut world, &c), json!([1, 1]));
    let next = v2("", "");
    assert_eq!(world.reload(&next), Ok(compiled(&next).version()));
    assert_eq!(said(&mut world, &c), json!([2, 2]));
    let status = world.engine.room_status(world.key).unwrap();
    assert_eq!((status.stats.reloads, status.last_reload), (1, Some(Ok(status.version))));
}

#[test]
fn whatever_fails_leaves_the_old_version_in_charge() {
    for (from, to, words) in [
        ("local n = 0", "local n = nil + 1", "main chunk: room.lua:2: attempt to perform arithmetic"),
        ("local n = 0", "while true do end", "main chunk: stopped"),
        ("local n = 0", "function on_init() error('boom') end", "on_init: room.lua:2: boom\nstack traceback:\n"),
        ("local n = 0", "function on_init() while true do end end", "on_init: stopped: it used more than its CPU time"),
        (
            "local n = 0",
            "local t = {} for i = 1, 1e9 do t[i] = i end",
            "main chunk: more memory than the 2048 KiB of a room's script (memory_kib): not enough memory",
        ),
        ("n = s.n", "error('cannot migrate')", "on_load: room.lua:6: cannot migrate"),
        ("n = s.n", "sfu.sleep(1)", "on_load: room.lua:6: on_load cannot wait"),
        ("n = s.n", "while true do pcall(function() while true do end end) end", "on_load: stopped"),
    ] {
        let mut world = World::new(V1);
        let c = world.join("c1");
        said(&mut world, &c);
        let error = world.reload(&v2(from, to)).unwrap_err();
        assert!(error.starts_with(words), "{to}: {error}");
        assert_eq!(said(&mut world, &c), json!([1, 2]), "{to}");
        let status = world.engine.room_status(world.key).unwrap();
        assert_eq!((status.stats.reloads_failed, status.last_reload), (1, Some(Err(error))));
        assert!(world.reload(&v2("", "")).is_ok(), "{to}");
        assert_eq!(said(&mut world, &c), json!([2, 3]), "{to}");
    }
}

#[test]
fn a_stopped_version_says_where_it_was() {
    let spin = "local function spin()\n while true do\n end\n end\n function on_init()\n spin()\n return 1 end";
    let error = World::new(V1).reload(spin).unwrap_err();
    assert!(error.contains("in upvalue 'spin'") && error.contains("room.lua:6: in function 'on_init'"), "{error}");
}

#[test]
fn a_state_that_cannot_cross_is_an_error_that_names_the_culprit() {
    for (returned, words) in [
        ("{ a = { b = print } }", "on_unload: state.a.b: a function can't cross a reload"),
        ("{ sfu.client('c1') }", "on_unload: state[1]: a client can't cross a reload: take its id, client:get_id()"),
        ("print", "on_unload: state: a function can't cross a reload"),
        ("('x'):rep(300000)", "on_unload: state: larger than 262144 bytes"),
        ("(error('x'))", "on_unload of the old version: room.lua:5: x"),
        ("nil + 1", "on_unload of the old version: room.lua:5: attempt to perform"),
    ] {
        let mut world = World::new(&V1.replace("{ n = n }", returned));
        let c = world.join("c1");
        let error = world.reload(&v2("", "")).unwrap_err();
        assert!(error.starts_with(words), "{returned}: {error}");
        assert_eq!(said(&mut world, &c), json!([1, 1]));
    }
}

#[test]
fn plain_state_of_every_kind_crosses() {
    let state = "{ 1, nil, 'a\\255', [5.5] = true, [false] = { 0/0, 1/0, {} } }";
    let mut world = World::new(&format!("function on_unload() return {state} end"));
    let result = world.reload(
        "function on_load(s, v)
           assert(v == nil) assert(s[1] == 1 and s[2] == nil and s[3] == 'a\\255' and s[5.5] == true)
           assert(s[false][1] ~= s[false][1] and s[false][2] == math.huge and next(s[false][3]) == nil)
         end",
    );
    assert!(result.is_ok(), "{result:?}");
}

#[test]
fn a_version_without_hooks_for_state_starts_afresh() {
    for (old, new) in [
        ("function on_unload() return { 1 } end", "x = 1"),
        ("x = 1", "function on_load(s, v) assert(s == nil and v == nil) end"),
        ("STATE_VERSION = 3 function on_unload() end", "function on_load(s, v) assert(s == nil and v == 3) end"),
        ("STATE_VERSION = 'a'", "function on_load(s, v) assert(v == 'a') end"),
        ("STATE_VERSION = {}", "function on_load(s, v) assert(v == nil) end"),
    ] {
        let result = World::new(old).reload(new);
        assert!(result.is_ok(), "{old} -> {new}: {result:?}");
    }
}

#[test]
fn what_the_new_version_asks_for_is_held_back_until_it_takes_over() {
    let ask = "sfu.broadcast('new') sfu.set_timeout(10, function() sfu.broadcast('rang') end)";
    for (ending, expected) in [("", vec!["new", "rang"]), ("error('x')", vec!["old"])] {
        let mut world = World::new("function on_init() sfu.set_timeout(10, function() sfu.broadcast('old') end) end");
        let key = world.key;
        world.engine.reload(world.now, key, compiled(&format!("function on_load() {ask} {ending} end")));
        world.pass(Duration::from_millis(20));
        let values = world.outputs().into_iter().filter_map(|output| match output {
            PolicyOutput::Actions { actions, .. } => Some(actions),
            _ => None,
        });
        let expected = expected.into_iter().map(|text| Action::Broadcast { value: json!(text), except: None });
        assert_eq!(values.flatten().collect::<Vec<_>>(), expected.collect::<Vec<_>>(), "{ending}");
    }
}

#[test]
fn clients_are_found_again_by_their_id() {
    let mut world = World::new(V1);
    let c = world.join("c1");
    world.join("c2");
    let next =
        "function on_message(c) c:send({ #sfu.clients(), sfu.client('c2'):get_id(), sfu.client('c1') == c }) end";
    world.reload(next).unwrap();
    let value = json!([2, "c2", true]);
    assert_eq!(world.message(&c, json!(0)).actions, [Action::Send { client: c.id.clone(), value }]);
}

#[test]
fn events_wait_for_a_reload_that_waits_for_hooks() {
    let mut world = World::new(&format!("{V1} function on_publish_request() sfu.sleep(1000) return true end"));
    let c = world.join("c1");
    let track = track("t1", "c1", Kind::Audio);
    let slow = world.submit(HookCall::PublishRequest { client: c.clone(), track });
    world.engine.reload(world.now, world.key, compiled(&v2("", "")));
    let d = client(world.now, "c2");
    let waiting = world.submit(HookCall::ClientConnect { client: d, auth_token: "".into() });
    assert_eq!(world.outputs(), []);
    world.pass(Duration::from_secs(1));
    let outputs = world.outputs();
    assert!(
        matches!(&outputs[..], [
            PolicyOutput::Outcome { ticket: first, .. },
            PolicyOutput::Reloaded { result: Ok(_), .. },
            PolicyOutput::Outcome { ticket: last, .. },
        ] if (*first, *last) == (slow, waiting)),
        "{outputs:?}"
    );
    assert_eq!(said(&mut world, &c), json!([2, 1]));
}

#[test]
fn a_hook_that_waits_too_long_for_a_reload_fails_only_when_the_new_version_is_good() {
    for (next, good) in [("x = 1", true), ("error('x')", false)] {
        let mut world = World::new("function on_client_connect() sfu.sleep(60000) return true end");
        let c = client(world.now, "c1");
        let ticket = world.submit(HookCall::ClientConnect { client: c, auth_token: "".into() });
        world.engine.reload(world.now, world.key, compiled(next));
        world.pass(Duration::from_millis(1001));
        let outcomes = world.outcomes();
        let words = "The room's rules have just changed, please try again";
        let cut_off = (ticket, undecided(Undecided::CutOff, words));
        assert_eq!(outcomes.contains(&cut_off), good, "{next}");
        world.pass(Duration::from_secs(60));
        assert_eq!(world.outcomes().iter().any(|(of, verdict)| *of == ticket && *verdict == Verdict::Allow), !good);
    }
}

#[test]
fn a_failing_on_unload_does_not_lock_the_room_in() {
    // The state holds client objects.
    let mut world = World::new(
        "local people = {}
         function on_client_connect(c) people[c:get_id()] = c return true end
         function on_message(c) c:send('old') end
         function on_unload() return people end",
    );
    let c = world.join("x");
    let next = "function on_message(c) c:send('new') end function on_load(s) assert(s == nil) end";
    let error = world.reload(next).unwrap_err();
    assert!(error.starts_with("on_unload: state.x: a client can't cross a reload"), "{error}");
    assert!(error.contains("moonring reload --drop-state"), "it names the way out: {error}");
    assert_eq!(world.eval(&c, ""), json!("old"));
    world.engine.reload_without_state(world.now, world.key, compiled(next));
    assert!(matches!(world.outputs()[..], [PolicyOutput::Reloaded { result: Ok(_), .. }]));
    assert_eq!(world.eval(&c, ""), json!("new"));
}

#[test]
fn named_timers_go_on_across_a_reload_and_others_end() {
    let version = |n: u32, more: &str| {
        format!(
            "function on_init()
               sfu.set_timeout('bill', 60000, function() sfu.broadcast('bill {n}') end)
               sfu.set_interval('tick', 20000, function() sfu.broadcast('tick {n}') end)
               {more}
             end"
        )
    };
    let mut world = World::new(&version(1, "sfu.set_timeout('gone', 50000, function() sfu.broadcast('gone') end)"));
    let mut said = Vec::new();
    for (after, next) in [(30, Some(version(2, ""))), (10, Some(version(3, ""))), (60, None)] {
        world.pass(Duration::from_secs(after));
        for output in world.outputs() {
            if let PolicyOutput::Actions { actions, .. } = output {
                said.extend(actions.into_iter().map(|action| match action {
                    Action::Broadcast { value, .. } => value.as_str().unwrap().to_owned(),
                    other => panic!("{other:?}"),
                }));
            }
        }
        if let Some(next) = next {
            world.reload(&next).unwrap();
        }
    }
    assert_eq!(said, ["tick 1", "tick 2", "bill 3", "tick 3", "tick 3", "tick 3"], "at 20, 40, 60, 60, 80, 100 s");
}

#[test]
fn a_named_timer_is_replaced_and_cleared_by_its_name() {
    let mut world = World::new(
        "function on_init()
           for i = 1, 5 do sfu.set_timeout('t', 1000 * i, function() sfu.broadcast(i) end) end
           sfu.set_timeout('u', 10, function() sfu.broadcast('never') end)
           sfu.clear('u')
           sfu.set_timeout('u', 20, function() sfu.broadcast('u') end)
         end",
    );
    assert_eq!(world.engine.room_status(world.key).unwrap().timers, 2);
    world.pass(Duration::from_secs(10));
    let values: Vec<_> = world
        .outputs()
        .into_iter()
        .map(|output| match output {
            PolicyOutput::Actions { actions, .. } => format!("{actions:?}"),
            other => panic!("{other:?}"),
        })
        .collect();
    assert!(values.len() == 2 && values[0].contains("\"u\"") && values[1].contains("Number(5)"), "{values:?}");
}
