//! `sfu.shared`, which all rooms of the process share, and `sfu.store`, which lasts: the same operations on other keys.

use std::time::Duration;

use mlua::Value;

use super::args::{Arg, arg};
use super::{Functions, HostResult, Kind};
use crate::host::{Host, WaitFor};
use crate::output::{PolicyRequest, SharedRequest, SharedValue, StoreSpace};
use crate::settings::MAX_VALUE_BYTES;

/// Bytes of a key.
const MAX_KEY: usize = 256;
/// The longest time to live, in seconds.
const MAX_TTL: f64 = 366.0 * 86_400.0;

/// Whose keys a function is about.
#[derive(Clone, Copy)]
enum Keys {
    Shared,
    Room,
    Global,
}

/// The functions of one kind of keys, each by its name.
struct Store {
    keys: Keys,
    get: &'static str,
    set: &'static str,
    delete: &'static str,
    incr: &'static str,
    compare_and_set: &'static str,
}

const STORES: [Store; 3] = [
    Store {
        keys: Keys::Shared,
        get: "sfu.shared.get",
        set: "sfu.shared.set",
        delete: "sfu.shared.delete",
        incr: "sfu.shared.incr",
        compare_and_set: "sfu.shared.compare_and_set",
    },
    Store {
        keys: Keys::Room,
        get: "sfu.store.get",
        set: "sfu.store.set",
        delete: "sfu.store.delete",
        incr: "sfu.store.incr",
        compare_and_set: "sfu.store.compare_and_set",
    },
    Store {
        keys: Keys::Global,
        get: "sfu.store.global.get",
        set: "sfu.store.global.set",
        delete: "sfu.store.global.delete",
        incr: "sfu.store.global.incr",
        compare_and_set: "sfu.store.global.compare_and_set",
    },
];

pub(super) fn register(functions: &mut Functions) {
    for Store { keys, get, set, delete, incr, compare_and_set } in STORES {
        functions.add_as(Kind::Waits, get, move |_, host, key: Value| {
            wait_for(host, keys, SharedRequest::Get { key: key_of(get, &key)? })
        });
        functions.add_as(Kind::Waits, delete, move |_, host, key: Value| {
            wait_for(host, keys, SharedRequest::Delete { key: key_of(delete, &key)? })
        });
        functions.add_as(Kind::Waits, set, move |_, host, (key, value, ttl): (Value, Value, Value)| {
            let value = value_of(arg(set, "value", &value))?;
            let ttl = time_to_live(arg(set, "ttl", &ttl))?;
            wait_for(host, keys, SharedRequest::Set { key: key_of(set, &key)?, value, ttl })
        });
        functions.add_as(Kind::Waits, incr, move |_, host, (key, by, ttl): (Value, Value, Value)| {
            let by = arg(incr, "by", &by);
            let by = if by.absent() { 1.0 } else { by.number(-1e15..=1e15)? };
            let ttl = time_to_live(arg(incr, "ttl", &ttl))?;
            wait_for(host, keys, SharedRequest::Incr { key: key_of(incr, &key)?, by, ttl })
        });
        functions.add_as(
            Kind::Waits,
            compare_and_set,
            move |_, host, (key, expected, value): (Value, Value, Value)| {
                let function = compare_and_set;
                let optional = |name, value| {
                    let value = arg(function, name, value);
                    if value.absent() { Ok(None) } else { value_of(value).map(Some) }
                };
                let (expected, value) = (optional("expected", &expected)?, optional("value", &value)?);
                let key = key_of(function, &key)?;
                wait_for(host, keys, SharedRequest::CompareAndSet { key, expected, value })
            },
        );
    }
}

fn wait_for(host: &Host, keys: Keys, request: SharedRequest) -> HostResult<()> {
    let request = match keys {
        Keys::Shared => PolicyRequest::Shared(request),
        Keys::Room => PolicyRequest::Store(StoreSpace::Room { script: host.script.name().to_owned() }, request),
        Keys::Global => PolicyRequest::Store(StoreSpace::Global, request),
    };
    host.wait_for(WaitFor::Reply(request))
}

fn key_of(function: &'static str, key: &Value) -> HostResult<String> {
    arg(function, "key", key).text(MAX_KEY)
}

fn value_of(value: Arg<'_>) -> HostResult<SharedValue> {
    match value.value {
        Value::Boolean(flag) => Ok(SharedValue::Flag(*flag)),
        Value::Integer(_) | Value::Number(_) => Ok(SharedValue::Number(value.number(f64::MIN..=f64::MAX)?)),
        Value::String(_) => Ok(SharedValue::Text(value.bytes(MAX_VALUE_BYTES)?)),
        _ => Err(value.bad("string, number or boolean expected; a table crosses through sfu.json.encode")),
    }
}

fn time_to_live(ttl: Arg<'_>) -> HostResult<Option<Duration>> {
    if ttl.absent() {
        return Ok(None);
    }
    Ok(Some(Duration::from_secs_f64(ttl.number(0.001..=MAX_TTL)?)))
}
