---@meta
-- Moonring's policy API for editors that understand LuaLS annotations: completion, documentation and type checks while
-- you write a script. Nothing runs this file. docs/policy.md is the reference with defaults, errors and examples.
--
-- VS Code (extension "Lua" by sumneko), or any editor with lua-language-server: put this file anywhere in reach and
-- write a `.luarc.json` beside your scripts:
--
--   {
--     "runtime.version": "LuaJIT",
--     "workspace.library": ["/path/to/moonring/docs/moonring.lua"],
--     "runtime.builtin": { "io": "disable", "debug": "disable", "package": "disable", "ffi": "disable", "jit": "disable" },
--     "diagnostics.globals": ["STATE_VERSION", "EMPTY_TIMEOUT_S", "CHECKPOINT_SECONDS"]
--   }

-------------------------------------------------------------------------------------------------------------------------
-- Hooks: global functions that a script defines.

---Called once, after the main chunk. Must not wait.
function on_init() end

---May this client come in? Missing: nobody may.
---@param client Client
---@param auth_token string what the client showed; "" when nothing
---@return boolean allowed only `true` allows
---@return string? reason told to the client
function on_client_connect(client, auth_token) end

---A client that was let in has left.
---@param client Client its getters still answer
---@param reason string
function on_client_disconnect(client, reason) end

---May this client publish this track? Missing: nobody may.
---@param client Client
---@param track Track
---@return boolean allowed
---@return string? reason
function on_publish_request(client, track) end

---@param client Client
---@param track Track
function on_track_published(client, track) end

---@param client Client
---@param track Track
function on_track_unpublished(client, track) end

---May this client receive this track? Missing: everybody may.
---@param client Client
---@param track Track
---@return boolean allowed
---@return string? reason
function on_subscribe_request(client, track) end

---A client has sent something to the room.
---@param client Client
---@param message Json
function on_message(client, message) end

---The set of people who speak has changed.
---@param clients Client[] loudest first, at most 8; empty when nobody speaks
function on_active_speakers(clients) end

---A program of the operator's calls the room.
---@param request any JSON
---@return any answer plain data
function on_admin(request) end

---The room ends; the last hook.
---@param reason "empty"|"closed"|"shutdown"
function on_close(reason) end

---State for the next version of the script. Must not wait, and changes nothing: the reload may still fail.
---@return any state plain data: nil, booleans, numbers, strings, tables of them
function on_unload() end

---Takes over what the old version's `on_unload` returned. Must not wait.
---@param state any
---@param old_version any the old version's STATE_VERSION
function on_load(state, old_version) end

---Raise it when the form of what `on_unload` returns changes.
---@type integer|string|nil
STATE_VERSION = nil

---For how many seconds the room outlives its last client: 0 to 86400.
---@type number|nil
EMPTY_TIMEOUT_S = nil

---After how many seconds what `on_unload` returns is kept anew, for when the server is lost: 1 to 300.
---@type number|nil
CHECKPOINT_SECONDS = nil

-------------------------------------------------------------------------------------------------------------------------
-- Types

---@alias Json nil|boolean|number|string|table

---@class Track
---@field id string
---@field client_id string who publishes it
---@field kind "audio"|"video"
---@field source "camera"|"microphone"|"screen"|"screen_audio"|"other"
---@field quality "audio"|"sd"|"hd"|"fhd"
---@field simulcast integer number of layers
---@field codec "opus"|"VP8"|"VP9"|"H264"|"AV1"
---@field codecs string[]
---@field muted boolean

---@alias Source "camera"|"microphone"|"screen"|"screen_audio"|"other"

---@class Connection
---@field kind "websocket"|"whip"|"whep"
---@field ip string
---@field origin? string
---@field user_agent? string
---@field headers table<string, string> those of the setting script_headers, names in lower case

---@class Rights
---@field publish Source[] what the client may publish
---@field subscribe boolean whether it may receive
---@field message boolean whether it may send messages to on_message

---@class RightsChange
---@field publish? boolean|Source[]
---@field subscribe? boolean
---@field message? boolean

