//! The policy of one room: takes its events and runs the hooks for them.
//!
//! One step of one hook runs at a time. Events of one client stay in order; the event of another client runs when none
//! of its own is before it, also while other hooks wait. When the room may run is decided by its own share of the shard
//! and by its place in line among the rooms ([`super::turns`]).

mod admitting;
mod checkpoints;
mod endings;
mod reloading;
mod replaying;
pub(crate) mod taping;

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mlua::{Function, Value};

use super::bucket::CpuBucket;
use super::budget::Spent;
use super::calls;
use super::canary::Side;
use super::effects::TimerHandle;
use super::engine_context::{Deadline, EngineContext};
use super::faults::Faults;
use super::hook::{ClientFacts, Presence};
use super::host::RoomFacts;
use super::mailbox::{Mailbox, Place};
use super::output::{PolicyKey, PolicyReply, PolicyRequestId};
use super::reload::Reload;
use super::script::Script;
use super::settings::{EMPTY_TIMEOUT, MAX_EMPTY_TIMEOUT, STEP_OVERHEAD};
use super::state::{End, State, no_args};
use super::stats::{PolicyStats, RoomStatus};
use super::tape::Tapes;
use super::tape::line::Of;
use super::timer_queue::TimerId;
use super::timers::Timers;
use super::turns::Turn;
use super::waits::{WaitingHook, Waits};
use super::work::{Lane, Work};
use checkpoints::Checkpoints;
use moonring_wire::shared::SharedValue;

/// The room's claim on CPU time.
struct Cpu {
    share: CpuBucket,
    /// Set while the room waits for its share.
    wake: Option<TimerId>,
    /// Set while the room stands in line.
    turn: Option<Turn>,
    /// The CPU time at which the room's last turn ended, as the line counts it.
    used: Duration,
}

/// Whether the script is suspended, and what may lead there.
struct Health {
    faults: Faults,
    is_suspended: bool,
    /// Set while the script is suspended.
    resume: Option<TimerId>,
    /// Suspensions since the last reload.
    suspensions: u32,
    /// Its timers wait: the room is about to go on elsewhere, or to begin here.
    is_held: bool,
}

/// A step that can run now.
enum NextStep {
    Resume,
    Start(Place),
}

/// A room's policy.
pub(crate) struct Room {
    key: PolicyKey,
    facts: Rc<RoomFacts>,
    state: State,
    mailbox: Mailbox,
    waits: Waits,
    /// True when a hook that waited ran last: those that go on and those that begin take turns.
    is_starts_turn: bool,
    timers: Timers,
    reload: Reload,
    cpu: Cpu,
    health: Health,
    stats: PolicyStats,
    tapes: Tapes,
    checkpoints: Checkpoints,
    /// Its side of the canary.
    pub(crate) side: Option<Side>,
    /// Something of it has failed on that side.
    has_failed: bool,
}

impl Room {
    pub(crate) fn new(key: PolicyKey, facts: Rc<RoomFacts>, state: State, context: &EngineContext) -> Self {
        let (now, settings) = (facts.opened, &context.settings);
        let share = CpuBucket::new(settings.cpu_share, settings.cpu_burst, now);
        let health = Health {
            faults: Faults::new(settings, now),
            is_suspended: false,
            resume: None,
            suspensions: 0,
            is_held: false,
        };
        Self {
            key,
            facts,
            state,
            mailbox: Mailbox::default(),
            waits: Waits::default(),
            is_starts_turn: false,
            timers: Timers::default(),
            reload: Reload::default(),
            cpu: Cpu { share, wake: None, turn: None, used: Duration::ZERO },
            health,
            stats: PolicyStats::default(),
            tapes: Tapes::default(),
            checkpoints: Checkpoints::default(),
            side: None,
            has_failed: false,
        }
    }

