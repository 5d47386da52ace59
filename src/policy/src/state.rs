//! One LuaJIT state: its creation, its sandbox, and the coroutines that its hooks run in.

use std::cell::{Cell, RefCell};
use std::ffi::c_void;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::OnceLock;
use std::time::Duration;

use mlua::chunk::ChunkMode;
use mlua::state::{GcIncParams, GcMode};
use mlua::{
    Function, IntoLua, IntoLuaMulti, LightUserData, Lua, LuaOptions, RegistryKey, StdLib, Table, Thread, Value,
};

use super::api::{self, log::PRELUDE_NAME, log::with_a_place, log::without_our_frames};
use super::budget::{Spent, bounded, should_stop, standing};
use super::failure::{HookFailure, OUT_OF_MEMORY};
use super::hook_table::{HOOKS, Hook};
use super::host::{Host, WaitFor};
use super::pattern;
use super::script::stripped_bytecode_of;
use super::settings::{MAX_IDLE_RUNNERS, PolicySettings};

/// LuaJIT has no emergency collection: it has to stay ahead of the memory cap (percent of the live data at which the
/// next collection begins).
const GC_PAUSE_TIGHT: i32 = 110;
/// A state far from its cap has time: collecting is then a quarter of what a small hook costs.
const GC_PAUSE_RELAXED: i32 = 200;
/// A state is far from its cap below this part of it.
const RELAXED_PART: usize = 4;
/// How fast a collection goes on (percent of the allocation meanwhile).
const GC_STEP_MULTIPLIER: i32 = 800;

/// A coroutine of the script yields this address to wait. A script can neither make nor see it.
static WAIT: u8 = 0;

// The codes with which a step ends; the prelude's section 6 explains them.
const MISSING: i64 = 0;
const ALLOWED: i64 = 1;
const RETURNED: i64 = 2;
const FAILED: i64 = 3;
const WAITS: i64 = 4;
const UNDECIDED: i64 = 5;

/// How one step of a hook ended.
#[derive(Debug)]
pub(crate) enum End {
    /// The script has no such hook.
    Missing,
    /// The hook decides and has returned `true`, or does not and has returned nothing.
    Allowed,
    /// The reason of a hook that decided otherwise; the first value of another.
    Returned(Value),
    /// The hook decides, and has returned a value of this type in the place of a boolean, without a reason.
    Undecided(String),
    /// The hook failed; its coroutine is gone.
    Failed(HookFailure),
    /// The hook was not called: there is no memory for its arguments.
    NoMemory,
    /// The hook waits in its coroutine.
    Waiting(Thread, Box<WaitFor>),
}

/// A room's Lua state.
pub(crate) struct State {
    // Before `lua`: coroutines and keys are let go of first.
    idle: RefCell<Vec<Thread>>,
    runner: RegistryKey,
    /// `math.randomseed`, whatever the script makes of the global.
    randomseed: RegistryKey,
    /// The table in which the prelude leaves what a hook returned.
    returned: Table,
    relaxed: Cell<bool>,
    memory_cap: usize,
    /// Hooks that were told of for returning nothing to decide by.
    undecided: RefCell<Vec<&'static str>>,
    pub(crate) host: Rc<Host>,
    pub(crate) lua: Lua,
}

impl State {
    /// A state with the sandbox in place, and nothing of the script's run yet.
    pub(crate) fn new(settings: &PolicySettings, seed: u64, host: Rc<Host>) -> Result<Self, HookFailure> {
        let create =
            || Self::create(settings, seed, host).map_err(|error| HookFailure::of_error(&error, settings.memory_bytes));
        catch_unwind(AssertUnwindSafe(create)).unwrap_or_else(|panic| Err(HookFailure::of_panic(&*panic)))
    }

