//! Frees closed states in slices, because LuaJIT takes milliseconds to free a large one at once.

use std::time::Duration;

use mlua::Lua;

use super::budget::stopwatch;
use super::settings::{FREE_SLICE, SLICED_FREE_BYTES};
use super::state::State;

/// A state with less memory than this is freed without further slices.
const SMALL_BYTES: usize = 96 * 1024;
/// Complete collections after which no more memory will come free.
const MAX_CYCLES: u32 = 3;
/// States that wait to be freed; further ones are freed at once, for milliseconds each.
const MAX_STATES: usize = 256;

/// The states that are still to be freed, each with the number of collections that it has gone through.
#[derive(Default)]
pub(crate) struct DeferredFree {
    states: Vec<(Lua, u32)>,
}

impl DeferredFree {
    /// Frees a small state at once and keeps a large one for [`DeferredFree::free_slice`].
    pub(crate) fn add(&mut self, state: State) {
        if state.memory() > SLICED_FREE_BYTES {
            self.keep(state.into_lua());
        }
    }

    fn keep(&mut self, lua: Lua) {
        if self.states.len() < MAX_STATES {
            self.states.push((lua, 0));
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.states.is_empty()
    }

    /// Frees for about [`FREE_SLICE`].
    pub(crate) fn free_slice(&mut self) {
        let elapsed = stopwatch();
        while let Some((lua, cycles)) = self.states.last_mut() {
            let step = lua.gc_step();
            *cycles += u32::from(step.as_ref().copied().unwrap_or(true));
            if step.is_err() || *cycles >= MAX_CYCLES || lua.used_memory() < SMALL_BYTES {
                self.states.pop();
            }
            if elapsed() >= FREE_SLICE {
                return;
            }
        }
    }

    /// The interval between two slices.
    pub(crate) fn interval() -> Duration {
        Duration::from_millis(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_states_wait_to_be_freed_and_all_are_in_the_end() {
        let mut deferred = DeferredFree::default();
        (0..MAX_STATES + 9).for_each(|_| deferred.keep(Lua::new()));
        assert_eq!(deferred.states.len(), MAX_STATES);
        while !deferred.is_empty() {
            deferred.free_slice();
        }
    }
}
