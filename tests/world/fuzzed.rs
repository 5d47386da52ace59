//! The fuzzer's targets of a shard (`fuzz/src/world`), over a fixed series of inputs.
#![allow(unreachable_pub, reason = "the fuzzer's programs reach the targets")]

#[path = "../fuzzed/series.rs"]
mod series;
#[path = "../../fuzz/src/target.rs"]
mod target;
#[path = "../../fuzz/src/world/mod.rs"]
mod world;

series::test_each!(world::TARGETS, pictures offers messages shard crowd moved places records estimator);
