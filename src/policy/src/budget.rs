//! The kill: no script holds its thread longer than its budget, whatever it does to avoid that.
//!
//! A Lua error cannot stop a runaway script, because `pcall` catches it, and an instruction hook that is always set costs
//! more than the hooks of most policies. So nothing is armed while a step keeps its budget. A watchdog thread looks at
//! every running step once in a millisecond and reads the CPU clock of the thread that the step runs on; a thread that
//! was only preempted has used no CPU time and is left alone. When a step has used up its budget, the watchdog sends a
//! signal to that thread. The signal handler runs between two instructions of the guilty thread and sets a LuaJIT count
//! hook that fires at the next Lua instruction. That hook yields: unlike an error, a yield passes through `pcall` frames
//! up to whoever resumed the coroutine. A coroutine of the script that is killed this way yields to its resumer, whose
//! next instruction yields again, until the step's own coroutine has come back to [`bounded`]; it is then dropped and
//! never resumed. The state itself stays intact and runs the next hook.
//!
//! Two things follow for the rest of the crate. Host functions never call back into Lua, since a count hook cannot yield
//! across a frame of Rust; and host functions that loop poll [`should_stop`], since no Lua instruction runs in them.
//!
//! Beginning a step costs two reads of the monotonic clock and a few stores; one that comes milliseconds after all others also
//! wakes the watchdog, a system call.

use std::cell::OnceCell;
use std::ffi::{c_int, c_long};
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, Ordering::*};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::{self, Thread};
use std::time::Duration;

use mlua::{Lua, ffi};

/// How often the watchdog looks. A step is stopped at most about this long after its budget.
const LOOK_EVERY: Duration = Duration::from_millis(1);
/// Rounds without any step after which the watchdog sleeps until the next one starts: waking it is cheaper than looking on for
/// nothing, where steps are further apart than that.
const IDLE_ROUNDS: u32 = 2;
/// A step shorter than this is charged by the wall clock: reading the CPU clock is a system call.
const SHORT: u64 = 100_000;
/// The most that a step can have used before the watchdog first saw it, in case the watchdog itself was late.
const UNSEEN: u64 = 2_000_000;

/// What one step took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Spent {
    /// CPU time, at most a little too much.
    pub(crate) cpu: Duration,
    /// True when the step was stopped.
    pub(crate) killed: bool,
}

/// Runs `step`, which runs Lua code of `lua` in coroutines only, for at most about `budget` of CPU time. When the
/// budget is used up, the coroutine yields to its resumer without a value, at whatever depth; it must not be resumed.
///
/// Steps don't nest on one thread.
pub(crate) fn bounded<R>(lua: &Lua, budget: Duration, step: impl FnOnce() -> R) -> (R, Spent) {
    THREAD.with(|thread| thread.get_or_init(Registration::new).watch.run(lua, budget, step))
}

/// True when the step that runs on this thread has been told to stop: long host functions poll it and give up.
pub(crate) fn should_stop() -> bool {
    let watch = CURRENT.with(|current| current.load(Relaxed));
    // SAFETY: the pointer is null or this thread's `Watch`, which lives until `Registration::drop` nulls it.
    unsafe { watch.as_ref() }.is_some_and(|watch| watch.killed.load(Relaxed))
}

/// The traceback of a coroutine, also of one that was stopped. `None` when there is no memory left for the text.
pub(crate) fn standing(lua: &Lua, thread: &mlua::Thread) -> Option<String> {
    let stopped = thread.state();
    // SAFETY: mlua runs the closure in a protected call of the main state, which is of the same `Lua` as the coroutine;
    // the function only reads the coroutine's frames, and leaves one string.
    let text =
        unsafe { lua.exec_raw::<mlua::LuaString>((), |state| ffi::luaL_traceback(state, stopped, ptr::null(), 0)) };
    text.ok().map(|text| text.to_string_lossy())
}

/// Measures from here on. For slices of work, not for decisions that a test would want to repeat.
pub(crate) fn stopwatch() -> impl Fn() -> Duration {
    let began = monotonic();
    move || Duration::from_nanos(monotonic() - began)
}

