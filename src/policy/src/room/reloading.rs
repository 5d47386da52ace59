//! A room's part in a reload ([`crate::reload`]), and the way back of a script that is suspended.

use std::collections::{HashMap, HashSet};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use super::Room;
use crate::calls;
use crate::carried::CarriedPolicy;
use crate::client::ClientFacts;
use crate::effects::{Effects, count};
use crate::engine_context::{Deadline, EngineContext};
use crate::failure::ReloadError;
use crate::faults::Faults;
use crate::output::PolicyOutput;
use crate::reload::{OldVersion, Request, transaction};
use crate::script::Script;
use crate::settings::{FIRST_SUSPENSION, LONGEST_SUSPENSION};
use crate::state::State;
use crate::work::Work;

impl Room {
    /// Begins a reload; it happens at once unless hooks wait.
    pub(crate) fn reload(&mut self, context: &mut EngineContext, now: Instant, request: Request) {
        self.reload.request(context, now, self.key, request);
        self.pump(context, now);
    }

    /// The hooks of the old version have had their time.
    pub(crate) fn reload_now(&mut self, context: &mut EngineContext, now: Instant) {
        self.reload.expire();
        self.pump(context, now);
    }

    /// Whether the room is to be reloaded with `script`: when that is new to it, or when an operator orders it and the
    /// script has failed here, be it that it could not be loaded or that it is suspended.
    pub(crate) fn is_due(&mut self, script: &Script, is_ordered: bool) -> bool {
        let running = &self.state.host.script;
        if self.reload.is_new(running, script) {
            return true;
        }
        is_ordered && !self.reload.is_pending() && (self.health.is_suspended || !running.is(script))
    }

    /// The script of the last reload.
    pub(crate) fn last_tried(&self) -> Option<&Arc<Script>> {
        self.reload.tried.as_ref()
    }

    /// Takes what a recording tells of a reload.
    pub(crate) fn replay_reload(&mut self, context: &mut EngineContext, now: Instant, request: &Request) {
        self.replace(context, now, request);
    }

    pub(super) fn reload_if_due(&mut self, context: &mut EngineContext, now: Instant) {
        if let Some(request) = self.reload.take_due(context, self.waits.is_empty()) {
            self.replace(context, now, &request);
        }
    }

    fn replace(&mut self, context: &mut EngineContext, now: Instant, request: &Request) {
        self.settle_tapes(context, now);
        self.facts.now.set(now);
        self.facts.unix.set(context.unix(now));
        self.facts.host_bytes_left.set(context.settings.host_bytes);
        self.state.host.effects.take();
        let old = OldVersion { facts: &self.facts, state: &self.state, is_suspended: self.health.is_suspended };
        let seed = context.seed();
        self.tapes.reload(&request.script, request.drops_state, (seed, self.facts.unix.get()));
        let result = transaction(context, &old, request, seed);
        let effects = self.state.host.effects.take();
        let result = result.map(|state| {
            self.swap(context, now, state, effects);
            request.script.version()
        });
        self.count(context, |stats| {
            stats.reloads += u64::from(result.is_ok());
            stats.reloads_failed += u64::from(result.is_err());
        });
        if result.is_err() {
            self.count_failing(context);
        }
        self.tapes.reloaded(result.clone().map_err(|error| error.to_string()));
        self.reload.last = Some(result.clone());
        context.outputs.push_back(PolicyOutput::Reloaded { key: self.key, result });
    }

    /// The last step of a reload. `effects` is what the old version's `on_unload` asked for.
    fn swap(&mut self, context: &mut EngineContext, now: Instant, state: State, effects: Effects) {
        let named = self.named_timers(now);
        self.timers.clear_all(context);
        self.state.host.timers.take();
        self.cut_off_waits(context, now);
        context.closed.push(std::mem::replace(&mut self.state, state));
        self.health.suspensions = 0;
        self.recover(context, now);
        let mut actions = effects.actions;
        let asked = self.state.host.effects.take();
        actions.extend(self.commit(context, now, asked));
        self.timers.inherit(context, now, self.key, &named);
        self.act(context, actions);
        self.begin_checkpoints(context, now);
    }