---@class Stats
---@field packets_in number
---@field bytes_in number what the client has published
---@field packets_out number
---@field bytes_out number what was forwarded to the client
---@field seconds number since it came
---@field path? PathFigures how the way to the client is; nil until something is forwarded to it

---@class PathFigures
---@field estimate? number bit/s that layers are chosen for; nil when nothing limits them
---@field target? number the most that is sent right now, in bit/s
---@field paused integer tracks that are paused for the client
---@field rtt? number milliseconds
---@field loss number the part of the packets that was lost lately, 0 to 1
---@field resends number packets sent again because the client asked for them

---@class HttpRequest
---@field url string
---@field method? "GET"|"HEAD"|"POST"|"PUT"|"PATCH"|"DELETE"|"OPTIONS"
---@field headers? table<string, string|integer>
---@field body? string
---@field timeout? number milliseconds, 1 to 30000; 5000 when left out

---@class HttpResponse
---@field status integer
---@field headers table<string, string> names in lower case
---@field body string

---@alias JwtAlgorithm "HS256"|"HS384"|"HS512"|"RS256"|"RS384"|"RS512"|"PS256"|"PS384"|"PS512"|"ES256"|"ES384"|"EdDSA"

---@class JwtOptions
---@field alg? JwtAlgorithm|JwtAlgorithm[]
---@field aud? string
---@field iss? string
---@field leeway? number seconds; 60 when left out
---@field require_exp? boolean true when left out

---@class JwtSignOptions
---@field alg? JwtAlgorithm
---@field kid? string
---@field typ? string "JWT" when left out

---@class Client
local Client = {}

---@return string
function Client:get_id() end

---@return string
function Client:get_ip() end

---What the client said of itself when it joined; an empty table when it said nothing.
---@return Json
function Client:get_metadata() end

---The request with which the client has come.
---@return Connection
function Client:connection() end

---Who the client is, the same after a reconnect if set_identity says so; else its id.
---@return string
function Client:identity() end

---In on_client_connect: who the client is.
---@param identity string 1 to 256 bytes
---@return boolean done
---@return string? why_not
function Client:set_identity(identity) end

---What the script has said of the client.
---@return table
function Client:attributes() end

---What the room says of the client, to everybody.
---@param attributes table<string, Json>
---@return boolean done
---@return string? why_not
function Client:set_attributes(attributes) end

---@return Rights
function Client:rights() end

---What is not named stays. What the client has no right to any more ends, with the reason.
---@param rights RightsChange
---@param reason? string
---@return boolean done
---@return string? why_not
function Client:set_rights(rights, reason) end

---@return boolean
function Client:is_hidden() end

---Others do not hear of a hidden client, and it may not publish. To hide one: in on_client_connect.
---@param hidden boolean
---@return boolean done
---@return string? why_not
function Client:set_hidden(hidden) end

---Ends a track that the client publishes.
---@param track Track|string
---@param reason? string
---@return boolean done
---@return string? why_not
function Client:unpublish(track, reason) end

---Ends what the client receives of a track.
---@param track Track|string
---@param reason? string
---@return boolean done
---@return string? why_not
function Client:unsubscribe(track, reason) end

---@param reason? string
---@return boolean done
---@return string? why_not
function Client:kick(reason) end

---@param value Json
---@return boolean done
---@return string? why_not
function Client:send(value) end

---The bit rate that the client may publish with all its tracks together; nil lifts the limit.
---@param bps? integer bit/s
---@return boolean done
---@return string? why_not
function Client:set_max_bitrate(bps) end

---The highest layer that the client receives of a track, 0 the lowest; nil lifts the limit.
---@param track Track|string
---@param n? integer
---@return boolean done
---@return string? why_not
function Client:set_max_layer(track, n) end

---Which of the tracks that the client receives come first where its path does not carry all of them; 1 is the default.
---@param track Track|string
---@param n? integer 0 to 255, higher ones first
---@return boolean done
---@return string? why_not
function Client:set_priority(track, n) end

---Mutes a track that the client publishes.
---@param track Track|string
---@return boolean done
---@return string? why_not
function Client:mute(track) end

---@param track Track|string
---@return boolean done
---@return string? why_not
function Client:unmute(track) end

