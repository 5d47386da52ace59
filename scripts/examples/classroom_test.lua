local function class(config)
  local settings = { teacher_token = "t", pupil_token = "p", max_floor = 1 }
  for key, value in pairs(config or {}) do settings[key] = value end
  local room = test.room("classroom.lua", settings)
  local function pupil(name) return room:connect({ id = name, token = "p", metadata = { name = name } }) end
  return room, room:connect({ id = "miss", token = "t" }), pupil("ann"), pupil
end

test.it("only the class comes in, and says its names", function()
  local room = class()
  for _, case in ipairs({
    { { token = "x" }, "This link is not for this class" },
    { { token = "p" }, "Please say your name" },
    { { token = "p", metadata = { name = { "ann" } } }, "Please say your name" },
    { { token = "p", metadata = { name = "a\nb" } }, "Please say your name" },
  }) do
    local _, allowed, reason = room:connect(case[1])
    test.eq({ allowed, reason }, { false, case[2] })
  end
end)

test.it("pupils are silent until they have the floor, and again afterwards", function()
  local room, miss, ann = class()
  local track = ann:publish({ kind = "audio" })
  test.eq(ann.muted, { [track.id] = true })
  room:advance(5000)
  ann:message({ type = "hand", up = true })
  test.eq(ann.attributes, { role = "pupil", floor = false, hand = test.start + 5 })
  miss:message({ type = "floor", client = "ann", on = true })
  test.eq(ann.muted, {})
  test.eq(ann.attributes, { role = "pupil", floor = true, hand = false })
  miss:message({ type = "quiet" })
  test.eq(ann.muted, { [track.id] = true })
  test.eq(ann.attributes, { role = "pupil", floor = false, hand = false })
end)

test.it("the rights are the teachers'", function()
  local _, miss, ann, pupil = class()
  local _, screen, reason = ann:publish({ kind = "video", source = "screen" })
  test.eq({ screen, reason }, { false, "You may not publish this here" })
  local _, shared = miss:publish({ kind = "video", source = "screen" })
  test.eq(shared, true)
  ann:message({ type = "floor", client = "ann", on = true })
  test.eq(ann:last(), { type = "error", text = "Only teachers give the floor" })
  pupil("bob")
  miss:message({ type = "floor", client = "ann", on = true })
  miss:message({ type = "floor", client = "bob", on = true })
  test.eq(miss:last(), { type = "error", text = "Enough have the floor (1)" })
  local wrong = { 7, { type = "dance" }, { type = "floor" }, { type = "floor", client = "miss", on = true } }
  for _, message in ipairs(wrong) do
    miss:message(message)
    test.eq(miss:last().type, "error")
  end
end)

test.it("who is back soon has the floor again, who is back late has not", function()
  local room, miss, ann, pupil = class({ keep_s = 60 })
  miss:message({ type = "floor", client = "ann", on = true })
  ann:disconnect("connection lost")
  room:advance(30000)
  ann = pupil("ann")
  ann:publish({ kind = "audio" })
  test.eq(ann.muted, {})
  ann:disconnect()
  room:advance(61000)
  ann = pupil("ann")
  local track = ann:publish({ kind = "audio" })
  test.eq(ann.muted, { [track.id] = true })
end)

test.it("a room that was empty for a moment remembers who had the floor", function()
  local room, miss, ann, pupil = class({ keep_s = 60 })
  miss:message({ type = "floor", client = "ann", on = true })
  ann:disconnect()
  miss:disconnect()
  room:advance(50000)
  test.eq(pupil("ann").attributes.floor, true)
  room.clients.ann:disconnect()
  room:advance(61000)
  test.eq(room.over, "empty")
  test.eq(pupil("ann").attributes.floor, false)
end)

test.it("a reload changes nothing", function()
  local room, miss, ann, pupil = class()
  miss:message({ type = "floor", client = "ann", on = true })
  test.ok(room:reload("classroom.lua"))
  ann:publish({ kind = "audio" })
  test.eq(ann.muted, {})
  ann:disconnect()
  test.ok(room:reload("classroom.lua"))
  test.eq(pupil("ann").attributes.floor, true)
end)

test.it("a reload gives the floor to nobody twice", function()
  local room, miss = class({ max_floor = 2 })
  miss:message({ type = "floor", client = "ann", on = true })
  test.ok(room:reload("classroom.lua"))
  local again = room:connect({ id = "ann-2", token = "p", metadata = { name = "ann" } })
  test.eq(again.attributes.floor, false)
end)

test.it("who had the floor when the server was lost has it again, unless that is too long ago", function()
  for after_s, has_floor in pairs({ [30] = true, [90] = false }) do
    local room, miss, _, pupil = class({ keep_s = 60, max_floor = 3 })
    pupil("bob")
    miss:message({ type = "floor", client = "ann", on = true })
    room:advance(5000)
    -- Since the last checkpoint.
    miss:message({ type = "floor", client = "bob", on = true })
    room:lose_server()
    room:advance(after_s * 1000)
    for name, floor in pairs({ ann = has_floor, bob = false }) do
      local again = room:connect({ token = "p", metadata = { name = name } })
      test.eq(again.attributes.floor, floor, name .. " after " .. after_s .. " s")
    end
  end
end)
