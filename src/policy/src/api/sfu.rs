//! `sfu.*`: the room as a whole.

use mlua::{Lua, Table, Value};

use super::args::arg;
use super::json::{from_json, to_json};
use super::{Functions, HostResult, Kind, refused};
use crate::client::Announced;
use crate::effects::too_many_timers;
use crate::hook::Action;
use crate::hook_table::may_wait;
use crate::host::Host;
use crate::settings::MAX_REASON_BYTES;

/// Most that can be heard at once.
const MAX_LAST_N: u64 = 1000;
/// Bytes of the name of a webhook's event.
const MAX_EVENT_NAME: usize = 64;
/// Bytes of a word of which there are few.
const MAX_WORD: usize = 64;
/// Bytes of a counter's name.
const MAX_COUNTER_NAME: usize = 64;

pub(super) fn register(functions: &mut Functions) {
    functions
        .add_as(Kind::Value, "sfu.room_id", |lua, host, ()| lua.create_string(host.room.id.as_str()).map_err(refused));
    functions.add_as(Kind::Value, "sfu.room", room_table);
    // Clients leave the host as numbers; the prelude makes objects of them.
    functions.add_as(Kind::Clients, "sfu.clients", |lua, host, ()| {
        let mut numbers = host.clients.borrow_mut();
        let joined = host.room.joined();
        lua.create_sequence_from(joined.iter().map(|client| numbers.number(client))).map_err(refused)
    });
    functions.add_as(Kind::Client, "sfu.client", |_, host, id: Value| {
        // Ids come from messages: one that no client can have is nobody's, not an error.
        let id = match &id {
            Value::String(text) if text.as_bytes().len() > moonring_wire::id::MAX_ID_LEN => return Ok(None),
            id => arg("sfu.client", "id", id).bytes(moonring_wire::id::MAX_ID_LEN)?,
        };
        let Ok(id) = String::from_utf8(id) else { return Ok(None) };
        Ok(host.room.client(&id).map(|client| host.clients.borrow_mut().number(&client)))
    });
    functions.add_as(Kind::Except, "sfu.broadcast", |_, host, (value, except): (Value, Value)| {
        let (value, bytes) = to_json(arg("sfu.broadcast", "value", &value))?;
        let except = arg("sfu.broadcast", "except", &except);
        let except = if except.absent() { None } else { Some(except.client(host)?.id.clone()) };
        host.act(Action::Broadcast { value, except }, bytes)
    });
    functions.add("sfu.close", |_, host, reason: Value| {
        let reason = arg("sfu.close", "reason", &reason);
        let reason = if reason.absent() { "Room closed".to_owned() } else { reason.text(MAX_REASON_BYTES)? };
        host.act(Action::CloseRoom { reason }, 0)
    });
    functions.add("sfu.webhook", |_, host, (event, data): (Value, Value)| {
        let event = arg("sfu.webhook", "event", &event);
        let name = event.text(MAX_EVENT_NAME)?;
        let fits = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
        if name.is_empty() || !name.chars().all(fits) {
            return Err(event.bad("letters, digits, '_', '.' and '-' only"));
        }
        let (data, bytes) = to_json(arg("sfu.webhook", "data", &data))?;
        host.act(Action::Webhook { event: name, data }, bytes)
    });
    functions.add("sfu.flush", |_, host, ()| {
        let hook = host.hook.get();
        if !may_wait(hook) {
            return Err(format!(
                "sfu.flush cannot be called in {hook}: it would take effect although the version may fail"
            ));
        }
        let mut effects = host.effects.borrow_mut();
        if !host.timers_fit(&effects, None) {
            return Err(format!("sfu.flush: {}", too_many_timers()));
        }
        let flushed = effects.flush();
        host.flushed.borrow_mut().push(flushed);
        Ok(())
    });
    functions.add("sfu.announce", |_, host, who: Value| {
        let who = arg("sfu.announce", "who", &who);
        let word = who.text(MAX_WORD)?;
        match Announced::ALL.into_iter().find(|one| one.as_str() == word) {
            Some(who) => host.act(Action::Announce { who }, 0),
            None => Err(who.bad("\"all\", \"publishers\" or \"none\" expected")),
        }
    });
    functions.add("sfu.set_audio_last_n", |_, host, n: Value| {
        let n = arg("sfu.set_audio_last_n", "n", &n);
        let n = match n.absent() {
            true => None,
            false => Some(n.number(1.0..=MAX_LAST_N as f64).and_then(|_| n.whole(MAX_LAST_N))? as usize),
        };
        host.act(Action::SetAudioLastN { n }, 0)
    });
    functions.add("sfu.count", |_, host, (name, n): (Value, Value)| {
        let name = arg("sfu.count", "name", &name);
        let text = name.text(MAX_COUNTER_NAME)?;
        let fits = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if text.is_empty() || !text.chars().all(fits) {
            return Err(name.bad("letters, digits and '_' only"));
        }
        let n = arg("sfu.count", "n", &n);
        let n = if n.absent() { 1.0 } else { n.number(0.0..=1e15)? };
        if host.count(text, n) { Ok(()) } else { Err(name.bad("too many counters")) }
    });
}

/// The fields of `sfu.room`.
pub(crate) const ROOM_FIELDS: &[&str] = &["id", "metadata", "opened"];

fn room_table(lua: &Lua, host: &Host, (): ()) -> HostResult<Table> {
    let room = lua.create_table_with_capacity(0, ROOM_FIELDS.len()).map_err(refused)?;
    room.raw_set("id", host.room.id.as_str()).map_err(refused)?;
    room.raw_set("metadata", from_json(lua, &host.room.metadata)?).map_err(refused)?;
    room.raw_set("opened", host.room.opened_unix.as_secs_f64()).map_err(refused)?;
    Ok(room)
}
