//! A member cannot bring a room's script down.

use super::*;

const OPEN: &str = "function on_client_connect(c) return true end\n";

/// The settings of a server, but for the scripts' share of time.
fn strict() -> PolicySettings {
    let PolicySettings { strikes, client_strikes, .. } = PolicySettings::default();
    // How fast the machine is does not matter here.
    PolicySettings { strikes, client_strikes, step_budget: Duration::from_millis(100), ..generous() }
}

fn status(world: &World) -> crate::RoomStatus {
    world.engine.room_status(world.key).unwrap()
}

/// What a message makes of its sender: refused, failed, disconnected.
fn say(world: &mut World, client: &Rc<ClientFacts>, value: Value) -> (bool, bool, bool) {
    world.submit(HookCall::Message { client: client.clone(), message: value });
    let mut seen = (false, false, false);
    for output in world.outputs() {
        match output {
            PolicyOutput::Outcome { outcome, .. } => (seen.0, seen.1) = (outcome.refused.is_some(), outcome.failed),
            PolicyOutput::Actions { actions, .. } => {
                seen.2 = actions.iter().any(|a| matches!(a, Action::Kick { client: id, .. } if *id == client.id));
            }
            other => panic!("{other:?}"),
        }
    }
    seen
}

/// Joins a client that comes from this address.
fn join_from(world: &mut World, id: &str, ip: [u8; 4]) -> Rc<ClientFacts> {
    let facts = Rc::into_inner(client(world.now, id)).unwrap();
    let client = Rc::new(ClientFacts { connection: Ipv4Addr::from(ip).into(), ..facts });
    let outcome = world.call(HookCall::ClientConnect { client: client.clone(), auth_token: "good".into() });
    assert_eq!(outcome.verdict, Verdict::Allow, "{id}");
    client.presence.set(Presence::Joined);
    client
}

#[test]
fn one_person_who_comes_back_under_other_ids_does_not_suspend_a_script() {
    let open = "function on_client_connect(c) if NAMED then c:set_identity('mallory') end return true end";
    for named in [false, true] {
        let mut world = World::with(
            strict(),
            &format!("NAMED = {named} {open} function on_message(c, m) c:send(m.text:upper()) end"),
        );
        for n in 1..=6 {
            let mallory = join_from(&mut world, &format!("x{n}"), [192, 0, 2, if named { n } else { 1 }]);
            let messages = (1..100).find(|_| say(&mut world, &mallory, json!(7)).2);
            assert_eq!(messages, Some(25), "{n} is disconnected");
            world.leave(&mallory);
            world.outputs();
        }
        assert!(!status(&world).is_suspended);
    }
}

#[test]
fn messages_beyond_a_bound_are_refused_before_any_hook_and_are_no_failure() {
    let mut world = World::with(strict(), &format!("{OPEN}function on_message(c, m) c:send(type(m)) end"));
    let c = world.join("c1");
    let nested = |depth: usize| (0..depth).fold(json!([]), |inner, _| json!([inner]));
    let wide = |n: usize| json!(vec![json!([]); n]);
    for (value, expected) in [
        (json!({ "type": "chat" }), ""),
        (nested(31), ""),
        (nested(32), "the message is nested more than 32 levels deep"),
        (wide(7_000), ""),
        (wide(10_000), "the message has more than 10000 values"),
        (json!("x".repeat(64_000)), ""),
    ] {
        for _ in 0..20 {
            let outcome = world.message(&c, value.clone());
            assert_eq!((outcome.refused.as_deref().unwrap_or_default(), outcome.failed), (expected, false));
        }
    }
    assert_eq!((status(&world).is_suspended, status(&world).stats.memory), (false, 0));
}

#[test]
fn a_message_that_does_not_fit_into_the_memory_is_refused_and_the_script_goes_on() {
    let mut world = World::with(
        strict(),
        &format!(
            "KEEP = {{}} for i = 1, 15000 do KEEP[i] = {{ i }} end {OPEN}function on_message(c, m) c:send('heard') end"
        ),
    );
    let c = world.join("c1");
    let large = json!(vec![json!([[]]); 4_900]);
    for _ in 0..30 {
        let (refused, failed, disconnected) = say(&mut world, &c, large.clone());
        assert!(refused && !failed && !disconnected);
    }
    assert_eq!(world.eval(&c, "small"), json!("heard"));
    assert_eq!(status(&world).stats.refused, 30);
}

