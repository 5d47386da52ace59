//! What the harness calls: each function does one thing to a room of the test. None of them calls back into Lua.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, Mac};
use mlua::{FromLuaMulti, IntoLuaMulti, Lua, MultiValue, Table, Value};
use serde_json::{Value as Json, json};
use sha2::Sha256;

use super::given::{BridgeResult, check_options, connection_of, figures, http_reply, operation_of, track_of, unknown};
use super::log::Collector;
use super::store::Store;
use super::world::{Opening, START, World};
use super::{Case, Failing, HARNESS, Load, milliseconds};
use crate::api::{refused, value_from_json};
use crate::budget::should_stop;
use crate::plain::{Limits, to_json};
use crate::script::message_of;
use crate::tools::file_kind::{FileKind, kind_of};
use crate::{Script, module_file};
use moonring_wire::id::RoomId;

/// What a test may pass to a script.
const LIMITS: Limits = Limits { bytes: 16 << 20, depth: 64, values: 1 << 20 };
/// Lines that a test may print; further ones are left out.
const MAX_PRINTED: usize = 1_000;
/// How many of the harness's frames may lie above a test's line.
const MAX_LEVEL: usize = 32;

/// The rooms and results of one test file.
#[derive(Clone)]
pub(super) struct Bridge(Rc<Session>);

struct Session {
    load: Load,
    now: Instant,
    log: Collector,
    store: Rc<RefCell<Store>>,
    rooms: RefCell<Vec<World>>,
    cases: RefCell<Vec<Case>>,
    printed: RefCell<Vec<String>>,
}

impl Bridge {
    pub(super) fn new(load: Load, now: Instant, log: Collector) -> Self {
        let (store, rooms, cases, printed) = Default::default();
        Self(Rc::new(Session { load, now, log, store, rooms, cases, printed }))
    }

    pub(super) fn take_cases(&self) -> Vec<Case> {
        self.0.cases.take()
    }

    /// What was printed since the last test.
    pub(super) fn take_printed(&self) -> Vec<String> {
        self.0.printed.take()
    }

    /// The functions, in a table for the harness.
    pub(super) fn functions(&self, lua: &Lua) -> mlua::Result<Table> {
        let table = lua.create_table()?;
        table.raw_set("START", START.as_secs())?;
        self.general(lua, &table)?;
        self.of_rooms(lua, &table)?;
        self.of_clients(lua, &table)?;
        Ok(table)
    }

    fn general(&self, lua: &Lua, table: &Table) -> mlua::Result<()> {
        self.add(lua, table, "begin", |session, _, ()| {
            session.store.replace(Store::default());
            session.log.take();
            Ok(())
        })?;
        self.add(lua, table, "result", |session, _, (name, ok, at, message, got, expected, log): Result7| {
            let values = got.zip(expected);
            let failure = (!ok).then_some(Failing { at, message, values, log });
            session.cases.borrow_mut().push(Case { name, printed: session.printed.take(), failure });
            Ok(())
        })?;
        self.add(lua, table, "print", |session, _, text: String| {
            let mut printed = session.printed.borrow_mut();
            if printed.len() < MAX_PRINTED {
                printed.push(text);
            }
            Ok(())
        })?;
        self.add(lua, table, "error_text", |_, _, error: Value| {
            Ok(match &error {
                Value::Error(error) => message_of(error),
                other => other.to_string().unwrap_or_else(|_| "error without a message".into()),
            })
        })?;
        self.add(lua, table, "place", |_, lua, ()| Ok(place(lua)))?;
        self.add(lua, table, "options", |_, _, (of, options, shown): (String, Value, String)| {
            check_options(&of, &options, &shown)
        })?;
        self.add(lua, table, "unknown", |_, _, (what, name, known): (String, String, Vec<String>)| {
            Ok(unknown(&what, &name, &known.iter().map(String::as_str).collect::<Vec<_>>()))
        })?;
        self.add(lua, table, "jwt", |_, _, (claims, key): (Value, mlua::LuaString)| {
            jwt(&json_of("claims", &claims)?, &key.as_bytes())
        })
    }

