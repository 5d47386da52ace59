//! `sfu.json`, and the values that cross between a script and the room.

use mlua::{Lua, Value};
use serde_json::Value as Json;

use super::args::{Arg, arg};
use super::{Functions, HostResult, Kind, refused};
use crate::budget::should_stop;
use crate::plain::{self, Limits, TextError};
use crate::settings::{MAX_VALUE_BYTES, MAX_VALUE_DEPTH};

/// Bytes of JSON text that `sfu.json` reads and writes.
const MAX_TEXT: usize = 512 * 1024;
/// What `sfu.json.encode` takes.
const TEXT_LIMITS: Limits = Limits { bytes: MAX_TEXT, depth: 100, values: 100_000 };
/// What a client can be sent.
const VALUE_LIMITS: Limits = Limits { bytes: MAX_VALUE_BYTES, depth: MAX_VALUE_DEPTH, values: 10_000 };

pub(super) fn register(functions: &mut Functions) {
    functions.add_as(Kind::Value, "sfu.json.null", |_, _, ()| Ok(plain::NULL));
    functions.add_as(Kind::Value, "sfu.json.empty_array", |_, _, ()| Ok(plain::EMPTY_ARRAY));
    functions.add("sfu.json.encode", |lua, _, value: Value| {
        let json = plain::to_json(&value, TEXT_LIMITS, &mut should_stop);
        let json = json.map_err(|error| arg("sfu.json.encode", "value", &value).bad(error))?;
        lua.create_string(json.to_string()).map_err(refused)
    });
    // What is no JSON is nil and why, as it often comes from outside.
    functions.add("sfu.json.decode", |lua, _, text: Value| {
        let text = arg("sfu.json.decode", "text", &text).bytes(MAX_TEXT)?;
        match plain::from_json_text(lua, &text, &mut should_stop) {
            Ok(value) => Ok((value, None)),
            Err(TextError::NotJson(message)) => Ok((Value::Nil, Some(message))),
            Err(TextError::State(error)) => Err(refused(error)),
        }
    });
}

/// An argument for clients, with about the bytes that it takes.
pub(super) fn to_json(value: Arg<'_>) -> HostResult<(Json, usize)> {
    let json = plain::to_json(value.value, VALUE_LIMITS, &mut should_stop).map_err(|error| value.bad(error))?;
    let bytes = size_of_json(&json);
    Ok((json, bytes))
}

/// A value for the script.
pub(crate) fn from_json(lua: &Lua, json: &Json) -> HostResult<Value> {
    plain::from_json(lua, json, &mut should_stop).map_err(refused)
}

/// About how many bytes a value has as text.
pub(super) fn size_of_json(json: &Json) -> usize {
    match json {
        Json::Null | Json::Bool(_) | Json::Number(_) => 8,
        Json::String(text) => text.len() + 2,
        Json::Array(list) => list.iter().map(|one| size_of_json(one) + 1).sum::<usize>() + 2,
        Json::Object(map) => map.iter().map(|(key, one)| key.len() + size_of_json(one) + 4).sum::<usize>() + 2,
    }
}
