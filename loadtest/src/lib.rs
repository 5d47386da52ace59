//! Loads a WebRTC SFU with real clients and reports what it did.
//!
//! | module | what |
//! |---|---|
//! | [`peer`] | one WebRTC client: ICE, DTLS, SRTP, feedback; no I/O, no clock, so that simulated worlds use it too |
//! | [`media`] | packets as real codecs make them, with a time stamp inside |
pub mod engine;
pub mod media;
pub mod peer;
pub mod process;
pub mod report;
pub mod run;
pub mod scenario;
pub mod signalling;
