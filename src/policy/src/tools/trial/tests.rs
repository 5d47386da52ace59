//! Test files in, cases out.

use super::*;

mod lost;
mod told;

const OPEN: &str = "function on_client_connect() return true end function on_publish_request() return true end\n";

/// Runs the body as one test of a room whose script is `script`.
fn one(script: &str, body: &str) -> Case {
    let source = format!("local room = test.room('room.lua')\ntest.it('it', function()\n{body}\nend)");
    let mut cases = file(script, source);
    assert_eq!(cases.len(), 1, "{cases:?}");
    cases.remove(0)
}

fn file(script: &str, test: String) -> Vec<Case> {
    let script = format!("{OPEN}{script}");
    let load = move |name: &str| match name {
        "room.lua" => Ok(script.clone().into_bytes()),
        other => Err(format!("{other}: no such file")),
    };
    let run = move || run("x_test.lua", test.as_bytes(), Rc::new(load), Instant::now());
    std::thread::Builder::new().stack_size(64 << 20).spawn(run).unwrap().join().unwrap()
}

fn words(case: &Case) -> String {
    let mut text = String::new();
    case.tap(&mut text, 1).unwrap();
    text
}

#[test]
fn what_a_script_does_is_seen_by_its_test() {
    for (script, body) in [
        ("", "local c, ok, why = room:connect() test.eq(ok, true) test.eq(why, nil) test.eq(c.id, 'c1')"),
        (
            "function on_client_connect(c, t) return false, t .. c:get_ip() .. c:get_metadata().n end",
            "local c, ok, why = room:connect{ token = 'x', ip = '10.0.0.1', metadata = { n = 1 } }
             test.eq({ ok, why, c.joined }, { false, 'x10.0.0.11', false })",
        ),
        (
            "function on_publish_request(c, t) return t.kind == 'audio', t.source .. t.quality .. t.simulcast end",
            "local c = room:connect() local t, ok = c:publish{ kind = 'audio' } test.eq({ t.id, ok }, { 't1', true })
             local _, ok, why = c:publish{ kind = 'video', source = 'screen', quality = 'hd' }
             test.eq({ ok, why }, { false, 'screenhd2' })",
        ),
        (
            "function on_track_published(c, t) c:mute(t) end function on_track_unpublished(c, t) c:send(t.id) end",
            "local c = room:connect() local t = c:publish{ kind = 'video' } test.eq(c.muted, { [t.id] = true })
             c:unpublish(t) test.eq(c:last(), 't1')",
        ),
        (
            "function on_message(c, m) sfu.broadcast(m, c) c:send('yours') sfu.count('n', 2) end",
            "local a, b = room:connect(), room:connect() test.eq(a:message{ x = { 1, 2 } }, true)
             test.eq(a.sent, { 'yours' }) test.eq(b.sent, { { x = { 1, 2 } } }) test.eq(room:counter('n'), 2)
             test.eq(room.broadcasts, { { value = { x = { 1, 2 } }, except = 'c1' } })",
        ),
        ("", "local c = room:connect() test.eq(c:message('x'), false, 'there is no on_message')"),
        (
            "function on_message(c, m) c:set_attributes({ n = m }) c:set_hidden(false) sfu.announce('none') end",
            "local c = room:connect() c:message(1) test.eq({ c.attributes, c.hidden, room.announced }, { { n = 1 }, false, 'none' })",
        ),
        (
            "function on_message(c, m) c:set_rights(m, 'why') end",
            "local a, b = room:connect(), room:connect() local t = a:publish{ kind = 'video' } test.ok(b:subscribe(t))
             b:message{ subscribe = false, message = false } test.eq(b.ended, { [t.id] = 'why' })
             test.eq({ b:subscribe(t) }, { false, 'You may not receive tracks here' })
             test.eq({ b:message('x') }, { false, 'You may not send messages here' })
             a:message{ publish = { 'microphone' } } test.eq(a.ended, { [t.id] = 'why' })
             local _, ok, why = a:publish{ kind = 'video' } test.eq({ ok, why }, { false, 'You may not publish this here' })
             test.eq({ a.rights.publish, b.rights.message }, { { 'microphone' }, false })",
        ),
        (
            "function on_message(c, m) c:unpublish(m) for _, o in ipairs(sfu.clients()) do o:unsubscribe(m, 'over') end end",
            "local a, b = room:connect(), room:connect() local t = a:publish() local u = b:publish() test.ok(b:subscribe(t))
             test.ok(a:subscribe(u)) a:message(u.id) test.eq({ a.ended, b.ended }, { { [u.id] = 'over' }, {} })
             a:message(t.id) test.eq(a.ended[t.id], 'The room has ended it') test.eq(b.ended, {}, 'it ended with the track')",
        ),
        (
            "function on_client_connect(c) local r = c:connection() c:set_identity(r.headers['x-user']) c:set_hidden(r.kind == 'whep')
               return r.origin == 'https://a.example', r.user_agent end
             function on_message(c) c:send(c:identity()) end",
            "local c = room:connect{ origin = 'https://a.example', kind = 'whep', headers = { ['X-User'] = 'ada' } } c:message(1)
             test.eq({ c:last(), c.hidden }, { 'ada', true })
             local _, ok, why = room:connect{ user_agent = 'curl', headers = { ['x-user'] = 'b' } } test.eq({ ok, why }, { false, 'curl' })",
        ),
        (
            "local n = 0 EMPTY_TIMEOUT_S = 60 function on_client_connect(c) n = n + 1 c:send(n) return true end
             function on_close(why) sfu.http('https://a.example/') sfu.webhook('over', why) end
             function on_message() sfu.close() end",
            "room:http(function() return {} end) local c = room:connect() c:disconnect() room:advance(59000)
             c = room:connect() test.eq({ c:last(), room.over }, { 2, nil }) c:disconnect() room:advance(61000)
             test.eq({ room.over, room.webhooks[1].data }, { 'empty', 'empty' }) test.eq({ room:call(1) }, { nil, 'there is no such room' })
             c = room:connect() test.eq({ c:last(), room.over }, { 1, nil }) c:message(1) test.eq(room.over, 'closed')
             test.ok(room:reload('room.lua'))",
        ),
        (
            "function on_client_connect(c) c:send(sfu.room.metadata) return true end",
            "local r = test.room('room.lua', {}, { metadata = { plan = 'gold' } }) test.eq(r:connect():last(), { plan = 'gold' })
             test.eq(room:connect():last(), {})",
        ),
        (
            "function on_message(c, m) c:kick('out') end function on_client_disconnect(c, why) sfu.broadcast(why) end",
            "local a, b = room:connect(), room:connect() a:message(1)
             test.eq({ a.kicked, a.joined, b.sent[1] }, { 'out', false, 'out' }) b:disconnect('bye')
             test.eq(room.broadcasts[2].value, 'bye')",
        ),
        (
            "function on_active_speakers(list) for i, c in ipairs(list) do c:set_max_bitrate(i * 1000) end end",
            "local a, b = room:connect(), room:connect() room:speakers{ b, a } test.eq({ a.max_bitrate, b.max_bitrate }, { 2000, 1000 })",
        ),
        (
            "function on_client_connect(c) sfu.sleep(500) sfu.set_interval(1000, function() sfu.log_info('tick') end) return true end",
            "local c, ok = room:connect() test.eq(ok, nil) room:advance(499) test.eq(c.allowed, nil) room:advance(1)
             test.eq(c.allowed, true) room:advance(3000) test.eq(#room.log, 3) test.eq(room.log[1].text, 'tick')
             test.eq(room:now(), test.start + 3.5)",
        ),
        (
            "function on_client_connect(c) local r, why = sfu.http{ url = 'https://a/', body = 'q' } return r and r.body == 'yes', why end",
            "local _, ok, why = room:connect() test.eq(ok, false) test.match(why, 'no route')
             room:http(function(q) return { status = 200, body = q.body == 'q' and 'yes' or '' } end)
             _, ok = room:connect() test.eq({ ok, #room.requests, room.requests[1].method }, { true, 2, 'GET' })
             room:http(function() return nil, 'timed out' end) _, ok, why = room:connect() test.eq(why, 'timed out')",
        ),
        (
            "function on_message(c) c:send(sfu.shared.incr('k', 2, 10)) end",
            "local c = room:connect() c:message(0) c:message(0) test.eq(c.sent, { 2, 4 }) room:advance(11000) c:message(0)
             test.eq(c:last(), 2)",
        ),
        (
            "local n = 0 function on_message(c) n = n + 1 c:send(n) end function on_unload() return n end function on_load(s) n = s end",
            "local c = room:connect() c:message(0) test.eq(room:reload('room.lua'), true) c:message(0) test.eq(c.sent, { 1, 2 })
             local ok, why = room:reload{ name = 'v2.lua', source = 'x = ' } test.eq(ok, false) test.match(why, 'v2.lua:1')
             ok, why = room:reload{ source = 'error(\"no\")' } test.eq(ok, false) test.match(why, 'room.lua:1: no')",
        ),
        (
            "function on_message(c) c:send(c:stats()) end",
            "local c = room:connect() room:advance(2000) c:traffic{ bytes_in = 7 } c:message(0)
             test.eq(c:last(), { packets_in = 0, bytes_in = 7, packets_out = 0, bytes_out = 0, seconds = 2 })",
        ),
        (
            "function on_client_disconnect(c) sfu.sleep(5000) sfu.broadcast(c:stats().seconds) end",
            "local a, b = room:connect(), room:connect() room:advance(2000) a:disconnect() room:advance(5000)
             test.eq(b:last(), 2, 'what is billed does not grow while the bill is sent')",
        ),
        (
            "function on_message(c) c:send(c:stats().path or 'none') end",
            "local c = room:connect() c:message(0) c:traffic{ path = { estimate = 600000, rtt = 40, paused = 1 } } c:message(0)
             test.eq(c.sent, { 'none', { estimate = 600000, rtt = 40, paused = 1, loss = 0, resends = 0 } })
             local ok, why = pcall(c.traffic, c, { path = { rtt = -1 } }) test.eq(ok, false)",
        ),
        (
            "function on_message() sfu.close('over') end",
            "local a, b = room:connect(), room:connect() a:message(1)
             test.eq({ a.kicked, b.kicked, room.closed, b.joined }, { 'over', 'over', 'over', false })",
        ),
        (
            "function on_client_connect() return sfu.http('https://a/').status == 200 end",
            "room:http(function() return { status = 200 } end, { delay = 20 })
             local c, ok = room:connect() test.eq(ok, nil) room:advance(19) test.eq(c.allowed, nil)
             room:advance(1) test.eq(c.allowed, true)",
        ),
        (
            "function on_client_connect() local r, why = sfu.http{ url = 'https://a/', timeout = 2000 } return r ~= nil, why end",
            "room:http(function() return { delay = 2001 } end)
             local c = room:connect() room:advance(1999) test.eq(c.allowed, nil)
             room:advance(1) test.eq({ c.allowed, c.reason }, { false, 'timed out' })
             room:http(function() return {} end, { delay = 2000 }) local d = room:connect() room:advance(2000) test.eq(d.allowed, true)
             room:http(function() end) local _, _, why = room:connect() test.match(why, 'returned nothing')",
        ),
        (
            "local people = {} function on_client_connect(c) people[1] = c return true end
             function on_unload() return people end",
            "room:connect() local ok, why = room:reload('room.lua') test.eq(ok, false) test.match(why, 'drop%-state')
             test.eq(room:reload('room.lua', { drop_state = true }), true)",
        ),
        (
            "function on_message(c, m) c:send(m) end",
            "local c = room:connect() c:message({ list = test.json.decode('[]') }) test.eq(c:last(), { list = {} })
             local deep = {} for _ = 1, 40 do deep = { deep } end local ok, why = c:message(deep) test.eq(ok, false)
             test.match(why, 'nested more than 32')",
        ),
        (
            "function on_message(c) sfu.store.incr('n') sfu.shared.incr('n', 7)
               c:send({ sfu.store.get('n'), tostring(sfu.store.global.get('n')), sfu.store.compare_and_set('n', 1, 5) }) end",
            "local a, b = room:connect(), test.room('room.lua', nil, { id = 'other' }):connect() a:message(0)
             test.eq(a:last(), { 1, 'nil', true }) a:message(0) test.eq(a:last()[1], 6) b:message(0) test.eq(b:last()[1], 1)",
        ),
        (
            "function on_client_disconnect(c) sfu.sleep(90000) sfu.webhook('bill', 1) end
             function on_close(why) sfu.webhook('closing', why) sfu.sleep(20000) sfu.webhook('closed', why) end",
            "room:connect():disconnect() room:advance(59999) test.eq(room.over, nil) room:advance(1) test.eq(room.over, 'empty')
             room:advance(9999) test.eq(room:call(1), nil) room:advance(1) local _, why = room:call(1) test.eq(why, 'there is no such room')
             room:advance(60000) test.eq(room.webhooks, {}, 'the room has waited for neither')
             local c = room:connect() test.eq({ c.allowed, room.over }, { true, nil })",
        ),
        (
            "function on_client_disconnect(c) sfu.sleep(50000) sfu.webhook('bill', 1) end function on_message() sfu.close() end
             function on_close() sfu.sleep(59000) sfu.webhook('closed', 1) end",
            "room:connect():message(1) test.eq(room.over, nil) room:advance(50000) test.eq({ #room.webhooks, room.over }, { 1, 'closed' })
             room:advance(59000) test.eq(#room.webhooks, 2)",
        ),
        (
            "local n = 0 function on_client_connect(c) n = n + 1 c:send(n) return true end
             function on_message() sfu.close() end function on_close() sfu.sleep(5000) end",
            "room:connect():message(1) local b, allowed = room:connect() local c = room:connect() c:disconnect()
             test.eq({ allowed, b.joined, #b.sent, room.over }, { nil, false, 0, 'closed' }) room:advance(4999) test.eq(b.allowed, nil)
             room:advance(1) test.eq({ b.allowed, b:last(), b.joined, c.allowed, room.over }, { true, 1, true, nil, nil })",
        ),
        (
            "function on_message(c, m) c:send(c:rights()) end",
            "local c = room:connect() room:operator{ set_rights = { publish = {}, subscribe = false }, client = c.id, reason = 'x' }
             test.eq({ c.rights.publish, c.rights.subscribe, c.rights.message }, { {}, false, true })",
        ),
        (
            "function on_admin(request) sfu.broadcast(request.say) if request.wrong then return print end return { #sfu.clients() } end",
            "local c = room:connect() test.eq(room:call{ say = 'hi' }, { 1 }) test.eq(c:last(), 'hi')
             local answer, why = room:call{ say = 'no', wrong = true } test.eq({ tostring(answer), why }, { 'nil', 'the script failed' })
             test.eq(#c.sent, 1, 'it has done nothing') test.match(room:failures()[1].text, 'on_admin: value: a function')",
        ),
        (
            "function on_message(c, m) sfu.webhook('call.rated', { by = c:get_id(), stars = m }) end",
            "room:connect():message(5) test.eq(room.webhooks, { { event = 'call.rated', data = { by = 'c1', stars = 5 } } })",
        ),
        (
            "function on_message() error('oh') end",
            "local c = room:connect() test.eq(c:message(0), false) test.match(room:failures()[1].text, 'room.lua:2: oh')",
        ),
    ] {
        let case = one(script, body);
        assert_eq!(case.failure, None, "{}", words(&case));
    }
}

#[test]
fn what_fails_says_where_and_both_values() {
    for (script, body, expected) in [
        (
            "",
            "test.eq({ a = { 1, 'x' } }, { 2 })",
            "  message: not equal\n  at: x_test.lua:3\n  got: { a = { 1, \"x\" } }\n  expected: { 2 }\n",
        ),
        ("", "test.ok(nil, 'there')", "  message: there\n  at: x_test.lua:3\n  got: nil\n  expected: true\n"),
        ("", "\nerror('boom')", "  message: x_test.lua:4: boom\n"),
        (
            "",
            "room:connect() room:connect{ id = 'c1' }",
            "  message: there is a client 'c1' already\n  at: x_test.lua:3\n",
        ),
        (
            "function on_message() error('oh') end",
            "room:connect():message(0) test.eq(1, 2)",
            "  message: |\n    not equal\n    on_message failed: room.lua:2: oh\n",
        ),
        (
            "function on_message() while true do end end",
            "room:connect():message(0)",
            "  message: |\n    on_message failed: stopped: it used more than its CPU time of 100ms\n    stack traceback:\n",
        ),
    ] {
        let text = words(&one(script, body));
        let start = format!("not ok 1 - it\n  ---\n{expected}");
        assert!(text.starts_with(&start), "{text}\n{start}");
    }
}

/// What the harness is given and does not understand is said at the test's line, in the test's words.
#[test]
fn what_the_harness_does_not_know_is_an_error_at_the_tests_line() {
    for (body, expected) in [
        (
            "room:connect{ tokn = 'x' }",
            "room:connect has no option 'tokn': did you mean 'token'? (there is id, token, ip, metadata, kind, origin, \
             user_agent, headers)",
        ),
        (
            "room:connect():publish{ sorce = 'screen' }",
            "client:publish has no option 'sorce': did you mean 'source'? (there is kind, source, quality, codec, id, \
             simulcast, muted)",
        ),
        ("room:http(nil, { after = 3 })", "room:http has no option 'after' (there is delay)"),
        ("room:reload('room.lua', { drop = true })", "room:reload has no option 'drop' (there is drop_state)"),
        ("test.room('room.lua', {}, { meta = 1 })", "test.room has no option 'meta' (there is id, metadata)"),
        ("test.room{ txt = '' }", "script has no option 'txt' (there is name, source)"),
        (
            "room:connect():traffic{ path = { ms = 1 } }",
            "path has no option 'ms' (there is estimate, target, paused, rtt, loss, resends)",
        ),
        (
            "room:connect('ada')",
            "room:connect takes a table, { id =, token =, ip =, metadata =, kind =, origin =, user_agent =, headers = }, \
             not \"ada\"",
        ),
        ("room:connect{ kind = 'wip' }", "kind: 'wip': did you mean 'whip'? (there is websocket, whip, whep)"),
        ("room:connect{ origin = 7 }", "origin is a text, not 7"),
        (
            "room:connect():publish{ kind = 'video', quality = 'uhd' }",
            "quality: 'uhd': did you mean 'fhd'? (there is sd, hd, fhd)",
        ),
        ("room.connect{}", "room:connect is called with a colon, as in room:connect(…)"),
        ("room:advance('x')", "room:advance: the time in milliseconds is a number, not \"x\""),
        (
            "room:operator{ kik = 'c1' }",
            "room:operator: operators do no 'kik': did you mean 'kick'? (there is set_attributes, ",
        ),
        (
            "room:operator{ kick = 'c1', reson = 'x' }",
            "room:operator: kick has no 'reson': did you mean 'reason'? (there is reason)",
        ),
        ("room:connect() room:operator{ kick = 'c1', reason = 7 }", "reason is a text, not 7"),
        (
            "room:connect() room:operator{ set_rights = { subscibe = false }, client = 'c1' }",
            "set_rights has no right 'subscibe': did you mean 'subscribe'? (there is publish, subscribe, message)",
        ),
        (
            "room:connect() room:operator{ set_rights = { message = 'no' }, client = 'c1' }",
            "set_rights: message is true or false, not \"no\"",
        ),
        ("room:operator(7)", "room:operator: operators do no 'nothing' (there is set_attributes, "),
        ("room:connect():subscribe(nil)", "client:subscribe: the track is a string, not nil"),
        ("room:speakers(7)", "room:speakers: who speaks is a table, not 7"),
        ("room:http(7)", "room:http: what answers is a function, not 7"),
        ("test.match('x', nil)", "test.match: the pattern is a string, not nil"),
        ("test.eq(room:connect().kickd, nil)", "a client has no 'kickd': did you mean 'kicked'? (there is "),
        ("test.eq(room.webhook, nil)", "a room has no 'webhook': did you mean 'webhooks'? (there is "),
        ("room:advance(1e400, test.jwt())", ""),
    ] {
        let failure = one("", &format!("\n{body}")).failure.unwrap_or_default();
        assert!(failure.message.starts_with(expected), "{body}: {failure:?}");
        assert_eq!(failure.at, "x_test.lua:4", "{body}: {failure:?}");
    }
    let asks = "function on_message() sfu.http('https://a/') end";
    for (reply, expected) in [
        (
            "{ stauts = 1 }",
            "reply has no option 'stauts': did you mean 'status'? (there is status, headers, body, delay)",
        ),
        ("{ body = {} }", "reply: the body (test.json.encode makes one) is a string, not {}"),
        ("7", "reply takes a table, { status =, headers =, body =, delay = }, not 7"),
    ] {
        let failure =
            one(asks, &format!("room:http(function() return {reply} end)\nroom:connect():message(1)")).failure;
        let failure = failure.unwrap_or_default();
        assert_eq!((failure.message.as_str(), failure.at.as_str()), (expected, "x_test.lua:4"), "{reply}");
    }
}

#[test]
fn a_policy_in_the_place_of_a_test_and_a_test_in_the_place_of_a_policy_are_told_apart() {
    let policy = "this is a policy, not a test: it defines on_message, and has no test.it(name, function() … end). The \
        tests of room.lua stand beside it, in room_test.lua; `moonring check` is what looks at a policy";
    for (source, name, expected) in [
        ("function on_message() sfu.broadcast(1) end", "x_test.lua", policy),
        ("local secret = sfu.config.secret function on_message() end", "x_test.lua", policy),
        (
            "test.it('it', function() test.room{ name = 'y_test.lua', source = 'test.it(\"x\", print)' } end)",
            "it",
            "y_test.lua is a test, not a policy: name the script that is to be tested",
        ),
        (
            "test.it('it', function() test.room{ source = 'local x = sfu.nothing.at_all' } end)",
            "it",
            "main chunk: room.lua:1: attempt to index field 'nothing' (a nil value)",
        ),
    ] {
        let cases = file("", source.to_owned());
        let failure = cases[0].failure.clone().unwrap_or_default();
        let first = failure.message.lines().next().unwrap_or_default();
        assert_eq!((cases.len(), cases[0].name.as_str(), first), (1, name, expected), "{source}");
    }
}

#[test]
fn a_file_that_cannot_run_is_a_failed_test() {
    for (source, expected) in [
        ("x = ", "x_test.lua:1: unexpected symbol near '<eof>'"),
        ("", "there is no test.it(name, function() … end) in it"),
        ("test.room('gone.lua')", "gone.lua: no such file"),
        ("sfu.broadcast(1)", "x_test.lua:1: attempt to index global 'sfu' (a nil value)"),
    ] {
        let cases = file("", source.to_owned());
        let message = cases[0].failure.as_ref().map(|failure| failure.message.lines().next().unwrap_or_default());
        assert_eq!((cases.len(), message), (1, Some(expected)), "{source}");
    }
}