    /// What the room hands to another process. Nothing changes here, as `on_unload` changes nothing; what it asks for is not done.
    pub(crate) fn hand_over(
        &mut self,
        context: &mut EngineContext,
        now: Instant,
    ) -> Result<CarriedPolicy, ReloadError> {
        self.set_moment(context, now);
        let held = self.state.host.effects.take();
        let old = OldVersion { facts: &self.facts, state: &self.state, is_suspended: self.health.is_suspended };
        let (state, version) = (old.unload(&context.settings), old.state_version());
        self.state.host.effects.replace(held);
        let us = |until: Instant, since: Instant| {
            u64::try_from(until.saturating_duration_since(since).as_micros()).unwrap_or(u64::MAX)
        };
        let timers = self.named_timers(now).into_iter().map(|(name, due)| (name, us(due, now))).collect();
        let counters = self.facts.counters.borrow().clone();
        Ok(CarriedPolicy { state: state?, version, timers, counters, age: us(now, self.facts.opened) })
    }

    /// When the timers with names are due in the version to come. What was due here and still waits for its turn has not run:
    /// of one that repeats, the next time would be an interval too late.
    fn named_timers(&self, now: Instant) -> HashMap<String, Instant> {
        let queued: HashSet<_> = self.mailbox.works().filter_map(Work::timer).collect();
        self.timers.named(|handle| queued.contains(&handle).then_some(now))
    }

    /// A client is in the room, as if its join had been allowed here.
    pub(crate) fn know(&self, client: Rc<ClientFacts>) {
        self.facts.roster.borrow_mut().push(client);
    }

    /// Goes on with the timers and counters that the room had in another process.
    pub(crate) fn inherit(&mut self, context: &mut EngineContext, now: Instant, carried: &CarriedPolicy) {
        self.timers.inherit(context, now, self.key, &carried.due(now));
        for (name, n) in &carried.counters {
            context.count(name, *n);
            count(&mut self.facts.counters.borrow_mut(), name.clone(), *n);
        }
    }

    /// Ends the hooks that still wait, says which, and answers their clients.
    fn cut_off_waits(&mut self, context: &mut EngineContext, now: Instant) {
        for hook in self.waits.cancel_all(context, self.key) {
            let client = hook.work.client().map_or_else(String::new, |client| client.id.to_string());
            let (name, waited) = (hook.work.name(), now.saturating_duration_since(hook.since));
            if self.facts.may_log() {
                tracing::warn!(room = %self.facts.id, hook = name, client, ?waited, "the reload has cut off a hook that waited");
            }
            self.give_up(context, hook.work, calls::cut_off);
        }
    }

    /// The script has failed too often: nothing of it runs until it is resumed, reloaded, or its pause is over. Its
    /// timers are postponed, the hooks that wait and the events in the queue have failed.
    pub(super) fn suspend(&mut self, context: &mut EngineContext, now: Instant) {
        let pause = (FIRST_SUSPENSION * 2_u32.saturating_pow(self.health.suspensions)).min(LONGEST_SUSPENSION);
        self.health.is_suspended = true;
        self.health.suspensions = (self.health.suspensions + 1).min(10);
        self.health.resume = Some(context.deadlines.add(now + pause, Deadline::Resume(self.key)));
        self.count(context, |stats| stats.suspensions += 1);
        let script = self.state.host.script.name();
        tracing::error!(room = %self.facts.id, script, ?pause, "the script fails again and again, on events of different \
            clients: it is suspended; newcomers are rejected, members and media stay. Mend and save it, or run `moonring \
            resume {}`", self.facts.id);
        for hook in self.waits.cancel_all(context, self.key) {
            self.give_up(context, hook.work, calls::failed);
        }
        for work in self.mailbox.take_all() {
            if let Some(handle) = work.timer() {
                // It rings when the script runs again.
                self.timers.postpone(context, now, self.key, handle);
            }
            self.give_up(context, work, calls::failed);
        }
    }

    /// Lets a suspended script run again. False when it is not suspended.
    pub(crate) fn resume_script(&mut self, context: &mut EngineContext, now: Instant) -> bool {
        let was_suspended = self.health.is_suspended;
        if was_suspended {
            tracing::info!(room = %self.facts.id, script = self.script().name(), "the script runs again");
            self.tapes.at(now);
            self.tapes.resumed();
            self.recover(context, now);
        }
        was_suspended
    }

    fn recover(&mut self, context: &mut EngineContext, now: Instant) {
        self.health.is_suspended = false;
        self.health.faults = Faults::new(&context.settings, now);
        if let Some(resume) = self.health.resume.take() {
            context.deadlines.remove(resume);
        }
    }
}

const _: () = assert!(LONGEST_SUSPENSION.as_secs() >= FIRST_SUSPENSION.as_secs());
