//! Arguments of host functions: each check says which argument of which function is wrong, and how.

use std::ops::RangeInclusive;
use std::rc::Rc;

use mlua::{Table, Value};

use super::HostResult;
use crate::hook::ClientFacts;
use crate::host::Host;
use moonring_wire::id::TrackId;

/// Arguments that a host function can have; what a script gives beyond them is nobody's.
pub(crate) const MAX_ARGS: usize = 3;

/// The arguments of a host function.
pub(crate) trait Args {
    /// The first of them.
    fn of(args: [Value; MAX_ARGS]) -> Self;
}

impl Args for () {
    fn of(_: [Value; MAX_ARGS]) {}
}

impl Args for Value {
    fn of([a, ..]: [Value; MAX_ARGS]) -> Self {
        a
    }
}

impl Args for (Value, Value) {
    fn of([a, b, _]: [Value; MAX_ARGS]) -> Self {
        (a, b)
    }
}

impl Args for (Value, Value, Value) {
    fn of([a, b, c]: [Value; MAX_ARGS]) -> Self {
        (a, b, c)
    }
}

/// An argument with its name and its function's name.
#[derive(Clone, Copy)]
pub(crate) struct Arg<'a> {
    pub(crate) function: &'static str,
    pub(crate) name: &'static str,
    pub(crate) value: &'a Value,
}

/// The argument `name` of `function`.
pub(crate) fn arg<'a>(function: &'static str, name: &'static str, value: &'a Value) -> Arg<'a> {
    Arg { function, name, value }
}

impl Arg<'_> {
    /// The refusal of this argument.
    pub(crate) fn bad(self, why: impl std::fmt::Display) -> String {
        format!("bad argument '{}' to '{}' ({why})", self.name, self.function)
    }

    fn expected(self, what: &str) -> String {
        let got = match self.value {
            Value::Nil => "nil",
            value => type_name(value),
        };
        self.bad(format_args!("{what} expected, got {got}"))
    }

    /// True for nil and for an argument that was left out.
    pub(crate) fn absent(self) -> bool {
        self.value.is_nil()
    }

    /// A string of at most `max` bytes, whatever they are.
    pub(crate) fn bytes(self, max: usize) -> HostResult<Vec<u8>> {
        let Value::String(text) = self.value else { return Err(self.expected("string")) };
        let bytes = text.as_bytes();
        if bytes.len() > max {
            return Err(self.bad(format_args!("{} bytes long, at most {max} are allowed", bytes.len())));
        }
        Ok(bytes.to_vec())
    }

    /// A string of at most `max` bytes of UTF-8.
    pub(crate) fn text(self, max: usize) -> HostResult<String> {
        String::from_utf8(self.bytes(max)?).map_err(|_| self.bad("not valid UTF-8"))
    }

    /// A finite number within `range`.
    pub(crate) fn number(self, range: RangeInclusive<f64>) -> HostResult<f64> {
        let number = match self.value {
            Value::Integer(number) => *number as f64,
            Value::Number(number) => *number,
            _ => return Err(self.expected("number")),
        };
        if !range.contains(&number) {
            return Err(self.bad(format_args!("{number} is not within {} and {}", range.start(), range.end())));
        }
        Ok(number)
    }

    /// A whole number of 0 to `max`.
    pub(crate) fn whole(self, max: u64) -> HostResult<u64> {
        let number = self.number(0.0..=max as f64)?;
        if number.fract() != 0.0 {
            return Err(self.bad(format_args!("{number} is not a whole number; math.floor makes one of it")));
        }
        Ok(number as u64)
    }

    /// True or false.
    pub(crate) fn boolean(self) -> HostResult<bool> {
        self.value.as_boolean().ok_or_else(|| self.expected("boolean"))
    }

    /// A table.
    pub(crate) fn table(&self) -> HostResult<&Table> {
        self.value.as_table().ok_or_else(|| self.expected("table"))
    }

    /// A client object, which the prelude has replaced by its number.
    pub(crate) fn client(self, host: &Host) -> HostResult<Rc<ClientFacts>> {
        let number = match self.value {
            Value::Integer(number) => u32::try_from(*number).ok(),
            _ => None,
        };
        let client = number.and_then(|number| host.clients.borrow().get(number));
        client.ok_or_else(|| match number {
            Some(_) => self.bad("the client left long ago; keep its id rather than the client"),
            None => self.bad("client expected"),
        })
    }

    /// A track: its id, or a table with an `id`.
    pub(crate) fn track(self) -> HostResult<TrackId> {
        let id = match self.value {
            Value::Table(track) => track.raw_get("id").map_err(super::refused)?,
            other => other.clone(),
        };
        let Value::String(id) = id else { return Err(self.expected("track or track id")) };
        let id = String::from_utf8_lossy(&id.as_bytes()).into_owned();
        TrackId::parse(&id).map_err(|error| self.bad(format_args!("the track id {error}")))
    }
}

/// Lua's name of a value's type.
pub(crate) fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Integer(_) => "number",
        Value::LightUserData(_) | Value::Error(_) => "userdata",
        // A script comes by no other userdata.
        Value::UserData(_) => "client",
        other => other.type_name(),
    }
}
