-- Prepaid use: every user has so many minutes and megabytes; who has used them up has to leave.
--
-- The meter is `client:stats()`: seconds in the room, bytes sent and received. What the user had used before is asked
-- from, and what they use is written to, your billing service, once when they join and once a minute:
--
--   GET  <billing_url>/users/<user>          -> { "seconds": 120, "bytes": 1000000,
--                                                 "max_seconds": 3600, "max_bytes": 500000000 }
--   POST <billing_url>/users/<user>/usage    <- { "room": "demo", "seconds": 60, "bytes": 123456 }
--
-- A reload of this file loses nothing: what was counted but not yet reported crosses with on_unload and on_load. When
-- the service does not answer, what was counted is kept, and goes along with the next report; also that of
-- who has left, while the room goes on.
--
-- Configuration: `billing_url` in `script_config`, and the service's host in `http_allow`. The user is what the client
-- shows as token (in earnest: a JWT, as in jwt_roles.lua).

local URL = sfu.config.billing_url or "http://127.0.0.1:9000"
local REPORT_EVERY = 60000 -- milliseconds
local WARN_AT = 0.9 -- of the quota

-- 3: what is owed beside the meters; 2: bytes and seconds in one table; 1 had only seconds.
STATE_VERSION = 3

-- By client id: { user =, used = { seconds =, bytes = }, max = { ... }, reported = { ... } (of stats), warned = }
local meters = {}
-- What is still to be reported of those who have left: { user =, usage = }.
local owed = {}
local MAX_OWED = 1000

local function reading(client)
  local stats = client:stats()
  return { seconds = stats.seconds, bytes = stats.bytes_in + stats.bytes_out }
end

-- What the service answers, or nil and why not.
local function ask(method, path, body)
  local response, why = sfu.http({
    method = method, url = URL .. path, timeout = 3000,
    headers = { ["content-type"] = "application/json" },
    body = body and sfu.json.encode(body) or nil,
  })
  if not response then return nil, why end
  if response.status >= 300 then return nil, "status " .. response.status end
  return sfu.json.decode(response.body ~= "" and response.body or "{}")
end

-- Reports usage; false when that failed.
local function tell(user, usage)
  local answer, why = ask("POST", "/users/" .. user .. "/usage", usage)
  if not answer then
    sfu.log_warn("usage of " .. user .. " not reported: " .. why)
    sfu.count("billing_failures")
  end
  return answer ~= nil
end

-- Reports what has been used since the last report. Waits, so the client may have left meanwhile.
local function report(client, meter)
  local now, before = reading(client), meter.reported
  local used = { room = sfu.room_id, seconds = now.seconds - before.seconds, bytes = now.bytes - before.bytes }
  -- Written down before the wait, taken back if it fails: a second report on the way must not bill twice.
  meter.reported = now
  if tell(meter.user, used) then return end
  if meters[client:get_id()] ~= meter then
    if #owed < MAX_OWED then owed[#owed + 1] = { user = meter.user, usage = used } end
  else
    meter.reported.seconds = meter.reported.seconds - used.seconds
    meter.reported.bytes = meter.reported.bytes - used.bytes
  end
end

-- How much of the quota is used, 1 is all of it.
local function part_used(meter, now)
  local seconds = (meter.used.seconds + now.seconds) / meter.max.seconds
  local bytes = (meter.used.bytes + now.bytes) / meter.max.bytes
  return math.max(seconds, bytes)
end

local function check_quotas()
  for _, client in ipairs(sfu.clients()) do
    local meter = meters[client:get_id()]
    local part = meter and part_used(meter, reading(client)) or 0
    if part >= 1 then
      client:kick("Your prepaid time or data is used up")
    elseif part >= WARN_AT and not meter.warned then
      meter.warned = true
      client:send({ type = "quota", used = part })
    end
  end
end

local function report_all()
  -- Taken out before the waits: a second round on the way must not bill twice.
  local left = owed
  owed = {}
  for _, debt in ipairs(left) do
    if not tell(debt.user, debt.usage) then owed[#owed + 1] = debt end
  end
  for _, client in ipairs(sfu.clients()) do
    local meter = meters[client:get_id()]
    if meter then report(client, meter) end
  end
end

function on_init()
  sfu.set_interval(1000, check_quotas)
  sfu.set_interval(REPORT_EVERY, report_all)
end

function on_client_connect(client, auth_token)
  local user = auth_token
  if not user:find("^[%w_-]+$") then
    return false, "Please log in"
  end
  local account, why = ask("GET", "/users/" .. user)
  if not account or type(account.max_seconds) ~= "number" then
    sfu.log_warn("no account of " .. user .. ": " .. (why or "the answer has no quota"))
    return false, "Your account cannot be checked at the moment"
  end
  local meter = {
    user = user,
    used = { seconds = account.seconds or 0, bytes = account.bytes or 0 },
    max = { seconds = account.max_seconds, bytes = account.max_bytes or math.huge },
    reported = { seconds = 0, bytes = 0 },
  }
  if part_used(meter, { seconds = 0, bytes = 0 }) >= 1 then
    return false, "Your prepaid time or data is used up"
  end
  meters[client:get_id()] = meter
  return true
end

function on_client_disconnect(client, reason)
  local meter = meters[client:get_id()]
  meters[client:get_id()] = nil
  if meter then report(client, meter) end
end

function on_publish_request(client, track)
  return true
end

function on_unload()
  return { meters = meters, owed = owed }
end

function on_load(state, old_version)
  if old_version == 1 then
    -- { [id] = { user =, seconds =, max_seconds = } }: whatever bytes there were, version 1 did not bill them.
    for id, old in pairs(state) do
      local client = sfu.client(id)
      meters[id] = {
        user = old.user,
        used = { seconds = old.seconds, bytes = 0 },
        max = { seconds = old.max_seconds, bytes = math.huge },
        reported = client and reading(client) or { seconds = 0, bytes = 0 },
      }
    end
  elseif old_version == 2 then
    meters = state
  elseif old_version == STATE_VERSION then
    meters, owed = state.meters, state.owed
  end
end
