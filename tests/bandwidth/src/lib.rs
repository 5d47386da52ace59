//! A simulated bottleneck on virtual time: several senders through one drop-tail queue, with random and bursty loss,
//! delay, jitter and reordering, and feedback that gets lost on its way back. Times are microseconds since the start,
//! rates bit/s. The same seed gives the same run.
#![allow(clippy::print_stdout, missing_docs, reason = "a bench that prints")]

pub mod controller;
pub mod link;
pub mod metrics;
pub mod random;
pub mod receiver;
pub mod reno;
pub mod scene;
pub mod sender;
pub mod source;
pub mod table;
pub mod world;
