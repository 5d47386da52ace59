//! Searches for a seed under which something that always holds does not:
//! `cargo run --release -p moonring-core --example storm -- --seeds 1000 --from 1 --steps 60`.
//!
//! The program of a seed, and what is checked after each of its steps, is that of `tests/world/storm.rs`. A seed that finds
//! something becomes a test of its own. In a release build the faults that tests put in are compiled out; the rest is the
//! same.
#![allow(clippy::print_stdout, missing_docs, reason = "a command")]

use std::process::ExitCode;
use std::time::Instant;

#[path = "../../../tests/world/sim/mod.rs"]
#[allow(dead_code, unused_imports, unreachable_pub, reason = "the tests use all of it")]
mod sim;
#[path = "../../../tests/world/storm.rs"]
#[allow(dead_code, unused_imports, unreachable_pub, reason = "its tests run with the others of the world")]
mod storm;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    let value = |name: &str, default: u64| {
        let at = arguments.iter().position(|argument| argument == name);
        at.and_then(|at| arguments.get(at + 1)?.parse().ok()).unwrap_or(default)
    };
    let (seeds, from) = (value("--seeds", 100), value("--from", 1));
    let steps = usize::try_from(value("--steps", storm::STEPS as u64)).unwrap_or(storm::STEPS);
    let began = Instant::now();
    let mut broken = 0;
    for seed in from..from.saturating_add(seeds) {
        if let Err(words) = storm::run(seed, steps) {
            broken += 1;
            println!("{words}");
        }
    }
    println!("{seeds} seeds of {steps} steps in {} s: {broken} broken", began.elapsed().as_secs());
    if broken == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
