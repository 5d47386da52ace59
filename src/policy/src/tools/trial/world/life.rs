//! How long the room of a test lives: as a shard's, it ends with its last client, or later when its script says so, and
//! the next client finds a fresh one.

use std::sync::Arc;
use std::time::Instant;

use serde_json::{Map, Value, json};

use super::acts::Asked;
use super::{SEED, START, World};
use crate::client::CloseReason;
use crate::hook::{HookCall, Presence};
use crate::tools::PATIENCE;
use crate::{PolicyEngine, PolicyKey, PolicySettings, Script};
use moonring_wire::id::RoomId;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Life {
    /// Somebody was admitted.
    pub(super) has_lived: bool,
    /// Until when the script keeps the room without clients.
    pub(super) kept_until: Option<Instant>,
    /// `sfu.close` was called.
    pub(super) is_closing: bool,
    /// `on_close` is called.
    is_asked: bool,
    /// `on_close` has ended.
    pub(super) has_closed: bool,
    /// The engine has no such room any more.
    pub(super) is_over: bool,
}

/// What a room is opened with.
#[derive(Clone)]
pub(in super::super) struct Opening {
    pub(in super::super) room: RoomId,
    pub(in super::super) script: Arc<Script>,
    pub(in super::super) config: Map<String, Value>,
    /// `sfu.room.metadata`.
    pub(in super::super) metadata: Value,
}

impl Opening {
    /// A shard's engine for it.
    pub(super) fn engine(&self, now: Instant) -> PolicyEngine {
        // The time of a test stands still; a script is never suspended.
        let usual = PolicySettings::default();
        let settings = PolicySettings {
            step_budget: usual.step_budget * PATIENCE,
            load_budget: usual.load_budget * PATIENCE,
            strikes: 0,
            client_strikes: 0,
            config: self.config.clone(),
            ..PolicySettings::unhurried()
        };
        let mut engine = PolicyEngine::new(settings, SEED);
        engine.set_clock(now, START);
        engine
    }

    /// Opens the room.
    pub(super) fn open(&self, engine: &mut PolicyEngine, now: Instant) -> Result<PolicyKey, String> {
        let opened = engine.open_room_with(now, &self.room, Ok(self.script.clone()), self.metadata.clone().into());
        opened.map_err(|error| error.to_string())
    }
}

impl World {
    /// Ends the room if nobody is in it and nothing keeps it. True when something was done to that end.
    pub(super) fn end_if_over(&mut self) -> bool {
        let is_busy = !self.asked.is_empty() || self.clients.values().any(|c| c.presence.get() != Presence::Gone);
        if is_busy || self.life.is_over || !(self.life.has_lived || self.life.is_closing) {
            return false;
        }
        if !self.life.is_closing && self.life.kept_until.is_none() {
            self.life.kept_until = Some(self.now + self.engine.empty_timeout(self.key));
        }
        if !self.life.is_closing && self.life.kept_until.is_some_and(|until| until > self.now) {
            return false;
        }
        if self.life.has_lived && !self.life.is_asked {
            self.life.is_asked = true;
            let reason = if self.life.is_closing { CloseReason::Closed } else { CloseReason::Empty };
            self.happened.push(json!({ "op": "over", "reason": reason.as_str() }));
            self.submit_as(Asked::Close, HookCall::Close { reason });
            return true;
        }
        if self.life.has_closed || !self.life.has_lived {
            self.life.is_over = true;
            self.engine.close_room(self.now, self.key);
        }
        false
    }

    /// Somebody comes: a room that is over begins afresh.
    pub(super) fn open_again(&mut self) -> Result<(), String> {
        if self.life.is_over {
            self.key = self.opening.open(&mut self.engine, self.now)?;
            self.life = Life::default();
        }
        self.life.kept_until = None;
        Ok(())
    }
}
