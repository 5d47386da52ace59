-- A lobby whose bans last: a host lets people in, and bans them from every room, also over restarts.
--
-- Tokens as in jwt_roles.lua: { "sub": "u-17", "role": "host" | "guest", "exp": ... }, checked with `jwt_key`. A
-- guest knocks and waits until a host lets them in, for `patience_s` seconds at most (by default 120). A host says:
--
--   { type = "answer", client = "<id>", allow = true | false }
--   { type = "ban", client = "<id>", days = 30, reason = "..." }     for good without `days`; disconnects them
--   { type = "pardon", user = "<sub>" }
--
-- Hosts hear { type = "knock", client = "<id>", user = "<sub>" } and { type = "gone", client = "<id>" }.
-- Bans stand in sfu.store: who is banned is so in every room that runs this script or asks `sfu.store.global`.
--
-- Configuration, in `script_config`: `jwt_key`, `patience_s`.

local PATIENCE_S = sfu.config.patience_s or 120
local LOOK_MS = 200
local SILENCE_S = 5

STATE_VERSION = 1

local people = {} -- client id -> { user =, role = }
local answers = {} -- client id -> what the host has said of a knock; "waits" until then
local looked = {} -- client id -> when whoever knocks has last looked for an answer

local function ban_key(user) return "banned:" .. user end

local function tell_hosts(value)
  for id, person in pairs(people) do
    local client = person.role == "host" and sfu.client(id)
    if client then client:send(value) end
  end
end

-- Waits for a host's answer; true, or false and why not.
local function knock(client, user)
  local id = client:get_id()
  answers[id] = "waits"
  tell_hosts({ type = "knock", client = id, user = user })
  sfu.flush() -- the hosts hear it now, not when this has ended
  local ends = sfu.now() + PATIENCE_S
  while answers[id] == "waits" and sfu.now() < ends do
    looked[id] = sfu.now()
    sfu.sleep(LOOK_MS)
  end
  local answer = answers[id]
  answers[id], looked[id] = nil, nil
  if answer == true then return true end
  return false, answer == "waits" and "Nobody has answered" or "The host has not let you in"
end

-- Who gives up at the door calls no hook: a knock that looks for no answer any more is over.
local function sweep()
  for id, at in pairs(looked) do
    if sfu.now() - at > SILENCE_S then
      answers[id], looked[id] = nil, nil
      tell_hosts({ type = "gone", client = id })
    end
  end
end

function on_init()
  sfu.set_interval("sweep", SILENCE_S * 1000, sweep)
end

function on_client_connect(client, auth_token)
  local claims, why_not = sfu.jwt_verify(auth_token, sfu.config.jwt_key, { leeway = 30 })
  if not claims then return false, "Your invitation is not valid: " .. why_not end
  local user = claims.sub
  if type(user) ~= "string" or #user > 128 then return false, "Your invitation names no user" end
  -- An error of the store rejects: a store that is down lets nobody in who may be banned.
  local banned = sfu.store.global.get(ban_key(user))
  if banned then return false, "You are banned: " .. banned end
  if claims.role ~= "host" then
    local allowed, reason = knock(client, user)
    if not allowed then
      tell_hosts({ type = "gone", client = client:get_id() })
      return false, reason
    end
  end
  people[client:get_id()] = { user = user, role = claims.role == "host" and "host" or "guest" }
  return true
end

function on_client_disconnect(client, reason)
  people[client:get_id()] = nil
end

function on_publish_request(client, track)
  return true
end

local actions = {}

function actions.answer(host, message)
  if answers[message.client or ""] == "waits" then answers[message.client] = message.allow == true end
end

function actions.ban(host, message)
  local person, client = people[message.client or ""], sfu.client(tostring(message.client))
  if not person or not client then return "There is no such guest" end
  if person.role == "host" then return "Hosts are not banned" end
  local days, reason = message.days, message.reason
  if days ~= nil and not (type(days) == "number" and days > 0 and days <= 366) then return "days is 1 to 366" end
  reason = type(reason) == "string" and #reason <= 200 and reason or "by the host"
  sfu.store.global.set(ban_key(person.user), reason, days and days * 86400)
  sfu.log_info("banned " .. person.user .. ": " .. reason)
  client:kick("You are banned: " .. reason)
end

function actions.pardon(host, message)
  if type(message.user) ~= "string" then return "user is missing" end
  sfu.store.global.delete(ban_key(message.user))
end

function on_message(client, message)
  local person = people[client:get_id()]
  local action = type(message) == "table" and actions[message.type]
  local failed
  if not action then
    failed = "This room knows only messages of the types answer, ban and pardon"
  elseif not person or person.role ~= "host" then
    failed = "Only a host may do that"
  else
    failed = action(client, message)
  end
  if failed then client:send({ type = "error", text = failed }) end
end

function on_unload()
  return people
end

function on_load(state, old_version)
  if old_version == STATE_VERSION then people = state end
end
