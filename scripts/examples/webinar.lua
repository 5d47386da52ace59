-- A webinar: a few people on the stage, a large audience, and raised hands.
--
-- Who joins with the presenters' token is a presenter; who joins with the audience's, or with none if none is
-- configured, is in the audience. Presenters publish. Somebody of the audience asks to speak, a presenter lets them
-- onto the stage, and takes them off it again.
--
--   anybody      { type = "hand", up = true | false }
--   a presenter  { type = "stage", client = "<id>", on = true | false }
--   to all       { type = "hands", clients = { "<id>", ... } }      who has raised a hand, in order
--                { type = "stage", clients = { "<id>", ... } }      who is on the stage as a guest
--
-- Configuration, in `script_config`: `presenter_token`, `audience_token`, `max_guests` (on the stage at the same time).

local PRESENTER_TOKEN = sfu.config.presenter_token
local AUDIENCE_TOKEN = sfu.config.audience_token
local MAX_GUESTS = sfu.config.max_guests or 3

STATE_VERSION = 1

local presenters = {} -- client id -> true
local guests = {} -- list of client ids
local hands = {} -- list of client ids, the first to raise one first

local function position(list, id)
  for i, other in ipairs(list) do
    if other == id then return i end
  end
end

-- Adds or takes away; true when that changed something.
local function put(list, id, wanted)
  local at = position(list, id)
  if wanted and not at then
    table.insert(list, id)
  elseif at and not wanted then
    table.remove(list, at)
  else
    return false
  end
  return true
end

-- JSON has to be told that an empty list is a list.
local function as_list(list)
  return next(list) and list or sfu.json.empty_array
end

local function tell_hands() sfu.broadcast({ type = "hands", clients = as_list(hands) }) end
local function tell_stage() sfu.broadcast({ type = "stage", clients = as_list(guests) }) end

function on_client_connect(client, auth_token)
  if PRESENTER_TOKEN and sfu.equal(auth_token, PRESENTER_TOKEN) then
    presenters[client:get_id()] = true
    return true
  end
  if AUDIENCE_TOKEN and not sfu.equal(auth_token, AUDIENCE_TOKEN) then
    return false, "This link is not valid"
  end
  return true
end

function on_client_disconnect(client, reason)
  local id = client:get_id()
  presenters[id] = nil
  if put(hands, id, false) then tell_hands() end
  if put(guests, id, false) then tell_stage() end
end

function on_publish_request(client, track)
  local id = client:get_id()
  if presenters[id] then
    return true
  end
  if not position(guests, id) then
    return false, "Raise your hand to speak"
  end
  if track.source == "screen" then
    return false, "Only presenters may share a screen"
  end
  return true
end

local function raise_hand(client, up)
  local id = client:get_id()
  if presenters[id] or position(guests, id) then
    return
  end
  if put(hands, id, up) then tell_hands() end
end

local function set_stage(client, id, on)
  if not presenters[client:get_id()] then
    return client:send({ type = "error", text = "Only a presenter may do that" })
  end
  local other = type(id) == "string" and sfu.client(id)
  if not other then
    return client:send({ type = "error", text = "They have left" })
  end
  if on and #guests >= MAX_GUESTS then
    return client:send({ type = "error", text = "The stage is full (" .. MAX_GUESTS .. " guests)" })
  end
  if not put(guests, id, on) then
    return
  end
  if put(hands, id, false) then tell_hands() end
  -- Off the stage at once: what is published already falls silent; what is asked for from now on is refused.
  for _, track in ipairs(other:tracks()) do
    if on then other:unmute(track) else other:mute(track) end
  end
  tell_stage()
end

function on_message(client, message)
  if type(message) == "table" and message.type == "hand" then
    raise_hand(client, message.up == true)
  elseif type(message) == "table" and message.type == "stage" then
    set_stage(client, message.client, message.on == true)
  else
    client:send({ type = "error", text = "This room knows only messages of the types hand and stage" })
  end
end

function on_unload()
  return { presenters = presenters, guests = guests, hands = hands }
end

function on_load(state, old_version)
  if old_version == STATE_VERSION then
    presenters, guests, hands = state.presenters, state.guests, state.hands
  end
end
