//! Scripts that try to hold their thread or take all memory. Each is stopped, and its room goes on.

use super::*;

/// Stopped for their time.
pub(super) const LOOPS: &[&str] = &[
    "while true do end",
    "repeat until false",
    "for i = 1, math.huge do end",
    "goto top ::top:: goto top",
    "local function f() return f() end f()",
    "while true do pcall(function() while true do end end) end",
    "local function f() pcall(f) while true do pcall(f) end end f()",
    "while true do xpcall(function() while true do end end, function() while true do end end) end",
    "xpcall(function() error('x') end, function() while true do end end)",
    "local function h() xpcall(error, h) while true do end end h()",
    "while true do coroutine.wrap(function() while true do end end)() end",
    "local function nest(n) local co = coroutine.create(function() nest(n + 1) while true do end end) coroutine.resume(co) while true do end end nest(1)",
    "while true do coroutine.resume(coroutine.create(function() while true do pcall(coroutine.yield) end end)) end",
    "local co = coroutine.wrap(function() while true do coroutine.yield() end end) while true do co() end",
    "coroutine.wrap(function() pcall(function() while true do end end) while true do end end)()",
    "table.sort({ 3, 2, 1, 5, 4 }, function(a, b) while true do end end)",
    "table.sort({ 3, 2, 1, 5, 4 }, function(a, b) while true do pcall(function() while true do end end) end end)",
    "local t = {} for i = 1, 60000 do t[i] = i % 7 end while true do table.sort(t) end",
    "local t = setmetatable({}, { __index = function(t, k) while true do end end }) local x = t.x",
    "local t = setmetatable({}, { __lt = function() while true do end end }) local x = t < t",
    "local t = setmetatable({}, { __concat = function() while true do end end }) local x = t .. 'x'",
    "local t = setmetatable({}, { __eq = function() while true do end end }) local x = t == setmetatable({}, getmetatable(t))",
    "local t = setmetatable({}, { __call = function(self) while true do self() end end }) t()",
    "tostring(setmetatable({}, { __tostring = function() while true do end end }))",
    "tostring(setmetatable({}, { __tostring = function() while true do pcall(function() while true do end end) end end }))",
    "string.format('%s', setmetatable({}, { __tostring = function() while true do end end }))",
    "print(setmetatable({}, { __tostring = function() while true do end end }))",
    "sfu.log_debug(setmetatable({}, { __tostring = function() while true do end end }))",
    "error(setmetatable({}, { __tostring = function() while true do end end })) while true do end",
    "for _ in function() return 1 end do end",
    "for k in next, { 1 } do while true do end end",
    "('x'):rep(1000):gsub('x', function() while true do end end)",
    "('x'):rep(100000):find(('a-'):rep(60) .. 'b')",
    "('a'):rep(30000):match('(.-)(.-)(.-)(.-)b')",
    "('a'):rep(40):find(('a?'):rep(40) .. ('a'):rep(40))",
    "while true do ('a'):rep(500000):find('(a*)*b') end",
    "for _ in ('a'):rep(100000):gmatch('.-b') do end while true do end",
    "('a'):rep(500000):find(('a'):rep(250000) .. 'b', 1, true) while true do end",
    "('a'):rep(20000):gsub('.-.-.-b', '')",
    "while true do string.rep('x', 1000000) end",
    "while true do sfu.json.encode({ ('x'):rep(1000) }) end",
    "while true do sfu.json.decode('[1,[2,[3]]]') end",
    "while true do sfu.sha256(('x'):rep(100000)) end",
    "while true do sfu.base64.encode(('x'):rep(1000)) end",
    "while true do sfu.clients() end",
    "while true do sfu.log_debug('x') end",
    "while true do pcall(sfu.broadcast, 'x') end",
    "while true do pcall(C.send, C, {}) end",
    "while true do pcall(error, 'x') end",
    "while true do pcall(sfu.set_timeout, 1, print) end",
    "local t = {} for i = 1, 100 do t[i] = i end while true do table.concat(t) end",
    "while true do local t = {} for i = 1, 1000 do t[i] = {} end end",
    "local t = {} while true do table.insert(t, 1, 1) if #t > 10000 then t = {} end end",
    "while true do math.random() end",
    "while true do string.format('%99.99f', math.pi) end",
    "while true do pcall(sfu.jwt_verify, 'a.b.c', 'key') end",
];

