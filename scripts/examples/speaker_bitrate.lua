-- Everybody's bitrate follows the number of people who are speaking.
--
-- A room has so many bits per second to spend on pictures. While one person speaks, they get the most of it, and the
-- others' pictures are small; when several talk across each other, they share. The speakers change several times in a
-- second: a service that is asked over HTTP would answer when the sentence is over; here the answer is a function call
-- on the thread that forwards.
--
--   * A speaker's share is the speakers' part of the budget, divided by their number, between SPEAKER_MIN and _MAX.
--   * Who does not speak gets a share of the rest, between LISTENER_MIN and _MAX.
--   * Only what changes by more than a tenth is told to a browser: its encoder needs time to settle.
--
-- Configuration, in `script_config`: `room_bps` (the room's budget), `speaker_part` (of it, 0 to 1). The token is the
-- server's `secret`.

local SECRET = sfu.config.secret
local ROOM_BPS = sfu.config.room_bps or 8000000
local SPEAKER_PART = sfu.config.speaker_part or 0.7
local SPEAKER_MIN, SPEAKER_MAX = 300000, 2500000
local LISTENER_MIN, LISTENER_MAX = 100000, 800000
local WORTH_TELLING = 0.1

STATE_VERSION = 1

local speaking = {} -- client id -> true
local limits = {} -- client id -> what it was told last, bit/s

local function between(low, value, high)
  return math.floor(math.max(low, math.min(value, high)))
end

local function apply()
  local clients, speakers = sfu.clients(), 0
  for _, client in ipairs(clients) do
    if speaking[client:get_id()] then speakers = speakers + 1 end
  end
  local others = #clients - speakers
  -- Nobody speaks: all share alike.
  local part = speakers == 0 and 0 or SPEAKER_PART
  local speaker_bps = between(SPEAKER_MIN, ROOM_BPS * part / math.max(speakers, 1), SPEAKER_MAX)
  local listener_bps = between(LISTENER_MIN, ROOM_BPS * (1 - part) / math.max(others, 1), LISTENER_MAX)
  for _, client in ipairs(clients) do
    local id = client:get_id()
    local bps = speaking[id] and speaker_bps or listener_bps
    local before = limits[id]
    if not before or math.abs(bps - before) > before * WORTH_TELLING then
      client:set_max_bitrate(bps)
      limits[id] = bps
    end
  end
end

function on_active_speakers(clients)
  speaking = {}
  for _, client in ipairs(clients) do
    speaking[client:get_id()] = true
  end
  apply()
end

function on_client_connect(client, auth_token)
  if not SECRET or not sfu.equal(auth_token, SECRET) then
    return false, "Wrong token"
  end
  -- It is among sfu.clients() from the next event on.
  sfu.set_timeout(0, apply)
  return true
end

function on_client_disconnect(client, reason)
  local id = client:get_id()
  speaking[id], limits[id] = nil, nil
  apply()
end

function on_publish_request(client, track)
  return true
end

function on_unload()
  return { speaking = speaking, limits = limits }
end

function on_load(state, old_version)
  if old_version == STATE_VERSION then
    speaking, limits = state.speaking, state.limits
  end
  apply() -- the new version may have other figures
end
