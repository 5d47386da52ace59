local function meeting(size)
  local room = test.room("speaker_bitrate.lua", { secret = "s", room_bps = 4000000 })
  local people = {}
  for i = 1, size do people[i] = room:connect({ token = "s" }) end
  room:advance(10)
  return room, people
end

local function limits(people)
  local list = {}
  for i, client in ipairs(people) do list[i] = client.max_bitrate end
  return list
end

test.it("the token is asked for", function()
  local _, allowed, reason = meeting(0):connect({ token = "x" })
  test.eq({ allowed, reason }, { false, "Wrong token" })
end)

test.it("while nobody speaks all share alike", function()
  local _, people = meeting(8)
  test.eq(people[1].max_bitrate, 500000)
  test.eq(people[8].max_bitrate, 500000)
end)

test.it("who speaks gets the larger part, and several share it", function()
  local room, people = meeting(4)
  room:speakers({ people[1] })
  test.eq(limits(people), { 2500000, 400000, 400000, 400000 })
  room:speakers({ people[2], people[1] })
  test.eq(limits(people), { 1400000, 1400000, 600000, 600000 })
  room:speakers({})
  test.eq(limits(people), { 800000, 800000, 800000, 800000 })
end)

test.it("a small change is not told to the browser", function()
  local room, people = meeting(30)
  local before = people[1].max_bitrate
  people[30]:disconnect()
  test.eq(people[1].max_bitrate, before)
  test.ok(room:reload("speaker_bitrate.lua"))
  test.eq(people[1].max_bitrate, before)
end)

test.it("a hundred changes of speaker in a second are no trouble", function()
  local room, people = meeting(50)
  for i = 1, 100 do
    room:speakers({ people[i % 50 + 1] })
    room:advance(10)
  end
  test.eq(people[1].max_bitrate, 2500000)
end)
