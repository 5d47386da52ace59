//! One room's policy: its mailbox, the hooks that wait, its timers.
//!
//! One step of one hook runs at a time. Events of one client stay in order; another client's event runs when nothing of
//! its own is before it, also while others wait.

mod lanes;

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mlua::{Function, RegistryKey, Thread, Value};

use self::lanes::Mailbox;
use super::agenda::When;
use super::bucket::{CpuBucket, Strikes};
use super::budget::{Spent, stopwatch};
use super::calls;
use super::desk::{Desk, Due};
use super::effects::{Effects, TimerHandle, count};
use super::hook::{Action, ClientFacts, HookCall, Outcome, Presence, Verdict};
use super::host::RoomFacts;
use super::output::{PolicyKey, PolicyOutput, PolicyReply, PolicyRequestId, Ticket};
use super::reload::Pending;
use super::script::Script;
use super::settings::{MAX_WAITING, STRIKES_OF_ERROR, STRIKES_OF_KILL};
use super::state::{End, Failure, State, no_args};
use super::stats::{PolicyStats, RoomStatus};
use super::waits::MIN_WAIT;
use moonring_wire::id::ClientId;

/// Something to run.
#[derive(Debug)]
pub(crate) enum Work {
    /// An event.
    Call { ticket: Ticket, call: HookCall },
    /// A timer that is due.
    Timer(TimerHandle),
}

/// What keeps its order.
#[derive(Clone, PartialEq, Eq, Hash)]
enum Lane {
    Client(ClientId),
    Speakers,
    Timer(TimerHandle),
}

impl Work {
    fn lane(&self) -> Lane {
        match self {
            Self::Call { call, .. } => call.client().map_or(Lane::Speakers, |client| Lane::Client(client.id.clone())),
            Self::Timer(handle) => Lane::Timer(*handle),
        }
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Call { call, .. } => call.name(),
            Self::Timer(_) => "timer",
        }
    }

    fn client(&self) -> Option<&Rc<ClientFacts>> {
        match self {
            Self::Call { call, .. } => call.client(),
            Self::Timer(_) => None,
        }
    }
}

/// A hook that waits.
pub(crate) struct Waiting {
    work: Work,
    thread: Thread,
    effects: Effects,
    pub(super) id: PolicyRequestId,
    pub(super) due: When,
    /// What a late reply of the wait means; `None` for a sleep.
    pub(super) if_late: Option<PolicyReply>,
    /// A reply that waits for CPU time.
    pub(super) reply: Option<PolicyReply>,
}

pub(crate) struct Timer {
    pub(super) function: Rc<RegistryKey>,
    pub(super) every: Option<Duration>,
    pub(super) due: When,
}

/// A room's policy.
pub(crate) struct Room {
    pub(super) key: PolicyKey,
    pub(super) facts: Rc<RoomFacts>,
    pub(super) waiting: Vec<Waiting>,
    pub(super) timers: HashMap<TimerHandle, Timer>,
    pub(super) state: State,
    pub(super) pending: Option<Pending>,
    pub(super) last_reload: Option<Result<u64, String>>,
    /// The script of the last reload.
    pub(super) tried: Option<Arc<Script>>,
    pub(super) stats: PolicyStats,
    pub(super) aside: bool,
    pub(super) bucket: CpuBucket,
    pub(super) strikes: Strikes,
    mailbox: Mailbox,
    wake: Option<When>,
    counters: Vec<(String, f64)>,
}

impl Room {
    pub(crate) fn new(key: PolicyKey, facts: Rc<RoomFacts>, state: State, desk: &Desk, now: Instant) -> Self {
        Self {
            key,
            facts,
            waiting: Vec::new(),
            timers: HashMap::new(),
            state,
            pending: None,
            last_reload: None,
            tried: None,
            stats: PolicyStats::default(),
            aside: false,
            bucket: CpuBucket::new(&desk.settings, now),
            strikes: Strikes::new(&desk.settings, now),
            mailbox: Mailbox::new(&desk.settings, now),
            wake: None,
            counters: Vec::new(),
        }
    }

