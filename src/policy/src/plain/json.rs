//! Plain values as JSON, and back.
//!
//! Keys 1 to n make an array, string keys an object, no keys an object (`sfu.json.empty_array` is `[]`, and so is what
//! an empty array of JSON became). Numbers without a
//! fraction are written as integers. What JSON has no word for is an error, never a silent loss.

use mlua::{Lua, LuaString, Result as LuaResult, Table, Value};
use serde_json::{Map, Number, Value as Json};

use super::{
    EMPTY_ARRAY_POINTER, Limits, MAX_DEPTH, NULL, PlainError, Problem, array_table, is_array_table, kind_of, try_pairs,
};

const ROOT: &str = "value";
const PURPOSE: &str = "become JSON";
/// Values between two questions whether to go on.
pub(super) const VALUES_PER_POLL: usize = 256;

/// The value as JSON. [`Limits::bytes`] is the size of its text.
pub fn to_json(value: &Value, limits: Limits, should_stop: &mut dyn FnMut() -> bool) -> Result<Json, PlainError> {
    let limits = Limits { depth: limits.depth.min(MAX_DEPTH), ..limits };
    Writer { limits, bytes: 0, values: 0, open: Vec::new(), should_stop }.value(value)
}

/// JSON as a value: `null` is [`NULL`] wherever it stands, an empty array an empty table that becomes `[]` again.
pub fn from_json(lua: &Lua, json: &Json, should_stop: &mut dyn FnMut() -> bool) -> LuaResult<Value> {
    Reader { lua, values: 0, should_stop }.value(json, 0)
}

struct Writer<'a> {
    limits: Limits,
    bytes: usize,
    values: usize,
    /// Addresses of the tables on the way here.
    open: Vec<usize>,
    should_stop: &'a mut dyn FnMut() -> bool,
}

impl Writer<'_> {
    fn value(&mut self, value: &Value) -> Result<Json, PlainError> {
        self.count()?;
        match value {
            Value::Nil => self.fixed(Json::Null, 4),
            Value::Boolean(flag) => self.fixed(Json::Bool(*flag), 5),
            Value::Integer(number) => self.number(Number::from(*number)),
            Value::Number(number) => match Number::from_f64(*number) {
                Some(finite) => self.number(finite),
                None => Err(error(Problem::NotFinite(if number.is_nan() { "NaN" } else { "an infinite number" }))),
            },
            Value::String(text) => self.text(text).map(Json::String),
            Value::Table(table) => self.table(table),
            value if value.is_null() => self.fixed(Json::Null, 4),
            Value::LightUserData(pointer) if *pointer == EMPTY_ARRAY_POINTER => self.fixed(Json::Array(Vec::new()), 2),
            other => Err(error(Problem::NotPlain(kind_of(other), PURPOSE))),
        }
    }

    fn table(&mut self, table: &Table) -> Result<Json, PlainError> {
        let address = table.to_pointer().addr();
        if self.open.contains(&address) {
            return Err(error(Problem::Cycle(PURPOSE)));
        }
        if self.open.len() == self.limits.depth {
            return Err(error(Problem::TooDeep(self.limits.depth)));
        }
        self.spend(2)?;
        self.open.push(address);
        let (mut list, mut named) = (Vec::new(), Map::new());
        try_pairs(ROOT, table, |key, value| {
            self.spend(1)?;
            match &key {
                Value::Integer(index) => list.push((*index, self.value(&value).map_err(|error| error.under(&key))?)),
                Value::String(name) => {
                    self.count()?;
                    self.spend(1)?;
                    let name = self.text(name).map_err(|error| error.under(&key))?;
                    named.insert(name, self.value(&value).map_err(|error| error.under(&key))?);
                }
                other => return Err(error(Problem::Key(kind_of(other), PURPOSE))),
            }
            if list.is_empty() || named.is_empty() { Ok(()) } else { Err(error(Problem::MixedKeys)) }
        })?;
        self.open.pop();
        if !list.is_empty() || named.is_empty() && is_array_table(table) {
            array(list)
        } else {
            Ok(Json::Object(named))
        }
    }

    fn text(&mut self, text: &LuaString) -> Result<String, PlainError> {
        let bytes = text.as_bytes();
        // Before the copy: the text in quotes is at least that long.
        self.spend(bytes.len().saturating_add(2))?;
        let text = std::str::from_utf8(&bytes).map_err(|_| error(Problem::NotUtf8))?;
        let escapes = text.bytes().map(|byte| match byte {
            b'"' | b'\\' | 8 | 9 | 10 | 12 | 13 => 1,
            0..=31 => 5,
            _ => 0,
        });
        self.spend(escapes.sum())?;
        Ok(text.to_owned())
    }

    fn number(&mut self, number: Number) -> Result<Json, PlainError> {
        self.spend(number.to_string().len())?;
        Ok(Json::Number(number))
    }

    fn fixed(&mut self, json: Json, bytes: usize) -> Result<Json, PlainError> {
        self.spend(bytes)?;
        Ok(json)
    }

    fn count(&mut self) -> Result<(), PlainError> {
        self.values += 1;
        if self.values > self.limits.values {
            return Err(error(Problem::TooManyValues(self.limits.values)));
        }
        if self.values.is_multiple_of(VALUES_PER_POLL) && (self.should_stop)() {
            return Err(error(Problem::Interrupted));
        }
        Ok(())
    }

    fn spend(&mut self, bytes: usize) -> Result<(), PlainError> {
        self.bytes = self.bytes.saturating_add(bytes);
        if self.bytes > self.limits.bytes { Err(error(Problem::TooLarge(self.limits.bytes))) } else { Ok(()) }
    }
}

