//! The fuzzer's targets of the policy engine (`fuzz/src/policy.rs`), over a fixed series of inputs.
#![allow(unreachable_pub, missing_docs, reason = "the fuzzer's programs reach the targets")]

#[path = "../../fuzz/src/policy.rs"]
mod policy;
mod series;
#[path = "../../fuzz/src/target.rs"]
mod target;

series::test_each!(policy::TARGETS, pattern plain script);
