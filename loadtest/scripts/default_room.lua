-- The policy of rooms under load: the token is checked, nothing is limited.

function on_client_connect(_, token)
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
