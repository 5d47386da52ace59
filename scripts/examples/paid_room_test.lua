-- Of a key pair that was made for this test: { sub = "u-17", minutes = 3, exp = 1786100000 }, and the same by a
-- key "k2".
local KEYS = '{"keys":[{"kty":"EC","crv":"P-256","kid":"k1","use":"sig","x":"yxbGocMYggtuoRkHaI8lWiEIpxqz64hQ_' ..
  'ZuSYDugDhA","y":"I0O1DMneLQBM75XIK0nL1qdYGDEX0XxeA21YNnyrr0w"}]}'
local TICKET = "eyJhbGciOiJFUzI1NiIsInR5cCI6IkpXVCIsImtpZCI6ImsxIn0.eyJzdWIiOiJ1LTE3IiwibWludXRlcyI6MywiaX" ..
  "NzIjoiaHR0cHM6Ly9pZC5leGFtcGxlLmNvbSIsImF1ZCI6Im1vb25yaW5nIiwiZXhwIjoxNzg2MTAwMDAwfQ.bqx-q" ..
  "4-COCr7Xm7bXBG66dEwAVyJLRgLHgGZ61pD0oPtFMuEyN0flblntRY3kIojBBrJMkqCaDW6AUqBuQbg_A"
local OTHER_KEY = "eyJhbGciOiJFUzI1NiIsInR5cCI6IkpXVCIsImtpZCI6ImsyIn0.eyJzdWIiOiJ1LTE3IiwibWludXRlcyI6MywiaX" ..
  "NzIjoiaHR0cHM6Ly9pZC5leGFtcGxlLmNvbSIsImF1ZCI6Im1vb25yaW5nIiwiZXhwIjoxNzg2MTAwMDAwfQ.55Tll" ..
  "iZzA5h2DGN90i5Fs90j2FWy1lz4UwOENojUmoj5XiHNcGf20OquV_JAm3yjnxv1FBZuGdTqMdMnnzZZ7g"

local CONFIG = {
  jwks_url = "https://id.example.com/keys", jwt_issuer = "https://id.example.com", jwt_audience = "moonring",
  shop_url = "https://shop.example.com/minutes", shop_secret = "w",
}

-- A room, and what the shop has been told.
local function shop(id, answer)
  local room, told = test.room("paid_room.lua", CONFIG, { id = id or "demo" }), {}
  room:http(function(request)
    if request.url == CONFIG.jwks_url then return { status = 200, body = KEYS } end
    told[#told + 1] = { body = test.json.decode(request.body), signature = request.headers["x-signature"] }
    return { status = answer or 200 }
  end)
  return room, told
end

test.it("a ticket opens the room, another text does not", function()
  local room = shop()
  local ada, allowed = room:connect({ token = TICKET })
  test.eq({ allowed, ada:last() }, { true, { type = "minutes", left = 3 } })
  local _, second, reason = room:connect({ token = "x" })
  test.eq({ second, reason }, { false, "Your ticket is not valid: the token is malformed" })
  local _, third, unknown = room:connect({ token = OTHER_KEY })
  test.eq({ third, unknown }, { false, 'Your ticket is not valid: the set has no key "k2"' })
end)

test.it("without the keys nobody comes in", function()
  local room = test.room("paid_room.lua", CONFIG)
  local _, allowed, reason = room:connect({ token = TICKET })
  test.eq({ allowed, reason }, { false, "Please try again later" })
end)

test.it("the minutes are used up in whatever room, and stay so", function()
  local room, told = shop()
  local ada = room:connect({ token = TICKET })
  room:advance(61000)
  ada:disconnect("bye")
  test.eq({ #told, told[1].body.minutes, told[1].body.customer, told[1].body.room }, { 1, 1, "u-17", "demo" })
  test.match(told[1].signature, "^sha256=%x+$")
  local other, told_there = shop("other")
  local again = other:connect({ token = TICKET })
  test.eq(again:last(), { type = "minutes", left = 2 })
  other:advance(60000)
  test.eq(again:last(), { type = "minutes", left = 1 })
  other:advance(60000)
  test.eq(again.kicked, "Your minutes are used up")
  test.eq(told_there[1].body.minutes, 2)
  local _, allowed, reason = other:connect({ token = TICKET })
  test.eq({ allowed, reason }, { false, "Your minutes are used up" })
end)

test.it("a shop that does not answer is told again", function()
  local room, told = shop("demo", 503)
  room:connect({ token = TICKET }):disconnect()
  room:advance(10000)
  test.eq(#told, 3)
  test.match(room.log[1].text, "the shop was not told of 0 minutes")
end)

test.it("a reload meters on", function()
  local room, told = shop()
  local ada = room:connect({ token = TICKET })
  room:advance(30000)
  test.ok(room:reload("paid_room.lua"))
  room:advance(31000)
  ada:disconnect()
  test.eq(told[1].body.minutes, 1)
end)