    fn create(settings: &PolicySettings, seed: u64, host: Rc<Host>) -> mlua::Result<Self> {
        // mlua's own pcall stays out: through LuaJIT's the kill can pass.
        let options = LuaOptions::new().catch_rust_panics(true);
        let lua = Lua::new_with(StdLib::TABLE | StdLib::STRING | StdLib::MATH | StdLib::BIT, options)?;
        // Until the script's turn: no collection, and no protected call for each allocation (see `uncapped`).
        lua.gc_stop();
        let globals = lua.globals();
        // Every state of LuaJIT starts with the same random numbers.
        let randomseed: Function = globals.get::<Table>("math")?.get("randomseed")?;
        randomseed.call::<()>(number_of(seed))?;
        let randomseed = lua.create_registry_value(randomseed)?;
        let string: Table = globals.get("string")?;
        let plain_find: Function = string.get("find")?;
        pattern::lua::install(&lua, &string, should_stop)?;
        let (call, functions) = api::functions(&lua, &host)?;
        let config = api::config_table(&lua, &settings.config)?;
        let wait = LightUserData((&raw const WAIT).cast_mut().cast::<c_void>());
        let prelude =
            lua.load(prelude()?).set_name(format!("@{PRELUDE_NAME}")).set_mode(ChunkMode::Binary).into_function()?;
        let (runner, objects, returned): (Function, Table, Table) =
            prelude.call((call, functions, wait, api::fail_mark(), hooks(&lua)?, config, plain_find))?;
        host.clients.borrow_mut().set_objects(objects);
        let runner = lua.create_registry_value(runner)?;
        let memory_cap = settings.memory_bytes;
        lua.set_memory_limit(memory_cap)?;
        lua.gc_restart();
        set_pause(&lua, GC_PAUSE_TIGHT);
        let (idle, undecided, relaxed) = Default::default();
        Ok(Self { idle, runner, randomseed, returned, relaxed, memory_cap, undecided, host, lua })
    }

    /// Runs the script's main chunk.
    pub(crate) fn load(&self, budget: Duration) -> (Result<Option<Value>, HookFailure>, Spent) {
        const NAME: &str = "main chunk";
        let chunk = self.lua.load(self.host.script.bytecode()).set_mode(ChunkMode::Binary).into_function();
        match chunk {
            Ok(chunk) => self.without_waiting(NAME, self.start(NAME, chunk, no_args, budget), budget),
            Err(error) => (Err(self.failure(&error)), Spent::default()),
        }
    }

    /// Runs a hook that must not wait. A missing one returns nothing.
    pub(crate) fn run_now<A: IntoLuaMulti>(
        &self,
        hook: Hook,
        args: impl FnOnce(&Lua) -> mlua::Result<A>,
        budget: Duration,
    ) -> (Result<Option<Value>, HookFailure>, Spent) {
        self.without_waiting(hook.spec().name, self.start_hook(hook, args, budget), budget)
    }

    /// Raises an error at the line of a step that waits although it must not.
    fn without_waiting(
        &self,
        name: &'static str,
        (end, spent): (End, Spent),
        budget: Duration,
    ) -> (Result<Option<Value>, HookFailure>, Spent) {
        let (end, spent) = match end {
            End::Waiting(thread, wait_for) => {
                let message = wait_for.refusal(name);
                let refusal = |lua: &Lua| (api::fail_mark(), message.as_str()).into_lua_multi(lua);
                let (end, more) = self.resume(name, thread, refusal, budget);
                (end, Spent { cpu: spent.cpu + more.cpu, killed: more.killed })
            }
            end => (end, spent),
        };
        let result = match end {
            End::Missing => Ok(None),
            End::Returned(value) => Ok(Some(value)),
            End::Undecided(_) | End::Allowed => Ok(Some(Value::Nil)),
            End::Failed(failure) => Err(failure),
            End::NoMemory => Err(HookFailure::Memory(self.memory_cap, OUT_OF_MEMORY.to_owned())),
            End::Waiting(..) => Err(HookFailure::Error(format!("{name} cannot wait"))),
        };
        (result, spent)
    }

    /// Runs a hook until it ends or waits.
    pub(crate) fn start_hook<A: IntoLuaMulti>(
        &self,
        hook: Hook,
        args: impl FnOnce(&Lua) -> mlua::Result<A>,
        budget: Duration,
    ) -> (End, Spent) {
        self.start(hook.spec().name, hook.number(), args, budget)
    }

    /// Runs `what`, a function or a hook's number, until it ends or waits.
    pub(crate) fn start<A: IntoLuaMulti>(
        &self,
        name: &'static str,
        what: impl IntoLua,
        args: impl FnOnce(&Lua) -> mlua::Result<A>,
        budget: Duration,
    ) -> (End, Spent) {
        let idle = self.idle.borrow_mut().pop();
        let thread = match idle {
            Some(thread) => Ok(thread),
            None => self.uncapped(|lua| lua.create_thread(lua.registry_value(&self.runner)?)),
        };
        match thread {
            Ok(thread) => self.step(name, thread, |lua| Ok((what, args(lua)?)), budget),
            Err(_) => (End::NoMemory, Spent::default()),
        }
    }

