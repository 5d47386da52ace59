//! `string.find`, `match`, `gmatch` and `gsub` of a state, replaced by the interruptible ones.
//!
//! Host functions only match; callbacks and metamethods are called by the Lua half, `prelude.lua`.

use std::sync::OnceLock;

use mlua::chunk::ChunkMode;
use mlua::{Function, IntoLuaMulti, Lua, LuaString, MultiValue, Result, Table, Value};

use super::super::script::stripped_bytecode_of;
use super::{Capture, Match, PatternError, find, match_at, search, split_anchor, substitute};

/// The longest result of a `gsub`.
pub const MAX_GSUB_BYTES: usize = 1 << 20;

const PRELUDE: &str = include_str!("prelude.lua");
/// The Lua half as it stands in tracebacks.
const CHUNK_NAME: &str = "string";

/// Replaces the four functions in `string_table`. Matching asks `should_stop` every thousand steps or so and ends with the
/// error `interrupted` when it says yes. Needs the globals `error`, `type` and `table.concat` at this moment only.
pub fn install(lua: &Lua, string_table: &Table, should_stop: fn() -> bool) -> Result<()> {
    let host = |function: Host| -> Result<Function> {
        lua.create_function(move |lua, arguments: MultiValue| {
            let arguments = Arguments { lua, values: arguments.into_vec() };
            match function(&arguments, should_stop) {
                Ok(values) => Ok(values),
                Err(MatchFailure::Lua(error)) => Err(error),
                Err(MatchFailure::Message(message)) => (false, message).into_lua_multi(lua),
            }
        })
    };
    lua.load(prelude()?).set_name(format!("@{CHUNK_NAME}")).set_mode(ChunkMode::Binary).call((
        string_table,
        host(host_find)?,
        host(host_match)?,
        host(host_next)?,
        host(host_gmatch)?,
        host(host_gsub)?,
        MAX_GSUB_BYTES,
    ))
}

/// The Lua half's bytecode, compiled once for the process.
fn prelude() -> Result<&'static [u8]> {
    static BYTECODE: OnceLock<Box<[u8]>> = OnceLock::new();
    if BYTECODE.get().is_none() {
        let compiled = stripped_bytecode_of(CHUNK_NAME, PRELUDE.as_bytes()).map_err(mlua::Error::external)?;
        BYTECODE.get_or_init(|| compiled);
    }
    Ok(BYTECODE.get().map_or(&[], |bytecode| &**bytecode))
}

type Host = fn(&Arguments<'_>, fn() -> bool) -> HostResult;
type HostResult = std::result::Result<MultiValue, MatchFailure>;

/// A message for the script, or an error of the state itself (memory).
enum MatchFailure {
    Message(String),
    Lua(mlua::Error),
}

impl From<PatternError> for MatchFailure {
    fn from(error: PatternError) -> Self {
        Self::Message(error.to_string())
    }
}

impl From<mlua::Error> for MatchFailure {
    fn from(error: mlua::Error) -> Self {
        Self::Lua(error)
    }
}

fn host_find(arguments: &Arguments<'_>, mut should_stop: fn() -> bool) -> HostResult {
    let (subject, pattern) = (arguments.string(0)?, arguments.string(1)?);
    let init = arguments.init(2, subject.as_bytes().len())?;
    let plain = !matches!(arguments.values.get(3), None | Some(Value::Nil | Value::Boolean(false)));
    let found = find(&subject.as_bytes(), &pattern.as_bytes(), init, plain, &mut should_stop)?;
    let Some(found) = found else { return Ok(nil()) };
    let mut values = MultiValue::with_capacity(2 + found.count());
    values.push_back(position(found.start + 1));
    values.push_back(position(found.end));
    arguments.push_captures(&mut values, &subject, &found, found.count())?;
    Ok(values)
}

fn host_match(arguments: &Arguments<'_>, mut should_stop: fn() -> bool) -> HostResult {
    let (subject, pattern) = (arguments.string(0)?, arguments.string(1)?);
    let init = arguments.init(2, subject.as_bytes().len())?;
    let found = search(&subject.as_bytes(), &pattern.as_bytes(), init, &mut should_stop)?;
    let Some(found) = found else { return Ok(nil()) };
    let mut values = MultiValue::with_capacity(found.values());
    arguments.push_captures(&mut values, &subject, &found, found.values())?;
    Ok(values)
}

/// `(subject, pattern, from, anchored, only_first)` to the bounds of the next match, the second one exclusive, and its captures.
fn host_next(arguments: &Arguments<'_>, mut should_stop: fn() -> bool) -> HostResult {
    let (subject, pattern) = (arguments.string(0)?, arguments.string(1)?);
    let from = arguments.init(2, usize::MAX)?;
    let flag = |index| matches!(arguments.values.get(index), Some(Value::Boolean(true)));
    let found = match_at(&subject.as_bytes(), &pattern.as_bytes(), from, flag(3), &mut should_stop)?;
    let Some(found) = found else { return Ok(nil()) };
    let count = if flag(4) { 1 } else { found.values() };
    let mut values = MultiValue::with_capacity(2 + count);
    values.push_back(position(found.start + 1));
    values.push_back(position(found.end + 1));
    arguments.push_captures(&mut values, &subject, &found, count)?;
    Ok(values)
}

/// Checks the arguments of `gmatch`.
fn host_gmatch(arguments: &Arguments<'_>, _: fn() -> bool) -> HostResult {
    Ok((arguments.string(0)?, arguments.string(1)?).into_lua_multi(arguments.lua)?)
}

/// All of `gsub` when the replacement is text; else `true` and the checked arguments for the Lua half.
fn host_gsub(arguments: &Arguments<'_>, mut should_stop: fn() -> bool) -> HostResult {
    let (subject, pattern) = (arguments.string(0)?, arguments.string(1)?);
    let limit = arguments.limit(3, subject.as_bytes().len() + 1)?;
    match arguments.values.get(2) {
        Some(Value::String(_) | Value::Integer(_) | Value::Number(_)) => {
            let replacement = arguments.string(2)?;
            let (subject, pattern) = (subject.as_bytes(), pattern.as_bytes());
            let replacement = replacement.as_bytes();
            let (text, count) = substitute(&subject, &pattern, &replacement, limit, MAX_GSUB_BYTES, &mut should_stop)?;
            Ok((arguments.lua.create_string(text)?, count).into_lua_multi(arguments.lua)?)
        }
        Some(replacement @ (Value::Function(_) | Value::Table(_))) => {
            let anchored = match split_anchor(&pattern.as_bytes()) {
                (true, rest) => Some(arguments.lua.create_string(rest)?),
                (false, _) => None,
            };
            let is_anchored = anchored.is_some();
            let pattern = anchored.unwrap_or(pattern);
            Ok((true, subject, pattern, replacement.clone(), limit, is_anchored).into_lua_multi(arguments.lua)?)
        }
        _ => Err(arguments.bad(2, "string/function/table expected")),
    }
}

/// The arguments of a host function, read as LuaJIT's C library reads them.
struct Arguments<'a> {
    lua: &'a Lua,
    values: Vec<Value>,
}