/// Tells how much processor time this thread has used since it was made: a system call each time, as [`stopwatch`] is none.
pub(crate) fn cpu_stopwatch() -> impl Fn() -> Duration {
    let began = read_clock(libc::CLOCK_THREAD_CPUTIME_ID);
    move || Duration::from_nanos(read_clock(libc::CLOCK_THREAD_CPUTIME_ID) - began)
}

thread_local! {
    /// This thread's watch, for the signal handler: no destructor, no lazy initialisation, so reading it is one load.
    static CURRENT: AtomicPtr<Watch> = const { AtomicPtr::new(ptr::null_mut()) };
    /// Keeps the watch alive and takes the thread off the watchdog's list when it ends.
    static THREAD: OnceCell<Registration> = const { OnceCell::new() };
}

/// What a thread, its signal handler and the watchdog share.
struct Watch {
    /// The state that runs, null between steps.
    lua: AtomicPtr<ffi::lua_State>,
    /// Monotonic nanoseconds at which the step began; 0 between steps.
    since: AtomicU64,
    /// The step's budget in nanoseconds.
    budget: AtomicU64,
    /// Counts steps, so that a late signal does not stop the next one.
    step: AtomicU64,
    /// The step that the watchdog has seen last, and what the thread's CPU clock said when that began, or less.
    looked_at: AtomicU64,
    cpu_before: AtomicU64,
    /// The step that the watchdog wants stopped.
    guilty: AtomicU64,
    /// Set by the handler.
    killed: AtomicBool,
    thread: c_int,
    cpu_clock: libc::clockid_t,
}

impl Watch {
    fn run<R>(&self, lua: &Lua, budget: Duration, step: impl FnOnce() -> R) -> (R, Spent) {
        let state = lua.exec_raw_lua(|raw| raw.state());
        let began = monotonic();
        self.budget.store(budget.as_nanos() as u64, Relaxed);
        self.step.store(self.step.load(Relaxed) + 1, Relaxed);
        self.lua.store(state, Release);
        // Before the flag is read, as the watchdog writes the flag before it reads `since`: one of both sees the other.
        self.since.store(began, SeqCst);
        if ASLEEP.load(SeqCst) {
            wake_watchdog();
        }
        let disarm = Disarm { watch: self, state };
        let result = step();
        drop(disarm);
        let wall = monotonic() - began;
        let cpu = if wall < SHORT { wall } else { wall.min(self.cpu_since(wall)) };
        let killed = self.killed.load(Relaxed);
        if killed {
            self.killed.store(false, Relaxed);
        }
        (result, Spent { cpu: Duration::from_nanos(cpu), killed })
    }

    /// CPU time since the last long step ended, or since the watchdog saw this one: an upper bound of what it used, if it is
    /// below `wall`. The first alone would charge a step that was preempted for what its thread did before.
    fn cpu_since(&self, wall: u64) -> u64 {
        LAST_CPU.with(|last| {
            let now = read_clock(libc::CLOCK_THREAD_CPUTIME_ID);
            let before = last.replace(now);
            let is_seen = self.looked_at.load(Acquire) == self.step.load(Relaxed);
            let seen = if is_seen { self.cpu_before.load(Relaxed) } else { 0 };
            let before = before.max(seen);
            if before == 0 { wall } else { now - before }
        })
    }
}

thread_local! {
    static LAST_CPU: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
}

/// Ends the step, also when it panics.
struct Disarm<'a> {
    watch: &'a Watch,
    state: *mut ffi::lua_State,
}

impl Drop for Disarm<'_> {
    fn drop(&mut self) {
        self.watch.lua.store(ptr::null_mut(), Release);
        self.watch.since.store(0, Release);
        if self.watch.killed.load(Acquire) {
            // SAFETY: the state is alive, as `run` borrows its `Lua`; from here on the handler does not touch it.
            unsafe { ffi::lua_sethook(self.state, None, 0, 0) };
        }
    }
}

