-- The policy under attack: the token is checked, every message goes to everybody in the room.

function on_client_connect(client, token)
  -- Careless: it looks at what a stranger says of itself before it knows who that is.
  local metadata = client:get_metadata()
  if metadata.name == "nobody" then
    return false, "Nobody may not come"
  end
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

function on_message(client, message)
  if message == "spin" then
    while true do end
  elseif message == "grow" then
    local list = {}
    while true do
      list[#list + 1] = string.rep("x", 1000) .. #list
    end
  elseif message == "error" then
    error("a test's error")
  elseif type(message) == "table" and message.shout then
    -- Careless: it takes it that a shout is a text.
    message = message.shout:upper()
  elseif type(message) == "table" and message.who then
    local names = {}
    for i, other in ipairs(sfu.clients()) do
      names[i] = tostring(other:get_metadata().name)
    end
    return client:send({ who = message.who, names = names })
  end
  sfu.broadcast(message)
end
