//! What a test gives to the harness, read as a shard's world has it. A name or a word that nothing here knows is an
//! error that says what there is: it would do nothing, and the test would pass for another reason than it says.

use std::time::Duration;

use mlua::{Table, Value};
use serde_json::{Value as Json, json};

use crate::api::rights::RIGHTS;
use crate::client::{Connection, Via};
use crate::hook::{Action, PathFigures};
use crate::output::HttpReply;
use crate::tape::words::action_of;
use crate::tools::nearest::nearest;
use moonring_wire::id::{ClientId, TrackId};
use moonring_wire::media::{CodecName, Kind, Source, TrackInfo};

/// What a function of the bridge answers; an error is for whoever wrote the test.
pub(super) type BridgeResult<R> = Result<R, String>;

/// Who takes options, and which; `docs/policy.md` lists the same.
pub const OPTIONS: &[(&str, &[&str])] = &[
    ("test.room", &["id", "metadata"]),
    ("script", &["name", "source"]),
    ("room:connect", &["id", "token", "ip", "metadata", "kind", "origin", "user_agent", "headers"]),
    ("room:http", &["delay"]),
    ("reply", &["status", "headers", "body", "delay"]),
    ("room:reload", &["drop_state"]),
    ("client:publish", &["kind", "source", "quality", "codec", "id", "simulcast", "muted"]),
    ("client:traffic", &["bytes_in", "bytes_out", "packets_in", "packets_out", "path"]),
    ("path", &["estimate", "target", "paused", "rtt", "loss", "resends"]),
];

/// What operators do, and what else the table of `room:operator` has then.
const OPERATIONS: &[(&str, &[&str])] = &[
    ("set_attributes", &["client"]),
    ("set_rights", &["client", "reason"]),
    ("mute", &["client"]),
    ("unmute", &["client"]),
    ("kick", &["reason"]),
    ("broadcast", &["except"]),
    ("send", &["to"]),
    ("close", &[]),
];

/// Says which name in a table of options is none of those that `of` takes.
pub(super) fn check_options(of: &str, options: &Value, shown: &str) -> BridgeResult<()> {
    let known = OPTIONS.iter().find(|(name, _)| *name == of).map(|(_, known)| *known).unwrap_or_default();
    let Value::Table(table) = options else {
        return Err(format!("{of} takes a table, {{ {} = }}, not {shown}", known.join(" =, ")));
    };
    let mut wrong = Vec::new();
    table
        .for_each(|key: Value, _: Value| {
            match &key {
                Value::String(name) if known.iter().any(|known| *name == **known) => {}
                Value::String(name) => wrong.push(name.to_string_lossy()),
                other => wrong.push(other.to_string().unwrap_or_default()),
            }
            Ok(())
        })
        .map_err(crate::api::refused)?;
    wrong.sort();
    wrong.first().map_or(Ok(()), |name| Err(unknown(&format!("{of} has no option"), name, known)))
}

/// That there is no such name, which one is meant, and which there are.
pub(super) fn unknown(what: &str, name: &str, known: &[&str]) -> String {
    let meant = nearest(name, known.iter().copied());
    let meant = meant.map_or_else(String::new, |known| format!(": did you mean '{known}'?"));
    format!("{what} '{name}'{meant} (there is {})", known.join(", "))
}

