local function desk()
  local room = test.room("support_desk.lua", { customer_token = "c", agent_token = "a" })
  return room, room:connect({ id = "eve", token = "a" }), room:connect({ id = "ann", token = "c" })
end

test.it("only a valid link leads to the desk", function()
  local room = desk()
  local _, allowed, reason = room:connect({ token = "x" })
  test.eq({ allowed, reason }, { false, "This link is not valid" })
  local bare = test.room("support_desk.lua", {})
  local _, empty = bare:connect({ token = "" })
  test.eq(empty, false, "without a configured token the desk is closed")
end)

test.it("a customer waits, is served, and hears only their agent", function()
  local room, eve, ann = desk()
  local bob = room:connect({ id = "bob", token = "c" })
  test.eq(bob:last(), { type = "place", before = 1 })
  test.eq(room.announced, "none")
  local _, early, why = ann:publish({ kind = "audio" })
  test.eq({ early, why }, { false, "You may not publish this here" })
  test.eq(room:call({ ["do"] = "serve", customer = "ann", agent = "eve" }), { ok = true })
  test.eq(bob:last(), { type = "place", before = 0 })
  test.eq(eve:last(), { type = "serves", customer = "ann" })
  local track, allowed = ann:publish({ kind = "audio" })
  test.eq(allowed, true)
  test.eq(eve:subscribe(track), true)
  local heard, reason = bob:subscribe(track)
  test.eq({ heard, reason }, { false, "You may not receive tracks here" })
  local joe = room:connect({ id = "joe", token = "a" })
  heard, reason = joe:subscribe(track)
  test.eq({ heard, reason }, { false, "This is not your conversation" })
  test.eq(room:call({ ["do"] = "queue" }), { waiting = { "bob" }, agents = { "eve", "joe" }, served = { ann = "eve" } })
end)

test.it("another agent takes over, and who loses their agent waits first", function()
  local room, eve, ann = desk()
  local joe = room:connect({ id = "joe", token = "a" })
  room:connect({ id = "bob", token = "c" })
  room:call({ ["do"] = "serve", customer = "ann", agent = "eve" })
  local track, of_eve = ann:publish({ kind = "audio" }), eve:publish({ kind = "audio" })
  test.eq({ eve:subscribe(track), (ann:subscribe(of_eve)) }, { true, true })
  test.eq(room:call({ ["do"] = "hand", customer = "ann", agent = "joe" }), { ok = true })
  test.eq(eve.ended, { [track.id] = "The conversation is over" })
  test.eq(ann.ended, { [of_eve.id] = "The conversation is over" })
  test.eq({ (eve:subscribe(track)), (joe:subscribe(track)) }, { false, true })
  joe:disconnect()
  test.eq(room:call({ ["do"] = "queue" }).waiting, { "ann", "bob" })
  test.eq(ann.ended[track.id], "Your agent has left: please wait for another one")
  test.eq({ ann.rights.publish, ann.rights.subscribe }, { {}, false })
  test.ok(room:reload("support_desk.lua"))
  test.eq(room:call({ ["do"] = "serve", customer = "ann", agent = "eve" }), { ok = true })
  local _, allowed = ann:publish({ kind = "audio" })
  test.eq(allowed, true)
end)

test.it("the program ends conversations and closes the desk", function()
  local room, eve, ann = desk()
  room:call({ ["do"] = "end", customer = "ann", reason = ("x"):rep(2000) })
  test.eq(ann.kicked, "Thank you for calling")
  room:call({ ["do"] = "close", reason = "Good night" })
  test.eq({ eve.kicked, room.closed }, { "Good night", "Good night" })
end)

test.it("a program that is wrong is told so", function()
  local room = desk()
  for _, case in ipairs({
    { 7, "do one of queue, serve, hand, end, close" },
    { { ["do"] = "dance" }, "do one of queue, serve, hand, end, close" },
    { { ["do"] = "serve", customer = 7 }, "customer is a client's id" },
    { { ["do"] = "serve", customer = "zoe", agent = "eve" }, "there is no such customer" },
    { { ["do"] = "serve", customer = "ann", agent = "ann" }, "there is no such agent" },
    { { ["do"] = "hand", customer = "ann", agent = "eve" }, "there is no such customer" },
    { { ["do"] = "end", customer = "eve" }, "there is no such customer" },
  }) do
    test.eq(room:call(case[1]), { error = case[2] })
  end
end)
