//! The policy engine: one sandboxed LuaJIT state per room, driven by rare events, without I/O or clock of its own.
//!
//! [`hook`] is the contract with the room: what a hook is called with, and what comes out of it.
mod budget;
pub mod hook;
pub mod pattern;
pub mod plain;
