//! The bounds of what a room may hold and have under way: what is beyond them waits, or is refused with a reason.

use super::waits::{SECOND, connect, http, message};
use super::*;

#[test]
fn requests_beyond_the_bound_wait_for_their_turn_and_all_of_500_joins_come_in() {
    let mut world = World::new(
        "function on_client_connect(c, token)
           local reply, why = sfu.http{ url = 'http://auth/' .. token, timeout = 10000 }
           if not reply then return false, why end
           return reply.status == 200
         end",
    );
    let joining: Vec<_> = (0..500).map(|n| client(world.now, &format!("c{n}"))).collect();
    for client in &joining {
        world.submit(HookCall::ClientConnect { client: client.clone(), auth_token: "x".into() });
    }
    let (mut allowed, mut most) = (0, 0);
    let mut under_way = Vec::new();
    for _ in 0..200 {
        for output in world.outputs() {
            match output {
                PolicyOutput::Request { id, .. } => under_way.push(id),
                PolicyOutput::Outcome { outcome, .. } => allowed += usize::from(outcome.verdict == Verdict::Allow),
                other => panic!("{other:?}"),
            }
        }
        most = most.max(under_way.len());
        world.pass(Duration::from_millis(20));
        for id in under_way.drain(..) {
            world.engine.resume(world.now, id, http(200, ""));
        }
    }
    assert_eq!((allowed, most), (500, 32), "16 rounds of 20 ms");
    assert!(joining.iter().all(|client| client.presence.get() == Presence::Admitted));
}

#[test]
fn a_request_that_waits_too_long_for_its_turn_times_out() {
    let mut world = World::new("function on_client_connect(c) return false, select(2, sfu.http('http://a')) end");
    let tickets: Vec<_> = (0..33).map(|n| world.submit(connect(&world, &format!("c{n}")))).collect();
    assert_eq!(world.outputs().len(), 32, "requests");
    world.pass(SECOND * 7);
    let outcomes = world.outcomes();
    assert!(outcomes.contains(&(tickets[32], Verdict::Reject("timed out".into()))), "{outcomes:?}");
    assert_eq!(outcomes.len(), 33);
}

#[test]
fn a_crowd_of_joins_does_not_hold_up_the_members() {
    let settings = PolicySettings { max_queued_joins: 200, ..generous() };
    let mut world = World::with(
        settings,
        "local n = 0
         function on_client_connect() n = n + 1 if n > 1 then sfu.sleep(60000) end return true end
         function on_message(c) c:send('heard') end",
    );
    let member = world.join("member");
    let tickets: Vec<_> = (0..400).map(|n| world.submit(connect(&world, &format!("c{n}")))).collect();
    let status = world.engine.room_status(world.key).unwrap();
    assert_eq!((status.waiting, status.queued_joins, status.queued), (128, 200, 0));
    let refused = "too many people are joining this room at once, please try again";
    assert_eq!(
        world.outcomes(),
        tickets[328..].iter().map(|t| (*t, undecided(Undecided::Crowded, refused))).collect::<Vec<_>>()
    );
    assert_eq!(
        world.message(&member, json!(1)).actions,
        [Action::Send { client: member.id.clone(), value: json!("heard") }]
    );
}

#[test]
fn hooks_beyond_the_bound_begin_when_others_have_ended() {
    let mut world = World::new(
        "function on_client_connect() return true end
         function on_publish_request() sfu.sleep(1000) return true end",
    );
    let clients: Vec<_> = (0..300).map(|n| world.join(&format!("c{n}"))).collect();
    for client in &clients {
        let track = track("t1", client.id.as_str(), Kind::Audio);
        world.submit(HookCall::PublishRequest { client: client.clone(), track });
    }
    assert_eq!(world.outputs(), [], "none fails");
    assert_eq!(world.engine.room_status(world.key).unwrap().waiting, 256);
    world.pass(SECOND * 3);
    let allowed = world.outcomes().into_iter().filter(|(_, verdict)| *verdict == Verdict::Allow).count();
    assert_eq!(allowed, 300);
}

