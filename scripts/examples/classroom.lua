-- A classroom: the teacher talks, pupils raise their hands, get the floor, and lose it again.
--
-- Who joins with `teacher_token` is a teacher, who joins with `pupil_token` a pupil. Pupils publish when they come
-- in, but are muted until a teacher gives them the floor; a screen only the teacher may share.
--
--   a pupil      { type = "hand", up = true | false }
--   a teacher    { type = "floor", client = "<id>", on = true | false }
--                { type = "quiet" }                                      takes the floor from everybody
--   to all       { type = "hands", clients = { ... } }, { type = "floor", clients = { ... } }
--
-- Who had the floor and is back within `keep_s` seconds (by default 60) has it again: pupils are known by the `name` in
-- their metadata. Configuration: `teacher_token`, `pupil_token`, `max_floor` (at once, by default 3), `keep_s`.

local MAX_FLOOR, KEEP_S = sfu.config.max_floor or 3, sfu.config.keep_s or 60

STATE_VERSION = 1

local teachers = {} -- client id -> true
local hands = {} -- list of client ids, the first to raise one first
local floor = {} -- list of client ids
local kept = {} -- name -> until when the floor is kept

local function position(list, id)
  for i, other in ipairs(list) do
    if other == id then return i end
  end
end

-- Adds or takes away; true when that changed something.
local function put(list, id, wanted)
  local at = position(list, id)
  if wanted == (at ~= nil) then return false end
  if at then table.remove(list, at) else list[#list + 1] = id end
  return true
end

local function tell(name, list)
  sfu.broadcast({ type = name, clients = #list > 0 and list or sfu.json.empty_array })
end

local function name_of(client)
  local name = client:get_metadata().name
  return type(name) == "string" and #name <= 64 and name or nil
end

local function equal(token, expected) return expected ~= nil and sfu.equal(token, expected) end

function on_client_connect(client, auth_token)
  local id = client:get_id()
  if equal(auth_token, sfu.config.teacher_token) then
    teachers[id] = true
    return true
  end
  if not equal(auth_token, sfu.config.pupil_token) then return false, "This link is not for this class" end
  local name = name_of(client)
  if not name then return false, "Please say your name" end
  if (kept[name] or 0) > sfu.now() and #floor < MAX_FLOOR then put(floor, id, true) end
  kept[name] = nil
  return true
end

function on_client_disconnect(client, reason)
  local id = client:get_id()
  teachers[id] = nil
  if put(hands, id, false) then tell("hands", hands) end
  if put(floor, id, false) then
    for name, ends in pairs(kept) do
      if ends < sfu.now() then kept[name] = nil end
    end
    kept[name_of(client) or ""] = sfu.now() + KEEP_S
    tell("floor", floor)
  end
end

function on_publish_request(client, track)
  if teachers[client:get_id()] then return true end
  if track.source == "screen" then return false, "Only teachers share their screen" end
  return true
end

function on_track_published(client, track)
  local id = client:get_id()
  if not teachers[id] and not position(floor, id) then client:mute(track) end
end

local function give(id, on)
  local client = sfu.client(id)
  if not client or not put(floor, id, on) then return end
  if put(hands, id, false) then tell("hands", hands) end
  for _, track in ipairs(client:tracks()) do
    if on then client:unmute(track) else client:mute(track) end
  end
end

local function fail(client, text) client:send({ type = "error", text = text }) end

local actions = {}

function actions.hand(client, message)
  local id = client:get_id()
  if teachers[id] or position(floor, id) then return end
  if put(hands, id, message.up == true) then tell("hands", hands) end
end

function actions.floor(client, message)
  if not teachers[client:get_id()] then return fail(client, "Only teachers give the floor") end
  local id, on = message.client, message.on == true
  if type(id) ~= "string" or not sfu.client(id) or teachers[id] then return fail(client, "There is no such pupil") end
  if on and #floor >= MAX_FLOOR then return fail(client, "Enough have the floor (" .. MAX_FLOOR .. ")") end
  give(id, on)
  tell("floor", floor)
end

function actions.quiet(client)
  if not teachers[client:get_id()] then return fail(client, "Only teachers take the floor") end
  while floor[1] do give(floor[1], false) end
  tell("floor", floor)
end

function on_message(client, message)
  local action = type(message) == "table" and actions[message.type]
  if not action then return fail(client, "This room knows only messages of the types hand, floor and quiet") end
  action(client, message)
end

function on_unload()
  return { teachers = teachers, hands = hands, floor = floor, kept = kept }
end

function on_load(state, old_version)
  if old_version == STATE_VERSION then
    teachers, hands, floor, kept = state.teachers, state.hands, state.floor, state.kept
  end
end
