-- The policies that loadtest/policies.py loads, by the begin of the room's name.
local kind = sfu.room_id:match("^%a+")

local allow = function() return true end
on_publish_request, on_subscribe_request = allow, allow

function on_client_connect(_, token)
  if kind == "asked" then
    local reply, why_not = sfu.http(sfu.config.service .. "/decide")
    return reply ~= nil and reply.status == 200, why_not
  end
  return token == sfu.config.secret, "Wrong token"
end

local function work()
  local n = 0
  for i = 1, sfu.config.loops do n = (n + i) % 7 end
  return n
end

-- A meter: what was counted is told to somebody else only when the store has answered.
local function count()
  local sum = sfu.store.incr("metered")
  sfu.store.global.set(sfu.room_id, sum)
  sfu.webhook("counted", { room = sfu.room_id, sum = sum })
end

function on_init()
  if kind == "busy" then sfu.set_interval("work", 10, work) end
  if kind == "empty" then sfu.set_interval("work", 10, function() end) end
  if kind == "metered" then sfu.set_interval("count", sfu.config.period_ms, count) end
end

-- What the store has of a room.
function on_admin(request)
  return sfu.store.global.get(request.room)
end
