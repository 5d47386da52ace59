//! How a step of a hook ends: with a verdict and actions, with a failure, or with a wait.

use std::time::Instant;

use mlua::Value;

use super::Room;
use crate::budget::{Spent, stopwatch};
use crate::calls;
use crate::effects::{Effects, count};
use crate::engine_context::EngineContext;
use crate::hook::{Action, HookCall, Outcome, Presence, Verdict};
use crate::mailbox::Work;
use crate::output::{PolicyOutput, Ticket};
use crate::settings::{MAX_WAITING, STRIKES_OF_ERROR, STRIKES_OF_KILL};
use crate::state::{End, HookFailure};
use crate::stats::PolicyStats;
use crate::waits::WaitingHook;

impl Room {
    pub(super) fn after_step(&mut self, context: &mut EngineContext, now: Instant, work: Work, end: End, spent: Spent) {
        self.limits.cpu.pay(spent.cpu);
        self.count(context, |stats| stats.step(spent.cpu));
        self.state.adapt_collector(context.settings.memory_bytes);
        let effects = self.state.host.effects.take();
        let failure = match end {
            End::Waiting(thread, _) if self.waits.len() >= MAX_WAITING => {
                drop(thread);
                HookFailure::Error(format!("more than {MAX_WAITING} hooks of the room wait"))
            }
            End::Waiting(thread, wait_for) => {
                let hook = WaitingHook { work, thread, effects };
                return self.waits.begin(context, now, self.key, hook, wait_for);
            }
            End::Missing => return self.missing(context, work),
            End::Allowed => return self.returned(context, now, work, (true, Value::Nil), effects),
            End::Returned(value) => return self.returned(context, now, work, (false, value), effects),
            End::Failed(failure) => failure,
        };
        self.failed(context, now, work, &failure);
    }

    fn missing(&mut self, context: &mut EngineContext, work: Work) {
        self.count(context, |stats| stats.missing += 1);
        if let Work::Call { ticket, call } = work {
            self.conclude(context, ticket, &call, calls::missing(&call));
        }
    }

    /// `returned` is whether the hook allows, and the reason if it does not.
    fn returned(
        &mut self,
        context: &mut EngineContext,
        now: Instant,
        work: Work,
        returned: (bool, Value),
        effects: Effects,
    ) {
        self.count(context, |stats| stats.hooks += 1);
        let actions = self.commit(context, now, effects);
        let (ticket, call) = match work {
            Work::Timer(_) => return self.act(context, actions),
            Work::Call { ticket, call } => (ticket, call),
        };
        let mut outcome = calls::decided(&call, returned.0, &returned.1, actions);
        if let HookCall::ClientConnect { client, .. } = &call {
            if client.presence.get() == Presence::Gone {
                outcome.verdict = calls::left(&call).verdict;
            } else if outcome.verdict == Verdict::Allow {
                client.presence.set(Presence::Joined);
                self.facts.roster.borrow_mut().push(client.clone());
            }
        }
        if call.decides() {
            let is_allowed = outcome.verdict == Verdict::Allow;
            self.count(context, |stats| {
                stats.allowed += u64::from(is_allowed);
                stats.rejected += u64::from(!is_allowed);
            });
        }
        self.conclude(context, ticket, &call, outcome);
    }

    fn failed(&mut self, context: &mut EngineContext, now: Instant, work: Work, failure: &HookFailure) {
        self.count(context, |stats| {
            stats.hooks += 1;
            stats.failure(failure);
        });
        self.log_failure(&work, failure);
        let elapsed = stopwatch();
        self.state.clean_up(context.settings.memory_bytes);
        self.limits.cpu.pay(elapsed());
        let strikes = if matches!(failure, HookFailure::Error(_)) { STRIKES_OF_ERROR } else { STRIKES_OF_KILL };
        self.give_up(context, work, calls::failed);
        if self.limits.strikes.add(now, strikes) {
            self.suspend(context);
        }
    }

    fn log_failure(&self, work: &Work, failure: &HookFailure) {
        let (script, hook) = (&self.state.host.script, work.name());
        let client = work.client().map_or("", |client| client.id.as_str());
        let version = format_args!("{:016x}", script.version());
        tracing::error!(room = %self.facts.id, script = script.name(), %version, hook, client, "the script failed: {failure}");
    }

    /// Counts for the room and for the shard.
    pub(super) fn count(&mut self, context: &mut EngineContext, mut add: impl FnMut(&mut PolicyStats)) {
        add(&mut self.counts.stats);
        add(&mut context.stats);
    }

    /// Ends a piece of work whose hook has not decided.
    pub(super) fn give_up(&mut self, context: &mut EngineContext, work: Work, outcome: fn(&HookCall) -> Outcome) {
        if let Work::Call { ticket, call } = work {
            self.conclude(context, ticket, &call, outcome(&call));
        }
    }

    /// Hands out an outcome, and forgets the objects of a client that is not in the room.
    pub(super) fn conclude(&mut self, context: &mut EngineContext, ticket: Ticket, call: &HookCall, outcome: Outcome) {
        let is_rejected = matches!(call, HookCall::ClientConnect { .. }) && outcome.verdict != Verdict::Allow;
        if (is_rejected || matches!(call, HookCall::ClientDisconnect { .. }))
            && let Some(client) = call.client()
        {
            self.state.host.clients.borrow_mut().forget(client);
        }
        self.outcome(context, ticket, outcome);
    }

    pub(super) fn outcome(&self, context: &mut EngineContext, ticket: Ticket, outcome: Outcome) {
        context.outputs.push_back(PolicyOutput::Outcome { ticket, key: self.key, outcome });
    }

    /// Hands out what the script does of its own accord.
    pub(super) fn act(&self, context: &mut EngineContext, actions: Vec<Action>) {
        if !actions.is_empty() {
            context.outputs.push_back(PolicyOutput::Actions { key: self.key, actions });
        }
    }

    /// Does what a hook that has ended well asked for. The actions are for the room.
    pub(super) fn commit(&mut self, context: &mut EngineContext, now: Instant, effects: Effects) -> Vec<Action> {
        for new in effects.timers {
            self.timers.set(context, now, self.key, new);
        }
        for handle in effects.cleared {
            self.timers.clear(context, handle);
        }
        self.state.host.timers.set(self.timers.len());
        for (name, n) in effects.counts {
            context.count(&name, n);
            count(&mut self.counts.counters, name, n);
        }
        effects.actions
    }

    /// The script has failed too often: nothing of it runs until it is reloaded.
    fn suspend(&mut self, context: &mut EngineContext) {
        self.limits.is_suspended = true;
        self.count(context, |stats| stats.suspensions += 1);
        let script = self.state.host.script.name();
        tracing::error!(room = %self.facts.id, script, "the script fails again and again: it is suspended until its \
            next reload; newcomers are rejected, members and media stay");
        self.stop_all(context);
        for work in self.mailbox.take_all() {
            self.give_up(context, work, calls::failed);
        }
    }

    /// Ends every wait and timer.
    pub(super) fn stop_all(&mut self, context: &mut EngineContext) {
        self.timers.clear_all(context);
        self.state.host.timers.set(0);
        for work in self.waits.cancel_all(context) {
            self.give_up(context, work, calls::failed);
        }
    }
}
