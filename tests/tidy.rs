//! Holds the invariants of DESIGN.md by reading the sources: who may import whom, where a clock, a socket, `unsafe`,
//! a lock may stand, how long a file may be, and that every dependency says what it is for.
//!
//! A rule that is in the way is changed here, in the same commit, with the reason in the commit's message.

use std::fs;
use std::path::{Path, PathBuf};

/// Most lines of a file, unless [`LONG_FILES`] lists it.
const MAX_LINES: usize = 400;
/// Files that were longer when the rule came. A number here may only get smaller; a file that fits leaves the list.
#[rustfmt::skip]
const LONG_FILES: &[(&str, usize)] = &[
    ("loadtest/src/engine/mod.rs", 406), ("loadtest/src/peer/mod.rs", 468), ("loadtest/src/peer/tests.rs", 423),
    ("src/policy/src/room.rs", 478),
];
/// How far below its number a listed file may be before the number has to follow.
const SLACK: usize = 20;

/// The crate that touches the outside world: the runtime, the clock, sockets, the environment. That the others know
/// neither tokio nor glommio nor (but for `policy`) mlua is kept by their manifests.
const EDGE: &[&str] = &["server/"];

/// Words that may stand in some files only.
struct Only {
    words: &'static [&'static str],
    /// Where they are looked for, as prefixes of paths below `src/`; empty: everywhere.
    within: &'static [&'static str],
    /// Where they may stand, as prefixes of paths below `src/`.
    allowed: &'static [&'static str],
    why: &'static str,
}

const ONLY: &[Only] = &[
    Only {
        words: &["Instant::now", "SystemTime::now"],
        within: &[],
        allowed: EDGE,
        why: "time comes in as an argument",
    },
    Only {
        words: &["UdpSocket", "TcpStream", "TcpListener", "std::env", "env::var"],
        within: &[],
        allowed: EDGE,
        why: "sockets and the environment stay at the edge",
    },
    Only {
        words: &["OsRng", "SystemRandom", "thread_rng", "rand::rng", "from_os_rng", "getrandom"],
        within: &[],
        allowed: EDGE,
        why: "randomness comes in as a seeded generator",
    },
    Only {
        words: &["unsafe"],
        within: &[],
        allowed: &["server/src/udp", "policy/src/budget.rs"],
        why: "unsafe stands in as few files as possible",
    },
    Only {
        words: &["Arc", "Mutex", "RwLock", "Condvar", "atomic", "OnceLock", "LazyLock", "thread_local"],
        within: &["wire/", "core/"],
        allowed: SHARED_STATE,
        why: "a shard owns its rooms: the data plane shares nothing",
    },
    Only { words: &["todo!", "unimplemented!", "dbg!"], within: &[], allowed: &[], why: "nothing is left half done" },
];

/// Files of the data plane that may name a shared pointer, each with its reason.
const SHARED_STATE: &[&str] = &[
    "wire/src/transport/dtls", // dimpl takes its configuration as an Arc, once per connection
];