/// Stopped at their memory cap, or for their time on the way there, or by an error; never by the process's end.
pub(super) const BOMBS: &[&str] = &[
    "local t = {} while true do t[#t + 1] = {} end",
    "local t = {} for i = 1, 1e9 do t[i] = i end",
    "local s = 'x' while true do s = s .. s end",
    "local t = {} while true do t[#t + 1] = ('x'):rep(10000) .. #t end",
    "string.rep('x', 1e9)",
    "string.rep('x', 2^31)",
    "string.rep('x', math.huge)",
    "string.rep('x', 1000, ('y'):rep(10000))",
    "local t = {} for i = 1, 1000 do t[i] = ('x'):rep(100000) end table.concat(t)",
    "local s = ('x'):rep(100000) local t = {} for i = 1, 1000 do t[i] = s end return #table.concat(t)",
    "('x'):rep(100000):gsub('.', ('y'):rep(1000))",
    "('x'):rep(100000):gsub('.', function() return ('y'):rep(1000) end)",
    "local function f() return 1 + f() end f()",
    "local function f(...) return f(1, ...) end f()",
    "local function f() f() f() end f()",
    "local t = {} for i = 1, 200000 do t[i] = function() return i end end",
    "local t = {} while true do t[#t + 1] = coroutine.create(function() coroutine.yield() end) coroutine.resume(t[#t]) end",
    "local function nest() coroutine.wrap(nest)() end nest()",
    "unpack({}, 1, 1e8)",
    "unpack({}, 1, 2^31 - 1)",
    "string.char(unpack({}, 1, 7000))",
    "table.insert({}, -2147483648, 1)",
    "table.insert({}, 2147483647, 1)",
    "table.insert({ 1 }, 0/0, 1)",
    "local t = { 1 } t[2^31] = 1 table.insert(t, 2^31, 1) table.remove(t, 2^31)",
    "table.concat({}, 'x', -2147483648, 2147483647)",
    "table.concat({}, 'x', 1, 2^53)",
    "('%s'):rep(100000):format(unpack({}, 1, 7000))",
    "local t = {} for i = 1, 100 do t = { t } end sfu.broadcast(t)",
    "local t = {} t.t = t sfu.broadcast(t)",
    "local t = { 1 } for i = 1, 40 do t = { t, t } end sfu.broadcast(t)",
    "local t = { 1 } for i = 1, 40 do t = { t, t } end sfu.json.encode(t)",
    "sfu.broadcast(('x'):rep(1000000))",
    "sfu.json.decode(('['):rep(500000))",
    "while true do sfu.broadcast(('x'):rep(60000)) end",
    "local function f() return tostring(setmetatable({}, { __tostring = f })) end f()",
    "local function f() return string.format('%s', setmetatable({}, { __tostring = f })) end f()",
    "local function f() return (('x'):gsub('x', f)) end f()",
    "local function f() table.sort({ 1, 2 }, f) return true end f()",
    "local mt = {} mt.__index = setmetatable({}, mt) local x = mt.__index.x",
    "local t = {} for i = 1, 1e6 do t = setmetatable({}, { __index = t }) end return t.x",
    "while true do sfu.count('c' .. math.random()) end",
    "while true do sfu.set_timeout(1e6, function() end) end",
    "local k = {} while true do k[#k + 1] = sfu.json.decode('[[],[],[],[],[],[],[]]') end",
    "error(('x'):rep(1000000))",
    "assert(false, ('x'):rep(1000000))",
];

pub(super) fn in_room(body: &str) -> World {
    let script = format!(
        "function on_client_connect() return true end
         function on_message(c, m) C = c if m == 'run' then {body} end c:send(m) end"
    );
    World::with(PolicySettings { step_budget: Duration::from_millis(5), ..generous() }, &script)
}

#[test]
fn every_loop_is_stopped_and_its_room_goes_on() {
    on_a_shards_stack(|| {
        for body in LOOPS {
            let mut world = in_room(&format!("do {body} end"));
            let c = world.join("c1");
            let outcome = world.message(&c, json!("run"));
            assert!(outcome.failed, "{body}: {outcome:?}");
            assert_eq!(world.eval(&c, "after"), json!("after"), "{body}");
            world.join("c2");
        }
        assert!(LOOPS.len() >= 40, "{}", LOOPS.len());
    });
}

#[test]
fn no_bomb_hurts_the_process_or_its_room() {
    on_a_shards_stack(|| {
        for body in BOMBS {
            let mut world = in_room(&format!("do (function() {body} end)() end"));
            let c = world.join("c1");
            world.message(&c, json!("run"));
            assert_eq!(world.eval(&c, "after"), json!("after"), "{body}");
            let memory = world.engine.room_status(world.key).unwrap().memory;
            assert!(memory <= generous().memory_bytes, "{body}: {memory}");
        }
    });
}

