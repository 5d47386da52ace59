//! The timers that a room's script has set.

use std::collections::HashMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

use mlua::RegistryKey;

use super::effects::{NewTimer, TimerHandle};
use super::engine_context::{Deadline, EngineContext};
use super::output::PolicyKey;
use super::timer_queue::TimerId;
use super::waits::MIN_WAIT;

struct Timer {
    function: Rc<RegistryKey>,
    /// The interval of a repeating timer.
    every: Option<Duration>,
    deadline: TimerId,
}

/// All timers of one room.
#[derive(Default)]
pub(crate) struct Timers {
    timers: HashMap<TimerHandle, Timer>,
}

impl Timers {
    pub(crate) fn len(&self) -> usize {
        self.timers.len()
    }

    pub(crate) fn set(&mut self, context: &mut EngineContext, now: Instant, room: PolicyKey, new: NewTimer) {
        let at = now + new.delay.max(MIN_WAIT);
        let deadline = context.deadlines.add(at, Deadline::Timer(room, new.handle));
        let every = new.repeat.then_some(new.delay);
        self.timers.insert(new.handle, Timer { function: Rc::new(new.function), every, deadline });
    }

    pub(crate) fn clear(&mut self, context: &mut EngineContext, handle: TimerHandle) {
        if let Some(timer) = self.timers.remove(&handle) {
            context.deadlines.remove(timer.deadline);
        }
    }

    pub(crate) fn clear_all(&mut self, context: &mut EngineContext) {
        for timer in std::mem::take(&mut self.timers).into_values() {
            context.deadlines.remove(timer.deadline);
        }
    }

    /// Sets the next deadline of a repeating timer that is due: in step with its start, unless it has fallen behind.
    /// False when there is no such timer any more.
    pub(crate) fn rearm(
        &mut self,
        context: &mut EngineContext,
        now: Instant,
        room: PolicyKey,
        handle: TimerHandle,
    ) -> bool {
        let Some(timer) = self.timers.get_mut(&handle) else { return false };
        if let Some(every) = timer.every {
            let next = (timer.deadline.0 + every).max(now);
            timer.deadline = context.deadlines.add(next, Deadline::Timer(room, handle));
        }
        true
    }

    /// The function of a timer that is due. One that does not repeat is gone afterwards.
    pub(crate) fn take_function(&mut self, handle: TimerHandle) -> Option<Rc<RegistryKey>> {
        let timer = self.timers.get(&handle)?;
        let function = timer.function.clone();
        if timer.every.is_none() {
            self.timers.remove(&handle);
        }
        Some(function)
    }
}
