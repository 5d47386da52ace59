//! The scripts of all rooms together have a share of the shard, and media goes first.

use super::*;

/// A shard whose rooms each spin for about a millisecond in every timer.
const BUSY: &str = "function on_init()
    sfu.set_interval(10, function() local n = 0 for i = 1, 30000 do n = n + i end sfu.count('turns') end)
  end
  function on_client_connect() return true end
  function on_message(c) c:send('heard') end";

fn settings() -> PolicySettings {
    PolicySettings { shard_share: 0.25, slice: Duration::from_micros(250), ..generous() }
}

/// Rooms of one script on one engine.
fn rooms(settings: PolicySettings, count: usize, script: &str) -> (World, Vec<PolicyKey>) {
    let mut world = World::with(settings, script);
    let mut keys = vec![world.key];
    for n in 1..count {
        keys.push(world.engine.open_room(world.now, &room(&format!("r{n}")), Ok(compiled(script))).unwrap());
    }
    world.outputs();
    (world, keys)
}

#[test]
fn one_call_runs_scripts_for_a_slice_and_the_rest_stays_due() {
    let (mut world, _) = rooms(PolicySettings { shard_share: 0.0, ..settings() }, 40, BUSY);
    world.now += Duration::from_millis(10);
    let (mut calls, mut before) = (0, 0);
    while world.engine.poll_timeout().is_some_and(|due| due <= world.now) {
        world.engine.handle_timeout(world.now);
        let steps = world.engine.stats().steps;
        assert!(steps > before, "each call gets on");
        (calls, before) = (calls + 1, steps);
        assert!(calls <= 40, "{calls}");
    }
    assert!(before == 40 && calls >= 3, "every room had its turn, in {calls} calls");
}

#[test]
fn the_sum_of_all_rooms_keeps_to_its_share() {
    let (mut world, keys) = rooms(settings(), 30, BUSY);
    world.pass(Duration::from_secs(1));
    let status = |key: &PolicyKey| world.engine.room_status(*key).unwrap();
    assert!(keys.iter().all(|key| !status(key).counters.is_empty()), "every room has had a turn");
    // Not the turns: on a machine that is busy, some take longer than others, and single ones very long.
    let mut times: Vec<_> = keys.iter().map(|key| status(key).stats.latency.sum_ns / 1_000).collect();
    times.sort_unstable();
    let usual = &times[3..27];
    assert!(usual[23] <= 3 * usual[0] + 3_000, "fair among rooms, in microseconds: {times:?}");
    let used: u64 = usual.iter().sum();
    assert!(used < 300_000, "{used} us of a second at 25 %, with a burst");
}

#[test]
fn a_rooms_message_is_not_behind_all_that_busy_rooms_have_queued() {
    let (mut world, keys) = rooms(settings(), 30, BUSY);
    let quiet = "function on_client_connect() return true end function on_message(c) c:send('heard') end";
    world.key = world.engine.open_room(world.now, &room("quiet"), Ok(compiled(quiet))).unwrap();
    let member = client(world.now, "m");
    world.submit(HookCall::ClientConnect { client: member.clone(), auth_token: String::new() });
    world.pass(Duration::from_secs(1));
    world.outputs();
    let ticket = world.submit(HookCall::Message { client: member, message: json!(1) });
    let sent = world.now;
    while !world.outcomes().iter().any(|(of, _)| *of == ticket) {
        world.pass(Duration::from_micros(500));
        assert!(
            world.now - sent < Duration::from_millis(100),
            "it waits for one turn of the share, not for thirty rooms"
        );
    }
    assert_eq!(keys.len(), 30);
}

#[test]
fn what_is_made_of_a_message_is_charged_to_its_room() {
    let settings = PolicySettings { cpu_share: 0.02, cpu_burst: Duration::from_millis(2), ..generous() };
    let mut world = World::with(settings, "function on_client_connect() return true end function on_message() end");
    let c = world.join("c1");
    let message = json!(vec![json!([1]); 4_900]);
    let tickets: Vec<_> =
        (0..50).map(|_| world.submit(HookCall::Message { client: c.clone(), message: message.clone() })).collect();
    assert!(world.outcomes().len() < tickets.len(), "its hook does nothing, but its share is used up");
    assert!(world.engine.stats().throttled > 0);
}

#[test]
fn a_timer_that_was_due_and_queued_when_its_script_was_suspended_rings_later() {
    let settings = PolicySettings { cpu_share: 0.02, cpu_burst: Duration::from_millis(2), strikes: 1, ..generous() };
    let mut world = World::with(
        settings,
        "function on_client_connect() return true end
         function on_message(c, m)
           if m ~= 'set' then return end
           sfu.set_timeout(1, function() error('boom') end)
           sfu.set_timeout(1, function() sfu.broadcast('rung') end)
         end",
    );
    let c = world.join("c1");
    world.message(&c, json!("set"));
    for _ in 0..50 {
        world.submit(HookCall::Message { client: c.clone(), message: json!(vec![json!([1]); 4_900]) });
    }
    world.pass(Duration::from_secs(20));
    assert!(world.engine.room_status(world.key).unwrap().is_suspended);
    assert!(!format!("{:?}", world.outputs()).contains("rung"));
    world.pass(Duration::from_secs(60));
    assert!(format!("{:?}", world.outputs()).contains("rung"));
    assert_eq!(world.engine.room_status(world.key).unwrap().timers, 0, "it has given its place back");
}