    fn of_rooms(&self, lua: &Lua, table: &Table) -> mlua::Result<()> {
        self.add(lua, table, "open", |session, _, (name, source, config, id, metadata): Open| {
            let script = session.script(&name, &source)?;
            let room = RoomId::parse(&id).map_err(|error| format!("the room id {error}"))?;
            let config = match json_of("config", &config)? {
                Json::Object(config) => config,
                Json::Null => serde_json::Map::new(),
                _ => return Err("the config of a room is a table with names".into()),
            };
            let metadata = match json_of("metadata", &metadata)? {
                object @ Json::Object(_) => object,
                Json::Null => json!({}),
                _ => return Err("the metadata of a room is a table with names".into()),
            };
            session.log.take();
            let opening = Opening { room, script, config, metadata };
            let opened = World::open(session.now, opening, session.store.clone(), session.log.clone());
            let mut rooms = session.rooms.borrow_mut();
            rooms.push(opened?);
            Ok(rooms.len())
        })?;
        self.add(lua, table, "reload", |session, _, (room, name, source, drops): (usize, String, Value, bool)| {
            match session.script(&name, &source) {
                Ok(script) => session.with(room, |world| world.reload(script, drops)).map(|()| None),
                Err(message) => Ok(Some(message)),
            }
        })?;
        self.add(lua, table, "lose_server", |session, _, room: usize| session.with(room, |world| world.lose_server()))?;
        self.add(lua, table, "drain", |session, lua, room: usize| {
            let happened = session.with(room, |world| world.drain())?;
            value_from_json(lua, &Json::Array(happened)).map_err(refused)
        })?;
        self.add(lua, table, "pass", |session, _, (room, ms): (usize, f64)| {
            session.with(room, |world| world.pass(milliseconds(ms)))
        })?;
        self.add(lua, table, "step", |session, _, room: usize| session.with(room, |world| world.step()))?;
        self.add(lua, table, "now", |session, _, room: usize| session.with(room, |world| world.unix()))?;
        self.add(lua, table, "counter", |session, _, (room, name): (usize, String)| {
            session.with(room, |world| world.counter(&name))
        })?;
        self.add(lua, table, "speakers", |session, _, (room, ids): (usize, Vec<String>)| {
            session.try_with(room, |world| world.speakers(&ids))
        })?;
        self.add(lua, table, "call", |session, _, (room, request): (usize, Value)| {
            let request = json_of("request", &request)?;
            session.with(room, |world| world.call(request).0)
        })?;
        self.add(lua, table, "operator", |session, _, (room, action): (usize, Value)| {
            let action = operation_of(json_of("action", &action)?)?;
            session.try_with(room, |world| world.operator(action))
        })?;
        self.add(lua, table, "reply", |session, _, (room, id, reply, error, delay): Reply| {
            let reply = match reply {
                Some(reply) => Ok(http_reply(&reply).map_err(refused)?),
                None => Err(error),
            };
            session.with(room, |world| world.reply(id, reply, milliseconds(delay)))
        })
    }

    fn of_clients(&self, lua: &Lua, table: &Table) -> mlua::Result<()> {
        self.add(lua, table, "connect", |session, _, (room, id, connection, token, metadata): Connect| {
            let (metadata, connection) =
                (json_of("metadata", &metadata)?, connection_of(&json_of("connection", &connection)?)?);
            session.try_with(room, |world| Ok(world.connect(&id, connection, token, metadata)?.0))
        })?;
        self.add(lua, table, "disconnect", |session, _, (room, id, reason): (usize, String, String)| {
            session.try_with(room, |world| world.disconnect(&id, reason))
        })?;
        self.add(lua, table, "publish", |session, _, (room, client, track): (usize, String, Value)| {
            let track = track_of(&client, &json_of("track", &track)?)?;
            session.try_with(room, |world| Ok(world.publish(&client, track)?.0))
        })?;
        self.add(lua, table, "unpublish", |session, _, (room, client, track): (usize, String, String)| {
            session.try_with(room, |world| world.unpublish(&client, &track))
        })?;
        self.add(lua, table, "subscribe", |session, _, (room, client, track): (usize, String, String)| {
            session.try_with(room, |world| Ok(world.subscribe(&client, &track)?.0))
        })?;
        self.add(lua, table, "message", |session, _, (room, client, message): (usize, String, Value)| {
            let message = json_of("message", &message)?;
            session.try_with(room, |world| Ok(world.message(&client, message)?.0))
        })?;
        self.add(lua, table, "traffic", |session, _, (room, client, counts): (usize, String, Table)| {
            let mut values = [None; 4];
            for (value, name) in values.iter_mut().zip(["packets_in", "bytes_in", "packets_out", "bytes_out"]) {
                *value = counts.raw_get(name).map_err(refused)?;
            }
            let path =
                counts.raw_get::<Option<Table>>("path").and_then(|table| table.as_ref().map(figures).transpose());
            let path = path.map_err(refused)?;
            session.try_with(room, |world| world.traffic(&client, values, path))
        })
    }

