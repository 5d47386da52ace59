-- A paid webinar with a trial: everybody may watch for some minutes, and pays in the middle of the call to go on.
--
-- Viewers join with a token of the web application (`sub`, and `role = "host"` for who presents). Without having paid
-- they have `trial_minutes` in all: what they have used is kept by their `sub`, so that joining again gives nothing
-- back. A minute before the end they are told, at the end they are shown out. An upgrade does not touch the call:
--
--   * the page has taken the money and says { type = "upgrade" }: the shop is asked whether that is so;
--   * or the shop says so itself: `moonring call ROOM '{ "paid": "<sub>" }'`, by HTTP `POST /rooms/{room}/call`.
--
-- Viewers hear { type = "trial", seconds = <left> } when they join and a minute before the end, and
-- { type = "upgraded" }; their attributes say `plan`: "trial" or "paid".
--
-- Configuration, in `script_config`: `jwt_key` (HS256), `shop_url`, `trial_minutes` (by default 10).

local JWT_KEY, SHOP_URL = sfu.config.jwt_key, sfu.config.shop_url
local TRIAL_S, WARN_S = (sfu.config.trial_minutes or 10) * 60, 60
-- Whoever has paid is known for a day without asking the shop again.
local PAID_S = 24 * 3600

STATE_VERSION = 2

-- client id -> { user =, before = seconds used in earlier stays, since = when this one began, warned = };
-- nobody else is on trial
local trials = {}

local function left_of(trial) return TRIAL_S - trial.before - (sfu.now() - trial.since) end

local function paid_key(user) return "paid:" .. user end
local function used_key(user) return "used:" .. user end

-- What is used up is written when a stay ends: a trial that ends by an upgrade costs nothing later.
local function keep(client)
  local trial = trials[client:get_id()]
  trials[client:get_id()] = nil
  if trial then sfu.store.global.incr(used_key(trial.user), sfu.now() - trial.since, PAID_S * 30) end
end

local function upgrade(client)
  if not trials[client:get_id()] then return false end
  trials[client:get_id()] = nil
  client:set_attributes({ plan = "paid" })
  client:send({ type = "upgraded" })
  return true
end

local function look_at_trials()
  for _, client in ipairs(sfu.clients()) do
    local trial = trials[client:get_id()]
    local left = trial and left_of(trial)
    if left and left <= 0 then
      client:kick("Your free minutes are over")
    elseif left and left <= WARN_S and not trial.warned then
      trial.warned = true
      client:send({ type = "trial", seconds = math.ceil(left) })
    end
  end
end

function on_init() sfu.set_interval(1000, look_at_trials) end

function on_client_connect(client, auth_token)
  if type(JWT_KEY) ~= "string" then return false, "This room is not configured" end
  local claims, why_not = sfu.jwt_verify(auth_token, JWT_KEY)
  if not claims then return false, "Please log in: " .. why_not end
  local user = claims.sub
  if type(user) ~= "string" or user == "" or #user > 64 then return false, "Please log in" end
  client:set_identity(user)
  if claims.role == "host" then
    client:set_attributes({ plan = "paid", host = true })
    return true
  end
  client:set_rights({ publish = false })
  if sfu.store.global.get(paid_key(user)) then
    client:set_attributes({ plan = "paid" })
    return true
  end
  local trial = { user = user, before = sfu.store.global.get(used_key(user)) or 0, since = sfu.now() }
  if left_of(trial) <= 0 then return false, "Your free minutes are over" end
  trials[client:get_id()] = trial
  client:set_attributes({ plan = "trial" })
  client:send({ type = "trial", seconds = math.ceil(left_of(trial)) })
  return true
end

function on_client_disconnect(client, reason) keep(client) end

function on_publish_request(client, track) return true end

-- Asks the shop. Waiting holds nobody up; afterwards the client may have left, or have been upgraded by the shop's own
-- call.
local function ask_shop(client)
  local user = client:identity()
  local response, why_not = sfu.http({ url = SHOP_URL .. "/paid/" .. sfu.url_encode(user), timeout = 3000 })
  if not response or response.status >= 500 then
    sfu.log_warn("the shop cannot be asked about " .. user .. ": " .. (why_not or "status " .. response.status))
    return client:send({ type = "error", text = "We cannot see your payment yet, please try again" })
  end
  if response.status ~= 200 then return client:send({ type = "error", text = "You have not paid yet" }) end
  sfu.store.global.set(paid_key(user), true, PAID_S)
  upgrade(client)
end

function on_message(client, message)
  if type(message) ~= "table" or message.type ~= "upgrade" then
    return client:send({ type = "error", text = "This room knows only messages of the type upgrade" })
  end
  if trials[client:get_id()] then ask_shop(client) end
end

function on_admin(request)
  local user = type(request) == "table" and request.paid
  if type(user) ~= "string" then return { error = "paid is the sub of who has paid" } end
  sfu.store.global.set(paid_key(user), true, PAID_S)
  local upgraded = 0
  for _, client in ipairs(sfu.clients()) do
    if client:identity() == user and upgrade(client) then upgraded = upgraded + 1 end
  end
  return { upgraded = upgraded }
end

function on_unload() return trials end

function on_load(state, old_version)
  if old_version == STATE_VERSION then
    trials = state
  elseif old_version == 1 then
    -- Version 1 said `used` for what is `before` now, and did not know who had been warned.
    for id, old in pairs(state) do
      trials[id] = { user = old.user, before = old.used, since = old.since }
    end
  end
end
