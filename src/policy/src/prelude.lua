-- Runs in every room's state before the room's script: keeps the safe part of Lua, replaces what cannot be stopped, and
-- builds `sfu` and the methods of clients from the host's functions. Compiled once for the process.
--
-- Nothing here reads a global or calls a string method after this chunk has run: a script may change all of them.
local call, H, WAIT, FAIL, HOOKS, config, plain_find = ...
local G = _G
local type, error, select, unpack, pcall, xpcall, rawget, rawset = type, error, select, unpack, pcall, xpcall, rawget, rawset
local tostring0, tonumber, pairs, setmetatable, getmetatable = tostring, tonumber, pairs, setmetatable, getmetatable
local strsub, strfind, strformat, strrep = string.sub, plain_find, string.format, string.rep
local concat, insert = table.concat, table.insert
local newproxy = newproxy
-- How a hook ends; section 6 says what they mean.
local MISSING, ALLOWED, RETURNED, FAILED, WAITS, UNDECIDED = 0, 1, 2, 3, 4, 5
local create, resume, yield, running = coroutine.create, coroutine.resume, coroutine.yield, coroutine.running
local status = coroutine.status

-- `call` calls a host function by its number, which `H` has. The result of one; (FAIL, message) is an error at the caller's line.
local function check(a, ...)
  if a == FAIL then error((...), 2) end
  return a, ...
end
-- The same for a function that works on with the result.
local function check_here(a, ...)
  if a == FAIL then error((...), 3) end
  return a, ...
end
local function host(number)
  return function(...) return check(call(number, ...)) end
end

-- 1. The allow-list: whatever else is there goes, also what a later LuaJIT may add.
local function keep(t, names)
  local allowed = {}
  for i = 1, #names do allowed[names[i]] = true end
  for k in pairs(t) do if not allowed[k] then t[k] = nil end end
end
keep(G, { "_G", "_VERSION", "assert", "bit", "coroutine", "error", "getmetatable", "ipairs", "math", "next", "pairs",
  "pcall", "rawequal", "rawget", "rawset", "select", "setmetatable", "string", "table", "tonumber", "tostring", "type",
  "unpack" })
keep(string, { "byte", "char", "find", "format", "gmatch", "gsub", "len", "lower", "match", "rep", "reverse", "sub",
  "upper" })
keep(table, { "concat", "insert", "maxn", "remove", "sort" })
keep(math, { "abs", "acos", "asin", "atan", "atan2", "ceil", "cos", "cosh", "deg", "exp", "floor", "fmod", "frexp", "huge",
  "ldexp", "log", "log10", "max", "min", "modf", "pi", "pow", "rad", "random", "randomseed", "sin", "sinh", "sqrt", "tan",
  "tanh" })
keep(bit, { "arshift", "band", "bnot", "bor", "bswap", "bxor", "lshift", "rol", "ror", "rshift", "tobit", "tohex" })
keep(coroutine, { "create", "resume", "running", "status", "wrap", "yield" })