    /// Does what the script's main chunk and `on_init` have asked for.
    pub(crate) fn start(&mut self, context: &mut EngineContext, now: Instant) {
        let effects = self.state.host.effects.take();
        let actions = self.commit(context, now, effects);
        self.act(context, actions);
        self.begin_checkpoints(context, now);
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
            for hook in self.waits.cancel_of(context, self.key, client) {
                self.give_up(context, hook.work, calls::left);
            }
            let queued = self.mailbox.take_of(client);
            queued.into_iter().for_each(|work| self.give_up(context, work, calls::left));
            self.state.host.clients.borrow_mut().forget(client);
        }
        had_joined
    }

    /// Has its timers wait, or go on.
    pub(crate) fn hold(&mut self, is_held: bool) {
        self.health.is_held = is_held;
    }

    /// A timer is due. While its function still waits or is queued, it does not queue again.
    pub(crate) fn timer_due(&mut self, context: &mut EngineContext, now: Instant, handle: TimerHandle) {
        if self.health.is_suspended || self.health.is_held {
            return self.timers.postpone(context, now, self.key, handle);
        }
        if !self.timers.rearm(context, now, self.key, handle) {
            return;
        }
        let lane = Lane::Timer(handle);
        if !self.waits.has_lane(lane) && !self.mailbox.has_lane(lane) {
            self.mailbox.push(Work::Timer(handle));
            self.pump(context, now);
        }
    }

    /// Runs what can run now; for the rest the room stands in line.
    pub(crate) fn pump(&mut self, context: &mut EngineContext, now: Instant) {
        if context.replay.is_some() {
            return;
        }
        while let Some(step) = self.next_step(context, now) {
            if self.cpu.turn.is_some() {
                return;
            }
            if !context.turns.may_run_at_once(now) {
                return self.stand_in_line(context, now);
            }
            self.step(context, now, step);
        }
    }

    /// Runs one step: the room has come to the front of the line. `used` is its place.
    pub(crate) fn take_turn(&mut self, context: &mut EngineContext, now: Instant, used: Duration) {
        (self.cpu.turn, self.cpu.used) = (None, used);
        if let Some(step) = self.next_step(context, now) {
            self.step(context, now, step);
        }
        if self.cpu.turn.is_none() && self.next_step(context, now).is_some() {
            self.stand_in_line(context, now);
        }
    }

    fn stand_in_line(&mut self, context: &mut EngineContext, now: Instant) {
        self.cpu.turn = Some(context.turns.enqueue(now, self.key, self.cpu.used));
    }

    /// The step that runs next, if the room's own share allows one. Reloads if that can happen now.
    fn next_step(&mut self, context: &mut EngineContext, now: Instant) -> Option<NextStep> {
        self.reload_if_due(context, now);
        let has_ready = self.waits.has_ready();
        let may_start = !self.reload.is_pending() && (!has_ready || self.is_starts_turn);
        let step = match may_start.then(|| self.mailbox.startable(&self.waits)).flatten() {
            Some(place) => NextStep::Start(place),
            None if has_ready => NextStep::Resume,
            None => return None,
        };
        self.has_cpu(context, now).then_some(step)
    }

    /// True when the room's own share allows a step; if not, the room is woken when it does.
    fn has_cpu(&mut self, context: &mut EngineContext, now: Instant) -> bool {
        let ready = self.cpu.share.ready_at(now);
        if ready <= now {
            return true;
        }
        if self.cpu.wake.is_none() {
            self.count(context, |stats| stats.throttled += 1);
            self.cpu.wake = Some(context.deadlines.add(ready, Deadline::Pump(self.key)));
        }
        false
    }

    /// The room's share allows a step again.
    pub(crate) fn wake(&mut self, context: &mut EngineContext, now: Instant) {
        self.cpu.wake = None;
        self.pump(context, now);
    }

    /// Charges CPU time to the room and to the shard.
    fn pay(&mut self, context: &mut EngineContext, cpu: Duration) {
        self.cpu.share.pay(cpu);
        self.cpu.used += cpu;
        context.turns.pay(cpu);
    }

    fn step(&mut self, context: &mut EngineContext, now: Instant, step: NextStep) {
        self.is_starts_turn = matches!(step, NextStep::Resume);
        match step {
            NextStep::Resume => {
                self.set_moment(context, now);
                self.resume_ready(context, now);
            }
            NextStep::Start(place) => {
                if let Some(work) = self.mailbox.take(place) {
                    self.step_of(context, now, work);
                }
            }
        }
    }

    /// The first step of a hook.
    fn step_of(&mut self, context: &mut EngineContext, now: Instant, work: Work) {
        self.set_moment(context, now);
        self.run(context, now, work);
    }

    /// Sets what the script is to see of the moment.
    fn set_moment(&mut self, context: &mut EngineContext, now: Instant) {
        self.settle_tapes(context, now);
        self.facts.now.set(now);
        self.facts.unix.set(context.unix(now));
        self.facts.host_bytes_left.set(context.settings.host_bytes.saturating_sub(self.host_bytes()));
    }

    fn run(&mut self, context: &mut EngineContext, now: Instant, work: Work) {
        let budget = context.settings.step_budget;
        let (end, spent) = match &work {
            Work::Call { call, .. } => calls::start(call, &self.state, budget),
            Work::Timer(handle) => {
                let Some(function) = self.timers.take_function(*handle) else { return };
                if self.timers.len() != self.state.host.timers.borrow().len() {
                    self.state.host.timers.replace(self.timers.all());
                }
                match self.state.lua.registry_value::<Function>(&function) {
                    Ok(function) => self.state.start(work.name(), function, no_args, budget),
                    Err(error) => (End::Failed(self.state.failure(&error)), Spent::default()),
                }
            }
        };
        let of = match &work {
            Work::Call { ticket, .. } => Of::Ticket(ticket.0),
            Work::Timer(handle) => Of::Timer(*handle),
        };
        self.after_step(context, now, (of, work), (end, spent));
    }

    /// Goes on with the hook that can go on the longest.
    fn resume_ready(&mut self, context: &mut EngineContext, now: Instant) {
        if let Some(ready) = self.waits.take_ready() {
            self.go_on(context, now, ready);
        }
    }

    fn go_on(
        &mut self,
        context: &mut EngineContext,
        now: Instant,
        (id, hook, reply): (PolicyRequestId, WaitingHook, Option<PolicyReply>),
    ) {
        self.state.host.effects.replace(hook.effects);
        let (name, budget) = (hook.work.name(), context.settings.step_budget);
        let answer = |lua: &mlua::Lua| super::api::wait::values(lua, reply);
        let ended = self.state.resume(name, hook.thread, answer, budget);
        self.after_step(context, now, (Of::Wait(id.0), hook.work), ended);
    }

    /// Takes the room apart; no outcome follows.
    pub(crate) fn close(mut self, context: &mut EngineContext) {
        self.tapes.end("the room has closed");
        self.timers.clear_all(context);
        self.waits.cancel_all(context, self.key);
        self.reload.cancel(context);
        for deadline in [self.cpu.wake, self.health.resume, self.checkpoints.next].into_iter().flatten() {
            context.deadlines.remove(deadline);
        }
        if let Some(turn) = self.cpu.turn {
            context.turns.remove(turn);
        }
        context.closed.push(self.state);
    }

    /// How long the room is to be kept without clients.
    pub(crate) fn empty_timeout(&self) -> Duration {
        let Some(seconds) = self.declared_seconds(EMPTY_TIMEOUT) else { return Duration::ZERO };
        let most = MAX_EMPTY_TIMEOUT.as_secs_f64();
        if !(0.0..=most).contains(&seconds) && self.facts.may_log() {
            let (room, script) = (&self.facts.id, self.script().name());
            tracing::warn!(%room, script, "{EMPTY_TIMEOUT} is not a number of 0 to {most}, in seconds");
        }
        // Of what is no number nothing is left.
        Duration::from_secs_f64(seconds.max(0.0).min(most))
    }

    /// What the script says by one of its globals, in seconds: `None` for nothing, and no number for what is none.
    fn declared_seconds(&self, name: &str) -> Option<f64> {
        match self.state.global(name) {
            Value::Nil => None,
            Value::Integer(seconds) => Some(seconds as f64),
            Value::Number(seconds) => Some(seconds),
            _ => Some(f64::NAN),
        }
    }

    /// What was said of it when it was opened.
    pub(crate) fn metadata(&self) -> SharedValue {
        self.facts.metadata.clone()
    }

    /// The script that the room runs.
    pub(crate) fn script(&self) -> &Arc<Script> {
        &self.state.host.script
    }

    /// Bytes that the host holds for the room.
    fn host_bytes(&self) -> usize {
        self.mailbox.bytes() + self.waits.bytes()
    }

    pub(crate) fn status(&self) -> RoomStatus {
        RoomStatus {
            script: self.script().name().to_owned(),
            version: self.script().version(),
            last_reload: self.reload.last.as_ref().map(|last| last.clone().map_err(|error| error.to_string())),
            is_suspended: self.health.is_suspended,
            memory: self.state.memory(),
            host_bytes: self.host_bytes(),
            queued: self.mailbox.events(),
            queued_joins: self.mailbox.joins(),
            waiting: self.waits.len(),
            timers: self.timers.len(),
            stats: self.stats,
            counters: self.facts.counters.borrow().clone(),
        }
    }
}

/// What a step is charged.
fn charge_of(spent: Spent) -> Duration {
    spent.cpu + STEP_OVERHEAD
}
