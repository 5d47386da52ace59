-- `sfu.jwks`: sets of public keys by their URL, fetched again when they are old, and sooner when a key is missing. Gets
-- what it needs of the prelude and of the host; `call(NO_SET, text)` says why a text is no set of keys. Any other text is
-- never handed on: it would be taken for a secret that whoever reads the same page knows.
-- `fetch` is one request for all hooks that wait for the same URL.
local type, error, now, fetch, call, NO_SET = ...
local KEPT, PAUSE, STALE, MAX = 600, 10, 86400, 8
local sets, count = {}, 0
return function(url, again)
  if type(url) ~= "string" then error("bad argument 'url' to 'sfu.jwks' (string expected, got " .. type(url) .. ")", 2) end
  local known = sets[url]
  local age = known and now() - known.at
  if known and age < (again and PAUSE or KEPT) then return known.text end
  local reply, why = fetch(url)
  -- Another hook has waited for the same, and has looked at it.
  local news = sets[url]
  if reply and news and news ~= known and news.text == reply.body then return news.text end
  if reply then
    why = reply.status ~= 200 and "the keys' server answers with status " .. reply.status or call(NO_SET, reply.body)
  end
  if why then
    if known and age < STALE then return known.text end
    return nil, why
  end
  if not sets[url] then
    if count == MAX then sets, count = {}, 0 end
    count = count + 1
  end
  sets[url] = { text = reply.body, at = now() }
  return reply.body
end