-- 2. Replacements for what no hook interrupts, what would tell addresses, or what would run Lua beneath C.
local OPAQUE = { table = true, ["function"] = true, thread = true, userdata = true }
local function tostring(...)
  if select("#", ...) == 0 then error("bad argument #1 to 'tostring' (value expected)", 2) end
  local s, t = tostring0(...), type((...))
  if OPAQUE[t] and (strsub(s, 1, #t + 4) == t .. ": 0x" or strsub(s, 1, #t + 9) == t .. ": builtin") then return t end
  return s
end
G.tostring = tostring

-- A message handler would run while the error is still on its way, out of reach of the kill: it runs afterwards.
local function handled(handler, ok, ...)
  if ok then return true, ... end
  return false, handler(...)
end
G.xpcall = function(f, handler, ...)
  if type(handler) ~= "function" then
    error("bad argument #2 to 'xpcall' (function expected, got " .. type(handler) .. ")", 2)
  end
  return handled(handler, pcall(f, ...))
end

local MAX_REP = 1048576
string.rep = function(s, n, sep)
  if type(s) == "number" then s = tostring0(s) end
  if type(s) ~= "string" then error("bad argument #1 to 'rep' (string expected, got " .. type(s) .. ")", 2) end
  n = tonumber(n)
  if not n then error("bad argument #2 to 'rep' (number expected)", 2) end
  if type(sep) == "number" then sep = tostring0(sep) end
  if sep ~= nil and type(sep) ~= "string" then error("bad argument #3 to 'rep' (string expected)", 2) end
  local unit = #s + (sep and #sep or 0)
  if unit == 0 or not (n >= 1) then return "" end
  if unit * n > MAX_REP then error("resulting string too large", 2) end
  return strrep(s, n, sep)
end

string.format = function(fmt, ...)
  local n = select("#", ...)
  local args = { ... }
  for i = 1, n do
    if OPAQUE[type(args[i])] then args[i] = tostring(args[i]) end
  end
  if type(fmt) == "string" and strfind(fmt, "p", 1, true) then
    local at = 1
    while at <= #fmt do
      if strsub(fmt, at, at) == "%" then
        at = at + 1
        while strfind("-+ #0123456789.", strsub(fmt, at, at), 1, true) and at <= #fmt do at = at + 1 end
        if strsub(fmt, at, at) == "p" then error("bad argument #1 to 'format' (option '%p' is not allowed)", 2) end
      end
      at = at + 1
    end
  end
  return strformat(fmt, unpack(args, 1, n))
end

-- LuaJIT moves what is behind the place in C, where nothing stops it; and `#` of a table with holes can be hundreds of millions.
local MAX_MOVED = 8192
table.insert = function(t, ...)
  if select("#", ...) == 2 and type(t) == "table" then
    local at, last = tonumber((...)), #t
    if not at or not (at >= 1 and at <= last + 1) then error("bad argument #2 to 'insert' (position out of bounds)", 2) end
    if last - at > MAX_MOVED then
      at = at - at % 1
      for i = last, at, -1 do rawset(t, i + 1, rawget(t, i)) end
      rawset(t, at, (select(2, ...)))
      return
    end
  end
  return insert(t, ...)
end

-- LuaJIT's own quicksort, in Lua: its comparator may wait, and sorts within comparators don't nest the C stack, which
-- takes an error through it so long that the kill would come late. Says true when the comparator contradicts itself.
local function less(a, b) return a < b end
local function quicksort(t, from, to, f)
  while from < to do
    local a, z = rawget(t, from), rawget(t, to)
    if f(z, a) then rawset(t, from, z) rawset(t, to, a) a, z = z, a end
    if to - from == 1 then return end
    local i = (from + to) / 2
    i = i - i % 1
    local pivot = rawget(t, i)
    if f(pivot, a) then
      rawset(t, i, a) rawset(t, from, pivot) pivot = a
    elseif f(z, pivot) then
      rawset(t, i, z) rawset(t, to, pivot) pivot = z
    end
    if to - from == 2 then return end
    local last = to - 1
    rawset(t, i, rawget(t, last)) rawset(t, last, pivot)
    local j = last
    i = from
    while true do
      i = i + 1
      local low = rawget(t, i)
      while f(low, pivot) do
        if i >= to then return true end
        i = i + 1
        low = rawget(t, i)
      end
      j = j - 1
      local high = rawget(t, j)
      while f(pivot, high) do
        if j <= from then return true end
        j = j - 1
        high = rawget(t, j)
      end
      if j < i then break end
      rawset(t, i, high) rawset(t, j, low)
    end
    rawset(t, last, rawget(t, i)) rawset(t, i, pivot)
    -- The smaller half by recursion, so that it is never deep.
    if i - from < to - i then
      if quicksort(t, from, i - 1, f) then return true end
      from = i + 1
    else
      if quicksort(t, i + 1, to, f) then return true end
      to = i - 1
    end
  end
end
table.sort = function(t, f)
  if type(t) ~= "table" then error("bad argument #1 to 'sort' (table expected, got " .. type(t) .. ")", 2) end
  if f ~= nil and type(f) ~= "function" then
    error("bad argument #2 to 'sort' (function expected, got " .. type(f) .. ")", 2)
  end
  if quicksort(t, 1, #t, f or less) then error("invalid order function for sorting", 2) end
end

getmetatable("").__metatable = false

-- 3. Coroutines. A wait inside a script's coroutine is handed on, from resumer to resumer, to the engine.
-- The kill goes through resumers one by one, and each step is an error on its way: so they may not be many.
local RUNNERS, DEPTH, MAX_DEPTH = setmetatable({}, { __mode = "k" }), setmetatable({}, { __mode = "k" }), 200
local function nested(co)
  if status(co) ~= "suspended" then return false end
  local depth = (DEPTH[running()] or 0) + 1
  DEPTH[co] = depth
  return depth > MAX_DEPTH
end
-- In a hook the engine is told by a number, which no script can yield there; in a script's coroutine its resumer by a
-- mark, which no script has.
local function wait()
  if RUNNERS[running()] then return yield(WAITS) end
  return yield(WAIT)
end
coroutine.yield = function(...)
  if RUNNERS[running()] then error("attempt to yield outside of a coroutine", 2) end
  return yield(...)
end
local function resumed(co, ok, mark, ...)
  if ok and mark == WAIT then return resumed(co, resume(co, wait())) end
  return ok, mark, ...
end
coroutine.resume = function(co, ...)
  if type(co) ~= "thread" then error("bad argument #1 to 'resume' (coroutine expected)", 2) end
  if RUNNERS[co] then return false, "cannot resume a hook" end
  if nested(co) then return false, "C stack overflow" end
  return resumed(co, resume(co, ...))
end
local function unwrapped(ok, ...)
  if not ok then error((...), 0) end
  return ...
end
coroutine.wrap = function(f)
  if type(f) ~= "function" then error("bad argument #1 to 'wrap' (function expected, got " .. type(f) .. ")", 2) end
  local co = create(f)
  return function(...)
    if nested(co) then error("C stack overflow", 2) end
    return unwrapped(resumed(co, resume(co, ...)))
  end
end
coroutine.running = function()
  local co = running()
  if co and not RUNNERS[co] then return co end
end

-- Asks the engine for something that takes time. The host function says what; the answer comes back from the yield.
local function answered(...) return check(...) end
local function waiting(number)
  return function(...)
    local failed, message = call(number, ...)
    if failed == FAIL then error(message, 2) end
    return answered(wait())
  end
end

-- What scripts find under the names of the host's functions is made when it is first asked for.
local FIND, MAKERS = H.find
local function made(prefix, name)
  local found = call(FIND, prefix, name)
  if found then return MAKERS[found[2]](found[1], prefix .. name) end
end
local function lazy(prefix)
  local t = {}
  return setmetatable(t, { __metatable = false, __index = function(_, name)
    local value = made(prefix, name)
    if value ~= nil then rawset(t, name, value) end
    return value
  end })
end

-- 4. Clients: to the host they are numbers, to a script empty userdata with methods. A script cannot make one, and the
-- object of a client is the same one as long as the script holds it.
local METHODS, get_id, module_chunk = lazy("client:"), H["client:get_id"], H.module
local NUMBERS, OBJECTS = setmetatable({}, { __mode = "k" }), setmetatable({}, { __mode = "v" })
local prototype = newproxy(true)
do
  local meta = getmetatable(prototype)
  meta.__index, meta.__metatable = METHODS, false
  meta.__tostring = function(this) return "client " .. (NUMBERS[this] and call(get_id, NUMBERS[this]) or "?") end
end
local function object(number)
  if not number then return nil end
  local this = OBJECTS[number]
  if not this then
    this = newproxy(prototype)
    OBJECTS[number], NUMBERS[this] = this, number
  end
  return this
end
local function objects(numbers)
  for i = 1, #numbers do numbers[i] = object(numbers[i]) end
  return numbers
end

-- 5. `sfu`, and the parts of `os` and `utf8` that make sense here. A maker for each kind of host function, by its number
-- in api/mod.rs: what a script finds under its name is made when it is first asked for.
MAKERS = {
  host,
  function(number) return call(number) end,
  waiting,
  function(number) return function(message) call(number, tostring(message)) end end,
  function(number) return function(...) return object(check_here(call(number, ...))) end end,
  function(number) return function() return objects(check_here(call(number))) end end,
  function(number)
    return function(value, except)
      if except ~= nil then except = NUMBERS[except] or false end
      return check(call(number, value, except))
    end
  end,
  function(number)
    return function(this, ...) return check(call(number, this ~= nil and NUMBERS[this] or false, ...)) end
  end,
  function(number)
    return function(...)
      local n, parts = select("#", ...), { ... }
      for i = 1, n do parts[i] = check_here(call(number, parts[i])) end
      return concat(parts, "", 1, n)
    end
  end,
  function(number)
    return function(text)
      return function(text, at) return check_here(call(number, text, at)) end, text, 0
    end
  end,
  function(_, path) return lazy(path .. ".") end,
  function(number) return call(number)(type, error, made("sfu.", "now"), waiting(H.fetch), call, H.no_set) end,
}
G.utf8, G.os, G.sfu = lazy("utf8."), lazy("os."), lazy("sfu.")
G.sfu.config = config
local LOADED, LOADING = {}, {}
G.require = function(name)
  local loaded = LOADED[name]
  if loaded == LOADING then error("module '" .. name .. "' requires itself", 2) end
  if loaded ~= nil then return loaded end
  local chunk = check_here(call(module_chunk, name))
  LOADED[name] = LOADING
  local ok, value = pcall(chunk, name)
  if ok and value == nil then value = true end
  if not ok then
    LOADED[name] = nil
    error(value, 0)
  end
  LOADED[name] = value
  return value
end
local print_line = H.print
G.print = function(...)
  local n, texts = select("#", ...), { ... }
  for i = 1, n do texts[i] = tostring(texts[i]) end
  call(print_line, concat(texts, "\t", 1, n))
end
-- 6. The body of the coroutines that hooks run in, one hook after the other: gets a hook's number or a function, and
-- yields how it ended: MISSING there is no such hook; ALLOWED it decided and said true, or does not decide and said
-- nothing; RETURNED otherwise: RESULT[1] is the reason, or its first value; FAILED: it is the traceback. WAITS is a wait.
-- UNDECIDED: it decides and has returned neither a boolean nor a reason; RESULT[1] is the type.
local traceback, RESULT = H.traceback, {}
local NAMES, ARGUMENTS, DECIDES = HOOKS.names, HOOKS.arguments, HOOKS.decides
local function track(id, client_id, kind, source, quality, layers, codec, muted)
  return { id = id, client_id = client_id, kind = kind, source = source, quality = quality, simulcast = layers,
    codec = codec, codecs = { codec }, muted = muted }
end
-- What a hook is given and whether it decides: hook_table.rs. Every hook of every room comes through here: no calls and
-- no lists of arguments but those that it takes.
local function loop(what, a, b, ...)
  local name, code, ok, x, y = NAMES[what], MISSING, nil, nil, nil
  if name == nil then
    ok, x = xpcall(what, traceback)
  else
    local f = rawget(G, name)
    if f ~= nil then
      local takes = ARGUMENTS[what]
      if takes == "client" then
        ok, x, y = xpcall(f, traceback, OBJECTS[a] or object(a), b)
      elseif takes == "client and track" then
        ok, x, y = xpcall(f, traceback, OBJECTS[a] or object(a), track(b, ...))
      elseif takes == "clients" then
        ok, x, y = xpcall(f, traceback, objects(a))
      else
        ok, x, y = xpcall(f, traceback, a, b)
      end
    end
  end
  if ok then
    code = ALLOWED
    if DECIDES[what] then
      if x == false or x ~= true and y ~= nil then RESULT[1], code = y, RETURNED
      elseif x ~= true then RESULT[1], code = type(x), UNDECIDED end
    elseif x ~= nil then
      RESULT[1], code = x, RETURNED
    end
  elseif ok == false then
    RESULT[1], code = x, FAILED
  end
  -- Nothing of this hook is to be held until the next one.
  a, b, x, y = nil, nil, nil, nil
  return loop(yield(code))
end
local function runner(...)
  RUNNERS[running()] = true
  return loop(...)
end
return runner, OBJECTS, RESULT