    /// Takes an event, and runs what can run.
    pub(crate) fn submit(&mut self, desk: &mut Desk, now: Instant, ticket: Ticket, call: HookCall) {
        if let HookCall::ClientDisconnect { client, .. } = &call {
            let joined = self.leave(desk, &client.clone());
            if !joined {
                // Its connect has not been allowed, so the script has never had it as a member.
                self.outcome(desk, ticket, calls::left(&call));
                return self.pump(desk, now);
            }
        } else if self.mailbox.is_full(&call, desk.settings.max_queued_events) {
            self.stats.overflows += 1;
            desk.stats.overflows += 1;
            tracing::warn!(room = %self.facts.id, hook = call.name(), "too many events wait for the script: one is dropped");
            return self.outcome(desk, ticket, calls::failed(&call));
        }
        if self.aside {
            return self.conclude(desk, ticket, &call, calls::failed(&call));
        }
        self.mailbox.push(Work::Call { ticket, call });
        self.pump(desk, now);
    }

    /// A client is gone. Says whether it was in the room; if not, whatever is still asked about it comes to nothing.
    fn leave(&mut self, desk: &mut Desk, client: &Rc<ClientFacts>) -> bool {
        client.presence.set(Presence::Gone);
        let mut roster = self.facts.roster.borrow_mut();
        let before = roster.len();
        roster.retain(|other| other.id != client.id);
        let joined = roster.len() < before;
        drop(roster);
        if joined {
            return true;
        }
        let of_client = |work: &Work| work.client().is_some_and(|other| other.id == client.id);
        let (gone, kept): (Vec<_>, Vec<_>) = self.waiting.drain(..).partition(|waiting| of_client(&waiting.work));
        self.waiting = kept;
        let queued = self.mailbox.take_of(client);
        for waiting in gone {
            desk.agenda.remove(waiting.due);
            desk.requests.remove(&waiting.id);
            self.give_up(desk, waiting.work, calls::left);
        }
        queued.into_iter().for_each(|work| self.give_up(desk, work, calls::left));
        self.state.host.clients.borrow_mut().forget(client);
        false
    }

    /// A timer is due.
    pub(crate) fn ring(&mut self, desk: &mut Desk, now: Instant, handle: TimerHandle) {
        let Some(timer) = self.timers.get_mut(&handle) else { return };
        if let Some(every) = timer.every {
            // In step with its start, unless it has fallen behind.
            timer.due = desk.agenda.add((timer.due.0 + every).max(now), Due::Timer(self.key, handle));
        }
        let lane = Lane::Timer(handle);
        let under_way =
            self.waiting.iter().map(|waiting| &waiting.work).chain(self.mailbox.members()).any(|w| w.lane() == lane);
        if !under_way {
            self.mailbox.push(Work::Timer(handle));
            self.pump(desk, now);
        }
    }

    fn run(&mut self, desk: &mut Desk, now: Instant, work: Work) {
        self.set_clock(desk, now);
        let (name, budget) = (work.name(), desk.settings.step_budget);
        let (end, spent) = match &work {
            Work::Call { call, .. } => calls::start(call, &self.state, budget),
            Work::Timer(handle) => {
                let Some(timer) = self.timers.get(handle) else { return };
                let function = timer.function.clone();
                if timer.every.is_none() {
                    self.timers.remove(handle);
                    self.state.host.timers.set(self.timers.len());
                }
                match self.state.lua.registry_value::<Function>(&function) {
                    Ok(function) => self.state.start(name, function, no_args, budget),
                    Err(error) => (End::Failed(Failure::of_error(&error)), Spent::default()),
                }
            }
        };
        self.after_step(desk, now, work, end, spent);
    }

    /// The host functions' clock.
    pub(super) fn set_clock(&self, desk: &mut Desk, now: Instant) {
        self.facts.now.set(now);
        self.facts.unix.set(desk.unix(now));
    }

