//! `utf8`, `require`, `sfu.uuid` and the like, and the texts of errors.

use super::*;

/// Lua lines that assert.
fn assert_lua(lines: &str) {
    let mut world = World::new(&format!(
        "function on_client_connect() return true end
         local function fails(f, ...)
           local ok, message = pcall(f, ...)
           assert(not ok, 'it did not fail')
           return message
         end
         function on_message(c)
           local ok, message = pcall(function()
             {lines}
           end)
           c:send(ok or message)
         end"
    ));
    let c = world.join("c1");
    assert_eq!(world.eval(&c, ""), json!(true), "{lines}");
}

#[test]
fn utf8_is_that_of_later_luas() {
    for line in [
        "assert(utf8.char(72, 228, 8364, 128512) == 'H\\195\\164\\226\\130\\172\\240\\159\\152\\128' and utf8.char() == '')",
        "assert(utf8.len('h\\195\\164\\226\\130\\172') == 3 and utf8.len('') == 0 and utf8.len('abc', 2) == 2 and utf8.len('abc', -1) == 1)",
        "local n, at = utf8.len('ab\\255c') assert(n == nil and at == 3)",
        "local a, b, c = utf8.codepoint('a\\195\\164b', 1, -1) assert(a == 97 and b == 228 and c == 98 and utf8.codepoint('a') == 97)",
        "assert(utf8.offset('a\\195\\164b', 3) == 4 and utf8.offset('a\\195\\164b', -1) == 4 and utf8.offset('a\\195\\164b', 0, 3) == 2)",
        "assert(utf8.offset('abc', 5) == nil and utf8.offset('abc', 4) == 4)",
        "local t = {} for at, code in utf8.codes('a\\195\\164b') do t[#t + 1] = at .. ':' .. code end assert(table.concat(t, ' ') == '1:97 2:228 4:98')",
        "local t = {} for c in ('a\\195\\164b'):gmatch(utf8.charpattern) do t[#t + 1] = #c end assert(table.concat(t) == '121')",
        "assert(fails(function() for _ in utf8.codes('a\\255') do end end):find('invalid UTF-8 code', 1, true))",
        "assert(fails(utf8.codepoint, '\\255'):find('invalid UTF-8 code', 1, true))",
        "assert(fails(utf8.codepoint, 'abc', 9):find('out of bounds', 1, true))",
        "assert(fails(utf8.char, 0xd800):find('surrogate', 1, true) and fails(utf8.char, -1):find('not within', 1, true))",
        "assert(fails(utf8.len, {}):find(\"'s' to 'utf8.len' (string expected)\", 1, true))",
    ] {
        assert_lua(line);
    }
}

#[test]
fn ids_bytes_and_comparisons() {
    for line in [
        "local a, b = sfu.uuid(), sfu.uuid() assert(a ~= b and #a == 36)
         assert(a:match('^%x%x%x%x%x%x%x%x%-%x%x%x%x%-4%x%x%x%-[89ab]%x%x%x%-%x%x%x%x%x%x%x%x%x%x%x%x$'), a)",
        "assert(#sfu.random_bytes(32) == 32 and sfu.random_bytes(16) ~= sfu.random_bytes(16) and sfu.random_bytes(0) == '')",
        "assert(fails(sfu.random_bytes, 5000):find('4096', 1, true) and fails(sfu.random_bytes, 0/0):find('NaN', 1, true))",
        "assert(sfu.url_encode('a b&\\195\\164/~-._0') == 'a%20b%26%C3%A4%2F~-._0')",
        "assert(sfu.equal('abc', 'abc') == true and sfu.equal('abc', 'abd') == false and sfu.equal('a', 'ab') == false)",
        "assert(fails(sfu.equal, 'a'):find(\"'b' to 'sfu.equal'\", 1, true))",
        "assert(sfu.json.encode(sfu.json.decode('{\"a\":[],\"b\":{}}')) == '{\"a\":[],\"b\":{}}')",
        "local t = sfu.json.decode('[]') t[1] = 'x' assert(sfu.json.encode(t) == '[\"x\"]')",
        "local t = sfu.json.decode('[]') t.x = 1 assert(sfu.json.encode(t) == '{\"x\":1}')",
    ] {
        assert_lua(line);
    }
}

