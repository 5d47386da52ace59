-- Breakout groups: a host splits the room into groups that hear and see only each other, and has them back.
--
-- It stays one room: nobody connects anew, and the host hears every group. A group is a rule about who may receive
-- whom: what does not fit any more ends at once (`client:unsubscribe`), what is asked for later is decided by the same
-- rule.
--
--   the host   { type = "split", groups = <how many>, minutes = <how long> }     by turns, in the order of joining
--              { type = "move", client = "<id>", group = <number> }
--              { type = "back" }                                                 before the time is over
--
-- What everybody sees of everybody stands in their attributes: `role` ("host" or "guest") and, while the room is split,
-- `group`. All are told { type = "split", ends = <seconds since 1970> } and { type = "back" }: a page then asks again
-- for the tracks that it wants.
--
-- Configuration, in `script_config`: `host_token`, `guest_token`, `max_groups` (by default 20).

local MAX_GROUPS = sfu.config.max_groups or 20
local MAX_MINUTES = 8 * 60
local ELSEWHERE = "They are in another group"

STATE_VERSION = 2

-- nil while all are together; else { groups = how many, ends = when they are back }.
local split

local function equal(token, expected) return expected ~= nil and expected ~= "" and sfu.equal(token, expected) end

local function is_host(client) return client:attributes().role == "host" end

-- The rule. Attributes outlive a reload, so that a group needs no table of this script.
local function may_receive(client, publisher)
  if not split or is_host(client) or is_host(publisher) then return true end
  return client:attributes().group == publisher:attributes().group
end

-- Ends what the rule does not allow any more. Groups that were just given hold when that hook has ended, so this is a
-- timer's work; and each client's turn is a step of its own, as a step has 5 ms and a hook 2,000 actions.
local function part()
  for _, client in ipairs(sfu.clients()) do
    for _, publisher in ipairs(sfu.clients()) do
      if client ~= publisher and not may_receive(client, publisher) then
        for _, track in ipairs(publisher:tracks()) do client:unsubscribe(track, ELSEWHERE) end
      end
    end
    sfu.flush()
    sfu.sleep(0)
  end
end

local function put(client, group) client:set_attributes({ role = "guest", group = group }) end

local function come_back()
  split = nil
  sfu.clear("back")
  for _, client in ipairs(sfu.clients()) do
    if not is_host(client) then put(client, nil) end
  end
  sfu.broadcast({ type = "back" })
end

-- A timer with a name goes on across a reload when the new version sets one of that name: on_load does.
local function wait_for_the_end()
  sfu.set_timeout("back", math.max(0, split.ends - sfu.now()) * 1000, come_back)
end

function on_client_connect(client, auth_token)
  if equal(auth_token, sfu.config.host_token) then
    client:set_attributes({ role = "host" })
    return true
  end
  if not equal(auth_token, sfu.config.guest_token) then return false, "This link is not valid" end
  -- Who comes late, or again, is in the first group until a host says otherwise.
  put(client, split and 1 or nil)
  if split then client:send({ type = "split", ends = split.ends }) end
  return true
end

function on_publish_request(client, track) return true end

function on_subscribe_request(client, track)
  local publisher = sfu.client(track.client_id)
  return publisher ~= nil and may_receive(client, publisher), ELSEWHERE
end

local function fail(client, text) client:send({ type = "error", text = text }) end

local function whole(value, most)
  return type(value) == "number" and value % 1 == 0 and value >= 1 and value <= most
end

local actions = {}

function actions.split(client, message)
  if not whole(message.groups, MAX_GROUPS) then return fail(client, "groups is a number of 1 to " .. MAX_GROUPS) end
  if not whole(message.minutes, MAX_MINUTES) then return fail(client, "minutes is a number of 1 to " .. MAX_MINUTES) end
  split = { groups = message.groups, ends = sfu.now() + message.minutes * 60 }
  local next_group = 0
  for _, other in ipairs(sfu.clients()) do
    if not is_host(other) then
      put(other, next_group % split.groups + 1)
      next_group = next_group + 1
    end
  end
  wait_for_the_end()
  sfu.set_timeout(0, part)
  sfu.broadcast({ type = "split", ends = split.ends })
end

function actions.move(client, message)
  if not split then return fail(client, "The room is not split") end
  if not whole(message.group, split.groups) then return fail(client, "group is a number of 1 to " .. split.groups) end
  local other = type(message.client) == "string" and sfu.client(message.client)
  if not other or is_host(other) then return fail(client, "There is no such guest") end
  put(other, message.group)
  sfu.set_timeout(0, part)
end

function actions.back(client)
  if not split then return fail(client, "The room is not split") end
  come_back()
end

function on_message(client, message)
  local action = type(message) == "table" and actions[message.type]
  if not action then return fail(client, "This room knows only messages of the types split, move and back") end
  if not is_host(client) then return fail(client, "Only the host may do that") end
  action(client, message)
end

function on_unload() return split end

function on_load(state, old_version)
  if type(state) ~= "table" then return end
  if old_version == 1 then
    -- Version 1 said `until`, which is a word of Lua's.
    split = { groups = state.groups, ends = state["until"] }
  elseif old_version == STATE_VERSION then
    split = state
  end
  if split then wait_for_the_end() end
end
