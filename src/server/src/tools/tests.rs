//! The policies that ship: checked, and tested by their own tests, as `moonring check` and `moonring test` do it.

use std::path::PathBuf;
use std::time::Instant;

use super::{check, check_file, scripts, test, test_file};
use crate::script_files::Wanted;
use moonring_policy::tools::names::Names;

fn folder_of_ours() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../scripts")
}

fn folder() -> Vec<PathBuf> {
    vec![folder_of_ours()]
}

#[test]
fn every_policy_that_ships_passes_its_own_tests() {
    let files = scripts(&folder(), Wanted::Tests).unwrap();
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
    for script in scripts(&folder(), Wanted::Scripts).unwrap() {
        let report = check_file(&script, &names);
        assert!(report.findings.is_empty(), "\n{report}");
        let test = script.with_file_name(script.file_stem().unwrap().to_string_lossy().into_owned() + "_test.lua");
        assert!(test.exists(), "{} has no test", script.display());
    }
}

#[test]
fn errors_fail_a_check_and_warnings_only_a_strict_one() {
    const GOOD: &str = "function on_client_connect() return true end on_publish_request = on_client_connect";
    for (script, strict, expected, summary) in [
        (GOOD, true, true, "0 errors, 0 warnings"),
        ("x = 1", false, true, "0 errors, 3 warnings"),
        ("x = 1", true, false, "0 errors, 3 warnings"),
        ("x = ", false, false, "1 errors, 0 warnings"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("room.lua"), script).unwrap();
        std::fs::write(folder.path().join("room_test.lua"), "not looked at").unwrap();
        let mut out = Vec::new();
        let passed = check(&[folder.path().to_owned()], strict, Instant::now(), &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert_eq!((passed, text.lines().last()), (expected, Some(summary)), "{script}: {text}");
    }
    let mut out = Vec::new();
    assert!(!check(&[PathBuf::from("/nowhere/room.lua")], false, Instant::now(), &mut out).unwrap());
}

#[test]
fn a_folder_without_scripts_or_tests_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let (path, shown) = (vec![folder.path().to_owned()], folder.path().display().to_string());
    std::fs::write(folder.path().join("notes.txt"), "x").unwrap();
    let checked = |paths: &[PathBuf]| check(paths, false, Instant::now(), &mut Vec::new()).map_err(|e| e.to_string());
    let none = format!("there is no script (*.lua, other than *_test.lua) in {shown}");
    assert_eq!(checked(&path), Err(none.clone()));
    assert_eq!(checked(&[folder_of_ours(), folder.path().to_owned()]), Err(none));
    let tested = test(&path, Instant::now(), &mut Vec::new()).map_err(|error| error.to_string());
    assert_eq!(tested, Err(format!("there is no test file (*_test.lua) in {shown}")));
}

#[test]
fn a_failed_test_fails_the_run_and_the_output_is_tap() {
    for (file, expected, output) in [
        ("test.it('one', function() end)", true, "ok 1 - one\n1..1\n# 1 passed, 0 failed\n"),
        (
            "test.it('one', function() end)\ntest.it('two', function()\n  test.eq(1, 2)\nend)",
            false,
            "ok 1 - one\nnot ok 2 - two\n  ---\n  message: not equal\n  at: FILE:3\n  got: 1\n  expected: 2\n  ...\n\
             1..2\n# 1 passed, 1 failed\n",
        ),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("room_test.lua");
        std::fs::write(&path, file).unwrap();
        let mut out = Vec::new();
        assert_eq!(test(std::slice::from_ref(&path), Instant::now(), &mut out).unwrap(), expected);
        let text = String::from_utf8(out).unwrap().replace(&path.display().to_string(), "FILE");
        assert_eq!(text, format!("TAP version 14\n# FILE\n{output}"));
    }
}

#[test]
fn modules_are_found_beside_and_above_a_script_and_are_checked_as_modules() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    write("lib/words.lua", "return { text = 'hello' }");
    write(
        "deep/er/room.lua",
        "local words = require('words')
         function on_client_connect() return false, words.text end
         function on_publish_request() return true end",
    );
    write(
        "deep/er/room_test.lua",
        "test.it('a module is there', function()
           local _, _, reason = test.room('room.lua'):connect()
           test.eq(reason, 'hello')
         end)",
    );
    let (mut out, root) = (Vec::new(), [folder.path().to_owned()]);
    let passed = check(&root, true, Instant::now(), &mut out).unwrap();
    assert!(passed, "{}", String::from_utf8_lossy(&out));
    out.clear();
    assert!(test(&root, Instant::now(), &mut out).unwrap(), "{}", String::from_utf8_lossy(&out));
    std::fs::remove_file(folder.path().join("lib/words.lua")).unwrap();
    out.clear();
    assert!(!check(&root, false, Instant::now(), &mut out).unwrap());
    let text = String::from_utf8(out).unwrap();
    assert!(text.contains(":1: error: there is no lib/words.lua beside the script or above it"), "{text}");
}
