//! Every dependency says what it is for, and is used.

use crate::modules::{Crate, crates};
use crate::{code, files};

/// Dependencies that no source names: the package, the dependency, why it is there all the same.
const UNNAMED: &[(&str, &str, &str)] = &[("src/core", "proptest", "sequences of events: likewise")];

#[test]
fn every_dependency_says_what_it_is_for() {
    let mut found = Vec::new();
    for manifest in files::with_extension("", "toml").into_iter().filter(|path| path.ends_with("Cargo.toml")) {
        let text = files::read(&manifest);
        found.extend(unexplained(&text).into_iter().map(|line| format!("{manifest}: {line}")));
    }
    assert!(found.is_empty(), "a dependency without a reason:\n{}\n", found.join("\n"));
}

#[test]
fn every_dependency_is_used() {
    let crates = crates();
    let mut packages: Vec<&str> = crates.iter().map(|krate| krate.package.as_str()).collect();
    packages.dedup();
    let mut found = Vec::new();
    for package in packages {
        let manifest = files::read(&format!("{package}/Cargo.toml"));
        let own = || crates.iter().filter(|krate| krate.package == package);
        let shipped = text(own().filter(|krate| !is_test(krate)), code::of);
        let all = text(own(), code::bare);
        for (section, dependency) in dependencies(&manifest) {
            let text = if section == "dev-dependencies" { &all } else { &shipped };
            let is_known = UNNAMED.iter().any(|(of, name, _)| *of == package && *name == dependency);
            if names(text, dependency) == is_known {
                found.push(match is_known {
                    true => format!("{package}: {dependency} is named now: take it off the list"),
                    false => format!("{package}/Cargo.toml: no source names {dependency} of its [{section}]"),
                });
            }
        }
    }
    let workspace = files::read("Cargo.toml");
    let unused = dependencies(&workspace).into_iter().map(|(_, name)| name.to_owned());
    let manifests: Vec<_> = crates.iter().map(|krate| files::read(&format!("{}/Cargo.toml", krate.package))).collect();
    let is_inherited =
        |name: &String| manifests.iter().any(|text| dependencies(text).iter().any(|(_, own)| own == name));
    found.extend(unused.filter(|name| !is_inherited(name)).map(|name| format!("Cargo.toml: no member has {name}")));
    assert!(found.is_empty(), "\n{}\n", found.join("\n"));
}

#[test]
fn the_fuzzers_lock_file_knows_what_the_crates_depend_on() {
    let lock = files::read("fuzz/Cargo.lock");
    let mut packages: Vec<String> = crates().into_iter().map(|krate| krate.package).collect();
    packages.dedup();
    let mut found = Vec::new();
    for package in packages {
        let manifest = files::read(&format!("{package}/Cargo.toml"));
        let Some(locked) = name_of(&manifest).and_then(|name| locked(&lock, name)) else { continue };
        found.extend(unlocked(&manifest, &locked).into_iter().map(|name| format!("{package}: {name}")));
    }
    assert!(found.is_empty(), "run `cargo update --workspace` in fuzz, for\n{}\n", found.join("\n"));
}

fn name_of(manifest: &str) -> Option<&str> {
    manifest.lines().find_map(|line| line.strip_prefix("name = \"")?.strip_suffix('"'))
}

/// The names of what a package depends on, as a lock file says.
fn locked<'a>(lock: &'a str, package: &str) -> Option<Vec<&'a str>> {
    let entry = lock.split("[[package]]\n").find(|entry| name_of(entry) == Some(package))?;
    let lines = entry.lines().filter_map(|line| line.strip_prefix(" \""));
    Some(lines.filter_map(|line| line.split(['"', ' ']).next()).collect())
}

/// What a manifest always needs beyond what is locked.
fn unlocked<'a>(manifest: &'a str, locked: &[&str]) -> Vec<&'a str> {
    let is_optional =
        |name: &str| manifest.lines().any(|line| line.starts_with(name) && line.contains("optional = true"));
    let needed = dependencies(manifest).into_iter().filter(|(section, _)| *section == "dependencies");
    needed.map(|(_, name)| name).filter(|name| !locked.contains(name) && !is_optional(name)).collect()
}

/// The code of some crates, read by `read`.
fn text<'a>(crates: impl Iterator<Item = &'a Crate>, read: fn(&str) -> String) -> String {
    crates.flat_map(|krate| &krate.modules).map(|module| read(&files::read(&module.file)) + "\n").collect()
}

