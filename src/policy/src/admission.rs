//! Bounds on what clients send, checked before any hook runs: what is refused here never counts as a failure.

use serde_json::Value;

use super::hook::{HookCall, Undecided};
use super::settings::{
    MAX_ATTRIBUTES_BYTES, MAX_MESSAGE_VALUES, MAX_METADATA_DEPTH, MAX_METADATA_VALUES, MAX_VALUE_DEPTH,
};

/// Bytes that an event takes in a queue beside a message or a token.
pub(crate) const EVENT_BYTES: usize = 256;
/// Bytes of a `serde_json::Value`.
const VALUE_BYTES: usize = size_of::<Value>();
/// Bytes of a table of LuaJIT without its parts, of a slot of its list, of a slot of its hash, and of a string.
const TABLE: usize = 64;
const LIST_SLOT: usize = 8;
const HASH_SLOT: usize = 24;
const STRING: usize = 32;

/// Why an event is refused. The text is for the client.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("too many people are joining this room at once, please try again")]
    TooManyJoins,
    #[error("too many events wait for the room's script, please try again")]
    TooManyEvents,
    #[error("too many of your messages wait for the room's script, please try again")]
    TooManyOfYours,
    #[error("the {what} is nested more than {most} levels deep")]
    TooDeep { what: &'static str, most: usize },
    #[error("the {what} has more than {most} values")]
    TooManyValues { what: &'static str, most: usize },
    #[error("the message does not fit into the memory of the room's script, please try again")]
    NoMemory,
    #[error("The room's rules have just changed, please try again")]
    CutOff,
}

impl Refusal {
    /// Why the script has not decided; `None` when that is the event's own fault, which asking again does not change.
    pub(crate) fn why_undecided(&self) -> Option<Undecided> {
        match self {
            Self::TooManyJoins | Self::TooManyEvents | Self::TooManyOfYours => Some(Undecided::Crowded),
            Self::NoMemory | Self::CutOff => Some(Undecided::CutOff),
            Self::TooDeep { .. } | Self::TooManyValues { .. } => None,
        }
    }
}

/// What an event needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Needs {
    /// Bytes of the host while it is queued.
    pub(crate) host: usize,
    /// Bytes of the script's state while its hook runs.
    pub(crate) lua: usize,
}

/// Checks what an event carries, and says what it needs.
pub(crate) fn needs_of(call: &HookCall) -> Result<Needs, Refusal> {
    match call {
        HookCall::ClientConnect { client, auth_token } => {
            let metadata = measure("metadata", &client.metadata, MAX_METADATA_DEPTH, MAX_METADATA_VALUES)?;
            let host = EVENT_BYTES + auth_token.len() + metadata.host;
            Ok(Needs { host, lua: STRING + auth_token.len() })
        }
        HookCall::Admin { request: message } | HookCall::Message { message, .. } => {
            let needs = measure("message", message, MAX_VALUE_DEPTH, MAX_MESSAGE_VALUES)?;
            // The name of the person in whose share it is counted.
            let name = call.client().map_or(0, |client| client.identity().len());
            Ok(Needs { host: EVENT_BYTES + name + needs.host, ..needs })
        }
        _ => Ok(Needs { host: EVENT_BYTES, lua: 0 }),
    }
}

/// Whether a value may be what an operator says of a room or of a client: an object within the bounds of metadata. The
/// error names the bound; `what` is its subject.
pub fn check_object(what: &'static str, value: &Value) -> Result<(), String> {
    if !value.is_object() {
        return Err(format!("the {what} must be an object"));
    }
    let bytes = value.to_string().len();
    if bytes > MAX_ATTRIBUTES_BYTES {
        return Err(format!("the {what} may have {MAX_ATTRIBUTES_BYTES} bytes, not {bytes}"));
    }
    measure(what, value, MAX_METADATA_DEPTH, MAX_METADATA_VALUES).map(drop).map_err(|refusal| refusal.to_string())
}

/// What a JSON value needs, here and in Lua.
fn measure(what: &'static str, value: &Value, depth: usize, values: usize) -> Result<Needs, Refusal> {
    let mut measure = Measure { what, depth, values, left: values, needs: Needs::default() };
    measure.value(value, 0)?;
    Ok(measure.needs)
}

/// Bytes that a JSON value takes here.
pub(crate) fn host_bytes_of(value: &Value) -> usize {
    measure("", value, usize::MAX, usize::MAX).map_or(usize::MAX, |needs| needs.host)
}

struct Measure {
    what: &'static str,
    depth: usize,
    values: usize,
    left: usize,
    needs: Needs,
}

impl Measure {
    fn value(&mut self, value: &Value, depth: usize) -> Result<(), Refusal> {
        let too_many = Refusal::TooManyValues { what: self.what, most: self.values };
        self.left = self.left.checked_sub(1).ok_or(too_many)?;
        self.needs.host += VALUE_BYTES;
        match value {
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
            Value::String(text) => self.text(text),
            Value::Array(items) => {
                self.table(depth, items.len() * LIST_SLOT)?;
                items.iter().try_for_each(|item| self.value(item, depth + 1))?;
            }
            Value::Object(fields) => {
                self.table(depth, fields.len().next_power_of_two() * HASH_SLOT)?;
                for (name, field) in fields {
                    self.text(name);
                    self.value(field, depth + 1)?;
                }
            }
        }
        Ok(())
    }

    fn table(&mut self, depth: usize, slots: usize) -> Result<(), Refusal> {
        if depth >= self.depth {
            return Err(Refusal::TooDeep { what: self.what, most: self.depth });
        }
        self.needs.lua += TABLE + slots;
        Ok(())
    }

    fn text(&mut self, text: &str) {
        self.needs.host += text.len();
        self.needs.lua += STRING + text.len();
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_beyond_their_bounds_are_refused_with_the_bound() {
        let nested = |depth: usize| (0..depth).fold(json!(1), |value, _| json!([value]));
        for (value, expected) in [
            (json!(null), Ok(())),
            (json!({ "a": [1, 2, { "b": "c" }] }), Ok(())),
            (nested(3), Ok(())),
            (nested(4), Err("the message is nested more than 3 levels deep")),
            (json!([1, 2, 3, 4, 5, 6, 7]), Ok(())),
            (json!([1, 2, 3, 4, 5, 6, 7, 8]), Err("the message has more than 8 values")),
        ] {
            let measured = measure("message", &value, 3, 8).map(drop).map_err(|refusal| refusal.to_string());
            assert_eq!(measured, expected.map_err(str::to_owned), "{value}");
        }
    }

    #[test]
    fn what_a_value_needs_in_lua_is_about_what_it_takes_there() {
        for value in [json!(vec![json!([]); 1000]), json!(vec![json!({ "k": "v" }); 1000]), json!("x".repeat(50_000))] {
            let lua = mlua::Lua::new();
            lua.gc_collect().unwrap();
            lua.gc_stop();
            let before = lua.used_memory();
            let made = crate::plain::from_json(&lua, &value, &mut || false).unwrap();
            let (taken, needs) = (lua.used_memory() - before, measure("", &value, 9, 9_999).unwrap().lua);
            drop(made);
            assert!(needs >= taken / 2 && needs <= taken * 2, "{taken} bytes, {needs} foreseen");
        }
    }
}
