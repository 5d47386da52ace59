#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(init: moonring_fuzz::write_seeds("nodes"), |bytes: &[u8]| moonring_fuzz::run("nodes", bytes));
