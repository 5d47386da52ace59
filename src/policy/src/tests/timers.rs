//! The timers of a room: their bound, their ends, and their way through a reload.

use super::waits::{SECOND, message};
use super::*;

#[test]
fn timers_that_are_flushed_count_towards_the_bound() {
    let mut world = World::new(
        "function on_client_connect() return true end
         function on_message(c)
           c:send({ pcall(function() for i = 1, 2000 do sfu.set_timeout(1e6, print) sfu.flush() end end) })
         end",
    );
    let c = world.join("c1");
    let outcome = world.message(&c, json!(1));
    assert!(format!("{outcome:?}").contains("more than 256 timers in one room"), "{outcome:?}");
    assert_eq!(world.engine.room_status(world.key).unwrap().timers, 256);
}

#[test]
fn a_timer_that_takes_the_place_of_another_is_none_more() {
    let mut world = World::new(
        "function on_client_connect() return true end
         function on_message(c)
           for i = 1, 254 do sfu.set_timeout('t' .. i, 1e6, print) end
           local last = sfu.set_timeout(1e6, print)
           sfu.set_timeout('once', 1000, function()
             sfu.set_timeout('once', 1e6, print)
             sfu.broadcast({ pcall(sfu.set_timeout, 1e6, print) })
           end)
           local tries = {}
           local function try(...) tries[#tries + 1] = pcall(sfu.set_timeout, ...) end
           try(1e6, print)
           try('t1', 1e6, print)
           try('t255', 1e6, print)
           sfu.flush()
           try('t2', 1e6, print)
           try('t255', 1e6, print)
           sfu.clear('t2')
           try('t255', 1e6, print)
           try('t256', 1e6, print)
           sfu.clear(last)
           try('t256', 1e6, print)
           try('t257', 1e6, print)
           c:send(tries)
         end",
    );
    let c = world.join("c1");
    let expected = json!([false, true, false, true, false, true, false, true, false]);
    world.submit(message(&c, json!(1)));
    let sent = world.outputs().into_iter().find_map(|output| match output {
        PolicyOutput::Outcome { outcome, .. } => outcome.actions.into_iter().find_map(|action| match action {
            Action::Send { value, .. } => Some(value),
            _ => None,
        }),
        _ => None,
    });
    assert_eq!(sent, Some(expected));
    assert_eq!(world.engine.room_status(world.key).unwrap().timers, 256);
    world.pass(SECOND * 2);
    let rung = format!("{:?}", world.outputs());
    assert!(rung.contains("more than 256 timers"), "{rung}");
    assert_eq!(world.engine.room_status(world.key).unwrap().timers, 256, "it has set itself again");
}

#[test]
fn timers_of_hooks_that_have_waited_count_towards_the_bound() {
    let mut world = World::new(
        "function on_client_connect() return true end
         function on_message(c, flushes)
           for i = 1, 200 do sfu.set_timeout(1e6, print) end
           sfu.sleep(1000)
           if flushes then return c:send({ pcall(sfu.flush) }) end
           c:send('set')
         end",
    );
    let clients = ["a", "b", "c"].map(|id| world.join(id));
    for (client, flushes) in clients.iter().zip([false, false, true]) {
        world.submit(message(client, json!(flushes)));
    }
    world.pass(SECOND * 2);
    let failed = |output: &PolicyOutput| match output {
        PolicyOutput::Outcome { outcome, .. } => (outcome.failed, format!("{:?}", outcome.actions)),
        other => panic!("{other:?}"),
    };
    let ended: Vec<_> = world.outputs().iter().map(failed).collect();
    assert_eq!(ended.iter().map(|(failed, _)| *failed).collect::<Vec<_>>(), [false, true, true], "{ended:?}");
    assert!(ended[0].1.contains("set"), "{ended:?}");
    assert_eq!(world.engine.room_status(world.key).unwrap().timers, 200, "a hook that fails has done nothing");
}

#[test]
fn what_a_timer_held_is_free_when_it_has_rung_or_is_cleared() {
    let mut world = World::new(
        "function on_client_connect() return true end
         function on_message(c, m)
           if m == 'ring' or m == 'clear' then
             for i = 1, 100 do
               local held = ('x'):rep(8000) .. i
               local timer = sfu.set_timeout(m == 'ring' and 10 or 1e6, function() return held end)
               if m == 'clear' then sfu.set_timeout(10, function() sfu.clear(timer) end) end
             end
           end
           for i = 1, 20 do local garbage = ('y'):rep(10000) .. math.random() end
         end",
    );
    let c = world.join("c1");
    for how in ["ring", "clear"] {
        world.message(&c, json!(how));
        assert!(world.engine.room_status(world.key).unwrap().memory > 800_000, "{how}");
        world.pass(SECOND);
        for _ in 0..100 {
            world.message(&c, json!("on"));
        }
        let status = world.engine.room_status(world.key).unwrap();
        assert!(status.timers == 0 && status.memory < 700_000, "{how}: {} bytes", status.memory);
    }
}

#[test]
fn a_timer_that_is_cleared_by_its_handle_has_ended_the_one_of_its_name_all_the_same() {
    let mut world = World::new(
        "function on_client_connect() return true end
         function on_init() sfu.set_timeout('t', 1000, function() sfu.broadcast('rung') end) end
         function on_message(c) sfu.clear(sfu.set_timeout('t', 10, print)) end",
    );
    let c = world.join("c1");
    world.message(&c, json!(1));
    assert_eq!(world.engine.room_status(world.key).unwrap().timers, 0);
    world.pass(SECOND * 2);
    assert_eq!(world.outputs(), []);
}

/// A hook that waits holds the reload up, and the reload the timers.
#[test]
fn a_named_interval_that_is_due_while_a_reload_waits_is_due_in_the_new_version_at_once() {
    let version = |n: u32| {
        format!(
            "function on_client_connect() return true end
             function on_message() sfu.sleep(60000) end
             function on_init() sfu.set_interval('bill', 60000, function() sfu.broadcast('bill {n}') end) end"
        )
    };
    let mut world = World::new(&version(1));
    let c = world.join("c1");
    world.pass(SECOND * 59);
    world.submit(message(&c, json!(1)));
    world.pass(SECOND / 2);
    world.engine.reload(world.now, world.key, compiled(&version(2)));
    world.pass(SECOND);
    let said = |world: &mut World| format!("{:?}", world.outputs()).matches("bill 2").count();
    assert_eq!(said(&mut world), 1, "due at 60 s, and the reload was at 60.5 s");
    world.pass(SECOND * 59);
    assert_eq!(said(&mut world), 0);
    world.pass(SECOND);
    assert_eq!(said(&mut world), 1);
}

#[test]
fn an_interval_that_is_due_while_its_script_is_suspended_is_due_when_it_runs_again() {
    let mut world = World::with(
        PolicySettings { strikes: 1, ..generous() },
        "function on_client_connect() return true end
         function on_init() sfu.set_interval(60000, function() sfu.broadcast('tick') end) end
         function on_message() sfu.set_timeout(1, function() error('boom') end) end",
    );
    let c = world.join("c1");
    world.pass(SECOND * 50);
    world.message(&c, json!(1));
    let ticks = |world: &mut World| format!("{:?}", world.outputs()).matches("tick").count();
    world.pass(SECOND * 29);
    assert!(world.engine.room_status(world.key).unwrap().is_suspended);
    assert_eq!(ticks(&mut world), 0);
    world.pass(SECOND * 3);
    assert_eq!(ticks(&mut world), 1, "it was due at 60 s, and the script runs again from 80 s on");
    world.pass(SECOND * 61);
    assert_eq!(ticks(&mut world), 1);
}
