//! Calls of hooks as Lua sees them, and what hooks return as outcomes.

use std::rc::Rc;
use std::time::Duration;

use mlua::{IntoLuaMulti, Lua, Value};

use super::admission::Refusal;
use super::api::log::truncated;
use super::api::value_from_json;
use super::budget::Spent;
use super::hook::{
    Action, ClientFacts, DENIED, HookCall, NOT_DEFINED, Outcome, Presence, SCRIPT_ERROR, Undecided, Verdict,
};
use super::hook_table::WhenMissing;
use super::plain::{Limits, PlainError, to_json};
use super::settings::{MAX_REASON_BYTES, MAX_VALUE_BYTES, MAX_VALUE_DEPTH};
use super::state::{End, State};
use moonring_wire::media::TrackInfo;

/// Runs the hook of a call; to the prelude clients are numbers.
pub(crate) fn start(call: &HookCall, state: &State, budget: Duration) -> (End, Spent) {
    let (hook, host) = (call.hook(), &state.host);
    let number = |client: &Rc<ClientFacts>| host.clients.borrow_mut().number(client);
    match call {
        HookCall::ClientConnect { client, auth_token: text } | HookCall::ClientDisconnect { client, reason: text } => {
            state.start_hook(hook, |lua| Ok((number(client), lua.create_string(text)?)), budget)
        }
        HookCall::PublishRequest { client, track }
        | HookCall::TrackPublished { client, track }
        | HookCall::TrackUnpublished { client, track }
        | HookCall::SubscribeRequest { client, track } => {
            state.start_hook(hook, |lua| Ok((number(client), fields(lua, track)?)), budget)
        }
        HookCall::Message { client, message } => {
            state.start_hook(hook, |lua| Ok((number(client), value_from_json(lua, message)?)), budget)
        }
        HookCall::Admin { request } => state.start_hook(hook, |lua| value_from_json(lua, request), budget),
        HookCall::Close { reason } => state.start_hook(hook, |lua| lua.create_string(reason.as_str()), budget),
        HookCall::ActiveSpeakers { clients } => {
            // Who has left while this was queued is forgotten, and none of them any more.
            let here = clients.iter().filter(|client| client.presence.get() != Presence::Gone);
            state.start_hook(hook, |lua| lua.create_sequence_from(here.map(number)), budget)
        }
    }
}

/// A track as the prelude's `track` takes it: quicker than a table made field by field from here.
fn fields(lua: &Lua, track: &TrackInfo) -> mlua::Result<impl IntoLuaMulti + use<>> {
    let text = |text: &str| lua.create_string(text);
    let (id, owner, kind) = (text(track.id.as_str())?, text(track.client.as_str())?, text(track.kind.as_str())?);
    let (source, quality, codec) = (text(track.source.as_str())?, text(track.quality())?, text(track.codec.as_sdp())?);
    Ok((id, owner, kind, source, quality, track.layers, codec, track.muted))
}

/// The outcome of a hook that has returned. A hook that does not decide always allows.
pub(crate) fn decided(call: &HookCall, allows: bool, reason: &Value, actions: Vec<Action>) -> Outcome {
    let verdict = if allows || !call.decides() { Verdict::Allow } else { Verdict::Reject(reason_text(reason)) };
    Outcome { verdict, actions, failed: false, missing: false, refused: None, answer: None }
}

fn reason_text(reason: &Value) -> String {
    match reason {
        Value::String(text) => truncated(&text.to_string_lossy(), MAX_REASON_BYTES).to_owned(),
        _ => DENIED.to_owned(),
    }
}

/// The outcome of a call for which the script has no hook.
pub(crate) fn missing(call: &HookCall) -> Outcome {
    let verdict = match call.spec().when_missing {
        WhenMissing::Reject => Verdict::Reject(NOT_DEFINED.to_owned()),
        WhenMissing::Allow | WhenMissing::Ignore => Verdict::Allow,
    };
    Outcome { verdict, actions: Vec::new(), failed: false, missing: true, refused: None, answer: None }
}

/// The outcome of a call whose hook failed, or could not run.
pub(crate) fn failed(call: &HookCall) -> Outcome {
    let verdict =
        if call.decides() { Verdict::Undecided(Undecided::Failed, SCRIPT_ERROR.to_owned()) } else { Verdict::Allow };
    Outcome { verdict, actions: Vec::new(), failed: true, missing: false, refused: None, answer: None }
}

/// The outcome of a call whose client has left before it was decided.
pub(crate) fn left(call: &HookCall) -> Outcome {
    let verdict = if call.decides() { Verdict::Reject("The client has left".to_owned()) } else { Verdict::Allow };
    Outcome { verdict, actions: Vec::new(), failed: false, missing: false, refused: None, answer: None }
}

/// The outcome of a call that tells of what is not so any more.
pub(crate) fn overtaken(call: &HookCall) -> Outcome {
    debug_assert!(!call.decides());
    Outcome { missing: false, ..missing(call) }
}

/// The outcome of a call that has not been brought before the script, or whose hook has been cut off.
pub(crate) fn refused(call: &HookCall, refusal: &Refusal) -> Outcome {
    let reason = refusal.to_string();
    let verdict = match refusal.why_undecided() {
        _ if !call.decides() => Verdict::Allow,
        Some(why) => Verdict::Undecided(why, reason.clone()),
        None => Verdict::Reject(reason.clone()),
    };
    Outcome { verdict, actions: Vec::new(), failed: false, missing: false, refused: Some(reason), answer: None }
}

/// The outcome of a call whose hook a reload has ended.
pub(crate) fn cut_off(call: &HookCall) -> Outcome {
    refused(call, &Refusal::CutOff)
}

/// What `on_admin` has returned, as JSON.
pub(crate) fn answer_json(returned: &Value) -> Result<serde_json::Value, PlainError> {
    let limits = Limits { bytes: MAX_VALUE_BYTES, depth: MAX_VALUE_DEPTH, values: MAX_VALUE_BYTES };
    to_json(returned, limits, &mut || false)
}
