//! The bounds of a policy: of everything that a script could otherwise grow, hold or repeat.

use std::time::Duration;

use serde_json::{Map, Value};

/// Bytes of a script's source: compiling cannot be interrupted.
pub const MAX_SOURCE_BYTES: usize = 256 * 1024;
/// Bytes of one JSON value that crosses between a script and the room, as text.
pub(crate) const MAX_VALUE_BYTES: usize = 64 * 1024;
/// Levels of nesting of a JSON value that crosses.
pub(crate) const MAX_VALUE_DEPTH: usize = 32;
/// Bytes of a reason that a script gives a client.
pub(crate) const MAX_REASON_BYTES: usize = 1024;
/// Bytes of a log line of a script.
pub(crate) const MAX_LOG_BYTES: usize = 4096;
/// Log lines of one room's script in [`LOG_WINDOW`].
pub(crate) const MAX_LOG_LINES: u32 = 200;
/// See [`MAX_LOG_LINES`].
pub(crate) const LOG_WINDOW: Duration = Duration::from_secs(10);
/// Actions of one hook.
pub(crate) const MAX_ACTIONS: usize = 2000;
/// Bytes of all values that one hook sends.
pub(crate) const MAX_SENT_BYTES: usize = 1024 * 1024;
/// Timers of one room.
pub(crate) const MAX_TIMERS: usize = 256;
/// The shortest interval of a repeating timer.
pub(crate) const MIN_INTERVAL: Duration = Duration::from_millis(10);
/// The longest that a timer or a sleep takes.
pub(crate) const MAX_DELAY: Duration = Duration::from_secs(7 * 24 * 3600);
/// Hooks of one room that wait at the same time, joins aside. Each keeps a coroutine in the room's memory; further ones
/// begin when one has ended.
pub(crate) const MAX_WAITING: usize = 256;
/// Joins of one room that are being decided at the same time.
pub(crate) const MAX_WAITING_JOINS: usize = 128;
/// Requests of one room (HTTP, shared store) under way at the same time; further ones wait within their time limit.
pub(crate) const MAX_REQUESTS: usize = 32;
/// How much longer than its own time limit an HTTP request may stay unanswered before the engine gives it up.
pub(crate) const REQUEST_GRACE: Duration = Duration::from_secs(2);
/// The longest time limit a script can give an HTTP request, and the time limit of the shared store.
pub(crate) const MAX_REQUEST_TIME: Duration = Duration::from_secs(30);
/// How long a reload waits for the hooks of the old version that wait.
pub(crate) const RELOAD_PATIENCE: Duration = Duration::from_secs(1);
/// Names of counters of one room's script (`sfu.count`).
pub(crate) const MAX_COUNTERS: usize = 64;
/// Names of counters of all rooms of a shard together.
pub(crate) const MAX_SHARD_COUNTERS: usize = 1024;
/// Coroutines kept for the next hook of a room.
pub(crate) const MAX_IDLE_RUNNERS: usize = 4;
/// CPU time that a step is charged beside the one in Lua: the queues, the outcome, its way to the room.
pub(crate) const STEP_OVERHEAD: Duration = Duration::from_micros(1);
/// How far above its share the sum of all rooms of a shard may go for a moment.
pub(crate) const SHARD_BURST: Duration = Duration::from_millis(10);
/// Deadlines that one call of `handle_timeout` looks at; the others stay due.
pub(crate) const MAX_DEADLINES: usize = 256;
/// Levels of nesting of a client's metadata.
pub(crate) const MAX_METADATA_DEPTH: usize = 8;
/// Values in a client's metadata, keys aside.
pub(crate) const MAX_METADATA_VALUES: usize = 512;
/// Bytes of what a policy says of a client, as JSON text; for depth and number the bounds of metadata hold.
pub(crate) const MAX_ATTRIBUTES_BYTES: usize = 16 * 1024;
/// Bytes of a client's identity.
pub(crate) const MAX_IDENTITY_BYTES: usize = 256;
/// The global by which a script says for how many seconds its room outlives its last client.
pub(crate) const EMPTY_TIMEOUT: &str = "EMPTY_TIMEOUT_S";
/// The longest that a room is kept without clients.
pub const MAX_EMPTY_TIMEOUT: Duration = Duration::from_secs(24 * 3600);
/// How long a room that everybody has left, or that was closed, waits for its hooks: they may have something to report
/// that takes some tries.
pub const HOOKS_PATIENCE: Duration = Duration::from_secs(60);
/// How long a room waits for its hooks that ends for want of clients or at a shutdown, `on_close` among them.
pub(crate) const END_PATIENCE: Duration = Duration::from_secs(10);
/// The global by which a script says after how many seconds its room's state is kept anew.
pub(crate) const CHECKPOINT: &str = "CHECKPOINT_SECONDS";
/// The least and the most that it can say.
pub(crate) const CHECKPOINT_S: (f64, f64) = (1.0, 300.0);
/// Bytes of a checkpoint, about.
pub const MAX_CHECKPOINT_BYTES: usize = 64 * 1024;
/// How long a checkpoint lasts, at least, when its server is lost: a room that is opened much later is another one of the same name.
pub const CHECKPOINT_LIFE: Duration = Duration::from_secs(15 * 60);
/// One that is as it was is not written again for so long.
pub const CHECKPOINT_REFRESH: Duration = Duration::from_secs(5 * 60);
/// How long one is kept that is written: where it has been as it was for a while, its room was there until later.
pub const CHECKPOINT_KEPT: Duration = CHECKPOINT_LIFE.saturating_add(CHECKPOINT_REFRESH);
/// How long a checkpoint waits for CPU time of the room, or of the shard's scripts, before it is looked at again.
pub(crate) const CHECKPOINT_RETRY: Duration = Duration::from_millis(20);
/// Values in a client's message, keys aside.
pub(crate) const MAX_MESSAGE_VALUES: usize = 10_000;
/// Messages of one person that wait for their hook: a quarter of what may wait in a room.
pub(crate) const MAX_PERSON_MESSAGES: usize = 256;
/// Bytes of the host that they take: a quarter of what it holds for a room.
pub(crate) const MAX_PERSON_BYTES: usize = 1024 * 1024;
/// The first pause of a script that is suspended; each further one is twice as long.
pub(crate) const FIRST_SUSPENSION: Duration = Duration::from_secs(30);
/// The longest pause of a script that is suspended.
pub(crate) const LONGEST_SUSPENSION: Duration = Duration::from_secs(3600);
/// The time within which strikes add up, see [`PolicySettings::strikes`].
pub(crate) const STRIKE_WINDOW: Duration = Duration::from_secs(60);
/// Strikes of a hook that ended with an error.
pub(crate) const STRIKES_OF_ERROR: u32 = 1;
/// Strikes of a hook that was stopped (time, memory) or panicked the host.
pub(crate) const STRIKES_OF_KILL: u32 = 5;
/// A closed state with more memory than this is freed in slices.
pub(crate) const SLICED_FREE_BYTES: usize = 256 * 1024;
/// How long one slice of freeing takes, about.
pub(crate) const FREE_SLICE: Duration = Duration::from_micros(200);