#[test]
fn metadata_is_bounded_before_the_connect_hook_and_absent_metadata_is_an_empty_table() {
    let mut world = World::with(
        strict(),
        "function on_client_connect(c) local m = c:get_metadata() return false, type(m) .. ' ' .. tostring(m.role) end",
    );
    for (metadata, expected) in [
        (Value::Null, "table nil"),
        (json!({ "role": "host" }), "table host"),
        ((0..9).fold(json!({}), |inner, _| json!({ "a": inner })), "the metadata is nested more than 8 levels deep"),
        (json!(vec![0; 600]), "the metadata has more than 512 values"),
    ] {
        let facts =
            Rc::new(ClientFacts { metadata: metadata.into(), ..Rc::into_inner(client(world.now, "c1")).unwrap() });
        let outcome = world.call(HookCall::ClientConnect { client: facts, auth_token: String::new() });
        assert_eq!((outcome.verdict, outcome.failed), (Verdict::Reject(expected.into()), false));
    }
}

#[test]
fn one_members_bad_messages_disconnect_that_member_only() {
    let script = format!("{OPEN}function on_message(c, m) c:send(m.text:upper()) end");
    for (bad, most) in [(json!(7), 25), (json!({ "text": 5 }), 25)] {
        let mut world = World::with(strict(), &script);
        let (mallory, alice) = (world.join("mallory"), world.join("alice"));
        let messages = (1..100).find(|_| say(&mut world, &mallory, bad.clone()).2);
        assert_eq!(messages, Some(most), "{bad}");
        assert_eq!(say(&mut world, &alice, json!({ "text": "hi" })), (false, false, false));
        assert!(!status(&world).is_suspended);
    }
}

#[test]
fn strangers_cannot_suspend_a_script_whose_connect_hook_fails_on_them() {
    let mut world = World::with(
        strict(),
        "function on_client_connect(c, token) if token == 'good' then return true end return c:get_metadata().name:upper() == 1 end",
    );
    for n in 0..200 {
        let facts = client(world.now, &format!("x{n}"));
        let facts = Rc::new(ClientFacts { metadata: json!({ "name": n }).into(), ..Rc::into_inner(facts).unwrap() });
        assert!(world.call(HookCall::ClientConnect { client: facts, auth_token: String::new() }).failed);
    }
    world.join("member");
}

#[test]
fn a_suspended_script_comes_back_by_itself_by_an_order_and_by_a_reload() {
    let script = format!(
        "{OPEN}function on_message(c, m) if m == 'ping' then return c:send('pong') end error('boom') end
         function on_init() sfu.set_interval(1000, function() sfu.count('ticks') end) end"
    );
    let suspended = || {
        let mut world = World::with(PolicySettings { strikes: 4, ..generous() }, &script);
        let clients = [("a", 1), ("b", 2), ("c", 3)].map(|(id, host)| join_from(&mut world, id, [192, 0, 2, host]));
        for client in clients.iter().cycle().take(12) {
            world.message(client, json!(1));
        }
        assert!(status(&world).is_suspended);
        world.outputs();
        (world, clients)
    };
    let (mut world, [a, ..]) = suspended();
    assert!(world.message(&a, json!("ping")).failed);
    world.pass(Duration::from_secs(29));
    assert!(status(&world).is_suspended);
    world.pass(Duration::from_secs(2));
    assert_eq!(world.eval(&a, "ping"), json!("pong"), "after half a minute");
    let ticks = |world: &World| status(world).counters.first().map_or(0.0, |(_, n)| *n);
    let before = ticks(&world);
    world.pass(Duration::from_secs(10));
    assert!(ticks(&world) >= before + 9.0, "its timers go on: {before}");
    let (mut world, [a, ..]) = suspended();
    assert!(world.engine.resume_script(world.now, world.key) && !world.engine.resume_script(world.now, world.key));
    assert_eq!(world.eval(&a, "ping"), json!("pong"), "by an order");
    let (mut world, [a, ..]) = suspended();
    world.reload(&format!("{OPEN}function on_message(c) c:send('new') end")).unwrap();
    assert_eq!(world.eval(&a, "ping"), json!("new"), "by a reload");
    assert_eq!(status(&world).timers, 0);
}

#[test]
fn each_further_suspension_lasts_longer() {
    let mut world = World::with(
        PolicySettings { strikes: 1, ..generous() },
        "function on_init() sfu.set_interval(1000, function() error('boom') end) end",
    );
    let mut begun = Vec::new();
    for second in 0_u64..500 {
        world.pass(Duration::from_secs(1));
        if status(&world).stats.suspensions > begun.len() as u64 {
            begun.push(second);
        }
    }
    // The timer fails again at once when the script runs again.
    let lengths: Vec<_> = begun.windows(2).map(|two| two[1] - two[0]).collect();
    assert!(lengths.len() >= 3 && lengths.windows(2).all(|two| two[1] >= two[0] * 2 - 3), "{lengths:?} {begun:?}");
}
