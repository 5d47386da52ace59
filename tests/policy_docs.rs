//! The documents of the policy API name all of it, and what they show compiles.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::time::Instant;

use moonring_policy::Script;
use moonring_policy::hook_table::HOOKS;
use moonring_policy::tools::check::{Role, check, check_with};
use moonring_policy::tools::names::Names;
use moonring_policy::tools::trial::OPTIONS;

fn read(name: &str) -> String {
    fs::read_to_string(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..").join(name)).unwrap()
}

/// What the engine offers, as the documents call it.
fn offered() -> BTreeSet<String> {
    let names = Names::of_sandbox(Instant::now()).unwrap();
    let tables = ["sfu.json", "sfu.base64", "sfu.shared", "sfu.store", "sfu.store.global", "sfu.room"];
    let of_sfu = names.paths.iter().filter(|path| path.starts_with("sfu.") && !tables.contains(&path.as_str()));
    let methods = names.methods.iter().map(|name| format!("client:{name}"));
    let offered: BTreeSet<_> =
        of_sfu.cloned().chain(methods).chain(HOOKS.iter().map(|spec| spec.name.to_owned())).collect();
    assert!(offered.len() > 45, "{offered:?}");
    offered
}

#[test]
fn the_reference_has_a_section_for_each_function_and_none_too_many() {
    let text = read("docs/policy.md");
    let is_api = |name: &str| name.starts_with("sfu.") || name.starts_with("client:") || name.starts_with("on_");
    let headings = text.lines().filter_map(|line| line.strip_prefix("## "));
    let sections: BTreeSet<_> = headings.flat_map(|line| line.split(", ")).filter(|name| is_api(name)).collect();
    let offered = offered();
    let offered: BTreeSet<_> = offered.iter().map(String::as_str).collect();
    assert_eq!(sections, offered);
    for section in text.split("\n## ").skip(1) {
        let name = section.lines().next().unwrap_or_default();
        if is_api(name) {
            assert!(section.contains("- **syntax:**"), "{name} has no syntax");
        }
    }
}

#[test]
fn hooks_are_documented_as_the_engine_calls_them() {
    let (reference, editor) = (read("docs/policy.md"), read("docs/moonring.lua"));
    for spec in &HOOKS {
        let signature = format!("function {}({})", spec.name, spec.parameters.join(", "));
        let section = reference.split("\n## ").find(|section| section.starts_with(&format!("{}\n", spec.name)));
        let section = section.unwrap_or_else(|| panic!("{} has no section", spec.name));
        assert!(section.contains(&format!("- **syntax:** `{signature}`")), "{signature}");
        assert!(
            section.contains(&format!("- **waits:** {}", if spec.may_wait { "yes" } else { "no" })),
            "{}",
            spec.name
        );
        assert_eq!(section.contains("- **returns:** `allowed"), spec.decides, "{}", spec.name);
        assert!(editor.contains(&format!("\n{signature} end\n")), "{signature} in docs/moonring.lua");
    }
}

#[test]
fn the_editors_file_declares_each_function_and_none_too_many() {
    let text = read("docs/moonring.lua");
    Script::compile("docs/moonring.lua", text.as_bytes()).unwrap();
    let mut declared = BTreeSet::new();
    let mut class = "";
    for line in text.lines() {
        if let Some(name) = line.strip_prefix("---@class ") {
            class = name;
        } else if let Some(field) = line.strip_prefix("---@field ").filter(|_| class.starts_with("sfu")) {
            declared.insert(format!("{class}.{}", field.split(' ').next().unwrap_or_default()));
        } else if let Some(function) = line.strip_prefix("function ") {
            let name = function.split('(').next().unwrap_or_default();
            if !name.starts_with("test.") && !name.starts_with("Test") {
                declared.insert(name.replace("Client:", "client:"));
            }
        }
    }
    assert_eq!(declared, offered());
}

#[test]
fn every_option_that_a_test_may_give_is_in_the_reference() {
    let text = read("docs/policy.md");
    let section = text.split("\n# ").find(|section| section.starts_with("Testing a policy\n")).unwrap();
    for (of, options) in OPTIONS {
        for option in *options {
            assert!(section.contains(&format!(" {option} =")), "{of}: {option}");
        }
    }
}

/// The editor would call a field that the harness has undefined, and offer none that it does not know.
#[test]
fn the_editors_file_declares_what_the_reference_tells_of_tests() {
    let (reference, editor) = (read("docs/policy.md"), read("docs/moonring.lua"));
    let section = reference.split("\n# ").find(|section| section.starts_with("Testing a policy\n")).unwrap();
    let class = |name: &str| {
        let (_, rest) = editor.split_once(&format!("---@class {name}\n")).unwrap();
        rest.split("\nlocal ").next().unwrap_or_default().to_owned()
    };
    let (of_room, of_client) = (class("TestRoom"), class("TestClient"));
    let mut told = BTreeSet::new();
    for row in section.lines().filter_map(|line| line.strip_prefix("| `")) {
        let cell = row.split(" | ").next().unwrap_or_default();
        let words = cell.split(|c: char| !c.is_ascii_alphanumeric() && !"_.:".contains(c));
        told.extend(words.filter(|word| ["room", "client", "test"].iter().any(|of| word.starts_with(of))));
    }
    assert!(told.len() > 35, "{told:?}");
    for name in told {
        let is_there = match name.split_once(['.', ':']) {
            Some(("test", function)) => {
                editor.contains(&format!("function test.{function}("))
                    || editor.contains(&format!("---@field {function} "))
            }
            Some(("room", method)) if name.contains(':') => editor.contains(&format!("function TestRoom:{method}(")),
            Some(("client", method)) if name.contains(':') => {
                editor.contains(&format!("function TestClient:{method}("))
            }
            Some(("room", field)) => of_room.contains(&format!("---@field {field} ")),
            Some(("client", field)) => of_client.contains(&format!("---@field {field} ")),
            _ => true,
        };
        assert!(is_there, "{name} is not in docs/moonring.lua");
    }
}

#[test]
fn every_example_in_the_reference_is_without_a_mistake() {
    let names = Names::of_sandbox(Instant::now()).unwrap();
    let text = read("docs/policy.md");
    let mut examples = 0;
    for (at, example) in text.match_indices("```lua\n").map(|(at, mark)| (at, &text[at + mark.len()..])) {
        let line = text[..at].lines().count() + 1;
        let code = example.split("```").next().unwrap_or_default();
        examples += 1;
        let module = |_: &str| Ok(b"return {}".to_vec());
        let report = check_with("docs/policy.md", code.as_bytes(), &names, Role::Script, &module);
        // An example is a part of a script; a test file is no script.
        let part = |message: &str| message.starts_with("no on_") || message.starts_with("this is a test");
        let found = report.findings.iter().find(|finding| !part(&finding.message));
        assert!(found.is_none(), "example from line {line}: {found:?}");
    }
    assert!(examples >= 20, "{examples}");
}

#[test]
fn the_scripts_of_the_tree_are_without_a_mistake() {
    let names = Names::of_sandbox(Instant::now()).unwrap();
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..");
    let folders = [
        "scripts",
        "scripts/examples",
        "loadtest/scripts",
        "loadtest/scripts/policies",
        "tests/e2e/scripts",
        "tests/attack/scripts",
    ];
    let paths = folders.iter().flat_map(|folder| fs::read_dir(root.join(folder)).unwrap());
    let paths = paths.map(|entry| entry.unwrap().path().display().to_string());
    let scripts: Vec<_> = paths.filter(|path| path.ends_with(".lua") && !path.ends_with("_test.lua")).collect();
    assert!(scripts.len() >= 14, "{scripts:?}");
    for script in scripts {
        let report = check(&script, &fs::read(&script).unwrap(), &names);
        assert_eq!(report.findings, [], "{script}");
    }
}
