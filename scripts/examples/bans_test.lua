local function token(user, role) return test.jwt({ sub = user, role = role, exp = test.start + 9e6 }, "k") end

local function lobby(id)
  local room = test.room("bans.lua", { jwt_key = "k", patience_s = 10 }, { id = id or "demo" })
  local host = room:connect({ id = "host", token = token("u-1", "host") })
  local function guest(name) return room:connect({ id = name, token = token("u-" .. name, "guest") }) end
  local function let_in(name)
    local client = guest(name)
    host:message({ type = "answer", client = name, allow = true })
    room:advance(300)
    return client
  end
  return room, host, guest, let_in
end

test.it("a guest knocks, and the host lets them in", function()
  local room, host, guest = lobby()
  local ann, allowed = guest("ann")
  test.eq(allowed, nil)
  test.eq(host:last(), { type = "knock", client = "ann", user = "u-ann" })
  host:message({ type = "answer", client = "ann", allow = true })
  room:advance(300)
  test.eq(ann.allowed, true)
end)

test.it("who is not let in is told so, also when nobody answers", function()
  local room, host, guest = lobby()
  local ann, bob = guest("ann"), guest("bob")
  host:message({ type = "answer", client = "ann", allow = false })
  room:advance(11000)
  test.eq({ ann.reason, bob.reason }, { "The host has not let you in", "Nobody has answered" })
  test.eq(host:last(), { type = "gone", client = "bob" })
end)

test.it("the host is told of who gives up at the door", function()
  local room, host, guest = lobby()
  local ann = guest("ann")
  room:advance(1000)
  ann:disconnect("bye")
  room:advance(9000)
  test.eq(host:last(), { type = "gone", client = "ann" })
end)

test.it("a ban holds in every room until it ends or is pardoned", function()
  local room, host, guest, let_in = lobby()
  local ann, bob = let_in("ann"), let_in("bob")
  host:message({ type = "ban", client = "ann", days = 1, reason = "shouting" })
  host:message({ type = "ban", client = "bob" })
  test.eq({ ann.kicked, bob.kicked }, { "You are banned: shouting", "You are banned: by the host" })
  local _, other_host, guest_there = lobby("other")
  test.eq(guest_there("ann").reason, "You are banned: shouting")
  other_host:message({ type = "pardon", user = "u-bob" })
  test.eq(guest_there("bob").reason, nil)
  room:advance(86400000)
  test.eq(guest("ann").reason, nil)
end)

test.it("only hosts decide, and only about who is there", function()
  local _, host, _, let_in = lobby()
  local ann = let_in("ann")
  for _, case in ipairs({
    { ann, { type = "ban", client = "host" }, "Only a host may do that" },
    { host, { type = "ban", client = "host" }, "Hosts are not banned" },
    { host, { type = "ban", client = {} }, "There is no such guest" },
    { host, { type = "ban", client = "ann", days = -1 }, "days is 1 to 366" },
    { host, { type = "pardon" }, "user is missing" },
    { host, 7, "This room knows only messages of the types answer, ban and pardon" },
  }) do
    case[1]:message(case[2])
    test.eq(case[1]:last(), { type = "error", text = case[3] })
  end
  test.eq(ann.kicked, nil)
end)

test.it("invitations have to hold", function()
  local room = lobby()
  local _, allowed, reason = room:connect({ token = test.jwt({ sub = "x", exp = test.start + 60 }, "wrong") })
  test.eq({ allowed, reason }, { false, "Your invitation is not valid: the token's signature does not hold" })
end)
