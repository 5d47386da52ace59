#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(init: moonring_fuzz::write_seeds("predecessor"), |bytes: &[u8]| moonring_fuzz::run("predecessor", bytes));
