//! The part of the world that host functions reach: the room of their script, nothing else.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mlua::{Table, Value};
use rand::rngs::StdRng;

use super::effects::{Effects, SetTimers, TimerHandle, count};
use super::hook::{Action, ClientFacts, Presence};
use super::output::PolicyRequest;
use super::reads::Reads;
use super::script::Script;
use super::settings::{LOG_WINDOW, MAX_COUNTERS, MAX_LOG_LINES, MAX_TIMERS};
use moonring_wire::id::RoomId;
use moonring_wire::shared::SharedValue;

/// Departed clients that are looked at when one more departs: more than one, so that they don't pile up.
const SWEPT_PER_DEPARTURE: usize = 4;

/// Departed clients of a room that are kept for a script that holds their objects. Each has up to 16 KiB of metadata.
const MAX_DEPARTED: usize = 1_024;

/// A generator that is safe for secrets, as far as its seed is.
pub(crate) type Random = Rc<RefCell<StdRng>>;

/// What survives a reload: shared by a room's old and new state.
pub(crate) struct RoomFacts {
    pub(crate) id: RoomId,
    /// What whoever opened it has said of it; an object.
    pub(crate) metadata: SharedValue,
    /// Who is in the room, in the order of joining.
    pub(crate) roster: RefCell<Vec<Rc<ClientFacts>>>,
    /// The engine's clock for the step that runs.
    pub(crate) now: Cell<Instant>,
    /// The same moment as time since 1970.
    pub(crate) unix: Cell<Duration>,
    /// When the room was opened, for `os.clock`.
    pub(crate) opened: Instant,
    /// The same moment as time since 1970.
    pub(crate) opened_unix: Duration,
    /// Bytes of the host that the room may still take in the step that runs.
    pub(crate) host_bytes_left: Cell<usize>,
    /// Shared by all rooms of the shard but those that are being recorded, which have one of their own.
    random: RefCell<Random>,
    /// What recordings want to know of the script's steps.
    pub(crate) reads: Reads,
    /// What the script has counted with `sfu.count`.
    pub(crate) counters: RefCell<Vec<(String, f64)>>,
    next_timer: Cell<TimerHandle>,
    log_window: Cell<(Instant, u32)>,
}

impl RoomFacts {
    pub(crate) fn new(id: RoomId, metadata: SharedValue, (now, unix): (Instant, Duration), random: Random) -> Rc<Self> {
        Rc::new(Self {
            id,
            metadata,
            roster: RefCell::default(),
            now: Cell::new(now),
            unix: Cell::new(unix),
            opened: now,
            opened_unix: unix,
            host_bytes_left: Cell::new(usize::MAX),
            random: RefCell::new(random),
            counters: RefCell::default(),
            reads: Reads::default(),
            next_timer: Cell::new(1),
            log_window: Cell::new((now, 0)),
        })
    }

    /// The generator of the room.
    pub(crate) fn random(&self) -> Random {
        self.random.borrow().clone()
    }

    pub(crate) fn set_random(&self, random: Random) {
        self.random.replace(random);
    }

    pub(crate) fn client(&self, id: &str) -> Option<Rc<ClientFacts>> {
        let roster = self.roster.borrow();
        roster.iter().find(|client| client.id.as_str() == id && client.presence.get() != Presence::Gone).cloned()
    }

    pub(crate) fn joined(&self) -> Vec<Rc<ClientFacts>> {
        self.roster.borrow().iter().filter(|client| client.presence.get() != Presence::Gone).cloned().collect()
    }

    pub(crate) fn next_timer(&self) -> TimerHandle {
        self.next_timer.replace(self.next_timer.get() + 1)
    }

