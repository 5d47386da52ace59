-- luacheck (Debian: lua-check) over policies: `luacheck scripts`. The sandbox has a part of LuaJIT's library only, and
-- hooks are the globals that a script defines.
std = "none"
max_line_length = 120
ignore = {
  "212", -- an argument that is not used: hooks get what the engine passes
}
read_globals = {
  "sfu", "string", "table", "math", "bit", "coroutine", "utf8", "require",
  os = { fields = { "time", "clock", "date" } },
  "assert", "error", "getmetatable", "ipairs", "next", "pairs", "pcall", "print", "rawequal", "rawget", "rawset", "select",
  "setmetatable", "tonumber", "tostring", "type", "unpack", "xpcall",
}
globals = {
  "STATE_VERSION", "EMPTY_TIMEOUT_S", "CHECKPOINT_SECONDS", "on_init", "on_client_connect", "on_client_disconnect", "on_publish_request", "on_track_published",
  "on_track_unpublished", "on_subscribe_request", "on_message", "on_active_speakers", "on_admin", "on_close", "on_unload", "on_load",
}
files["**/*_test.lua"] = { read_globals = { "test" } }
