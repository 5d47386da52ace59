//! A room that is watched or recorded ([`crate::tape`]).

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Instant;

use rand::rngs::StdRng;
use rand::{RngCore, SeedableRng};

use super::Room;
use crate::budget::Spent;
use crate::client::ClientFacts;
use crate::effects::TimerHandle;
use crate::engine_context::EngineContext;
use crate::hook::Action;
use crate::host::RoomFacts;
use crate::output::PolicyRequestId;
use crate::plain::listing;
use crate::reload::OldVersion;
use crate::state::{End, State};
use crate::tape::line::{Middle, Of, Seeds};
use crate::tape::{Beginning, Depth, MAX_TAPES, Ran, Sink, on_clock};
use crate::work::Work;

/// Why nobody more may watch a room.
const TOO_MANY: &str = "too many watch or record this room already";

/// Random numbers that begin anew with a recording, and nobody else's.
pub(crate) fn new_seeds(context: &mut EngineContext) -> Seeds {
    let mut bytes = [0; 32];
    context.random.borrow_mut().fill_bytes(&mut bytes);
    Seeds { math: context.seed(), bytes: bytes.iter().map(|byte| format!("{byte:02x}")).collect() }
}

/// Lets a room's generator begin with the seeds; what is not 64 hexadecimal digits counts as zeros.
pub(crate) fn reseed(facts: &RoomFacts, seeds: &Seeds) {
    let byte = |at: usize| seeds.bytes.get(2 * at..2 * at + 2).and_then(|hex| u8::from_str_radix(hex, 16).ok());
    let seed = std::array::from_fn(|at| byte(at).unwrap_or_default());
    facts.set_random(Rc::new(RefCell::new(StdRng::from_seed(seed))));
}

impl Room {
    /// Begins to record a room that has just been opened with these seeds.
    pub(crate) fn record_from_its_start(&mut self, context: &EngineContext, now: Instant, sink: Sink, seeds: Seeds) {
        self.facts.reads.set_on(true);
        let beginning = beginning(&self.facts, &self.state, context, now, seeds);
        self.tapes.add(sink, Depth::Recording, beginning);
    }

    /// Begins to watch a room, or to record it from the middle of its life. An error says why not.
    pub(crate) fn watch(
        &mut self,
        context: &mut EngineContext,
        now: Instant,
        sink: Sink,
        depth: Depth,
    ) -> Result<(), String> {
        if self.tapes.watched() >= MAX_TAPES {
            return Err(TOO_MANY.to_owned());
        }
        self.facts.unix.set(context.unix(now));
        let middle = (depth == Depth::Recording).then(|| self.middle(context, now));
        let seeds = new_seeds(context);
        if depth == Depth::Recording {
            reseed(&self.facts, &seeds);
            self.state.reseed(seeds.math);
        }
        self.facts.reads.set_on(true);
        let mut beginning = beginning(&self.facts, &self.state, context, now, seeds);
        beginning.middle = middle.map(|middle| (middle, self.known_clients()));
        self.tapes.add(sink, depth, beginning);
        if depth == Depth::Recording {
            for work in self.mailbox.works() {
                match work {
                    Work::Call { ticket, call, .. } => self.tapes.earlier_event(*ticket, call),
                    Work::Timer(handle) => self.tapes.earlier_timer(*handle),
                }
            }
        }
        Ok(())
    }

    /// Who is in the room, and who has left it while the script has not heard so yet.
    fn known_clients(&self) -> Vec<Rc<ClientFacts>> {
        let mut known = self.facts.joined();
        let waiting = self.mailbox.works().filter(|work| !work.is_join()).filter_map(Work::client);
        for client in waiting {
            if !known.iter().any(|other| other.id == client.id) {
                known.push(client.clone());
            }
        }
        known
    }

    /// What the room has become: as a reload would hand it over, which changes nothing of the version that runs.
    fn middle(&mut self, context: &mut EngineContext, now: Instant) -> Middle {
        self.set_moment(context, now);
        let settings = &context.settings;
        let old = OldVersion { facts: &self.facts, state: &self.state, is_suspended: false };
        let held = self.state.host.effects.take();
        let state = old.unload(settings).inspect_err(|error| {
            tracing::warn!(room = %self.facts.id, "the recording begins without the script's state: {error}");
        });
        let state_version = old.state_version();
        self.state.host.effects.replace(held);
        let listed = |bytes: Option<Vec<u8>>| bytes.and_then(|bytes| listing::list(&bytes));
        let timers = self.timers.named(|_| None).into_iter().map(|(name, due)| (name, on_clock(now, due)));
        let mut timers: Vec<_> = timers.collect();
        timers.sort();
        let state = listed(state.ok().flatten());
        Middle { state, state_version: listed(state_version), clients: Vec::new(), timers }
    }

    /// An operator does something to the room from outside.
    pub(crate) fn note_operator(&mut self, now: Instant, action: &Action) {
        if !self.tapes.is_empty() {
            self.tapes.at(now);
            self.tapes.operator(action);
        }
    }

    /// A deadline of the room has come.
    pub(crate) fn note_due(
        &mut self,
        now: Instant,
        at: Instant,
        timer: Option<TimerHandle>,
        wait: Option<PolicyRequestId>,
    ) {
        if !self.tapes.is_empty() {
            self.tapes.at(now);
            self.tapes.due(at, timer, wait);
        }
    }

    /// A step has ended.
    pub(super) fn note_step(
        &mut self,
        context: &EngineContext,
        now: Instant,
        of: Of,
        work: &Work,
        (end, spent): (&End, Spent),
    ) {
        if self.tapes.is_empty() {
            return;
        }
        let read = self.facts.reads.take();
        let ran = Ran {
            unix: self.facts.unix.get(),
            of,
            hook: work.name(),
            cpu: spent.cpu,
            waits: match end {
                End::Waiting(_, wait) => Some((context.next_request_id().0, &**wait)),
                _ => None,
            },
            failed: match end {
                End::Failed(failure) => Some(failure.to_string()),
                _ => None,
            },
        };
        self.tapes.step(&read, &ran);
        self.settle_tapes(context, now);
    }

    /// Before and after each step: what the script draws from here on is in no recording that has ended meanwhile, and
    /// what it reads is kept for nobody who has gone.
    pub(super) fn settle_tapes(&mut self, context: &EngineContext, now: Instant) {
        self.tapes.at(now);
        if self.tapes.take_end_of_recordings() {
            self.facts.set_random(context.random.clone());
        }
        if self.tapes.is_empty() {
            self.facts.reads.set_on(false);
        }
    }
}

fn beginning<'a>(
    facts: &'a RoomFacts,
    state: &'a State,
    context: &'a EngineContext,
    now: Instant,
    seeds: Seeds,
) -> Beginning<'a> {
    Beginning {
        now,
        unix: facts.unix.get(),
        opened: facts.opened,
        room: facts.id.as_str(),
        metadata: &facts.metadata,
        script: &state.host.script,
        settings: &context.settings,
        seeds,
        middle: None,
    }
}