/// The values in the order of their keys, which must be 1 to n.
fn array(mut list: Vec<(i64, Json)>) -> Result<Json, PlainError> {
    list.sort_by_key(|(index, _)| *index);
    let is_whole = list.iter().zip(1..).all(|((index, _), expected)| *index == expected);
    if !is_whole {
        return Err(error(Problem::Holes));
    }
    Ok(Json::Array(list.into_iter().map(|(_, json)| json).collect()))
}

fn error(problem: Problem) -> PlainError {
    PlainError::new(ROOT, problem)
}

struct Reader<'a> {
    lua: &'a Lua,
    values: usize,
    should_stop: &'a mut dyn FnMut() -> bool,
}

impl Reader<'_> {
    fn value(&mut self, json: &Json, depth: usize) -> LuaResult<Value> {
        self.values += 1;
        if self.values.is_multiple_of(VALUES_PER_POLL) && (self.should_stop)() {
            return Err(error(Problem::Interrupted).into());
        }
        if depth > MAX_DEPTH {
            return Err(error(Problem::TooDeep(MAX_DEPTH)).into());
        }
        Ok(match json {
            Json::Null => NULL,
            Json::Bool(flag) => Value::Boolean(*flag),
            // A number of Lua is a double; integers beyond 2^53 are rounded, as in a browser.
            Json::Number(number) => match number.as_i64() {
                Some(integer) => Value::Integer(integer),
                None => Value::Number(number.as_f64().unwrap_or(f64::NAN)),
            },
            Json::String(text) => Value::String(self.lua.create_string(text)?),
            Json::Array(items) if items.is_empty() => Value::Table(array_table(self.lua)?),
            Json::Array(items) => {
                let table = self.lua.create_table_with_capacity(items.len(), 0)?;
                for (item, index) in items.iter().zip(1_i64..) {
                    table.raw_set(index, self.value(item, depth + 1)?)?;
                }
                Value::Table(table)
            }
            Json::Object(fields) => {
                let table = self.lua.create_table_with_capacity(0, fields.len())?;
                for (name, field) in fields {
                    let name = self.lua.create_string(name)?;
                    table.raw_set(name, self.value(field, depth + 1)?)?;
                }
                Value::Table(table)
            }
        })
    }
}
