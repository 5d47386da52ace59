-- A classroom: the teacher talks, pupils raise their hands, get the floor, and lose it again.
--
-- Who joins with `teacher_token` is a teacher, who joins with `pupil_token` a pupil. Pupils publish when they come
-- in, but are muted until a teacher gives them the floor; a screen only the teacher may share.
--
--   a pupil      { type = "hand", up = true | false }
--   a teacher    { type = "floor", client = "<id>", on = true | false }
--                { type = "quiet" }                                      takes the floor from everybody
--
-- What everybody sees of everybody stands in their attributes: `role` ("teacher" or "pupil"), `floor` (true or false)
-- and `hand`, the time at which it was raised, or false.
--
-- Who had the floor and is back within `keep_s` seconds (by default 60) has it again, also when the room was empty in
-- between, or its server was lost: pupils are known by the `name` in their metadata.
--
-- Configuration, in `script_config`: `teacher_token`, `pupil_token`, `max_floor` (at once, by default 3), `keep_s`.

local MAX_FLOOR, KEEP_S = sfu.config.max_floor or 3, sfu.config.keep_s or 60
local PUPILS = { publish = { "camera", "microphone" } }

STATE_VERSION = 2
EMPTY_TIMEOUT_S = KEEP_S
CHECKPOINT_SECONDS = 5

local kept = {} -- identity -> until when the floor is kept

local function equal(token, expected) return expected ~= nil and sfu.equal(token, expected) end

local function count_floor()
  local n = 0
  for _, client in ipairs(sfu.clients()) do
    if client:attributes().floor then n = n + 1 end
  end
  return n
end

function on_client_connect(client, auth_token)
  if equal(auth_token, sfu.config.teacher_token) then
    client:set_attributes({ role = "teacher" })
    return true
  end
  if not equal(auth_token, sfu.config.pupil_token) then return false, "This link is not for this class" end
  local name = client:get_metadata().name
  if type(name) ~= "string" or name == "" or #name > 64 or name:find("%c") then return false, "Please say your name" end
  client:set_identity(name)
  client:set_rights(PUPILS)
  local floor = (kept[name] or 0) > sfu.now() and count_floor() < MAX_FLOOR
  kept[name] = nil
  client:set_attributes({ role = "pupil", floor = floor, hand = false })
  return true
end

function on_client_disconnect(client, reason)
  if not client:attributes().floor then return end
  for name, ends in pairs(kept) do
    if ends < sfu.now() then kept[name] = nil end
  end
  kept[client:identity()] = sfu.now() + KEEP_S
end

function on_publish_request(client, track) return true end

function on_track_published(client, track)
  if client:attributes().floor == false then client:mute(track) end
end

local function give(client, on)
  client:set_attributes({ role = "pupil", floor = on, hand = false })
  for _, track in ipairs(client:tracks()) do
    if on then client:unmute(track) else client:mute(track) end
  end
end

local function fail(client, text) client:send({ type = "error", text = text }) end

local actions = {}

function actions.hand(client, message)
  local attributes = client:attributes()
  if attributes.role == "teacher" or attributes.floor then return end
  local hand = message.up == true and (attributes.hand or sfu.now())
  client:set_attributes({ role = "pupil", floor = false, hand = hand })
end

function actions.floor(client, message)
  if client:attributes().role ~= "teacher" then return fail(client, "Only teachers give the floor") end
  local pupil = type(message.client) == "string" and sfu.client(message.client)
  if not pupil or pupil:attributes().role ~= "pupil" then return fail(client, "There is no such pupil") end
  local on = message.on == true
  if on == pupil:attributes().floor then return end
  if on and count_floor() >= MAX_FLOOR then return fail(client, "Enough have the floor (" .. MAX_FLOOR .. ")") end
  give(pupil, on)
end

function actions.quiet(client)
  if client:attributes().role ~= "teacher" then return fail(client, "Only teachers take the floor") end
  for _, pupil in ipairs(sfu.clients()) do
    if pupil:attributes().floor then give(pupil, false) end
  end
end

function on_message(client, message)
  local action = type(message) == "table" and actions[message.type]
  if not action then return fail(client, "This room knows only messages of the types hand, floor and quiet") end
  action(client, message)
end

function on_unload()
  local all = {}
  for name, ends in pairs(kept) do all[name] = ends end
  -- When the server is lost, they come back without having left.
  for _, client in ipairs(sfu.clients()) do
    if client:attributes().floor then all[client:identity()] = sfu.now() + KEEP_S end
  end
  return all
end

function on_load(state, old_version)
  if old_version ~= STATE_VERSION then return end
  kept = state
  -- After a reload everybody is still here.
  for _, client in ipairs(sfu.clients()) do
    if client:identity() then kept[client:identity()] = nil end
  end
end
