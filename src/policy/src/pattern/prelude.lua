-- The Lua half of string.find, match, gmatch and gsub. Host functions match; whatever may run a script's code
-- (callbacks, metamethods) runs here, so that the C stack never nests and the kill reaches it.
-- A host function answers false and a message on error; the last step of a wrapper is a tail call, so that level 2 is the script.
local string, host_find, host_match, host_next, host_gmatch, host_gsub, max_bytes = ...
local error, type, sub, concat = error, type, string.sub, table.concat

local function finish(first, ...)
  if first == false then error((...), 2) end
  return first, ...
end

function string.find(...) return finish(host_find(...)) end
function string.match(...) return finish(host_match(...)) end

local function iterate(subject, pattern)
  if subject == false then error(pattern, 2) end
  local from = 1
  local function step(first, last, ...)
    if first then
      from = first == last and last + 1 or last
      return ...
    end
    if first == false then error(last, 2) end
  end
  return function() return step(host_next(subject, pattern, from)) end
end

function string.gmatch(...) return iterate(host_gmatch(...)) end

local function call(replacement, first, last, ...)
  if not first then return first, last end
  return first, last, (replacement(...))
end

local function index(replacement, first, last, key)
  if not first then return first, last end
  return first, last, replacement[key]
end

-- Replaces by what a function returns or a table holds; `last` is one past the match.
local function replace(first, subject, pattern, replacement, limit, anchored)
  if first == false then error(subject, 2) end
  if first ~= true then return first, subject end
  local by_call = type(replacement) == "function"
  local value_of = by_call and call or index
  local pieces, count_pieces, bytes = {}, 0, 0
  local function add(piece)
    bytes = bytes + #piece
    count_pieces = count_pieces + 1
    pieces[count_pieces] = piece
    return bytes <= max_bytes
  end
  local from, count = 1, 0
  while count < limit do
    local first, last, value = value_of(replacement, host_next(subject, pattern, from, anchored, not by_call))
    if not first then
      if first == false then error(last, 2) end
      break
    end
    count = count + 1
    local kind = type(value)
    if not value then
      value = sub(subject, first, last - 1)
    elseif kind == "number" then
      value = value .. ""
    elseif kind ~= "string" then
      error("invalid replacement value (a " .. kind .. ")", 2)
    end
    local fits = add(sub(subject, from, first - 1)) and add(value)
    from = last
    if first == last then
      fits = fits and add(sub(subject, last, last))
      from = last + 1
    end
    if not fits then error("resulting string too large", 2) end
    if anchored or from > #subject + 1 then break end
  end
  if not add(sub(subject, from)) then error("resulting string too large", 2) end
  return concat(pieces), count
end

function string.gsub(...) return replace(host_gsub(...)) end
