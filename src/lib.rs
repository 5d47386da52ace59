//! moonring: a WebRTC SFU whose rooms are governed by Lua scripts.
//!
//! ```text
//!          control plane (one tokio runtime)                    data plane (glommio, one executor pinned per core)
//! browser ──WSS──▶ signal: HTTPS, WSS, WHIP, WHEP, admin ─Command─▶ shard k: rooms, clients, tracks, their Lua states
//!                  scripts: the folder, compiled ─────────Scripts─▶   udp (io_uring) ▸ demux ▸ ICE-lite, DTLS, SRTP
//! browser ◀─────────────────────────────────────────────────Event─       ▸ room: keep once ▸ forward ▸ SRTP ▸ udp
//! browser ◀─────────────────── DTLS and SRTP over UDP, the shard's own port ──────────────────▶
//! ```
//!
//! A packet's way, downwards only: [`shard::udp`] receives, [`shard::event_loop`] ticks, [`shard`] finds the client,
//! decrypts and finds the track, [`room::fanout`] encrypts it for everybody who receives it, [`shard::udp`] sends.
//!
//! What holds, and `tests/tidy.rs` checks what of it can be checked in the text:
//! - Below the event loop, the socket, `signal`, `server` and `main` there is no glommio, no tokio, no clock and no
//!   socket; `mlua` is in `policy` only; `unsafe` is in the socket, the policy's budget and SRTP only.
//! - No lock and no atomic in the data plane; after warm-up no allocation per forwarded packet.
//! - No Lua on the packet path.
//! - Bytes from the network never panic, never allocate without a bound, never end somebody else's session.
//! - Nothing is learnt from a packet that is not authenticated.
pub mod addresses;
pub mod command;
pub mod config;
pub mod id;
pub mod media;
pub mod metrics;
pub mod negotiate;
pub mod packet;
pub mod policy;
pub mod report;
pub mod room;
pub mod rtp;
pub mod scripts;
pub mod server;
pub mod shard;
pub mod signal;
pub mod tools;
pub mod transport;
pub mod watch;
