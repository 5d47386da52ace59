//! The fuzzer's targets of a shard (`fuzz/src/world`), over a fixed series of inputs.
#![allow(unreachable_pub, reason = "the fuzzer's programs reach the targets")]

#[path = "../fuzzed/series.rs"]
mod series;
#[path = "../../fuzz/src/target.rs"]
mod target;
#[path = "../../fuzz/src/world/mod.rs"]
mod world;

series::test_each!(
    world::TARGETS,
    pictures: 20_000,
    offers: 300,
    messages: 5_000,
    shard: 150,
    crowd: 60,
    moved: 60,
    homes: 60,
    predecessor: 400,
    places: 400,
    links: 60,
    records: 100,
    estimator: 5_000,
);