/// A module, and what it may not import: everything above it in its crate. What is in another crate, Cargo keeps.
const LAYERS: &[(&str, &[&str])] = &[
    ("wire/src/id.rs", &["drops", "media", "message", "negotiate", "packet", "rtp", "sdp", "transport"]),
    ("wire/src/drops.rs", &["id", "media", "message", "negotiate", "packet", "rtp", "sdp", "transport"]),
    ("wire/src/media.rs", &["drops", "message", "negotiate", "packet", "rtp", "sdp", "transport"]),
    ("wire/src/negotiate.rs", &["drops", "message", "packet", "rtp", "sdp", "transport"]),
    ("wire/src/packet.rs", &["message", "negotiate", "rtp", "sdp", "transport"]),
    ("wire/src/message.rs", &["negotiate", "packet", "rtp", "sdp", "transport"]),
    ("wire/src/rtp", &["message", "negotiate", "packet", "sdp", "transport"]),
    ("wire/src/sdp", &["message", "packet", "rtp", "transport"]),
    ("wire/src/transport", &["message", "sdp"]),
    ("core/src/report.rs", &["command", "room", "shard"]),
    ("core/src/command.rs", &["room", "shard"]),
    ("core/src/room", &["command", "report", "shard"]),
    (
        "server/src/udp",
        &["cli", "config", "event_loop", "scripts", "server", "shard_handle", "signal", "tools", "watch"],
    ),
    ("server/src/event_loop", &["cli", "config", "scripts", "server", "shard_handle", "signal", "tools", "watch"]),
    (
        "server/src/scripts",
        &["cli", "config", "event_loop", "server", "shard_handle", "signal", "tools", "udp", "watch"],
    ),
    ("server/src/watch", &["cli", "config", "event_loop", "server", "signal", "tools", "udp"]),
    (
        "server/src/config",
        &["cli", "event_loop", "scripts", "server", "shard_handle", "signal", "tools", "udp", "watch"],
    ),
    ("server/src/tools", &["cli", "config", "event_loop", "server", "shard_handle", "signal", "udp", "watch"]),
    ("server/src/signal", &["cli", "event_loop", "scripts", "server", "tools", "udp"]),
    ("server/src/server.rs", &["cli", "tools"]),
];

/// A source file, without what its rules do not look at.
struct Source {
    /// Below `src/`.
    path: String,
    /// Without comments, the contents of strings, and tests.
    code: String,
}

#[test]
fn sources_keep_the_rules() {
    let root = root().join("src");
    let sources = files(&root, "rs").into_iter().filter_map(|path| {
        let name = relative(&path, &root);
        let text = fs::read_to_string(&path).unwrap();
        (!is_test(&name)).then(|| Source { path: name, code: without_tests(&bare(&text)) })
    });
    let found: Vec<String> = sources.flat_map(|source| violations(&source)).collect();
    assert!(found.is_empty(), "\n{}\n", found.join("\n"));
}

#[test]
fn files_are_short_and_the_long_ones_only_shrink() {
    let root = root();
    let mut found = Vec::new();
    let mut seen = Vec::new();
    let folders = ["src rs", "loadtest rs", "tests rs", "benches rs", "fuzz rs", "web js", "tests mjs"]
        .map(|f| f.split_once(' '));
    for path in folders.iter().flatten().flat_map(|(folder, ending)| files(&root.join(folder), ending)) {
        let name = relative(&path, &root);
        let lines = fs::read_to_string(&path).unwrap().lines().count();
        let listed = LONG_FILES.iter().find(|(file, _)| *file == name).map(|(_, max)| *max);
        seen.push(name.clone());
        match listed {
            Some(max) if lines > max => found.push(format!("{name} has {lines} lines, it may only shrink from {max}")),
            Some(_) if lines <= MAX_LINES => {
                found.push(format!("{name} fits now ({lines} lines): take it off the list"))
            }
            Some(max) if lines + SLACK < max => found.push(format!("{name} has {lines} lines now: lower its {max}")),
            None if lines > MAX_LINES => {
                found.push(format!("{name} has {lines} lines, at most {MAX_LINES} are allowed"))
            }
            _ => {}
        }
    }
    let stale = LONG_FILES.iter().filter(|(file, _)| !seen.iter().any(|name| name == file));
    found.extend(stale.map(|(file, _)| format!("{file} is listed as long, and is not there")));
    assert!(found.is_empty(), "\n{}\n", found.join("\n"));
}

/// Every manifest; in those of the workspace's members a dependency that is inherited has its reason in the first one.
const MANIFESTS: [&str; 10] = [
    "Cargo.toml",
    "src/wire/Cargo.toml",
    "src/policy/Cargo.toml",
    "src/core/Cargo.toml",
    "src/server/Cargo.toml",
    "loadtest/Cargo.toml",
    "benches/Cargo.toml",
    "tests/interop/Cargo.toml",
    "tests/clients/clients/str0m/Cargo.toml",
    "fuzz/Cargo.toml",
];