    /// Goes on with a hook that waited, if it is this room's and there is CPU time for it.
    pub(crate) fn resume(&mut self, desk: &mut Desk, now: Instant, id: PolicyRequestId, reply: Option<PolicyReply>) {
        let Some(at) = self.waiting.iter().position(|waiting| waiting.id == id) else { return };
        let waiting = &mut self.waiting[at];
        desk.agenda.remove(waiting.due);
        desk.requests.remove(&id);
        let reply = reply.or_else(|| waiting.reply.take()).or_else(|| waiting.if_late.take());
        let ready = if waiting.work.is_join() { self.mailbox.joins_ready(now) } else { self.bucket.ready_at(now) };
        if ready > now {
            waiting.reply = reply;
            waiting.due = desk.agenda.add(ready, Due::Wait(self.key, id));
            return;
        }
        let waiting = self.waiting.swap_remove(at);
        self.set_clock(desk, now);
        self.state.host.effects.replace(waiting.effects);
        let (name, budget) = (waiting.work.name(), desk.settings.step_budget);
        let answer = |lua: &mlua::Lua| super::api::wait::values(lua, reply);
        let (end, spent) = self.state.resume(name, waiting.thread, answer, budget);
        self.after_step(desk, now, waiting.work, end, spent);
        self.pump(desk, now);
    }

    fn after_step(&mut self, desk: &mut Desk, now: Instant, work: Work, end: End, spent: Spent) {
        self.cpu_of(&work).pay(spent.cpu);
        self.stats.step(spent.cpu);
        desk.stats.step(spent.cpu);
        self.state.adapt_collector(desk.settings.memory_bytes);
        let effects = self.state.host.effects.take();
        let failure = match end {
            End::Waiting(thread, _) if self.waiting.len() >= MAX_WAITING => {
                drop(thread);
                Failure::Error(format!("more than {MAX_WAITING} hooks of the room wait"))
            }
            End::Waiting(thread, wait) => {
                let (id, due, if_late) = self.begin_wait(desk, now, wait);
                return self.waiting.push(Waiting { work, thread, effects, id, due, if_late, reply: None });
            }
            End::Missing => return self.missing(desk, work),
            End::Allowed => return self.returned(desk, now, work, (true, Value::Nil), effects),
            End::Returned(value) => return self.returned(desk, now, work, (false, value), effects),
            End::Failed(failure) => failure,
        };
        self.failed(desk, now, work, &failure);
    }

    fn missing(&mut self, desk: &mut Desk, work: Work) {
        self.stats.missing += 1;
        desk.stats.missing += 1;
        if let Work::Call { ticket, call } = work {
            self.conclude(desk, ticket, &call, calls::missing(&call));
        }
    }

    /// `said`: whether the hook allows, and why not.
    fn returned(&mut self, desk: &mut Desk, now: Instant, work: Work, said: (bool, Value), effects: Effects) {
        self.stats.hooks += 1;
        desk.stats.hooks += 1;
        let actions = self.commit(desk, now, effects);
        match work {
            Work::Timer(_) if actions.is_empty() => {}
            Work::Timer(_) => desk.outputs.push_back(PolicyOutput::Actions { key: self.key, actions }),
            Work::Call { ticket, call } => {
                let mut outcome = calls::decided(&call, said.0, &said.1, actions);
                if let HookCall::ClientConnect { client, .. } = &call
                    && client.presence.get() == Presence::Gone
                {
                    outcome.verdict = calls::left(&call).verdict;
                }
                if let (HookCall::ClientConnect { client, .. }, Verdict::Allow) = (&call, &outcome.verdict) {
                    client.presence.set(Presence::Joined);
                    self.facts.roster.borrow_mut().push(client.clone());
                }
                if calls::decides(&call) {
                    let allowed = outcome.verdict == Verdict::Allow;
                    for stats in [&mut self.stats, &mut desk.stats] {
                        stats.allowed += u64::from(allowed);
                        stats.rejected += u64::from(!allowed);
                    }
                }
                self.conclude(desk, ticket, &call, outcome);
            }
        }
    }

    fn failed(&mut self, desk: &mut Desk, now: Instant, work: Work, failure: &Failure) {
        for stats in [&mut self.stats, &mut desk.stats] {
            stats.hooks += 1;
            stats.failure(failure);
        }
        self.log_failure(work.name(), work.client(), failure);
        let elapsed = stopwatch();
        self.state.clean_up(desk.settings.memory_bytes);
        self.cpu_of(&work).pay(elapsed());
        let strikes = if matches!(failure, Failure::Error(_)) { STRIKES_OF_ERROR } else { STRIKES_OF_KILL };
        self.give_up(desk, work, calls::failed);
        if self.strikes.add(now, strikes) {
            self.set_aside(desk);
        }
    }

