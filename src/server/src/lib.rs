//! moonring: a WebRTC SFU whose rooms are governed by Lua scripts. This crate is the server around
//! [`moonring_core`]: sockets, the event loop of each shard, signalling, scripts on disk, configuration.
//!
//! ```text
//!          control plane (one tokio runtime)                    data plane (glommio, one executor pinned per core)
//! browser ──WSS──▶ signal: HTTPS, WSS, WHIP, WHEP, admin ─Command─▶ shard k: rooms, clients, tracks, their Lua states
//!                  scripts: the folder, compiled ─────────Scripts─▶   udp ▸ demux ▸ ICE-lite, DTLS, SRTP
//! browser ◀─────────────────────────────────────────────────Event─       ▸ room: keep once ▸ forward ▸ SRTP ▸ udp
//! browser ◀─────────────────── DTLS and SRTP over UDP, the shard's own port ──────────────────▶
//! ```
//!
//! The modules are private, so that the compiler finds what nobody uses; what tests and benchmarks drive is re-exported.

mod addresses;
mod advice;
mod cli;
mod cluster;
mod config;
mod data_dir;
mod dtls_certificate;
mod ending;
mod event_loop;
mod event_queue;
mod io_mode;
mod log_lines;
mod log_queue;
mod probe;
mod recordings;
mod sandbox;
mod script_files;
mod script_set;
mod scripts;
mod server;
mod shard_handle;
mod signal;
mod take_over;
mod tcp;
mod tools;
mod udp;
mod watch;
mod watchdog;

pub use cli::run;
pub use config::{
    CanaryVerb, Cli, ClusterStore, Config, LogFormat, OnSave, OptionalSecret, Options, PortRange, RequestHeader,
    RoomScript, RoomSpread, SandboxPart, ScriptSetting, ScriptsVerb, Secret, ShutdownSays,
};
pub use io_mode::IoMode;
pub use server::Server;

/// What the fuzzer drives without sockets.
pub mod fuzz {
    pub use crate::cluster::Hearsay;
    pub use crate::signal::in_memory::InMemory;
}

/// What the benchmarks measure without a server around it.
pub mod bench {
    pub use crate::event_loop::{Core, LoopSettings, Phase, Pulse, spawn_shard};
    pub use crate::event_queue::{EventReceiver, EventSender, event_queue};
    pub use crate::io_mode::IoMode;
    pub use crate::signal::tls::install_crypto_provider;
    pub use crate::udp::{Udp, UdpSettings, bind};
    pub use moonring_core::report::IoStats;
}
