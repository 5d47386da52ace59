//! Who clients are, what they may do, and what is said of them.

use super::*;
use crate::client::{Announced, Connection, RightsChange, Via};
use moonring_wire::rights::{Rights, Sources};

/// A room whose `on_message` runs the function of that name in `T` on the sender.
fn world(functions: &str) -> World {
    World::new(&format!(
        "function on_client_connect() return true end
         T = {{ {functions} }}
         function on_message(c, m) local f = T[m] if f then f(c) end end"
    ))
}

/// What a function asks for, or its error.
fn asked(function: &str) -> Result<Vec<Action>, String> {
    let mut world = World::new(&format!(
        "function on_client_connect() return true end
         function on_message(c, m)
           local ok, why = pcall(function() {function} end)
           if not ok then c:send(tostring(why)) end
         end"
    ));
    let c = world.join("c1");
    let outcome = world.message(&c, json!(1));
    match &outcome.actions[..] {
        [Action::Send { value: Value::String(why), .. }] => Err(why.split_once(": ").unwrap().1.to_owned()),
        _ => Ok(outcome.actions),
    }
}

fn c1() -> ClientId {
    ClientId::parse("c1").unwrap()
}

fn rights(change: RightsChange, reason: &str) -> Action {
    Action::SetRights { client: c1(), change, reason: reason.into() }
}

#[test]
fn what_a_script_gives_and_takes_is_asked_of_the_room() {
    let track = || TrackId::parse("t1").unwrap();
    let ended = || "The room has ended it".to_owned();
    let changed = "Your rights have changed";
    let none = RightsChange::default();
    for (function, expected) in [
        ("c:set_rights({})", rights(none, changed)),
        ("c:set_rights({ publish = false })", rights(RightsChange { publish: Some(Sources::NONE), ..none }, changed)),
        ("c:set_rights({ publish = {} })", rights(RightsChange { publish: Some(Sources::NONE), ..none }, changed)),
        (
            "c:set_rights({ publish = true, subscribe = false, message = true }, 'Be quiet')",
            rights(
                RightsChange { publish: Some(Sources::ALL), subscribe: Some(false), message: Some(true) },
                "Be quiet",
            ),
        ),
        (
            "c:set_rights({ publish = { 'screen', 'microphone' } })",
            rights(
                RightsChange { publish: Some([Source::Microphone, Source::Screen].into_iter().collect()), ..none },
                changed,
            ),
        ),
        (
            "c:set_rights(c:rights())",
            rights(RightsChange { publish: Some(Sources::ALL), subscribe: Some(true), message: Some(true) }, changed),
        ),
        ("c:unpublish('t1')", Action::Unpublish { client: c1(), track: track(), reason: ended() }),
        ("c:unpublish({ id = 't1' }, 'No')", Action::Unpublish { client: c1(), track: track(), reason: "No".into() }),
        ("c:unsubscribe('t1')", Action::Unsubscribe { client: c1(), track: track(), reason: ended() }),
        ("c:set_hidden(false)", Action::SetHidden { client: c1(), hidden: false }),
        (
            "c:set_attributes({ role = 'host', list = {}, tags = { 1 } })",
            Action::SetAttributes { client: c1(), attributes: json!({ "role": "host", "list": {}, "tags": [1] }) },
        ),
        (
            "c:set_attributes(setmetatable({}, { __index = error, __pairs = error, __len = error, __next = error }))",
            Action::SetAttributes { client: c1(), attributes: json!({}) },
        ),
        ("c:set_attributes({})", Action::SetAttributes { client: c1(), attributes: json!({}) }),
        ("c:set_attributes(sfu.json.decode('[]'))", Action::SetAttributes { client: c1(), attributes: json!({}) }),
        ("sfu.announce('publishers')", Action::Announce { who: Announced::Publishers }),
        ("sfu.announce('none')", Action::Announce { who: Announced::Nobody }),
    ] {
        assert_eq!(asked(function), Ok(vec![expected]), "{function}");
    }
}

