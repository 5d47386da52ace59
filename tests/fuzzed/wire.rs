//! The fuzzer's targets of the parsers of packets and texts (`fuzz/src/wire`), over a fixed series of inputs.
#![allow(unreachable_pub, missing_docs, reason = "the fuzzer's programs reach the targets")]

mod series;
#[path = "../../fuzz/src/target.rs"]
mod target;
#[path = "../../fuzz/src/wire/mod.rs"]
mod wire;

series::test_each!(wire::TARGETS, rtp payload dependency rtcp stun srtp dtls link sdp signalling);
