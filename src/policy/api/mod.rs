//! The functions that scripts call. Each is a plain function of the host; `prelude.lua` gives it its Lua name and turns
//! a refusal into a Lua error at the script's line. None of them calls back into Lua: beneath such a call nothing
//! could be stopped.

pub(crate) mod args;
pub(crate) mod client;
mod clock;
mod crypto;
mod json;
mod jwt;
pub(crate) mod log;
mod sfu;
mod timer;
pub(crate) mod wait;

use std::ffi::c_void;
use std::rc::Rc;

use mlua::{FromLuaMulti, IntoLuaMulti, LightUserData, Lua, MultiValue, Table};

use super::host::Host;
use super::script::message_of;

static FAIL_MARK: u8 = 0;

/// The first value of a refusal; a script can neither make nor see it.
pub(crate) fn fail_mark() -> LightUserData {
    LightUserData((&raw const FAIL_MARK).cast_mut().cast::<c_void>())
}

/// What a host function answers: values, or words for the script's author.
pub(crate) type Answer<R> = Result<R, String>;

/// An mlua error (memory, in practice) as a refusal.
pub(crate) fn refused(error: mlua::Error) -> String {
    message_of(&error)
}

/// Collects the host functions of one state.
pub(crate) struct Functions<'a> {
    lua: &'a Lua,
    host: Rc<Host>,
    table: Table,
}

impl Functions<'_> {
    /// Adds `function` under the name that the prelude knows it by.
    fn add<A, R, F>(&self, name: &str, function: F) -> mlua::Result<()>
    where
        A: FromLuaMulti,
        R: IntoLuaMulti,
        F: Fn(&Lua, &Host, A) -> Answer<R> + 'static,
    {
        let host = self.host.clone();
        let function = self.lua.create_function(move |lua, args: A| -> mlua::Result<MultiValue> {
            match function(lua, &host, args) {
                Ok(values) => values.into_lua_multi(lua),
                Err(words) => (fail_mark(), words).into_lua_multi(lua),
            }
        })?;
        self.table.raw_set(name, function)
    }
}

/// All host functions, for the prelude.
pub(crate) fn functions(lua: &Lua, host: &Rc<Host>) -> mlua::Result<Table> {
    let functions = Functions { lua, host: host.clone(), table: lua.create_table()? };
    functions.table.raw_set("room_id", host.room.id.as_str())?;
    log::register(&functions)?;
    clock::register(&functions)?;
    sfu::register(&functions)?;
    client::register(&functions)?;
    timer::register(&functions)?;
    wait::register(&functions)?;
    json::register(&functions)?;
    crypto::register(&functions)?;
    jwt::register(&functions)?;
    Ok(functions.table)
}

/// `sfu.config`: a table of the state's own.
pub(crate) fn config_table(
    lua: &Lua,
    config: &serde_json::Map<String, serde_json::Value>,
) -> mlua::Result<mlua::Value> {
    let config = serde_json::Value::Object(config.clone());
    json::from_json(lua, &config).map_err(mlua::Error::runtime)
}

/// JSON as a value of the script.
pub(crate) fn value_from_json(lua: &Lua, json: &serde_json::Value) -> mlua::Result<mlua::Value> {
    json::from_json(lua, json).map_err(mlua::Error::runtime)
}
