//! Who may import whom, and where a clock, a socket, randomness, `unsafe` or shared memory may stand.

use std::collections::BTreeSet;

use crate::imports::{Import, Imports};
use crate::modules::{Crate, crates};
use crate::{code, files};

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
    "wire/src/transport/dtls",   // dimpl takes its configuration as an Arc, once per connection
    "wire/src/shared.rs",        // a broadcast leaves its shard, for many connections, as one copy
    "core/src/shard/reloads.rs", // a script is compiled once for all shards
];

/// A module, and the modules beside it that it may import.
type Row = (&'static str, &'static [&'static str]);

/// For each module of a crate below `src/`: what it may import of its own crate. What it may import of other crates,
/// its manifest says. Every module has a row.
#[rustfmt::skip]
const MODULES: &[(&str, &[Row])] = &[
    ("src/core", &[
        ("bandwidth", &[]),
        ("command", &["report"]),
        ("report", &["room"]),
        ("room", &["bandwidth"]),
        ("shard", &["command", "report", "room"]),
    ]),
    ("src/policy", &[
        ("admission", &["hook", "settings"]),
        ("api", &["budget", "client", "effects", "hook", "hook_table", "host", "output", "plain", "script", "settings", "tape"]),
        ("bucket", &[]),
        ("budget", &[]),
        ("calls", &["admission", "api", "budget", "client", "hook", "hook_table", "plain", "settings", "state"]),
        ("canary", &["stats"]),
        ("carried", &["settings"]),
        ("client", &["settings"]),
        ("deferred_free", &["budget", "settings", "state"]),
        ("effects", &["admission", "hook", "settings"]),
        ("engine", &["budget", "calls", "canary", "carried", "client", "deferred_free", "engine_context", "failure", "hook",
            "host", "library", "output", "reload", "room", "script", "settings", "state", "stats", "tape", "timer_queue"]),
        ("engine_context", &["canary", "effects", "host", "output", "settings", "state", "stats", "timer_queue",
            "turns"]),
        ("failure", &["plain", "script"]),
        ("faults", &["client", "failure", "hook_table", "person", "settings"]),
        ("hook", &["client", "hook_table"]),
        ("hook_table", &[]),
        ("host", &["client", "effects", "hook", "output", "reads", "script", "settings"]),
        ("library", &["canary", "script"]),
        ("mailbox", &["admission", "client", "person", "waits", "work"]),
        ("output", &["carried", "failure", "hook"]),
        ("pattern", &["script"]),
        ("person", &["client"]),
        ("plain", &[]),
        ("reads", &["client"]),
        ("reload", &["engine_context", "failure", "hook_table", "host", "output", "plain", "script", "settings",
            "state", "timer_queue"]),
        ("room", &["admission", "api", "bucket", "budget", "calls", "canary", "carried", "client", "effects", "engine_context",
            "failure", "faults", "hook", "host", "mailbox", "output", "plain", "reload", "script", "settings",
            "state", "stats", "tape", "timer_queue", "timers", "turns", "waits", "work"]),
        ("script", &["settings", "tokens"]),
        ("settings", &[]),
        ("state", &["api", "budget", "failure", "hook_table", "host", "pattern", "script", "settings"]),
        ("stats", &["failure"]),
        ("tape", &["client", "hook", "host", "output", "reads", "script", "settings", "tokens"]),
        ("timer_queue", &[]),
        ("timers", &["effects", "engine_context", "output", "timer_queue", "waits"]),
        ("tokens", &[]),
        ("tools", &["api", "budget", "carried", "client", "engine", "engine_context", "failure", "hook", "hook_table", "host",
            "output", "plain", "reload", "script", "settings", "state", "tape", "tokens"]),
        ("turns", &["bucket", "output", "settings"]),
        ("waits", &["client", "effects", "engine_context", "host", "output", "person", "settings", "timer_queue", "work"]),
        ("work", &["client", "effects", "hook", "hook_table", "output"]),
    ]),
    ("src/server", &[
        ("addresses", &[]),
        ("advice", &[]),
        ("cli", &["config", "log_lines", "log_queue", "sandbox", "server", "signal", "tools"]),
        ("cluster", &["addresses", "advice", "config", "script_set"]),
        ("config", &["advice", "io_mode"]),
        ("data_dir", &[]),
        ("dtls_certificate", &["data_dir"]),
        ("ending", &["log_queue"]),
        ("event_loop", &["ending", "event_queue", "probe", "tcp", "udp"]),
        ("event_queue", &[]),
        ("io_mode", &[]),
        ("log_lines", &[]),
        ("log_queue", &[]),
        ("probe", &["tcp"]),
        ("recordings", &["config"]),
        ("script_files", &[]),
        ("script_set", &[]),
        ("sandbox", &["config", "script_files"]),
        ("scripts", &["script_files", "script_set"]),
        ("server", &["addresses", "cluster", "config", "data_dir", "dtls_certificate", "ending", "event_loop", "event_queue", "probe", "recordings", "scripts", "shard_handle",
            "signal", "take_over", "udp", "watch", "watchdog"]),
        ("shard_handle", &[]),
        ("signal", &["advice", "cluster", "config", "data_dir", "event_loop", "event_queue", "log_queue", "script_set", "shard_handle", "take_over",
            "watch"]),
        ("take_over", &["config", "event_loop"]),
        ("tcp", &["udp"]),
        ("tools", &["script_files"]),
        ("udp", &["io_mode"]),
        ("watch", &["script_files", "script_set", "scripts", "shard_handle"]),
        ("watchdog", &["ending", "event_loop"]),
    ]),
    ("src/wire", &[
        ("causes", &[]),
        ("drops", &[]),
        ("id", &[]),
        ("link", &["drops", "id", "packet", "rtp"]),
        ("media", &["id"]),
        ("message", &["id", "media", "rights", "shared"]),
        ("negotiate", &["id", "media"]),
        ("network", &[]),
        ("packet", &[]),
        ("rights", &["media"]),
        ("rtp", &["drops", "id", "media"]),
        ("sdp", &["id", "media", "negotiate"]),
        ("shared", &[]),
        ("transport", &["drops", "negotiate", "packet"]),
    ]),
];

/// The crates whose compiler refuses `unsafe` altogether.
const WITHOUT_UNSAFE: &[&str] = &["src/wire/src/lib.rs", "src/core/src/lib.rs", "loadtest/src/lib.rs"];

/// A source file, without what its rules do not look at.
struct Source {
    /// Below `src/`.
    path: String,
    /// Without comments, the contents of strings, and tests.
    code: String,
}

#[test]
fn words_stand_only_where_they_may() {
    let paths = files::with_extension("src", "rs").into_iter().filter(|path| !is_test(path));
    let sources =
        paths.map(|path| Source { code: code::of(&files::read(&path)), path: path["src/".len()..].to_owned() });
    let found: Vec<String> = sources.flat_map(|source| misplaced(&source)).collect();
    assert!(found.is_empty(), "\n{}\n", found.join("\n"));
}

#[test]
fn modules_import_only_what_their_row_says_and_each_has_one() {
    let crates = crates();
    let mut found = Vec::new();
    for krate in crates.iter().filter(|krate| krate.root().starts_with("src/") && krate.root().ends_with("/src/lib.rs"))
    {
        match MODULES.iter().find(|(package, _)| *package == krate.package) {
            Some((_, rows)) => found.extend(strangers(krate, rows)),
            None => found.push(format!("{} has no rows in {}", krate.package, file!())),
        }
    }
    assert!(found.is_empty(), "\n{}\n", found.join("\n"));
}

#[test]
fn unsafe_is_forbidden_where_there_is_none() {
    for root in WITHOUT_UNSAFE {
        assert!(files::read(root).contains("#![forbid(unsafe_code)]"), "{root} does not forbid unsafe code");
    }
}

/// Imports that no row allows, modules without a row, and rows without a module.
fn strangers(krate: &Crate, rows: &[(&str, &[&str])]) -> Vec<String> {
    let shipped = krate.modules.iter().filter(|module| !module.for_tests);
    let tops: BTreeSet<&str> = shipped.filter_map(|module| module.path.first()).map(String::as_str).collect();
    let named = rows.iter().flat_map(|(name, allowed)| allowed.iter().chain([name]));
    let lost =
        named.filter(|name| !tops.contains(**name)).map(|name| format!("{}: there is no module {name}", krate.package));
    let mut found: Vec<String> = lost.collect();
    let without = tops.iter().filter(|name| !rows.iter().any(|(row, _)| row == *name));
    found.extend(without.map(|name| format!("{}: the module {name} has no row in {}", krate.package, file!())));
    let imports = Imports::of(krate);
    found.extend(imports.all.iter().filter_map(|import| stranger(import, rows)));
    if !found.is_empty() {
        found.push(format!("The imports of {} as they are:\n{}", krate.package, as_rows(&tops, &imports)));
    }
    found
}

/// The imports in the form of the table, for copying what is right.
fn as_rows(tops: &BTreeSet<&str>, imports: &Imports) -> String {
    let row = |top: &&str| {
        let own = imports.all.iter().filter(|import| import.from.first().is_some_and(|from| from == top));
        let imported: BTreeSet<_> = own.filter_map(|import| import.to.first()).filter(|to| to != top).collect();
        format!("        (\"{top}\", &{:?}),", imported.into_iter().collect::<Vec<_>>())
    };
    tops.iter().map(row).collect::<Vec<_>>().join("\n")
}

/// The broken rule, if an import breaks one.
fn stranger(import: &Import, rows: &[(&str, &[&str])]) -> Option<String> {
    let (from, to) = (import.from.first()?, import.to.first()?);
    let (_, allowed) = rows.iter().find(|(name, _)| name == from)?;
    let is_allowed = from == to || allowed.contains(&to.as_str());
    (!is_allowed).then(|| format!("{}: `{to}` may not be imported in `{from}`", import.file))
}

/// Words that stand where they may not.
fn misplaced(source: &Source) -> Vec<String> {
    let starts = |prefixes: &[&str]| prefixes.iter().any(|prefix| source.path.starts_with(prefix));
    let rules = ONLY.iter().filter(|rule| (rule.within.is_empty() || starts(rule.within)) && !starts(rule.allowed));
    let words = rules.flat_map(|rule| rule.words.iter().map(move |word| (word, rule.why)));
    let found = words.filter(|(word, _)| has_word(&source.code, word));
    found.map(|(word, why)| format!("src/{}: `{word}`: {why}", source.path)).collect()
}

/// Whether `word` stands in `code`.
fn has_word(code: &str, word: &str) -> bool {
    // `#[unsafe(no_mangle)]` is an attribute's name, not unsafe code.
    code::places(code, word).any(|at| !(word == "unsafe" && code[at..].starts_with("unsafe(no_mangle)")))
}

/// Files of tests and of figures, which are compiled for tests only.
fn is_test(path: &str) -> bool {
    path.ends_with("tests.rs") || path.contains("tests/") || path.contains("examples/") || path.ends_with("measure.rs")
}

#[test]
fn a_misplaced_word_is_found() {
    for (path, code, found) in [
        ("core/src/room/mod.rs", "let now = Instant::now();", "Instant::now"),
        ("core/src/room/mod.rs", "use std::{sync::Arc};", "Arc"),
        ("core/src/room/mod.rs", "struct Archive(Instant);", ""),
        ("core/src/room/mod.rs", "// Arc, unsafe, todo!\nlet text = \"Arc \\\" Mutex\";", ""),
        ("core/src/room/mod.rs", "let c = '\"'; let x = r#\"unsafe \" \"#; fn f<'a>(x: &'a str) { todo!() }", "todo!"),
        ("server/src/event_loop.rs", "let now = Instant::now();", ""),
        ("server/src/udp/ring.rs", "unsafe { enter() }", ""),
        ("server/src/watch.rs", "unsafe { enter() }", "unsafe"),
        ("core/src/room/mod.rs", "fn f() {}\n#[cfg(test)]\nmod tests {\n let now = Instant::now();\n}", ""),
        ("core/src/room/mod.rs", "#[cfg(test)]\nmod tests;\nfn f() { Instant::now(); }", "Instant::now"),
    ] {
        let seen = misplaced(&Source { path: path.into(), code: code::of(code) });
        let words: Vec<_> = seen.iter().map(|line| line.split('`').nth(1).unwrap_or("")).collect();
        let expected: Vec<_> = [found].into_iter().filter(|word| !word.is_empty()).collect();
        assert_eq!(words, expected, "{path}: {code}");
    }
}

#[test]
fn an_import_that_no_row_allows_is_found() {
    let rows: &[(&str, &[&str])] = &[("a", &[]), ("b", &["a"])];
    let import = |from: &str, to: &str| Import { file: "x.rs".into(), from: vec![from.into()], to: vec![to.into()] };
    assert_eq!(stranger(&import("b", "a"), rows), None);
    assert_eq!(stranger(&import("a", "b"), rows).unwrap(), "x.rs: `b` may not be imported in `a`");
}
