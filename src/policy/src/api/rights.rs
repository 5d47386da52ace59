//! `client:...`: who a client is, what it may do, and what others hear of it.

use mlua::{Lua, Table, Value};
use serde_json::Value as Json;

use super::args::{Arg, arg};
use super::client::{Done, LEFT, act, this_client};
use super::json::{from_json, size_of_json};
use super::{Functions, HostResult, refused};
use crate::budget::should_stop;
use crate::client::{Connection, Presence, RightsChange};
use crate::hook::{Action, ENDED, RIGHTS_CHANGED};
use crate::hook_table::Hook;
use crate::plain::{self, Limits};
use crate::settings::{
    MAX_ATTRIBUTES_BYTES, MAX_IDENTITY_BYTES, MAX_METADATA_DEPTH, MAX_METADATA_VALUES, MAX_REASON_BYTES,
};
use moonring_wire::media::Source;
use moonring_wire::rights::{Rights, Sources};

/// The fields of `client:set_rights`.
pub(crate) const RIGHTS: &[&str] = &["publish", "subscribe", "message"];
/// What attributes may be.
const ATTRIBUTES: Limits =
    Limits { bytes: MAX_ATTRIBUTES_BYTES, depth: MAX_METADATA_DEPTH, values: MAX_METADATA_VALUES };

pub(super) fn register(functions: &mut Functions) {
    getters(functions);
    functions.add("client:set_identity", |_, host, (this, identity): (Value, Value)| {
        let client = this_client(host, "client:set_identity", &this)?;
        let identity = arg("client:set_identity", "identity", &identity);
        let text = identity.text(MAX_IDENTITY_BYTES)?;
        if text.is_empty() || text.chars().any(char::is_control) {
            return Err(identity.bad("one character at least, and no control characters"));
        }
        match client.presence.get() {
            Presence::Gone => return Ok::<Done, _>((false, Some(LEFT))),
            Presence::Pending if host.hook.get() == Hook::ClientConnect.spec().name => {}
            _ => return Err("client:set_identity can be called in on_client_connect only".to_owned()),
        }
        match client.identity.get_or_init(|| text.clone()) == &text {
            true => Ok((true, None)),
            false => Err("client:set_identity has been called with another identity before".to_owned()),
        }
    });
    functions.add("client:set_attributes", |_, host, (this, attributes): (Value, Value)| {
        let client = this_client(host, "client:set_attributes", &this)?;
        let attributes = attributes_of(arg("client:set_attributes", "attributes", &attributes))?;
        let bytes = size_of_json(&attributes);
        act(host, client, bytes, |client| Action::SetAttributes { client, attributes })
    });
    functions.add("client:set_rights", |_, host, (this, rights, reason): (Value, Value, Value)| {
        let client = this_client(host, "client:set_rights", &this)?;
        let change = change_of(arg("client:set_rights", "rights", &rights))?;
        let reason = reason_of(arg("client:set_rights", "reason", &reason), RIGHTS_CHANGED)?;
        act(host, client, 0, |client| Action::SetRights { client, change, reason })
    });
    functions.add("client:set_hidden", |_, host, (this, hidden): (Value, Value)| {
        let client = this_client(host, "client:set_hidden", &this)?;
        let hidden = arg("client:set_hidden", "hidden", &hidden).boolean()?;
        let is_seen = matches!(client.presence.get(), Presence::Admitted | Presence::Joined) && !client.is_hidden.get();
        if hidden && is_seen {
            return Err("client:set_hidden can hide a client in on_client_connect only".to_owned());
        }
        act(host, client, 0, |client| Action::SetHidden { client, hidden })
    });
    functions.add("client:unpublish", |_, host, (this, track, reason): (Value, Value, Value)| {
        let client = this_client(host, "client:unpublish", &this)?;
        let track = arg("client:unpublish", "track", &track).track()?;
        let reason = reason_of(arg("client:unpublish", "reason", &reason), ENDED)?;
        act(host, client, 0, |client| Action::Unpublish { client, track, reason })
    });
    functions.add("client:unsubscribe", |_, host, (this, track, reason): (Value, Value, Value)| {
        let client = this_client(host, "client:unsubscribe", &this)?;
        let track = arg("client:unsubscribe", "track", &track).track()?;
        let reason = reason_of(arg("client:unsubscribe", "reason", &reason), ENDED)?;
        act(host, client, 0, |client| Action::Unsubscribe { client, track, reason })
    });
}

