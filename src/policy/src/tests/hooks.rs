//! POLICY.md's table of hooks, row by row.

use super::*;
use crate::client::CloseReason;
use crate::hook::{DENIED, NOT_DEFINED};

/// Lets everybody in; a test adds the hook it is about.
const OPEN: &str = "function on_client_connect() return true end\n";

fn all_calls(client: &Rc<ClientFacts>) -> Vec<HookCall> {
    let track = || track("t1", "c1", Kind::Video);
    vec![
        HookCall::ClientConnect { client: client.clone(), auth_token: "x".into() },
        HookCall::PublishRequest { client: client.clone(), track: track() },
        HookCall::SubscribeRequest { client: client.clone(), track: track() },
        HookCall::TrackPublished { client: client.clone(), track: track() },
        HookCall::TrackUnpublished { client: client.clone(), track: track() },
        HookCall::Message { client: client.clone(), message: json!("hi") },
        HookCall::ActiveSpeakers { clients: vec![client.clone()] },
        HookCall::Close { reason: CloseReason::Empty },
    ]
}

#[test]
fn a_missing_hook_has_its_stated_default() {
    let mut world = World::new("x = 1");
    let client = client(world.now, "c1");
    for call in all_calls(&client) {
        let name = call.name();
        let expected = match name {
            "on_client_connect" | "on_publish_request" => Verdict::Reject(NOT_DEFINED.into()),
            _ => Verdict::Allow,
        };
        let outcome = world.call(call);
        assert_eq!(
            outcome,
            Outcome { verdict: expected, actions: vec![], failed: false, missing: true, refused: None, answer: None },
            "{name}"
        );
    }
    assert_eq!(client.presence.get(), Presence::Pending);
}

#[test]
fn a_failing_hook_rejects_or_is_only_counted() {
    let hooks = all_calls(&client(Instant::now(), "c1"));
    let functions = hooks.iter().map(|call| format!("function {}(c) sfu.close('x') error('boom') end\n", call.name()));
    let mut world = World::new(&functions.collect::<String>());
    let client = client(world.now, "c1");
    for call in all_calls(&client) {
        let name = call.name();
        let expected = match name {
            "on_client_connect" | "on_publish_request" | "on_subscribe_request" => failing(),
            _ => Verdict::Allow,
        };
        let outcome = world.call(call);
        assert_eq!(
            outcome,
            Outcome { verdict: expected, actions: vec![], failed: true, missing: false, refused: None, answer: None },
            "{name}"
        );
    }
    assert_eq!(world.engine.stats().errors, hooks.len() as u64);
}

#[test]
fn only_the_boolean_true_allows() {
    for (returned, expected) in [
        ("true", Verdict::Allow),
        ("true, 'ignored'", Verdict::Allow),
        ("1", Verdict::Reject(DENIED.into())),
        ("'true'", Verdict::Reject(DENIED.into())),
        ("{}", Verdict::Reject(DENIED.into())),
        ("nil", Verdict::Reject(DENIED.into())),
        ("", Verdict::Reject(DENIED.into())),
        ("false, 'no seat'", Verdict::Reject("no seat".into())),
        ("nil, 'no seat'", Verdict::Reject("no seat".into())),
        ("false, 42", Verdict::Reject(DENIED.into())),
        ("false, {}", Verdict::Reject(DENIED.into())),
        ("false, '\\255'", Verdict::Reject("\u{fffd}".into())),
    ] {
        let mut world = World::new(&format!("function on_client_connect() return {returned} end"));
        let client = client(world.now, "c1");
        let outcome = world.call(HookCall::ClientConnect { client, auth_token: String::new() });
        assert_eq!((outcome.verdict, outcome.failed), (expected, false), "return {returned}");
    }
}

#[test]
fn a_hook_cannot_yield_the_engines_words_but_a_coroutine_of_its_own_yields_what_it_likes() {
    let mut world = World::new(
        "function on_client_connect()
           local ok, words = pcall(coroutine.yield, 1)
           local co = coroutine.wrap(function() for n = 0, 4 do coroutine.yield(n) end end)
           local sum = co() + co() + co() + co() + co()
           return false, tostring(ok) .. ' ' .. words .. ' ' .. sum
         end
         function on_publish_request() coroutine.yield(1) return true end",
    );
    let client = client(world.now, "c1");
    let connect = HookCall::ClientConnect { client: client.clone(), auth_token: String::new() };
    for _ in 0..2 {
        let words = "false attempt to yield outside of a coroutine 10";
        assert_eq!(world.call(connect.clone()).verdict, Verdict::Reject(words.into()));
        let publish = HookCall::PublishRequest { client: client.clone(), track: track("t1", "c1", Kind::Video) };
        assert_eq!(world.call(publish).verdict, failing());
    }
}

