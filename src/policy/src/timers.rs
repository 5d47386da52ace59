//! The timers that a room's script has set.

use std::collections::HashMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

use mlua::RegistryKey;

use super::effects::{NewTimer, SetTimers, TimerHandle};
use super::engine_context::{Deadline, EngineContext};
use super::output::PolicyKey;
use super::timer_queue::TimerId;
use super::waits::MIN_WAIT;

/// How much later a timer is due that became due while it could not run.
const POSTPONED: Duration = Duration::from_secs(1);

struct Timer {
    /// The name by which it goes on across a reload.
    name: Option<String>,
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

    /// What is set.
    pub(crate) fn all(&self) -> SetTimers {
        self.timers.iter().map(|(handle, timer)| (*handle, timer.name.clone())).collect()
    }

    /// Sets a timer; one of the same name ends.
    pub(crate) fn set(&mut self, context: &mut EngineContext, now: Instant, room: PolicyKey, new: NewTimer) {
        if let Some(name) = &new.name {
            self.clear_named(context, name);
        }
        let at = now + new.delay.max(MIN_WAIT);
        let deadline = context.deadlines.add(at, Deadline::Timer(room, new.handle));
        let every = new.repeat.then_some(new.delay);
        self.timers.insert(new.handle, Timer { name: new.name, function: Rc::new(new.function), every, deadline });
    }

    pub(crate) fn clear(&mut self, context: &mut EngineContext, handle: TimerHandle) {
        if let Some(timer) = self.timers.remove(&handle) {
            context.deadlines.remove(timer.deadline);
        }
    }

    pub(crate) fn clear_named(&mut self, context: &mut EngineContext, name: &str) {
        let found =
            self.timers.iter().find(|(_, timer)| timer.name.as_deref() == Some(name)).map(|(handle, _)| *handle);
        if let Some(handle) = found {
            self.clear(context, handle);
        }
    }

    pub(crate) fn clear_all(&mut self, context: &mut EngineContext) {
        for timer in std::mem::take(&mut self.timers).into_values() {
            context.deadlines.remove(timer.deadline);
        }
    }

    /// When the named timers are due: `queued` says so of those that were due before.
    pub(crate) fn named(&self, queued: impl Fn(TimerHandle) -> Option<Instant>) -> HashMap<String, Instant> {
        let due = |(handle, timer): (&TimerHandle, &Timer)| {
            Some((timer.name.clone()?, queued(*handle).unwrap_or(timer.deadline.0)))
        };
        self.timers.iter().filter_map(due).collect()
    }

    /// Lets timers go on that the version before had set: those of the same name are due when they were due there.
    pub(crate) fn inherit(
        &mut self,
        context: &mut EngineContext,
        now: Instant,
        room: PolicyKey,
        named: &HashMap<String, Instant>,
    ) {
        let mut timers: Vec<_> = self.timers.iter_mut().collect();
        // Those that are due at the same time stay in the order in which they were set.
        timers.sort_by_key(|(handle, _)| **handle);
        for (handle, timer) in timers {
            let Some(due) = timer.name.as_ref().and_then(|name| named.get(name)) else { continue };
            context.deadlines.remove(timer.deadline);
            timer.deadline = context.deadlines.add((*due).max(now), Deadline::Timer(room, *handle));
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

    /// Sets the deadline of a timer again that is due, or queued, and cannot run now: also of one that repeats, whose next time
    /// may be far.
    pub(crate) fn postpone(&mut self, context: &mut EngineContext, now: Instant, room: PolicyKey, handle: TimerHandle) {
        if let Some(timer) = self.timers.get_mut(&handle) {
            context.deadlines.remove(timer.deadline);
            timer.deadline = context.deadlines.add(now + POSTPONED, Deadline::Timer(room, handle));
        }
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
