//! The functions scripts call: what they answer, and what they say to wrong arguments.

use std::sync::mpsc::channel;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rand::rngs::StdRng;
use rand::{RngCore, SeedableRng};

use super::*;
use crate::tape::line::Line;
use crate::tape::{Delivery, Depth, Sink};

/// Runs Lua lines that assert; the room's secret ways to fail are their messages.
fn assert_lua(lines: &str) {
    let mut world = World::new(&format!(
        "function on_client_connect() return true end
         local function fails(f, ...)
           local ok, message = pcall(f, ...)
           assert(not ok, 'it did not fail')
           return message
         end
         function on_message(c, m)
           local ok, message = pcall(function()
             {lines}
           end)
           c:send(ok or message)
         end"
    ));
    let c = world.join("c1");
    assert_eq!(world.eval(&c, "m"), json!(true), "{lines}");
}

#[test]
fn an_id_that_no_client_can_have_is_nobodys() {
    let mut world = World::new(
        "function on_client_connect() return true end
         function on_message(c) c:send({ sfu.client(('x'):rep(65)) == nil, sfu.client('\\255') == nil }) end",
    );
    let c = world.join("c1");
    assert_eq!(world.eval(&c, "m"), json!([true, true]));
}

#[test]
fn json_is_written_and_read() {
    for line in [
        "assert(sfu.json.encode({ 1, 2, 'a' }) == '[1,2,\"a\"]')",
        "assert(sfu.json.encode({ a = sfu.json.null }) == '{\"a\":null}')",
        "assert(sfu.json.encode(sfu.json.empty_array) == '[]' and sfu.json.encode({}) == '{}')",
        "local t = sfu.json.decode('{\"a\":[1,{\"b\":null}]}') assert(t.a[2].b == sfu.json.null and t.a[1] == 1)",
        "local t, why = sfu.json.decode('{') assert(t == nil and type(why) == 'string')",
        "assert(fails(sfu.json.encode, { a = print }):find('value.a: a function', 1, true))",
        "assert(fails(sfu.json.encode, 0/0):find('NaN', 1, true))",
        "assert(fails(sfu.json.encode, '\\255'):find('UTF-8', 1, true))",
        "assert(fails(sfu.json.decode, 7):find(\"bad argument 'text' to 'sfu.json.decode' (string expected, got number)\", 1, true))",
    ] {
        assert_lua(line);
    }
}

#[test]
fn bytes_are_encoded_and_hashed() {
    for line in [
        "assert(sfu.base64.encode('a\\0\\255') == 'YQD/')",
        "assert(sfu.base64.encode('a\\0\\255', true) == 'YQD_')",
        "assert(sfu.base64.decode('YQD/') == 'a\\0\\255' and sfu.base64.decode('YQD_') == 'a\\0\\255')",
        "assert(sfu.base64.decode('YQ') == 'a' and sfu.base64.decode('YQ==') == 'a' and sfu.base64.decode('?') == nil)",
        "assert(sfu.sha256('abc') == 'ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad')",
        // RFC 4231 section 4.3.
        "assert(sfu.hmac_sha256('Jefe', 'what do ya want for nothing?') ==
           '5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843')",
        "assert(fails(sfu.sha256):find(\"'data'\", 1, true))",
        "assert(fails(sfu.hmac_sha256, {}, 'x'):find(\"'key'\", 1, true))",
    ] {
        assert_lua(line);
    }
}

#[test]
fn time_is_the_engines() {
    for line in [
        "assert(sfu.now() == 1786000000 and os.time() == 1786000000 and os.clock() == 0)",
        "assert(os.date('!%Y-%m-%dT%H:%M:%SZ') == '2026-08-06T07:06:40Z')",
        "assert(os.date('%c', 0) == 'Thu Jan 01 00:00:00 1970')",
        "local t = os.date('*t') assert(t.year == 2026 and t.wday == 5 and t.isdst == false and os.time(t) == os.time())",
        "assert(os.time({ year = 2000, month = 14, day = -3 }) == os.time({ year = 2001, month = 1, day = 28 }))",
        "assert(fails(os.time, {}):find('year', 1, true))",
        "assert(fails(os.date, '%c', 0/0):find(\"'time'\", 1, true))",
        "assert(fails(os.date, ('x'):rep(300)):find('256', 1, true))",
    ] {
        assert_lua(line);
    }
}

