//! Attempts to get out of the sandbox. Each line is an expression or a block that returns `true` when it got out.

use super::*;
use crate::tools::names::Names;

const ESCAPES: &[&str] = &[
    // What is not there.
    "return ffi",
    "return jit",
    "return debug",
    "return package",
    "return module",
    "return io",
    "return load",
    "return loadstring",
    "return loadfile",
    "return dofile",
    "return getfenv",
    "return setfenv",
    "return newproxy",
    "return collectgarbage",
    "return gcinfo",
    "return string.dump",
    "return os.execute",
    "return os.getenv",
    "return os.exit",
    "return os.remove",
    "return os.rename",
    "return os.tmpname",
    "return os.setlocale",
    "return table.foreach",
    "return coroutine.isyieldable",
    "return string.buffer",
    "return rawlen",
    "return table.new",
    "return _G.ffi or _G.debug or _G.package",
    // By other ways to the same things.
    "return pcall(require, 'ffi')",
    "return pcall(require, '/etc/passwd')",
    "local name = 'string.buffer' return pcall(require, name)",
    "local name = '../default_room' return pcall(function() return require(name) end)",
    "return string.dump and string.dump(function() end)",
    "return ('').dump ~= nil",
    "return getmetatable('').__index ~= nil",
    "return pcall(function() getmetatable('').__index = function() end end)",
    "return pcall(setmetatable, '', {})",
    "for k, v in pairs(_G) do if type(v) == 'table' and v.loaded then return true end end",
    "for k in pairs(string) do if k == 'dump' then return true end end",
    "local seen, found = {}, false
     local function walk(t)
       if seen[t] then return end
       seen[t] = true
       for k, v in pairs(t) do
         if k == 'ffi' or k == 'debug' or k == 'package' or k == 'loadstring' then found = true end
         if type(v) == 'table' then walk(v) end
       end
     end
     walk(_G) return found",
    "setmetatable(_G, { __index = function(_, k) return k end }) local ok, v = pcall(function() return ffi.C end) return ok and v",
    // Metatables and identity of host objects.
    "return getmetatable(C) ~= false",
    "return pcall(setmetatable, C, {})",
    "return pcall(function() C.x = 1 end)",
    "return pcall(rawset, C, 'x', 1)",
    "return pcall(rawget, C, 'kick')",
    "return C.__index or C.__gc or C.__metatable",
    "return pcall(C.kick, {}, 'x')",
    "return pcall(C.kick, setmetatable({}, { __index = C }), 'x')",
    "return pcall(C.kick, 1, 'x')",
    "return pcall(C.kick, nil, 'x')",
    "return pcall(C.get_id)",
    "return pcall(C.get_id, 1)",
    "return pcall(C.get_id, sfu)",
    "return pcall(sfu.broadcast, 1, 1)",
    "return pcall(sfu.broadcast, 1, {})",
    "return pcall(sfu.broadcast, 1, sfu.json.null)",
    "C.kick = nil return C.kick == nil",
    "return type(C) ~= 'userdata'",
    // Addresses.
    "return tostring({}):find('0x') ~= nil",
    "return tostring(print):find('0x') ~= nil",
    "return tostring(coroutine.create(print)):find('0x') ~= nil",
    "return tostring(C):find('0x') ~= nil",
    "return ('%s'):format({}):find('0x') ~= nil",
    "return pcall(string.format, '%p', {})",
    "return pcall(string.format, '%10p', 'x')",
    "return pcall(string.format, '%%%p', 'x')",
    "return tostring(setmetatable({}, {})):find('0x') ~= nil",
    "return tostring(string.rep):find('builtin') ~= nil",
    "return tostring(sfu.json.null):find('0x0*[1-9a-f]') ~= nil",
    // The engine's own protocol.
    "coroutine.yield(nil, 1, true) return true",
    "local co = coroutine.running() return co ~= nil",
    "local ok, a, b = coroutine.resume(coroutine.create(function() return coroutine.yield(1) end)) return not ok or a ~= 1",
    "for k, v in pairs(sfu) do if type(v) == 'thread' then return true end end",
    // Bytecode and syntax.
    "local f = loadstring or load return f and f('\\27LJ') ~= nil",
    // xpcall's handler runs, but after the error, and not as a host function's.
    "return select(2, xpcall(function() error('a') end, function(e) return e:find('a') == nil end)) == true",
    // Numbers as keys.
    "local t = {} return pcall(function() t[0/0] = 1 end)",
    "local t = {} t[1e308 * 10] = 1 return t[2^1023 * 2] ~= 1",
    "local t = {} t[2^53] = 1 return next(t) ~= 2^53",
    // Randomness of another room.
    "return math.random() == 0.79420629243124",
];

