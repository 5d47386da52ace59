-- A billing service with one account, which writes down what is reported.
local function billing(account)
  local room = test.room("metered_billing.lua", { billing_url = "https://billing.test" }, { id = "demo" })
  local reports = {}
  room:http(function(request)
    if request.method == "GET" then
      test.eq(request.url, "https://billing.test/users/ada")
      return { status = 200, body = test.json.encode(account) }
    end
    test.eq(request.url, "https://billing.test/users/ada/usage")
    reports[#reports + 1] = test.json.decode(request.body)
    return { status = 204, body = "" }
  end)
  return room, reports
end

test.it("who has a quota left comes in", function()
  for used, expected in pairs({ [0] = true, [3599] = true, [3600] = false }) do
    local _, allowed = billing({ seconds = used, max_seconds = 3600 }):connect({ token = "ada" })
    test.eq(allowed, expected, used .. " seconds")
  end
  local _, allowed, reason = billing({}):connect({ token = "../admin" })
  test.eq({ allowed, reason }, { false, "Please log in" })
end)

test.it("when the service does not answer nobody comes in, in plain words", function()
  local room = billing({})
  room:http(function() return nil, "timed out" end)
  local _, allowed, reason = room:connect({ token = "ada" })
  test.eq({ allowed, reason }, { false, "Your account cannot be checked at the moment" })
  test.eq(room.log[1].text, "no account of ada: timed out")
end)

test.it("minutes and bytes are reported once a minute, and the rest at the end", function()
  local room, reports = billing({ max_seconds = 3600 })
  local client = room:connect({ token = "ada" })
  client:traffic({ bytes_in = 1000, bytes_out = 500 })
  room:advance(60000)
  client:traffic({ bytes_in = 1200 })
  room:advance(30000)
  client:disconnect()
  test.eq(reports, { { room = "demo", seconds = 60, bytes = 1500 }, { room = "demo", seconds = 30, bytes = 200 } })
end)

test.it("what could not be reported goes along with the next report", function()
  local room, reports = billing({ max_seconds = 3600 })
  room:connect({ token = "ada" })
  local answer = room.handler
  room:http(function() return { status = 503 } end)
  room:advance(60000)
  test.eq(room:counter("billing_failures"), 1)
  room:http(answer)
  room:advance(60000)
  test.eq(reports, { { room = "demo", seconds = 120, bytes = 0 } })
end)

test.it("what could not be reported of who has left goes along as well", function()
  local room, reports = billing({ max_seconds = 3600 })
  local client = room:connect({ token = "ada" })
  room:connect({ token = "ada" })
  local answer = room.handler
  room:http(function() return { status = 503 } end)
  room:advance(30000)
  client:disconnect()
  room:http(answer)
  room:advance(30000)
  test.eq(reports, { { room = "demo", seconds = 30, bytes = 0 }, { room = "demo", seconds = 60, bytes = 0 } })
end)

test.it("a used up quota is warned of, then ends the call", function()
  local room = billing({ seconds = 0, max_seconds = 100, max_bytes = 1000000 })
  local client = room:connect({ token = "ada" })
  room:advance(89000)
  test.eq(client.sent, {})
  room:advance(1000)
  test.eq(client.sent, { { type = "quota", used = 0.9 } })
  client:traffic({ bytes_out = 1000000 })
  room:advance(1000)
  test.eq(client.kicked, "Your prepaid time or data is used up")
end)

test.it("the meter survives a reload", function()
  local room, reports = billing({ seconds = 0, max_seconds = 100 })
  local client = room:connect({ token = "ada" })
  room:advance(50000)
  test.ok(room:reload("metered_billing.lua"))
  room:advance(49000)
  test.eq(client.kicked, nil)
  room:advance(1000)
  test.eq(client.kicked, "Your prepaid time or data is used up")
  test.eq(reports[#reports].seconds, 100)
end)

test.it("the state of version 1 is understood", function()
  local room = test.room({ name = "old.lua", source = [[
    STATE_VERSION = 1
    function on_client_connect() return true end
    function on_unload() return { c1 = { user = "ada", seconds = 40, max_seconds = 60 } } end
  ]] })
  local client = room:connect()
  room:http(function() return { status = 204 } end)
  test.ok(room:reload("metered_billing.lua"))
  room:advance(20000)
  test.eq(client.kicked, "Your prepaid time or data is used up")
end)