#[test]
fn hooks_get_what_the_contract_says() {
    let mut world = World::new(
        "function on_client_connect(c, token) return false, c:get_id() .. ' ' .. c:get_ip() .. ' ' .. token end
         function on_publish_request(c, t)
           return false, table.concat({ t.id, t.client_id, t.kind, t.source, t.quality, t.simulcast, t.codecs[1] }, ' ')
         end
         function on_subscribe_request(c, t) return false, t.id .. ' ' .. tostring(t.muted) end",
    );
    let client = client(world.now, "c1");
    let mut words = |call| world.call(call).verdict.reason().unwrap_or("allowed").to_owned();
    let track = track("t1", "c1", Kind::Video);
    let connect = HookCall::ClientConnect { client: client.clone(), auth_token: "tok".into() };
    assert_eq!(words(connect), "c1 192.0.2.7 tok");
    let publish = HookCall::PublishRequest { client: client.clone(), track: track.clone() };
    assert_eq!(words(publish), "t1 c1 video camera fhd 3 VP8");
    assert_eq!(words(HookCall::SubscribeRequest { client, track }), "t1 false");
}

#[test]
fn who_is_allowed_is_counted_by_the_next_hook() {
    let mut world = World::new(
        "function on_client_connect() if #sfu.clients() >= 2 then return false, 'full' end return true end
         function on_client_disconnect() sfu.broadcast(#sfu.clients()) end",
    );
    let (first, _second) = (world.join("c1"), world.join("c2"));
    let third = client(world.now, "c3");
    let connect = |client: &Rc<ClientFacts>| HookCall::ClientConnect { client: client.clone(), auth_token: "".into() };
    assert_eq!(world.call(connect(&third)).verdict, Verdict::Reject("full".into()));
    let outcome = world.leave(&first);
    assert_eq!(outcome.actions, [Action::Broadcast { value: json!(1), except: None }], "who leaves is not counted");
    assert_eq!(world.call(connect(&third)).verdict, Verdict::Allow);
}

#[test]
fn actions_come_in_order_and_only_from_hooks_that_end_well() {
    let script = "function on_message(c, m)
        c:send(m) c:kick('out') sfu.broadcast({ a = 1 }, c) sfu.close('done') c:mute('t1') c:unmute({ id = 't1' })
        sfu.set_audio_last_n(3) sfu.set_audio_last_n()
        c:set_max_bitrate(500000) c:set_max_layer('t1', 1) c:set_max_layer('t1') c:set_max_bitrate()
        c:set_priority('t1', 7) c:set_priority('t1')
        if m == 'fail' then error('late') end
      end";
    let mut world = World::new(&format!("{OPEN}{script}"));
    let client = world.join("c1");
    let (id, t1) = (client.id.clone(), TrackId::parse("t1").unwrap());
    let outcome = world.message(&client, json!({ "x": [1, null, "y"] }));
    let expected = [
        Action::Send { client: id.clone(), value: json!({ "x": [1, null, "y"] }) },
        Action::Kick { client: id.clone(), reason: "out".into() },
        Action::Broadcast { value: json!({ "a": 1 }), except: Some(id.clone()) },
        Action::CloseRoom { reason: "done".into() },
        Action::SetMuted { client: id.clone(), track: t1.clone(), muted: true },
        Action::SetMuted { client: id.clone(), track: t1.clone(), muted: false },
        Action::SetAudioLastN { n: Some(3) },
        Action::SetAudioLastN { n: None },
        Action::SetMaxBitrate { client: id.clone(), bps: Some(500_000) },
        Action::SetMaxLayer { client: id.clone(), track: t1.clone(), layer: Some(1) },
        Action::SetMaxLayer { client: id.clone(), track: t1.clone(), layer: None },
        Action::SetMaxBitrate { client: id.clone(), bps: None },
        Action::SetPriority { client: id.clone(), track: t1.clone(), priority: Some(7) },
        Action::SetPriority { client: id, track: t1, priority: None },
    ];
    assert_eq!((outcome.failed, outcome.actions.as_slice()), (false, &expected[..]));
    let outcome = world.message(&client, json!("fail"));
    assert_eq!((outcome.failed, outcome.actions), (true, vec![]));
}

#[test]
fn a_client_that_left_is_inert() {
    let script = "local kept
        function on_message(c, m)
          kept = kept or c
          if m == 'try' then
            local ok, why = kept:kick('x')
            sfu.broadcast({ kept:get_id(), kept:get_ip(), kept:get_metadata().name, ok, why, sfu.client('c1') == nil,
              kept:stats().bytes_in, #kept:tracks() })
          end
        end";
    let mut world = World::new(&format!("{OPEN}{script}"));
    let (first, second) = (world.join("c1"), world.join("c2"));
    world.message(&first, json!("keep"));
    world.leave(&first);
    let outcome = world.message(&second, json!("try"));
    let value = json!(["c1", "192.0.2.7", "c1", false, "client has left", true, 0, 0]);
    assert_eq!(outcome.actions, [Action::Broadcast { value, except: None }]);
}

#[test]
fn a_room_whose_script_fails_at_its_start_is_not_opened() {
    for (script, _why) in [
        ("error('boom')", "main chunk"),
        ("function on_init() error('boom') end", "on_init"),
        ("function on_init() while true do end end", "time"),
        ("while true do end", "time"),
        ("t = {} for i = 1, 1e9 do t[i] = i end", "memory"),
        ("function on_init() sfu.sleep(5) end", "cannot wait"),
    ] {
        assert_eq!(
            World::try_with(generous(), script).err().map(|error| error.reason()),
            Some(SCRIPT_ERROR),
            "{script}"
        );
    }
    let mut engine = PolicyEngine::new(generous(), 1);
    let missing = crate::library::ResolveError::Missing("room.lua".into());
    let opened = engine.open_room(Instant::now(), &room("demo"), Err(missing));
    assert_eq!(opened.map_err(|error| error.reason()), Err(SCRIPT_ERROR));
}

#[test]
fn what_on_init_asks_for_is_done_once_the_room_is_open() {
    let mut world = World::new("function on_init() sfu.broadcast('hello') end");
    let actions = vec![Action::Broadcast { value: json!("hello"), except: None }];
    let key = world.key;
    assert_eq!(world.outputs(), [PolicyOutput::Actions { key, actions }]);
}

#[test]
fn a_script_that_fails_again_and_again_is_suspended() {
    let settings = PolicySettings { strikes: 3, ..generous() };
    let named = "function on_client_connect(c) c:set_identity(c:get_id()) return true end";
    let mut world = World::with(settings, &format!("{named} function on_message() error('boom') end"));
    let member = world.join("c1");
    for id in ["d1", "d2"] {
        world.message(&member, json!(1));
        let other = world.join(id);
        world.message(&other, json!(1));
    }
    let status = world.engine.room_status(world.key).unwrap();
    assert!(status.is_suspended);
    let newcomer = client(world.now, "c9");
    let outcome = world.call(HookCall::ClientConnect { client: newcomer, auth_token: "".into() });
    assert_eq!(outcome.verdict, failing());
    assert_eq!(member.presence.get(), Presence::Joined, "members stay");
    world.reload(OPEN).unwrap();
    world.join("c3");
}

#[test]
fn a_room_that_used_its_share_waits_for_more() {
    let (cpu_burst, step_budget) = (Duration::from_millis(4), Duration::from_millis(5));
    let settings = PolicySettings { cpu_burst, step_budget, cpu_share: 0.02, strikes: 0, ..generous() };
    let mut world = World::with(settings, &format!("{OPEN}function on_message(c, m) while true do end end"));
    let client = world.join("c1");
    assert!(world.message(&client, json!(1)).failed);
    let ticket = world.submit(HookCall::Message { client, message: json!(2) });
    assert_eq!(world.outputs(), [], "its bucket is empty");
    world.pass(Duration::from_millis(20));
    assert_eq!(world.outputs(), []);
    world.pass(Duration::from_secs(5));
    assert_eq!(world.outcomes(), [(ticket, Verdict::Allow)]);
    assert_eq!(world.engine.stats().kills, 2);
}

#[test]
fn what_cannot_wait_says_which_function_does_and_where_it_may_be_called() {
    for (script, expected) in [
        (
            "local function get() local v = sfu.store.get('k') return v end function on_init() get() end",
            "on_init: room.lua:1: on_init cannot wait, and sfu.store does: call it from a timer (sfu.set_timeout), or from a \
             hook that may wait",
        ),
        ("sfu.sleep(1)", "main chunk: room.lua:1: main chunk cannot wait, and sfu.sleep does: call it from a timer"),
    ] {
        let error = World::try_with(generous(), script).err().map(|error| error.to_string()).unwrap_or_default();
        assert!(error.contains(expected), "{error}");
    }
}
