-- The policy of the end-to-end tests. Rooms whose id begins with "limit" take two video publishers, those whose id begins
-- with "slow" a second to decide on each track.
local TOKEN = "let-me-in"
local VIDEO_LIMIT = 2

local publishers = {} -- client id -> number of videos

local function count(t)
  local n = 0
  for _ in pairs(t) do n = n + 1 end
  return n
end

function on_client_connect(client, auth_token)
  if auth_token ~= TOKEN then
    return false, "Wrong token: ask the host for the link"
  end
  return true
end

function on_publish_request(client, track)
  if sfu.room_id:sub(1, 4) == "slow" then sfu.sleep(1000) end
  if track.kind ~= "video" or sfu.room_id:sub(1, 5) ~= "limit" then
    return true
  end
  local id = client:get_id()
  if not publishers[id] and count(publishers) >= VIDEO_LIMIT then
    return false, "Only " .. VIDEO_LIMIT .. " cameras in this room"
  end
  publishers[id] = true
  return true
end

function on_client_disconnect(client, reason)
  publishers[client:get_id()] = nil
end

-- {type = "kick", name = ..., reason = ...} puts somebody out, {type = "mute" or "unmute", name = ..., kind = ...} mutes
-- a track of somebody; anything else goes to everybody.
local actions = {
  kick = function(other, message) other:kick(message.reason) end,
  mute = function(other, message)
    for _, track in ipairs(other:tracks()) do
      if track.kind == message.kind then other:mute(track) end
    end
  end,
  unmute = function(other, message)
    for _, track in ipairs(other:tracks()) do
      if track.kind == message.kind then other:unmute(track) end
    end
  end,
}

function on_message(client, message)
  local action = type(message) == "table" and actions[message.type]
  if not action then
    sfu.broadcast({ type = "chat", from = client:get_id(), text = message.text })
    return
  end
  for _, other in ipairs(sfu.clients()) do
    if other:get_metadata().name == message.name then action(other, message) end
  end
end
