//! Calls from outside.

use super::*;

fn call(world: &mut World, request: Value) -> Outcome {
    world.call(HookCall::Admin { request })
}

#[test]
fn a_call_is_answered_with_what_on_admin_returns() {
    let mut world = World::new(
        "function on_client_connect() return true end
         function on_admin(request)
           if request.kick then sfu.client(request.kick):kick('by the operator') end
           return request.answer
         end",
    );
    let c = world.join("c1");
    for (request, answer) in [
        (json!({ "answer": { "list": [1, []] } }), json!({ "list": [1, []] })),
        (json!({ "answer": false }), json!(false)),
        (json!({}), Value::Null),
    ] {
        let outcome = call(&mut world, request);
        assert_eq!((outcome.answer, outcome.failed, outcome.missing), (Some(answer), false, false));
    }
    let outcome = call(&mut world, json!({ "kick": "c1" }));
    assert_eq!(outcome.actions, [Action::Kick { client: c.id.clone(), reason: "by the operator".into() }]);
}

#[test]
fn calls_that_come_to_nothing_say_why_and_never_suspend_the_script() {
    let mut world = World::new("function on_client_connect() return true end");
    let outcome = call(&mut world, json!(1));
    assert_eq!((outcome.missing, outcome.answer), (true, None));
    let strict = PolicySettings { strikes: 3, ..generous() };
    let mut world = World::with(
        strict,
        "function on_client_connect() return true end
         function on_admin(request) sfu.broadcast(1) if request == 1 then return print end error('boom') end",
    );
    for n in 0..20 {
        let outcome = call(&mut world, json!(n % 2));
        assert_eq!((outcome.failed, outcome.actions, outcome.answer), (true, vec![], None));
    }
    let deep = (0..40).fold(json!(1), |inner, _| json!([inner]));
    assert_eq!(call(&mut world, deep).refused.as_deref(), Some("the message is nested more than 32 levels deep"));
    world.join("c1");
}

#[test]
fn a_call_may_wait_and_others_wait_behind_it() {
    let mut world = World::new(
        "function on_client_connect() return true end
         function on_admin(n) sfu.sleep(100) return n end",
    );
    let tickets = [1, 2].map(|n| world.submit(HookCall::Admin { request: json!(n) }));
    world.pass(Duration::from_millis(150));
    let answers = |world: &mut World| -> Vec<_> {
        let answer = |output| match output {
            PolicyOutput::Outcome { ticket, outcome, .. } => Some((ticket, outcome.answer)),
            _ => None,
        };
        world.outputs().into_iter().filter_map(answer).collect()
    };
    assert_eq!(answers(&mut world), [(tickets[0], Some(json!(1)))]);
    world.pass(Duration::from_millis(100));
    assert_eq!(answers(&mut world), [(tickets[1], Some(json!(2)))]);
}
