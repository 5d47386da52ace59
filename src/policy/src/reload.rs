//! Replacing a room's script by another version, with the room's state, or not at all.
//!
//! The transaction: a new state is made and runs the new main chunk; the old state's `on_unload` returns plain data; the
//! new state runs `on_init` and then `on_load` with that data. Only when all of that has succeeded does the room swap
//! the two states. Until then nothing outside of the new state has changed: what the new version asks for on the way
//! (timers, messages, kicks) stays in its own [`super::effects::Effects`] and is committed by the swap, and
//! `on_unload` is documented to change nothing. So a failure at any step only drops the new state, and the old version
//! goes on as if nothing had happened.
//!
//! The hooks of the old version that wait are given [`RELOAD_PATIENCE`] to end before the transaction begins; meanwhile
//! the events of the room queue. Media does not depend on any of this.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use mlua::{IntoLuaMulti, Value};

use super::engine_context::{Deadline, EngineContext};
use super::failure::{ReloadError, Step};
use super::hook_table::Hook;
use super::host::{Host, RoomFacts};
use super::output::PolicyKey;
use super::plain::{self, Limits};
use super::script::Script;
use super::settings::{PolicySettings, RELOAD_PATIENCE};
use super::state::{State, no_args};
use super::timer_queue::TimerId;

/// The global that a script may number its state with.
const STATE_VERSION: &str = "STATE_VERSION";
/// Values of a state that crosses a reload; the number of its bytes is a setting.
const MAX_STATE_VALUES: usize = 200_000;

/// What a room is to be reloaded with.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) script: Arc<Script>,
    /// True when the new version starts without the old one's state, so that `on_unload` cannot prevent it.
    pub(crate) drops_state: bool,
}

/// A reload that waits for hooks of the old version to end.
struct Pending {
    request: Request,
    deadline: TimerId,
    /// True when they have had their time.
    is_late: bool,
}

/// The reloads of one room: the one that is pending, and how the last one ended.
#[derive(Default)]
pub(crate) struct Reload {
    pending: Option<Pending>,
    /// The version that the last reload put in charge, or why it did not.
    pub(crate) last: Option<Result<u64, ReloadError>>,
    /// The script of the last reload, whether it succeeded or not.
    pub(crate) tried: Option<Arc<Script>>,
}

impl Reload {
    /// Asks for a reload; an earlier one that is still pending is dropped.
    pub(crate) fn request(&mut self, context: &mut EngineContext, now: Instant, room: PolicyKey, request: Request) {
        self.cancel(context);
        self.tried = Some(request.script.clone());
        let deadline = context.deadlines.add(now + RELOAD_PATIENCE, Deadline::Reload(room));
        self.pending = Some(Pending { request, deadline, is_late: false });
    }

    pub(crate) fn is_pending(&self) -> bool {
        self.pending.is_some()
    }

    /// The old version's hooks have had their time.
    pub(crate) fn expire(&mut self) {
        if let Some(pending) = &mut self.pending {
            pending.is_late = true;
        }
    }

    /// What to reload with, if that can happen now. `is_quiet` says that no hook of the old version waits.
    pub(crate) fn take_due(&mut self, context: &mut EngineContext, is_quiet: bool) -> Option<Request> {
        let pending = self.pending.take_if(|pending| is_quiet || pending.is_late)?;
        context.deadlines.remove(pending.deadline);
        Some(pending.request)
    }

    pub(crate) fn cancel(&mut self, context: &mut EngineContext) {
        if let Some(pending) = self.pending.take() {
            context.deadlines.remove(pending.deadline);
        }
    }

    /// True when `script` is neither what the room runs, nor what the last reload was about.
    pub(crate) fn is_new(&mut self, running: &Script, script: &Script) -> bool {
        if self.pending.is_none() && running.is(script) {
            // The script is back at what runs: what was tried in between may be tried again.
            self.tried = None;
            return false;
        }
        self.tried.as_ref().is_none_or(|tried| !tried.is(script))
    }
}

