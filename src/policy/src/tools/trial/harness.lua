-- Runs in a test file's state before the test file: makes `test`, and the rooms and clients that it drives. `H` is the
-- host's table of functions; each answers true and values, or false and message.
local H = ...
local json = sfu.json
local null = json.null

local test, Room, Client = {}, {}, {}
Room.__tostring = function(room) return "room " .. room.id end
Client.__tostring = function(client) return "client " .. client.id end

local function check(ok, ...)
  if ok then return ... end
  local _, place = H.place()
  error({ at = place, message = tostring((...)) }, 0)
end
local function call(name, ...) return check(H[name](...)) end
local function fail(message, got, expected)
  local _, place = H.place()
  error({ at = place, message = message, got = got, expected = expected }, 0)
end

-- A misspelt field would be nil, and `test.eq(client.kickd, nil)` would hold for ever. `unset` are those that may be nil.
local function fields_of(what, methods, unset)
  return function(object, name)
    if methods[name] ~= nil or unset[name] or tostring(name):find("^_") then return methods[name] end
    local known = {}
    for _, names in ipairs({ object, methods, unset }) do
      for field in pairs(names) do if type(field) == "string" and not field:find("^_") then known[#known + 1] = field end end
    end
    table.sort(known)
    fail(call("unknown", what .. " has no", tostring(name), known))
  end
end
local function set(...)
  local names = {}
  for _, name in ipairs({ ... }) do names[name] = true end
  return names
end
Room.__index = fields_of("a room", Room, set("closed", "over", "audio_last_n", "handler"))
Client.__index = fields_of("a client", Client, set("allowed", "reason", "kicked", "max_bitrate"))

-- Rooms and clients; an empty array of JSON has a metatable, too.
local function is_object(value)
  local metatable = getmetatable(value)
  return metatable and rawget(metatable, json.empty_array) ~= true
end

-- A value as a test would write it.
local function show(value, depth)
  local kind = type(value)
  if kind == "string" then return string.format("%q", value) end
  if kind ~= "table" or is_object(value) then return value == null and "null" or tostring(value) end
  if depth > 6 then return "{…}" end
  local parts, keys = {}, {}
  for i = 1, #value do parts[i] = show(value[i], depth + 1) end
  for key in pairs(value) do
    if not (type(key) == "number" and key >= 1 and key <= #value and key % 1 == 0) then keys[#keys + 1] = key end
  end
  table.sort(keys, function(a, b) return tostring(a) < tostring(b) end)
  for _, key in ipairs(keys) do
    local name = type(key) == "string" and key:find("^[%a_][%w_]*$") and key or "[" .. show(key, depth + 1) .. "]"
    parts[#parts + 1] = name .. " = " .. show(value[key], depth + 1)
  end
  return #parts == 0 and "{}" or "{ " .. table.concat(parts, ", ") .. " }"
end

local function same(a, b)
  if type(a) ~= "table" or type(b) ~= "table" or is_object(a) or is_object(b) then return a == b end
  for key, value in pairs(a) do if not same(value, b[key]) then return false end end
  for key in pairs(b) do if a[key] == nil then return false end end
  return true
end

-- What a test gives to the harness: of the right type, and a table of options with names that there are.
local function need(of, kind, value)
  if type(value) ~= kind then fail(of .. " is a " .. kind .. ", not " .. show(value, 0)) end
  return value
end
local function options_of(of, options)
  if options ~= nil then call("options", of, options, show(options, 0)) end
  return options or {}
end
local function id_of(of, value)
  if type(value) == "table" then value = rawget(value, "id") end
  return need(of, "string", value)
end

function test.eq(got, expected, what)
  if not same(got, expected) then fail(what or "not equal", show(got, 0), show(expected, 0)) end
end
function test.ok(value, what)
  if not value then fail(what or "not true", show(value, 0), "true") end
end
function test.match(text, pattern, what)
  need("test.match: the pattern", "string", pattern)
  if type(text) ~= "string" or not text:find(pattern) then fail(what or "does not match", show(text, 0), pattern) end
end
function test.jwt(claims, key) return call("jwt", claims, key) end
test.json, test.null, test.start = json, null, H.START

-- What happened in a room, as the host tells it, becomes visible in the room's and its clients' fields.
local happen, logged = {}, {}
local function client_of(room, event) return room.clients[event.client] end
function happen.send(room, event)
  local client = client_of(room, event)
  client.sent[#client.sent + 1] = event.value
  room.sends[#room.sends + 1] = { value = event.value, to = event.client }
end
function happen.broadcast(room, event)
  room.broadcasts[#room.broadcasts + 1] = { value = event.value, except = event.except ~= "" and event.except or nil }
  for _, id in ipairs(event.to) do
    local sent = room.clients[id].sent
    sent[#sent + 1] = event.value
  end
end
function happen.kick(room, event) client_of(room, event).kicked = event.reason end
function happen.webhook(room, event) room.webhooks[#room.webhooks + 1] = { event = event.event, data = event.data } end
function happen.close(room, event) room.closed = event.reason end
function happen.audio_last_n(room, event) room.audio_last_n = event.n end
function happen.gone(room, event) client_of(room, event).joined = false end
function happen.bitrate(room, event) client_of(room, event).max_bitrate = event.n end
function happen.layer(room, event) client_of(room, event).max_layers[event.track] = event.n end
function happen.priority(room, event) client_of(room, event).priorities[event.track] = event.n end
function happen.mute(room, event) client_of(room, event).muted[event.track] = event.muted or nil end
function happen.attributes(room, event) client_of(room, event).attributes = event.attributes end
function happen.rights(room, event) client_of(room, event).rights = event.rights end
function happen.hidden(room, event) client_of(room, event).hidden = event.hidden end
function happen.ended(room, event) client_of(room, event).ended[event.track] = event.reason end
function happen.announce(room, event) room.announced = event.who end
function happen.over(room, event) room.over = event.reason end
function happen.opened(room) room.over = nil end
function happen.revived(room) room._revived = true end
function happen.reloaded(room, event) room._reloaded = event end
function happen.log(room, event)
  local line, hook = { level = event.level, text = event.text, hook = event.hook }, event.hook ~= "" and event.hook .. ": " or ""
  if event.level == "failure" then room._failed[#room._failed + 1] = line return end
  if not event.of_engine then room.log[#room.log + 1] = line end
  logged[#logged + 1] = ("%s %s%s"):format(event.level, hook, event.text)
end
function happen.outcome(room, event)
  local settle = room._settle[event.ticket]
  room._settle[event.ticket] = nil
  if settle then settle(event) end
end
function happen.http(room, event)
  room.requests[#room.requests + 1] = event.request
  local reply, message = nil, "no route to the host: the test has no room:http(function)"
  if room.handler then
    local server = room._server
    reply, message = room.handler(event.request)
    -- It may have lost it.
    if room._server ~= server then return end
    message = message or "no route to the host: the test's room:http(function) returned nothing"
  end
  if reply ~= nil then
    options_of("reply", reply)
    if reply.body ~= nil then need("reply: the body (test.json.encode makes one)", "string", reply.body) end
  end
  local delay, timeout = reply and reply.delay or room._http_delay, event.request.timeout
  -- As the server's client does it: an answer that comes too late is none.
  if delay > timeout then reply, message, delay = nil, "timed out", timeout end
  call("reply", room._number, event.id, reply, message, delay)
end

local function pump(room)
  repeat
    local events = call("drain", room._number)
    for _, event in ipairs(events) do happen[event.op](room, event) end
  until #events == 0
end

local rooms = {}
local function named(script)
  if type(script) ~= "table" then return need("test.room: the script", "string", script) end
  options_of("script", script)
  return script.name or "room.lua", need("test.room: the script's source", "string", script.source)
end

function test.room(script, config, options)
  local name, source = named(script)
  options = options_of("test.room", options)
  local id = options.id or "test"
  local number = call("open", name, source, config, id, options.metadata)
  local room = setmetatable({ id = id, clients = {}, broadcasts = {}, sends = {}, log = {}, requests = {}, webhooks = {},
    announced = "all", _number = number, _failed = {}, _settle = {}, _joined = 0, _tracks = 0, _http_delay = 0, _server = 0 }, Room)
  rooms[#rooms + 1] = room
  pump(room)
  return room
end

function Room:connect(options)
  options = options_of("room:connect", options)
  self._joined = self._joined + 1
  local id = options.id or "c" .. self._joined
  local metadata = options.metadata == nil and {} or options.metadata
  local connection = { ip = options.ip or "192.0.2.1", kind = options.kind, origin = options.origin,
    user_agent = options.user_agent, headers = options.headers }
  local ticket = call("connect", self._number, id, connection, options.token or "", metadata)
  local client = setmetatable({ room = self, id = id, sent = {}, max_layers = {}, priorities = {}, muted = {}, joined = false,
    attributes = {}, hidden = false, ended = {},
    rights = { publish = { "camera", "microphone", "screen", "screen_audio", "other" }, subscribe = true, message = true },
  }, Client)
  self.clients[id] = client
  self._settle[ticket] = function(outcome)
    client.allowed, client.joined = outcome.allowed, outcome.allowed
    client.reason = not outcome.allowed and outcome.reason or nil
  end
  pump(self)
  -- Timers that were due while there was no server.
  if self._revived then self._revived = nil self:advance(0) end
  return client, client.allowed, client.reason
end

function Room:advance(ms)
  call("pass", self._number, need("room:advance: the time in milliseconds", "number", ms))
  local more
  repeat
    more = call("step", self._number)
    pump(self)
  until not more
end

function Room:now() return call("now", self._number) end
function Room:http(handler, options)
  if handler ~= nil then need("room:http: what answers", "function", handler) end
  self.handler, self._http_delay = handler, options_of("room:http", options).delay or 0
end
function Room:counter(name) return call("counter", self._number, name) end

function Room:reload(script, options)
  local name, source = named(script)
  self._reloaded = nil
  local message = call("reload", self._number, name, source, options_of("room:reload", options).drop_state or false)
  if message then return false, message end
  pump(self)
  if not self._reloaded then return nil, "the reload waits for hooks that wait" end
  return self._reloaded.ok, not self._reloaded.ok and self._reloaded.text or nil
end

-- Nothing is left but the last checkpoint that was due, and what the next client joins is a room of another server.
function Room:lose_server()
  call("lose_server", self._number)
  self._settle, self._server = {}, self._server + 1
  pump(self)
end

function Room:speakers(clients)
  local ids = {}
  for i, client in ipairs(need("room:speakers: who speaks", "table", clients)) do
    ids[i] = id_of("room:speakers: who speaks", client)
  end
  call("speakers", self._number, ids)
  pump(self)
end

-- What an operator's program is answered; nil and a reason when there is no answer.
function Room:call(request)
  local answer, reason
  self._settle[call("call", self._number, request)] = function(outcome)
    if outcome.missing then reason = "the room's script has no on_admin" return end
    if outcome.failed then reason = "the script failed" return end
    if outcome.refused ~= null then reason = outcome.refused return end
    if outcome.answer ~= null then answer = outcome.answer end
  end
  pump(self)
  return answer, reason
end

-- What an operator does past the script, by HTTP or by a command, in the words of a recording:
-- { set_attributes = {…}, client = id }, { set_rights = {…}, client = id, reason = }, { kick = id, reason = } and so on.
function Room:operator(action)
  call("operator", self._number, action)
  pump(self)
end

-- The failures of hooks so far; a test that asks for them says that it expected them.
function Room:failures()
  local failed = self._failed
  self._failed = {}
  return failed
end

-- Asks, and answers what the script says: allowed, reason; nil while the hook waits.
local function ask(client, name, argument, settled)
  local room, answer = client.room, {}
  local ticket = call(name, room._number, client.id, argument)
  room._settle[ticket] = function(outcome)
    answer.allowed = outcome.allowed
    answer.reason = not outcome.allowed and outcome.reason or nil
    answer.missing, answer.failed = outcome.missing, outcome.failed
    if outcome.refused ~= null then answer.refused = outcome.refused end
    if settled then settled(outcome) end
  end
  pump(room)
  return answer
end

function Client:publish(options)
  local track = {}
  for key, value in pairs(options_of("client:publish", options)) do track[key] = value end
  self.room._tracks = self.room._tracks + 1
  track.id = track.id or "t" .. self.room._tracks
  local answer = ask(self, "publish", track)
  return track, answer.allowed, answer.reason
end
function Client:unpublish(track)
  call("unpublish", self.room._number, self.id, id_of("client:unpublish: the track", track))
  pump(self.room)
end
function Client:subscribe(track)
  local answer = ask(self, "subscribe", id_of("client:subscribe: the track", track))
  return answer.allowed, answer.reason
end
-- True when the script has taken the message; false when it has no on_message, or failed, or the message was refused:
-- then the reason comes with it.
function Client:message(value)
  local answer = ask(self, "message", value)
  if answer.allowed == nil then return nil end
  return not (answer.missing or answer.failed or answer.refused), answer.refused
end
function Client:disconnect(reason)
  call("disconnect", self.room._number, self.id, reason or "left")
  pump(self.room)
end
-- What the client has sent and received by now: { bytes_in =, bytes_out =, packets_in =, packets_out = }.
function Client:traffic(counts)
  counts = options_of("client:traffic", counts)
  options_of("path", counts.path)
  call("traffic", self.room._number, self.id, counts)
end
-- The last thing the client was sent.
function Client:last() return self.sent[#self.sent] end

-- What the first hook said that failed and that the test has not asked for.
local function first_failure()
  for _, room in ipairs(rooms) do
    local first = room._failed[1]
    if first then return (first.hook ~= "" and first.hook .. " failed: " or "") .. first.text end
  end
end

-- Of many lines those that stand right before the end.
local MAX_LOGGED = 20
local function last_of(lines)
  if #lines <= MAX_LOGGED then return lines end
  local last = { ("… %d lines before these"):format(#lines - MAX_LOGGED) }
  for i = #lines - MAX_LOGGED + 1, #lines do last[#last + 1] = lines[i] end
  return last
end

function test.it(name, body)
  need("test.it: the test", "function", body)
  call("begin")
  logged = {}
  for _, room in ipairs(rooms) do room._failed = {} end
  local ok, problem = pcall(body)
  if type(problem) ~= "table" then problem = { message = call("error_text", problem) } end
  -- Also behind an assertion, which mostly fails for this.
  local failure = first_failure()
  if failure and ok then
    ok, problem = false, { message = failure }
  elseif failure then
    problem.message = (problem.message or "error value is a table") .. "\n" .. failure
  end
  call("result", tostring(name), ok, problem.at or "", problem.message or "error value is a table", problem.got,
    problem.expected, ok and {} or last_of(logged))
end

-- What goes wrong in the harness itself is told at the test's line; what a test does wrong there stands above.
local function passed(ok, ...)
  if ok then return ... end
  local problem = ...
  local message = type(problem) == "string" and problem:match("^moonring test:%d+: (.*)")
  if message then fail(message) end
  error(problem, 0)
end
for prefix, functions in pairs({ ["test."] = test, ["room:"] = Room, ["client:"] = Client }) do
  for name, f in pairs(functions) do
    if type(f) == "function" and not name:find("^__") then
      functions[name] = function(...)
        if functions ~= test and getmetatable((...)) ~= functions then
          fail(prefix .. name .. " is called with a colon, as in " .. prefix .. name .. "(…)")
        end
        return passed(pcall(f, ...))
      end
    end
  end
end

sfu = nil
_G.test = test
-- A test file has no room whose log this could be.
function print(...)
  local n, texts = select("#", ...), { ... }
  for i = 1, n do texts[i] = type(texts[i]) == "table" and show(texts[i], 0) or tostring(texts[i]) end
  call("print", table.concat(texts, "\t", 1, n))
end

-- Runs the test file; what goes wrong outside of its tests is the result.
return function(file)
  local ok, problem = pcall(file)
  if ok then return end
  if type(problem) ~= "table" then return call("error_text", problem), "" end
  return problem.message or "error value is a table", problem.at or ""
end
