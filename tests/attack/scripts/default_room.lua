-- The policy under attack: the token is checked, every message goes to everybody in the room.

function on_client_connect(_, token)
  if token == "slow" then
    sfu.sleep(30000)
  end
  if token ~= sfu.config.secret then
    return false, "Wrong token"
  end
  return true
end

function on_publish_request()
  return true
end

function on_subscribe_request()
  return true
end

function on_message(_, message)
  if message == "spin" then
    while true do end
  elseif message == "grow" then
    local list = {}
    while true do
      list[#list + 1] = string.rep("x", 1000) .. #list
    end
  elseif message == "error" then
    error("a test's error")
  end
  sfu.broadcast(message)
end