const _: () = assert!(MAX_REQUESTS <= MAX_WAITING, "a request always has a hook that waits for it");
const _: () = assert!(
    MAX_MESSAGE_VALUES * size_of::<Value>() + MAX_VALUE_BYTES < MAX_PERSON_BYTES,
    "a person can send a message of the greatest size"
);
const _: () = assert!(MAX_SENT_BYTES >= MAX_VALUE_BYTES, "a hook can send a value of the greatest size");
const _: () = assert!(STRIKES_OF_KILL >= STRIKES_OF_ERROR);

/// The budgets of a room's policy.
#[derive(Clone, Debug)]
pub struct PolicySettings {
    /// CPU time of one step of a hook; waiting does not count.
    pub step_budget: Duration,
    /// CPU time of a script's main chunk, its `on_init` and its `on_load`, each.
    pub load_budget: Duration,
    /// Memory of one state.
    pub memory_bytes: usize,
    /// The share of the shard's time that one room's hooks may take for long: 0.02 is 2 %, 0 is no limit.
    pub cpu_share: f64,
    /// The share of the shard's time that the hooks of all rooms together may take for long; 0 is no limit.
    pub shard_share: f64,
    /// CPU time that hooks may take before media runs again, as far as their steps are short.
    pub slice: Duration,
    /// How far above its share a room may go for a moment.
    pub cpu_burst: Duration,
    /// Bytes of state that cross a reload.
    pub state_bytes: usize,
    /// Events of one room that wait for their hook.
    pub max_queued_events: usize,
    /// Joins of one room that wait for their hook.
    pub max_queued_joins: usize,
    /// Bytes that the host holds for one room: queued events, unsent actions, requests and replies.
    pub host_bytes: usize,
    /// Strikes within a minute after which a script is suspended: an error is one, a hook that had to be stopped is five.
    pub strikes: u32,
    /// Strikes within a minute, on hooks that only the events of one client make fail, after which that client is
    /// disconnected. 0 is never.
    pub client_strikes: u32,
    /// What scripts see as `sfu.config`.
    pub config: Map<String, Value>,
}

impl PolicySettings {
    /// For tests and other places whose time is not the processor's: a script may take what it takes, up to a second in one
    /// step, and waits for nobody.
    pub fn unhurried() -> Self {
        let (step, long) = (Duration::from_secs(1), Duration::from_secs(60));
        Self {
            step_budget: step,
            load_budget: step,
            cpu_share: 0.0,
            shard_share: 0.0,
            slice: long,
            cpu_burst: long,
            ..Self::default()
        }
    }
}

impl Default for PolicySettings {
    fn default() -> Self {
        Self {
            step_budget: Duration::from_millis(5),
            load_budget: Duration::from_millis(20),
            memory_bytes: 2 * 1024 * 1024,
            cpu_share: 0.02,
            shard_share: 0.25,
            slice: Duration::from_micros(100),
            cpu_burst: Duration::from_millis(20),
            state_bytes: 256 * 1024,
            max_queued_events: 1024,
            max_queued_joins: 1024,
            host_bytes: 4 * 1024 * 1024,
            strikes: 50,
            client_strikes: 25,
            config: Map::new(),
        }
    }
}
