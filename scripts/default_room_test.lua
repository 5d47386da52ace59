local function meeting(config)
  config = config or {}
  config.secret = config.secret or "s"
  return test.room("default_room.lua", config)
end

test.it("only the secret opens the room, and refusals are plain words", function()
  local room = meeting()
  for token, words in pairs({ [""] = "A token is required", x = "Wrong token" }) do
    local _, allowed, reason = room:connect({ token = token })
    test.eq({ allowed, reason }, { false, words })
  end
  local _, allowed = room:connect({ token = "s" })
  test.eq(allowed, true)
  local unset = test.room("default_room.lua", {})
  local _, _, reason = unset:connect({ token = "x" })
  test.eq(reason, "This server has no secret configured")
end)

test.it("a full room says so", function()
  local room = meeting({ max_participants = 1 })
  room:connect({ token = "s" })
  local _, allowed, reason = room:connect({ token = "s" })
  test.eq({ allowed, reason }, { false, "The room is full (1 participants)" })
end)

test.it("so many may show video, everybody may speak", function()
  local room = meeting({ max_video_publishers = 1 })
  local first, second = room:connect({ token = "s" }), room:connect({ token = "s" })
  local camera = first:publish({ kind = "video" })
  local _, allowed, reason = second:publish({ kind = "video" })
  test.eq({ allowed, reason }, { false, "Only 1 participants may show video here" })
  _, allowed = second:publish({ kind = "audio" })
  test.eq(allowed, true)
  test.ok(second:subscribe(camera))
  first:unpublish(camera)
  _, allowed = second:publish({ kind = "video" })
  test.eq(allowed, true)
end)

test.it("a text goes to the others, anything else is answered", function()
  local room = meeting()
  local ada, bob = room:connect({ id = "ada", token = "s" }), room:connect({ id = "bob", token = "s" })
  ada:message({ type = "chat", text = "hi" })
  test.eq(bob.sent, { { type = "chat", from = "ada", text = "hi" } })
  test.eq(ada.sent, {})
  for _, bad in ipairs({ "x", 1, { type = "chat" }, { type = "chat", text = string.rep("x", 2001) } }) do
    ada:message(bad)
    test.eq(ada:last().type, "error")
  end
  ada:disconnect("gone home")
  test.eq(bob:last(), { type = "goodbye", from = "ada", reason = "gone home" })
end)

test.it("a reload changes nothing for anybody", function()
  local room = meeting({ max_participants = 2 })
  room:connect({ token = "s" })
  room:connect({ token = "s" })
  test.ok(room:reload("default_room.lua"))
  local _, allowed = room:connect({ token = "s" })
  test.eq(allowed, false)
end)