#[test]
fn what_makes_no_sense_is_named() {
    let deep = "local t = {} for i = 1, 9 do t = { a = t } end c:set_attributes(t)";
    let many = "local t = {} for i = 1, 600 do t['k' .. i] = i end c:set_attributes(t)";
    let own = "local t = {} t.t = t c:set_attributes(t)";
    for (function, words) in [
        ("c:set_rights()", "bad argument 'rights' to 'client:set_rights' (table expected, got nil)"),
        ("c:set_rights(true)", "'rights' to 'client:set_rights' (table expected, got boolean)"),
        ("c:set_rights({ publsh = true })", "(it has other names than publish, subscribe and message)"),
        ("c:set_rights({ 'publish' })", "(a table with the names publish, subscribe and message expected)"),
        (
            "c:set_rights({ publish = 0/0 })",
            "'rights.publish' to 'client:set_rights' (true, false or a list of sources",
        ),
        (
            "c:set_rights({ publish = { 'camra' } })",
            "(the sources are camera, microphone, screen, screen_audio, other)",
        ),
        ("c:set_rights({ publish = { 7 } })", "(the sources are camera,"),
        (
            "local t = {} for i = 1, 1e4 do t[i] = 'camera' end c:set_rights({ publish = t })",
            "(more sources than there are)",
        ),
        ("c:set_rights({ subscribe = 1 })", "'rights.subscribe' to 'client:set_rights' (boolean expected, got number)"),
        ("c:set_rights({}, ('x'):rep(2000))", "'reason' to 'client:set_rights' (2000 bytes long, at most 1024"),
        ("c:set_rights({}, {})", "'reason' to 'client:set_rights' (string expected, got table)"),
        (
            "c.set_rights({})",
            "bad argument 'self' to 'client:set_rights' (client expected); methods are called with ':'",
        ),
        ("c:unpublish()", "'track' to 'client:unpublish' (track or track id expected, got nil)"),
        ("c:unsubscribe('../x')", "'track' to 'client:unsubscribe' (the track id"),
        ("c:unpublish('t', 0/0)", "'reason' to 'client:unpublish' (string expected, got number)"),
        ("c:set_hidden()", "'hidden' to 'client:set_hidden' (boolean expected, got nil)"),
        ("c:set_hidden(true)", "client:set_hidden can hide a client in on_client_connect only"),
        ("c:set_identity('me')", "client:set_identity can be called in on_client_connect only"),
        ("c:set_identity('')", "'identity' to 'client:set_identity' (one character at least, and no control"),
        ("c:set_identity('a\\nb')", "(one character at least, and no control characters)"),
        ("c:set_identity('\\255')", "(not valid UTF-8)"),
        ("c:set_identity(('x'):rep(257))", "(257 bytes long, at most 256 are allowed)"),
        ("c:set_attributes()", "'attributes' to 'client:set_attributes' (table expected, got nil)"),
        ("c:set_attributes('x')", "(table expected, got string)"),
        ("c:set_attributes(sfu.json.empty_array)", "(table expected, got userdata)"),
        ("c:set_attributes({ 1, 2 })", "(a table with names expected, got a list)"),
        ("c:set_attributes({ a = 0/0 })", "value.a: NaN"),
        ("c:set_attributes({ a = print })", "value.a: a function"),
        ("c:set_attributes({ a = ('x'):rep(20000) })", "larger than 16384 bytes"),
        (deep, "nested more than 8 tables deep"),
        (many, "more than 512 values"),
        (own, "a table that contains itself"),
        ("sfu.announce()", "bad argument 'who' to 'sfu.announce' (string expected, got nil)"),
        ("sfu.announce('everybody')", "(\"all\", \"publishers\" or \"none\" expected)"),
        ("sfu.announce(('x'):rep(99))", "at most 64"),
    ] {
        let why = asked(function).unwrap_err();
        assert!(why.contains(words), "{function}: {why}");
    }
}

#[test]
fn actions_on_somebody_who_has_left_do_nothing_and_say_so() {
    let mut world = world(
        "keep = function(c) K = c end,
         act = function(c)
           local function all(...) local ok, why = ... c:send({ ok, why }) end
           all(K:set_rights({ publish = false }))
           all(K:set_attributes({ a = 1 }))
           all(K:set_hidden(true))
           all(K:unpublish('t'))
           all(K:unsubscribe('t'))
           all(K:set_identity('x'))
         end,
         look = function(c)
           c:send({ K:identity(), K:attributes(), K:rights(), K:is_hidden(), K:connection().ip })
         end",
    );
    let (gone, c) = (world.join("gone"), world.join("c1"));
    world.message(&gone, json!("keep"));
    world.leave(&gone);
    let outcome = world.message(&c, json!("act"));
    let said = Action::Send { client: c.id.clone(), value: json!([false, "client has left"]) };
    assert_eq!(outcome.actions, vec![said; 6]);
    let all = ["camera", "microphone", "screen", "screen_audio", "other"];
    let rights = json!({ "publish": all, "subscribe": true, "message": true });
    assert_eq!(world.eval(&c, "look"), json!(["gone", {}, rights, false, "192.0.2.7"]));
}

