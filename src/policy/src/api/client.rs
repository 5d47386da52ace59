//! `client:...`: what a script knows of a client and does to it.

use std::rc::Rc;

use mlua::{Lua, Table, Value};
use serde_json::Value as Json;

use super::args::arg;
use super::json::{from_json, to_json};
use super::{Functions, HostResult, refused};
use crate::hook::{Action, ClientFacts, PathFigures, Presence};
use crate::host::Host;
use crate::settings::MAX_REASON_BYTES;
use moonring_wire::id::{ClientId, TrackId};
use moonring_wire::media::TrackInfo;

/// What an action on a client that is not in the room answers.
pub(super) const LEFT: &str = "client has left";
/// Above any bitrate there is, in bit/s.
const MAX_BITRATE: u64 = 100_000_000_000;

/// The fields of a track as scripts see it.
pub(crate) const TRACK_FIELDS: &[&str] =
    &["id", "client_id", "kind", "source", "quality", "simulcast", "codec", "codecs", "muted"];
/// Says a number of a track that a client receives; `None` takes back what was said.
type TrackAction = fn(ClientId, TrackId, Option<u8>) -> Action;
/// What an action answers: `true`, or `false` and why.
pub(super) type Done = (bool, Option<&'static str>);

pub(super) fn register(functions: &mut Functions) {
    getters(functions);
    functions.add("client:kick", |_, host, (this, reason): (Value, Value)| {
        let reason = arg("client:kick", "reason", &reason);
        let text = if reason.absent() { "Kicked".to_owned() } else { reason.text(MAX_REASON_BYTES)? };
        act(host, this_client(host, "client:kick", &this)?, 0, |client| Action::Kick { client, reason: text })
    });
    functions.add("client:send", |_, host, (this, value): (Value, Value)| {
        let client = this_client(host, "client:send", &this)?;
        let (value, bytes) = to_json(arg("client:send", "value", &value))?;
        act(host, client, bytes, |client| Action::Send { client, value })
    });
    functions.add("client:set_max_bitrate", |_, host, (this, bps): (Value, Value)| {
        let client = this_client(host, "client:set_max_bitrate", &this)?;
        let bps = arg("client:set_max_bitrate", "bps", &bps);
        let bps = if bps.absent() { None } else { Some(bps.whole(MAX_BITRATE)?) };
        act(host, client, 0, |client| Action::SetMaxBitrate { client, bps })
    });
    let max_layer: TrackAction = |client, track, layer| Action::SetMaxLayer { client, track, layer };
    let priority: TrackAction = |client, track, priority| Action::SetPriority { client, track, priority };
    for (function, action) in [("client:set_max_layer", max_layer), ("client:set_priority", priority)] {
        functions.add(function, move |_, host, (this, track, n): (Value, Value, Value)| {
            let client = this_client(host, function, &this)?;
            let track = arg(function, "track", &track).track()?;
            let n = arg(function, "n", &n);
            let n = if n.absent() { None } else { Some(n.whole(u8::MAX.into())? as u8) };
            act(host, client, 0, |client| action(client, track, n))
        });
    }
    for (function, muted) in [("client:mute", true), ("client:unmute", false)] {
        functions.add(function, move |_, host, (this, track): (Value, Value)| {
            let client = this_client(host, function, &this)?;
            let track = arg(function, "track", &track).track()?;
            act(host, client, 0, |client| Action::SetMuted { client, track, muted })
        });
    }
}

fn getters(functions: &mut Functions) {
    functions.add("client:get_id", |_, host, this: Value| {
        Ok(this_client(host, "client:get_id", &this)?.id.as_str().to_owned())
    });
    functions.add("client:get_ip", |_, host, this: Value| {
        Ok(this_client(host, "client:get_ip", &this)?.connection.ip.to_string())
    });
    functions.add("client:get_metadata", |lua, host, this: Value| {
        match &*this_client(host, "client:get_metadata", &this)?.metadata {
            Json::Null => lua.create_table().map(Value::Table).map_err(refused),
            metadata => from_json(lua, metadata),
        }
    });
    functions.add("client:stats", |lua, host, this: Value| {
        let client = this_client(host, "client:stats", &this)?;
        host.room.reads.client(&client);
        stats(lua, host, &client).map_err(refused)
    });
    functions.add("client:tracks", |lua, host, this: Value| {
        let client = this_client(host, "client:tracks", &this)?;
        host.room.reads.client(&client);
        let tracks = client.tracks.borrow();
        let list = lua.create_table_with_capacity(tracks.len(), 0).map_err(refused)?;
        for track in tracks.iter() {
            list.raw_push(track_table(lua, track).map_err(refused)?).map_err(refused)?;
        }
        Ok(list)
    });
}

fn stats(lua: &Lua, host: &Host, client: &ClientFacts) -> mlua::Result<Table> {
    let table = lua.create_table_with_capacity(0, 6)?;
    let traffic = &client.traffic;
    table.raw_set("packets_in", traffic.packets_in.get() as f64)?;
    table.raw_set("bytes_in", traffic.bytes_in.get() as f64)?;
    table.raw_set("packets_out", traffic.packets_out.get() as f64)?;
    table.raw_set("bytes_out", traffic.bytes_out.get() as f64)?;
    table.raw_set("seconds", client.stay(host.room.now.get()).as_secs_f64())?;
    if let Some(path) = traffic.path.get() {
        table.raw_set("path", path_table(lua, &path)?)?;
    }
    Ok(table)
}

/// The path to a client as scripts see it, in the names of `/rooms`.
fn path_table(lua: &Lua, path: &PathFigures) -> mlua::Result<Table> {
    let table = lua.create_table_with_capacity(0, 6)?;
    table.raw_set("estimate", path.estimate_bps.map(|bps| bps as f64))?;
    table.raw_set("target", path.target_bps.map(|bps| bps as f64))?;
    table.raw_set("paused", path.paused as f64)?;
    table.raw_set("rtt", path.rtt.map(|rtt| rtt.as_secs_f64() * 1000.0))?;
    table.raw_set("loss", f64::from(path.loss))?;
    table.raw_set("resends", path.resends as f64)?;
    Ok(table)
}

/// A track as scripts see it; `track` in the prelude makes the same.
fn track_table(lua: &Lua, track: &TrackInfo) -> mlua::Result<Table> {
    let table = lua.create_table_with_capacity(0, 9)?;
    let codec = track.codec.as_sdp();
    table.raw_set("id", track.id.as_str())?;
    table.raw_set("client_id", track.client.as_str())?;
    table.raw_set("kind", track.kind.as_str())?;
    table.raw_set("source", track.source.as_str())?;
    table.raw_set("quality", track.quality())?;
    table.raw_set("simulcast", track.layers)?;
    table.raw_set("codec", codec)?;
    table.raw_set("codecs", lua.create_sequence_from([codec])?)?;
    table.raw_set("muted", track.muted)?;
    Ok(table)
}

pub(super) fn this_client(host: &Host, function: &'static str, this: &Value) -> HostResult<Rc<ClientFacts>> {
    arg(function, "self", this).client(host).map_err(|message| format!("{message}; methods are called with ':'"))
}

/// An action on somebody who is not in the room does nothing and says so.
pub(super) fn act(
    host: &Host,
    client: Rc<ClientFacts>,
    bytes: usize,
    action: impl FnOnce(ClientId) -> Action,
) -> HostResult<Done> {
    if client.presence.get() == Presence::Gone {
        return Ok((false, Some(LEFT)));
    }
    host.act(action(client.id.clone()), bytes)?;
    Ok((true, None))
}
