//! The fuzzer's targets of the configuration file (`fuzz/src/config.rs`), over a fixed series of inputs.
#![allow(unreachable_pub, missing_docs, reason = "the fuzzer's programs reach the targets")]

#[path = "../../fuzz/src/config.rs"]
mod config;
mod series;
#[path = "../../fuzz/src/target.rs"]
#[allow(dead_code, reason = "the configuration file is one part")]
mod target;

series::test_each!(config::TARGETS, config);