/// Fires at the next instruction once armed, in whichever coroutine runs.
unsafe extern "C-unwind" fn stop_here(state: *mut ffi::lua_State, _: *mut ffi::lua_Debug) {
    // SAFETY: LuaJIT calls this as a hook, from where it lets a coroutine yield without values; the frames between
    // here and its resume are LuaJIT's own, none of Rust. Where it cannot yield (inside a C function that called
    // Lua) this is an error at every instruction instead, until the C function has been left.
    unsafe { ffi::lua_yield(state, 0) };
}

/// Runs on the thread that the watchdog found guilty.
extern "C" fn on_signal(_: c_int) {
    let watch = CURRENT.with(|current| current.load(Relaxed));
    // SAFETY: as in `should_stop`.
    let Some(watch) = (unsafe { watch.as_ref() }) else { return };
    let state = watch.lua.load(Acquire);
    if state.is_null() || watch.guilty.load(Acquire) != watch.step.load(Relaxed) {
        return;
    }
    watch.killed.store(true, Relaxed);
    // SAFETY: the state is the one that this very thread is running, and `lua_sethook` is what LuaJIT lets a signal
    // handler call (its own command line does for Ctrl-C); there is no JIT compiler in this build to disturb.
    unsafe { ffi::lua_sethook(state, Some(stop_here), ffi::LUA_MASKCOUNT, 1) };
}

/// A thread on the watchdog's list.
struct Registration {
    watch: Arc<Watch>,
}

impl Registration {
    fn new() -> Self {
        let mut cpu_clock = libc::CLOCK_THREAD_CPUTIME_ID;
        // SAFETY: plain system calls about the calling thread; `cpu_clock` outlives the call.
        let thread = unsafe {
            libc::pthread_getcpuclockid(libc::pthread_self(), &mut cpu_clock);
            libc::syscall(libc::SYS_gettid) as c_int
        };
        let watch = Arc::new(Watch {
            lua: AtomicPtr::new(ptr::null_mut()),
            since: AtomicU64::new(0),
            budget: AtomicU64::new(0),
            step: AtomicU64::new(0),
            looked_at: AtomicU64::new(0),
            cpu_before: AtomicU64::new(0),
            guilty: AtomicU64::new(0),
            killed: AtomicBool::new(false),
            thread,
            cpu_clock,
        });
        CURRENT.with(|current| current.store(Arc::as_ptr(&watch).cast_mut(), Release));
        let watched = Watched { watch: watch.clone(), seen: 0, step: 0, cpu: 0, used: 0 };
        watchdog().list.lock().unwrap_or_else(PoisonError::into_inner).push(watched);
        Self { watch }
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        // The list is locked while a signal is sent: after this the watchdog never names this thread again.
        let mut list = watchdog().list.lock().unwrap_or_else(PoisonError::into_inner);
        list.retain(|watched| !Arc::ptr_eq(&watched.watch, &self.watch));
        CURRENT.with(|current| current.store(ptr::null_mut(), Release));
    }
}

/// True while the watchdog sleeps because nothing runs.
static ASLEEP: AtomicBool = AtomicBool::new(false);

/// The one watchdog of the process.
struct Watchdog {
    list: Mutex<Vec<Watched>>,
    thread: OnceLock<Thread>,
}

/// A watched thread with what the watchdog remembers of its step.
struct Watched {
    watch: Arc<Watch>,
    /// The last step seen, running or not.
    seen: u64,
    /// The step that `cpu` and `used` are about. Never one that was only about to begin: its figures would be those
    /// of a step long before it.
    step: u64,
    /// The thread's CPU clock when the step was first seen.
    cpu: u64,
    /// What the step had used by then.
    used: u64,
}

impl Watched {
    /// Signals the thread if its step is beyond its budget. Says whether a step runs or has run since the last look.
    fn look(&mut self, now: u64) -> bool {
        let step = self.watch.step.load(Acquire);
        let since = self.watch.since.load(SeqCst);
        let is_news = std::mem::replace(&mut self.seen, step) != step;
        if since == 0 || now < since {
            return is_news;
        }
        let cpu = read_clock(self.watch.cpu_clock);
        if self.step != step {
            (self.step, self.cpu, self.used) = (step, cpu, (now - since).min(UNSEEN));
            self.watch.cpu_before.store(cpu.saturating_sub(monotonic() - since), Relaxed);
            self.watch.looked_at.store(step, Release);
        }
        if self.used + cpu.saturating_sub(self.cpu) >= self.watch.budget.load(Acquire) {
            self.watch.guilty.store(step, Release);
            // SAFETY: a system call; the thread is alive, as it takes itself off the locked list before it ends.
            unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), self.watch.thread, signal_number()) };
        }
        true
    }
}

