//! How a step of a hook ends: with a verdict and actions, with a failure, or with a wait.

use std::time::Instant;

use mlua::Value;

use super::{Room, charge_of};
use crate::admission::Refusal;
use crate::budget::{Spent, cpu_stopwatch};
use crate::calls;
use crate::canary::Side;
use crate::effects::{Effects, TimerChange, count, too_many_timers};
use crate::engine_context::EngineContext;
use crate::failure::{FAILED, HookFailure};
use crate::faults::Consequence;
use crate::hook::{Action, FAILS_TOO_OFTEN, HookCall, Outcome, Presence, Verdict};
use crate::output::{PolicyOutput, PolicyReply, PolicyRequestId, Ticket};
use crate::state::End;
use crate::stats::PolicyStats;
use crate::tape::line::Of;
use crate::waits::WaitingHook;
use crate::work::Work;
use moonring_wire::id::ClientId;

/// What the log says of a hook for whose arguments there is no memory.
const NOT_CALLED: &str = "no memory is left for what it is called with: it is not called";

impl Room {
    pub(super) fn after_step(
        &mut self,
        context: &mut EngineContext,
        now: Instant,
        (of, work): (Of, Work),
        (end, spent): (End, Spent),
    ) {
        self.note_step(context, now, of, &work, (&end, spent));
        self.pay(context, charge_of(spent));
        self.count(context, |stats| stats.step(spent.cpu));
        self.state.adapt_collector();
        self.commit_flushed(context, now);
        let mut effects = self.state.host.effects.take();
        match end {
            End::Waiting(thread, wait_for) => {
                effects.end_step();
                let hook = WaitingHook { work, thread, effects, since: now };
                self.waits.begin(context, now, self.key, hook, *wait_for);
            }
            End::Missing => self.missing(context, work),
            End::Allowed => self.returned(context, now, work, (true, Value::Nil), effects),
            End::Returned(value) => self.returned(context, now, work, (false, value), effects),
            End::Undecided(kind) => {
                self.tell_of_undecided(&work, &kind);
                self.returned(context, now, work, (false, Value::Nil), effects);
            }
            End::NoMemory => self.no_memory(context, work),
            End::Failed(failure) => {
                drop(effects);
                self.failed(context, now, work, &failure);
            }
        }
        if matches!(of, Of::Timer(_)) {
            self.state.forget_functions();
        }
    }

    /// A wait of a hook ends: with the reply, or because its time is over. Those that wait for the same end with the same reply.
    pub(crate) fn end_wait(
        &mut self,
        context: &mut EngineContext,
        now: Instant,
        id: PolicyRequestId,
        reply: Option<PolicyReply>,
    ) {
        let along = if reply.is_some() { self.waits.along(id) } else { Vec::new() };
        for id in [id].into_iter().chain(along) {
            self.tapes.at(now);
            if let Some(reply) = &reply {
                self.tapes.reply(id, reply);
            }
            let reply = reply.clone().map(|reply| self.fitting(context, reply));
            if self.waits.end(context, self.key, id, reply) {
                self.pump(context, now);
            }
        }
    }

    /// Does what the step has flushed, whether it ended well or not.
    fn commit_flushed(&mut self, context: &mut EngineContext, now: Instant) {
        for effects in self.state.host.flushed.take() {
            let actions = self.commit(context, now, effects);
            self.act(context, actions);
        }
    }

    /// There was no memory for the arguments of the hook: it has not been called, or not been resumed.
    fn no_memory(&mut self, context: &mut EngineContext, work: Work) {
        self.count(context, |stats| stats.refused += 1);
        if self.facts.may_log() {
            self.log_failure(&work, &HookFailure::Memory(context.settings.memory_bytes, NOT_CALLED.to_owned()));
        }
        self.state.clean_up(context.settings.memory_bytes);
        if let Work::Call { ticket, call, .. } = work {
            self.conclude(context, ticket, &call, calls::refused(&call, &Refusal::NoMemory));
        }
    }