    /// True when the script may write one more log line; says once when it may not.
    pub(crate) fn may_log(&self) -> bool {
        let (mut since, mut lines) = self.log_window.get();
        if self.now.get().saturating_duration_since(since) >= LOG_WINDOW {
            (since, lines) = (self.now.get(), 0);
        }
        lines = lines.saturating_add(1);
        self.log_window.set((since, lines));
        if lines == MAX_LOG_LINES + 1 {
            tracing::warn!(room = %self.id, "the script logs too much: its further lines are dropped for some seconds");
        }
        lines <= MAX_LOG_LINES
    }
}

/// What a wait waits for.
#[derive(Debug)]
pub(crate) enum WaitFor {
    /// `sfu.sleep`.
    Time(Duration),
    /// Something from outside.
    Reply(PolicyRequest),
    /// The same, together with all hooks of the room that wait for it.
    Shared(PolicyRequest),
}

impl WaitFor {
    /// Why a step that must not wait may not wait for this.
    pub(crate) fn refusal(&self, step: &str) -> String {
        let function = match self {
            Self::Time(_) => "sfu.sleep",
            Self::Shared(_) => "sfu.jwks",
            Self::Reply(PolicyRequest::Http(_)) => "sfu.http",
            Self::Reply(PolicyRequest::Shared(_)) => "sfu.shared",
            Self::Reply(PolicyRequest::Store(..)) => "sfu.store",
        };
        format!(
            "{step} cannot wait, and {function} does: call it from a timer (sfu.set_timeout), or from a hook that may wait"
        )
    }
}

/// One state's view.
pub(crate) struct Host {
    pub(crate) room: Rc<RoomFacts>,
    pub(crate) script: Arc<Script>,
    /// The hook that runs, for log lines.
    pub(crate) hook: Cell<&'static str>,
    /// What the hook that runs has asked for.
    pub(crate) effects: RefCell<Effects>,
    /// What it has asked for and flushed.
    pub(crate) flushed: RefCell<Vec<Effects>>,
    /// What the hook that runs wants to wait for.
    pub(crate) wait: RefCell<Option<Box<WaitFor>>>,
    /// Timers that are set.
    pub(crate) timers: RefCell<SetTimers>,
    /// The clients that the script may hold objects of.
    pub(crate) clients: RefCell<Clients>,
}

impl Host {
    pub(crate) fn new(room: Rc<RoomFacts>, script: Arc<Script>) -> Rc<Self> {
        Rc::new(Self {
            room,
            script,
            hook: Cell::new("main chunk"),
            effects: RefCell::default(),
            flushed: RefCell::default(),
            wait: RefCell::default(),
            timers: RefCell::default(),
            clients: RefCell::default(),
        })
    }

    /// Counts, once the hook that runs has ended well; false when the name would be one too many for the room.
    pub(crate) fn count(&self, name: String, n: f64) -> bool {
        let mut effects = self.effects.borrow_mut();
        let fits = {
            let (known, flushed) = (self.room.counters.borrow(), self.flushed.borrow());
            let pending = flushed.iter().flat_map(|flushed| &flushed.counts).chain(&effects.counts);
            let names = known.iter().chain(pending).map(|(name, _)| name.as_str()).chain([name.as_str()]);
            // With few, it does not matter which of them are the same.
            names.clone().count() <= MAX_COUNTERS || names.collect::<HashSet<_>>().len() <= MAX_COUNTERS
        };
        fits && count(&mut effects.counts, name, n)
    }

    /// Whether the room has no more timers than it may once what was asked for so far has taken effect, `effects` last;
    /// `more` is the name, if it has one, of a timer that would be set then.
    pub(crate) fn timers_fit(&self, effects: &Effects, more: Option<Option<&str>>) -> bool {
        let (set, flushed) = (self.timers.borrow(), self.flushed.borrow());
        let asked_for = || flushed.iter().chain([effects]);
        let new: usize = asked_for().map(Effects::new_timers).sum();
        // With few, it does not matter which of them take another's place.
        if set.len() + new + usize::from(more.is_some()) <= MAX_TIMERS {
            return true;
        }
        let mut set = set.clone();
        asked_for().flat_map(|asked| &asked.timers).for_each(|change| set.change(change));
        if let Some(name) = more {
            set.set(TimerHandle::MAX, name);
        }
        set.len() <= MAX_TIMERS
    }

