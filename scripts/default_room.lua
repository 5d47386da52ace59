-- The policy of every room that has no script of its own: a meeting.
--
--   * Who shows the server's shared secret as token may come in, as long as there is a seat.
--   * Everybody may speak; so many may show a picture (camera or screen) at the same time.
--   * Everybody may receive everything.
--   * Text messages are passed on to the others, and who leaves is announced.
--
-- Edit this file while the server runs: every room that runs it takes the new version over at once, or keeps the old
-- one when the new one has an error (the log then says which, and where).

-- The values come from the server's configuration (`sfu.config`); what follows `or` counts when it says nothing.
local SECRET = sfu.config.secret
local MAX_PARTICIPANTS = sfu.config.max_participants or 50
local MAX_VIDEO_PUBLISHERS = sfu.config.max_video_publishers or 16
local MAX_TEXT_BYTES = 2000

-- Raise this number when what on_unload returns takes another form: on_load is told the old one.
STATE_VERSION = 1

-- Text messages passed on since the room was opened: an example of state that survives a reload.
local texts = 0

-- How many clients other than `client` publish a picture.
local function other_video_publishers(client)
  local count = 0
  for _, other in ipairs(sfu.clients()) do
    if other ~= client then
      for _, track in ipairs(other:tracks()) do
        if track.kind == "video" then
          count = count + 1
          break
        end
      end
    end
  end
  return count
end

-- May this client come in? Whoever has been allowed counts from this moment on, so the limit holds also when many
-- come at once.
function on_client_connect(client, auth_token)
  if not SECRET or SECRET == "" then
    return false, "This server has no secret configured"
  end
  if auth_token == "" then
    return false, "A token is required"
  end
  if not sfu.equal(auth_token, SECRET) then
    sfu.log_warn("wrong token from " .. client:get_ip())
    return false, "Wrong token"
  end
  if #sfu.clients() >= MAX_PARTICIPANTS then
    return false, "The room is full (" .. MAX_PARTICIPANTS .. " participants)"
  end
  return true
end

-- May this client publish this track?
function on_publish_request(client, track)
  if track.kind == "video" and other_video_publishers(client) >= MAX_VIDEO_PUBLISHERS then
    return false, "Only " .. MAX_VIDEO_PUBLISHERS .. " participants may show video here"
  end
  return true
end

-- May this client receive this track?
function on_subscribe_request(client, track)
  return true
end

-- A message to the room: { type = "chat", text = "..." } goes to the others as { type = "chat", from =, text = }.
function on_message(client, message)
  if type(message) ~= "table" or message.type ~= "chat" or type(message.text) ~= "string" then
    client:send({ type = "error", text = "This room knows only messages of the type chat" })
    return
  end
  if #message.text > MAX_TEXT_BYTES then
    client:send({ type = "error", text = "A text has at most " .. MAX_TEXT_BYTES .. " bytes" })
    return
  end
  texts = texts + 1
  sfu.broadcast({ type = "chat", from = client:get_id(), text = message.text }, client)
end

-- Somebody has left: the others are told.
function on_client_disconnect(client, reason)
  sfu.broadcast({ type = "goodbye", from = client:get_id(), reason = reason })
end

-- What the next version of this file gets to know of the room.
function on_unload()
  return { texts = texts }
end

function on_load(state, old_version)
  if type(state) == "table" and old_version == STATE_VERSION then
    texts = state.texts or 0
  end
end
