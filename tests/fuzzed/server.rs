//! The fuzzer's targets of the server (`fuzz/src/server`), over a fixed series of inputs.
#![allow(unreachable_pub, missing_docs, reason = "the fuzzer's programs reach the targets")]

mod series;
#[path = "../../fuzz/src/server/mod.rs"]
mod server;
#[path = "../../fuzz/src/target.rs"]
mod target;

series::test_each!(server::TARGETS, config: 1_000, http: 500, websocket: 500, tickets: 150, nodes: 2_000, stays: 400);