#[test]
fn every_dependency_says_what_it_is_for() {
    let root = root();
    let mut found = Vec::new();
    for manifest in MANIFESTS {
        let Ok(text) = fs::read_to_string(root.join(manifest)) else { continue };
        found.extend(unexplained(&text).into_iter().map(|line| format!("{manifest}: {line}")));
    }
    assert!(found.is_empty(), "a dependency without a reason:\n{}\n", found.join("\n"));
}

#[test]
fn the_rules_find_what_they_look_for() {
    for (path, code, found) in [
        ("core/src/room/mod.rs", "let now = Instant::now();", "Instant::now"),
        ("core/src/room/mod.rs", "use std::{sync::Arc};", "Arc"),
        ("core/src/room/mod.rs", "struct Archive(Instant);", ""),
        ("core/src/room/mod.rs", "// Arc, unsafe, todo!\nlet text = \"Arc \\\" Mutex\";", ""),
        ("core/src/room/mod.rs", "let c = '\"'; let x = r#\"unsafe \" \"#; fn f<'a>(x: &'a str) { todo!() }", "todo!"),
        ("server/src/event_loop.rs", "let now = Instant::now();", ""),
        ("server/src/udp/ring.rs", "unsafe { enter() }", ""),
        ("server/src/watch.rs", "unsafe { enter() }", "unsafe"),
        ("wire/src/rtp/mod.rs", "use crate::{id::Ssrc, transport::Transport};", "transport"),
        ("wire/src/rtp/mod.rs", "use crate::{id::{Ssrc, transport}, media};", ""),
        ("wire/src/transport/ice.rs", "fn f(x: crate::sdp::Offer) {}", "sdp"),
        ("core/src/room/mod.rs", "use crate::shard::Shard;", "shard"),
        ("core/src/room/mod.rs", "fn f() {}\n#[cfg(test)]\nmod tests {\n let now = Instant::now();\n}", ""),
        ("core/src/room/mod.rs", "#[cfg(test)]\nmod tests;\nfn f() { Instant::now(); }", "Instant::now"),
    ] {
        let source = Source { path: path.into(), code: without_tests(&bare(code)) };
        let seen = violations(&source);
        let words: Vec<_> = seen.iter().map(|v| v.split('`').nth(1).unwrap_or("")).collect();
        let expected: Vec<_> = [found].into_iter().filter(|word| !word.is_empty()).collect();
        assert_eq!(words, expected, "{path}: {code}");
    }
}

#[test]
fn a_dependency_without_a_comment_is_found() {
    let manifest = "[package]\nname = \"x\"\n[dependencies]\nw.workspace = true\na = \"1\" # why\nb = \"1\"\nc = { path = \"#\" }\n[dev-dependencies.d]\n[lints]\ne = 1\n";
    assert_eq!(unexplained(manifest), ["b = \"1\"", "c = { path = \"#\" }"]);
}

/// The broken rules, as lines for the reader.
fn violations(source: &Source) -> Vec<String> {
    let starts = |prefixes: &[&str]| prefixes.iter().any(|prefix| source.path.starts_with(prefix));
    let mut found = Vec::new();
    for rule in ONLY.iter().filter(|rule| (rule.within.is_empty() || starts(rule.within)) && !starts(rule.allowed)) {
        let words = rule.words.iter().filter(|word| has_word(&source.code, word));
        found.extend(words.map(|word| format!("src/{}: `{word}`: {}", source.path, rule.why)));
    }
    for (_, above) in LAYERS.iter().filter(|(layer, _)| source.path.starts_with(layer)) {
        let imports = crate_imports(&source.code);
        let upwards = above.iter().filter(|module| imports.iter().any(|import| import == *module));
        found.extend(
            upwards.map(|module| format!("src/{}: `{module}` is above it, it may not be imported", source.path)),
        );
    }
    found
}

/// Whether `word` stands in `code` with nothing that continues an identifier around it.
fn has_word(code: &str, word: &str) -> bool {
    let joins = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    code.match_indices(word).any(|(at, _)| {
        let attribute = word == "unsafe" && code[at..].starts_with("unsafe(no_mangle)"); // a name, not unsafe code
        !joins(code[..at].chars().next_back()) && !joins(code[at + word.len()..].chars().next()) && !attribute
    })
}