#[test]
fn a_script_sees_the_request_that_a_client_has_come_with() {
    let script = "function on_client_connect(c) local r = c:connection() r.kind = r.kind .. '!' c:send(c:connection()) return true end";
    let headers = vec![("x-tenant".to_owned(), "acme".to_owned())];
    let whole = Connection {
        ip: [192, 0, 2, 9].into(),
        via: Via::Whep,
        origin: Some("https://a.example".into()),
        user_agent: Some("vlc".into()),
        headers,
    };
    for (connection, expected) in [
        (
            whole,
            json!({ "kind": "whep", "ip": "192.0.2.9", "origin": "https://a.example", "user_agent": "vlc",
                "headers": { "x-tenant": "acme" } }),
        ),
        (Connection::from([0, 0, 0, 0, 0, 0, 0, 1]), json!({ "kind": "websocket", "ip": "::1", "headers": {} })),
    ] {
        let mut world = World::new(script);
        let client = Rc::new(ClientFacts::new(c1(), connection, json!({}).into(), world.now));
        let outcome = world.call(HookCall::ClientConnect { client, auth_token: String::new() });
        assert_eq!(outcome.actions, [Action::Send { client: c1(), value: expected }]);
    }
}

#[test]
fn an_identity_is_set_once_in_the_hook_that_lets_the_client_in() {
    let mut world = World::new(
        "function on_client_connect(c, token)
           assert(c:identity() == c:get_id())
           c:set_identity(token) c:set_identity(token)
           return not pcall(c.set_identity, c, 'another')
         end
         function on_message(c) c:send(c:identity()) end",
    );
    let c = world.join("c1");
    assert_eq!((c.identity(), world.eval(&c, "x")), ("good", json!("good")));
    let unnamed = client(world.now, "c2");
    assert_eq!(unnamed.identity(), "c2");
}

#[test]
fn getters_give_the_script_tables_of_its_own() {
    let mut world = world(
        "spoil = function(c)
           local a, r = c:attributes(), c:rights()
           a.role, r.subscribe, r.publish[1] = 'king', false, 'x'
           c:send({ c:attributes(), c:rights().subscribe, c:rights().publish })
         end",
    );
    let c = world.join("c1");
    c.attributes.replace(json!({ "role": "pawn" }).into());
    c.rights.set(Rights { publish: [Source::Camera].into_iter().collect(), ..Rights::default() });
    assert_eq!(world.eval(&c, "spoil"), json!([{ "role": "pawn" }, true, ["camera"]]));
}

#[test]
fn what_a_client_is_and_may_do_crosses_a_reload() {
    let script = "function on_client_connect(c) if not c:is_hidden() then c:set_identity('ada') end return true end
         function on_message(c) c:send({ c:identity(), c:attributes(), c:rights().message, c:is_hidden() }) end";
    let mut world = World::new(script);
    let c = world.join("c1");
    c.attributes.replace(json!({ "role": "host" }).into());
    c.rights.set(Rights { message: false, ..Rights::default() });
    c.is_hidden.set(true);
    for _ in 0..2 {
        assert_eq!(world.eval(&c, "x"), json!(["ada", { "role": "host" }, false, true]));
        world.reload(script).unwrap();
    }
}

#[test]
fn a_hook_of_any_kind_and_a_timer_may_give_and_take() {
    let body = "for _, c in ipairs(sfu.clients()) do c:set_rights({ publish = false }) c:set_attributes({ n = 1 }) end";
    let hooks = ["on_message", "on_publish_request", "on_track_published", "on_subscribe_request", "on_admin"];
    let functions = hooks.map(|hook| format!("function {hook}() {body} return true end\n"));
    let mut world = World::new(&format!(
        "function on_client_connect() return true end\n{}
         function on_active_speakers() sfu.set_timeout(1, function() {body} end) end",
        functions.concat()
    ));
    let c = world.join("c1");
    let track = track("t1", "c1", Kind::Audio);
    for call in [
        HookCall::Message { client: c.clone(), message: json!(1) },
        HookCall::PublishRequest { client: c.clone(), track: track.clone() },
        HookCall::TrackPublished { client: c.clone(), track: track.clone() },
        HookCall::SubscribeRequest { client: c.clone(), track },
        HookCall::Admin { request: json!(1) },
    ] {
        let name = call.name();
        assert_eq!(world.call(call).actions.len(), 2, "{name}");
    }
    world.call(HookCall::ActiveSpeakers { clients: vec![c] });
    world.pass(Duration::from_millis(5));
    assert!(matches!(&world.outputs()[..], [PolicyOutput::Actions { actions, .. }] if actions.len() == 2));
}
