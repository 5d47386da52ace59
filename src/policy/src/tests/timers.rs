//! The bound on the timers of a room.

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
