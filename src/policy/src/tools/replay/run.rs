//! Runs a recording through a version of the script.
//!
//! The real engine runs, on the recording's clock, but no step of it runs by itself: a step that the recording has runs
//! when it ran there; any other one as soon as it can. What came from outside comes again: events, answers, what was seen
//! of clients, the beginnings of random numbers. A deadline that the recording has comes when it came there; any other
//! one on time. Who is not in the room because this version did not let it in, or threw it out, does nothing more.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::account::{Account, Cause, normal};
use super::beginning::{PAST, facts_of, moment, settings_of};
use super::index::Index;
use super::read::Recording;
use super::steps::Steps;
use super::texts::compiled;
use crate::engine::replayed::{Carried, Opening};
use crate::engine_context::Deadline;
use crate::hook::{Action, ClientFacts, Presence};
use crate::output::{PolicyReply, PolicyRequest};
use crate::plain::listing;
use crate::reload::Request;
use crate::tape::line::{EventLine, Line, Of, StepLine};
use crate::tape::{Delivery, Sink, on_clock, words};
use crate::tools::trial::Store;
use crate::{PolicyEngine, PolicyKey, PolicyRequestId, Script};
use moonring_wire::id::{ClientId, RoomId, TrackId};

/// How long hooks may go on behind the end of the recording.
const LONGEST_END: Duration = Duration::from_secs(60);
/// Steps of one line after which a script is taken to go round in circles.
const MAX_STEPS: usize = 10_000;

/// What came of a recording.
pub(super) struct Replayed {
    pub(super) account: Account,
    /// Lines that this version left no room for: who does what they say is not there.
    pub(super) skipped: HashSet<usize>,
}

/// Runs a recording. `reloads` says whether the versions that it has been reloaded with run, too, or `script` to the end. An error says why the
/// script does not start.
pub(super) fn run(
    recording: &Recording,
    index: &Index,
    script: Arc<Script>,
    reloads: bool,
    now: Instant,
) -> Result<Replayed, String> {
    let mut run = Run::open(recording, index, script, now)?;
    for (number, line) in &recording.lines {
        (run.line, run.t) = (*number, line.t().unwrap_or(run.t));
        run.advance();
        run.now = run.now.max(run.at(run.t as i64));
        run.take(line, reloads);
        run.run_free();
    }
    run.finish();
    Ok(Replayed { account: run.account, skipped: run.skipped })
}

/// A run under way.
pub(super) struct Run<'a> {
    pub(super) index: &'a Index,
    script: Arc<Script>,
    pub(super) engine: PolicyEngine,
    pub(super) key: PolicyKey,
    /// The time of the recording's first line.
    pub(super) start: Instant,
    pub(super) now: Instant,
    /// The line that is being taken, and its time.
    pub(super) line: usize,
    pub(super) t: u64,
    pub(super) told: Receiver<Vec<u8>>,
    pub(super) account: Account,
    pub(super) clients: HashMap<ClientId, Rc<ClientFacts>>,
    /// Events of clients that are not let in yet.
    pub(super) held: HashMap<ClientId, Vec<(usize, &'a EventLine)>>,
    pub(super) here: Counterparts,
    pub(super) services: Services,
    pub(super) steps: Steps,
    pub(super) asked: Asked,
    pub(super) skipped: HashSet<usize>,
    pub(super) store: RefCell<Store>,
    pub(super) room: RoomId,
}

/// What the recording's numbers are in this run.
#[derive(Default)]
pub(super) struct Counterparts {
    pub(super) tickets: HashMap<u64, u64>,
    pub(super) timers: HashMap<u32, u32>,
    pub(super) waits: HashMap<u64, PolicyRequestId>,
    /// Waits whose answers the recording has.
    pub(super) paired: HashSet<PolicyRequestId>,
    /// Recorded waits that have their counterpart here.
    pub(super) used: HashSet<u64>,
}