/// Whether a target is a test or an example: it lies in such a folder of its package, or beside the packages.
fn is_test(krate: &Crate) -> bool {
    let inside = krate.root().strip_prefix(&krate.package).and_then(|path| path.strip_prefix('/'));
    inside.is_none_or(|path| path.starts_with("tests/") || path.starts_with("examples/"))
}

/// Whether `code` names the crate of a dependency: in a path, or in a `use`.
fn names(code: &str, dependency: &str) -> bool {
    let name = dependency.replace('-', "_");
    code::places(code, &name).any(|at| {
        let (before, after) = (code[..at].trim_end(), &code[at + name.len()..]);
        (after.starts_with("::") && !before.ends_with("::")) || before.ends_with(" use") || before.ends_with("\nuse")
    })
}

/// The dependencies of a manifest, each with its section's last name.
fn dependencies(manifest: &str) -> Vec<(&str, &str)> {
    let (mut section, mut found) = ("", Vec::new());
    for line in manifest.lines().map(str::trim) {
        if line.starts_with('[') {
            section = line.trim_matches(['[', ']']).rsplit('.').next().unwrap_or_default();
        } else if section.ends_with("dependencies") && !line.starts_with('#') && line.contains('=') {
            found.push((section, line.split(['.', '=', ' ']).next().unwrap_or_default()));
        }
    }
    found
}

/// Dependency lines of a manifest without a comment behind them.
fn unexplained(manifest: &str) -> Vec<&str> {
    let mut inside = false;
    let mut found = Vec::new();
    for line in manifest.lines().map(str::trim) {
        if line.starts_with('[') {
            inside = line.trim_matches(['[', ']']).ends_with("dependencies");
        } else if inside
            && line.contains('=')
            && !line.starts_with('#')
            && !is_inherited(line)
            && !bare_toml(line).contains('#')
        {
            found.push(line);
        }
    }
    found
}

/// Whether the dependency's version, and with it the reason, is the workspace's.
fn is_inherited(line: &str) -> bool {
    line.contains(".workspace = true") || line.contains("workspace = true,")
}

/// A line of TOML without the contents of its strings.
fn bare_toml(line: &str) -> String {
    line.split('"').step_by(2).collect()
}

#[test]
fn a_dependency_without_a_comment_is_found() {
    let manifest = "[package]\nname = \"x\"\n[dependencies]\nw.workspace = true\na = \"1\" # why\nb = \"1\"\nc = { path = \"#\" }\n[dev-dependencies.d]\n[lints]\ne = 1\n";
    assert_eq!(unexplained(manifest), ["b = \"1\"", "c = { path = \"#\" }"]);
}

#[test]
fn a_dependency_that_no_source_names_is_found() {
    let manifest = "[package]\nname = \"x\"\n[dependencies]\na-b.workspace = true\nbytes = \"1\" # why\n[dev-dependencies]\nc = { path = \"c\" }\n[lints]\nd = 1\n";
    let found = dependencies(manifest);
    assert_eq!(found, [("dependencies", "a-b"), ("dependencies", "bytes"), ("dev-dependencies", "c")]);
    for (code, dependency, expected) in [
        ("fn f() { a_b::g(); }", "a-b", true),
        ("\nuse a_b as c;", "a-b", true),
        ("fn f(bytes: &[u8]) { crate::bytes::g(bytes) }", "bytes", false),
        ("use bytes::Bytes;", "bytes", true),
    ] {
        assert_eq!(names(code, dependency), expected, "{code}");
    }
}

#[test]
fn a_dependency_that_is_not_locked_is_found() {
    let manifest = "[package]\nname = \"x\"\n[dependencies]\na-b.workspace = true\nbytes = \"1\"\nc = { version = \"1\", optional = true }\n[dev-dependencies]\nd = \"1\"\n";
    let lock = "version = 4\n\n[[package]]\nname = \"w\"\n\n[[package]]\nname = \"x\"\nversion = \"0.1.0\"\ndependencies = [\n \"bytes 1.2.0\",\n \"e\",\n]\n";
    let locked = locked(lock, "x").expect("it is there");
    assert_eq!((&locked[..], unlocked(manifest, &locked)), (&["bytes", "e"][..], vec!["a-b"]));
}
