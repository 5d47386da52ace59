//! moonring: a WebRTC SFU whose rooms are governed by Lua scripts.
pub mod command;
pub mod config;
pub mod id;
pub mod media;
pub mod metrics;
pub mod negotiate;
pub mod packet;
pub mod policy;
pub mod rtp;
pub mod shard;
pub mod signal;
pub mod transport;