---@return Stats
function Client:stats() end

---What the client publishes.
---@return Track[]
function Client:tracks() end

-------------------------------------------------------------------------------------------------------------------------
-- sfu

---@class utf8lib
---@field charpattern string
---@field char fun(...: integer): string
---@field codepoint fun(s: string, i?: integer, j?: integer): integer ...
---@field codes fun(s: string): (fun(s: string, at: integer): integer?, integer?), string, integer
---@field len fun(s: string, i?: integer, j?: integer): integer?, integer?
---@field offset fun(s: string, n: integer, i?: integer): integer?
utf8 = {}

---@class sfu
---@field room_id string
---@field config table what the server's configuration passes to scripts
sfu = {}

---@param message any
function sfu.log_debug(message) end

---@param message any
function sfu.log_info(message) end

---@param message any
function sfu.log_warn(message) end

---@param message any
function sfu.log_error(message) end

---@class sfu.room
---@field id string the same as sfu.room_id
---@field metadata table what the operator's program has said of the room when it opened it
---@field opened number seconds since 1970
sfu.room = {}

---Whom the others in the room hear of.
---@param who "all"|"publishers"|"none"
function sfu.announce(who) end

---Everybody in the room, in the order of joining.
---@return Client[]
function sfu.clients() end

---@param id string
---@return Client?
function sfu.client(id) end

---@param value Json
---@param except? Client
function sfu.broadcast(value, except) end

---Lets only the loudest `n` of the room be heard at once; nil lets everybody.
---@param n? integer
function sfu.set_audio_last_n(n) end

---Tells the operator's webhook, once the hook has ended.
---@param event string letters, digits, '_', '.', '-'
---@param data Json
function sfu.webhook(event, data) end

---Ends the room: everybody is disconnected.
---@param reason? string
function sfu.close(reason) end

---What the hook has asked for so far takes effect now, and stays when the hook fails later.
function sfu.flush() end

---@return number seconds since 1970
function sfu.now() end

---A timer with a name goes on across a reload when the new version sets one of the same name.
---@param ms number
---@param fn fun()
---@return integer handle
---@overload fun(name: string, ms: number, fn: fun()): integer
function sfu.set_timeout(ms, fn) end

---@param ms number at least 10
---@param fn fun()
---@return integer handle
---@overload fun(name: string, ms: number, fn: fun()): integer
function sfu.set_interval(ms, fn) end

---@param handle integer|string a handle, or a name
function sfu.clear(handle) end

---Waits.
---@param ms number
function sfu.sleep(ms) end

---Waits for the response.
---@param request HttpRequest|string
---@return HttpResponse? response
---@return string? why_not
function sfu.http(request) end

---@param name string letters, digits and "_"
---@param n? number 1 when left out; not negative
function sfu.count(name, n) end

---@param data string
---@return string hex
function sfu.sha256(data) end

---@param key string
---@param data string
---@return string hex
function sfu.hmac_sha256(key, data) end

---@param token string
---@param key string a secret (HS256), a public key in PEM, or a set of keys as sfu.jwks returns it
---@param options? JwtOptions
---@return table? claims
---@return string? why_not
function sfu.jwt_verify(token, key, options) end

---Waits. A set of public keys for sfu.jwt_verify, kept for ten minutes.
---@param url string
---@param again? boolean a key is missing: fetch it again when it is older than ten seconds
---@return string? keys
---@return string? why_not
function sfu.jwks(url, again) end

---@param claims table
---@param key string a secret, or a private key in PEM
---@param options? JwtSignOptions
---@return string token
function sfu.jwt_sign(claims, key, options) end

---A random UUID.
---@return string
function sfu.uuid() end

---Random bytes that are safe for secrets.
---@param n integer at most 4096
---@return string
function sfu.random_bytes(n) end

---Compares in constant time.
---@param a string
---@param b string
---@return boolean
function sfu.equal(a, b) end

---@param text string
---@return string
function sfu.url_encode(text) end

---@class sfu.json
---@field null any stands for JSON's null
---@field empty_array any becomes []; an empty table becomes {}
sfu.json = {}

---@param value Json
---@return string
function sfu.json.encode(value) end

