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
mod random;
mod sfu;
mod stores;
mod timer;
mod utf8;
pub(crate) mod wait;

use std::ffi::c_void;
use std::rc::Rc;
use std::sync::OnceLock;

use mlua::{Function, IntoLuaMulti, LightUserData, Lua, MultiValue, Table, Value};

use self::args::{Args, MAX_ARGS};
use super::host::Host;
use super::plain;
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

/// The host functions, the same ones for all states of the process: a state has one function that calls them by their
/// numbers, which is a tenth of the memory of an idle room less than a function for each.
#[derive(Default)]
pub(crate) struct Functions {
    names: Vec<&'static str>,
    functions: Vec<HostFunction>,
}

impl Functions {
    /// Adds `function` under the name that the prelude knows it by.
    fn add<A, R, F>(&mut self, name: &'static str, function: F)
    where
        A: Args,
        R: IntoLuaMulti,
        F: Fn(&Lua, &Host, A) -> HostResult<R> + Send + Sync + 'static,
    {
        self.names.push(name);
        self.functions.push(Box::new(move |lua, host, args| match function(lua, host, A::of(args)) {
            Ok(values) => values.into_lua_multi(lua),
            Err(message) => (fail_mark(), message).into_lua_multi(lua),
        }));
    }

    fn all() -> &'static Self {
        static ALL: OnceLock<Functions> = OnceLock::new();
        ALL.get_or_init(|| {
            let mut functions = Self::default();
            log::register(&mut functions);
            clock::register(&mut functions);
            sfu::register(&mut functions);
            client::register(&mut functions);
            timer::register(&mut functions);
            wait::register(&mut functions);
            stores::register(&mut functions);
            json::register(&mut functions);
            crypto::register(&mut functions);
            jwt::register(&mut functions);
            random::register(&mut functions);
            utf8::register(&mut functions);
            modules::register(&mut functions);
            functions
        })
    }
}

/// What the prelude builds the script's world from: the function that calls the host functions, and a table with their
/// numbers, the message handler and constants by name.
pub(crate) fn functions(lua: &Lua, host: &Rc<Host>) -> mlua::Result<(Function, Table)> {
    let Functions { names, functions } = Functions::all();
    let table = lua.create_table_with_capacity(0, names.len() + 4)?;
    for (number, name) in names.iter().enumerate() {
        table.raw_set(*name, number)?;
    }
    table.raw_set("room_id", host.room.id.as_str())?;
    table.raw_set("json_null", plain::NULL)?;
    table.raw_set("json_empty_array", plain::EMPTY_ARRAY)?;
    table.raw_set("traceback", lua.create_function(log::traceback)?)?;
    let host = host.clone();
    let call =
        lua.create_function(move |lua, (number, a, b, c): (usize, Value, Value, Value)| match functions.get(number) {
            Some(function) => function(lua, &host, [a, b, c]),
            None => Err(mlua::Error::runtime("there is no such host function")),
        })?;
    Ok((call, table))
}

/// `sfu.config`: a table of the state's own.
pub(crate) fn config_table(lua: &Lua, config: &serde_json::Map<String, serde_json::Value>) -> mlua::Result<Value> {
    let config = serde_json::Value::Object(config.clone());
    json::from_json(lua, &config).map_err(mlua::Error::runtime)
}

/// JSON as a value of the script.
pub(crate) fn value_from_json(lua: &Lua, json: &serde_json::Value) -> mlua::Result<Value> {
    json::from_json(lua, json).map_err(mlua::Error::runtime)
}