/// What the script has asked of services.
#[derive(Default)]
pub(super) struct Services {
    pub(super) requests: HashMap<PolicyRequestId, PolicyRequest>,
    /// Answers that are on their way.
    pub(super) answers: BTreeMap<(Instant, u64), PolicyReply>,
}

/// Who asks to join, and which tracks are asked for, by ticket; and what was refused.
#[derive(Default)]
pub(super) struct Asked {
    pub(super) connects: HashMap<u64, Rc<ClientFacts>>,
    pub(super) publishes: HashMap<u64, TrackId>,
    pub(super) refused_tracks: HashSet<TrackId>,
}

impl<'a> Run<'a> {
    fn open(recording: &'a Recording, index: &'a Index, script: Arc<Script>, now: Instant) -> Result<Self, String> {
        let begin = &recording.start;
        let start = now.checked_add(PAST).ok_or("this machine's clock is at its end")?;
        let mut engine = PolicyEngine::new(settings_of(begin), 0);
        engine.set_clock(start, Duration::from_nanos(begin.unix));
        let room = RoomId::parse(&begin.room).map_err(|error| format!("the room id {error}"))?;
        let (sender, told) = channel();
        let sink = Sink::new(move |line| match sender.send(line) {
            Ok(()) => Delivery::Taken,
            Err(_) => Delivery::Gone,
        });
        let mut clients = HashMap::new();
        let middle = begin.middle.as_ref().map(|middle| {
            let bytes = |list: &Option<Vec<Value>>| list.as_ref().and_then(|list| listing::unlist(list));
            let facts: Vec<_> = middle.clients.iter().map(|line| facts_of(start, line, Presence::Joined)).collect();
            clients.extend(facts.iter().map(|client| (client.id.clone(), client.clone())));
            let timers = middle.timers.iter().map(|(name, due)| (name.clone(), moment(start, *due)));
            Carried {
                state: bytes(&middle.state),
                state_version: bytes(&middle.state_version),
                clients: facts,
                timers: timers.collect(),
            }
        });
        let opening = Opening {
            metadata: Value::Object(begin.metadata.clone()).into(),
            now: start,
            opened: moment(start, begin.opened),
            room: room.clone(),
            script: script.clone(),
            seeds: begin.seeds.clone(),
            signatures: index.signatures.clone(),
            sink,
            middle,
        };
        let key = engine.open_replayed(opening).map_err(|error| error.to_string())?;
        let mut run = Self {
            index,
            script,
            engine,
            key,
            start,
            now: start,
            line: 1,
            t: 0,
            told,
            account: Account { current: Some(Cause::Line(1)), ..Account::default() },
            clients,
            held: HashMap::new(),
            here: Counterparts::default(),
            services: Services::default(),
            steps: Steps {
                dues: index.dues.iter().map(|(at, lines)| (*at, lines.len())).collect(),
                ..Steps::default()
            },
            asked: Asked::default(),
            skipped: HashSet::new(),
            store: RefCell::default(),
            room,
        };
        run.absorb();
        run.run_free();
        Ok(run)
    }

    pub(super) fn at(&self, t: i64) -> Instant {
        moment(self.start, t)
    }

