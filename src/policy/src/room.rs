//! The policy of one room: takes its events and runs the hooks for them.
//!
//! One step of one hook runs at a time. Events of one client stay in order; the event of another client runs when none
//! of its own is before it, also while other hooks wait.

mod endings;

use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use mlua::Function;

use super::bucket::{CpuBucket, Strikes};
use super::budget::Spent;
use super::calls;
use super::effects::{Effects, TimerHandle};
use super::engine_context::{Deadline, EngineContext};
use super::hook::{ClientFacts, HookCall, Presence};
use super::host::RoomFacts;
use super::mailbox::{Lane, Mailbox, Work};
use super::output::{PolicyKey, PolicyOutput, PolicyReply, PolicyRequestId, Ticket};
use super::reload::{OldVersion, Reload, transaction};
use super::script::Script;
use super::state::{End, HookFailure, State, no_args};
use super::stats::{PolicyStats, RoomStatus};
use super::timer_queue::TimerId;
use super::timers::Timers;
use super::waits::Waits;

/// What a room's script may use up, and what becomes of it when it uses too much.
struct Limits {
    cpu: CpuBucket,
    strikes: Strikes,
    /// Set while the room waits for CPU time.
    wake: Option<TimerId>,
    /// True when the script has failed too often: none of its hooks runs.
    is_suspended: bool,
}

/// What a room counts.
#[derive(Default)]
struct Counts {
    stats: PolicyStats,
    /// `sfu.count`.
    counters: Vec<(String, f64)>,
}

/// A room's policy.
pub(crate) struct Room {
    key: PolicyKey,
    facts: Rc<RoomFacts>,
    state: State,
    mailbox: Mailbox,
    waits: Waits,
    timers: Timers,
    reload: Reload,
    limits: Limits,
    counts: Counts,
}

impl Room {
    pub(crate) fn new(key: PolicyKey, facts: Rc<RoomFacts>, state: State, context: &EngineContext) -> Self {
        let now = facts.opened;
        let limits = Limits {
            cpu: CpuBucket::new(&context.settings, now),
            strikes: Strikes::new(&context.settings, now),
            wake: None,
            is_suspended: false,
        };
        Self {
            key,
            facts,
            state,
            mailbox: Mailbox::default(),
            waits: Waits::default(),
            timers: Timers::default(),
            reload: Reload::default(),
            limits,
            counts: Counts::default(),
        }
    }

    /// Does what the script's main chunk and `on_init` have asked for.
    pub(crate) fn start(&mut self, context: &mut EngineContext, now: Instant) {
        let effects = self.state.host.effects.take();
        let actions = self.commit(context, now, effects);
        self.act(context, actions);
    }

    /// Takes an event, and runs what can run.
    pub(crate) fn submit(&mut self, context: &mut EngineContext, now: Instant, ticket: Ticket, call: HookCall) {
        if let HookCall::ClientDisconnect { client, .. } = &call {
            let had_joined = self.leave(context, &client.clone());
            if !had_joined {
                // Its connect has not been allowed, so the script has never had it as a member.
                self.outcome(context, ticket, calls::left(&call));
                return self.pump(context, now);
            }
        } else if self.mailbox.len() >= context.settings.max_queued_events {
            self.count(context, |stats| stats.overflows += 1);
            tracing::warn!(room = %self.facts.id, hook = call.name(), "too many events wait for the script: one is dropped");
            return self.outcome(context, ticket, calls::failed(&call));
        }
        if self.limits.is_suspended {
            return self.conclude(context, ticket, &call, calls::failed(&call));
        }
        self.mailbox.push(Work::Call { ticket, call });
        self.pump(context, now);
    }

    /// Takes a client out that is gone. False when it was not in the room; then whatever was still to be decided about
    /// it is concluded.
    fn leave(&mut self, context: &mut EngineContext, client: &Rc<ClientFacts>) -> bool {
        client.presence.set(Presence::Gone);
        let mut roster = self.facts.roster.borrow_mut();
        let before = roster.len();
        roster.retain(|other| other.id != client.id);
        let had_joined = roster.len() < before;
        drop(roster);
        if !had_joined {
            let cancelled = self.waits.cancel_of(context, client);
            cancelled.into_iter().for_each(|work| self.give_up(context, work, calls::left));
            let queued = self.mailbox.take_of(client);
            queued.into_iter().for_each(|work| self.give_up(context, work, calls::left));
            self.state.host.clients.borrow_mut().forget(client);
        }
        had_joined
    }

    /// A timer is due. While its function still waits or is queued, it does not queue again.
    pub(crate) fn timer_due(&mut self, context: &mut EngineContext, now: Instant, handle: TimerHandle) {
        if !self.timers.rearm(context, now, self.key, handle) {
            return;
        }
        let lane = Lane::Timer(handle);
        if !self.waits.has_lane(&lane) && !self.mailbox.has_lane(&lane) {
            self.mailbox.push(Work::Timer(handle));
            self.pump(context, now);
        }
    }

    /// Runs what can run.
    pub(crate) fn pump(&mut self, context: &mut EngineContext, now: Instant) {
        loop {
            if let Some(script) = self.reload.take_due(context, self.waits.is_empty()) {
                self.replace(context, now, &script);
            } else if self.reload.is_pending() {
                return;
            }
            let Some(next) = self.mailbox.startable(self.waits.lanes()) else { return };
            if !self.has_cpu(context, now) {
                return;
            }
            if let Some(work) = self.mailbox.take(next) {
                self.run(context, now, work);
            }
        }
    }

