//! Plain Lua values (nil, booleans, numbers, strings, tables of them) outside of their state: as bytes for a reload, as JSON for a client.
//!
//! Metatables are ignored and metamethods never run. Every limit is checked before memory is taken, and an error names
//! the way to the culprit: `state.participants["a b"].socket: a function can't cross a reload`.

use std::fmt;

use mlua::{LightUserData, Lua, Table, Value};
use thiserror::Error;

pub use self::json::{from_json, to_json};
pub use self::json_text::{TextError, from_json_text};
pub use self::reload::{decode, encode};

mod json;
mod json_text;
pub mod listing;
#[cfg(test)]
mod measure;
mod reload;
#[cfg(test)]
mod tests;

/// `sfu.json.null`: stands for JSON's `null`, which a Lua table can't hold as nil. It crosses a reload too.
pub const NULL: Value = Value::NULL;
/// `sfu.json.empty_array`: becomes `[]`, where an empty table becomes `{}`. It crosses a reload too.
pub const EMPTY_ARRAY: Value = Value::LightUserData(EMPTY_ARRAY_POINTER);
/// No address, just a number that differs from null's.
const EMPTY_ARRAY_POINTER: LightUserData = LightUserData(std::ptr::without_provenance_mut(1));

/// Where a state keeps the metatable of empty arrays.
const ARRAYS: &str = "moonring.arrays";

/// An empty table that becomes `[]` again as long as it stays empty: what an empty array of JSON becomes. It is known
/// by its metatable, which has the key [`EMPTY_ARRAY`].
pub fn array_table(lua: &Lua) -> mlua::Result<Table> {
    let metatable = match lua.named_registry_value::<Value>(ARRAYS)? {
        Value::Table(metatable) => metatable,
        _ => {
            let metatable = lua.create_table()?;
            metatable.raw_set(EMPTY_ARRAY, true)?;
            lua.set_named_registry_value(ARRAYS, &metatable)?;
            metatable
        }
    };
    let table = lua.create_table()?;
    table.set_metatable(Some(metatable))?;
    Ok(table)
}

/// True for a table that [`array_table`] has made.
fn is_array_table(table: &Table) -> bool {
    table.metatable().is_some_and(|metatable| matches!(metatable.raw_get(EMPTY_ARRAY), Ok(Value::Boolean(true))))
}

/// The deepest nesting whatever the limits say: conversion recurses, and this bounds its stack.
pub const MAX_DEPTH: usize = 128;
/// Of a key's text, how much a path shows.
const SHOWN_KEY_BYTES: usize = 40;
/// Of a long path, how many keys are shown at either end.
const SHOWN_KEYS: usize = 8;

/// What a value may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The encoded size in bytes.
    pub bytes: usize,
    /// Tables within tables; beyond [`MAX_DEPTH`] it counts as that.
    pub depth: usize,
    /// Values in all, keys included; a shared table counts once for a reload, and each time for JSON.
    pub values: usize,
}

/// What is wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlainError {
    /// The name of the whole: `state` or `value`.
    root: &'static str,
    /// The keys on the way to the culprit, innermost first.
    keys: Vec<String>,
    /// What is wrong.
    pub problem: Problem,
}

