//! Actions, requests and replies as JSON.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::client::RightsChange;
use crate::hook::{Action, Outcome, Verdict};
use crate::host::WaitFor;
use crate::output::{HttpReply, PolicyReply, PolicyRequest, SharedRequest, SharedValue, StoreSpace};

use super::line::OutcomeLine;
use moonring_wire::id::{ClientId, TrackId};

/// An action, under the name of its function.
pub(crate) fn action(action: &Action) -> Value {
    match action {
        Action::Kick { client, reason } => json!({ "kick": client, "reason": reason }),
        Action::Send { client, value } => json!({ "send": value, "to": client }),
        Action::Broadcast { value, except: None } => json!({ "broadcast": value }),
        Action::Broadcast { value, except: Some(client) } => json!({ "broadcast": value, "except": client }),
        Action::SetMaxBitrate { client, bps } => json!({ "set_max_bitrate": bps, "client": client }),
        Action::SetMaxLayer { client, track, layer } => {
            json!({ "set_max_layer": layer, "client": client, "track": track })
        }
        Action::SetPriority { client, track, priority } => {
            json!({ "set_priority": priority, "client": client, "track": track })
        }
        Action::SetMuted { client, track, muted: true } => json!({ "mute": track, "client": client }),
        Action::SetMuted { client, track, muted: false } => json!({ "unmute": track, "client": client }),
        Action::SetAttributes { client, attributes } => json!({ "set_attributes": attributes, "client": client }),
        Action::SetRights { client, change: RightsChange { publish, subscribe, message }, reason } => {
            let rights = json!({ "publish": publish, "subscribe": subscribe, "message": message });
            json!({ "set_rights": rights, "client": client, "reason": reason })
        }
        Action::SetHidden { client, hidden } => json!({ "set_hidden": hidden, "client": client }),
        Action::Unpublish { client, track, reason } => {
            json!({ "unpublish": track, "client": client, "reason": reason })
        }
        Action::Unsubscribe { client, track, reason } => {
            json!({ "unsubscribe": track, "client": client, "reason": reason })
        }
        Action::Announce { who } => json!({ "announce": who.as_str() }),
        Action::SetAudioLastN { n } => json!({ "set_audio_last_n": n }),
        Action::CloseRoom { reason } => json!({ "close": reason }),
        Action::Webhook { event, data } => json!({ "webhook": event, "data": data }),
    }
}

/// The action that [`action`] has written, if it is one that operators have.
pub(crate) fn action_of(json: &Value) -> Option<Action> {
    let text = |name: &str| json[name].as_str().map(str::to_owned);
    let reason = || text("reason").unwrap_or_else(|| "By the operator".to_owned());
    let client_in = |name: &str| ClientId::parse(json[name].as_str()?).ok();
    if let Some(reason) = text("close") {
        return Some(Action::CloseRoom { reason });
    }
    if let Some(client) = client_in("kick") {
        return Some(Action::Kick { client, reason: reason() });
    }
    if let Some(value) = json.get("broadcast") {
        return Some(Action::Broadcast { value: value.clone(), except: client_in("except") });
    }
    if let Some(value) = json.get("send") {
        return Some(Action::Send { client: client_in("to")?, value: value.clone() });
    }
    let client = client_in("client")?;
    if let Some(attributes) = json.get("set_attributes") {
        return Some(Action::SetAttributes { client, attributes: attributes.clone() });
    }
    if let Some(rights) = json.get("set_rights") {
        let publish = serde_json::from_value(rights["publish"].clone()).ok()?;
        let change =
            RightsChange { publish, subscribe: rights["subscribe"].as_bool(), message: rights["message"].as_bool() };
        return Some(Action::SetRights { client, change, reason: reason() });
    }
    let (track, muted) = match text("mute") {
        Some(track) => (track, true),
        None => (text("unmute")?, false),
    };
    Some(Action::SetMuted { client, track: TrackId::parse(&track).ok()?, muted })
}

/// An outcome.
pub(crate) fn outcome(outcome: &Outcome) -> OutcomeLine {
    OutcomeLine {
        allowed: outcome.verdict == Verdict::Allow,
        reason: outcome.verdict.reason().map(str::to_owned),
        failed: outcome.failed,
        missing: outcome.missing,
        refused: outcome.refused.clone(),
        answer: outcome.answer.clone(),
        actions: outcome.actions.iter().map(action).collect(),
    }
}

/// What a hook waits for.
pub(crate) fn wait(wait: &WaitFor) -> Value {
    match wait {
        WaitFor::Time(time) => json!({ "sleep": time.as_secs_f64() * 1000.0 }),
        WaitFor::Reply(asked) | WaitFor::Shared(asked) => request(asked),
    }
}

/// A request.
pub(crate) fn request(request: &PolicyRequest) -> Value {
    match request {
        PolicyRequest::Http(http) => json!({ "http": http.url, "method": http.method, "headers": http.headers,
            "body": bytes(&http.body), "timeout_ms": http.timeout.as_millis() as u64 }),
        PolicyRequest::Shared(request) => shared("shared", request),
        PolicyRequest::Store(StoreSpace::Room { .. }, request) => shared("store", request),
        PolicyRequest::Store(StoreSpace::Global, request) => shared("store.global", request),
    }
}