---@param text string
---@return Json
---@return string? why_not
function sfu.json.decode(text) end

---@class sfu.base64
sfu.base64 = {}

---@param data string
---@param url? boolean the alphabet of URLs, without padding
---@return string
function sfu.base64.encode(data, url) end

---@param text string
---@return string? data nil when the text is not base64
function sfu.base64.decode(text) end

---@class sfu.shared
sfu.shared = {}

---Waits. An error when the store does not answer.
---@param key string
---@return string|number|boolean|nil value
function sfu.shared.get(key) end

---Waits. An error when the store, or the room's share of it, is full.
---@param key string
---@param value string|number|boolean
---@param ttl? number seconds
function sfu.shared.set(key, value, ttl) end

---Waits.
---@param key string
function sfu.shared.delete(key) end

---Waits. An error when the entry holds no number, or when the store, or the room's share of it, is full.
---@param key string
---@param by? number 1 when left out
---@param ttl? number seconds, when this creates the entry
---@return number sum
function sfu.shared.incr(key, by, ttl) end

---Waits. In one step: sets or deletes the entry if it is as expected.
---@param key string
---@param expected string|number|boolean|nil nil: there is no entry
---@param value string|number|boolean|nil nil: there is to be no entry
---@return boolean done
function sfu.shared.compare_and_set(key, expected, value) end

---@class sfu.store
sfu.store = {}

---Waits. Of this room and script; what is answered is on the disk. An error when the store is full or fails.
---@param key string
---@return string|number|boolean|nil value
function sfu.store.get(key) end

---Waits. Of this room and script; what is answered is on the disk. An error when the store is full or fails.
---@param key string
---@param value string|number|boolean
---@param ttl? number seconds
function sfu.store.set(key, value, ttl) end

---Waits. Of this room and script; what is answered is on the disk. An error when the store is full or fails.
---@param key string
function sfu.store.delete(key) end

---Waits. Of this room and script; what is answered is on the disk. An error when the store is full or fails.
---@param key string
---@param by? number 1 when left out
---@param ttl? number seconds, when this creates the entry
---@return number sum
function sfu.store.incr(key, by, ttl) end

---Waits. Of this room and script; what is answered is on the disk. An error when the store is full or fails.
---@param key string
---@param expected string|number|boolean|nil nil: there is no entry
---@param value string|number|boolean|nil nil: there is to be no entry
---@return boolean done
function sfu.store.compare_and_set(key, expected, value) end

---@class sfu.store.global
sfu.store.global = {}

---Waits. Of all rooms; what is answered is on the disk. An error when the store is full or fails.
---@param key string
---@return string|number|boolean|nil value
function sfu.store.global.get(key) end

---Waits. Of all rooms; what is answered is on the disk. An error when the store is full or fails.
---@param key string
---@param value string|number|boolean
---@param ttl? number seconds
function sfu.store.global.set(key, value, ttl) end

---Waits. Of all rooms; what is answered is on the disk. An error when the store is full or fails.
---@param key string
function sfu.store.global.delete(key) end

---Waits. Of all rooms; what is answered is on the disk. An error when the store is full or fails.
---@param key string
---@param by? number 1 when left out
---@param ttl? number seconds, when this creates the entry
---@return number sum
function sfu.store.global.incr(key, by, ttl) end

---Waits. Of all rooms; what is answered is on the disk. An error when the store is full or fails.
---@param key string
---@param expected string|number|boolean|nil nil: there is no entry
---@param value string|number|boolean|nil nil: there is to be no entry
---@return boolean done
function sfu.store.global.compare_and_set(key, expected, value) end

-------------------------------------------------------------------------------------------------------------------------
-- test: what `moonring test` gives to *_test.lua files, in the place of sfu.

---@class test
---@field start number the time of day at which every room begins
---@field json sfu.json
---@field null any
test = {}

---A test.
---@param name string
---@param fn fun()
function test.it(name, fn) end

---@param got any
---@param expected any tables are compared by content
---@param what? string
function test.eq(got, expected, what) end

---@param value any
---@param what? string
function test.ok(value, what) end

---@param text string
---@param pattern string
---@param what? string
function test.match(text, pattern, what) end

