//! Hooks that wait: order per client, interleaving between clients, timers, requests.

use super::*;
use crate::output::{HttpReply, HttpRequest, SharedRequest, SharedValue};

pub(super) const SECOND: Duration = Duration::from_secs(1);

pub(super) fn connect(world: &World, id: &str) -> HookCall {
    HookCall::ClientConnect { client: client(world.now, id), auth_token: "x".into() }
}

pub(super) fn message(client: &Rc<ClientFacts>, value: Value) -> HookCall {
    HookCall::Message { client: client.clone(), message: value }
}

pub(super) fn http(status: u16, body: &str) -> PolicyReply {
    PolicyReply::Http(Ok(HttpReply { status, headers: vec![("x-a".into(), "b".into())], body: body.into() }))
}

#[test]
fn events_of_one_client_stay_in_order_while_others_go_on() {
    let mut world = World::new(
        "function on_client_connect() return true end
         function on_message(c, ms) if ms > 0 then sfu.sleep(ms) end sfu.broadcast(c:get_id() .. ms) end",
    );
    let (a, b) = (world.join("a"), world.join("b"));
    let first = world.submit(message(&a, json!(100)));
    let second = world.submit(message(&a, json!(0)));
    let other = world.submit(message(&b, json!(0)));
    assert_eq!(world.outcomes(), [(other, Verdict::Allow)]);
    world.pass(Duration::from_millis(99));
    assert_eq!(world.outcomes(), []);
    world.pass(Duration::from_millis(1));
    let outcomes = world.outputs().into_iter().map(|output| match output {
        PolicyOutput::Outcome { ticket, outcome, .. } => (ticket, outcome.actions),
        other => panic!("{other:?}"),
    });
    let said = |words: &str| vec![Action::Broadcast { value: json!(words), except: None }];
    assert_eq!(outcomes.collect::<Vec<_>>(), [(first, said("a100")), (second, said("a0"))]);
}

#[test]
fn a_decision_can_come_from_a_service() {
    let mut world = World::new(
        "function on_client_connect(c, token)
           local reply, why = sfu.http{ url = 'http://auth/check', method = 'post', body = token, timeout = 1000,
             headers = { ['X-Id'] = c:get_id() } }
           if not reply then return false, why end
           return reply.status == 200, reply.body .. reply.headers['x-a']
         end",
    );
    let expected = PolicyRequest::Http(HttpRequest {
        method: "POST".into(),
        url: "http://auth/check".into(),
        headers: vec![("X-Id".into(), "c1".into())],
        body: b"x".to_vec(),
        timeout: SECOND,
    });
    for (reply, verdict) in [
        (http(200, "fine"), Verdict::Allow),
        (http(403, "no"), Verdict::Reject("nob".into())),
        (PolicyReply::Http(Err("refused".into())), Verdict::Reject("refused".into())),
    ] {
        let ticket = world.submit(connect(&world, "c1"));
        let (id, request) = world.request();
        assert_eq!(request, expected);
        world.resume(id, reply.clone());
        assert_eq!(world.outcomes(), [(ticket, verdict)]);
        world.resume(id, reply);
        assert_eq!(world.outcomes(), [], "a second reply is dropped");
    }
    let ticket = world.submit(connect(&world, "c1"));
    world.outputs();
    world.pass(SECOND * 4);
    assert_eq!(world.outcomes(), [(ticket, Verdict::Reject("timed out".into()))], "a reply that never comes");
}

