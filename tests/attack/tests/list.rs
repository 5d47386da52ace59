//! The table's rows, without running them.

use std::collections::BTreeSet;
use std::process::Command;

#[test]
fn there_are_as_many_attacks_as_promised_and_each_has_a_name_of_its_own() {
    let listed = Command::new(env!("CARGO_BIN_EXE_moonring-attack")).arg("--list").output().unwrap();
    let text = String::from_utf8(listed.stdout).unwrap();
    let names: BTreeSet<&str> = text.lines().collect();
    assert_eq!(names.len(), text.lines().count(), "{text}");
    assert!(names.len() >= 45, "{} attacks", names.len());
}
