//! The fuzzer's targets of the policy engine (`fuzz/src/policy`), over a fixed series of inputs.
#![allow(unreachable_pub, missing_docs, reason = "the fuzzer's programs reach the targets")]

#[path = "../../fuzz/src/policy/mod.rs"]
mod policy;
mod series;
#[path = "../../fuzz/src/target.rs"]
mod target;

series::test_each!(policy::TARGETS, pattern: 5_000, plain: 5_000, script: 300, tokens: 2_000, recording: 100);
