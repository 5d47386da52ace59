//! JSON text as a plain value, made while it is read: parsing a large text can be interrupted, and no tree stands in
//! between.

use std::cell::{Cell, RefCell};
use std::fmt;

use mlua::{Lua, Value};
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use super::json::VALUES_PER_POLL;
use super::{NULL, Problem, array_table};

/// Why a text gave no value.
#[derive(Debug)]
pub enum TextError {
    /// It is not JSON: what is wrong, with line and column.
    NotJson(String),
    /// The state failed (out of memory), or the caller said stop.
    State(mlua::Error),
}

/// The value of a JSON text; `null` and empty arrays as [`super::from_json`] makes them.
pub fn from_json_text(lua: &Lua, text: &[u8], should_stop: &mut dyn FnMut() -> bool) -> Result<Value, TextError> {
    let reading =
        Reading { lua, values: Cell::new(0), should_stop: RefCell::new(should_stop), failure: RefCell::default() };
    let mut deserializer = serde_json::Deserializer::from_slice(text);
    let read = Seed(&reading).deserialize(&mut deserializer).and_then(|value| deserializer.end().map(|()| value));
    match (reading.failure.take(), read) {
        (Some(error), _) => Err(TextError::State(error)),
        (None, Ok(value)) => Ok(value),
        (None, Err(error)) => Err(TextError::NotJson(error.to_string())),
    }
}

struct Reading<'a> {
    lua: &'a Lua,
    values: Cell<usize>,
    should_stop: RefCell<&'a mut dyn FnMut() -> bool>,
    /// An error that is not one of the text.
    failure: RefCell<Option<mlua::Error>>,
}

impl Reading<'_> {
    fn done<T, E: Error>(&self, result: mlua::Result<T>) -> Result<T, E> {
        result.map_err(|error| {
            self.failure.replace(Some(error));
            E::custom("the state failed")
        })
    }

    fn count<E: Error>(&self) -> Result<(), E> {
        self.values.set(self.values.get() + 1);
        let is_over = self.values.get().is_multiple_of(VALUES_PER_POLL) && (self.should_stop.borrow_mut())();
        if is_over { self.done(Err(mlua::Error::runtime(Problem::Interrupted))) } else { Ok(()) }
    }
}

#[derive(Clone, Copy)]
struct Seed<'a>(&'a Reading<'a>);

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        self.0.count()?;
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(NULL)
    }

    fn visit_bool<E: Error>(self, flag: bool) -> Result<Value, E> {
        Ok(Value::Boolean(flag))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Value, E> {
        Ok(Value::Integer(number))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Value, E> {
        Ok(i64::try_from(number).map_or(Value::Number(number as f64), Value::Integer))
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Value, E> {
        Ok(Value::Number(number))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Value, E> {
        self.0.done(self.0.lua.create_string(text).map(Value::String))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let Some(first) = items.next_element_seed(self)? else {
            return self.0.done(array_table(self.0.lua).map(Value::Table));
        };
        let table = self.0.done(self.0.lua.create_table())?;
        self.0.done(table.raw_set(1, first))?;
        let mut index = 1_i64;
        while let Some(item) = items.next_element_seed(self)? {
            index += 1;
            self.0.done(table.raw_set(index, item))?;
        }
        Ok(Value::Table(table))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Value, A::Error> {
        let table = self.0.done(self.0.lua.create_table())?;
        while let Some(name) = fields.next_key_seed(self)? {
            let field = fields.next_value_seed(self)?;
            self.0.done(table.raw_set(name, field))?;
        }
        Ok(Value::Table(table))
    }
}
