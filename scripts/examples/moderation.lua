-- Moderation: a lobby, muting, removing, and bans that end by themselves.
--
-- Who joins with the moderators' token is a moderator. Everybody else waits in the lobby (connected, but neither
-- publishing nor receiving) until a moderator lets them in. Moderators say:
--
--   { type = "admit", client = "<id>" }
--   { type = "mute", client = "<id>", on = true | false }      all tracks, also those published later
--   { type = "kick", client = "<id>", reason = "..." }
--   { type = "ban",  client = "<id>", minutes = 10, reason = "..." }
--   { type = "lobby", on = true | false }                      off: newcomers come in at once
--
-- A ban is by IP address and kept in sfu.shared: it holds in every room that runs this policy, and survives a reload.
--
-- Configuration: `moderator_token` in `script_config`; the server's `secret` is the participants' token.

local MODERATOR_TOKEN = sfu.config.moderator_token
local SECRET = sfu.config.secret
local MAX_BAN_MINUTES = 24 * 60
local MAX_REASON_BYTES = 200

STATE_VERSION = 1

local moderators = {} -- client id -> true
local admitted = {} -- client id -> true
local muted = {} -- client id -> true
local has_lobby = true

local function is(secret, token)
  return secret ~= nil and sfu.equal(token, secret)
end

local function ban_key(client)
  return "ban:" .. client:get_ip()
end

local function tell_moderators(message)
  for id in pairs(moderators) do
    local moderator = sfu.client(id)
    if moderator then moderator:send(message) end
  end
end

function on_client_connect(client, auth_token)
  local id = client:get_id()
  if is(MODERATOR_TOKEN, auth_token) then
    moderators[id], admitted[id] = true, true
    return true
  end
  if SECRET and not is(SECRET, auth_token) then
    return false, "Wrong token"
  end
  -- This waits for the store; the rest of the room goes on meanwhile.
  local is_known, reason = pcall(sfu.shared.get, ban_key(client))
  if not is_known then
    sfu.log_warn("bans cannot be looked up: " .. reason)
    return false, "Please try again in a moment"
  end
  if reason then
    return false, "You are banned: " .. reason
  end
  if has_lobby then
    client:send({ type = "lobby", text = "Please wait, a moderator will let you in" })
    tell_moderators({ type = "waiting", client = id, metadata = client:get_metadata() })
  else
    admitted[id] = true
  end
  return true
end

function on_client_disconnect(client, reason)
  local id = client:get_id()
  moderators[id], admitted[id], muted[id] = nil, nil, nil
end

function on_publish_request(client, track)
  if not admitted[client:get_id()] then
    return false, "Please wait until a moderator lets you in"
  end
  return true
end

function on_subscribe_request(client, track)
  if not admitted[client:get_id()] then
    return false, "Please wait until a moderator lets you in"
  end
  return true
end

function on_track_published(client, track)
  if muted[client:get_id()] then client:mute(track) end
end

local commands = {}

function commands.admit(other)
  admitted[other:get_id()] = true
  other:send({ type = "admitted" })
end

function commands.mute(other, message)
  muted[other:get_id()] = message.on == true or nil
  for _, track in ipairs(other:tracks()) do
    if message.on == true then other:mute(track) else other:unmute(track) end
  end
end

-- A reason of more than 1 KiB would be an error, and nobody be removed.
local function words(reason)
  return type(reason) == "string" and #reason <= MAX_REASON_BYTES and reason or "no reason given"
end

function commands.kick(other, message)
  other:kick("A moderator has removed you: " .. words(message.reason))
end

function commands.ban(other, message)
  local minutes = tonumber(message.minutes) or 10
  minutes = math.max(1, math.min(minutes, MAX_BAN_MINUTES))
  local is_kept, why = pcall(sfu.shared.set, ban_key(other), words(message.reason), minutes * 60)
  if not is_kept then
    sfu.log_error("a ban could not be kept: " .. why)
  end
  other:kick("You are banned for " .. minutes .. " minutes: " .. words(message.reason))
end

local function set_lobby(on)
  has_lobby = on
  if on then return end
  for _, client in ipairs(sfu.clients()) do
    if not admitted[client:get_id()] then commands.admit(client) end
  end
end

function on_message(client, message)
  if not moderators[client:get_id()] then
    return client:send({ type = "error", text = "Only a moderator may do that" })
  end
  if type(message) ~= "table" then
    return client:send({ type = "error", text = "A message is a table with a type" })
  end
  if message.type == "lobby" then
    return set_lobby(message.on == true)
  end
  local command = commands[message.type]
  local other = type(message.client) == "string" and sfu.client(message.client)
  if not command then
    client:send({ type = "error", text = "This room does not know that command" })
  elseif not other then
    client:send({ type = "error", text = "They have left" })
  elseif moderators[other:get_id()] then
    client:send({ type = "error", text = "They are a moderator" })
  else
    command(other, message)
    sfu.log_info(message.type .. " of " .. other:get_id() .. " by " .. client:get_id())
  end
end

function on_unload()
  return { moderators = moderators, admitted = admitted, muted = muted, has_lobby = has_lobby }
end

function on_load(state, old_version)
  if old_version == STATE_VERSION then
    moderators, admitted, muted, has_lobby = state.moderators, state.admitted, state.muted, state.has_lobby
  end
end