    /// Goes on with a hook that waited.
    pub(crate) fn resume<A: IntoLuaMulti>(
        &self,
        name: &'static str,
        thread: Thread,
        answer: impl FnOnce(&Lua) -> mlua::Result<A>,
        budget: Duration,
    ) -> (End, Spent) {
        self.step(name, thread, answer, budget)
    }

    pub(crate) fn failure(&self, error: &mlua::Error) -> HookFailure {
        HookFailure::of_error(error, self.memory_cap)
    }

    /// Makes values for Lua without the memory cap, and holds them against it afterwards: as long as an allocation can
    /// fail, mlua makes every string and every table in a protected call, which takes longer than a small hook.
    fn uncapped<R>(&self, make: impl FnOnce(&Lua) -> mlua::Result<R>) -> Result<R, HookFailure> {
        self.lua.set_memory_limit(0).map_err(|error| self.failure(&error))?;
        let made = catch_unwind(AssertUnwindSafe(|| make(&self.lua)));
        self.lua.set_memory_limit(self.memory_cap).map_err(|error| self.failure(&error))?;
        match made {
            Ok(Ok(_)) if self.memory() > self.memory_cap => {
                Err(HookFailure::Memory(self.memory_cap, OUT_OF_MEMORY.to_owned()))
            }
            Ok(made) => made.map_err(|error| self.failure(&error)),
            Err(panic) => Err(HookFailure::of_panic(&*panic)),
        }
    }

    /// One resume of a coroutine, within the budget, whatever happens in it. Making its arguments counts too.
    fn step<A: IntoLuaMulti>(
        &self,
        name: &'static str,
        thread: Thread,
        args: impl FnOnce(&Lua) -> mlua::Result<A>,
        budget: Duration,
    ) -> (End, Spent) {
        self.host.hook.set(name);
        self.host.wait.take();
        let resume = || -> Result<_, HookFailure> {
            let args = self.uncapped(args)?;
            Ok(catch_unwind(AssertUnwindSafe(|| thread.resume::<i64>(args))))
        };
        let (result, spent) = bounded(&self.lua, budget, resume);
        if spent.killed {
            let place = catch_unwind(AssertUnwindSafe(|| standing(&self.lua, &thread))).unwrap_or(None);
            let place = without_our_frames(&place.unwrap_or_default());
            return (End::Failed(HookFailure::Time(budget, place)), spent);
        }
        let end = match result {
            Ok(Ok(Ok(code))) => self.ended(thread, code),
            Ok(Ok(Err(error))) => End::Failed(self.failure(&error)),
            Ok(Err(panic)) => End::Failed(HookFailure::of_panic(&*panic)),
            Err(HookFailure::Memory(..)) => End::NoMemory,
            Err(failure) => End::Failed(failure),
        };
        (end, spent)
    }

    fn ended(&self, thread: Thread, code: i64) -> End {
        let end = match code {
            MISSING => End::Missing,
            ALLOWED => End::Allowed,
            RETURNED => End::Returned(self.take_returned()),
            UNDECIDED => End::Undecided(match self.take_returned() {
                Value::String(kind) => kind.to_string_lossy(),
                _ => "nil".into(),
            }),
            FAILED => {
                let traceback = self.take_returned().as_string().map(|text| text.to_string_lossy());
                let traceback = traceback.unwrap_or_else(|| "error without a message".into());
                let traceback = with_a_place(traceback, || self.global(self.host.hook.get()));
                End::Failed(HookFailure::of_message(traceback, self.memory_cap))
            }
            WAITS => match self.host.wait.take() {
                Some(wait) => return End::Waiting(thread, wait),
                None => return failed("the hook waits for nothing"),
            },
            _ => return failed("the hook ended with an unknown code"),
        };
        let mut idle = self.idle.borrow_mut();
        if idle.len() < MAX_IDLE_RUNNERS {
            idle.push(thread);
        }
        end
    }

    /// Whether this is the first time that a hook has returned nothing to decide by.
    pub(crate) fn is_first_undecided(&self, hook: &'static str) -> bool {
        let mut told = self.undecided.borrow_mut();
        let is_first = !told.contains(&hook);
        if is_first {
            told.push(hook);
        }
        is_first
    }

