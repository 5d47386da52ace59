//! The fuzz targets of `fuzz/` in every run of the tests: well-formed inputs, and a fixed series of changed ones.
//! `FUZZED_SEED=7 FUZZED_TIMES=1000` makes another series of changes, a thousand times as long.

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::target::Target;

/// Runs a target by its name, as the fuzzer does: with its own inputs, and with `rounds` changed ones.
pub(crate) fn check(targets: &[Target], name: &str, rounds: usize) {
    let target = targets.iter().find(|target| target.name == name).expect("a target");
    let seeds = (target.seeds)();
    seeds.iter().for_each(|seed| (target.run)(seed));
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse().expect("a number"));
    let mut rng = SmallRng::seed_from_u64(number("FUZZED_SEED").unwrap_or(1));
    let times = number("FUZZED_TIMES").unwrap_or(1) as usize;
    for _ in 0..rounds * times {
        let mut bytes = seeds[rng.random_range(0..seeds.len())].clone();
        let other = &seeds[rng.random_range(0..seeds.len())];
        for _ in 0..rng.random_range(1..5) {
            change(&mut rng, &mut bytes, other);
        }
        let outcome = std::panic::catch_unwind(|| (target.run)(&bytes));
        assert!(outcome.is_ok(), "{name} fails with the input b\"{}\"", bytes.escape_ascii());
    }
}

/// Flips, writes, cuts, repeats, and takes from another input.
fn change(rng: &mut SmallRng, bytes: &mut Vec<u8>, other: &[u8]) {
    let at = rng.random_range(0..=bytes.len());
    let to = rng.random_range(at..=bytes.len()).min(at + 16);
    match rng.random_range(0..6) {
        0 => bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 1 << rng.random_range(0..8)),
        1 => bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte = rng.random()),
        2 => drop(bytes.drain(at..to)),
        3 => bytes.truncate(at),
        4 => {
            let again = bytes[at..to].to_vec();
            bytes.splice(at..at, again);
        }
        _ => {
            let from = rng.random_range(0..=other.len());
            let end = rng.random_range(from..=other.len()).min(from + 16);
            bytes.splice(at..at, other[from..end].iter().copied());
        }
    }
}

/// A test for each target, so that they run beside each other, and one that finds a target without a test or a program. Behind
/// each name stands how many changed inputs there are in one run: what takes a second at most.
macro_rules! test_each {
    ($targets:expr, $($name:ident: $rounds:literal),+ $(,)?) => {
        $(#[test]
        fn $name() {
            series::check($targets, stringify!($name), $rounds);
        })+

        #[test]
        fn every_target_is_here_and_has_a_program() {
            let names: Vec<_> = $targets.iter().map(|target| target.name).collect();
            assert_eq!(names, [$(stringify!($name)),+]);
            let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/fuzz_targets");
            for name in names {
                assert!(folder.join(name).with_extension("rs").exists(), "{name}");
            }
        }
    };
}
pub(crate) use test_each;
