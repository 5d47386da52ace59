//! Events as Lua sees them, and what Lua says as outcomes.

use std::rc::Rc;

use mlua::{IntoLuaMulti, Lua, MultiValue, Value};

use super::api::log::truncated;
use super::api::value_from_json;
use super::hook::{Action, ClientFacts, DENIED, HookCall, NOT_DEFINED, Outcome, SCRIPT_ERROR, Verdict};
use super::host::Host;
use super::settings::MAX_WORDS_BYTES;
use crate::media::TrackInfo;

/// The arguments of a call's hook; clients as numbers.
pub(crate) fn args(call: &HookCall, lua: &Lua, host: &Host) -> mlua::Result<MultiValue> {
    let number = |client: &Rc<ClientFacts>| host.clients.borrow_mut().number(client);
    let with_text = |client: &Rc<ClientFacts>, text: &str| (number(client), text).into_lua_multi(lua);
    let with_track = |client: &Rc<ClientFacts>, track: &TrackInfo| {
        // The prelude makes the table: quicker than field by field from here.
        let (id, owner) = (track.id.as_str(), track.client.as_str());
        let (kind, source, quality) = (track.kind.as_str(), track.source.as_str(), track.quality());
        let (layers, codec, muted) = (track.layers, track.codec.as_sdp(), track.muted);
        (number(client), id, owner, kind, source, quality, layers, codec, muted).into_lua_multi(lua)
    };
    match call {
        HookCall::ClientConnect { client, auth_token } => with_text(client, auth_token),
        HookCall::ClientDisconnect { client, reason } => with_text(client, reason),
        HookCall::PublishRequest { client, track }
        | HookCall::TrackPublished { client, track }
        | HookCall::TrackUnpublished { client, track }
        | HookCall::SubscribeRequest { client, track } => with_track(client, track),
        HookCall::Message { client, message } => (number(client), value_from_json(lua, message)?).into_lua_multi(lua),
        HookCall::ActiveSpeakers { clients } => {
            let list = lua.create_sequence_from(clients.iter().map(number))?;
            list.into_lua_multi(lua)
        }
    }
}

/// True when the hook of the call says yes or no.
pub(crate) fn decides(call: &HookCall) -> bool {
    matches!(call, HookCall::ClientConnect { .. } | HookCall::PublishRequest { .. } | HookCall::SubscribeRequest { .. })
}

/// What a hook's two values say. Only the boolean `true` allows.
pub(crate) fn decided(call: &HookCall, verdict: &Value, reason: &Value, actions: Vec<Action>) -> Outcome {
    let allowed = !decides(call) || matches!(verdict, Value::Boolean(true));
    let verdict = if allowed { Verdict::Allow } else { Verdict::Reject(words_of(reason)) };
    Outcome { verdict, actions, failed: false, missing: false }
}

fn words_of(reason: &Value) -> String {
    match reason {
        Value::String(text) => truncated(&text.to_string_lossy(), MAX_WORDS_BYTES).to_owned(),
        _ => DENIED.to_owned(),
    }
}

/// The outcome of a call for which the script has no hook.
pub(crate) fn missing(call: &HookCall) -> Outcome {
    let verdict = match call {
        HookCall::ClientConnect { .. } | HookCall::PublishRequest { .. } => Verdict::Reject(NOT_DEFINED.to_owned()),
        _ => Verdict::Allow,
    };
    Outcome { verdict, actions: Vec::new(), failed: false, missing: true }
}

/// The outcome of a call whose hook failed, or could not run.
pub(crate) fn failed(call: &HookCall) -> Outcome {
    let verdict = if decides(call) { Verdict::Reject(SCRIPT_ERROR.to_owned()) } else { Verdict::Allow };
    Outcome { verdict, actions: Vec::new(), failed: true, missing: false }
}

/// The outcome of a call that came to nothing as its client left.
pub(crate) fn left(call: &HookCall) -> Outcome {
    let verdict = if decides(call) { Verdict::Reject("The client has left".to_owned()) } else { Verdict::Allow };
    Outcome { verdict, actions: Vec::new(), failed: false, missing: false }
}
