//! The fuzz targets of `fuzz/` in every run of the tests: well-formed inputs, and a fixed series of changed ones.

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::target::Target;

/// Runs a target by its name, as the fuzzer does.
pub(crate) fn check(targets: &[Target], name: &str) {
    let target = targets.iter().find(|target| target.name == name).expect("a target");
    let seeds = (target.seeds)();
    seeds.iter().for_each(|seed| (target.run)(seed));
    let mut rng = SmallRng::seed_from_u64(1);
    for _ in 0..target.rounds {
        let mut bytes = seeds[rng.random_range(0..seeds.len())].clone();
        let other = &seeds[rng.random_range(0..seeds.len())];
        for _ in 0..rng.random_range(1..5) {
            change(&mut rng, &mut bytes, other);
        }
        (target.run)(&bytes);
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

/// A test for each target, so that they run beside each other, and one that finds a target without a test or a program.
macro_rules! test_each {
    ($targets:expr, $($name:ident)*) => {
        $(#[test]
        fn $name() {
            series::check($targets, stringify!($name));
        })*

        #[test]
        fn every_target_is_here_and_has_a_program() {
            let names: Vec<_> = $targets.iter().map(|target| target.name).collect();
            assert_eq!(names, [$(stringify!($name)),*]);
            let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/fuzz_targets");
            for name in names {
                assert!(folder.join(name).with_extension("rs").exists(), "{name}");
            }
        }
    };
}
pub(crate) use test_each;
