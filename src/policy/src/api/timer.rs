//! `sfu.set_timeout`, `sfu.set_interval`, `sfu.clear`.

use std::time::Duration;

use mlua::{Lua, Value};

use super::args::arg;
use super::{Functions, HostResult, refused};
use crate::effects::{NewTimer, TimerChange};
use crate::host::Host;
use crate::settings::{MAX_DELAY, MAX_TIMERS, MIN_INTERVAL};

/// Bytes of a timer's name.
const MAX_NAME: usize = 64;

pub(super) fn register(functions: &mut Functions) {
    functions.add("sfu.set_timeout", |lua, host, args: (Value, Value, Value)| {
        set(lua, host, "sfu.set_timeout", args, false)
    });
    functions.add("sfu.set_interval", |lua, host, args: (Value, Value, Value)| {
        set(lua, host, "sfu.set_interval", args, true)
    });
    functions.add("sfu.clear", |_, host, handle: Value| {
        let mut effects = host.effects.borrow_mut();
        if matches!(handle, Value::String(_)) {
            let name = arg("sfu.clear", "name", &handle).text(MAX_NAME)?;
            return effects.change_timers(TimerChange::ClearNamed(name), host.room.host_bytes_left.get());
        }
        let handle = arg("sfu.clear", "handle", &handle).whole(u32::MAX.into())? as u32;
        if effects.take_back_timer(handle) {
            Ok(())
        } else {
            effects.change_timers(TimerChange::Clear(handle), host.room.host_bytes_left.get())
        }
    });
}

/// A time in milliseconds.
pub(super) fn delay(function: &'static str, ms: &Value) -> HostResult<Duration> {
    let ms = arg(function, "ms", ms).number(0.0..=MAX_DELAY.as_millis() as f64)?;
    Ok(Duration::from_secs_f64(ms / 1000.0))
}

/// `(ms, fn)` or `(name, ms, fn)`.
fn set(
    lua: &Lua,
    host: &Host,
    function_name: &'static str,
    (first, second, third): (Value, Value, Value),
    repeat: bool,
) -> HostResult<u32> {
    let (name, ms, function) = match &first {
        Value::String(_) if !third.is_nil() => {
            (Some(arg(function_name, "name", &first).text(MAX_NAME)?), second, third)
        }
        _ => (None, first, second),
    };
    let mut delay = delay(function_name, &ms)?;
    if repeat {
        delay = delay.max(MIN_INTERVAL);
    }
    let Value::Function(function) = function else {
        return Err(arg(function_name, "fn", &function).bad("function expected"));
    };
    let mut effects = host.effects.borrow_mut();
    if !host.timers_fit(&effects, Some(name.as_deref())) {
        return Err(format!("'{function_name}': more than {MAX_TIMERS} timers in one room"));
    }
    let function = lua.create_registry_value(function).map_err(refused)?;
    let handle = host.room.next_timer();
    let timer = NewTimer { handle, name, delay, repeat, function };
    effects.change_timers(TimerChange::Set(timer), host.room.host_bytes_left.get())?;
    Ok(handle)
}