fn watchdog() -> &'static Watchdog {
    static WATCHDOG: OnceLock<Watchdog> = OnceLock::new();
    static STARTED: OnceLock<()> = OnceLock::new();
    let dog = WATCHDOG.get_or_init(|| Watchdog { list: Mutex::new(Vec::new()), thread: OnceLock::new() });
    STARTED.get_or_init(|| {
        install_handler();
        // Without the watchdog no script may run: better no process than one that a script can freeze.
        let handle = thread::Builder::new().name("lua-watchdog".into()).spawn(watch_for_ever);
        let handle = handle.expect("the watchdog of the scripts needs a thread");
        dog.thread.get_or_init(|| handle.thread().clone());
    });
    dog
}

fn watch_for_ever() {
    leave_the_cpu_of_the_spawner();
    let mut idle = 0;
    loop {
        let now = monotonic();
        let mut list = watchdog_list();
        // No short circuit: every thread is looked at.
        let busy = list.iter_mut().fold(false, |busy, watched| watched.look(now) | busy);
        drop(list);
        idle = if busy { 0 } else { idle + 1 };
        if idle < IDLE_ROUNDS {
            thread::sleep(LOOK_EVERY);
            continue;
        }
        ASLEEP.store(true, SeqCst);
        if watchdog_list().iter().all(|watched| watched.watch.since.load(SeqCst) == 0) {
            while ASLEEP.load(SeqCst) {
                thread::park();
            }
        }
        ASLEEP.store(false, SeqCst);
        idle = 0;
    }
}

fn watchdog_list() -> std::sync::MutexGuard<'static, Vec<Watched>> {
    watchdog().list.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cold]
fn wake_watchdog() {
    if ASLEEP.swap(false, SeqCst)
        && let Some(thread) = watchdog().thread.get()
    {
        thread.unpark();
    }
}

fn signal_number() -> c_int {
    libc::SIGRTMIN() + 3
}

fn install_handler() {
    // SAFETY: a zeroed `sigaction` is valid; the handler touches only atomics and `lua_sethook`.
    unsafe {
        let mut action: libc::sigaction = MaybeUninit::zeroed().assume_init();
        action.sa_sigaction = on_signal as extern "C" fn(c_int) as usize;
        action.sa_flags = libc::SA_RESTART;
        libc::sigaction(signal_number(), &action, ptr::null_mut());
    }
}

/// A thread inherits the affinity of the shard that starts it, but must run exactly when that shard's core is busy.
fn leave_the_cpu_of_the_spawner() {
    // SAFETY: a plain bit mask that outlives the call; the kernel takes the CPUs that exist and are allowed.
    unsafe {
        let mut all: libc::cpu_set_t = MaybeUninit::zeroed().assume_init();
        (0..libc::CPU_SETSIZE as usize).for_each(|cpu| libc::CPU_SET(cpu, &mut all));
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &all);
    }
}

fn monotonic() -> u64 {
    read_clock(libc::CLOCK_MONOTONIC)
}

fn read_clock(clock: libc::clockid_t) -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` outlives the call. A clock of a thread that has ended leaves it at zero.
    unsafe { libc::clock_gettime(clock, &mut time) };
    let nanos: c_long = time.tv_nsec;
    time.tv_sec as u64 * 1_000_000_000 + nanos as u64
}

/// LuaJIT is built without FFI (`.cargo/config.toml`), but mlua names the function that would open it.
// SAFETY: the name is LuaJIT's own, which this build leaves out; the function opens nothing.
#[unsafe(no_mangle)]
extern "C-unwind" fn luaopen_ffi(_: *mut ffi::lua_State) -> c_int {
    0
}

#[cfg(test)]
mod tests;
