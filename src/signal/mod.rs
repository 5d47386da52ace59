//! The control plane's door: HTTPS, WebSocket, WHIP and WHEP.
//!
//! ```text
//! http ─▶ websocket ─▶ session (protocol, no socket) ─▶ directory ─▶ shard
//!     └─▶ whip ────────────────────────────────────────▶
//! ```
mod admin;
mod app;
mod assets;
pub mod directory;
mod dispatch;
pub mod http;
pub mod message;
mod metrics;
pub mod operator;
mod reports;
pub mod rooms;
pub mod sdp;
mod services;
mod session;
pub mod tls;
mod websocket;
mod whip;