---A token signed with HS256.
---@param claims table
---@param secret string
---@return string
function test.jwt(claims, secret) end

---A new room.
---@param script string|{name?: string, source: string} a file beside the test, or the text itself
---@param config? table what the script finds as sfu.config
---@param options? {id?: string, metadata?: table}
---@return TestRoom
function test.room(script, config, options) end

---@class TestRoom
---@field broadcasts {value: Json, except: string?}[]
---@field sends {value: Json, to: string}[] of client:send
---@field log {level: "debug"|"info"|"warn"|"error", text: string, hook: string}[]
---@field requests HttpRequest[]
---@field closed string? the reason of sfu.close
---@field webhooks {event: string, data: Json}[]
---@field over "empty"|"closed"|"shutdown"|nil what on_close was told, from the end of the room to the next client
---@field audio_last_n integer? of the last sfu.set_audio_last_n
---@field announced "all"|"publishers"|"none" of the last sfu.announce
---@field handler function? what was given to room:http last
local TestRoom = {}

---`allowed` is nil while the hook waits.
---@param options? {id?: string, token?: string, ip?: string, metadata?: Json, kind?: string, origin?: string, user_agent?: string, headers?: table<string, string>}
---@return TestClient client
---@return boolean? allowed
---@return string? reason
function TestRoom:connect(options) end

---Lets time pass.
---@param ms number
function TestRoom:advance(ms) end

---@return number seconds since 1970
function TestRoom:now() end

---Answers sfu.http from now on, after `delay` milliseconds of the room's time; nil and a message are a failure. An answer
---that takes longer than the request's timeout comes as nil and "timed out".
---@param handler fun(request: HttpRequest): {status?: integer, headers?: table<string, string>, body?: string, delay?: number}?, string?
---@param options? {delay?: number}
function TestRoom:http(handler, options) end

---@param script string|{name?: string, source: string}
---@param options? {drop_state?: boolean}
---@return boolean? ok nil while it waits for hooks that wait
---@return string? why_not
function TestRoom:reload(script, options) end

---The room's server is lost, and its clients with it: the next one to connect finds the room as of its last checkpoint.
function TestRoom:lose_server() end

---@param clients TestClient[]
function TestRoom:speakers(clients) end

---An operator's program calls on_admin.
---@param request any
---@return any answer
---@return string? why_not
function TestRoom:call(request) end

---What an operator does past the script, in the words of a recording: { kick = id, reason = "…" } and so on.
---@param action table
function TestRoom:operator(action) end

---Hooks that have failed since the last call. A failure that is not asked for fails the test.
---@return {text: string, hook: string}[]
function TestRoom:failures() end

---@param name string
---@return number
function TestRoom:counter(name) end

---@class TestClient
---@field id string
---@field joined boolean
---@field allowed boolean?
---@field reason string?
---@field sent Json[] broadcasts too
---@field kicked string?
---@field max_bitrate integer?
---@field max_layers table<string, integer>
---@field priorities table<string, integer>
---@field muted table<string, true>
---@field attributes table as the script has set them
---@field rights Rights as the script has set them
---@field hidden boolean
---@field ended table<string, string> by track: why the script has ended the track, or what the client received of it
local TestClient = {}

---@param track {kind: "audio"|"video", source?: string, quality?: string, simulcast?: integer, codec?: string, id?: string, muted?: boolean}
---@return {id: string} track
---@return boolean? allowed
---@return string? reason
function TestClient:publish(track) end

---@param track {id: string}|string
function TestClient:unpublish(track) end

---@param track {id: string}|string
---@return boolean? allowed
---@return string? reason
function TestClient:subscribe(track) end

---@param value Json
---@return boolean? taken false when the script has no on_message, or failed, or the message was refused
---@return string? why_not why it was refused
function TestClient:message(value) end

---@param reason? string
function TestClient:disconnect(reason) end

---@param counts {bytes_in?: integer, bytes_out?: integer, packets_in?: integer, packets_out?: integer, path?: PathFigures}
function TestClient:traffic(counts) end

---The last thing that the client was sent.
---@return Json
function TestClient:last() end