    /// The hook that runs is to wait. A request is held for the room until it is answered, as actions are until the hook
    /// has ended.
    pub(crate) fn wait_for(&self, wait_for: WaitFor) -> Result<(), String> {
        let bytes = match &wait_for {
            WaitFor::Time(_) => 0,
            WaitFor::Reply(request) | WaitFor::Shared(request) => request.bytes(),
        };
        if bytes > 0 && self.effects.borrow().bytes() + bytes > self.room.host_bytes_left.get() {
            return Err("the room's hooks wait for too much at the same time: its requests do not fit".to_owned());
        }
        self.wait.replace(Some(Box::new(wait_for)));
        Ok(())
    }

    /// Adds an action of the hook that runs. Its value has `bytes` bytes as text.
    pub(crate) fn act(&self, action: Action, bytes: usize) -> Result<(), String> {
        self.effects.borrow_mut().push(action, bytes, self.room.host_bytes_left.get())
    }
}

/// Clients by the numbers that stand for them in Lua. The object that a script holds is made by the prelude, which
/// knows its number; it is an empty userdata without a destructor (a destructor of Rust's may return a number whose
/// upper half LuaJIT takes for real).
#[derive(Default)]
pub(crate) struct Clients {
    /// By the address of the facts, which `facts` keeps alive.
    numbers: HashMap<usize, u32, BuildHasherDefault<AddressHasher>>,
    facts: HashMap<u32, Rc<ClientFacts>>,
    /// Those who are gone, but whose objects a script may still hold.
    departed: VecDeque<u32>,
    /// The prelude's weak table of objects by number.
    objects: Option<Table>,
    last: u32,
}

impl Clients {
    pub(crate) fn set_objects(&mut self, objects: Table) {
        self.objects = Some(objects);
    }

    /// The number of a client, the same one as long as it is there.
    pub(crate) fn number(&mut self, client: &Rc<ClientFacts>) -> u32 {
        let address = Rc::as_ptr(client).addr();
        if let Some(number) = self.numbers.get(&address) {
            return *number;
        }
        self.last += 1;
        self.numbers.insert(address, self.last);
        self.facts.insert(self.last, client.clone());
        self.last
    }

    pub(crate) fn get(&self, number: u32) -> Option<Rc<ClientFacts>> {
        self.facts.get(&number).cloned()
    }

    /// A client is gone: what is known of it goes when the script holds no object of it any more.
    pub(crate) fn forget(&mut self, client: &Rc<ClientFacts>) {
        self.departed.extend(self.numbers.remove(&Rc::as_ptr(client).addr()));
        for _ in 0..SWEPT_PER_DEPARTURE.min(self.departed.len()) {
            let Some(number) = self.departed.pop_front() else { return };
            let object = self.objects.as_ref().map(|objects| objects.raw_get::<Value>(number));
            match object {
                Some(Ok(object)) if !object.is_nil() => self.departed.push_back(number),
                _ => drop(self.facts.remove(&number)),
            }
        }
        while self.departed.len() > MAX_DEPARTED {
            let longest_gone = (0..self.departed.len()).min_by_key(|at| self.departed[*at]);
            let number = longest_gone.and_then(|at| self.departed.remove(at));
            number.and_then(|number| self.facts.remove(&number));
        }
    }
}

/// Spreads addresses, which nobody outside chooses (Fibonacci hashing).
#[derive(Default)]
struct AddressHasher(u64);

impl Hasher for AddressHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_usize(usize::from(*byte)));
    }

    fn write_usize(&mut self, address: usize) {
        // The low bits, which are zero before, choose the bucket.
        self.0 = (self.0 ^ address as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(20);
    }
}