    fn take_returned(&self) -> Value {
        let value = self.returned.raw_get(1).unwrap_or(Value::Nil);
        if self.returned.raw_set(1, Value::Nil).is_err() {
            tracing::debug!("a hook's result could not be cleared");
        }
        value
    }

    /// Between two hooks: collects early only when the memory cap is near.
    pub(crate) fn adapt_collector(&self) {
        let relaxed = self.memory() < self.memory_cap / RELAXED_PART;
        if self.relaxed.replace(relaxed) != relaxed {
            set_pause(&self.lua, if relaxed { GC_PAUSE_RELAXED } else { GC_PAUSE_TIGHT });
            if !relaxed && self.lua.gc_step().is_err() {
                tracing::debug!("a collection could not be begun");
            }
        }
    }

    /// Lets go of the functions of timers that have ended, which would live, with all that they hold, until another timer takes
    /// their place.
    pub(crate) fn forget_functions(&self) {
        self.lua.expire_registry_values();
    }

    /// Collects what a failed hook has left, if it is much: LuaJIT has no collection of last resort, so that the next
    /// hook could meet the memory cap.
    pub(crate) fn clean_up(&self, memory_cap: usize) {
        if self.memory() > memory_cap / 2 {
            self.forget_functions();
            let collected = catch_unwind(AssertUnwindSafe(|| self.lua.gc_collect()));
            if !matches!(collected, Ok(Ok(()))) {
                tracing::debug!("the memory of a failed script could not be collected");
            }
        }
    }

    /// Lets the script's random numbers begin anew.
    pub(crate) fn reseed(&self, seed: u64) {
        let seeded = self.lua.registry_value::<Function>(&self.randomseed);
        if seeded.and_then(|function| function.call::<()>(number_of(seed))).is_err() {
            tracing::debug!("math.randomseed could not be called");
        }
    }

    /// Bytes that the state holds.
    pub(crate) fn memory(&self) -> usize {
        self.lua.used_memory()
    }

    /// A global of the script, as it is.
    pub(crate) fn global(&self, name: &str) -> Value {
        self.lua.globals().raw_get(name).unwrap_or(Value::Nil)
    }

    /// Lets go of everything that keeps the script's data alive, so that the collector can free it in slices.
    pub(crate) fn into_lua(self) -> Lua {
        let Self { idle, runner, randomseed, returned, host, lua, .. } = self;
        host.clients.take();
        drop((idle, runner, randomseed, returned, host));
        lua.expire_registry_values();
        if lua.globals().clear().is_err() {
            tracing::debug!("the globals of a closed script could not be cleared");
        }
        lua
    }
}

/// A seed as `math.randomseed` takes it: a whole number.
fn number_of(seed: u64) -> f64 {
    (seed >> 11) as f64
}

/// The arguments of a hook without arguments.
pub(crate) fn no_args(_: &Lua) -> mlua::Result<()> {
    Ok(())
}

fn set_pause(lua: &Lua, percent: i32) {
    let collector = GcIncParams::default().pause(percent).step_multiplier(GC_STEP_MULTIPLIER);
    lua.gc_set_mode(GcMode::Incremental(collector));
}

fn failed(message: &str) -> End {
    End::Failed(HookFailure::Error(message.to_owned()))
}

/// The table of hooks as the prelude takes it: names, forms of arguments, and which ones decide.
fn hooks(lua: &Lua) -> mlua::Result<Table> {
    let table = lua.create_table()?;
    table.raw_set("names", HOOKS.map(|spec| spec.name).to_vec())?;
    table.raw_set("arguments", HOOKS.map(|spec| spec.arguments.as_str()).to_vec())?;
    table.raw_set("decides", HOOKS.map(|spec| spec.decides).to_vec())?;
    Ok(table)
}

/// The prelude's bytecode, compiled once for the process.
fn prelude() -> mlua::Result<&'static [u8]> {
    static BYTECODE: OnceLock<Box<[u8]>> = OnceLock::new();
    if BYTECODE.get().is_none() {
        let compiled =
            stripped_bytecode_of(PRELUDE_NAME, include_bytes!("prelude.lua")).map_err(mlua::Error::external)?;
        BYTECODE.get_or_init(|| compiled);
    }
    Ok(BYTECODE.get().map_or(&[], |bytecode| &**bytecode))
}
