//! Why something of a script failed: a step of a hook, or a step of a reload.

use std::any::Any;
use std::fmt;
use std::time::Duration;

use super::plain::PlainError;
use super::script::message_of;

/// LuaJIT's error message at the memory cap.
pub(crate) const OUT_OF_MEMORY: &str = "not enough memory";
/// Its message where what makes one of an error, with a traceback, has failed itself.
const IN_HANDLER: &str = "error in error handling";
/// How the log begins what it says of a hook that has failed, ...
pub(crate) const FAILED: &str = "the script failed: ";
/// ... and of one that has where nothing was asked of the room: for a checkpoint, and with what it was handed.
pub(crate) const NO_CHECKPOINT: &str = "there is no checkpoint of the room: ";
pub(crate) const BEGINS_ANEW: &str = "the script begins anew, without the state it had: ";

/// Why a hook failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HookFailure {
    /// An error, with its traceback.
    #[error("{0}")]
    Error(String),
    /// Stopped after its CPU time, with where it was.
    #[error("stopped: it used more than its CPU time of {0:?}\n{1}")]
    Time(Duration, String),
    /// An error at the memory cap, of so many bytes. Lua keeps no line of it: it calls no message handler then.
    #[error("more memory than the {kib} KiB of a room's script (memory_kib): {1}", kib = .0 / 1024)]
    Memory(usize, String),
    /// The host panicked; contained.
    #[error("internal error of the host: {0}")]
    Panic(String),
}

impl HookFailure {
    /// The failure of a script that may use `cap` bytes.
    pub(crate) fn of_message(message: String, cap: usize) -> Self {
        match message.as_str() {
            // There is not even memory for what Lua would say of an error.
            IN_HANDLER => Self::Memory(cap, "there is none left to say which error it was".to_owned()),
            text if text.contains(OUT_OF_MEMORY) => Self::Memory(cap, message),
            _ => Self::Error(message),
        }
    }

    pub(crate) fn of_error(error: &mlua::Error, cap: usize) -> Self {
        Self::of_message(message_of(error), cap)
    }

    pub(crate) fn of_panic(panic: &(dyn Any + Send)) -> Self {
        let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
        Self::Panic(text.unwrap_or("panic").to_owned())
    }
}

/// A step of opening or reloading a room that may fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Making the sandbox.
    NewState,
    /// The script's main chunk.
    MainChunk,
    /// `on_init`.
    Init,
    /// `on_unload` of the version that runs.
    Unload,
    /// `on_load`.
    Load,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NewState => "new state",
            Self::MainChunk => "main chunk",
            Self::Init => "on_init",
            Self::Unload => "on_unload of the old version",
            Self::Load => "on_load",
        })
    }
}

/// Why a reload has left the old version in charge.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReloadError {
    /// The script failed in one of the steps.
    #[error("{step}: {failure}{advice}", advice = advice(.step))]
    Failed {
        /// Which step.
        step: Step,
        /// How it failed.
        failure: HookFailure,
    },
    /// What `on_unload` returned cannot cross.
    #[error("on_unload: {0}{advice}", advice = advice(&Step::Unload))]
    State(PlainError),
}

impl ReloadError {
    /// What is wrong with `on_unload` where nothing is reloaded.
    pub(crate) fn of_unload(&self) -> String {
        match self {
            Self::Failed { failure, .. } => format!("on_unload: {failure}"),
            Self::State(error) => format!("on_unload: {error}"),
        }
    }
}

/// What to do when the version that runs is in the way.
fn advice(step: &Step) -> &'static str {
    match step {
        Step::Unload => "\n(to reload without the old version's state: moonring reload --drop-state ROOM)",
        _ => "",
    }
}

impl ReloadError {
    pub(crate) fn at(step: Step) -> impl FnOnce(HookFailure) -> Self {
        move |failure| Self::Failed { step, failure }
    }
}
