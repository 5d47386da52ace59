local CONFIG = { host_token = "h", guest_token = "g" }

-- A room with a host and four guests, each of whom publishes a sound.
local function open()
  local room, sounds = test.room("breakout.lua", CONFIG), {}
  local host, guests = room:connect({ id = "host", token = "h" }), {}
  for i = 1, 4 do
    guests[i] = room:connect({ id = "g" .. i, token = "g" })
    sounds[i] = guests[i]:publish({ kind = "audio", id = "s" .. i })
  end
  return room, host, guests, sounds
end

test.it("only a valid link opens the room", function()
  local room = test.room("breakout.lua", CONFIG)
  local _, allowed, reason = room:connect({ token = "" })
  test.eq({ allowed, reason }, { false, "This link is not valid" })
end)

test.it("groups hear only each other, and the host hears all", function()
  local room, host, guests, sounds = open()
  test.eq((guests[2]:subscribe(sounds[1])), true)
  test.eq((guests[3]:subscribe(sounds[1])), true)
  host:message({ type = "split", groups = 2, minutes = 10 })
  room:advance(100)
  test.eq(guests[3].attributes, { role = "guest", group = 1 })
  test.eq(guests[2].ended, { s1 = "They are in another group" })
  test.eq(guests[3].ended, {})
  local may, why = guests[2]:subscribe(sounds[1])
  test.eq({ may, why }, { false, "They are in another group" })
  test.eq((guests[2]:subscribe(sounds[4])), true)
  test.eq((host:subscribe(sounds[1])), true)
  test.eq(guests[1]:last(), { type = "split", ends = test.start + 600 })
end)

test.it("a guest is moved to another group, and who comes late is in the first", function()
  local room, host, guests, sounds = open()
  host:message({ type = "split", groups = 2, minutes = 10 })
  host:message({ type = "move", client = "g2", group = 1 })
  room:advance(100)
  test.eq((guests[2]:subscribe(sounds[1])), true)
  test.eq((guests[4]:subscribe(sounds[2])), false)
  local late = room:connect({ token = "g" })
  test.eq({ late.attributes.group, late:last().type }, { 1, "split" })
  test.eq((late:subscribe(sounds[3])), true)
end)

test.it("all are together again when the time is over, also across a reload, or when the host says so", function()
  local room, host, guests, sounds = open()
  host:message({ type = "split", groups = 4, minutes = 10 })
  room:advance(5 * 60000)
  test.ok(room:reload("breakout.lua"))
  room:advance(5 * 60000 - 1)
  test.eq((guests[2]:subscribe(sounds[1])), false)
  room:advance(1)
  test.eq(guests[2]:last(), { type = "back" })
  test.eq(guests[2].attributes, { role = "guest" })
  test.eq((guests[2]:subscribe(sounds[1])), true)
  host:message({ type = "split", groups = 4, minutes = 10 })
  host:message({ type = "back" })
  test.eq((guests[3]:subscribe(sounds[1])), true)
end)

test.it("what version 1 hands over is understood", function()
  local old = { name = "breakout_1.lua", source = [[
    STATE_VERSION = 1
    local split
    function on_client_connect(client, token)
      client:set_attributes(token == "h" and { role = "host" } or { role = "guest", group = tonumber(token) })
      return true
    end
    function on_publish_request() return true end
    function on_message() split = { groups = 2, ["until"] = sfu.now() + 60 } end
    function on_unload() return split end
  ]] }
  local room = test.room(old, CONFIG)
  local one, two = room:connect({ token = "1" }), room:connect({ token = "2" })
  local sound = one:publish({ kind = "audio" })
  one:message("split")
  test.ok(room:reload("breakout.lua"))
  test.eq((two:subscribe(sound)), false)
  room:advance(60000)
  test.eq((two:subscribe(sound)), true)
end)

test.it("only the host splits, and only into what makes sense", function()
  local _, host, guests = open()
  guests[1]:message({ type = "split", groups = 2, minutes = 10 })
  test.eq(guests[1]:last(), { type = "error", text = "Only the host may do that" })
  for _, case in ipairs({
    { { type = "split", groups = 0, minutes = 10 }, "groups is a number of 1 to 20" },
    { { type = "split", groups = 2, minutes = "10" }, "minutes is a number of 1 to 480" },
    { { type = "move", client = "g1", group = 1 }, "The room is not split" },
    { { type = "back" }, "The room is not split" },
    { "split", "This room knows only messages of the types split, move and back" },
  }) do
    host:message(case[1])
    test.eq(host:last(), { type = "error", text = case[2] })
  end
end)

test.it("a room of 60 is split within the bounds of a hook", function()
  local room = test.room("breakout.lua", CONFIG)
  local host, guests = room:connect({ token = "h" }), {}
  for i = 1, 60 do
    guests[i] = room:connect({ token = "g" })
    guests[i]:publish({ kind = "audio", id = "s" .. i })
  end
  for i = 2, 60 do guests[1]:subscribe("s" .. i) end
  host:message({ type = "split", groups = 20, minutes = 1 })
  room:advance(1000)
  test.eq(guests[1].ended.s2, "They are in another group")
  test.eq(guests[1].ended.s21, nil)
end)
