//! The fuzzer's targets of the parsers of packets and texts (`fuzz/src/wire`), over a fixed series of inputs.
#![allow(unreachable_pub, missing_docs, reason = "the fuzzer's programs reach the targets")]

mod series;
#[path = "../../fuzz/src/target.rs"]
mod target;
#[path = "../../fuzz/src/wire/mod.rs"]
mod wire;

series::test_each!(
    wire::TARGETS,
    rtp: 20_000,
    payload: 20_000,
    dependency: 20_000,
    red: 20_000,
    rtcp: 20_000,
    stun: 10_000,
    srtp: 5_000,
    dtls: 150,
    framing: 20_000, link: 20_000,
    sdp: 2_000,
    signalling: 10_000,
);
