//! What scripts find: read from a real sandbox, so that the tools and the documentation can't fall behind the engine.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mlua::{Table, Value};
use rand::SeedableRng;
use rand::rngs::StdRng;

use crate::api::sfu::ROOM_FIELDS;
use crate::api::{Functions, METHODS};
use crate::host::{Host, RoomFacts};
use crate::script::{Script, ScriptError};
use crate::settings::PolicySettings;
use crate::state::State;
use moonring_wire::id::RoomId;
use moonring_wire::shared::SharedValue;

/// Globals of plain Lua that the sandbox leaves out.
pub(super) const LEFT_OUT: &[&str] = &[
    "collectgarbage",
    "debug",
    "dofile",
    "ffi",
    "gcinfo",
    "getfenv",
    "io",
    "jit",
    "load",
    "loadfile",
    "loadstring",
    "module",
    "newproxy",
    "package",
    "setfenv",
];

/// The names of a sandbox.
#[derive(Clone, Debug, Default)]
pub struct Names {
    /// Globals and what is in them, as paths: `print`, `string`, `string.rep`, `sfu.json.encode`.
    pub paths: BTreeSet<String>,
    /// The methods of clients: `kick`, ...
    pub methods: BTreeSet<String>,
}

/// A sandbox for a tool of ours, in a room that nobody is in.
pub(super) fn sandbox(now: Instant, settings: &PolicySettings) -> Result<State, ScriptError> {
    let room = RoomId::parse("test").map_err(|error| ScriptError::of_tool(&error))?;
    let script = Arc::new(Script::compile("tool.lua", b"return")?);
    let random = Rc::new(RefCell::new(StdRng::seed_from_u64(0)));
    let host = Host::new(RoomFacts::new(room, SharedValue::empty_object(), (now, Duration::ZERO), random), script);
    State::new(settings, 0, host).map_err(|failure| ScriptError::of_tool(&failure))
}

impl Names {
    /// The names of the sandbox that rooms run in.
    pub fn of_sandbox(now: Instant) -> Result<Self, ScriptError> {
        let state = sandbox(now, &PolicySettings::default())?;
        let mut names = Self::default();
        let collected = names.collect(&state);
        collected.map_err(|error| ScriptError::of_tool(&error))?;
        Ok(names)
    }

    fn collect(&mut self, state: &State) -> mlua::Result<()> {
        self.walk(&state.lua.globals(), "")?;
        for path in Functions::paths() {
            match path.strip_prefix(METHODS) {
                Some(method) => self.methods.insert(method.to_owned()),
                None => self.paths.insert(path.to_owned()),
            };
        }
        self.paths.extend(ROOM_FIELDS.iter().map(|field| format!("sfu.room.{field}")));
        Ok(())
    }

    fn walk(&mut self, table: &Table, prefix: &str) -> mlua::Result<()> {
        table.for_each(|name: String, value: Value| {
            let path = format!("{prefix}{name}");
            if let Value::Table(inner) = &value
                && name != "_G"
            {
                self.walk(inner, &format!("{path}."))?;
            }
            self.paths.insert(path);
            Ok(())
        })
    }

    /// True for a global that every script finds.
    pub fn is_global(&self, name: &str) -> bool {
        self.paths.contains(name)
    }

    /// The names in a table of the sandbox; none when it is no table.
    pub fn within(&self, table: &str) -> Vec<&str> {
        let inside = self.paths.iter().filter_map(|path| path.strip_prefix(table)?.strip_prefix('.'));
        inside.filter(|name| !name.contains('.')).collect()
    }

    /// The globals.
    pub fn globals(&self) -> impl Iterator<Item = &str> {
        self.paths.iter().map(String::as_str).filter(|path| !path.contains('.'))
    }
}