#[test]
fn no_escape_succeeds() {
    for escape in ESCAPES {
        let mut world = World::new(&format!(
            "function on_client_connect(c) return true end
             function on_message(c, m) C = c c:send((function() {escape} end)() == true or (function() return false end)()) end",
        ));
        let c = world.join("c1");
        let outcome = world.message(&c, json!(1));
        let escaped = outcome.actions != [Action::Send { client: c.id.clone(), value: json!(false) }];
        assert!(outcome.failed || !escaped, "{escape}: {outcome:?}");
        if !escape.contains("C.kick = nil") {
            let outcome = world.message(&c, json!(2));
            assert!(!outcome.failed || !outcome.missing, "{escape}: the room goes on");
        }
    }
    assert!(ESCAPES.len() >= 60, "{}", ESCAPES.len());
}

#[test]
fn the_globals_are_those_of_the_allow_list() {
    let mut world = World::new(
        "function on_client_connect() return true end
         function on_message(c, name)
           local t, names = name == '' and _G or _G[name], {}
           for k in pairs(t) do names[#names + 1] = k end
           table.sort(names)
           c:send(table.concat(names, ' '))
         end",
    );
    let c = world.join("c1");
    for (table, expected) in [
        (
            "",
            "_G _VERSION assert bit coroutine error getmetatable ipairs math next on_client_connect on_message os pairs \
             pcall print rawequal rawget rawset require select setmetatable sfu string table tonumber tostring type unpack \
             utf8 xpcall",
        ),
        ("string", "byte char find format gmatch gsub len lower match rep reverse sub upper"),
        ("table", "concat insert maxn remove sort"),
        ("coroutine", "create resume running status wrap yield"),
        ("bit", "arshift band bnot bor bswap bxor lshift rol ror rshift tobit tohex"),
    ] {
        assert_eq!(world.eval(&c, table), json!(expected), "{table}");
    }
    // What is in these is made when it is asked for.
    let names = Names::of_sandbox(Instant::now()).unwrap();
    for (table, expected) in [
        ("os", "clock date time"),
        ("utf8", "char charpattern codepoint codes len offset"),
        ("sfu.json", "decode empty_array encode null"),
        (
            "sfu",
            "announce base64 broadcast clear client clients close config count equal flush hmac_sha256 http json jwks \
             jwt_sign jwt_verify log_debug log_error log_info log_warn now random_bytes room room_id set_audio_last_n \
             set_interval set_timeout sha256 shared sleep store url_encode uuid webhook",
        ),
    ] {
        assert_eq!(names.within(table).join(" "), expected, "{table}");
    }
}

#[test]
fn what_is_made_when_it_is_asked_for_is_there_and_nothing_else_is() {
    let mut world = World::new(
        "function on_client_connect() return true end
         function on_message(c)
           local found = {}
           for _, name in pairs({ 'find', 'print', 'module', 'client_kick', 'json.encode', 'nothing', '', 7, {}, true, print, c, '\\255' }) do
             if sfu[name] ~= nil or os[name] ~= nil or c[name] ~= nil then found[#found + 1] = tostring(name) end
           end
           assert(sfu[nil] == nil and sfu[0/0] == nil and getmetatable(sfu) == false and not pcall(setmetatable, sfu, {}))
           assert(sfu.json == sfu.json and sfu.json.encode == sfu.json.encode and c.kick == c.kick and rawget(sfu, 'http') == nil)
           sfu.now, sfu.json = 5, nil
           c:send({ found, sfu.now, sfu.json.encode(1), type(sfu.jwks), type(sfu.store.global.incr) })
         end",
    );
    let c = world.join("c1");
    assert_eq!(world.eval(&c, "x"), json!([{}, 5, "1", "function", "function"]));
}

/// `table.sort` is our own: what it makes of a list is what LuaJIT's makes of it, to the order of equal values and the
/// calls of the comparator.
#[test]
fn sorting_is_luajits() {
    let chunk = "local seed, log = 7, {}
        local function random(n) seed = (seed * 16807) % 2147483647 return seed % n end
        local function try(name, list, f)
          local calls, ok, err = 0
          local counted = f and function(a, b) calls = calls + 1 return f(a, b) end
          ok, err = pcall(table.sort, list, counted)
          if not ok then err = err:gsub('^%S+:%d+: ', '') end
          for i = 1, #list do
            list[i] = type(list[i]) == 'table' and list[i].key .. ':' .. list[i].place or tostring(list[i])
          end
          log[#log + 1] = name .. ' ' .. tostring(ok or err) .. ' ' .. calls .. ' ' .. table.concat(list, ',')
        end
        for _, length in ipairs({ 0, 1, 2, 3, 4, 5, 7, 50, 200 }) do
          for _, kinds in ipairs({ 1, 3, 1000 }) do
            local numbers, objects, words = {}, {}, {}
            for i = 1, length do
              numbers[i] = random(kinds)
              objects[i] = { key = random(kinds), place = i }
              words[i] = 'w' .. random(kinds)
            end
            try('numbers', numbers)
            try('objects', objects, function(a, b) return a.key < b.key end)
            try('words', words, function(a, b) return a > b end)
            try('sorted', numbers, function(a, b) return a < b end)
          end
        end
        try('always', { 1, 2, 3, 4, 5, 6, 7, 8, 9 }, function() return true end)
        try('never', { 1, 2, 3, 4, 5, 6, 7, 8, 9 }, function() return nil end)
        try('or equal', { 3, 3, 3, 3, 3, 3 }, function(a, b) return a <= b end)
        try('mixed', { 1, 'x', 2 })
        try('raw', setmetatable({ 2, 1 }, { __index = error, __newindex = error, __len = error }))
        for _, args in ipairs({ {}, { 1 }, { {}, 1 }, { {}, 'x' } }) do
          log[#log + 1] = tostring(select(2, pcall(table.sort, args[1], args[2]))):gsub(\"'%?'\", \"'sort'\")
        end
        log = table.concat(log, '\\n')";
    let plain = mlua::Lua::new_with(mlua::StdLib::TABLE | mlua::StdLib::STRING, mlua::LuaOptions::new()).unwrap();
    let expected: String = plain.load(format!("{chunk} return log")).eval().unwrap();
    let patient = PolicySettings { step_budget: Duration::from_secs(5), ..generous() };
    let script = format!(
        "function on_client_connect() return true end
         function on_message(c) {chunk} for i = 1, #log, 10000 do c:send(log:sub(i, i + 9999)) end end"
    );
    let mut world = World::with(patient, &script);
    let c = world.join("c1");
    let outcome = world.message(&c, json!(1));
    let sent = outcome.actions.iter().map(|action| match action {
        Action::Send { value, .. } => value.as_str().unwrap().to_owned(),
        other => panic!("{other:?}"),
    });
    assert!(!outcome.failed, "{outcome:?}");
    for (ours, luajits) in sent.collect::<String>().lines().zip(expected.lines()) {
        assert_eq!(ours, luajits);
    }
    assert!(expected.lines().count() > 100, "{expected}");
}

#[test]
fn rooms_share_nothing() {
    let script = "function on_client_connect() return true end
        function on_message(c, m)
          if m == 'poison' then
            string.rep = nil table.insert = nil math.huge = 1 sfu.room_id = 'x' sfu.config.a = 2 _G.leak = 1
            setmetatable(_G, { __index = function() return 'poisoned' end })
          end
          c:send({ string.rep and 1 or 0, math.huge == 1/0, sfu.room_id, sfu.config.a, rawget(_G, 'leak') or 'clean' })
        end";
    let config = json!({ "a": 1 }).as_object().cloned().unwrap_or_default();
    let mut world = World::with(PolicySettings { config, ..generous() }, script);
    let c = world.join("c1");
    assert_eq!(world.eval(&c, "poison"), json!([0, false, "x", 2, 1]));
    let other = world.engine.open_room(world.now, &room("other"), Ok(compiled(script))).unwrap();
    world.key = other;
    let c = world.join("c1");
    assert_eq!(world.eval(&c, "look"), json!([1, true, "other", 1, "clean"]));
}

#[test]
fn a_script_that_breaks_its_own_globals_does_not_break_the_host() {
    let mut world = World::new(
        "function on_client_connect() return true end
         function on_message(c, m)
           if m == 'break' then
             for _, lib in pairs({ string, table, math, coroutine, bit, os, sfu.json }) do for k in pairs(lib) do lib[k] = nil end end
             type, error, select, unpack, pcall, rawget, pairs, tostring, setmetatable = nil
           end
           c:send(m)
         end
         function on_publish_request(c) sfu.sleep(1) error({}) end",
    );
    let c = world.join("c1");
    for m in ["before", "break", "after"] {
        assert_eq!(world.eval(&c, m), json!(m));
    }
    let track = track("t", "c1", Kind::Audio);
    world.submit(HookCall::PublishRequest { client: c.clone(), track });
    world.pass(Duration::from_millis(1));
    assert!(matches!(world.outcomes()[..], [(_, Verdict::Undecided(Undecided::Failed, _))]));
    assert_eq!(world.eval(&c, "still"), json!("still"));
}

#[test]
fn an_error_value_of_any_kind_is_only_a_failed_hook() {
    for error in [
        "{}",
        "nil",
        "true",
        "print",
        "C",
        "coroutine.create(print)",
        "setmetatable({}, { __tostring = function() while true do end end })",
        "setmetatable({}, { __tostring = function() error('x') end })",
        "('x'):rep(1000000)",
        "'\\255'",
        "0/0",
    ] {
        let mut world = World::new(&format!(
            "function on_client_connect() return true end
             function on_message(c, m) C = c if m == 1 then error({error}) end c:send(m) end"
        ));
        let c = world.join("c1");
        assert!(world.message(&c, json!(1)).failed, "{error}");
        assert_eq!(world.eval(&c, "x"), json!("x"), "{error}");
    }
}