    /// Takes one line of the recording.
    fn take(&mut self, line: &'a Line, reloads: bool) {
        match line {
            Line::Event(event) => self.event(self.line, event),
            Line::Due { at, timer, wait, .. } => self.due(*at, *timer, *wait),
            Line::Reply { wait, reply, .. } => {
                let Some(id) = self.here.waits.get(wait).copied() else { return };
                self.steps.place(Of::Wait(id.0), self.index.waits_with_step.contains(wait));
                if let Some(reply) = words::reply_of(reply) {
                    self.answer(id, reply);
                }
            }
            Line::Step(step) => self.step(step),
            Line::Outcome { ticket, .. } => {
                // It was decided without a step; in this version it has one now.
                if let Some(ticket) = self.here.tickets.get(ticket) {
                    self.steps.reserved.remove(&Of::Ticket(*ticket));
                }
            }
            Line::Operator { action, .. } => {
                // Who is thrown out leaves by an event of its own.
                let leads_to_events =
                    |action: &Action| matches!(action, Action::Kick { .. } | Action::CloseRoom { .. });
                self.act(words::action_of(action).filter(|action| !leads_to_events(action)).as_slice());
            }
            Line::Reload { seed, unix, drops_state, script: Some(text), .. } => {
                // A version that stays is reloaded with itself, so that timers and random numbers begin anew in both.
                if let Ok(script) = if reloads { compiled(text) } else { Ok(self.script.clone()) } {
                    self.account.current = Some(Cause::Line(self.line));
                    self.engine.set_clock(self.now, Duration::from_nanos(*unix));
                    let request = Request { script, drops_state: *drops_state };
                    self.engine.replay_reload(self.now, self.key, (*seed, &request));
                    self.absorb();
                }
            }
            Line::Resumed { .. } => {
                self.engine.resume_script(self.now, self.key);
                self.absorb();
            }
            Line::Reseeded { seeds, .. } => self.engine.replay_seeds(self.key, seeds),
            _ => {}
        }
    }

    /// Does what is due up to this line's time and has no line of its own.
    fn advance(&mut self) {
        let until = self.at(self.t as i64);
        for _ in 0..MAX_STEPS {
            let mut passed = HashMap::new();
            let own = self.engine.deadlines(until).find(|((at, _), _)| {
                let t = on_clock(self.start, *at);
                let before = passed.entry(t).or_insert(0);
                *before += 1;
                *before > self.steps.dues.get(&t).copied().unwrap_or(0)
            });
            let own = own.map(|(id, deadline)| (id, *deadline));
            let answer = self.services.answers.keys().next().copied().filter(|(at, _)| *at <= until);
            match (own, answer) {
                (own, Some((at, id))) if own.is_none_or(|(due, _)| at <= due.0) => {
                    self.now = self.now.max(at);
                    if let Some(reply) = self.services.answers.remove(&(at, id)) {
                        self.answer(PolicyRequestId(id), reply);
                    }
                }
                (Some((id, deadline)), _) => {
                    self.now = self.now.max(id.0);
                    if let Deadline::Timer(_, handle) = deadline {
                        self.account.timers.insert(handle, Cause::Own(self.line - 1, on_clock(self.start, id.0)));
                    }
                    self.engine.meet_deadline(self.now, id);
                    self.absorb();
                }
                (None, _) => return,
            }
            self.run_free();
        }
    }

    /// Lets hooks end that wait for nothing that would be in the recording: for time, or for what is made up.
    fn finish(&mut self) {
        self.steps.left_over.clear();
        self.run_free();
        let until = self.now.checked_add(LONGEST_END).unwrap_or(self.now);
        for _ in 0..MAX_STEPS {
            let asleep = self.engine.deadlines(until).find_map(|(id, deadline)| match deadline {
                Deadline::Wait(_, wait) if !self.services.requests.contains_key(wait) => Some(id),
                _ => None,
            });
            let answer = self.services.answers.keys().next().copied();
            match (asleep, answer) {
                (asleep, Some((at, id))) if asleep.is_none_or(|due| at <= due.0) => {
                    self.now = self.now.max(at);
                    if let Some(reply) = self.services.answers.remove(&(at, id)) {
                        self.answer(PolicyRequestId(id), reply);
                    }
                }
                (Some(id), _) => {
                    self.now = self.now.max(id.0);
                    self.engine.meet_deadline(self.now, id);
                    self.absorb();
                }
                (None, _) => return,
            }
            self.run_free();
        }
    }

