//! Plain values as bytes, from one state to its successor.
//!
//! ```text
//! value  := 'n' | 'f' | 't'                nil, false, true
//!         | 'i' i32 | 'd' f64              a number
//!         | 's' u8 bytes | 'S' u32 bytes   a string
//!         | '{' (value value)* '}'         a table
//!         | '#' (value value)* '}'         a table that is referred to later
//!         | 'r' u32                        the '#' table that begins at this offset
//!         | '0' | 'a'                      sfu.json.null, sfu.json.empty_array
//!         | 'e'                            an empty table that was an empty array of JSON
//! ```
//! Little-endian. A table is first written as `{` and becomes `#` when it is met again.

use std::collections::HashMap;

use mlua::{Lua, Result as LuaResult, Table, Value};

use super::{
    EMPTY_ARRAY_POINTER, Limits, MAX_DEPTH, PlainError, Problem, array_table, is_array_table, kind_of, try_pairs,
};

const ROOT: &str = "state";
const PURPOSE: &str = "cross a reload";

/// The bytes of a plain value. Tables that occur twice stay one table.
pub fn encode(value: &Value, limits: Limits) -> Result<Vec<u8>, PlainError> {
    let limits = Limits { depth: limits.depth.min(MAX_DEPTH), bytes: limits.bytes.min(u32::MAX as usize), ..limits };
    let mut encoder = Encoder { out: Vec::new(), values: 0, tables: HashMap::new(), limits };
    encoder.value(value, 0)?;
    Ok(encoder.out)
}

/// The value again, in another state. Never panics on bytes that [`encode`] did not write.
pub fn decode(lua: &Lua, bytes: &[u8]) -> LuaResult<Value> {
    let mut decoder = Decoder { lua, bytes, at: 0, shared: None };
    let value = decoder.value(0)?;
    if decoder.at == bytes.len() { Ok(value) } else { Err(corrupt()) }
}

struct Encoder {
    out: Vec<u8>,
    values: usize,
    /// By address (they can't move or die while the root lives): where they begin.
    tables: HashMap<usize, Seen>,
    limits: Limits,
}

#[derive(Clone, Copy)]
enum Seen {
    /// Not written to its end: to meet it now is a cycle.
    Open,
    /// Begins at this offset.
    Written(usize),
}

impl Encoder {
    fn value(&mut self, value: &Value, depth: usize) -> Result<(), PlainError> {
        self.values += 1;
        if self.values > self.limits.values {
            return Err(error(Problem::TooManyValues(self.limits.values)));
        }
        match value {
            Value::Nil => self.put(b"n"),
            Value::Boolean(flag) => self.put(if *flag { b"t" } else { b"f" }),
            Value::Integer(number) => match i32::try_from(*number) {
                Ok(small) => self.put_tagged(b'i', &small.to_le_bytes()),
                // It came out of a double, so it fits into one.
                Err(_) => self.put_tagged(b'd', &(*number as f64).to_le_bytes()),
            },
            Value::Number(number) => self.put_tagged(b'd', &number.to_le_bytes()),
            Value::String(text) => {
                let bytes = text.as_bytes();
                match u8::try_from(bytes.len()) {
                    Ok(length) => self.put(&[b's', length])?,
                    Err(_) => {
                        let length = u32::try_from(bytes.len()).map_err(|_| self.too_large())?;
                        self.put_tagged(b'S', &length.to_le_bytes())?;
                    }
                }
                self.put(&bytes)
            }
            Value::Table(table) => self.table(table, depth),
            value if value.is_null() => self.put(b"0"),
            Value::LightUserData(pointer) if *pointer == EMPTY_ARRAY_POINTER => self.put(b"a"),
            other => Err(error(Problem::NotPlain(kind_of(other), PURPOSE))),
        }
    }

