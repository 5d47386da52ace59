//! Fuzz targets for whatever parses bytes from outside. `make fuzz` runs each for a while; `tests/world/fuzzed.rs` runs
//! the same functions in every test run, over a fixed series of changed seeds.
//!
//! ```text
//! src/targets/     what is done with the bytes, and the inputs to begin with
//! fuzz_targets/    one program per target, for cargo-fuzz
//! corpus/          inputs that reach something new; not kept in git
//! artifacts/       inputs that made a target fail; a bug found becomes a test beside the code that had it
//! ```
//!
//! By hand, from this folder: `cargo fuzz run -s none shard`, with an artifact behind it to see it fail again.
//! `-s none` does without the address sanitizer, which would need a nightly compiler: what is fuzzed is safe Rust.

mod config;
#[path = "../../tests/world/sim/mod.rs"]
#[allow(dead_code, reason = "a part of the simulated world is enough")]
mod sim;
pub mod targets;

use std::path::Path;

/// Puts a target's inputs to begin with where libFuzzer looks for them.
pub fn write_seeds(name: &str) {
    let target = target(name);
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
    std::fs::create_dir_all(&folder).expect("a folder");
    for (n, seed) in (target.seeds)().into_iter().enumerate() {
        std::fs::write(folder.join(format!("seed-{n}")), seed).expect("a file");
    }
}

/// Runs a target by its name.
pub fn run(name: &str, bytes: &[u8]) {
    (target(name).run)(bytes);
}

fn target(name: &str) -> &'static targets::Target {
    let all = targets::ALL.iter().chain([&config::TARGET]);
    all.into_iter().find(|target| target.name == name).expect("a target")
}