    /// Ends a piece of work without its hook having said anything.
    pub(super) fn give_up(&mut self, desk: &mut Desk, work: Work, outcome: fn(&HookCall) -> Outcome) {
        if let Work::Call { ticket, call } = work {
            self.conclude(desk, ticket, &call, outcome(&call));
        }
    }

    /// Hands out an outcome, and lets go of the objects of clients that are not in the room.
    fn conclude(&mut self, desk: &mut Desk, ticket: Ticket, call: &HookCall, outcome: Outcome) {
        let rejected = matches!(call, HookCall::ClientConnect { .. }) && outcome.verdict != Verdict::Allow;
        if (rejected || matches!(call, HookCall::ClientDisconnect { .. }))
            && let Some(client) = call.client()
        {
            self.state.host.clients.borrow_mut().forget(client);
        }
        self.outcome(desk, ticket, outcome);
    }

    fn outcome(&self, desk: &mut Desk, ticket: Ticket, outcome: Outcome) {
        desk.outputs.push_back(PolicyOutput::Outcome { ticket, key: self.key, outcome });
    }

    /// Makes true what a hook that ended well has asked for; the room does the actions.
    pub(super) fn commit(&mut self, desk: &mut Desk, now: Instant, effects: Effects) -> Vec<Action> {
        for new in effects.timers {
            let due = desk.agenda.add(now + new.delay.max(MIN_WAIT), Due::Timer(self.key, new.handle));
            let every = new.repeat.then_some(new.delay);
            self.timers.insert(new.handle, Timer { function: Rc::new(new.function), every, due });
        }
        for handle in effects.cleared {
            if let Some(timer) = self.timers.remove(&handle) {
                desk.agenda.remove(timer.due);
            }
        }
        self.state.host.timers.set(self.timers.len());
        for (name, n) in effects.counts {
            desk.count(&name, n);
            count(&mut self.counters, name, n);
        }
        effects.actions
    }

    pub(super) fn log_failure(&self, hook: &str, client: Option<&Rc<ClientFacts>>, failure: &Failure) {
        let script = &self.state.host.script;
        let client = client.map_or("", |client| client.id.as_str());
        let version = format_args!("{:016x}", script.version());
        tracing::error!(room = %self.facts.id, script = script.name(), %version, hook, client, "the script failed: {failure}");
    }

    /// The script has failed too often: nothing of it runs any more until it is reloaded.
    fn set_aside(&mut self, desk: &mut Desk) {
        self.aside = true;
        self.stats.set_aside += 1;
        desk.stats.set_aside += 1;
        let script = self.state.host.script.name();
        tracing::error!(room = %self.facts.id, script, "the script fails again and again: it is put aside until its next \
            reload; newcomers are rejected, members and media stay");
        self.stop_all(desk);
        for work in self.mailbox.take_all() {
            self.give_up(desk, work, calls::failed);
        }
    }

    /// Ends every wait and timer.
    pub(super) fn stop_all(&mut self, desk: &mut Desk) {
        for timer in self.timers.drain() {
            desk.agenda.remove(timer.1.due);
        }
        self.state.host.timers.set(0);
        for waiting in std::mem::take(&mut self.waiting) {
            desk.agenda.remove(waiting.due);
            desk.requests.remove(&waiting.id);
            self.give_up(desk, waiting.work, calls::failed);
        }
    }

    /// Takes the room apart; no outcome follows.
    pub(crate) fn close(mut self, desk: &mut Desk) {
        let whens = self.waiting.iter().map(|waiting| waiting.due).chain(self.timers.values().map(|timer| timer.due));
        whens.chain(self.wake).for_each(|when| desk.agenda.remove(when));
        for waiting in &self.waiting {
            desk.requests.remove(&waiting.id);
        }
        if let Some(pending) = self.pending.take() {
            desk.agenda.remove(pending.deadline);
        }
        self.waiting.clear();
        self.timers.clear();
        desk.closed.push(self.state);
    }

    pub(crate) fn status(&self) -> RoomStatus {
        RoomStatus {
            script: self.state.host.script.name().to_owned(),
            version: self.state.host.script.version(),
            last_reload: self.last_reload.clone(),
            set_aside: self.aside,
            memory: self.state.memory(),
            queued: self.mailbox.len(),
            waiting: self.waiting.len(),
            timers: self.timers.len(),
            stats: self.stats,
            counters: self.counters.clone(),
        }
    }
}
