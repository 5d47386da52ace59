//! The policies that ship: checked, and tested by their own tests, as `moonring check` and `moonring test` do it.

use std::path::PathBuf;
use std::time::Instant;

use moonring::policy::tools::names::Names;
use moonring::tools::{check_file, scripts, test_file};

fn folder() -> Vec<PathBuf> {
    vec![PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("scripts")]
}

#[test]
fn every_policy_that_ships_passes_its_own_tests() {
    let files = scripts(&folder(), |name| name.ends_with("_test.lua")).unwrap();
    assert!(files.len() >= 6, "{files:?}");
    let mut failed = String::new();
    for file in files {
        let cases = test_file(&file, Instant::now()).unwrap();
        for (n, case) in cases.iter().enumerate().filter(|(_, case)| case.failure.is_some()) {
            failed.push_str(&format!("{}\n", file.display()));
            case.tap(&mut failed, n + 1).unwrap();
        }
    }
    assert!(failed.is_empty(), "\n{failed}");
}

#[test]
fn every_policy_that_ships_is_without_a_finding_and_has_a_test() {
    let names = Names::of_sandbox(Instant::now()).unwrap();
    for script in scripts(&folder(), |name| !name.ends_with("_test.lua")).unwrap() {
        let report = check_file(&script, &names);
        assert!(report.findings.is_empty(), "\n{report}");
        let test = script.with_file_name(script.file_stem().unwrap().to_string_lossy().into_owned() + "_test.lua");
        assert!(test.exists(), "{} has no test", script.display());
    }
}
