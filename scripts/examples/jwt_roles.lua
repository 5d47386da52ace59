-- Authentication by JSON Web Token, and what each role may do.
--
-- Your web application signs a token for each user and hands it to the page, which joins with it:
--
--   { "sub": "u-17", "name": "Ada", "role": "host", "room": "demo", "exp": 1786003600 }
--
--   * `room` must be this room; `exp` must be there and in the future.
--   * `role` decides: a host may do everything; a speaker may publish a camera and a microphone, but not a screen; a
--     listener publishes nothing.
--   * A user (`sub`) is in the room once: who joins again takes the place of their older connection.
--   * A host may throw somebody out with the message { type = "kick", client = "<id>" }.
--
-- Configuration, in `script_config`: `jwt_key`, the secret (HS256) or the public key in PEM (RS256, ES256, EdDSA), and,
-- if your tokens have them, `jwt_issuer` and `jwt_audience`.

local KEY = sfu.config.jwt_key
local OPTIONS = { iss = sfu.config.jwt_issuer, aud = sfu.config.jwt_audience, leeway = 30 }

-- What a role may publish, by a track's source.
local ROLES = {
  host = { camera = true, microphone = true, screen = true, screen_audio = true },
  speaker = { camera = true, microphone = true },
  listener = {},
}

STATE_VERSION = 1

-- Who is who: { user =, role = } by client id.
local people = {}

local function role_of(client)
  local person = people[client:get_id()]
  return person and person.role
end

function on_client_connect(client, auth_token)
  if not KEY then
    sfu.log_error("jwt_key is not configured")
    return false, "This server cannot check tokens"
  end
  local claims, why = sfu.jwt_verify(auth_token, KEY, OPTIONS)
  if not claims then
    return false, "Your invitation is not valid: " .. why
  end
  if claims.room ~= sfu.room_id then
    return false, "Your invitation is for another room"
  end
  if type(claims.sub) ~= "string" or not ROLES[claims.role] then
    return false, "Your invitation names no user or no role"
  end
  for id, person in pairs(people) do
    if person.user == claims.sub then
      local older = sfu.client(id)
      if older then older:kick("You have joined from another place") end
    end
  end
  people[client:get_id()] = { user = claims.sub, role = claims.role }
  client:send({ type = "role", role = claims.role })
  return true
end

function on_client_disconnect(client, reason)
  people[client:get_id()] = nil
end

function on_publish_request(client, track)
  local role = role_of(client)
  if role and ROLES[role][track.source] then
    return true
  end
  return false, "As a " .. (role or "guest") .. " you may not share your " .. track.source:gsub("_", " ")
end

function on_message(client, message)
  if type(message) ~= "table" or message.type ~= "kick" then
    client:send({ type = "error", text = "This room knows only messages of the type kick" })
  elseif role_of(client) ~= "host" then
    client:send({ type = "error", text = "Only a host may do that" })
  else
    local other = type(message.client) == "string" and sfu.client(message.client)
    if other then other:kick("A host has removed you") end
  end
end

-- Tokens are shown once, when joining: who has which role has to survive a new version of this file.
function on_unload()
  return people
end

function on_load(state, old_version)
  if old_version == STATE_VERSION then
    people = state
  end
end