/// What a hook holds while it waits counts towards the room's bound and its person's share, as what is queued does.
#[test]
fn the_message_of_a_hook_that_waits_is_charged_to_the_room_and_to_its_sender() {
    let script = "function on_client_connect(c) c:set_identity(c:get_id():sub(1, 3)) return true end
        function on_message() sfu.sleep(1000) end";
    let mut world = World::new(script);
    let clients: Vec<_> = (0..20).map(|n| world.join(&format!("ann{n}"))).collect();
    let bob = world.join("bob");
    let held = |world: &World| world.engine.room_status(world.key).unwrap().host_bytes;
    let before = held(&world);
    let text = json!("x".repeat(60_000));
    world.submit(message(&clients[0], text.clone()));
    let one = held(&world) - before;
    assert!((60_000..62_000).contains(&one), "{one}");
    for client in &clients[1..] {
        world.submit(message(client, text.clone()));
    }
    world.submit(message(&bob, text));
    let refused = world.outputs().into_iter().filter_map(|output| match output {
        PolicyOutput::Outcome { outcome, .. } => outcome.refused,
        _ => None,
    });
    let reason = "too many of your messages wait for the room's script, please try again";
    assert_eq!(refused.collect::<Vec<_>>(), [reason; 3], "17 are a MiB, and there is room for others");
    world.pass(SECOND * 2);
    assert_eq!(held(&world), before, "all is given back");
}

#[test]
fn too_many_events_are_refused_with_a_reason_and_a_goodbye_never_is() {
    let settings = PolicySettings { max_queued_events: 4, ..generous() };
    let mut world =
        World::with(settings, "function on_client_connect() return true end function on_message() sfu.sleep(1000) end");
    let c = world.join("c1");
    for n in 0..5 {
        world.submit(message(&c, json!(n)));
    }
    assert_eq!(world.outputs(), []);
    let outcome = world.message(&c, json!(5));
    let reason = "too many events wait for the room's script, please try again";
    assert_eq!((outcome.refused.as_deref(), outcome.failed), (Some(reason), false));
    assert_eq!(world.engine.stats().overflows, 1);
    c.presence.set(Presence::Gone);
    world.submit(HookCall::ClientDisconnect { client: c, reason: "bye".into() });
    assert_eq!(world.outputs(), [], "it waits for its turn");
}

