//! What a script knows of its room's beginning and end.

use super::*;
use crate::client::CloseReason;
use moonring_wire::shared::SharedValue;

#[test]
fn on_close_is_told_why_and_may_wait() {
    let mut world = World::new(
        "function on_close(reason) sfu.webhook('over', reason) sfu.store.set('k', 1) sfu.webhook('kept', reason) end",
    );
    for (reason, word) in
        [(CloseReason::Empty, "empty"), (CloseReason::Closed, "closed"), (CloseReason::Shutdown, "shutdown")]
    {
        world.submit(HookCall::Close { reason });
        let (id, _) = world.request();
        world.resume(id, PolicyReply::Shared(Ok(None)));
        let outputs = world.outputs();
        let [PolicyOutput::Outcome { outcome, .. }] = &outputs[..] else { panic!("{outputs:?}") };
        let webhook = |event: &str| Action::Webhook { event: event.into(), data: json!(word) };
        assert_eq!(outcome.actions, [webhook("over"), webhook("kept")]);
    }
}

#[test]
fn a_room_that_ends_is_never_refused_and_its_failure_is_only_counted() {
    let tight = PolicySettings { max_queued_events: 0, host_bytes: 0, ..generous() };
    for (script, failed, missing) in [
        ("x = 1", false, true),
        ("function on_close() error('boom') end", true, false),
        ("function on_close() end", false, false),
    ] {
        let mut world = World::with(tight.clone(), script);
        let outcome = world.call(HookCall::Close { reason: CloseReason::Empty });
        assert_eq!((outcome.failed, outcome.missing, outcome.refused), (failed, missing, None), "{script}");
        assert_eq!(outcome.verdict, Verdict::Allow);
    }
}

#[test]
fn empty_timeout_is_a_number_of_seconds_within_a_day() {
    let day = Duration::from_secs(86_400);
    for (script, expected) in [
        ("", Duration::ZERO),
        ("EMPTY_TIMEOUT_S = 0", Duration::ZERO),
        ("EMPTY_TIMEOUT_S = 90.5", Duration::from_millis(90_500)),
        ("EMPTY_TIMEOUT_S = 86400", day),
        ("EMPTY_TIMEOUT_S = 1e300", day),
        ("EMPTY_TIMEOUT_S = math.huge", day),
        ("EMPTY_TIMEOUT_S = -1", Duration::ZERO),
        ("EMPTY_TIMEOUT_S = 0/0", Duration::ZERO),
        ("EMPTY_TIMEOUT_S = '60'", Duration::ZERO),
        ("EMPTY_TIMEOUT_S = {}", Duration::ZERO),
        ("setmetatable(_G, { __index = function() return 60 end })", Duration::ZERO),
    ] {
        let world = World::new(&format!("{script}\nfunction on_client_connect() return true end"));
        assert_eq!(world.engine.empty_timeout(world.key), expected, "{script}");
    }
}

#[test]
fn a_reload_says_anew_how_long_the_room_is_kept() {
    let mut world = World::new("EMPTY_TIMEOUT_S = 60");
    world.reload("EMPTY_TIMEOUT_S = 5").unwrap();
    assert_eq!(world.engine.empty_timeout(world.key), Duration::from_secs(5));
    world.reload("error('no')").unwrap_err();
    assert_eq!(world.engine.empty_timeout(world.key), Duration::from_secs(5));
    world.engine.close_room(world.now, world.key);
    assert_eq!(world.engine.empty_timeout(world.key), Duration::ZERO);
}

#[test]
fn a_script_finds_what_was_said_of_its_room_also_after_a_reload() {
    let script = "local at_start = sfu.json.encode(sfu.room.metadata)
        function on_init() assert(sfu.room.metadata) end
        function on_client_connect() return true end
        function on_message(c) c:send({ at_start, sfu.room.id, sfu.room.opened, sfu.room.metadata }) sfu.room.metadata.plan = nil end";
    let mut engine = PolicyEngine::new(generous(), 7);
    let now = Instant::now();
    engine.set_clock(now, Duration::from_secs(1_786_000_000));
    let metadata = SharedValue::from(json!({ "plan": "gold" }));
    let key = engine.open_room_with(now, &room("demo"), Ok(compiled(script)), metadata).unwrap();
    let mut world = World { engine, now, key };
    let c = world.join("c1");
    for _ in 0..2 {
        let expected = json!(["{\"plan\":\"gold\"}", "demo", 1_786_000_000, { "plan": "gold" }]);
        assert_eq!(world.eval(&c, "x"), expected);
        world.now += Duration::from_secs(5);
        world.reload(script).unwrap();
    }
    let mut world = World::new(script);
    let c = world.join("c1");
    assert_eq!(world.eval(&c, "x")[3], json!({}));
}

#[test]
fn a_reload_cuts_off_an_on_close_that_waits_too_long() {
    let mut world = World::new("function on_close() sfu.sleep(60000) end");
    let ticket = world.submit(HookCall::Close { reason: CloseReason::Empty });
    world.engine.reload(world.now, world.key, compiled("function on_close() end"));
    world.pass(Duration::from_secs(2));
    assert_eq!(world.outcomes(), [(ticket, Verdict::Allow)]);
}