/// The modules of this crate that `code` names: after `crate::`, also in a group.
fn crate_imports(code: &str) -> Vec<String> {
    let name = |text: &str| text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    let mut names = Vec::new();
    for (at, prefix) in code.match_indices("crate::") {
        let rest = &code[at + prefix.len()..];
        let Some(group) = rest.strip_prefix('{') else {
            names.push(name(rest));
            continue;
        };
        let mut depth = 0;
        let mut start = 0;
        for (end, c) in group.char_indices() {
            match c {
                '{' => depth += 1,
                ',' | '}' if depth == 0 => {
                    names.push(name(group[start..end].trim_start()));
                    start = end + 1;
                }
                '}' => depth -= 1,
                _ => {}
            }
            if c == '}' && depth == 0 && start == end + 1 {
                break;
            }
        }
    }
    names
}

/// `text` without comments and without the contents of strings and characters.
fn bare(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let skip = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else if rest.starts_with("r\"") || rest.starts_with("r#") {
            raw_string(rest)
        } else if c == '"' {
            quoted(rest)
        } else if c == '\'' {
            character(rest)
        } else {
            out.push(c);
            rest = &rest[c.len_utf8()..];
            continue;
        };
        if skip == 0 {
            out.push(c);
            rest = &rest[c.len_utf8()..];
        } else {
            out.push(' ');
            rest = &rest[skip..];
        }
    }
    out
}

/// Length of the string literal that `text` begins with.
fn quoted(text: &str) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// Length of the raw string literal that `text` begins with; 0 for a raw identifier.
fn raw_string(text: &str) -> usize {
    let hashes = text[1..].chars().take_while(|c| *c == '#').count();
    if !text[1 + hashes..].starts_with('"') {
        return 0;
    }
    let end = format!("\"{}", "#".repeat(hashes));
    let start = 2 + hashes;
    text[start..].find(&end).map_or(text.len(), |at| start + at + end.len())
}

/// Length of the character literal that `text` begins with; 0 for a lifetime.
fn character(text: &str) -> usize {
    let mut chars = text.char_indices().skip(1);
    match (chars.next(), chars.next()) {
        (Some((_, '\\')), _) => text[3..].find('\'').map_or(0, |at| 3 + at + 1),
        (Some(_), Some((at, '\''))) => at + 1,
        _ => 0,
    }
}

/// `code` without the block of each `#[cfg(test)]`.
fn without_tests(code: &str) -> String {
    let mut out = String::new();
    let mut rest = code;
    while let Some(at) = rest.find("#[cfg(test)]") {
        out.push_str(&rest[..at]);
        let item = &rest[at..];
        let (open, semicolon) = (item.find('{').unwrap_or(item.len()), item.find(';').unwrap_or(item.len()));
        rest = if semicolon < open { &item[semicolon + 1..] } else { &item[open + block(&item[open..])..] };
    }
    out.push_str(rest);
    out
}

/// Length of the block in braces that `code` begins with.
fn block(code: &str) -> usize {
    let mut depth = 0_usize;
    for (at, c) in code.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth == 0 {
            return (at + 1).min(code.len());
        }
    }
    code.len()
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

fn is_test(path: &str) -> bool {
    path.ends_with("tests.rs") || path.contains("tests/") || path.ends_with("measure.rs") // figures, #[cfg(test)]
}

fn root() -> PathBuf {
    PathBuf::from(std::env::var("CARGO_MANIFEST_DIR").expect("cargo sets it")).join("../..")
}

fn relative(path: &Path, root: &Path) -> String {
    path.strip_prefix(root).unwrap_or(path).to_string_lossy().into_owned()
}

/// All files below `folder` with that ending, sorted; none if there is no such folder.
fn files(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut found = Vec::new();
    for path in entries.map(|entry| entry.unwrap().path()) {
        let name = path.file_name().unwrap_or_default();
        if path.is_dir() && name != "node_modules" && name != "target" {
            found.extend(files(&path, ending));
        } else if path.extension().is_some_and(|e| e == ending) {
            found.push(path);
        }
    }
    found.sort();
    found
}
