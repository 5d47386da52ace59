//! How long the room of a test lives: as a shard's, it ends with its last client, or later when its script says so, and
//! the next client finds a fresh one. Who comes while it ends waits for that ([`super::late`]).

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};

use super::{SEED, World};
use crate::client::CloseReason;
use crate::hook::{HookCall, Presence};
use crate::settings::HOOKS_PATIENCE;
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
    /// It ends, whoever comes.
    pub(super) ending: Option<CloseReason>,
    /// Until when its hooks are waited for, once nobody is in it.
    pub(super) end_by: Option<Instant>,
    /// `on_close` is called.
    is_told: bool,
    /// The engine has no such room any more.
    pub(super) is_over: bool,
}

impl Life {
    /// Of a room that is not there any more.
    pub(super) fn over() -> Self {
        Self { is_over: true, ..Self::default() }
    }

    /// Decides that the room ends.
    pub(super) fn end(&mut self, now: Instant, reason: CloseReason) {
        if self.ending.is_none() {
            (self.ending, self.end_by) = (Some(reason), Some(now + reason.patience()));
        }
    }
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
    /// The engine of the shard that has the room, the n-th: at this time of day.
    pub(super) fn engine(&self, now: Instant, unix: Duration, n: u64) -> PolicyEngine {
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
        let mut engine = PolicyEngine::new(settings, SEED + n);
        engine.set_clock(now, unix);
        engine
    }

    /// Opens the room, afresh.
    pub(super) fn open(&self, engine: &mut PolicyEngine, now: Instant) -> Result<PolicyKey, String> {
        let opened = engine.open_room_with(now, &self.room, Ok(self.script.clone()), self.metadata.clone().into());
        opened.map_err(|error| error.to_string())
    }
}

impl World {
    /// Ends the room if nobody is in it, nothing keeps it, and its hooks have ended or have had their time. True when something
    /// was done to that end.
    pub(super) fn end_if_over(&mut self) -> bool {
        let is_empty = self.clients.values().all(|client| client.presence.get() == Presence::Gone);
        if !is_empty || self.life.is_over || !self.life.has_lived && self.life.ending.is_none() {
            return false;
        }
        let life = &mut self.life;
        if !self.asked.is_empty() {
            if life.ending.is_none() && life.kept_until.is_none_or(|until| until <= self.now) {
                life.end_by.get_or_insert(self.now + HOOKS_PATIENCE);
            }
            if life.end_by.is_none_or(|by| by > self.now) {
                return false;
            }
        }
        if life.ending.is_none() {
            life.end_by = None;
            let timeout = self.engine.empty_timeout(self.key);
            if *life.kept_until.get_or_insert(self.now + timeout) > self.now {
                return false;
            }
            life.end(self.now, CloseReason::Empty);
        }
        if let Some(reason) = life.ending.filter(|_| life.has_lived && !life.is_told) {
            (life.is_told, life.end_by) = (true, Some(self.now + reason.patience()));
            self.happened.push(json!({ "op": "over", "reason": reason.as_str() }));
            self.submit(HookCall::Close { reason });
            return true;
        }
        if life.has_lived {
            self.drop_checkpoint();
        }
        self.life.is_over = true;
        self.asked.clear();
        self.engine.close_room(self.now, self.key);
        self.join_late()
    }

    /// Somebody comes: a room that is over begins afresh.
    pub(super) fn open_again(&mut self) -> Result<(), String> {
        if self.life.is_over {
            self.key = self.open_room()?;
            self.life = Life::default();
            self.happened.push(json!({ "op": "opened" }));
        }
        self.life.kept_until = None;
        if self.life.ending.is_none() {
            self.life.end_by = None;
        }
        Ok(())
    }
}
