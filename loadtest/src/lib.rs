//! Loads a WebRTC SFU with real clients and reports what it did.
//!
//! ```text
//! scenario ─plans─▶ run ──▶ signalling (a thread: WebSocket, WHIP, WHEP) ──offers, answers──▶ engine (a thread or more)
//!                    ▲                                                                          peers, media, sockets
//!                    └──────────────────────── a snapshot every second ─────────────────────────────┘   ──▶ report
//! ```
//!
//! | module | what |
//! |---|---|
//! | [`peer`] | one WebRTC client: ICE, DTLS, SRTP, feedback; no I/O, no clock, so that simulated worlds use it too |
//! | [`media`] | packets as real codecs make them, with a time stamp inside |
//! | [`engine`] | a thread that drives many peers |
//! | [`signalling`] | how clients join |
//! | [`scenario`] | who joins which room and does what |
//! | [`limits`] | which subscribers are behind which slow link, and what fits there |
//! | [`run`] | one run: starts all of it, watches, reports |
//! | [`report`] | numbers, a table, a page with plots |
//! | [`interrupt`] | Ctrl-C ends a run with what it has measured |
//! | [`process`] | processor time and memory from `/proc` |
#![forbid(unsafe_code)]

#[cfg(feature = "load")]
pub mod engine;
#[cfg(feature = "load")]
pub mod interrupt;
#[cfg(feature = "load")]
pub mod limits;
pub mod media;
#[cfg(feature = "load")]
pub mod moving;
pub mod peer;
#[cfg(feature = "load")]
pub mod process;
#[cfg(feature = "load")]
pub mod report;
#[cfg(feature = "load")]
pub mod run;
#[cfg(feature = "load")]
pub mod scenario;
#[cfg(feature = "load")]
pub mod signalling;
#[cfg(feature = "load")]
mod touch;
