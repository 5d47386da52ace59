//! The functions that scripts call. Each is a plain function of the host; `prelude.lua` gives it its Lua name and turns
//! a refusal into a Lua error at the script's line. None of them calls back into Lua: beneath such a call nothing
//! could be stopped.

pub(crate) mod args;
pub(crate) mod client;
mod clock;
mod crypto;
mod json;
pub(crate) mod jwt;
mod jwt_key;
mod jwt_set;
pub(crate) mod log;
mod modules;
mod parts;
mod random;
pub(crate) mod rights;
pub(crate) mod sfu;
mod stores;
mod timer;
mod utf8;
pub(crate) mod wait;

use std::collections::HashMap;
use std::ffi::c_void;
use std::rc::Rc;
use std::sync::OnceLock;

use mlua::{Function, IntoLuaMulti, LightUserData, Lua, MultiValue, Table, Value};

use self::args::{Args, MAX_ARGS};
use super::host::Host;
use super::script::message_of;

static FAIL_MARK: u8 = 0;

/// The first value of a refusal; a script can neither make nor see it.
pub(crate) fn fail_mark() -> LightUserData {
    LightUserData((&raw const FAIL_MARK).cast_mut().cast::<c_void>())
}

/// The result of a host function: values, or an error message for the author of the script.
pub(crate) type HostResult<R> = Result<R, String>;

/// An mlua error (memory, in practice) as a refusal.
pub(crate) fn refused(error: mlua::Error) -> String {
    message_of(&error)
}

/// A host function: its arguments, nil where they were left out, to its values.
type HostFunction = Box<dyn Fn(&Lua, &Host, [Value; MAX_ARGS]) -> mlua::Result<MultiValue> + Send + Sync>;

/// How the prelude makes a script's value of a host function: its makers have these numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Not at all: the prelude uses the function for something of its own.
    Internal,
    /// A function of values.
    Plain,
    /// What the function returns.
    Value,
    /// A function whose answer the hook waits for.
    Waits,
    /// A function of one text, whatever the script gives.
    Text,
    /// A function of values that returns a client.
    Client,
    /// A function that returns a list of clients.
    Clients,
    /// A function of a value and a client.
    Except,
    /// A method of clients.
    Method,
    /// A function of any number of values, whose results are joined.
    Joined,
    /// A function that returns an iterator over a text, of which the host function is a step.
    Steps,
    /// A table of further functions.
    Table,
    /// What a part of the prelude returns, which the host function loads.
    Part,
}

/// A host function.
struct Entry {
    /// What scripts call it, `sfu.json.encode` or `client:kick`; a name of the prelude's own when it is internal.
    path: &'static str,
    kind: Kind,
    function: HostFunction,
}

/// The host functions, the same ones for all states of the process. A state has one function that calls them by their
/// numbers, and the script's functions are made when they are first asked for: all of them would be a sixth of the
/// memory of an idle room.
#[derive(Default)]
pub(crate) struct Functions {
    entries: Vec<Entry>,
    /// By their paths: number and kind. Tables are here, too.
    found: HashMap<&'static str, (usize, Kind)>,
}

