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
pub mod http;
pub mod message;
pub mod sdp;
mod session;
pub mod tls;
mod websocket;
mod whip;
