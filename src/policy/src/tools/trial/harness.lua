-- Runs in a test file's state before the test file: makes `test`, and the rooms and clients that it drives. `H` is the
-- host's table of functions; each answers true and values, or false and message.
local H = ...
local json = sfu.json
local null = json.null

local test, Room, Client = {}, {}, {}
Room.__index, Client.__index = Room, Client
Room.__tostring = function(room) return "room " .. room.id end
Client.__tostring = function(client) return "client " .. client.id end

local function check(ok, ...)
  if ok then return ... end
  local _, place = H.place()
  error({ at = place, message = tostring((...)) }, 0)
end
local function call(name, ...) return check(H[name](...)) end

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

local function fail(message, got, expected)
  local _, place = H.place()
  error({ at = place, message = message, got = got, expected = expected }, 0)
end

function test.eq(got, expected, what)
  if not same(got, expected) then fail(what or "not equal", show(got, 0), show(expected, 0)) end
end
function test.ok(value, what)
  if not value then fail(what or "not true", show(value, 0), "true") end
end
function test.match(text, pattern, what)
  if type(text) ~= "string" or not text:find(pattern) then fail(what or "does not match", show(text, 0), pattern) end
end
function test.jwt(claims, key) return call("jwt", claims, key) end
test.json, test.null, test.start = json, null, H.START

-- What happened in a room, as the host tells it, becomes visible in the room's and its clients' fields.
local happen = {}
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
function happen.reloaded(room, event) room.reloaded = event end
function happen.log(room, event)
  local lines = event.level == "failure" and room.failed or room.log
  lines[#lines + 1] = { level = event.level, text = event.text, hook = event.hook }
end
function happen.outcome(room, event)
  local settle = room.settle[event.ticket]
  room.settle[event.ticket] = nil
  if settle then settle(event) end
end
function happen.http(room, event)
  room.requests[#room.requests + 1] = event.request
  local reply, message
  if room.handler then reply, message = room.handler(event.request) end
  local delay = reply and reply.delay or room.http_delay or 0
  call("reply", room.number, event.id, reply, message or "no route to the host: the test has no room:http(function)", delay)
end

local function pump(room)
  repeat
    local events = call("drain", room.number)
    for _, event in ipairs(events) do happen[event.op](room, event) end
  until #events == 0
end

local rooms = {}
local function named(script)
  if type(script) == "table" then return script.name or "room.lua", script.source end
  return script
end

function test.room(script, config, options)
  local name, source = named(script)
  local id = options and options.id or "test"
  local number = call("open", name, source, config, id, options and options.metadata)
  local room = setmetatable({ id = id, number = number, clients = {}, broadcasts = {}, sends = {}, log = {}, failed = {}, settle = {},
    requests = {}, webhooks = {}, joined = 0, tracks = 0, announced = "all" }, Room)
  rooms[#rooms + 1] = room
  pump(room)
  return room
end

function Room:connect(options)
  options = options or {}
  self.joined = self.joined + 1
  local id = options.id or "c" .. self.joined
  local metadata = options.metadata == nil and {} or options.metadata
  local connection = { ip = options.ip or "192.0.2.1", kind = options.kind, origin = options.origin,
    user_agent = options.user_agent, headers = options.headers }
  local ticket = call("connect", self.number, id, connection, options.token or "", metadata)
  local client = setmetatable({ room = self, id = id, sent = {}, max_layers = {}, priorities = {}, muted = {}, joined = false,
    attributes = {}, hidden = false, ended = {},
    rights = { publish = { "camera", "microphone", "screen", "screen_audio", "other" }, subscribe = true, message = true },
  }, Client)
  self.over = nil
  self.clients[id] = client
  self.settle[ticket] = function(outcome)
    client.allowed, client.joined = outcome.allowed, outcome.allowed
    client.reason = not outcome.allowed and outcome.reason or nil
  end
  pump(self)
  return client, client.allowed, client.reason
end

function Room:advance(ms)
  call("pass", self.number, ms)
  local more
  repeat
    more = call("step", self.number)
    pump(self)
  until not more
end

function Room:now() return call("now", self.number) end
function Room:http(handler, options)
  self.handler, self.http_delay = handler, options and options.delay
end
function Room:counter(name) return call("counter", self.number, name) end

function Room:reload(script, options)
  local name, source = named(script)
  self.reloaded = nil
  local message = call("reload", self.number, name, source, options and options.drop_state or false)
  if message then return false, message end
  pump(self)
  if not self.reloaded then return nil, "the reload waits for hooks that wait" end
  return self.reloaded.ok, not self.reloaded.ok and self.reloaded.text or nil
end

function Room:speakers(clients)
  local ids = {}
  for i, client in ipairs(clients) do ids[i] = client.id end
  call("speakers", self.number, ids)
  pump(self)
end

-- What an operator's program is answered; nil and a reason when there is no answer.
function Room:call(request)
  local answer, reason
  self.settle[call("call", self.number, request)] = function(outcome)
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
  call("operator", self.number, action)
  pump(self)
end

-- The failures of hooks so far; a test that asks for them says that it expected them.
function Room:failures()
  local failed = self.failed
  self.failed = {}
  return failed
end

-- Asks, and answers what the script says: allowed, reason; nil while the hook waits.
local function ask(client, name, argument, settled)
  local room, answer = client.room, {}
  local ticket = call(name, room.number, client.id, argument)
  room.settle[ticket] = function(outcome)
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
  for key, value in pairs(options or {}) do track[key] = value end
  self.room.tracks = self.room.tracks + 1
  track.id = track.id or "t" .. self.room.tracks
  local answer = ask(self, "publish", track)
  return track, answer.allowed, answer.reason
end
function Client:unpublish(track)
  call("unpublish", self.room.number, self.id, type(track) == "table" and track.id or track)
  pump(self.room)
end
function Client:subscribe(track)
  local answer = ask(self, "subscribe", type(track) == "table" and track.id or track)
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
  call("disconnect", self.room.number, self.id, reason or "left")
  pump(self.room)
end
-- What the client has sent and received by now: { bytes_in =, bytes_out =, packets_in =, packets_out = }.
function Client:traffic(counts) call("traffic", self.room.number, self.id, counts) end
-- The last thing the client was sent.
function Client:last() return self.sent[#self.sent] end

-- What the first hook said that failed and that the test has not asked for.
local function first_failure()
  for _, room in ipairs(rooms) do
    local first = room.failed[1]
    if first then return first.hook .. " failed: " .. first.text end
  end
end

function test.it(name, body)
  call("begin")
  for _, room in ipairs(rooms) do room.failed = {} end
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
    problem.expected)
end

sfu = nil
_G.test = test

-- Runs the test file; what goes wrong outside of its tests is the result.
return function(file)
  local ok, problem = pcall(file)
  if ok then return end
  if type(problem) ~= "table" then return call("error_text", problem), "" end
  return problem.message or "error value is a table", problem.at or ""
end