#[test]
fn the_shared_store_is_asked_like_a_service() {
    let mut world = World::new(
        "function on_client_connect() return true end
         function on_message(c)
           local n = sfu.shared.incr('rooms', 2, 60)
           sfu.shared.set('k', 'v\\255')
           local v, nothing = sfu.shared.get('k'), sfu.shared.delete('k')
           c:send({ n, v, nothing == nil })
         end",
    );
    let c = world.join("c1");
    world.submit(message(&c, json!(1)));
    let mut asked = Vec::new();
    let replies = [Some(SharedValue::Number(7.0)), None, Some(SharedValue::Text(b"ok".to_vec())), None];
    for reply in replies {
        let (id, request) = world.request();
        asked.push(request);
        world.resume(id, PolicyReply::Shared(Ok(reply)));
    }
    let key = || "k".to_owned();
    let expected = [
        SharedRequest::Incr { key: "rooms".into(), by: 2.0, ttl: Some(SECOND * 60) },
        SharedRequest::Set { key: key(), value: SharedValue::Text(b"v\xff".to_vec()), ttl: None },
        SharedRequest::Get { key: key() },
        SharedRequest::Delete { key: key() },
    ];
    assert_eq!(asked, expected.map(PolicyRequest::Shared));
    let outputs = world.outputs();
    let PolicyOutput::Outcome { outcome, .. } = &outputs[0] else { panic!("{outputs:?}") };
    assert_eq!(outcome.actions, [Action::Send { client: c.id.clone(), value: json!([7, "ok", true]) }]);
}

#[test]
fn a_wait_reaches_the_engine_from_anywhere() {
    for (body, expected) in [
        ("return coroutine.wrap(function() sfu.sleep(1) return true end)()", Verdict::Allow),
        (
            "local co = coroutine.create(function() sfu.sleep(1) coroutine.yield(1) sfu.sleep(1) return true end)
             local _, one = coroutine.resume(co) local _, last = coroutine.resume(co) return one == 1 and last",
            Verdict::Allow,
        ),
        ("return select(2, pcall(function() sfu.sleep(1) return true end))", Verdict::Allow),
        ("for _ in function() sfu.sleep(1) end do end return true", Verdict::Allow),
        (
            "local t = setmetatable({}, { __index = function() sfu.sleep(1) return true end }) return t.x",
            Verdict::Allow,
        ),
        ("return ('x'):gsub('x', function() sfu.sleep(1) return 'y' end) == 'y'", Verdict::Allow),
        (
            "local t = { 2, 1, 3 } table.sort(t, function(a, b) sfu.sleep(1) return a < b end)
             return table.concat(t) == '123'",
            Verdict::Allow,
        ),
        (
            "return tostring(setmetatable({}, { __tostring = function() sfu.sleep(1) return 'x' end })) == 'x'",
            Verdict::Allow,
        ),
        ("coroutine.yield(1)", failing()),
        ("coroutine.yield()", failing()),
    ] {
        let mut world = World::new(&format!("function on_client_connect() {body} end"));
        let ticket = world.submit(connect(&world, "c1"));
        world.pass(SECOND);
        assert_eq!(world.outcomes(), [(ticket, expected)], "{body}");
    }
}

#[test]
fn actions_of_a_waiting_hook_come_at_its_end_or_never() {
    let mut world = World::new(
        "function on_client_connect() return true end
         function on_message(c, m) c:send('before') sfu.sleep(10) c:send('after') if m == 'fail' then error('x') end end",
    );
    let c = world.join("c1");
    for (m, expected) in [("ok", vec!["before", "after"]), ("fail", vec![])] {
        world.submit(message(&c, json!(m)));
        assert_eq!(world.outputs(), []);
        world.pass(Duration::from_millis(10));
        let outputs = world.outputs();
        let [PolicyOutput::Outcome { outcome, .. }] = &outputs[..] else { panic!("{outputs:?}") };
        let sent = |value: &str| Action::Send { client: c.id.clone(), value: json!(value) };
        assert_eq!(outcome.actions, expected.into_iter().map(sent).collect::<Vec<_>>());
    }
}

#[test]
fn a_disconnect_cancels_the_connect_that_is_still_being_decided() {
    let mut world = World::new(
        "function on_client_connect() sfu.sleep(1000) return true end
         function on_client_disconnect() sfu.broadcast('never') end",
    );
    let c = client(world.now, "c1");
    let connect = world.submit(HookCall::ClientConnect { client: c.clone(), auth_token: String::new() });
    let leave = world.submit(HookCall::ClientDisconnect { client: c.clone(), reason: "gone".into() });
    let cancelled = Verdict::Reject("The client has left".into());
    assert_eq!(world.outcomes(), [(connect, cancelled), (leave, Verdict::Allow)]);
    world.pass(SECOND * 2);
    assert_eq!((world.outputs(), c.presence.get()), (vec![], Presence::Gone));
}