    fn table(&mut self, table: &Table, depth: usize) -> Result<(), PlainError> {
        let address = table.to_pointer().addr();
        match self.tables.get(&address) {
            Some(Seen::Open) => return Err(error(Problem::Cycle(PURPOSE))),
            Some(&Seen::Written(start)) => {
                self.out[start] = b'#';
                return self.put_tagged(b'r', &(start as u32).to_le_bytes());
            }
            None => {}
        }
        if depth == self.limits.depth {
            return Err(error(Problem::TooDeep(self.limits.depth)));
        }
        if is_array_table(table) && table.is_empty() {
            return self.put(b"e");
        }
        self.tables.insert(address, Seen::Open);
        let start = self.out.len();
        self.put(b"{")?;
        try_pairs(ROOT, table, |key, value| {
            if !matches!(key, Value::Table(_)) {
                self.value(&key, depth).map_err(|error| match error.problem {
                    Problem::NotPlain(kind, purpose) => PlainError { problem: Problem::Key(kind, purpose), ..error },
                    _ => error,
                })?;
            } else {
                self.value(&key, depth + 1).map_err(|error| error.under(&key))?;
            }
            self.value(&value, depth + 1).map_err(|error| error.under(&key))
        })?;
        self.tables.insert(address, Seen::Written(start));
        self.put(b"}")
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), PlainError> {
        if bytes.len() > self.limits.bytes - self.out.len() {
            return Err(self.too_large());
        }
        self.out.extend_from_slice(bytes);
        Ok(())
    }

    fn put_tagged(&mut self, tag: u8, bytes: &[u8]) -> Result<(), PlainError> {
        self.put(&[tag])?;
        self.put(bytes)
    }

    fn too_large(&self) -> PlainError {
        error(Problem::TooLarge(self.limits.bytes))
    }
}

fn error(problem: Problem) -> PlainError {
    PlainError::new(ROOT, problem)
}

struct Decoder<'a> {
    lua: &'a Lua,
    bytes: &'a [u8],
    at: usize,
    /// Offset to table, held by a Lua table: a state has room for about 8,000 references from here.
    shared: Option<Table>,
}

impl<'a> Decoder<'a> {
    fn value(&mut self, depth: usize) -> LuaResult<Value> {
        let start = self.at;
        Ok(match self.array::<1>()? {
            [b'n'] => Value::Nil,
            [b'f'] => Value::Boolean(false),
            [b't'] => Value::Boolean(true),
            [b'0'] => super::NULL,
            [b'a'] => super::EMPTY_ARRAY,
            [b'e'] => Value::Table(array_table(self.lua)?),
            [b'i'] => Value::Integer(i32::from_le_bytes(self.array()?).into()),
            [b'd'] => Value::Number(f64::from_le_bytes(self.array()?)),
            [b's'] => {
                let [length] = self.array()?;
                Value::String(self.lua.create_string(self.take(length.into())?)?)
            }
            [b'S'] => {
                let length = u32::from_le_bytes(self.array()?);
                Value::String(self.lua.create_string(self.take(length as usize)?)?)
            }
            [b'{'] => Value::Table(self.table(depth)?),
            [b'#'] => {
                let table = self.table(depth)?;
                let shared = match &self.shared {
                    Some(shared) => shared,
                    None => self.shared.insert(self.lua.create_table()?),
                };
                // Only now: a table that refers to itself is no value of ours.
                shared.raw_set(start, &table)?;
                Value::Table(table)
            }
            [b'r'] => {
                let offset = u32::from_le_bytes(self.array()?);
                let shared = self.shared.as_ref().ok_or_else(corrupt)?;
                match shared.raw_get(offset)? {
                    table @ Value::Table(_) => table,
                    _ => return Err(corrupt()),
                }
            }
            _ => return Err(corrupt()),
        })
    }

    fn table(&mut self, depth: usize) -> LuaResult<Table> {
        if depth == MAX_DEPTH {
            return Err(corrupt());
        }
        let table = self.lua.create_table()?;
        while self.bytes.get(self.at) != Some(&b'}') {
            let key = self.value(depth + 1)?;
            if key.is_nil() || key.as_number().is_some_and(f64::is_nan) {
                return Err(corrupt());
            }
            table.raw_set(key, self.value(depth + 1)?)?;
        }
        self.at += 1;
        Ok(table)
    }

    fn take(&mut self, length: usize) -> LuaResult<&'a [u8]> {
        let rest = self.bytes.get(self.at..).unwrap_or(&[]);
        let taken = rest.get(..length).ok_or_else(corrupt)?;
        self.at += length;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> LuaResult<[u8; N]> {
        self.take(N)?.try_into().map_err(|_| corrupt())
    }
}

fn corrupt() -> mlua::Error {
    mlua::Error::runtime("the state carried over is damaged")
}
