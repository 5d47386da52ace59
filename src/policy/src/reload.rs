//! A room's script is replaced by its next version: all of it, with its state, or nothing.
//!
//! New state, old `on_unload`, new `on_init`, new `on_load`, swap. What the new version asks for on the way (timers,
//! messages) is held back until the swap. Whatever fails leaves the old version in charge.

use std::sync::Arc;
use std::time::Instant;

use mlua::{IntoLuaMulti, Value};

use super::agenda::When;
use super::bucket::Strikes;
use super::desk::{Desk, Due};
use super::host::Host;
use super::output::PolicyOutput;
use super::plain::{self, Limits};
use super::room::Room;
use super::script::Script;
use super::settings::{PolicySettings, RELOAD_PATIENCE};
use super::state::{Failure, State, no_args};

/// The global that a script may number its state with.
const STATE_VERSION: &str = "STATE_VERSION";
/// Tables and values of a state that crosses; its bytes are a setting.
const MAX_STATE_VALUES: usize = 200_000;

/// A reload that waits for the hooks of the old version.
pub(crate) struct Pending {
    script: Arc<Script>,
    pub(super) deadline: When,
    /// True when the patience has ended.
    late: bool,
}

/// A state with the script's main chunk and `on_init` behind it; `between` runs before `on_init`.
pub(crate) fn new_state(
    settings: &PolicySettings,
    seed: u64,
    host: std::rc::Rc<Host>,
    between: impl FnOnce(&State) -> Result<(), String>,
) -> Result<State, String> {
    let at = |what: &'static str| move |failure: Failure| format!("{what}: {failure}");
    let state = State::new(settings, seed, host).map_err(at("new state"))?;
    state.load(settings.load_budget).0.map_err(at("main chunk"))?;
    between(&state)?;
    state.run_now("on_init", no_args, settings.load_budget).0.map_err(at("on_init"))?;
    // Most rooms idle for long: what building the state has left goes now (a quarter of it, in a tenth of a millisecond).
    state.clean_up(0);
    Ok(state)
}

impl Room {
    /// Begins a reload; it happens at once unless hooks wait.
    pub(crate) fn reload(&mut self, desk: &mut Desk, now: Instant, script: Arc<Script>) {
        if let Some(before) = self.pending.take() {
            desk.agenda.remove(before.deadline);
        }
        self.tried = Some(script.clone());
        let deadline = desk.agenda.add(now + RELOAD_PATIENCE, Due::Reload(self.key));
        self.pending = Some(Pending { script, deadline, late: false });
        self.pump(desk, now);
    }

    /// See `PolicyEngine::is_new`.
    pub(crate) fn is_new(&mut self, script: &Script) -> bool {
        if self.pending.is_none() && self.state.host.script.is(script) {
            // Back to what runs: what was tried in between may be tried again.
            self.tried = None;
            return false;
        }
        self.tried.as_ref().is_none_or(|tried| !tried.is(script))
    }

    /// The old version's hooks have waited long enough.
    pub(crate) fn reload_now(&mut self, desk: &mut Desk, now: Instant) {
        if let Some(pending) = &mut self.pending {
            pending.late = true;
            self.pump(desk, now);
        }
    }

    /// Reloads if one is pending and no hook waits. False while new events have to wait.
    pub(super) fn reload_if_quiet(&mut self, desk: &mut Desk, now: Instant) -> bool {
        let quiet = self.waiting.is_empty();
        match self.pending.take() {
            None => true,
            Some(pending) if quiet || pending.late => {
                desk.agenda.remove(pending.deadline);
                self.replace(desk, now, &pending.script);
                true
            }
            pending => {
                self.pending = pending;
                false
            }
        }
    }

    fn replace(&mut self, desk: &mut Desk, now: Instant, script: &Arc<Script>) {
        self.set_clock(desk, now);
        self.state.host.effects.take();
        let result = self.transaction(desk, script);
        let said = self.state.host.effects.take();
        let result = match result {
            Ok(state) => {
                self.swap(desk, now, state, said);
                Ok(script.version())
            }
            Err(words) => Err(words),
        };
        for stats in [&mut self.stats, &mut desk.stats] {
            stats.reloads += u64::from(result.is_ok());
            stats.reloads_failed += u64::from(result.is_err());
        }
        self.last_reload = Some(result.clone());
        desk.outputs.push_back(PolicyOutput::Reloaded { key: self.key, result });
    }

    /// The new state, ready to take over, or what failed.
    fn transaction(&self, desk: &mut Desk, script: &Arc<Script>) -> Result<State, String> {
        let seed = desk.seed();
        let settings = &desk.settings;
        let host = Host::new(self.facts.clone(), script.clone());
        let mut carried = None;
        let state = new_state(settings, seed, host, |_| {
            carried = self.unload(settings)?;
            Ok(())
        })?;
        let old_version = self.version_of_state();
        let budget = settings.load_budget;
        let (loaded, _) = state.run_now(
            "on_load",
            |lua| {
                let value = match &carried {
                    Some(bytes) => plain::decode(lua, bytes)?,
                    None => Value::Nil,
                };
                match &old_version {
                    Some(version) => (value, plain::decode(lua, version)?).into_lua_multi(lua),
                    None => value.into_lua_multi(lua),
                }
            },
            budget,
        );
        let loaded = loaded.map_err(|failure| format!("on_load: {failure}"))?;
        if loaded.is_none() && carried.is_some() {
            let script = script.name();
            tracing::warn!(room = %self.facts.id, script, "the new version has no on_load: the old one's state is dropped");
        }
        Ok(state)
    }

    /// What the old version gives its successor.
    fn unload(&self, settings: &PolicySettings) -> Result<Option<Vec<u8>>, String> {
        let (value, _) = self.state.run_now("on_unload", no_args, settings.step_budget);
        let limits = Limits { bytes: settings.state_bytes, depth: plain::MAX_DEPTH, values: MAX_STATE_VALUES };
        let encoded = match value {
            Ok(None) => Ok(None),
            Ok(Some(value)) => plain::encode(&value, limits).map(Some).map_err(|error| format!("on_unload: {error}")),
            Err(failure) => Err(format!("on_unload of the old version: {failure}")),
        };
        match encoded {
            // There is nothing to protect in a script that was put aside: its successor starts afresh.
            Err(words) if self.aside => {
                tracing::warn!(room = %self.facts.id, "{words}: the new version starts without the old one's state");
                Ok(None)
            }
            other => other,
        }
    }

    /// The old version's `STATE_VERSION`, if it is a plain scalar.
    fn version_of_state(&self) -> Option<Vec<u8>> {
        let value = self.state.global(STATE_VERSION);
        let scalar = matches!(value, Value::Integer(_) | Value::Number(_) | Value::String(_));
        let limits = Limits { bytes: 256, depth: 1, values: 1 };
        if scalar { plain::encode(&value, limits).ok() } else { None }
    }

    fn swap(&mut self, desk: &mut Desk, now: Instant, state: State, said: super::effects::Effects) {
        self.stop_all(desk);
        let old = std::mem::replace(&mut self.state, state);
        desk.closed.push(old);
        self.aside = false;
        self.strikes = Strikes::new(&desk.settings, now);
        let mut actions = said.actions;
        let asked = self.state.host.effects.take();
        actions.extend(self.commit(desk, now, asked));
        if !actions.is_empty() {
            desk.outputs.push_back(PolicyOutput::Actions { key: self.key, actions });
        }
    }
}
