-- A paid room: who may come in is said by the shop's tokens, minutes are metered, and the shop is told at the end.
--
-- A token is signed by the shop's identity provider, whose public keys are at `jwks_url`:
--
--   { "sub": "u-17", "minutes": 60, "iss": "https://id.example.com", "aud": "moonring", "exp": 1786003600 }
--
-- `minutes` is what the customer has paid for. What they have used stands in sfu.store: neither leaving nor a crash
-- of the server gives it back, and it counts in every room that runs this script. A minute before the end they are
-- told, at the end they are disconnected. When they leave, the shop gets the minutes of this visit at `shop_url`,
-- signed with `shop_secret`.
--
-- Configuration, in `script_config`: `jwks_url`, `jwt_issuer`, `jwt_audience`, `shop_url` and `shop_secret`. The hosts
-- of both URLs have to stand in `http_allow`.

local OPTIONS = { iss = sfu.config.jwt_issuer, aud = sfu.config.jwt_audience, leeway = 30 }
local MINUTE = 60000

STATE_VERSION = 1

-- Who is who: { user =, paid =, minutes = } by client id; `minutes` of this visit.
local people = {}

local function used_key(user) return "used:" .. user end

-- The claims of a token; nil and a reason.
local function claims_of(token)
  for _, again in ipairs({ false, true }) do
    local keys, no_keys = sfu.jwks(sfu.config.jwks_url, again)
    if not keys then
      sfu.log_error("jwks_url: " .. no_keys)
      return nil, "Please try again later"
    end
    local claims, why_not = sfu.jwt_verify(token, keys, OPTIONS)
    if claims then return claims end
    -- The provider may have a new key; for anything else a second look changes nothing.
    if again or not why_not:find("has no key", 1, true) then return nil, "Your ticket is not valid: " .. why_not end
  end
end

function on_client_connect(client, auth_token)
  local claims, why_not = claims_of(auth_token)
  if not claims then return false, why_not end
  local user, paid = claims.sub, claims.minutes
  if type(user) ~= "string" or type(paid) ~= "number" then
    return false, "Your ticket names no customer or no minutes"
  end
  local used = sfu.store.global.get(used_key(user)) or 0
  if used >= paid then return false, "Your minutes are used up" end
  people[client:get_id()] = { user = user, paid = paid, minutes = 0 }
  client:send({ type = "minutes", left = paid - used })
  return true
end

function on_publish_request(client, track)
  return true
end

-- One timer for all: a minute that has begun is paid.
local function meter()
  -- Not over `people` itself: it changes while the store is waited for.
  for _, client in ipairs(sfu.clients()) do
    local person = people[client:get_id()]
    if person then
      person.minutes = person.minutes + 1
      local left = person.paid - sfu.store.global.incr(used_key(person.user), 1)
      if left <= 0 then
        client:kick("Your minutes are used up")
      elseif left == 1 then
        client:send({ type = "minutes", left = 1 })
      end
    end
  end
end

function on_init()
  sfu.set_interval("meter", MINUTE, meter)
end

-- Tells the shop, a few times if need be; the room stays until that is done.
local function report(person, reason)
  local body = sfu.json.encode({
    id = sfu.uuid(), room = sfu.room_id, customer = person.user, minutes = person.minutes, reason = reason,
  })
  local request = {
    url = sfu.config.shop_url, method = "POST", body = body,
    headers = {
      ["content-type"] = "application/json",
      ["x-signature"] = "sha256=" .. sfu.hmac_sha256(sfu.config.shop_secret, body),
    },
  }
  for pause = 1, 3 do
    local reply = sfu.http(request)
    if reply and reply.status < 300 then return end
    sfu.sleep(pause * 1000)
  end
  sfu.log_error("the shop was not told of " .. person.minutes .. " minutes of " .. person.user)
end

function on_client_disconnect(client, reason)
  local person = people[client:get_id()]
  people[client:get_id()] = nil
  if person and sfu.config.shop_url then report(person, reason) end
end

function on_unload()
  return people
end

function on_load(state, old_version)
  if old_version == STATE_VERSION then people = state end
end