#[test]
fn what_the_host_holds_for_a_room_is_bounded() {
    let settings = PolicySettings { host_bytes: 1 << 20, step_budget: Duration::from_secs(1), ..generous() };
    let mut world = World::with(
        settings,
        "function on_client_connect() return true end
         function on_message(c, m)
           if m == 'hold' then for i = 1, 6 do sfu.broadcast(('x'):rep(60000)) end sfu.sleep(60000) end
           if type(m) == 'table' then c:send(#m[1]) end
         end",
    );
    let clients: Vec<_> = (0..10).map(|n| world.join(&format!("c{n}"))).collect();
    let failed: Vec<_> = clients
        .iter()
        .map(|client| {
            world.submit(message(client, json!("hold")));
            world
                .outputs()
                .iter()
                .any(|output| matches!(output, PolicyOutput::Outcome { outcome, .. } if outcome.failed))
        })
        .collect();
    assert_eq!(failed.iter().filter(|failed| **failed).count(), 8, "{failed:?}: two hold 360 kB each");
    let held = world.engine.room_status(world.key).unwrap().host_bytes;
    assert!((720_000..1 << 20).contains(&held), "{held}");
    // The first client's messages queue behind its hook.
    let refused = (0..20).filter(|_| {
        world.submit(message(&clients[0], json!(["y".repeat(50_000)])));
        world.outputs().iter().any(|o| matches!(o, PolicyOutput::Outcome { outcome, .. } if outcome.refused.is_some()))
    });
    assert_eq!(refused.count(), 14, "300 kB are left");
    world.pass(SECOND * 61);
    assert!(world.engine.room_status(world.key).unwrap().host_bytes < 1000, "all is sent and heard");
}

#[test]
fn reasons_and_timers_of_hooks_that_wait_are_held_by_the_host_within_the_same_bound() {
    for asks in [
        "for i = 1, 100 do c:kick(('x'):rep(1000)) end",
        "for i = 1, 100 do c:unpublish('t', ('x'):rep(1000)) end",
        "for i = 1, 100 do c:set_rights({}, ('x'):rep(1000)) end",
        "for i = 1, 100 do sfu.close(('x'):rep(1000)) end",
        "for i = 1, 1000 do sfu.clear(('x'):rep(60)) end",
    ] {
        let settings = PolicySettings { host_bytes: 1 << 20, ..generous() };
        let script =
            format!("function on_client_connect() return true end function on_message(c) {asks} sfu.sleep(60000) end");
        let mut world = World::with(settings, &script);
        for client in (0..100).map(|n| world.join(&format!("c{n}"))).collect::<Vec<_>>() {
            world.submit(message(&client, json!(1)));
        }
        let status = world.engine.room_status(world.key).unwrap();
        assert!((8..=12).contains(&status.waiting), "{asks}: {}, each of which holds some 100 kB", status.waiting);
        assert!(status.host_bytes > 800_000, "{asks}: {}", status.host_bytes);
    }
}

/// Timers need nobody's message, and many can be due at the same time.
#[test]
fn what_hooks_wait_for_is_held_by_the_host_within_the_same_bound() {
    for (asks, fit) in [
        ("sfu.http, { url = 'http://a/', method = 'POST', body = ('x'):rep(100000) }", 10),
        ("sfu.http, { url = 'http://a/', headers = { a = ('x'):rep(8000), b = ('x'):rep(8000) } }", 63),
        ("sfu.store.set, 'key', ('x'):rep(50000)", 20),
        ("sfu.shared.compare_and_set, 'key', ('x'):rep(50000), ('y'):rep(50000)", 10),
    ] {
        let settings = PolicySettings { host_bytes: 1 << 20, ..generous() };
        let mut world = World::with(
            settings,
            &format!(
                "function on_init()
                   for _ = 1, 200 do sfu.set_timeout(1, function() sfu.broadcast({{ pcall({asks}) }}) end) end
                 end"
            ),
        );
        world.pass(Duration::from_millis(1));
        let refused = world.outputs().iter().filter(|o| format!("{o:?}").contains("its requests do not fit")).count();
        let waiting = world.engine.room_status(world.key).unwrap().waiting;
        assert_eq!((waiting, refused), (fit, 200 - fit), "{asks}");
        let held = world.engine.room_status(world.key).unwrap().host_bytes;
        assert!(held < (1 << 20) + 120_000, "{asks}: {held}");
    }
}

#[test]
fn a_response_that_the_room_has_no_memory_for_is_an_error_in_its_place() {
    let mut world = World::new(
        "KEEP = {} for i = 1, 15000 do KEEP[i] = { i } end
         function on_client_connect(c) local r, why = sfu.http('http://a') return false, r and #r.body or why end",
    );
    let ticket = world.submit(connect(&world, "c1"));
    let (id, _) = world.request();
    world.resume(id, http(200, &"x".repeat(900_000)));
    let expected = "the response does not fit into the memory of the room's script";
    assert_eq!(world.outcomes(), [(ticket, Verdict::Reject(expected.into()))]);
}

#[test]
fn nobody_comes_in_while_too_many_goodbyes_wait_for_the_script() {
    let settings = PolicySettings { max_queued_events: 4, ..generous() };
    let mut world = World::with(
        settings,
        "function on_client_connect() return true end function on_client_disconnect() sfu.sleep(60000) end",
    );
    let mut admitted = 0;
    for n in 0..400 {
        let client = client(world.now, &format!("c{n}"));
        let outcome = world.call(HookCall::ClientConnect { client: client.clone(), auth_token: String::new() });
        if outcome.verdict == Verdict::Allow {
            admitted += 1;
            client.presence.set(Presence::Gone);
            world.submit(HookCall::ClientDisconnect { client, reason: "bye".into() });
        } else {
            let reason = "too many events wait for the room's script, please try again";
            assert_eq!(outcome.verdict, undecided(Undecided::Crowded, reason));
        }
    }
    let status = world.engine.room_status(world.key).unwrap();
    assert_eq!((admitted, status.waiting, status.queued), (256 + 4, 256, 4));
}

#[test]
fn what_joins_that_wait_say_of_themselves_counts_for_the_room() {
    let settings = PolicySettings { host_bytes: 1 << 20, ..generous() };
    let mut world = World::with(settings, "function on_client_connect() sfu.sleep(60000) return true end");
    for n in 0..300 {
        let mut facts = client(world.now, &format!("c{n}"));
        Rc::get_mut(&mut facts).unwrap().metadata = json!({ "name": "x".repeat(15_000) }).into();
        world.submit(HookCall::ClientConnect { client: facts, auth_token: String::new() });
    }
    let status = world.engine.room_status(world.key).unwrap();
    assert_eq!(
        (status.waiting, status.queued_joins),
        (128, ((1 << 20) - 128 * 600) / 15_400),
        "of those that are being decided on, only what a wait takes"
    );
}

#[test]
fn a_script_that_keeps_everybody_who_was_there_keeps_a_bounded_number() {
    let mut world = World::new(
        "local kept = {}
         function on_client_connect(c) kept[#kept + 1] = c return true end
         function on_message(c, n) local ok, said = pcall(function() return kept[n]:get_id() end) c:send(said) end",
    );
    let gone: Vec<_> = (1..=1_200).map(|n| world.join(&format!("c{n}"))).collect();
    for client in &gone {
        world.leave(client);
    }
    let asks = world.join("asks");
    for (n, expected) in [(1_200, "c1200"), (200, "c200"), (1, "left long ago")] {
        let said = world.message(&asks, json!(n)).actions;
        assert!(
            matches!(&said[..], [Action::Send { value, .. }] if value.to_string().contains(expected)),
            "{n} {said:?}"
        );
    }
    assert_eq!(Rc::strong_count(&gone[0]), 1, "nothing else keeps it");
}

#[test]
fn a_join_from_elsewhere_is_decided_on_though_a_crowd_of_few_addresses_waits() {
    let mut world = World::new(
        "function on_client_connect(c, token) if token == 'slow' then sfu.sleep(60000) return false end return true end",
    );
    let knock = |world: &mut World, n: u8, ip: [u8; 4], token: &str| {
        let mut facts = client(world.now, &format!("c{n}-{}", ip[3]));
        Rc::get_mut(&mut facts).unwrap().connection.ip = ip.into();
        world.submit(HookCall::ClientConnect { client: facts, auth_token: token.into() });
        world.outcomes()
    };
    for n in 0..200 {
        assert_eq!(knock(&mut world, n, [10, 0, 0, n % 4], "slow"), []);
    }
    let told = knock(&mut world, 0, [192, 0, 2, 1], "quick");
    let crowded = undecided(Undecided::Crowded, "too many people are joining this room at once, please try again");
    assert_eq!(told.iter().map(|(_, verdict)| verdict.clone()).collect::<Vec<_>>(), [crowded.clone(), Verdict::Allow]);
    let status = world.engine.room_status(world.key).unwrap();
    assert_eq!((status.waiting, status.queued_joins), (128, 71), "the next of the crowd has begun");
    assert_eq!(knock(&mut world, 201, [10, 0, 0, 1], "slow"), [], "one of the crowd makes nobody give way");
    let told = knock(&mut world, 1, [192, 0, 2, 2], "slow");
    assert_eq!(told.iter().map(|(_, verdict)| verdict.clone()).collect::<Vec<_>>(), [crowded]);
}

#[test]
fn a_room_has_so_many_counters_whatever_hooks_count_them() {
    let mut world = World::new(
        "function on_client_connect() return true end
         function on_message(c, from)
           for i = from, from + 39 do
             local ok, why = pcall(sfu.count, 'n' .. i)
             if not ok then return c:send({ i, why }) end
           end
           c:send('all')
         end",
    );
    let c = world.join("c1");
    assert_eq!(world.message(&c, json!(1)).actions.len(), 1);
    let outcome = world.message(&c, json!(41));
    assert!(format!("{:?}", outcome.actions).contains("65"), "{outcome:?}");
    assert_eq!(world.engine.room_status(world.key).unwrap().counters.len(), 64);
}
