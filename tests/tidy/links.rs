//! The documents and comments name things that exist, and no package registry.

use crate::files;

/// Endings of files that a text may name.
const ENDINGS: &[&str] = &[".rs", ".md", ".toml", ".lua", ".js", ".mjs", ".py", ".sh", ".svg", ".json"];
/// Hosts of registries of packages and images: tools know where theirs is, and a mirror may stand in for it.
const REGISTRIES: &[&str] = &["crates.io", "npmjs", "pypi.", "deb.debian.org", "docker.io", "proxy.golang.org"];
/// Files that tools write, with hosts in them, and this one.
const WRITTEN_BY_TOOLS: &[&str] =
    &["Cargo.lock", "fuzz/Cargo.lock", "tests/e2e/package-lock.json", "tests/tidy/links.rs"];

#[test]
fn links_between_documents_lead_somewhere() {
    let mut found = Vec::new();
    for document in files::with_extension("", "md") {
        for link in links(&files::read(&document)) {
            let (path, anchor) = link.split_once('#').unwrap_or((&link, ""));
            let target =
                if path.is_empty() { Some(document.clone()) } else { files::join(files::folder_of(&document), path) };
            let Some(target) = target.filter(|target| files::exists(target)) else {
                found.push(format!("{document}: there is no {path}"));
                continue;
            };
            if !anchor.is_empty()
                && target.ends_with(".md")
                && !anchors(&files::read(&target)).contains(&anchor.to_owned())
            {
                found.push(format!("{document}: {target} has no heading #{anchor}"));
            }
        }
    }
    assert!(found.is_empty(), "\n{}\n", found.join("\n"));
}

#[test]
fn files_that_documents_and_comments_name_exist() {
    let mut found = Vec::new();
    for path in files::below("") {
        let text = files::read(&path);
        let lines: Box<dyn Iterator<Item = &str>> = match path.rsplit('.').next() {
            Some("md") => Box::new(text.lines()),
            Some("rs") => Box::new(text.lines().filter(|line| line.trim_start().starts_with("//"))),
            Some("toml") => Box::new(text.lines().filter(|line| line.trim_start().starts_with('#'))),
            _ => continue,
        };
        found.extend(
            lines.flat_map(named).filter(|name| !is_there(name, &path)).map(|name| format!("{path}: `{name}`")),
        );
    }
    assert!(found.is_empty(), "there is no such file:\n{}\n", found.join("\n"));
}

#[test]
fn no_file_names_the_host_of_a_registry() {
    let own = files::below("").into_iter().filter(|path| !WRITTEN_BY_TOOLS.contains(&path.as_str()));
    let mut found = Vec::new();
    for path in own {
        let text = files::read(&path);
        let hosts = REGISTRIES.iter().filter(|host| text.contains(**host));
        found.extend(hosts.map(|host| format!("{path}: {host}")));
    }
    assert!(found.is_empty(), "\n{}\n", found.join("\n"));
}

/// The targets of a document's links, without those into the network and those in code.
fn links(text: &str) -> Vec<String> {
    let prose = text.split("```").step_by(2);
    let targets = prose.flat_map(|part| part.split("](").skip(1)).filter_map(|rest| rest.split([')', ' ']).next());
    targets.filter(|target| !target.contains("://") && !target.starts_with("mailto:")).map(str::to_owned).collect()
}

/// The anchors of a document's headings, as GitHub makes them.
fn anchors(text: &str) -> Vec<String> {
    let headings = text.lines().filter(|line| line.starts_with('#')).map(|line| line.trim_start_matches('#').trim());
    let kept = |c: char| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_');
    headings
        .map(|line| line.to_lowercase().chars().filter(|c| kept(*c)).collect::<String>().replace(' ', "-"))
        .collect()
}

/// The paths that stand in backticks in a line: they have a folder, and one of [`ENDINGS`].
fn named(line: &str) -> impl Iterator<Item = &str> {
    let is_path = |text: &&str| {
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '.' | '_' | '-');
        text.contains('/')
            && !text.starts_with(['/', '~'])
            && !text.starts_with("artifacts/")
            && text.chars().all(fits)
            && ENDINGS.iter().any(|e| text.ends_with(e))
    };
    line.split('`').skip(1).step_by(2).filter(is_path)
}

/// Whether `name` is a file: from the root, beside or below the file that names it, or in a folder above that.
fn is_there(name: &str, from: &str) -> bool {
    let mut folder = files::folder_of(from);
    loop {
        if files::join(folder, name).is_some_and(|path| files::exists(&path)) {
            return true;
        }
        if folder.is_empty() {
            return false;
        }
        folder = files::folder_of(folder);
    }
}

#[test]
fn dead_links_and_names_are_found() {
    let text = "[a](b.md#c-d) `x/y.rs` [e](https://f.g)\n```\n[code](h)\n```\n## C d!\n";
    assert_eq!(links(text), ["b.md#c-d"]);
    assert_eq!(anchors(text), ["c-d"]);
    assert_eq!(named("see `x/y.rs`, `z.rs`, `a b/c.rs` and `/etc/d.toml`").collect::<Vec<_>>(), ["x/y.rs"]);
    assert!(is_there("tests/tidy/lib.rs", "src/wire/src/lib.rs") && is_there("rtp/mod.rs", "src/wire/src/sdp/mod.rs"));
    assert!(!is_there("rtp/nothing.rs", "src/wire/src/lib.rs"));
}