    /// Adds a function that answers `true` and values, or `false` and message.
    fn add<A, R, F>(&self, lua: &Lua, table: &Table, name: &str, function: F) -> mlua::Result<()>
    where
        A: FromLuaMulti,
        R: IntoLuaMulti,
        F: Fn(&Session, &Lua, A) -> BridgeResult<R> + 'static,
    {
        let session = self.0.clone();
        let function = lua.create_function(move |lua, args: MultiValue| -> mlua::Result<MultiValue> {
            let answer = A::from_lua_multi(args, lua).map_err(refused).and_then(|args| function(&session, lua, args));
            match answer {
                Ok(values) => {
                    let mut values = values.into_lua_multi(lua)?;
                    values.push_front(Value::Boolean(true));
                    Ok(values)
                }
                Err(message) => (false, message).into_lua_multi(lua),
            }
        })?;
        table.raw_set(name, function)
    }
}

type Result7 = (String, bool, String, String, Option<String>, Option<String>, Vec<String>);
type Reply = (usize, u64, Option<Table>, String, f64);
type Connect = (usize, String, Value, String, Value);
type Open = (String, Value, Value, String, Value);

impl Session {
    fn with<R>(&self, room: usize, act: impl FnOnce(&mut World) -> R) -> BridgeResult<R> {
        self.try_with(room, |world| Ok(act(world)))
    }

    fn try_with<R>(&self, room: usize, act: impl FnOnce(&mut World) -> BridgeResult<R>) -> BridgeResult<R> {
        let mut rooms = self.rooms.borrow_mut();
        act(rooms.get_mut(room.wrapping_sub(1)).ok_or("there is no such room")?)
    }

    /// A script of that name: with this text, or from its file.
    fn script(&self, name: &str, source: &Value) -> BridgeResult<Arc<Script>> {
        let source = match source {
            Value::String(text) => text.as_bytes().to_vec(),
            _ => (self.load)(name)?,
        };
        let load = |module: &str| (self.load)(&module_file(module));
        let script = Script::compile_with(name, &source, &load).map_err(|error| error.to_string())?;
        match kind_of(script.bytecode()) {
            FileKind::Test => Err(format!("{name} is a test, not a policy: name the script that is to be tested")),
            _ => Ok(Arc::new(script)),
        }
    }
}

fn json_of(what: &str, value: &Value) -> BridgeResult<Json> {
    to_json(value, LIMITS, &mut should_stop).map_err(|error| format!("{what}: {error}"))
}

/// A token signed with HS256 (RFC 7515 section 3.1).
pub(in crate::tools) fn jwt(claims: &Json, key: &[u8]) -> BridgeResult<String> {
    let part = |json: &Json| URL_SAFE_NO_PAD.encode(json.to_string());
    let signed = format!("{}.{}", part(&json!({ "alg": "HS256", "typ": "JWT" })), part(claims));
    let mut mac = Hmac::<Sha256>::new_from_slice(key).map_err(|error| error.to_string())?;
    mac.update(signed.as_bytes());
    Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes())))
}

/// `file:line` of the test that called.
fn place(lua: &Lua) -> String {
    let frame = |level| {
        let place = lua.inspect_stack(level, |frame| {
            let source = frame.source();
            let name = source.source.as_deref().map(|name| name.trim_start_matches(['@', '=']).to_owned())?;
            let ours = name == HARNESS || name == "[C]" || name.ends_with("sfu.lua");
            if ours { None } else { frame.current_line().map(|line| format!("{name}:{line}")) }
        });
        place.flatten()
    };
    (1..MAX_LEVEL).find_map(frame).unwrap_or_default()
}