    /// A deadline that the recording has.
    fn due(&mut self, at: i64, timer: Option<u32>, wait: Option<u64>) {
        if let Some(left) = self.steps.dues.get_mut(&at) {
            *left = left.saturating_sub(1);
        }
        let wait_here = wait.map(|wait| self.here.waits.get(&wait).copied());
        let is_meant = |deadline: &Deadline| match (deadline, timer, wait_here) {
            (Deadline::Wait(_, id), None, Some(here)) => Some(*id) == here,
            (Deadline::Timer(..), Some(_), None) | (Deadline::Resume(_), None, None) => true,
            _ => false,
        };
        let when = self.at(at);
        let found = self.engine.deadlines(when).find(|((due, _), deadline)| *due == when && is_meant(deadline));
        let Some((id, deadline)) = found.map(|(id, deadline)| (id, *deadline)) else { return };
        if let (Deadline::Timer(_, handle), Some(timer)) = (deadline, timer) {
            self.account.timers.insert(handle, Cause::Line(self.line));
            self.here.timers.insert(timer, handle);
            let steps = if self.index.dues_with_step.contains(&self.line) {
                &mut self.steps.reserved
            } else {
                &mut self.steps.reluctant
            };
            steps.insert(Of::Timer(handle));
        }
        if let (Deadline::Wait(_, id), Some(wait)) = (deadline, wait) {
            self.steps.place(Of::Wait(id.0), self.index.waits_with_step.contains(&wait));
        }
        self.engine.meet_deadline(self.now, id);
        self.absorb();
    }

    /// A step that the recording has.
    fn step(&mut self, step: &StepLine) {
        let here = match step.of {
            Of::Ticket(ticket) => self.here.tickets.get(&ticket).copied().map(Of::Ticket),
            Of::Timer(timer) => self.here.timers.get(&timer).copied().map(Of::Timer),
            Of::Wait(wait) => self.here.waits.get(&wait).map(|wait| Of::Wait(wait.0)),
        };
        step.seen.iter().for_each(|seen| self.see(seen));
        let Some(here) = here else { return };
        self.steps.reserved.remove(&here);
        let wait = self.engine.next_wait();
        let unix = Duration::from_nanos(step.unix);
        if !self.engine.run_chosen(self.now, Some(unix), self.key, here) {
            return;
        }
        let asked = self.tell_of_lines();
        if let (Some((recorded, what)), Some((id, asked))) = (&step.waits, asked)
            && id == wait.0
            && normal(what) == normal(&asked)
        {
            self.here.waits.insert(*recorded, wait);
            self.here.paired.insert(wait);
            self.here.used.insert(*recorded);
        }
        self.drain();
    }

    /// Runs what can run now and is not recorded further down.
    pub(super) fn run_free(&mut self) {
        for _ in 0..MAX_STEPS {
            let runnable = self.engine.runnable(self.key);
            let is_held_up = runnable.iter().any(|of| self.steps.reserved.contains(of));
            let steps = &self.steps;
            let comes_later = |of: &Of| steps.reserved.contains(of) || steps.left_over.contains(of);
            let waits = |of: &Of| comes_later(of) || is_held_up && steps.reluctant.contains(of);
            let Some(of) = runnable.into_iter().find(|of| !waits(of)) else { return };
            self.steps.reluctant.remove(&of);
            if !self.engine.run_chosen(self.now, None, self.key, of) {
                return;
            }
            self.absorb();
        }
    }

    /// Takes what the engine says.
    pub(super) fn absorb(&mut self) {
        self.tell_of_lines();
        self.drain();
    }

    /// Takes the lines of what has happened; what a hook now waits for.
    fn tell_of_lines(&mut self) -> Option<(u64, Value)> {
        let mut waits = None;
        while let Ok(text) = self.told.try_recv() {
            let Ok(line) = serde_json::from_slice::<Line>(&text) else { continue };
            self.account.take(&line);
            if let Line::Step(step) = line {
                waits = step.waits;
            }
        }
        waits
    }
}
