//! The policy engine: one sandboxed LuaJIT state per room, driven by rare events, without I/O or clock of its own.
//!
//! [`hook`] is the contract with the room: what a hook is called with, and what comes out of it. [`PolicyEngine`] is one
//! shard's engine; [`Script`] is a compiled script, which the control plane shares with the shards.
mod agenda;
mod api;
mod bucket;
mod budget;
mod calls;
mod desk;
mod effects;
mod engine;
mod graveyard;
pub mod hook;
mod host;
pub mod library;
pub mod output;
pub mod pattern;
pub mod plain;
mod reload;
mod room;
mod script;
pub mod settings;
mod state;
pub mod stats;
pub mod tools;
mod waits;

pub use engine::PolicyEngine;
pub use library::ScriptLibrary;
pub use output::{PolicyKey, PolicyOutput, PolicyReply, PolicyRequest, PolicyRequestId, Ticket};
pub use script::{Script, ScriptError};
pub use settings::PolicySettings;
pub use stats::{PolicyStats, RoomStatus};

#[cfg(test)]
mod tests;
