//! `sfu.log_*` and the tracebacks of failed hooks.

use mlua::{Lua, Value};

use super::args::type_name;
use super::{Functions, HostResult, Kind};
use crate::host::Host;
use crate::script::message_of;
use crate::settings::MAX_LOG_BYTES;

/// How deep a script's line may lie beneath the host function: the prelude's own frames.
const MAX_LEVEL: usize = 6;
/// How deep it may lie beneath a comparison of `table.sort`, which recurses.
const MAX_LEVELS_TO_SCRIPT: usize = 64;
/// The prelude as it stands in tracebacks.
pub(crate) const PRELUDE_NAME: &str = "sfu.lua";

pub(super) fn register(functions: &mut Functions) {
    functions.add_as(Kind::Internal, "print", |lua, host, message| log(lua, host, 2, &message));
    for (level, path) in (1..).zip(["sfu.log_debug", "sfu.log_info", "sfu.log_warn", "sfu.log_error"]) {
        functions.add_as(Kind::Text, path, move |lua, host, message| log(lua, host, level, &message));
    }
}

fn log(lua: &Lua, host: &Host, level: i64, message: &Value) -> HostResult<()> {
    if is_on(level) && host.room.may_log() {
        write(lua, host, level, &text_of(message));
    }
    Ok(())
}

/// The message handler of every hook: calls nothing of the script, whatever the error value is.
pub(super) fn traceback(lua: &Lua, error: Value) -> mlua::Result<String> {
    let message = match &error {
        Value::Error(error) => message_of(error),
        Value::String(_) | Value::Integer(_) | Value::Number(_) => text_of(&error),
        other => format!("error value is a {}", type_name(other)),
    };
    let message = at_the_scripts_line(lua, message);
    let traceback = lua.traceback(Some(&message), 1).map(|text| text.to_string_lossy()).unwrap_or(message);
    Ok(without_our_frames(&traceback))
}

/// An error that was raised in the prelude (a comparison in `table.sort`, for instance) is one of the line that called it.
fn at_the_scripts_line(lua: &Lua, message: String) -> String {
    let rest = message.strip_prefix(PRELUDE_NAME).and_then(|rest| rest.strip_prefix(':'));
    let Some((_, problem)) = rest.and_then(|rest| rest.split_once(": ")) else { return message };
    let place = (1..MAX_LEVELS_TO_SCRIPT).find_map(|level| {
        let place = lua.inspect_stack(level, |frame| {
            let source = frame.source().source?.trim_start_matches(['@', '=']).to_owned();
            let is_script = !source.ends_with(PRELUDE_NAME) && !source.starts_with('[');
            is_script.then(|| frame.current_line().map(|line| format!("{source}:{line}"))).flatten()
        });
        place.flatten()
    });
    place.map_or_else(|| problem.to_owned(), |place| format!("{place}: {problem}"))
}

/// A traceback with some place of the script in it: of a call right behind `return` Lua keeps no line, and where that
/// `return` is the hook's own, none is left.
pub(crate) fn with_a_place(traceback: String, hook: impl FnOnce() -> Value) -> String {
    let (_, frames) = traceback.split_once("\nstack traceback:").unwrap_or_default();
    if frames.is_empty() || frames.lines().any(|line| !line.is_empty() && !line.trim_start().starts_with("[C]:")) {
        return traceback;
    }
    let Value::Function(hook) = hook() else { return traceback };
    let info = hook.info();
    let Some((name, line)) = info.source.zip(info.line_defined) else { return traceback };
    let name = name.trim_start_matches(['@', '=']);
    format!(
        "{traceback}\n\t{name}:{line}: in this function, by a call right behind 'return', of which Lua keeps no line"
    )
}

/// The lines of a traceback that belong to the script.
pub(crate) fn without_our_frames(traceback: &str) -> String {
    let ours = |line: &str| {
        let line = line.trim_start();
        line.starts_with(PRELUDE_NAME)
            || line.starts_with("[C]:") && line.ends_with("'xpcall'")
            || line == "(...tail calls...)"
    };
    let lines: Vec<_> = traceback.lines().filter(|line| !ours(line)).collect();
    truncated(&lines.join("\n"), MAX_LOG_BYTES).to_owned()
}

fn text_of(message: &Value) -> String {
    match message {
        Value::String(text) => truncated(&String::from_utf8_lossy(&text.as_bytes()), MAX_LOG_BYTES).to_owned(),
        Value::Integer(number) => number.to_string(),
        Value::Number(number) => number.to_string(),
        other => type_name(other).to_owned(),
    }
}

/// The front of `text`, at most `max` bytes, whole characters.
pub(crate) fn truncated(text: &str, max: usize) -> &str {
    let mut end = max.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// Whether anybody reads this level.
fn is_on(level: i64) -> bool {
    match level {
        1 => tracing::enabled!(tracing::Level::DEBUG),
        2 => tracing::enabled!(tracing::Level::INFO),
        3 => tracing::enabled!(tracing::Level::WARN),
        _ => tracing::enabled!(tracing::Level::ERROR),
    }
}

fn write(lua: &Lua, host: &Host, level: i64, message: &str) {
    let (room, script, hook) = (host.room.id.as_str(), host.script.name(), host.hook.get());
    let line = script_line(lua);
    match level {
        1 => tracing::debug!(room, script, hook, line, "{message}"),
        2 => tracing::info!(room, script, hook, line, "{message}"),
        3 => tracing::warn!(room, script, hook, line, "{message}"),
        _ => tracing::error!(room, script, hook, line, "{message}"),
    }
}

/// The line of the script that called.
fn script_line(lua: &Lua) -> usize {
    (1..MAX_LEVEL)
        .find_map(|level| {
            let line = lua.inspect_stack(level, |frame| {
                let source = frame.source();
                let ours = source.source.is_some_and(|name| name.ends_with(PRELUDE_NAME));
                if ours { None } else { frame.current_line() }
            });
            line.flatten()
        })
        .unwrap_or(0)
}
