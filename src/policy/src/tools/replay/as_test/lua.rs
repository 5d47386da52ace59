//! Lua as it stands in a test file.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde_json::{Map, Value, json};

use crate::client::Connection;
use crate::tape::line::{CallLine, ClientLine, Line, OutcomeLine};
use crate::tools::replay::read::Recording;
use moonring_wire::id::ClientId;
use moonring_wire::media::TrackInfo;

/// The words that no key without brackets may be.
const KEYWORDS: &[&str] = &[
    "and", "break", "do", "else", "elseif", "end", "false", "for", "function", "goto", "if", "in", "local", "nil",
    "not", "or", "repeat", "return", "then", "true", "until", "while",
];

/// A time that no test waits for, in milliseconds.
const NEVER_MS: u64 = 1_000_000_000;

/// A value of JSON as Lua writes it.
pub(super) fn lua(value: &Value) -> String {
    match value {
        Value::Null => "test.null".to_owned(),
        Value::Bool(flag) => flag.to_string(),
        Value::Number(number) => number.to_string(),
        Value::String(text) => lua_string(text),
        Value::Array(items) if items.is_empty() => "test.json.decode(\"[]\")".to_owned(),
        Value::Array(items) => lua_list(items.iter().map(lua)),
        Value::Object(fields) => {
            let fields = fields.iter().map(|(name, field)| {
                let is_name = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
                    && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
                    && !KEYWORDS.contains(&name.as_str());
                let name = if is_name { name.clone() } else { format!("[{}]", lua_string(name)) };
                format!("{name} = {}", lua(field))
            });
            lua_list(fields)
        }
    }
}

/// A table of what stands in it.
pub(super) fn lua_list(items: impl Iterator<Item = String>) -> String {
    let items = items.collect::<Vec<_>>().join(", ");
    if items.is_empty() { "{}".to_owned() } else { format!("{{ {items} }}") }
}

/// A text in quotes.
pub(super) fn lua_string(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            // A String takes everything.
            c if c.is_ascii_control() => drop(write!(out, "\\{:03}", c as u32)),
            c => out.push(c),
        }
    }
    out + "\""
}

/// A client of the test.
pub(super) fn at(client: &ClientId) -> String {
    format!("c[{}]", lua_string(client.as_str()))
}

/// The options of `room:connect`.
pub(super) fn connect_of(client: &ClientId, facts: &ClientLine, token: &str) -> Value {
    let Connection { ip, via, origin, user_agent, headers } = &facts.connection;
    let mut options = json!({ "id": client, "ip": ip, "token": token, "metadata": facts.metadata });
    if via.as_str() != "websocket" {
        options["kind"] = via.as_str().into();
    }
    for (name, text) in [("origin", origin), ("user_agent", user_agent)] {
        if let Some(text) = text {
            options[name] = text.as_str().into();
        }
    }
    if !headers.is_empty() {
        let headers = headers.iter().map(|(name, value)| (name.clone(), value.as_str().into()));
        options["headers"] = Value::Object(headers.collect());
    }
    options
}

/// The options of `client:publish`.
pub(super) fn track_of(track: &TrackInfo) -> Value {
    let mut options = json!({ "id": track.id, "kind": track.kind.as_str(), "source": track.source.as_str(),
        "codec": track.codec.as_sdp(), "simulcast": track.layers });
    if track.muted {
        options["muted"] = true.into();
    }
    options
}

/// What `allowed, reason` is to be.
pub(super) fn verdict_of(outcome: &OutcomeLine) -> String {
    match &outcome.reason {
        Some(reason) if !outcome.allowed => format!("{{ false, {} }}", lua_string(reason)),
        _ => format!("{{ {} }}", outcome.allowed),
    }
}

/// What is looked at of a call.
pub(super) fn got(asked: &CallLine, call: &str) -> String {
    match asked {
        CallLine::PublishRequest { .. } => format!("{{ select(2, {call}) }}"),
        _ => format!("{{ {call} }}"),
    }
}

/// What it is to be.
pub(super) fn wanted(asked: &CallLine, outcome: &OutcomeLine) -> String {
    let is_served = !(outcome.failed || outcome.missing || outcome.refused.is_some());
    match asked {
        CallLine::Message { .. } => match &outcome.refused {
            Some(reason) => format!("{{ false, {} }}", lua_string(reason)),
            None => format!("{{ {is_served} }}"),
        },
        CallLine::Admin { .. } => match (&outcome.answer, &outcome.refused) {
            (Some(answer), _) if !answer.is_null() => format!("{{ {} }}", lua(answer)),
            (_, Some(reason)) => format!("{{ nil, {} }}", lua_string(reason)),
            _ if outcome.missing => "{ nil, \"the room's script has no on_admin\" }".to_owned(),
            _ if outcome.failed => "{ nil, \"the script failed\" }".to_owned(),
            _ => "{}".to_owned(),
        },
        _ => verdict_of(outcome),
    }
}

/// The answers of HTTP by the request, each with how long it took.
pub(super) fn answers_of(recording: &Recording) -> BTreeMap<String, Vec<Value>> {
    let mut replies = BTreeMap::new();
    for (_, line) in &recording.lines {
        if let Line::Reply { t, wait, reply } = line {
            replies.insert(*wait, (*t, reply));
        }
    }
    let mut answers = BTreeMap::<_, Vec<_>>::new();
    for (_, line) in &recording.lines {
        let Line::Step(step) = line else { continue };
        let Some((wait, asked)) = &step.waits else { continue };
        let Some(url) = asked["http"].as_str() else { continue };
        let request = format!("{} {url}", asked["method"].as_str().unwrap_or_default());
        let answer = match replies.get(wait) {
            Some((t, reply)) => answer_of(reply, t.saturating_sub(step.t) as f64 / 1e6),
            // Whoever asked had left before, or the recording ended.
            None => json!({ "delay": NEVER_MS }),
        };
        answers.entry(request).or_default().push(answer);
    }
    answers
}

fn answer_of(reply: &Value, delay: f64) -> Value {
    if let Some(error) = reply["http_error"].as_str() {
        return json!({ "error": error });
    }
    let headers = reply["headers"].as_array().into_iter().flatten();
    let headers: Map<_, _> = headers.filter_map(|pair| Some((pair[0].as_str()?.to_owned(), pair[1].clone()))).collect();
    json!({ "status": reply["status"], "headers": headers, "body": reply["body"].as_str().unwrap_or_default(),
        "delay": delay })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_written_as_lua_that_is_the_same_value() {
        let state = mlua::Lua::new();
        for value in [
            json!(null),
            json!(-1.5e300),
            json!("a\"b\\c\nd\u{0}1\u{7f} ü]]"),
            json!({ "end": 1, "a b": [1, [], {}, null], "_x9": { "": true } }),
        ] {
            let text = lua(&value).replace("test.json.decode(\"[]\")", "{}").replace("test.null", "NULL");
            state.globals().set("NULL", mlua::Value::NULL).unwrap();
            let made: mlua::Value = state.load(format!("return {text}")).eval().unwrap();
            let limits = crate::plain::Limits { bytes: 9_999, depth: 9, values: 99 };
            let back = crate::plain::to_json(&made, limits, &mut || false).unwrap();
            let expected = value.to_string().replace("[]", "{}");
            assert_eq!(back, serde_json::from_str::<Value>(&expected).unwrap(), "{text}");
        }
    }
}