    /// True when the room may run now; if not, it is woken when it may.
    fn has_cpu(&mut self, context: &mut EngineContext, now: Instant) -> bool {
        let ready = self.limits.cpu.ready_at(now);
        if ready <= now {
            return true;
        }
        if self.limits.wake.is_none() {
            self.count(context, |stats| stats.throttled += 1);
            self.limits.wake = Some(context.deadlines.add(ready, Deadline::Pump(self.key)));
        }
        false
    }

    /// There is CPU time again.
    pub(crate) fn wake(&mut self, context: &mut EngineContext, now: Instant) {
        self.limits.wake = None;
        self.pump(context, now);
    }

    fn run(&mut self, context: &mut EngineContext, now: Instant, work: Work) {
        self.set_clock(context, now);
        let budget = context.settings.step_budget;
        let (end, spent) = match &work {
            Work::Call { call, .. } => calls::start(call, &self.state, budget),
            Work::Timer(handle) => {
                let Some(function) = self.timers.take_function(*handle) else { return };
                self.state.host.timers.set(self.timers.len());
                match self.state.lua.registry_value::<Function>(&function) {
                    Ok(function) => self.state.start(work.name(), function, no_args, budget),
                    Err(error) => (End::Failed(HookFailure::of_error(&error)), Spent::default()),
                }
            }
        };
        self.after_step(context, now, work, end, spent);
    }

    /// Sets the clock of the host functions.
    fn set_clock(&self, context: &mut EngineContext, now: Instant) {
        self.facts.now.set(now);
        self.facts.unix.set(context.unix(now));
    }

    /// Goes on with a hook that waited, if there is CPU time for it.
    pub(crate) fn resume(
        &mut self,
        context: &mut EngineContext,
        now: Instant,
        id: PolicyRequestId,
        reply: Option<PolicyReply>,
    ) {
        let ready = self.limits.cpu.ready_at(now);
        if ready > now {
            return self.waits.postpone(context, ready, self.key, id, reply);
        }
        let Some((hook, reply)) = self.waits.take(context, id, reply) else { return };
        self.set_clock(context, now);
        self.state.host.effects.replace(hook.effects);
        let (name, budget) = (hook.work.name(), context.settings.step_budget);
        let answer = |lua: &mlua::Lua| super::api::wait::values(lua, reply);
        let (end, spent) = self.state.resume(name, hook.thread, answer, budget);
        self.after_step(context, now, hook.work, end, spent);
        self.pump(context, now);
    }

    /// Begins a reload; it happens at once unless hooks wait.
    pub(crate) fn reload(&mut self, context: &mut EngineContext, now: Instant, script: Arc<Script>) {
        self.reload.request(context, now, self.key, script);
        self.pump(context, now);
    }

    /// The hooks of the old version have had their time.
    pub(crate) fn reload_now(&mut self, context: &mut EngineContext, now: Instant) {
        self.reload.expire();
        self.pump(context, now);
    }

    /// See [`Reload::is_new`].
    pub(crate) fn is_new(&mut self, script: &Script) -> bool {
        self.reload.is_new(&self.state.host.script, script)
    }

    fn replace(&mut self, context: &mut EngineContext, now: Instant, script: &Arc<Script>) {
        self.set_clock(context, now);
        self.state.host.effects.take();
        let old = OldVersion { facts: &self.facts, state: &self.state, is_suspended: self.limits.is_suspended };
        let result = transaction(context, &old, script);
        let effects = self.state.host.effects.take();
        let result = result.map(|state| {
            self.swap(context, now, state, effects);
            script.version()
        });
        self.count(context, |stats| {
            stats.reloads += u64::from(result.is_ok());
            stats.reloads_failed += u64::from(result.is_err());
        });
        self.reload.last = Some(result.clone());
        context.outputs.push_back(PolicyOutput::Reloaded { key: self.key, result });
    }

    /// The last step of a reload. `effects` is what the old version's `on_unload` asked for.
    fn swap(&mut self, context: &mut EngineContext, now: Instant, state: State, effects: Effects) {
        self.stop_all(context);
        context.closed.push(std::mem::replace(&mut self.state, state));
        self.limits.is_suspended = false;
        self.limits.strikes = Strikes::new(&context.settings, now);
        let mut actions = effects.actions;
        let asked = self.state.host.effects.take();
        actions.extend(self.commit(context, now, asked));
        self.act(context, actions);
    }

    /// Takes the room apart; no outcome follows.
    pub(crate) fn close(mut self, context: &mut EngineContext) {
        self.timers.clear_all(context);
        self.waits.cancel_all(context);
        self.reload.cancel(context);
        if let Some(wake) = self.limits.wake {
            context.deadlines.remove(wake);
        }
        context.closed.push(self.state);
    }

    /// The script that the room runs.
    pub(crate) fn script(&self) -> &Arc<Script> {
        &self.state.host.script
    }

    /// The script of the last reload.
    pub(crate) fn last_tried(&self) -> Option<&Arc<Script>> {
        self.reload.tried.as_ref()
    }

    pub(crate) fn status(&self) -> RoomStatus {
        RoomStatus {
            script: self.script().name().to_owned(),
            version: self.script().version(),
            last_reload: self.reload.last.as_ref().map(|last| last.clone().map_err(|error| error.to_string())),
            is_suspended: self.limits.is_suspended,
            memory: self.state.memory(),
            queued: self.mailbox.len(),
            waiting: self.waits.len(),
            timers: self.timers.len(),
            stats: self.counts.stats,
            counters: self.counts.counters.clone(),
        }
    }
}
