//! What the functions that a script calls reach of the world: its room, nothing else.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mlua::{AnyUserData, Lua, RegistryKey};

use super::api::client::ClientHandle;
use super::effects::{Effects, TimerHandle};
use super::hook::{ClientFacts, Presence};
use super::output::PolicyRequest;
use super::script::Script;
use super::settings::{LOG_WINDOW, MAX_LOG_LINES};
use crate::id::{ClientId, RoomId};

/// What survives a reload: shared by a room's old and new state.
pub(crate) struct RoomFacts {
    pub(crate) id: RoomId,
    /// Who is in the room, in the order of joining.
    pub(crate) roster: RefCell<Vec<Rc<ClientFacts>>>,
    /// The engine's clock for the step that runs.
    pub(crate) now: Cell<Instant>,
    /// The same moment as time since 1970.
    pub(crate) unix: Cell<Duration>,
    /// When the room was opened, for `os.clock`.
    pub(crate) opened: Instant,
    next_timer: Cell<TimerHandle>,
    log_window: Cell<(Instant, u32)>,
}

impl RoomFacts {
    pub(crate) fn new(id: RoomId, now: Instant, unix: Duration) -> Rc<Self> {
        Rc::new(Self {
            id,
            roster: RefCell::default(),
            now: Cell::new(now),
            unix: Cell::new(unix),
            opened: now,
            next_timer: Cell::new(1),
            log_window: Cell::new((now, 0)),
        })
    }

    pub(crate) fn client(&self, id: &str) -> Option<Rc<ClientFacts>> {
        let roster = self.roster.borrow();
        roster.iter().find(|client| client.id.as_str() == id && client.presence.get() == Presence::Joined).cloned()
    }

    pub(crate) fn joined(&self) -> Vec<Rc<ClientFacts>> {
        self.roster.borrow().iter().filter(|client| client.presence.get() == Presence::Joined).cloned().collect()
    }

    pub(crate) fn next_timer(&self) -> TimerHandle {
        self.next_timer.replace(self.next_timer.get() + 1)
    }

    /// True when the script may write one more log line; says once when it may not.
    pub(crate) fn may_log(&self) -> bool {
        let (mut since, mut lines) = self.log_window.get();
        if self.now.get().saturating_duration_since(since) >= LOG_WINDOW {
            (since, lines) = (self.now.get(), 0);
        }
        lines = lines.saturating_add(1);
        self.log_window.set((since, lines));
        if lines == MAX_LOG_LINES + 1 {
            tracing::warn!(room = %self.id, "the script logs too much: its further lines are dropped for some seconds");
        }
        lines <= MAX_LOG_LINES
    }
}

/// What a wait waits for.
#[derive(Debug)]
pub(crate) enum WaitFor {
    /// `sfu.sleep`.
    Time(Duration),
    /// Something from outside.
    Reply(PolicyRequest),
}

/// One state's view.
pub(crate) struct Host {
    pub(crate) room: Rc<RoomFacts>,
    pub(crate) script: Arc<Script>,
    /// The hook that runs, for log lines.
    pub(crate) hook: Cell<&'static str>,
    /// What the hook that runs has asked for.
    pub(crate) effects: RefCell<Effects>,
    /// What the hook that runs wants to wait for.
    pub(crate) wait: RefCell<Option<WaitFor>>,
    /// Timers that are set.
    pub(crate) timers: Cell<usize>,
    /// The Lua objects of clients, one per client. In the registry, as they live long.
    objects: RefCell<HashMap<ClientId, RegistryKey>>,
}

impl Host {
    pub(crate) fn new(room: Rc<RoomFacts>, script: Arc<Script>) -> Rc<Self> {
        Rc::new(Self {
            room,
            script,
            hook: Cell::new("main chunk"),
            effects: RefCell::default(),
            wait: RefCell::default(),
            timers: Cell::new(0),
            objects: RefCell::default(),
        })
    }

    /// The Lua object of a client, the same one each time.
    pub(crate) fn object(&self, lua: &Lua, client: &Rc<ClientFacts>) -> mlua::Result<AnyUserData> {
        if let Some(key) = self.objects.borrow().get(&client.id) {
            return lua.registry_value(key);
        }
        let object = lua.create_userdata(ClientHandle(client.clone()))?;
        let key = lua.create_registry_value(&object)?;
        self.objects.borrow_mut().insert(client.id.clone(), key);
        Ok(object)
    }

    /// Lets go of a client's Lua object: whoever still holds it keeps it, inert.
    pub(crate) fn forget(&self, lua: &Lua, client: &ClientId) {
        if let Some(key) = self.objects.borrow_mut().remove(client) {
            // Fails only for a key of another state.
            lua.remove_registry_value(key).unwrap_or_default();
        }
    }
}