#[test]
fn who_has_gone_while_it_was_decided_on_does_not_join() {
    let mut world = World::new("function on_client_connect() sfu.sleep(10) return true end");
    let c = client(world.now, "c1");
    let ticket = world.submit(HookCall::ClientConnect { client: c.clone(), auth_token: String::new() });
    c.presence.set(Presence::Gone);
    world.pass(SECOND);
    assert_eq!(world.outcomes(), [(ticket, Verdict::Reject("The client has left".into()))]);
    assert_eq!(c.presence.get(), Presence::Gone);
}

#[test]
fn a_reload_goes_on_when_the_hook_it_waits_for_is_cancelled() {
    let mut world = World::new("function on_client_connect() sfu.sleep(60000) return true end");
    let c = client(world.now, "c1");
    world.submit(HookCall::ClientConnect { client: c.clone(), auth_token: String::new() });
    world.engine.reload(world.now, world.key, compiled("x = 1"));
    assert_eq!(world.outputs(), []);
    world.submit(HookCall::ClientDisconnect { client: c, reason: "gone".into() });
    assert!(world.outputs().iter().any(|output| matches!(output, PolicyOutput::Reloaded { result: Ok(_), .. })));
}

#[test]
fn timers_ring_in_time_and_can_be_cleared() {
    let mut world = World::new(
        "local n, handle = 0
         function on_client_connect() return true end
         function on_message(c, m)
           if m == 'start' then
             sfu.set_timeout(50, function() sfu.broadcast('once') end)
             handle = sfu.set_interval(100, function() n = n + 1 sfu.broadcast(n) if n == 3 then sfu.clear(handle) end end)
             sfu.clear(sfu.set_timeout(10, function() sfu.broadcast('cleared') end))
           elseif m == 'fail' then sfu.set_timeout(1, function() sfu.broadcast('never') end) error('x') end
         end",
    );
    let c = world.join("c1");
    world.message(&c, json!("start"));
    assert!(world.message(&c, json!("fail")).failed);
    let mut said = Vec::new();
    for _ in 0..10 {
        world.pass(Duration::from_millis(50));
        for output in world.outputs() {
            match output {
                PolicyOutput::Actions { actions, .. } => said.extend(actions),
                other => panic!("{other:?}"),
            }
        }
    }
    let values = said.into_iter().map(|action| match action {
        Action::Broadcast { value, .. } => value,
        other => panic!("{other:?}"),
    });
    assert_eq!(values.collect::<Vec<_>>(), [json!("once"), json!(1), json!(2), json!(3)]);
    assert_eq!(world.engine.room_status(world.key).unwrap().timers, 0);
    assert_eq!(world.engine.poll_timeout(), None);
}

#[test]
fn a_timer_may_wait_and_does_not_pile_up_meanwhile() {
    let mut world =
        World::new("function on_init() sfu.set_interval(10, function() sfu.sleep(35) sfu.count('rings') end) end");
    world.pass(Duration::from_millis(200));
    let status = world.engine.room_status(world.key).unwrap();
    assert_eq!(status.counters, [("rings".to_owned(), 4.0)]);
}

#[test]
fn a_sleep_for_nothing_gives_way_to_others() {
    let mut world = World::new(
        "function on_client_connect() return true end
         function on_message(c) while true do sfu.sleep(0) sfu.count('turns', 1) end end",
    );
    let c = world.join("c1");
    world.submit(message(&c, json!(1)));
    for _ in 0..5 {
        world.now += Duration::from_millis(1);
        world.engine.handle_timeout(world.now);
    }
    let steps = world.engine.stats().steps;
    assert_eq!(steps, 1 + 1 + 5, "a step of the connect, one of the message, one per tick");
}