#[test]
fn wrong_arguments_are_named() {
    for (call, words) in [
        ("C.kick, C, {}", "bad argument 'reason' to 'client:kick' (string expected, got table)"),
        ("C.kick, C, ('x'):rep(2000)", "'reason' to 'client:kick' (2000 bytes long, at most 1024 are allowed)"),
        ("C.kick, C, '\\255'", "'reason' to 'client:kick' (not valid UTF-8)"),
        ("C.kick, {}", "'self' to 'client:kick' (client expected); methods are called with ':'"),
        ("C.send, C, print", "'value' to 'client:send' (value: a function can't become JSON)"),
        ("C.send, C, C", "'value' to 'client:send' (value: a client can't become JSON: take its id, client:get_id())"),
        ("C.send, C, ('x'):rep(70000)", "'value' to 'client:send' (value: larger than 65536 bytes)"),
        ("C.set_max_bitrate, C, -1", "'bps' to 'client:set_max_bitrate' (-1 is not within 0 and 100000000000)"),
        ("C.set_max_bitrate, C, 0/0", "'bps' to 'client:set_max_bitrate' (NaN is not within"),
        (
            "C.set_max_bitrate, C, 1.5",
            "'bps' to 'client:set_max_bitrate' (1.5 is not a whole number; math.floor makes one of it)",
        ),
        ("C.set_max_bitrate, C, '1'", "'bps' to 'client:set_max_bitrate' (number expected, got string)"),
        ("C.set_max_layer, C, 't1', 256", "'n' to 'client:set_max_layer' (256 is not within"),
        ("C.set_priority, C, 't1', -1", "'n' to 'client:set_priority' (-1 is not within"),
        ("C.set_max_layer, C, nil, 1", "'track' to 'client:set_max_layer' (track or track id expected, got nil)"),
        ("C.mute, C, 'a/b'", "'track' to 'client:mute' (the track id has the character '/'"),
        ("C.mute, C, {}", "'track' to 'client:mute' (track or track id expected, got table)"),
        ("C.unmute, C, ''", "'track' to 'client:unmute' (the track id is empty)"),
        ("sfu.broadcast, 'x', {}", "'except' to 'sfu.broadcast' (client expected)"),
        ("sfu.broadcast, sfu, 'x'", "; it is called with '.', as in sfu.broadcast(...)"),
        (
            "sfu.store.set, sfu.store, 'k', 'v'",
            "(number expected, got string); it is called with '.', as in sfu.store.set(...)",
        ),
        ("sfu.json.encode, sfu.json, {}", "; it is called with '.', as in sfu.json.encode(...)"),
        ("C.kick, C, C", "'reason' to 'client:kick' (string expected, got client)"),
        ("sfu.client, 7", "'id' to 'sfu.client' (string expected, got number)"),
        ("sfu.set_audio_last_n, 0", "'n' to 'sfu.set_audio_last_n' (0 is not within 1 and 1000)"),
        ("sfu.set_audio_last_n, 1001", "'n' to 'sfu.set_audio_last_n' (1001 is not within 1 and 1000)"),
        (
            "sfu.set_audio_last_n, 1.5",
            "'n' to 'sfu.set_audio_last_n' (1.5 is not a whole number; math.floor makes one of it)",
        ),
        ("sfu.set_audio_last_n, 'x'", "'n' to 'sfu.set_audio_last_n' (number expected, got string)"),
        ("sfu.close, {}", "'reason' to 'sfu.close' (string expected, got table)"),
        ("sfu.webhook, 'a b'", "'event' to 'sfu.webhook' (letters, digits, '_', '.' and '-' only)"),
        ("sfu.webhook, 'a', print", "'data' to 'sfu.webhook' (value: a function can't become JSON)"),
        ("sfu.count, 'a b'", "'name' to 'sfu.count' (letters, digits and '_' only)"),
        ("sfu.count, 'a', -1", "'n' to 'sfu.count' (-1 is not within"),
        ("sfu.set_timeout, 'x', print", "'ms' to 'sfu.set_timeout' (number expected, got string)"),
        ("sfu.set_timeout, 1/0, print", "'ms' to 'sfu.set_timeout' (inf is not within"),
        ("sfu.set_interval, 1, 'f'", "'fn' to 'sfu.set_interval' (function expected)"),
        ("sfu.clear, {}", "'handle' to 'sfu.clear' (number expected, got table)"),
        ("sfu.clear, ('x'):rep(65)", "'name' to 'sfu.clear' (65 bytes long, at most 64 are allowed)"),
        ("sfu.sleep, -1", "'ms' to 'sfu.sleep' (-1 is not within"),
        ("sfu.sleep", "'ms' to 'sfu.sleep' (number expected, got nil)"),
        ("sfu.http", "'request' to 'sfu.http' (table or URL expected)"),
        ("sfu.http, {}", "'url' to 'sfu.http' (string expected, got nil)"),
        ("sfu.http, { url = 'x', method = 'YELL' }", "'method' to 'sfu.http' (one of GET"),
        (
            "sfu.http, { url = 'x', headers = { ['a b'] = 'c' } }",
            "'headers' to 'sfu.http' (a header's name is not a token)",
        ),
        (
            "sfu.http, { url = 'x', headers = { a = 'b\\r\\nc' } }",
            "'headers' to 'sfu.http' (a header's value has control",
        ),
        ("sfu.http, { url = 'x', timeout = 1e9 }", "'timeout' to 'sfu.http' (1000000000 is not within"),
        ("sfu.shared.set, 'k', {}", "'value' to 'sfu.shared.set' (string, number or boolean expected"),
        ("sfu.shared.set, 'k', 0/0", "'value' to 'sfu.shared.set' (NaN is not within"),
        ("sfu.shared.get", "'key' to 'sfu.shared.get' (string expected, got nil)"),
        ("sfu.shared.incr, 'k', 'x'", "'by' to 'sfu.shared.incr' (number expected, got string)"),
        ("sfu.jwt_verify, 'a', 'b', 1", "'options' to 'sfu.jwt_verify' (table expected)"),
        ("sfu.base64.encode, nil", "'data' to 'sfu.base64.encode' (string expected, got nil)"),
    ] {
        let mut world = World::new(&format!(
            "function on_client_connect() return true end
             function on_message(c) C = c
               local ok, message = pcall({call})
               c:send(tostring(ok) .. ' ' .. tostring(message))
             end"
        ));
        let c = world.join("c1");
        let said = world.eval(&c, "m").to_string();
        assert!(said.starts_with("\"false ") && said.contains(words), "{call}: {said}");
    }
}

