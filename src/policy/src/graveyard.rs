//! Closed states are freed in slices: LuaJIT takes milliseconds for a big one.

use std::time::Duration;

use mlua::Lua;

use super::budget::stopwatch;
use super::settings::{FREE_SLICE, SLICED_FREE_BYTES};
use super::state::State;

/// Below this the rest of a state is freed at once.
const SMALL_BYTES: usize = 96 * 1024;
/// Complete collections after which nothing more will come free.
const MAX_CYCLES: u32 = 3;

/// States on their way out.
#[derive(Default)]
pub(crate) struct Graveyard {
    remains: Vec<(Lua, u32)>,
}

impl Graveyard {
    pub(crate) fn bury(&mut self, state: State) {
        if state.memory() > SLICED_FREE_BYTES {
            self.remains.push((state.into_remains(), 0));
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.remains.is_empty()
    }

    /// One slice of work.
    pub(crate) fn dig(&mut self) {
        let elapsed = stopwatch();
        while let Some((lua, cycles)) = self.remains.last_mut() {
            let step = lua.gc_step();
            *cycles += u32::from(step.as_ref().copied().unwrap_or(true));
            if step.is_err() || *cycles >= MAX_CYCLES || lua.used_memory() < SMALL_BYTES {
                self.remains.pop();
            }
            if elapsed() >= FREE_SLICE {
                return;
            }
        }
    }

    /// How long until the next slice.
    pub(crate) fn pause() -> Duration {
        Duration::from_millis(1)
    }
}