impl Arguments<'_> {
    fn string(&self, index: usize) -> std::result::Result<LuaString, MatchFailure> {
        match self.values.get(index) {
            Some(Value::String(text)) => Ok(text.clone()),
            Some(number @ (Value::Integer(_) | Value::Number(_))) => {
                self.lua.coerce_string(number.clone())?.ok_or_else(|| self.expected(index, "string"))
            }
            _ => Err(self.expected(index, "string")),
        }
    }

    fn number(&self, index: usize) -> std::result::Result<Option<f64>, MatchFailure> {
        match self.values.get(index) {
            None | Some(Value::Nil) => Ok(None),
            Some(Value::Integer(number)) => Ok(Some(*number as f64)),
            Some(Value::Number(number)) => Ok(Some(*number)),
            Some(text @ Value::String(_)) => {
                self.lua.coerce_number(text.clone())?.ok_or_else(|| self.expected(index, "number")).map(Some)
            }
            _ => Err(self.expected(index, "number")),
        }
    }

    /// A one-based position that may count from the end, as an offset within `len`. Out of range of an `int` it is
    /// the smallest one, as in LuaJIT on x86-64.
    fn init(&self, index: usize, len: usize) -> std::result::Result<usize, MatchFailure> {
        let Some(number) = self.number(index)? else { return Ok(0) };
        let truncated = number.trunc();
        let in_range = (f64::from(i32::MIN)..=f64::from(i32::MAX)).contains(&truncated);
        let position = if in_range { truncated as i64 } else { i64::from(i32::MIN) };
        let len_signed = i64::try_from(len).unwrap_or(i64::MAX);
        let offset = if position < 0 { position + len_signed } else { position - 1 };
        Ok(usize::try_from(offset).unwrap_or(0).min(len))
    }

    /// The number of replacements; beyond 32 bits it wraps, as in LuaJIT on x86-64.
    fn limit(&self, index: usize, default: usize) -> std::result::Result<usize, MatchFailure> {
        let Some(number) = self.number(index)? else { return Ok(default) };
        let in_range = (-9.2e18..=9.2e18).contains(&number);
        let wrapped = if in_range { number as i64 as i32 } else { 0 };
        Ok(usize::try_from(wrapped).unwrap_or(0))
    }

    fn push_captures(
        &self,
        values: &mut MultiValue,
        subject: &LuaString,
        found: &Match,
        count: usize,
    ) -> std::result::Result<(), MatchFailure> {
        for index in 0..count {
            values.push_back(match found.capture(index)? {
                Capture::Slice(from, to) => Value::String(self.lua.create_string(&subject.as_bytes()[from..to])?),
                Capture::Position(at) | Capture::Unfinished(at) => position(at + 1),
            });
        }
        Ok(())
    }

    fn expected(&self, index: usize, expected: &str) -> MatchFailure {
        let got = match self.values.get(index) {
            None => "no value",
            Some(Value::Integer(_)) => "number",
            Some(Value::LightUserData(_) | Value::Error(_)) => "userdata",
            Some(value) => value.type_name(),
        };
        self.bad(index, &format!("{expected} expected, got {got}"))
    }

    /// "bad argument", with the name by which the script called and without the `self` of a method call.
    fn bad(&self, index: usize, problem: &str) -> MatchFailure {
        let called = self.lua.inspect_stack(1, |wrapper| {
            let names = wrapper.names();
            (names.name.map(|name| name.into_owned()), names.name_what == Some("method"))
        });
        let (name, is_method) = called.unwrap_or((None, false));
        let name = name.unwrap_or_else(|| "?".to_owned());
        MatchFailure::Message(match (index, is_method) {
            (0, true) => format!("calling '{name}' on bad self ({problem})"),
            (_, true) => format!("bad argument #{index} to '{name}' ({problem})"),
            (_, false) => format!("bad argument #{} to '{name}' ({problem})", index + 1),
        })
    }
}

fn nil() -> MultiValue {
    MultiValue::from_vec(vec![Value::Nil])
}

/// A subject is far shorter than 2^53.
fn position(at: usize) -> Value {
    Value::Integer(at as i64)
}
