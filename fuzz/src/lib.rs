//! Fuzz targets for whatever parses bytes from outside. `make fuzz` runs each for a while; every run of the tests runs
//! the same functions over a fixed series of changed inputs (`tests/fuzzed/series.rs`), those of each crate in that crate's
//! tests: without cargo-fuzz, `FUZZED_SEED=7 FUZZED_TIMES=1000 cargo test --test fuzzed` makes that a longer one.
//!
//! ```text
//! src/wire/        targets on moonring-wire alone, which builds in a fraction of the time: --no-default-features
//! src/policy/      feature "policy": moonring-policy
//! src/world/       feature "world": moonring-core
//! src/server/      feature "config": the server
//! fuzz_targets/    one program per target, for cargo-fuzz
//! corpus/          inputs that reach something new; not kept in git
//! artifacts/       inputs that made a target fail; a bug found becomes a test beside the code that had it
//! ```
//!
//! By hand, from this folder: `cargo fuzz run -s none shard`, with an artifact behind it to see it fail again;
//! `cargo fuzz run -s none --no-default-features rtp` builds only what the parser needs. `-s none` does without the
//! address sanitizer, which would need a nightly compiler: what is fuzzed is safe Rust.

#[cfg(feature = "policy")]
mod policy;
#[cfg(feature = "config")]
mod server;
#[cfg(feature = "world")]
#[path = "../../tests/world/sim/mod.rs"]
#[allow(dead_code, reason = "a part of the simulated world is enough")]
mod sim;
mod target;
mod wire;
#[cfg(feature = "world")]
mod world;

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

fn target(name: &str) -> &'static target::Target {
    let all = [
        wire::TARGETS,
        #[cfg(feature = "policy")]
        policy::TARGETS,
        #[cfg(feature = "world")]
        world::TARGETS,
        #[cfg(feature = "config")]
        server::TARGETS,
    ];
    all.into_iter().flatten().find(|target| target.name == name).expect("a target")
}
