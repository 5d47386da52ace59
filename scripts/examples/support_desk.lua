-- A support desk that is driven from outside: the operator's program says who is served by whom.
--
-- Customers join with the token of `customer_token` and wait: they hear and see nobody, nobody hears or sees them,
-- and nobody is told that they are there. Agents join with `agent_token`. The program calls the room (`POST
-- /rooms/{room}/call`, `moonring call ROOM JSON`):
--
--   { "do": "queue" }                                          answers { "waiting": [ids], "agents": [ids],
--                                                                     "served": { id: agent } }
--   { "do": "serve", "customer": "<id>", "agent": "<id>" }     they hear and see each other from now on
--   { "do": "hand", "customer": "<id>", "agent": "<id>" }      another agent goes on with the customer
--   { "do": "end", "customer": "<id>", "reason": "..." }       the customer is disconnected
--   { "do": "close", "reason": "..." }                         the desk is closed; everybody is disconnected
--
-- What went wrong is answered as { "error": "..." }.
--
-- Configuration, in `script_config`: `customer_token`, `agent_token`.

STATE_VERSION = 1

local NOTHING, ALL = { publish = false, subscribe = false }, { publish = true, subscribe = true }

local agents = {} -- client id -> true
local waiting = {} -- list of client ids, the first come first
local served = {} -- client id of a customer -> client id of their agent

-- A reason of more than 1 KiB would be an error, and nobody be disconnected.
local function words(reason, otherwise)
  return type(reason) == "string" and #reason <= 200 and reason or otherwise
end

local function as_list(list) return #list > 0 and list or sfu.json.empty_array end

local function position(id)
  for i, other in ipairs(waiting) do
    if other == id then return i end
  end
end

-- Tells each who waits how many are before them.
local function tell_places()
  for i, id in ipairs(waiting) do
    local client = sfu.client(id)
    if client then client:send({ type = "place", before = i - 1 }) end
  end
end

-- Without a token in the configuration nobody comes in.
local function equal(token, expected) return expected ~= nil and expected ~= "" and sfu.equal(token, expected) end

function on_init() sfu.announce("none") end

function on_client_connect(client, auth_token)
  local id = client:get_id()
  if equal(auth_token, sfu.config.agent_token) then
    agents[id] = true
    return true
  end
  if not equal(auth_token, sfu.config.customer_token) then return false, "This link is not valid" end
  waiting[#waiting + 1] = id
  client:set_rights(NOTHING)
  client:send({ type = "place", before = #waiting - 1 })
  return true
end

function on_client_disconnect(client, reason)
  local id = client:get_id()
  agents[id], served[id] = nil, nil
  local at = position(id)
  if at then table.remove(waiting, at) end
  -- Whom the agent has served waits again, before the others.
  for customer, agent in pairs(served) do
    if agent == id then
      served[customer] = nil
      table.insert(waiting, 1, customer)
      local other = sfu.client(customer)
      if other then other:set_rights(NOTHING, "Your agent has left: please wait for another one") end
    end
  end
  tell_places()
end

function on_publish_request(client, track) return true end

-- Customers are for their agent's eyes only, and the other way round.
function on_subscribe_request(client, track)
  local me, owner = client:get_id(), track.client_id
  return served[me] == owner or served[owner] == me, "This is not your conversation"
end

local actions = {}

function actions.queue()
  local list = {}
  for id in pairs(agents) do list[#list + 1] = id end
  table.sort(list)
  return { waiting = as_list(waiting), agents = as_list(list), served = served }
end

-- The one receives the other no longer.
local function part(one, other)
  for _, track in ipairs(other:tracks()) do one:unsubscribe(track, "The conversation is over") end
end

local function put(request, where_from)
  local customer, agent = sfu.client(request.customer), sfu.client(request.agent)
  if not customer or not where_from(request.customer) then return { error = "there is no such customer" } end
  if not agent or not agents[request.agent] then return { error = "there is no such agent" } end
  local before = sfu.client(served[request.customer] or "")
  if before then
    part(before, customer)
    part(customer, before)
  end
  served[request.customer] = request.agent
  local at = position(request.customer)
  if at then table.remove(waiting, at) end
  customer:set_rights(ALL)
  customer:send({ type = "served", by = request.agent })
  agent:send({ type = "serves", customer = request.customer })
  tell_places()
  return { ok = true }
end

function actions.serve(request) return put(request, position) end
function actions.hand(request) return put(request, function(id) return served[id] end) end

actions["end"] = function(request)
  local customer = sfu.client(request.customer)
  if not customer or agents[request.customer] then return { error = "there is no such customer" } end
  customer:kick(words(request.reason, "Thank you for calling"))
  return { ok = true }
end

function actions.close(request)
  sfu.close(words(request.reason, "The desk is closed"))
  return { ok = true }
end

function on_admin(request)
  local action = type(request) == "table" and actions[request["do"]]
  if not action then return { error = "do one of queue, serve, hand, end, close" } end
  for _, name in ipairs({ "customer", "agent" }) do
    if request[name] ~= nil and type(request[name]) ~= "string" then return { error = name .. " is a client's id" } end
  end
  request.customer, request.agent = request.customer or "", request.agent or ""
  return action(request)
end

function on_unload()
  return { agents = agents, waiting = waiting, served = served }
end

function on_load(state, old_version)
  if old_version == STATE_VERSION then agents, waiting, served = state.agents, state.waiting, state.served end
end
