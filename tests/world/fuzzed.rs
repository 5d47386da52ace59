//! The fuzzer's targets (`fuzz/`), in every run of the tests: good inputs, and a fixed series of changed ones.

#[path = "../../fuzz/src/targets/mod.rs"]
#[allow(unreachable_pub, reason = "the fuzzer's programs reach it")]
mod targets;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

/// Runs a target by its name, as the fuzzer does.
fn check(name: &str) {
    let target = targets::ALL.iter().find(|target| target.name == name).expect("a target");
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

/// A test for each target, so that they run beside each other.
macro_rules! targets {
    ($($name:ident)*) => {
        $(#[test]
        fn $name() {
            check(stringify!($name));
        })*

        #[test]
        fn every_target_is_here_and_has_a_program() {
            let names: Vec<_> = targets::ALL.iter().map(|target| target.name).collect();
            assert_eq!(names, [$(stringify!($name)),*]);
            let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/fuzz_targets");
            for name in names {
                assert!(folder.join(name).with_extension("rs").exists(), "{name}");
            }
        }
    };
}

targets!(rtp payload rtcp stun srtp dtls sdp signalling pattern plain script shard);