impl Functions {
    /// Adds `function` under the path that scripts know it by.
    fn add<A, R, F>(&mut self, path: &'static str, function: F)
    where
        A: Args,
        R: IntoLuaMulti,
        F: Fn(&Lua, &Host, A) -> HostResult<R> + Send + Sync + 'static,
    {
        self.add_as(if path.starts_with(METHODS) { Kind::Method } else { Kind::Plain }, path, function);
    }

    /// The same, of which the prelude makes something else than a function of values, or a method.
    fn add_as<A, R, F>(&mut self, kind: Kind, path: &'static str, function: F)
    where
        A: Args,
        R: IntoLuaMulti,
        F: Fn(&Lua, &Host, A) -> HostResult<R> + Send + Sync + 'static,
    {
        let number = self.entries.len();
        self.found.insert(path, (number, kind));
        for (end, _) in path.match_indices('.') {
            self.found.entry(&path[..end]).or_insert((0, Kind::Table));
        }
        let function: HostFunction = Box::new(move |lua, host, args| {
            let first = if let Value::Table(table) = &args[0] { table.to_pointer().addr() } else { 0 };
            match function(lua, host, A::of(args)) {
                Ok(values) => values.into_lua_multi(lua),
                Err(message) if first != 0 && is_its_table(lua, path, first) => {
                    let message = format!("{message}; it is called with '.', as in {path}(...)");
                    (fail_mark(), message).into_lua_multi(lua)
                }
                Err(message) => (fail_mark(), message).into_lua_multi(lua),
            }
        });
        self.entries.push(Entry { path, kind, function });
    }

    fn all() -> &'static Self {
        static ALL: OnceLock<Functions> = OnceLock::new();
        ALL.get_or_init(|| {
            let mut functions = Self::default();
            log::register(&mut functions);
            clock::register(&mut functions);
            sfu::register(&mut functions);
            client::register(&mut functions);
            rights::register(&mut functions);
            timer::register(&mut functions);
            wait::register(&mut functions);
            stores::register(&mut functions);
            json::register(&mut functions);
            crypto::register(&mut functions);
            jwt::register(&mut functions);
            random::register(&mut functions);
            utf8::register(&mut functions);
            modules::register(&mut functions);
            parts::register(&mut functions);
            // The number and the kind of what stands under a name, for the prelude.
            functions.add_as(Kind::Internal, "find", |_, _, (prefix, name): (Value, Value)| {
                let (Value::String(prefix), Value::String(name)) = (prefix, name) else { return Ok(None) };
                // A name is one step of a path.
                if name.as_bytes().iter().any(|byte| b".:".contains(byte)) {
                    return Ok(None);
                }
                let path = [&*prefix.as_bytes(), &*name.as_bytes()].concat();
                let found = std::str::from_utf8(&path).ok().and_then(|path| Self::all().found.get(path));
                Ok(found
                    .filter(|(_, kind)| *kind != Kind::Internal)
                    .copied()
                    .map(|(number, kind)| vec![number, kind as usize]))
            });
            functions
        })
    }

    /// What scripts can reach: functions, values and tables by their paths.
    pub(crate) fn paths() -> impl Iterator<Item = &'static str> {
        Self::all().found.iter().filter(|(_, (_, kind))| *kind != Kind::Internal).map(|(path, _)| *path)
    }
}

/// Whether the table at this address is the one that holds the function of this path: as it is the first argument of a
/// function that was called with ':'.
fn is_its_table(lua: &Lua, path: &str, address: usize) -> bool {
    let Some((tables, _)) = path.rsplit_once('.') else { return false };
    let within = |table: mlua::Result<Table>, name: &str| table.and_then(|table| table.raw_get::<Table>(name));
    tables.split('.').fold(Ok(lua.globals()), within).is_ok_and(|table| table.to_pointer().addr() == address)
}

/// The paths of methods of clients begin with this.
pub(crate) const METHODS: &str = "client:";

/// What the prelude builds the script's world from: the function that calls the host functions, and a table with the
/// numbers of those that it uses itself and the message handler by name.
pub(crate) fn functions(lua: &Lua, host: &Rc<Host>) -> mlua::Result<(Function, Table)> {
    let all = Functions::all();
    let table = lua.create_table()?;
    for (number, entry) in all.entries.iter().enumerate() {
        if entry.kind == Kind::Internal || entry.path == GET_ID {
            table.raw_set(entry.path, number)?;
        }
    }
    table.raw_set("traceback", lua.create_function(log::traceback)?)?;
    let host = host.clone();
    let call = lua.create_function(move |lua, (number, a, b, c): (usize, Value, Value, Value)| {
        match all.entries.get(number) {
            Some(entry) => (entry.function)(lua, &host, [a, b, c]),
            None => Err(mlua::Error::runtime("there is no such host function")),
        }
    })?;
    Ok((call, table))
}

/// What the text of a client's object is made of.
const GET_ID: &str = "client:get_id";

/// `sfu.config`: a table of the state's own.
pub(crate) fn config_table(lua: &Lua, config: &serde_json::Map<String, serde_json::Value>) -> mlua::Result<Value> {
    let config = serde_json::Value::Object(config.clone());
    json::from_json(lua, &config).map_err(mlua::Error::runtime)
}

/// JSON as a value of the script.
pub(crate) fn value_from_json(lua: &Lua, json: &serde_json::Value) -> mlua::Result<Value> {
    json::from_json(lua, json).map_err(mlua::Error::runtime)
}
