#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(init: moonring_fuzz::write_seeds("homes"), |bytes: &[u8]| moonring_fuzz::run("homes", bytes));
