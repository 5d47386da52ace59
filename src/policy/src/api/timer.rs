//! `sfu.set_timeout`, `sfu.set_interval`, `sfu.clear`.

use std::time::Duration;

use mlua::{Lua, Value};

use super::args::arg;
use super::{HostResult, Functions, refused};
use crate::effects::NewTimer;
use crate::host::Host;
use crate::settings::{MAX_DELAY, MAX_TIMERS, MIN_INTERVAL};

pub(super) fn register(functions: &mut Functions) {
    functions.add("set_timeout", |lua, host, (ms, function): (Value, Value)| {
        set(lua, host, "sfu.set_timeout", (ms, function), false)
    });
    functions.add("set_interval", |lua, host, (ms, function): (Value, Value)| {
        set(lua, host, "sfu.set_interval", (ms, function), true)
    });
    functions.add("clear", |_, host, handle: Value| {
        let handle = arg("sfu.clear", "handle", &handle).whole(u32::MAX.into())? as u32;
        let mut effects = host.effects.borrow_mut();
        let before = effects.timers.len();
        effects.timers.retain(|timer| timer.handle != handle);
        if effects.timers.len() == before && effects.cleared.len() < MAX_TIMERS && !effects.cleared.contains(&handle) {
            effects.cleared.push(handle);
        }
        Ok(())
    });
}

/// A time in milliseconds.
pub(super) fn delay(function: &'static str, ms: &Value) -> HostResult<Duration> {
    let ms = arg(function, "ms", ms).number(0.0..=MAX_DELAY.as_millis() as f64)?;
    Ok(Duration::from_secs_f64(ms / 1000.0))
}

fn set(lua: &Lua, host: &Host, name: &'static str, (ms, function): (Value, Value), repeat: bool) -> HostResult<u32> {
    let mut delay = delay(name, &ms)?;
    if repeat {
        delay = delay.max(MIN_INTERVAL);
    }
    let Value::Function(function) = function else {
        return Err(arg(name, "fn", &function).bad("function expected"));
    };
    let mut effects = host.effects.borrow_mut();
    if host.timers.get() + effects.timers.len() >= MAX_TIMERS {
        return Err(format!("'{name}': more than {MAX_TIMERS} timers in one room"));
    }
    let function = lua.create_registry_value(function).map_err(refused)?;
    let handle = host.room.next_timer();
    effects.timers.push(NewTimer { handle, delay, repeat, function });
    Ok(handle)
}