/// The word of an option, which is one of a few.
fn word_of<T: Copy>(option: &str, word: &str, all: &[(&'static str, T)]) -> BridgeResult<T> {
    let known = all.iter().find(|(known, _)| *known == word).map(|(_, value)| *value);
    known.ok_or_else(|| unknown(&format!("{option}:"), word, &all.iter().map(|(word, _)| *word).collect::<Vec<_>>()))
}

fn text(json: &Json, name: &str) -> BridgeResult<Option<String>> {
    match &json[name] {
        Json::Null => Ok(None),
        Json::String(text) => Ok(Some(text.clone())),
        other => Err(format!("{name} is a text, not {other}")),
    }
}

/// `{ ip =, kind =, origin =, user_agent =, headers = }`.
pub(super) fn connection_of(json: &Json) -> BridgeResult<Connection> {
    let (ip, kind) = (text(json, "ip")?.unwrap_or_default(), text(json, "kind")?);
    let kinds = Via::ALL.map(|via| (via.as_str(), via));
    let headers = json["headers"].as_object().into_iter().flatten();
    let header = |(name, value): (&String, &Json)| match value {
        Json::String(text) => Ok((name.to_ascii_lowercase(), text.clone())),
        other => Err(format!("the header '{name}' is a text, not {other}")),
    };
    Ok(Connection {
        ip: ip.parse().map_err(|_| format!("'{ip}' is not an IP address"))?,
        via: word_of("kind", kind.as_deref().unwrap_or("websocket"), &kinds)?,
        origin: text(json, "origin")?,
        user_agent: text(json, "user_agent")?,
        headers: headers.map(header).collect::<Result<_, _>>()?,
    })
}

/// `{ id =, kind =, source =, codec =, quality = or simulcast = }`.
pub(super) fn track_of(client: &str, track: &Json) -> BridgeResult<TrackInfo> {
    let word = |name: &str, default: &str| text(track, name).map(|text| text.unwrap_or_else(|| default.to_owned()));
    let kind = word_of("kind", &word("kind", "audio")?, &[("audio", Kind::Audio), ("video", Kind::Video)])?;
    let (source, codec) = if kind == Kind::Audio { ("microphone", "opus") } else { ("camera", "VP8") };
    let (source, codec) = (word("source", source)?, word("codec", codec)?);
    let layers = match (text(track, "quality")?, kind) {
        (Some(quality), Kind::Video) => word_of("quality", &quality, &[("sd", 1), ("hd", 2), ("fhd", 3)])?,
        (Some(quality), Kind::Audio) => word_of("quality", &quality, &[("audio", 1)])?,
        (None, _) => track["simulcast"].as_u64().unwrap_or(1).min(3) as u8,
    };
    Ok(TrackInfo {
        id: TrackId::parse(&word("id", "")?).map_err(|error| format!("the track id {error}"))?,
        client: ClientId::parse(client).map_err(|error| format!("the client id {error}"))?,
        kind,
        source: word_of("source", &source, &Source::ALL.map(|source| (source.as_str(), source)))?,
        codec: CodecName::from_sdp(&codec).ok_or_else(|| format!("'{codec}' is not a codec"))?,
        layers,
        temporal_layers: 1,
        muted: track["muted"] == json!(true),
    })
}

/// What an operator does, in the words of a recording.
pub(super) fn operation_of(mut json: Json) -> BridgeResult<Action> {
    let names: Vec<_> = json.as_object().into_iter().flatten().map(|(name, _)| name.clone()).collect();
    let operation = OPERATIONS.iter().find(|(operation, _)| names.iter().any(|name| name == operation));
    let Some((operation, others)) = operation else {
        let known: Vec<_> = OPERATIONS.iter().map(|(operation, _)| *operation).collect();
        let name = names.iter().find(|name| nearest(name, known.iter().copied()).is_some()).or(names.first());
        return Err(unknown("room:operator: operators do no", name.map_or("nothing", String::as_str), &known));
    };
    let is_known = |name: &&String| name == operation || others.contains(&name.as_str());
    if let Some(name) = names.iter().find(|name| !is_known(name)) {
        return Err(unknown(&format!("room:operator: {operation} has no"), name, others));
    }
    text(&json, "reason")?;
    if *operation == "set_rights" {
        check_rights(&mut json["set_rights"])?;
    }
    action_of(&json).ok_or_else(|| format!("{json} is nothing that an operator does"))
}

/// Checks the names and the values of rights. To Lua an empty list of sources is an empty table.
fn check_rights(rights: &mut Json) -> BridgeResult<()> {
    let Json::Object(rights) = rights else { return Err(format!("set_rights is a table, not {rights}")) };
    for (name, value) in rights {
        match (name.as_str(), &*value) {
            ("publish", Json::Object(none)) if none.is_empty() => *value = json!([]),
            ("publish", Json::Array(_)) | ("subscribe" | "message", Json::Bool(_)) => {}
            ("publish" | "subscribe" | "message", Json::Null) => {}
            ("publish", other) => return Err(format!("set_rights: publish is a list of sources, not {other}")),
            ("subscribe" | "message", other) => {
                return Err(format!("set_rights: {name} is true or false, not {other}"));
            }
            _ => return Err(unknown("set_rights has no right", name, RIGHTS)),
        }
    }
    Ok(())
}

/// `{ status =, headers =, body = }`.
pub(super) fn http_reply(reply: &Table) -> mlua::Result<HttpReply> {
    let mut headers = Vec::new();
    if let Some(table) = reply.raw_get::<Option<Table>>("headers")? {
        for pair in table.pairs::<String, String>() {
            let (name, value) = pair?;
            headers.push((name.to_ascii_lowercase(), value));
        }
    }
    let body: Option<mlua::LuaString> = reply.raw_get("body")?;
    let body = body.map(|body| body.as_bytes().to_vec()).unwrap_or_default();
    Ok(HttpReply { status: reply.raw_get::<Option<u16>>("status")?.unwrap_or(200), headers, body })
}

/// The path to a client, as `client:stats().path` tells of it.
pub(super) fn figures(table: &Table) -> mlua::Result<PathFigures> {
    let milliseconds: Option<f64> = table.raw_get("rtt")?;
    let rtt =
        milliseconds.map(|ms| Duration::try_from_secs_f64(ms / 1000.0)).transpose().map_err(mlua::Error::external)?;
    Ok(PathFigures {
        estimate_bps: table.raw_get("estimate")?,
        target_bps: table.raw_get("target")?,
        paused: table.raw_get::<Option<usize>>("paused")?.unwrap_or_default(),
        rtt,
        loss: table.raw_get::<Option<f32>>("loss")?.unwrap_or_default(),
        resends: table.raw_get::<Option<u64>>("resends")?.unwrap_or_default(),
    })
}