/// A state that has run the script's main chunk and `on_init`; `between` runs before `on_init`.
pub(crate) fn new_state(
    settings: &PolicySettings,
    seed: u64,
    host: Rc<Host>,
    between: impl FnOnce(&State) -> Result<(), ReloadError>,
) -> Result<State, ReloadError> {
    let state = State::new(settings, seed, host).map_err(ReloadError::at(Step::NewState))?;
    state.load(settings.load_budget).0.map_err(ReloadError::at(Step::MainChunk))?;
    between(&state)?;
    state.run_now(Hook::Init, no_args, settings.load_budget).0.map_err(ReloadError::at(Step::Init))?;
    // Most rooms idle for long: the garbage of building the state (a quarter of it) goes now, in a tenth of a
    // millisecond.
    state.clean_up(0);
    Ok(state)
}

/// The old version of a transaction.
pub(crate) struct OldVersion<'a> {
    pub(crate) facts: &'a Rc<RoomFacts>,
    pub(crate) state: &'a State,
    /// True when the script is suspended: then there is no state to protect.
    pub(crate) is_suspended: bool,
}

/// Runs the transaction up to the swap, see the module. The result is the new state, ready to take over.
pub(crate) fn transaction(
    context: &mut EngineContext,
    old: &OldVersion<'_>,
    request: &Request,
    seed: u64,
) -> Result<State, ReloadError> {
    let (settings, script) = (&context.settings, &request.script);
    let host = Host::new(old.facts.clone(), script.clone());
    let mut carried = None;
    let state = new_state(settings, seed, host, |_| {
        carried = if request.drops_state { None } else { old.unload(settings)? };
        Ok(())
    })?;
    if request.drops_state {
        tracing::warn!(room = %old.facts.id, script = script.name(), "the new version starts without the old one's state, as asked");
    }
    let old_version = old.state_version();
    let loaded = load(settings, &state, carried.as_deref(), old_version.as_deref())?;
    if loaded.is_none() && carried.is_some() {
        let script = script.name();
        tracing::warn!(room = %old.facts.id, script, "the new version has no on_load: the old one's state is dropped");
    }
    Ok(state)
}

/// Runs `on_load` with what the version before has handed over. `None` when there is no such hook.
pub(crate) fn load(
    settings: &PolicySettings,
    state: &State,
    carried: Option<&[u8]>,
    old_version: Option<&[u8]>,
) -> Result<Option<Value>, ReloadError> {
    let (loaded, _) = state.run_now(
        Hook::Load,
        |lua| {
            let value = match carried {
                Some(bytes) => plain::decode(lua, bytes)?,
                None => Value::Nil,
            };
            match old_version {
                Some(version) => (value, plain::decode(lua, version)?).into_lua_multi(lua),
                None => value.into_lua_multi(lua),
            }
        },
        settings.load_budget,
    );
    loaded.map_err(ReloadError::at(Step::Load))
}

impl OldVersion<'_> {
    /// What the old version hands to the new one.
    pub(crate) fn unload(&self, settings: &PolicySettings) -> Result<Option<Vec<u8>>, ReloadError> {
        let (value, _) = self.state.run_now(Hook::Unload, no_args, settings.step_budget);
        let limits = Limits { bytes: settings.state_bytes, depth: plain::MAX_DEPTH, values: MAX_STATE_VALUES };
        let encoded = match value {
            Ok(None) => Ok(None),
            Ok(Some(value)) => plain::encode(&value, limits).map(Some).map_err(ReloadError::State),
            Err(failure) => Err(ReloadError::at(Step::Unload)(failure)),
        };
        match encoded {
            Err(error) if self.is_suspended => {
                tracing::warn!(room = %self.facts.id, "{error}: the new version starts without the old one's state");
                Ok(None)
            }
            other => other,
        }
    }

    /// The old version's `STATE_VERSION`, if it is a plain scalar.
    pub(crate) fn state_version(&self) -> Option<Vec<u8>> {
        let value = self.state.global(STATE_VERSION);
        let scalar = matches!(value, Value::Integer(_) | Value::Number(_) | Value::String(_));
        let limits = Limits { bytes: 256, depth: 1, values: 1 };
        if scalar { plain::encode(&value, limits).ok() } else { None }
    }
}
