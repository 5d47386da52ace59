//! The control plane's listeners: HTTPS, WebSocket, WHIP and WHEP.
//!
//! ```text
//! http ─▶ websocket ─▶ session (protocol, no socket) ─▶ directory ─▶ shard
//!     └─▶ whip ────────────────────────────────────────▶
//! ```
mod admin;
mod app;
mod assets;
mod between_shards;
mod calls;
mod canaries;
mod clustered;
mod connections;
mod dead_links;
pub(crate) mod directory;
mod dispatch;
mod door;
mod drain;
mod homes;
pub(crate) mod http;
mod http1;
pub(crate) mod in_memory;
mod intake;
mod metrics;
mod moves;
pub(crate) mod operator;
pub(crate) mod operator_canary;
pub(crate) mod operator_clients;
pub(crate) mod operator_nodes;
pub(crate) mod operator_scripts;
pub(crate) mod operator_streams;
mod orders;
mod orphans;
mod peak;
mod problem;
mod reloads;
mod reports;
mod resident;
mod resources;
pub(crate) mod rooms;
mod scripts;
mod services;
mod session;
mod streams;
pub(crate) mod take_over;
pub(crate) mod tls;
mod visit;
mod watchers;
mod websocket;
mod whip;