#[test]
fn flush_lets_a_lobby_knock_while_the_guest_waits() {
    let mut world = World::new(
        "local host
         function on_client_connect(c, token)
           if token == 'host' then host = c return true end
           host:send({ knock = c:get_id() })
           sfu.flush()
           host:send('never')
           sfu.sleep(10000)
           error('nobody answered')
         end",
    );
    let host = client(world.now, "h");
    world.call(HookCall::ClientConnect { client: host.clone(), auth_token: "host".into() });
    world.submit(connect(&world, "guest"));
    let actions = vec![Action::Send { client: host.id.clone(), value: json!({ "knock": "guest" }) }];
    assert_eq!(world.outputs(), [PolicyOutput::Actions { key: world.key, actions }]);
    world.pass(SECOND * 11);
    let outputs = world.outputs();
    let [PolicyOutput::Outcome { outcome, .. }] = &outputs[..] else { panic!("{outputs:?}") };
    assert_eq!((outcome.failed, outcome.actions.len()), (true, 0), "what was not flushed is dropped");
}

#[test]
fn what_a_hook_flushes_counts_towards_its_bounds_until_it_waits() {
    let patient = PolicySettings { step_budget: SECOND, ..generous() };
    let mut world = World::with(
        patient,
        "function on_client_connect() return true end
         function on_message(c, m)
           for i = 1, 3000 do
             c:send(i) sfu.flush()
             if m == 'slowly' and i % 1000 == 0 then sfu.sleep(1) end
           end
         end
         function on_init() assert(not pcall(sfu.flush)) end",
    );
    let c = world.join("c1");
    world.submit(message(&c, json!("at once")));
    let outputs = world.outputs();
    let sent = |outputs: &[PolicyOutput]| outputs.iter().filter(|o| matches!(o, PolicyOutput::Actions { .. })).count();
    assert_eq!(sent(&outputs), 2000);
    assert!(matches!(outputs.last(), Some(PolicyOutput::Outcome { outcome, .. }) if outcome.failed));
    world.submit(message(&c, json!("slowly")));
    world.pass(SECOND);
    assert_eq!(sent(&world.outputs()), 3000);
}

#[test]
fn the_shared_store_fails_closed() {
    let mut world = World::new(
        "function on_client_connect(c)
           local tries = sfu.shared.incr('tries', 1, 60)
           if tries and tries > 10 then return false, 'too many tries' end
           return true
         end",
    );
    let ticket = world.submit(connect(&world, "c1"));
    let (id, _) = world.request();
    world.resume(id, PolicyReply::Shared(Err("the shared store is full: give entries a ttl".into())));
    assert_eq!(world.outcomes(), [(ticket, failing())]);
}

#[test]
fn closing_a_room_leaves_nothing_behind() {
    let mut world = World::new(
        "local t = {} for i = 1, 15000 do t[i] = { i } end KEEP = t
         function on_init() sfu.set_interval(10, function() end) end
         function on_client_connect() sfu.http('http://a') end",
    );
    world.submit(connect(&world, "c1"));
    let (id, _) = world.request();
    assert!(world.engine.room_status(world.key).unwrap().memory > 512 * 1024);
    world.engine.close_room(world.now, world.key);
    world.resume(id, http(200, ""));
    assert_eq!(world.outputs(), []);
    world.pass(SECOND);
    assert_eq!(world.engine.poll_timeout(), None, "its big state has been freed by now");
    let call = connect(&world, "c2");
    assert_eq!(world.call(call).verdict, failing());
}

#[test]
fn hooks_that_go_on_again_and_again_keep_no_other_from_beginning() {
    // Each step takes more of the room's share than comes back until the next one.
    let settings = PolicySettings { cpu_share: 0.0001, cpu_burst: Duration::from_micros(1), ..generous() };
    let mut world = World::with(
        settings,
        "local is_open = false
         function on_client_connect(c, token)
           if token == 'good' then return true end
           repeat sfu.sleep(1) until is_open
           return true
         end
         function on_message(c) is_open = true end",
    );
    let host = world.join("host");
    let knocks: Vec<_> = (0..20).map(|n| world.submit(connect(&world, &format!("c{n}")))).collect();
    world.pass(SECOND * 1_000);
    let said = world.submit(message(&host, json!("come in")));
    world.pass(SECOND * 1_000);
    let outcomes = world.outcomes();
    assert_eq!(outcomes.first(), Some(&(said, Verdict::Allow)));
    assert!(knocks.iter().all(|ticket| outcomes.contains(&(*ticket, Verdict::Allow))), "{outcomes:?}");
}
