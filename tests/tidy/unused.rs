//! No file lies about unused.

use std::collections::BTreeSet;

use crate::files;
use crate::modules::crates;

/// Files that a tool finds by their name.
const FOUND_BY_TOOLS: &[&str] = &[
    ".ci/run",
    ".dockerignore",
    ".editorconfig",
    ".gitattributes",
    ".gitignore",
    ".luacheckrc",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "Cargo.lock",
    "Cargo.toml",
    "Dockerfile",
    "LICENSE-APACHE",
    "LICENSE-MIT",
    "Makefile",
    "README.md",
    "SECURITY.md",
    "clippy.toml",
    "config.toml",
    "deny.toml",
    "package-lock.json",
    "package.json",
    "rust-toolchain.toml",
    "rustfmt.toml",
];

#[test]
fn every_source_file_is_a_module() {
    let modules: BTreeSet<_> = crates().into_iter().flat_map(|krate| krate.modules).map(|module| module.file).collect();
    let found: Vec<_> = files::with_extension("", "rs").into_iter().filter(|path| !modules.contains(path)).collect();
    assert!(found.is_empty(), "no `mod` and no manifest names\n{}\n", found.join("\n"));
}

#[test]
fn every_other_file_is_named_by_one_that_uses_it() {
    let all = files::below("");
    let texts: Vec<_> =
        all.iter().filter(|path| !is_list(path)).map(|path| (path.as_str(), files::read(path))).collect();
    let others = all.iter().filter(|path| !path.ends_with(".rs") && !is_found_by_tools(path));
    let found: Vec<_> =
        others.filter(|path| !is_used(path, &texts)).map(|path| format!("{path}: {}", wanted(path))).collect();
    assert!(found.is_empty(), "\n{}\n", found.join("\n"));
}

/// Files that name all others, and so say nothing of their use.
fn is_list(path: &str) -> bool {
    path.ends_with(".lock") || path.ends_with("package-lock.json") || path == "tests/tidy/unused.rs"
}

fn is_found_by_tools(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    let is_test_of_page = path.starts_with("tests/e2e/") && name.ends_with(".test.mjs");
    FOUND_BY_TOOLS.iter().any(|known| *known == name || *known == path) || is_test_of_page
}

/// What is looked for, in words.
fn wanted(path: &str) -> &'static str {
    match (path.split('/').next(), path.rsplit('.').next()) {
        (Some("web"), _) => "src/server/src/signal/assets.rs does not serve it",
        (_, Some("md")) => "no other document links to it",
        _ if path.ends_with("_test.lua") => "there is no script beside it that it tests",
        (Some("scripts"), _) => "no document links to it",
        _ => "no other file names it",
    }
}

fn is_used(path: &str, texts: &[(&str, String)]) -> bool {
    let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
    let parent = folder.rsplit('/').next().unwrap_or_default();
    if name.ends_with(".go") {
        // Go builds all files of a folder.
        return texts.iter().any(|(other, _)| *other == format!("{folder}/go.mod"));
    }
    if let Some(tested) = path.strip_suffix("_test.lua") {
        return texts.iter().any(|(other, _)| *other == format!("{tested}.lua"));
    }
    texts.iter().filter(|(other, _)| *other != path).any(|(other, text)| match () {
        () if folder == "web" => other.ends_with("/assets.rs") && text.contains(&format!("{path}\"")),
        () if name.ends_with(".md") || folder.starts_with("scripts") => {
            other.ends_with(".md") && links(other, text).any(|link| link == path)
        }
        () => text.contains(name) && (parent.is_empty() || text.contains(parent) || files::folder_of(other) == folder),
    })
}

/// Where the links of a document lead, relative to the repository's root.
fn links<'a>(document: &'a str, text: &'a str) -> impl Iterator<Item = String> + 'a {
    let targets = text.split("](").skip(1).filter_map(|rest| rest.split([')', '#', ' ']).next());
    targets.filter_map(|target| files::join(files::folder_of(document), target))
}

#[test]
fn an_unused_file_is_found() {
    let texts = |texts: &[(&'static str, &str)]| {
        texts.iter().map(|(path, text)| (*path, (*text).to_owned())).collect::<Vec<_>>()
    };
    let texts = texts(&[
        ("README.md", "[policies](docs/policy.md#hooks), [a script](scripts/a.lua), scripts/b.lua"),
        ("src/server/src/signal/assets.rs", "include_bytes!(\"../../../../web/app.js\")"),
        ("scripts/a.lua", ""),
        ("Makefile", "docker/image.sh"),
    ]);
    for (path, expected) in [
        ("docs/policy.md", true),
        ("docs/other.md", false),
        ("scripts/a.lua", true),
        ("scripts/b.lua", false),
        ("scripts/a_test.lua", true),
        ("scripts/c_test.lua", false),
        ("web/app.js", true),
        ("web/old.js", false),
        ("docker/image.sh", true),
        ("docker/old.sh", false),
    ] {
        assert_eq!(is_used(path, &texts), expected, "{path}");
    }
}
