//! The control plane's door: HTTPS, WebSocket, WHIP and WHEP.
pub mod message;
pub mod sdp;