fn getters(functions: &mut Functions) {
    functions.add("client:identity", |_, host, this: Value| {
        Ok(this_client(host, "client:identity", &this)?.identity().to_owned())
    });
    functions.add("client:attributes", |lua, host, this: Value| {
        let client = this_client(host, "client:attributes", &this)?;
        let attributes = client.attributes.borrow().clone();
        from_json(lua, &attributes)
    });
    functions.add("client:rights", |lua, host, this: Value| {
        rights_table(lua, this_client(host, "client:rights", &this)?.rights.get()).map_err(refused)
    });
    functions.add("client:is_hidden", |_, host, this: Value| {
        Ok(this_client(host, "client:is_hidden", &this)?.is_hidden.get())
    });
    functions.add("client:connection", |lua, host, this: Value| {
        connection_table(lua, &this_client(host, "client:connection", &this)?.connection).map_err(refused)
    });
}

fn connection_table(lua: &Lua, connection: &Connection) -> mlua::Result<Table> {
    let headers = lua.create_table_with_capacity(0, connection.headers.len())?;
    for (name, value) in &connection.headers {
        headers.raw_set(name.as_str(), value.as_str())?;
    }
    let table = lua.create_table_with_capacity(0, 5)?;
    table.raw_set("kind", connection.via.as_str())?;
    table.raw_set("ip", connection.ip.to_string())?;
    table.raw_set("origin", connection.origin.as_deref())?;
    table.raw_set("user_agent", connection.user_agent.as_deref())?;
    table.raw_set("headers", headers)?;
    Ok(table)
}

fn rights_table(lua: &Lua, rights: Rights) -> mlua::Result<Table> {
    let table = lua.create_table_with_capacity(0, RIGHTS.len())?;
    table.raw_set("publish", lua.create_sequence_from(rights.publish.iter().map(Source::as_str))?)?;
    table.raw_set("subscribe", rights.subscribe)?;
    table.raw_set("message", rights.message)?;
    Ok(table)
}

fn reason_of(reason: Arg<'_>, default: &str) -> HostResult<String> {
    if reason.absent() { Ok(default.to_owned()) } else { reason.text(MAX_REASON_BYTES) }
}

fn attributes_of(attributes: Arg<'_>) -> HostResult<Json> {
    attributes.table()?;
    match plain::to_json(attributes.value, ATTRIBUTES, &mut should_stop).map_err(|error| attributes.bad(error))? {
        Json::Array(list) if list.is_empty() => Ok(Json::Object(serde_json::Map::new())),
        object @ Json::Object(_) => Ok(object),
        _ => Err(attributes.bad("a table with names expected, got a list")),
    }
}

/// `{ publish = true, false or a list of sources, subscribe = true or false, message = true or false }`, or a part of it.
fn change_of(rights: Arg<'_>) -> HostResult<RightsChange> {
    let mut change = RightsChange::default();
    for pair in rights.table()?.pairs::<Value, Value>() {
        let (key, value) = pair.map_err(refused)?;
        let name = match &key {
            Value::String(name) => name.to_string_lossy(),
            _ => return Err(rights.bad("a table with the names publish, subscribe and message expected")),
        };
        let field = |name| arg("client:set_rights", name, &value);
        match name.as_str() {
            "publish" => change.publish = Some(sources_of(field("rights.publish"))?),
            "subscribe" => change.subscribe = Some(field("rights.subscribe").boolean()?),
            "message" => change.message = Some(field("rights.message").boolean()?),
            _ => return Err(rights.bad("it has other names than publish, subscribe and message")),
        }
    }
    Ok(change)
}

fn sources_of(sources: Arg<'_>) -> HostResult<Sources> {
    let list = match sources.value {
        Value::Boolean(true) => return Ok(Sources::ALL),
        Value::Boolean(false) => return Ok(Sources::NONE),
        Value::Table(list) => list,
        _ => return Err(sources.bad("true, false or a list of sources expected")),
    };
    let mut found = Vec::new();
    for pair in list.pairs::<Value, Value>() {
        let (_, value) = pair.map_err(refused)?;
        let source = match &value {
            Value::String(word) => Source::from_word(&word.to_string_lossy()),
            _ => None,
        };
        let words = Source::ALL.map(Source::as_str).join(", ");
        found.push(source.ok_or_else(|| sources.bad(format_args!("the sources are {words}")))?);
        if found.len() > Source::ALL.len() {
            return Err(sources.bad("more sources than there are"));
        }
    }
    Ok(found.into_iter().collect())
}
