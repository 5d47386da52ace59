-- `sfu.jwks`: sets of public keys by their URL, fetched again when they are old, and sooner when a key is missing. Gets
-- what it needs of the prelude and of the host.
local type, error, now, http = ...
local KEPT, PAUSE, STALE, MAX = 600, 10, 86400, 8
local sets, count = {}, 0
return function(url, again)
  if type(url) ~= "string" then error("bad argument 'url' to 'sfu.jwks' (string expected, got " .. type(url) .. ")", 2) end
  local known = sets[url]
  local age = known and now() - known.at
  if known and age < (again and PAUSE or KEPT) then return known.text end
  local reply, why = http(url)
  if not reply or reply.status ~= 200 then
    if known and age < STALE then return known.text end
    return nil, why or "the keys' server answers with status " .. reply.status
  end
  if not sets[url] then
    if count == MAX then sets, count = {}, 0 end
    count = count + 1
  end
  sets[url] = { text = reply.body, at = now() }
  return reply.body
end
