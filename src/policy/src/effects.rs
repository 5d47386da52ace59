//! What a hook has asked for, held back until it has ended well or calls `sfu.flush`.

use std::time::Duration;

use mlua::RegistryKey;

use super::admission::host_bytes_of;
use super::hook::Action;
use super::settings::{MAX_ACTIONS, MAX_COUNTERS, MAX_SENT_BYTES, MAX_TIMERS};

/// Names a timer within its room.
pub(crate) type TimerHandle = u32;

/// Bytes that an action takes beside its value.
const ACTION_BYTES: usize = 96;
/// Timers set or cleared by one hook.
const MAX_TIMER_CHANGES: usize = 4 * MAX_TIMERS;

/// What a hook is told that has waited while others have set timers.
pub(crate) fn too_many_timers() -> String {
    format!("more than {MAX_TIMERS} timers in one room: others were set while this hook waited")
}

/// A timer to be set.
pub(crate) struct NewTimer {
    pub(crate) handle: TimerHandle,
    pub(crate) name: Option<String>,
    pub(crate) delay: Duration,
    pub(crate) repeat: bool,
    pub(crate) function: RegistryKey,
}

/// A change of the room's timers.
pub(crate) enum TimerChange {
    Set(NewTimer),
    Clear(TimerHandle),
    ClearNamed(String),
}

/// What timers are set, for the bound on their number.
#[derive(Clone, Default)]
pub(crate) struct SetTimers(Vec<(TimerHandle, Option<String>)>);

impl SetTimers {
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// One more; one of the same name ends.
    pub(crate) fn set(&mut self, handle: TimerHandle, name: Option<&str>) {
        self.0.retain(|(_, set)| name.is_none() || set.as_deref() != name);
        self.0.push((handle, name.map(ToOwned::to_owned)));
    }

    pub(crate) fn change(&mut self, change: &TimerChange) {
        match change {
            TimerChange::Set(timer) => self.set(timer.handle, timer.name.as_deref()),
            TimerChange::Clear(handle) => self.0.retain(|(set, _)| set != handle),
            TimerChange::ClearNamed(name) => self.0.retain(|(_, set)| set.as_ref() != Some(name)),
        }
    }
}

impl FromIterator<(TimerHandle, Option<String>)> for SetTimers {
    fn from_iter<I: IntoIterator<Item = (TimerHandle, Option<String>)>>(timers: I) -> Self {
        Self(timers.into_iter().collect())
    }
}

/// Everything that takes effect when a hook ends without an error, and is dropped when it fails.
#[derive(Default)]
pub(crate) struct Effects {
    pub(crate) actions: Vec<Action>,
    pub(crate) timers: Vec<TimerChange>,
    pub(crate) counts: Vec<(String, f64)>,
    /// What the actions here use of the bounds of one hook.
    held: Used,
    /// The same of those that this step has flushed.
    flushed: Used,
    /// Bytes of the host that `actions` and `timers` take.
    bytes: usize,
}

#[derive(Clone, Copy, Default)]
struct Used {
    actions: usize,
    sent_bytes: usize,
}

impl Effects {
    /// Adds an action whose value has `bytes` bytes as text. `left` is what the room may still hold.
    pub(crate) fn push(&mut self, action: Action, bytes: usize, left: usize) -> Result<(), String> {
        let taken = ACTION_BYTES + text_of(&action).len() + bytes.max(value_of(&action).map_or(0, host_bytes_of));
        if self.held.actions + self.flushed.actions >= MAX_ACTIONS {
            return Err(format!("more than {MAX_ACTIONS} actions in one hook"));
        }
        if self.held.sent_bytes + self.flushed.sent_bytes + bytes > MAX_SENT_BYTES {
            return Err(format!("more than {MAX_SENT_BYTES} bytes sent in one hook"));
        }
        self.hold(taken, left)?;
        self.held = Used { actions: self.held.actions + 1, sent_bytes: self.held.sent_bytes + bytes };
        self.actions.push(action);
        Ok(())
    }

    /// Adds a change of the room's timers. `left` is what the room may still hold.
    pub(crate) fn change_timers(&mut self, change: TimerChange, left: usize) -> Result<(), String> {
        if self.timers.len() >= MAX_TIMER_CHANGES {
            return Err(format!("more than {MAX_TIMER_CHANGES} timers set and cleared in one hook"));
        }
        let name = match &change {
            TimerChange::Set(timer) => timer.name.as_deref(),
            TimerChange::ClearNamed(name) => Some(name.as_str()),
            TimerChange::Clear(_) => None,
        };
        self.hold(size_of::<TimerChange>() + name.map_or(0, str::len), left)?;
        self.timers.push(change);
        Ok(())
    }

    /// Counts bytes of the host, if the room may hold them.
    fn hold(&mut self, bytes: usize, left: usize) -> Result<(), String> {
        if self.bytes + bytes > left {
            return Err("the room's hooks hold too much that is not sent yet: wait less before they end".to_owned());
        }
        self.bytes += bytes;
        Ok(())
    }

    /// Takes back a timer that is to be set; false when there is none of that handle. One that had its name has ended all the same.
    pub(crate) fn take_back_timer(&mut self, handle: TimerHandle) -> bool {
        let is_meant = |change: &TimerChange| matches!(change, TimerChange::Set(timer) if timer.handle == handle);
        let Some(at) = self.timers.iter().position(is_meant) else { return false };
        if let TimerChange::Set(NewTimer { name: Some(name), .. }) = self.timers.remove(at) {
            self.timers.insert(at, TimerChange::ClearNamed(name));
        }
        true
    }

    /// Timers that are to be set.
    pub(crate) fn new_timers(&self) -> usize {
        self.timers.iter().filter(|change| matches!(change, TimerChange::Set(_))).count()
    }

    /// Takes out what was asked for so far. It counts towards the bounds until the step ends.
    pub(crate) fn flush(&mut self) -> Self {
        let taken = std::mem::take(self);
        self.flushed = Used {
            actions: taken.flushed.actions + taken.held.actions,
            sent_bytes: taken.flushed.sent_bytes + taken.held.sent_bytes,
        };
        taken
    }

    /// A step has ended: what it flushed does not count any more.
    pub(crate) fn end_step(&mut self) {
        self.flushed = Used::default();
    }

    /// Bytes of the host that it takes.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
}

/// The text of an action beside its value.
fn text_of(action: &Action) -> &str {
    match action {
        Action::Kick { reason, .. }
        | Action::SetRights { reason, .. }
        | Action::Unpublish { reason, .. }
        | Action::Unsubscribe { reason, .. }
        | Action::CloseRoom { reason } => reason,
        Action::Webhook { event, .. } => event,
        _ => "",
    }
}

fn value_of(action: &Action) -> Option<&serde_json::Value> {
    match action {
        Action::Send { value, .. }
        | Action::Broadcast { value, .. }
        | Action::SetAttributes { attributes: value, .. }
        | Action::Webhook { data: value, .. } => Some(value),
        _ => None,
    }
}

/// Adds to a counter; false when it would be one too many.
pub(crate) fn count(counters: &mut Vec<(String, f64)>, name: String, n: f64) -> bool {
    if let Some((_, sum)) = counters.iter_mut().find(|(known, _)| *known == name) {
        *sum += n;
        return true;
    }
    let fits = counters.len() < MAX_COUNTERS;
    if fits {
        counters.push((name, n));
    }
    fits
}
