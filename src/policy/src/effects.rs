//! What a hook has asked for, held back until it has ended well.

use mlua::RegistryKey;
use std::time::Duration;

use super::hook::Action;
use super::settings::{MAX_ACTIONS, MAX_COUNTERS, MAX_SENT_BYTES};

/// Names a timer within its room.
pub(crate) type TimerHandle = u32;

/// A timer to be set.
pub(crate) struct NewTimer {
    pub(crate) handle: TimerHandle,
    pub(crate) delay: Duration,
    pub(crate) repeat: bool,
    pub(crate) function: RegistryKey,
}

/// Everything that takes effect when a hook ends without an error, and is dropped when it fails.
#[derive(Default)]
pub(crate) struct Effects {
    pub(crate) actions: Vec<Action>,
    pub(crate) timers: Vec<NewTimer>,
    pub(crate) cleared: Vec<TimerHandle>,
    pub(crate) counts: Vec<(String, f64)>,
    sent_bytes: usize,
}

impl Effects {
    /// Adds an action that carries `bytes` of the script's data.
    pub(crate) fn push(&mut self, action: Action, bytes: usize) -> Result<(), String> {
        if self.actions.len() >= MAX_ACTIONS {
            return Err(format!("more than {MAX_ACTIONS} actions in one hook"));
        }
        if self.sent_bytes + bytes > MAX_SENT_BYTES {
            return Err(format!("more than {MAX_SENT_BYTES} bytes sent in one hook"));
        }
        self.sent_bytes += bytes;
        self.actions.push(action);
        Ok(())
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
