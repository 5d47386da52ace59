local CONFIG = { jwt_key = "k", shop_url = "https://shop.example.com", trial_minutes = 5 }

local function token(user, role)
  return test.jwt({ sub = user, role = role, exp = test.start + 24 * 3600 }, "k")
end

-- A room whose shop answers with this status, after a while.
local function open(status, id)
  local room = test.room("trial_webinar.lua", CONFIG, { id = id or "demo" })
  room:http(function() return status and { status = status, delay = 500 } or nil, "connection refused" end)
  return room
end

test.it("who is not logged in stays out; viewers do not publish, the host does", function()
  local room = open()
  local _, allowed, reason = room:connect({ token = "x" })
  test.eq({ allowed, reason }, { false, "Please log in: the token is malformed" })
  local ada, host = room:connect({ token = token("ada") }), room:connect({ token = token("host", "host") })
  local _, viewer = ada:publish({ kind = "audio" })
  local _, presenter = host:publish({ kind = "video" })
  test.eq({ viewer, presenter, host.attributes }, { false, true, { plan = "paid", host = true } })
end)

test.it("a trial ends after its minutes, with a warning, and joining again gives none back", function()
  local room = open()
  local ada = room:connect({ token = token("ada") })
  test.eq(ada:last(), { type = "trial", seconds = 300 })
  room:advance(200000)
  ada:disconnect()
  local again = open(nil, "other"):connect({ token = token("ada") })
  test.eq(again:last(), { type = "trial", seconds = 100 }, "in whatever room")
  again.room:advance(40000)
  test.eq(again:last(), { type = "trial", seconds = 60 })
  again.room:advance(60000)
  test.eq(again.kicked, "Your free minutes are over")
  local _, allowed, reason = again.room:connect({ token = token("ada") })
  test.eq({ allowed, reason }, { false, "Your free minutes are over" })
end)

test.it("an upgrade in the middle of the call, as the page says and the shop confirms", function()
  local room = open(200)
  local ada = room:connect({ token = token("ada") })
  room:advance(290000)
  ada:message({ type = "upgrade" })
  test.eq(ada.attributes, { plan = "trial" }, "the shop is being asked")
  room:advance(600)
  test.eq({ ada:last(), ada.attributes }, { { type = "upgraded" }, { plan = "paid" } })
  test.eq(room.requests[1].url, "https://shop.example.com/paid/ada")
  room:advance(3600000)
  test.eq(ada.kicked, nil)
  ada:disconnect()
  test.eq(room:connect({ token = token("ada") }).attributes, { plan = "paid" })
end)

test.it("who has not paid is told so, and so is who cannot be looked up", function()
  local told = { [404] = "You have not paid yet", [503] = "We cannot see your payment yet, please try again" }
  for status, text in pairs(told) do
    local room = open(status)
    local ada = room:connect({ token = token("ada") })
    ada:message({ type = "upgrade" })
    room:advance(500)
    test.eq({ ada:last(), ada.attributes.plan }, { { type = "error", text = text }, "trial" })
  end
  local room = open()
  local ada = room:connect({ token = token("ada") })
  ada:message({ type = "upgrade" })
  test.match(room.log[1].text, "^the shop cannot be asked about ada: connection refused$")
end)

test.it("the shop says itself who has paid", function()
  local room = open()
  local ada, bob = room:connect({ token = token("ada") }), room:connect({ token = token("bob") })
  test.eq(room:call({ paid = "ada" }), { upgraded = 1 })
  test.eq(room:call({ paid = "ada" }), { upgraded = 0 })
  test.eq({ ada.attributes.plan, bob.attributes.plan }, { "paid", "trial" })
  test.eq(room:call("ada"), { error = "paid is the sub of who has paid" })
end)

test.it("a reload gives nobody minutes, and what version 1 hands over is understood", function()
  local old = { name = "trial_webinar_1.lua", source = [[
    STATE_VERSION = 1
    local trials = {}
    function on_client_connect(client, token)
      client:set_identity("ada")
      trials[client:get_id()] = { user = "ada", used = 100, since = sfu.now() }
      return true
    end
    function on_publish_request() return true end
    function on_unload() return trials end
  ]] }
  local room = test.room(old, CONFIG)
  local ada = room:connect({})
  room:advance(100000)
  test.ok(room:reload("trial_webinar.lua"))
  room:advance(40000)
  test.eq(ada:last(), { type = "trial", seconds = 60 })
  test.ok(room:reload("trial_webinar.lua"))
  room:advance(60000)
  test.eq(ada.kicked, "Your free minutes are over")
end)
