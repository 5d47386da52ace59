//! The control plane's door: HTTPS, WebSocket, WHIP and WHEP.
pub mod directory;
pub mod message;
pub mod sdp;
