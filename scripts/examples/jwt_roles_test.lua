local KEY = "a secret of the web application"

local function new_room() return test.room("jwt_roles.lua", { jwt_key = KEY }, { id = "demo" }) end

local function token(changes)
  local claims = { sub = "u-1", role = "speaker", room = "demo", exp = test.start + 3600 }
  for name, value in pairs(changes or {}) do claims[name] = value end
  return test.jwt(claims, KEY)
end

test.it("a valid token opens its room and says the role", function()
  local client, allowed = new_room():connect({ token = token() })
  test.eq(allowed, true)
  test.eq(client:last(), { type = "role", role = "speaker" })
end)

test.it("any other token is refused in plain words", function()
  local room = new_room()
  for why, bad in pairs({
    ["Your invitation is not valid: the token is malformed"] = "nonsense",
    ["Your invitation is not valid: the token has expired"] = token({ exp = test.start - 3600 }),
    ["Your invitation is not valid: the token's signature does not hold"] = test.jwt({ exp = test.start + 9 }, "x"),
    ["Your invitation is for another room"] = token({ room = "other" }),
    ["Your invitation names no user or no role"] = token({ role = "king" }),
  }) do
    local _, allowed, reason = room:connect({ token = bad })
    test.eq({ allowed, reason }, { false, why })
  end
end)

test.it("a role decides what may be published", function()
  local room = new_room()
  for role, expected in pairs({
    host = { camera = true, microphone = true, screen = true },
    speaker = { camera = true, microphone = true, screen = false },
    listener = { camera = false, microphone = false, screen = false },
  }) do
    local client = room:connect({ token = token({ sub = role, role = role }) })
    for source, may in pairs(expected) do
      local _, allowed = client:publish({ kind = source == "microphone" and "audio" or "video", source = source })
      test.eq(allowed, may, role .. " " .. source)
    end
  end
end)

test.it("who joins twice takes the place of the older connection", function()
  local room = new_room()
  local first, second = room:connect({ token = token() }), room:connect({ token = token() })
  test.eq(first.kicked, "You have joined from another place")
  test.eq(second.joined, true)
end)

test.it("only a host may remove somebody, also after a reload", function()
  local room = new_room()
  local host = room:connect({ token = token({ sub = "h", role = "host" }) })
  local guest = room:connect({ token = token() })
  test.ok(room:reload("jwt_roles.lua"))
  guest:message({ type = "kick", client = host.id })
  test.eq(guest:last(), { type = "error", text = "Only a host may do that" })
  host:message({ type = "kick", client = guest.id })
  test.eq(guest.kicked, "A host has removed you")
end)