fn shared(store: &str, request: &SharedRequest) -> Value {
    let seconds = |ttl: &Option<std::time::Duration>| ttl.map(|ttl| ttl.as_secs_f64());
    let value = |value: &Option<SharedValue>| value.as_ref().map(scalar);
    let (name, mut json) = match request {
        SharedRequest::Get { .. } => ("get", json!({})),
        SharedRequest::Delete { .. } => ("delete", json!({})),
        SharedRequest::Set { value, ttl, .. } => ("set", json!({ "value": scalar(value), "ttl": seconds(ttl) })),
        SharedRequest::Incr { by, ttl, .. } => ("incr", json!({ "by": by, "ttl": seconds(ttl) })),
        SharedRequest::CompareAndSet { expected, value: wanted, .. } => {
            ("compare_and_set", json!({ "expected": value(expected), "value": value(wanted) }))
        }
    };
    json["key"] = request.key().into();
    json!({ store: name, "of": json })
}

/// A reply.
pub(crate) fn reply(reply: &PolicyReply) -> Value {
    match reply {
        PolicyReply::Http(Ok(http)) => {
            json!({ "status": http.status, "headers": http.headers, "body": bytes(&http.body) })
        }
        PolicyReply::Http(Err(error)) => json!({ "http_error": error }),
        PolicyReply::Shared(Ok(value)) => json!({ "value": value.as_ref().map(scalar) }),
        PolicyReply::Shared(Err(error)) => json!({ "error": error }),
    }
}

/// The reply that [`reply`] has written.
pub(crate) fn reply_of(json: &Value) -> Option<PolicyReply> {
    let text = |name: &str| json[name].as_str().map(str::to_owned);
    if let Some(error) = text("http_error") {
        return Some(PolicyReply::Http(Err(error)));
    }
    if let Some(error) = text("error") {
        return Some(PolicyReply::Shared(Err(error)));
    }
    if let Some(value) = json.get("value") {
        let value = if value.is_null() { None } else { Some(scalar_of(value)?) };
        return Some(PolicyReply::Shared(Ok(value)));
    }
    let headers = serde_json::from_value(json["headers"].clone()).ok()?;
    let status = u16::try_from(json["status"].as_u64()?).ok()?;
    Some(PolicyReply::Http(Ok(HttpReply { status, headers, body: bytes_of(&json["body"])? })))
}

fn scalar(value: &SharedValue) -> Value {
    match value {
        SharedValue::Number(number) => json!(number),
        SharedValue::Flag(flag) => json!(flag),
        SharedValue::Text(text) => bytes(text),
    }
}

fn scalar_of(json: &Value) -> Option<SharedValue> {
    match json {
        Value::Bool(flag) => Some(SharedValue::Flag(*flag)),
        Value::Number(number) => number.as_f64().map(SharedValue::Number),
        other => bytes_of(other).map(SharedValue::Text),
    }
}

/// Bytes: as text when they are text, else in base64.
pub(super) fn bytes(bytes: &[u8]) -> Value {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.into(),
        Err(_) => json!({ "base64": STANDARD.encode(bytes) }),
    }
}

pub(crate) fn bytes_of(json: &Value) -> Option<Vec<u8>> {
    match json {
        Value::String(text) => Some(text.clone().into_bytes()),
        other => STANDARD.decode(other["base64"].as_str()?).ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use moonring_wire::rights::Sources;

    #[test]
    fn what_an_operator_does_is_read_as_it_was_written() {
        let client = || ClientId::parse("ada").unwrap();
        let track = || TrackId::parse("t-1").unwrap();
        let reason = || "Enough".to_owned();
        let rights = |change| Action::SetRights { client: client(), change, reason: reason() };
        for written in [
            Action::SetAttributes { client: client(), attributes: json!({ "role": "host", "n": [1] }) },
            rights(RightsChange { publish: Some(Sources::NONE), subscribe: Some(false), message: None }),
            rights(RightsChange { publish: None, subscribe: None, message: Some(true) }),
            Action::SetMuted { client: client(), track: track(), muted: true },
            Action::SetMuted { client: client(), track: track(), muted: false },
            Action::Kick { client: client(), reason: reason() },
            Action::CloseRoom { reason: reason() },
            Action::Send { client: client(), value: json!(null) },
            Action::Broadcast { value: json!({ "kick": "x" }), except: None },
            Action::Broadcast { value: json!(1), except: Some(client()) },
        ] {
            let text = action(&written).to_string();
            assert_eq!(action_of(&serde_json::from_str(&text).unwrap()), Some(written), "{text}");
        }
        for bad in [
            json!(null),
            json!({ "client": "ada" }),
            json!({ "client": 7, "mute": "t-1" }),
            json!({ "send": 1, "to": "" }),
            json!({ "set_rights": { "publish": "all" }, "client": "ada" }),
        ] {
            assert_eq!(action_of(&bad), None, "{bad}");
        }
    }

    #[test]
    fn a_reply_is_read_as_it_was_written() {
        let http = |body: &[u8]| HttpReply {
            status: 404,
            headers: vec![("a".into(), "1".into()), ("a".into(), "2".into())],
            body: body.to_vec(),
        };
        for written in [
            PolicyReply::Http(Ok(http(b"text"))),
            PolicyReply::Http(Ok(http(b"\xff\x00"))),
            PolicyReply::Http(Err("no route".into())),
            PolicyReply::Shared(Ok(None)),
            PolicyReply::Shared(Ok(Some(SharedValue::Number(0.1 + 0.2)))),
            PolicyReply::Shared(Ok(Some(SharedValue::Flag(false)))),
            PolicyReply::Shared(Ok(Some(SharedValue::Text(b"\xff".to_vec())))),
            PolicyReply::Shared(Err("full".into())),
        ] {
            let text = reply(&written).to_string();
            assert_eq!(reply_of(&serde_json::from_str(&text).unwrap()), Some(written), "{text}");
        }
        for bad in
            [json!(null), json!(7), json!({ "status": 99_999, "headers": [], "body": "" }), json!({ "value": [] })]
        {
            assert_eq!(reply_of(&bad), None, "{bad}");
        }
    }
}