/// What is wrong with a value.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Problem {
    /// Something that is not plain.
    #[error("{0} can't {1}{advice}", advice = advice(.0))]
    NotPlain(&'static str, &'static str),
    /// A key that is not plain, or for JSON not a string.
    #[error("{0} as a key can't {1}{advice}", advice = advice(.0))]
    Key(&'static str, &'static str),
    /// A table that contains itself.
    #[error("a table that contains itself can't {0}")]
    Cycle(&'static str),
    /// Beyond [`Limits::depth`].
    #[error("nested more than {0} tables deep")]
    TooDeep(usize),
    /// Beyond [`Limits::values`].
    #[error("more than {0} values")]
    TooManyValues(usize),
    /// Beyond [`Limits::bytes`].
    #[error("larger than {0} bytes")]
    TooLarge(usize),
    /// A table with list entries and named ones.
    #[error("a table with both list entries and named ones can't become JSON")]
    MixedKeys,
    /// Positive integers as keys, but not 1 to n.
    #[error("a list with holes can't become JSON")]
    Holes,
    /// NaN or an infinity.
    #[error("{0} can't become JSON")]
    NotFinite(&'static str),
    /// Bytes that are no text.
    #[error("a string that is not UTF-8 can't become JSON")]
    NotUtf8,
    /// The caller said stop.
    #[error("interrupted")]
    Interrupted,
    /// The state itself failed: out of memory.
    #[error("{0}")]
    State(String),
}

impl PlainError {
    fn new(root: &'static str, problem: Problem) -> Self {
        Self { root, keys: Vec::new(), problem }
    }

    /// The same error, seen from the table that holds the culprit under this key.
    fn under(mut self, key: &Value) -> Self {
        self.keys.push(shown_key(key));
        self
    }
}

impl fmt::Display for PlainError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.root)?;
        let hidden = SHOWN_KEYS..self.keys.len().saturating_sub(SHOWN_KEYS).max(SHOWN_KEYS);
        for (index, key) in self.keys.iter().rev().enumerate() {
            if !hidden.contains(&index) {
                out.write_str(key)?;
            } else if index == hidden.start {
                out.write_str("…")?;
            }
        }
        write!(out, ": {}", self.problem)
    }
}

impl std::error::Error for PlainError {}

impl From<PlainError> for mlua::Error {
    fn from(error: PlainError) -> Self {
        Self::runtime(error)
    }
}

/// How an error calls what a script knows as a client: the only userdata that it can come by.
const CLIENT: &str = "a client";

/// What to do instead with something that is not plain.
fn advice(kind: &str) -> &'static str {
    if kind == CLIENT { ": take its id, client:get_id()" } else { "" }
}

/// How an error calls a value.
fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Nil => "nil",
        Value::Boolean(_) => "a boolean",
        Value::Integer(_) | Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Table(_) => "a table",
        Value::Function(_) => "a function",
        Value::Thread(_) => "a coroutine",
        Value::UserData(_) => CLIENT,
        _ => "a userdata",
    }
}

/// The key as a script would write it.
fn shown_key(key: &Value) -> String {
    let text = match key {
        Value::String(text) => text,
        Value::Boolean(flag) => return format!("[{flag}]"),
        Value::Integer(number) => return format!("[{number}]"),
        Value::Number(number) => return format!("[{number}]"),
        other => return format!("[{}]", kind_of(other)),
    };
    let bytes = text.as_bytes();
    let is_name = |bytes: &[u8]| bytes.iter().all(|&byte| byte == b'_' || byte.is_ascii_alphanumeric());
    match &bytes[..] {
        long if long.len() > SHOWN_KEY_BYTES => {
            format!("[\"{}…\"]", String::from_utf8_lossy(&long[..SHOWN_KEY_BYTES]).escape_debug())
        }
        [first, rest @ ..] if !first.is_ascii_digit() && is_name(&[*first]) && is_name(rest) => {
            format!(".{}", String::from_utf8_lossy(&bytes))
        }
        short => format!("[\"{}\"]", String::from_utf8_lossy(short).escape_debug()),
    }
}

/// Visits the raw pairs of a table until one fails. Only one pair is alive at a time: a state has room for about 8,000 references.
fn try_pairs(
    root: &'static str,
    table: &Table,
    mut visit: impl FnMut(Value, Value) -> Result<(), PlainError>,
) -> Result<(), PlainError> {
    let mut failure = None;
    let walked = table.for_each(|key: Value, value: Value| {
        visit(key, value).map_err(|error| {
            failure = Some(error);
            mlua::Error::StackError
        })
    });
    match (failure, walked) {
        (Some(error), _) => Err(error),
        (None, Err(error)) => Err(PlainError::new(root, Problem::State(error.to_string()))),
        (None, Ok(())) => Ok(()),
    }
}