    fn missing(&mut self, context: &mut EngineContext, work: Work) {
        self.count(context, |stats| stats.missing += 1);
        if let Work::Call { ticket, call, .. } = work {
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
        let answer = match admin_answer(&work, &returned.1) {
            Ok(answer) => answer,
            Err(failure) => return self.failed(context, now, work, &failure),
        };
        if !self.state.host.timers_fit(&effects, None) {
            return self.failed(context, now, work, &HookFailure::Error(too_many_timers()));
        }
        self.count(context, |stats| stats.hooks += 1);
        let actions = self.commit(context, now, effects);
        let (ticket, call) = match work {
            Work::Timer(_) => return self.act(context, actions),
            Work::Call { ticket, call, .. } => (ticket, call),
        };
        let mut outcome = calls::decided(&call, returned.0, &returned.1, actions);
        outcome.answer = answer;
        if let HookCall::ClientConnect { client, .. } = &call {
            if client.presence.get() == Presence::Gone {
                outcome.verdict = calls::left(&call).verdict;
            } else if outcome.verdict == Verdict::Allow {
                client.presence.set(Presence::Admitted);
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
        self.count_failing(context);
        if self.facts.may_log() {
            self.log_failure(&work, failure);
        }
        let elapsed = cpu_stopwatch();
        self.state.clean_up(context.settings.memory_bytes);
        self.pay(context, elapsed());
        let client = work.client().map(|client| client.id.clone());
        let consequence = self.health.faults.add(now, work.name(), work.client().map(|client| &**client), failure);
        self.give_up(context, work, calls::failed);
        match (consequence, client) {
            (Consequence::Suspend, _) => self.suspend(context, now),
            (Consequence::Disconnect, Some(client)) => self.disconnect(context, client),
            _ => {}
        }
    }

    /// A client's events alone make hooks fail again and again.
    fn disconnect(&mut self, context: &mut EngineContext, client: ClientId) {
        self.count(context, |stats| stats.disconnected += 1);
        tracing::warn!(room = %self.facts.id, %client, "hooks fail again and again on events of this client only: it is disconnected");
        self.act(context, vec![Action::Kick { client, reason: FAILS_TOO_OFTEN.to_owned() }]);
    }

    fn log_failure(&self, work: &Work, failure: &HookFailure) {
        let (script, hook) = (&self.state.host.script, work.name());
        let client = work.client().map_or("", |client| client.id.as_str());
        let version = format_args!("{:016x}", script.version());
        tracing::error!(room = %self.facts.id, script = script.name(), %version, hook, client, "{FAILED}{failure}");
    }

    /// Whoever forgets to return is told once, not for each client that is turned away by it.
    fn tell_of_undecided(&self, work: &Work, kind: &str) {
        let (script, hook) = (&self.state.host.script, work.name());
        if self.state.is_first_undecided(hook) {
            let client = work.client().map_or("", |client| client.id.as_str());
            let version = format_args!("{:016x}", script.version());
            tracing::warn!(
                room = %self.facts.id, script = script.name(), %version, hook, client,
                "the hook has returned {kind} and no reason: only true allows, and whoever asks is turned away; return true or false"
            );
        }
    }

    /// Counts for the room and for the shard.
    pub(super) fn count(&mut self, context: &mut EngineContext, mut add: impl FnMut(&mut PolicyStats)) {
        add(&mut self.stats);
        add(&mut context.stats);
        if let Some(side) = context.side(self.side) {
            add(&mut side.stats);
        }
    }

    /// Puts the room on a side of the canary.
    pub(crate) fn set_side(&mut self, context: &mut EngineContext, side: Option<Side>) {
        if self.side != side
            && let Some(counts) = context.side(side)
        {
            counts.rooms += 1;
        }
        (self.side, self.has_failed) = (side, false);
    }

    /// Counts the room as one in which something has failed.
    pub(super) fn count_failing(&mut self, context: &mut EngineContext) {
        if let Some(side) = context.side(self.side)
            && !std::mem::replace(&mut self.has_failed, true)
        {
            side.failing += 1;
        }
    }

    /// Ends a piece of work whose hook has not decided.
    pub(super) fn give_up(&mut self, context: &mut EngineContext, work: Work, outcome: fn(&HookCall) -> Outcome) {
        if let Work::Call { ticket, call, .. } = work {
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

    pub(super) fn outcome(&mut self, context: &mut EngineContext, ticket: Ticket, outcome: Outcome) {
        if !self.tapes.is_empty() {
            self.tapes.outcome(ticket, &outcome);
        }
        context.outputs.push_back(PolicyOutput::Outcome { ticket, key: self.key, outcome });
    }

    /// Hands out what the script does of its own accord.
    pub(super) fn act(&mut self, context: &mut EngineContext, actions: Vec<Action>) {
        if !actions.is_empty() {
            self.tapes.actions(&actions);
            context.outputs.push_back(PolicyOutput::Actions { key: self.key, actions });
        }
    }

    /// Does what a hook that has ended well asked for. The actions are for the room.
    pub(super) fn commit(&mut self, context: &mut EngineContext, now: Instant, effects: Effects) -> Vec<Action> {
        if !effects.timers.is_empty() {
            for change in effects.timers {
                match change {
                    TimerChange::Set(timer) => self.timers.set(context, now, self.key, timer),
                    TimerChange::Clear(handle) => self.timers.clear(context, handle),
                    TimerChange::ClearNamed(name) => self.timers.clear_named(context, &name),
                }
            }
            self.state.host.timers.replace(self.timers.all());
            self.state.forget_functions();
        }
        for (name, n) in effects.counts {
            context.count(&name, n);
            count(&mut self.facts.counters.borrow_mut(), name, n);
        }
        effects.actions
    }
}

/// What `on_admin` has answered, as JSON; an error when it can't become that.
fn admin_answer(work: &Work, returned: &Value) -> Result<Option<serde_json::Value>, HookFailure> {
    if !matches!(work, Work::Call { call: HookCall::Admin { .. }, .. }) {
        return Ok(None);
    }
    let answer = calls::answer_json(returned);
    answer.map(Some).map_err(|error| HookFailure::Error(format!("the answer of on_admin: {error}")))
}