/// What takes the kill through every level of it would hold the thread for long.
#[test]
fn coroutines_nest_two_hundred_deep_and_plain_use_of_them_goes_on() {
    let mut world = World::new(
        "local function nest(n) local ok, deeper = coroutine.resume(coroutine.create(nest), n + 1) return ok and deeper or n end
         local function wrapped(n) return (select(2, pcall(coroutine.wrap(wrapped), n + 1))) end
         function on_client_connect() return true end
         function on_message(c, m)
           if m == 'nest' then c:send(nest(0)) end
           if m == 'wrap' then c:send((wrapped(0):gsub('^.-: ', ''))) end
           if m == 'many' then
             local sum, co = 0, coroutine.wrap(function() for i = 1, 1000 do coroutine.yield(i) end end)
             for _ = 1, 1000 do sum = sum + co() end
             for _ = 1, 1000 do sum = sum + select(2, coroutine.resume(coroutine.create(function() return 1 end))) end
             c:send(sum)
           end
           if m == 'self' then
             local outer outer = coroutine.create(function()
               for _ = 1, 300 do coroutine.wrap(function() assert(not coroutine.resume(outer)) end)() end
               return 'fine'
             end)
             c:send(select(2, coroutine.resume(outer)))
           end
           if m == 'none' then c:send(select(2, pcall(coroutine.resume, nil))) end
         end",
    );
    let c = world.join("c1");
    for (name, expected) in [
        ("nest", json!(200)),
        ("wrap", json!("C stack overflow")),
        ("many", json!(501_500)),
        ("self", json!("fine")),
        ("none", json!("bad argument #1 to 'resume' (coroutine expected)")),
        ("nest", json!(200)),
    ] {
        assert_eq!(world.eval(&c, name), expected, "{name}");
    }
}

#[test]
fn a_script_may_use_half_its_memory_for_good() {
    let mut world = World::new(
        "KEEP = {} for i = 1, 8000 do KEEP[i] = { id = 'client-' .. i } end
         function on_client_connect() return true end
         function on_message(c, m) for i = 1, 200 do local t = { {}, {}, ('x'):rep(100) .. i } end c:send(m) end",
    );
    let c = world.join("c1");
    for _ in 0..500 {
        assert_eq!(world.eval(&c, "x"), json!("x"));
    }
    let memory = world.engine.room_status(world.key).unwrap().memory;
    assert!(memory > 900_000 && memory < 2_000_000, "{memory}");
}

#[test]
fn another_room_of_the_same_thread_is_unharmed() {
    let mut world = in_room("while true do pcall(function() while true do end end) end");
    let c = world.join("c1");
    let quiet =
        world.engine.open_room(world.now, &room("quiet"), Ok(compiled("function on_client_connect() return true end")));
    let (loud, quiet) = (world.key, quiet.unwrap());
    for n in 0..5 {
        world.key = loud;
        assert!(world.message(&c, json!("run")).failed);
        world.key = quiet;
        world.join(&format!("q{n}"));
    }
    assert_eq!(world.engine.stats().kills, 5);
}

/// `#` of a table with holes can be hundreds of millions, and what LuaJIT does for each of them in C stops for nobody.
#[test]
fn an_insert_into_a_table_that_counts_as_huge_is_stopped_on_the_way() {
    let settings = PolicySettings { step_budget: Duration::from_millis(5), ..generous() };
    let script = "T = {} T[1], T[2] = 'old', 2 for k = 26, 0, -1 do T[3 * 2 ^ k] = 3 end
        function on_client_connect() return true end
        function on_message(c, m) if m == 'run' then table.insert(T, 1, 'new') end c:send({ #T > 2 ^ 26, T[1] }) end";
    let mut world = World::with(settings, script);
    let c = world.join("c1");
    assert_eq!(world.eval(&c, "before"), json!([true, "old"]));
    assert!(world.message(&c, json!("run")).failed);
    assert_eq!(world.eval(&c, "after")[1], json!("old"), "it was stopped on the way");
}

#[test]
fn an_insert_moves_what_is_behind_it_however_much_that_is() {
    let mut world = World::new(
        "function on_client_connect() return true end
         function on_message(c, n)
           local t = {} for i = 1, n do t[i] = i end
           table.insert(t, 2.9, 'a') table.insert(t, #t + 1, 'b') table.insert(t, #t, 'c') table.insert(t, 'd')
           local is_whole = #t == n + 4
           for i = 3, n + 1 do is_whole = is_whole and t[i] == i - 1 end
           c:send({ t[1], t[2], is_whole, t[n + 2], t[n + 3], t[n + 4], pcall(table.insert, t, 1) })
         end",
    );
    let c = world.join("c1");
    for n in [10, 8_190, 8_193, 8_194, 8_195, 20_000] {
        let said = world.message(&c, json!(n)).actions;
        let expected = json!([1, "a", true, "c", "b", "d", true]);
        assert_eq!(said, [Action::Send { client: c.id.clone(), value: expected }], "{n}");
    }
}

#[test]
fn the_largest_text_for_a_url_is_encoded_within_a_step() {
    let mut world = in_room("c:send(sfu.url_encode(('%'):rep(65536)) == ('%25'):rep(65536))");
    let c = world.join("c1");
    assert_eq!(world.eval(&c, "run"), json!(true));
}
