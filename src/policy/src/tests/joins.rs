//! Strangers at the door: joins have a lane of their own.

use super::*;
use crate::settings::MAX_WAITING_JOINS;

fn connect(now: Instant, id: &str, token: &str) -> HookCall {
    HookCall::ClientConnect { client: client(now, id), auth_token: token.into() }
}

/// A share that one join uses up for a long time.
fn tight() -> PolicySettings {
    PolicySettings {
        cpu_share: 0.001,
        cpu_burst: Duration::from_millis(1),
        step_budget: Duration::from_secs(1),
        ..generous()
    }
}

const DOOR: &str = "function on_client_connect(c, token)
        if token == 'busy' then for i = 1, 3000000 do end end
        return token == 'member', 'no'
    end
    function on_message(c, m) if m == 'busy' then for i = 1, 3000000 do end end sfu.broadcast(m) end";

#[test]
fn joins_that_use_up_their_share_of_time_leave_the_members_theirs() {
    let mut world = World::with(tight(), DOOR);
    let member = client(world.now, "m");
    let join = HookCall::ClientConnect { client: member.clone(), auth_token: "member".into() };
    assert_eq!(world.call(join).verdict, Verdict::Allow);
    let busy = connect(world.now, "s0", "busy");
    assert_eq!(world.call(busy).verdict, Verdict::Reject("no".into()));
    for n in 1..100 {
        let join = connect(world.now, &format!("s{n}"), "busy");
        world.engine.submit(world.now, world.key, join);
    }
    assert_eq!(world.engine.room_status(world.key).unwrap().queued, 99, "they wait for their share");
    let outcome = world.call(HookCall::Message { client: member, message: json!("hello") });
    assert_eq!(outcome.actions.len(), 1, "a member's message does not wait with them");
}

#[test]
fn a_busy_room_still_lets_people_in() {
    let mut world = World::with(tight(), DOOR);
    let member = client(world.now, "m");
    let join = HookCall::ClientConnect { client: member.clone(), auth_token: "member".into() };
    assert_eq!(world.call(join).verdict, Verdict::Allow);
    world.call(HookCall::Message { client: member.clone(), message: json!("busy") });
    world.engine.submit(world.now, world.key, HookCall::Message { client: member, message: json!("waits") });
    assert_eq!(world.engine.room_status(world.key).unwrap().queued, 1);
    let another = connect(world.now, "n", "member");
    assert_eq!(world.call(another).verdict, Verdict::Allow);
}

#[test]
fn joins_that_wait_leave_waits_for_the_members_and_fail_nobodys_script() {
    let mut world = World::new(
        "function on_client_connect(c, token) if token ~= 'member' then sfu.sleep(60000) end return true end
         function on_message(c) sfu.sleep(10) sfu.send(c, 'done') end",
    );
    let member = client(world.now, "m");
    let join = HookCall::ClientConnect { client: member.clone(), auth_token: "member".into() };
    assert_eq!(world.call(join).verdict, Verdict::Allow);
    for n in 0..400 {
        let join = connect(world.now, &format!("s{n}"), "slow");
        world.engine.submit(world.now, world.key, join);
    }
    let status = world.engine.room_status(world.key).unwrap();
    assert_eq!((status.waiting, status.queued), (MAX_WAITING_JOINS, 400 - MAX_WAITING_JOINS));
    assert_eq!(world.engine.stats().errors, 0, "none of them is held against the script");
    world.engine.submit(world.now, world.key, HookCall::Message { client: member, message: json!(1) });
    world.pass(Duration::from_millis(20));
    let sent = world
        .outputs()
        .into_iter()
        .any(|output| matches!(output, PolicyOutput::Outcome { outcome, .. } if outcome.actions.len() == 1));
    assert!(sent, "a member's hook waits and goes on beside them");
}