#[test]
fn an_empty_array_stays_one_across_a_reload() {
    let mut world = World::new("function on_unload() return { list = sfu.json.decode('[]'), map = {} } end");
    world
        .reload(
            "local s function on_load(state) s = state end function on_client_connect() return true end
        function on_message(c) c:send(s) end",
        )
        .unwrap();
    let c = world.join("c1");
    assert_eq!(world.eval(&c, ""), json!({ "list": [], "map": {} }));
}

#[test]
fn parsing_a_large_text_is_stopped_like_any_step() {
    let settings = PolicySettings { step_budget: Duration::from_millis(2), memory_bytes: 8 << 20, ..generous() };
    let mut world = World::with(
        settings,
        "local text = '[' .. ('[1,2],'):rep(80000) .. '0]'
        function on_client_connect() return true end function on_message(c) sfu.json.decode(text) c:send('parsed') end",
    );
    let c = world.join("c1");
    assert!(world.message(&c, json!(1)).failed);
    let longest = Duration::from_nanos(world.engine.stats().latency.max_ns);
    assert_eq!(world.engine.stats().failures(), 1, "{longest:?}");
}

#[test]
fn an_error_always_has_its_message() {
    for (body, expected) in [
        ("table.sort({ 3, 'x', 1 })", "room.lua:3: attempt to compare"),
        ("coroutine.wrap(5)", "room.lua:3: bad argument #1 to 'wrap' (function expected, got number)"),
        ("return 'a' .. tostring()", "room.lua:3: bad argument #1 to 'tostring' (value expected)"),
        ("xpcall(error, 5)", "room.lua:3: bad argument #2 to 'xpcall' (function expected, got number)"),
        ("('x'):rep({})", "room.lua:3: bad argument #2 to 'rep'"),
        ("('x'):find({})", "room.lua:3: bad argument #1 to 'find'"),
        ("coroutine.create(5)", "bad argument #1 to"),
        ("string.format('%d', {})", "bad argument #2 to"),
        ("setmetatable(1, {})", "bad argument #1 to 'setmetatable'"),
        ("error('mine')", "room.lua:3: mine"),
        ("error({})", "error value is a table"),
    ] {
        let lines = logs::errors(|| {
            let script = format!("function on_client_connect() return true end\nfunction on_message()\n{body}\nend");
            let mut world = World::new(&script);
            let c = world.join("c1");
            assert!(world.message(&c, json!(1)).failed, "{body}");
        });
        let message = lines[0]["message"].as_str().unwrap();
        assert!(message.starts_with("the script failed: ") && message.contains(expected), "{body}: {message}");
    }
}

#[test]
fn modules_are_loaded_once_and_belong_to_the_script() {
    let load = |name: &str| match name {
        "count" => Ok(b"local n = 0 return { next = function() n = n + 1 return n end }".to_vec()),
        "chat" => Ok(b"local count = require('count') return function(c) c:send(count.next()) end".to_vec()),
        "circle" => Ok(b"return require('circle')".to_vec()),
        "bad" => Ok(b"error('no module today')".to_vec()),
        other => Err(format!("there is no lib/{other}.lua")),
    };
    let script = "local chat, count = require('chat'), require 'count'
        function on_client_connect() return true end
        function on_message(c, m)
          if m == 'dynamic' then return c:send(select(2, pcall(require, 'x' .. 'y'))) end
          if m == 'circle' then return c:send(select(2, pcall(require, 'circle'))) end
          if m == 'bad' then return c:send(select(2, pcall(function() return require('bad') end))) end
          count.next() chat(c)
        end
        local _ = function() return require('circle') end";
    let script = Script::compile_with("room.lua", script.as_bytes(), &load).unwrap();
    let mut world = World::new("x = 1");
    world.key = world.engine.open_room(world.now, &room("modules"), Ok(Arc::new(script))).unwrap();
    let c = world.join("c1");
    assert_eq!((world.eval(&c, ""), world.eval(&c, "")), (json!(2), json!(4)));
    for (name, expected) in [
        ("dynamic", "module 'xy' was not found"),
        ("circle", "module 'circle' requires itself"),
        ("bad", "lib/bad.lua:1: no module today"),
    ] {
        let said = world.eval(&c, name);
        assert!(said.as_str().unwrap().contains(expected), "{said}");
    }
}
