//! The policy engine: one sandboxed LuaJIT state per room, driven by signalling events, without I/O or clock of its own.
//!
//! [`PolicyEngine`] is the engine of one shard. [`hook`] is its interface with the rooms: what a hook is called with, and
//! what comes out of it; [`hook_table`] says which hooks there are. [`Script`] is a compiled script, which the control
//! plane shares with the shards.
#![allow(missing_docs, reason = "a field or variant whose name says everything has no comment")]

mod admission;
mod api;
mod bucket;
mod budget;
mod calls;
pub mod canary;
mod carried;
pub mod client;
mod deferred_free;
mod effects;
mod engine;
mod engine_context;
mod failure;
mod faults;
pub mod hook;
pub mod hook_table;
mod host;
pub mod library;
mod mailbox;
pub mod output;
pub mod pattern;
mod person;
pub mod plain;
mod reads;
mod reload;
mod room;
mod script;
pub mod settings;
mod state;
pub mod stats;
pub mod tape;
mod timer_queue;
mod timers;
mod tokens;
pub mod tools;
mod turns;
mod waits;
mod work;

pub use admission::check_object;
pub use carried::{CarriedPolicy, Checkpoint};
pub use engine::{OpenError, PolicyEngine};
pub use failure::{HookFailure, ReloadError, Step};
pub use library::{ResolveError, ScriptLibrary};
pub use output::{PolicyKey, PolicyOutput, PolicyReply, PolicyRequest, PolicyRequestId, Ticket};
pub use script::{LoadModule, MODULES_FOLDER, Script, ScriptError, module_file};
pub use settings::PolicySettings;
pub use stats::{PolicyStats, RoomStatus};

#[cfg(test)]
mod tests;