#[test]
fn an_error_of_a_host_function_has_the_scripts_line() {
    let mut world = World::new(
        "function on_client_connect() return true end
         function on_message(c)
           local _, a = pcall(function()
             c:kick({})
           end)
           local _, b = pcall(function()
             sfu.http({})
           end)
           c:send({ a, b })
         end",
    );
    let c = world.join("c1");
    let said = world.eval(&c, "m");
    assert!(said[0].as_str().unwrap().starts_with("room.lua:4: bad argument"), "{said}");
    assert!(said[1].as_str().unwrap().starts_with("room.lua:7: bad argument"), "{said}");
}

#[test]
fn what_is_known_of_a_client() {
    let mut world = World::new(
        "function on_client_connect(c) return c:get_metadata().name == 'c1' end
         function on_message(c, m)
           local s, t = c:stats(), c:tracks()
           c:send({ s.bytes_in, s.packets_in, s.bytes_out, s.packets_out, s.seconds, #t, t[1].id, t[1].kind })
         end",
    );
    let c = world.join("c1");
    c.traffic.bytes_in.set(1000);
    c.traffic.packets_in.set(2);
    c.traffic.bytes_out.set(3000);
    c.traffic.packets_out.set(4);
    c.tracks.borrow_mut().push(track("t1", "c1", Kind::Audio));
    world.now += Duration::from_millis(2500);
    assert_eq!(world.eval(&c, "m"), json!([1000, 2, 3000, 4, 2.5, 1, "t1", "audio"]));
}

#[test]
fn what_is_known_of_the_path_to_a_client_is_in_its_stats() {
    let mut world = World::new(
        "function on_client_connect() return true end
         function on_message(c) c:send(c:stats().path or 'none') end",
    );
    let c = world.join("c1");
    assert_eq!(world.eval(&c, "m"), json!("none"));
    for (figures, expected) in [
        (PathFigures::default(), json!({ "paused": 0, "loss": 0, "resends": 0 })),
        (
            PathFigures {
                estimate_bps: Some(600_000),
                target_bps: Some(550_000),
                paused: 1,
                rtt: Some(Duration::from_micros(40_500)),
                loss: 0.25,
                resends: 17,
            },
            json!({ "estimate": 600_000, "target": 550_000, "paused": 1, "rtt": 40.5, "loss": 0.25, "resends": 17 }),
        ),
    ] {
        c.traffic.path.set(Some(figures));
        assert_eq!(world.eval(&c, "m"), expected);
    }
}

#[test]
fn counters_are_added_up_and_bounded() {
    let mut world = World::new(
        "function on_client_connect() return true end
         function on_message(c, m)
           if m == 'many' then for i = 1, 100 do sfu.count('c' .. i) end end
           sfu.count('joins') sfu.count('minutes', 2.5) sfu.count('joins', 2)
         end",
    );
    let c = world.join("c1");
    world.message(&c, json!("x"));
    assert!(world.message(&c, json!("many")).failed);
    world.message(&c, json!("x"));
    let counters = world.engine.room_status(world.key).unwrap().counters;
    assert_eq!(counters, [("joins".to_owned(), 6.0), ("minutes".to_owned(), 5.0)]);
}

#[test]
fn randomness_follows_the_engines_seed_and_differs_between_rooms() {
    let mut world = World::new("function on_client_connect(c) return false, tostring(math.random()) end");
    let random = |world: &mut World| {
        let c = client(world.now, "c1");
        world.call(HookCall::ClientConnect { client: c, auth_token: String::new() }).verdict
    };
    let first = random(&mut world);
    let script = compiled("function on_client_connect(c) return false, tostring(math.random()) end");
    world.key = world.engine.open_room(world.now, &room("other"), Ok(script)).unwrap();
    assert_ne!(first, random(&mut world));
    let again = random(&mut World::new("function on_client_connect(c) return false, tostring(math.random()) end"));
    assert_eq!(first, again);
}

#[test]
fn what_a_script_draws_after_a_recording_has_ended_does_not_follow_from_the_recording() {
    let mut world = World::new(
        "function on_client_connect() return true end
         function on_message(c) c:send(sfu.base64.encode(sfu.random_bytes(16))) end",
    );
    let c = world.join("c1");
    let (sender, lines) = channel();
    let mut is_first = true;
    let sink = Sink::new(move |line| {
        // Whoever records goes after the first line, which has the seeds.
        if std::mem::take(&mut is_first) && sender.send(line).is_ok() { Delivery::Taken } else { Delivery::Gone }
    });
    world.engine.watch(world.now, world.key, sink, Depth::Recording).unwrap();
    let first: Line = serde_json::from_slice(&lines.recv().unwrap()).unwrap();
    let Line::Start(start) = first else { panic!("{first:?}") };
    let seed = std::array::from_fn(|at| u8::from_str_radix(&start.seeds.bytes[2 * at..2 * at + 2], 16).unwrap());
    let mut bytes = [0; 16];
    StdRng::from_seed(seed).fill_bytes(&mut bytes);
    assert_ne!(world.eval(&c, "m"), json!(STANDARD.encode(bytes)));
}
