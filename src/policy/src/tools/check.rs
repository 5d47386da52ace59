//! `moonring check`: what can be said of a script without running it.
//!
//! Globals come from the bytecode, the sandbox's names from a sandbox. `selene-lib` or `full_moon` would parse the text
//! once more, for minutes of building: the compiler that is here has done that work.

use std::collections::BTreeSet;
use std::fmt;

use super::bytecode::{Use, uses};
use super::fields::unknown_fields;
use super::file_kind::{FileKind, kind_of};
use super::maps::counted_maps;
use super::methods::misspelt;
use super::mistakes::mistakes;
use super::misuse::{misuses, waits_in_main_chunk};
use super::names::{LEFT_OUT, Names};
use super::nearest::{in_lua, nearest};
use crate::hook_table::{HOOKS, Hook, WhenMissing, is_hook};
use crate::settings::{CHECKPOINT, EMPTY_TIMEOUT};
use crate::tokens::{Kind, tokens};
use crate::{LoadModule, Script, module_file};

/// The globals by which a script says something about itself.
const DECLARED: &[&str] = &["STATE_VERSION", EMPTY_TIMEOUT, CHECKPOINT];

/// What is said of a global function with a hook's kind of name.
const NO_HOOK: &str = "is no hook, so it is never called";

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// The script cannot be used.
    Error,
    /// The script can be used, and probably does not do what is meant.
    Warning,
}

/// Something to look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// 0 when it is about the whole file.
    pub line: u32,
    /// How bad.
    pub level: Level,
    /// What.
    pub message: String,
}

/// What a check has found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// The script's name.
    pub name: String,
    /// The hooks that it defines, with their lines.
    pub hooks: Vec<(String, u32)>,
    /// By line.
    pub findings: Vec<Finding>,
}

impl Report {
    /// The report of a file that cannot be read.
    pub fn unreadable(name: &str, error: &std::io::Error) -> Self {
        let finding = Finding { line: 0, level: Level::Error, message: error.to_string() };
        Self { name: name.to_owned(), findings: vec![finding], ..Self::default() }
    }

    /// How many findings of a level there are.
    pub fn count(&self, level: Level) -> usize {
        self.findings.iter().filter(|finding| finding.level == level).count()
    }

    fn warn(&mut self, line: u32, message: String) {
        self.findings.push(Finding { line, level: Level::Warning, message });
    }
}

/// `file:line: level: message`, a line each, and the hooks.
impl fmt::Display for Report {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Finding { line, level, message } in &self.findings {
            let level = if *level == Level::Error { "error" } else { "warning" };
            writeln!(out, "{}:{}: {level}: {message}", self.name, (*line).max(1))?;
        }
        if self.count(Level::Error) == 0 {
            let hooks: Vec<_> = self.hooks.iter().map(|(name, line)| format!("{name}:{line}")).collect();
            let hooks = if hooks.is_empty() { "none".to_owned() } else { hooks.join(" ") };
            writeln!(out, "{}: hooks: {hooks}", self.name)?;
        }
        Ok(())
    }
}

/// What a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// A policy, which should have hooks.
    Script,
    /// A file of `lib`, which scripts require.
    Module,
}

/// Checks a script that requires no modules. `name` stands in the findings.
pub fn check(name: &str, source: &[u8], names: &Names) -> Report {
    check_with(name, source, names, Role::Script, &|module| Err(format!("there is no {}", module_file(module))))
}

/// Checks a script or a module; `load` reads the modules that it requires.
pub fn check_with(name: &str, source: &[u8], names: &Names, role: Role, load: LoadModule<'_>) -> Report {
    match Script::compile_with(name, source, load) {
        Ok(script) => check_compiled(name, (&script, source), names, role),
        Err(error) => {
            let findings = vec![compile_error(name, &error.to_string())];
            Report { name: name.to_owned(), findings, ..Report::default() }
        }
    }
}

/// Checks a script or a module that was compiled of this source.
pub fn check_compiled(name: &str, (script, source): (&Script, &[u8]), names: &Names, role: Role) -> Report {
    let mut report = Report { name: name.to_owned(), ..Report::default() };
    if kind_of(script.bytecode()) == FileKind::Test {
        report.warn(0, "this is a test, not a policy: `moonring test` is what runs it".into());
        return report;
    }
    match uses(script.bytecode()) {
        Some(uses) => globals(&mut report, &uses, names),
        None => report.warn(0, "its globals could not be looked at: the bytecode has an unknown form".into()),
    }
    let text = String::from_utf8_lossy(source);
    let tokens = tokens(&text);
    for (line, table) in counted_maps(&tokens) {
        report.warn(
            line,
            format!("'#{table}' counts a list only, and '{table}' is given other keys here: count with pairs()"),
        );
    }
    for (line, name, meant) in misspelt(&tokens, &names.methods) {
        report.warn(line, format!("clients have no method '{name}': did you mean ':{meant}'?"));
    }
    let of_tokens = [mistakes(&tokens), misuses(&tokens, &names.paths), unknown_fields(&tokens, &names.methods)];
    // A module may be required where its main chunk may wait.
    let waits = if role == Role::Script { waits_in_main_chunk(&tokens) } else { Vec::new() };
    for (line, message) in of_tokens.into_iter().flatten().chain(waits) {
        report.warn(line, message);
    }
    for three in tokens.windows(3) {
        if let [Kind::Name("local"), Kind::Name("function"), Kind::Name(name)] = [0, 1, 2].map(|at| three[at].kind)
            && is_hook(name)
        {
            report.warn(three[0].line, format!("'{name}' is local, so it is never called: hooks are global functions"));
        }
    }
    for spec in HOOKS.iter().filter(|spec| role == Role::Script && spec.when_missing == WhenMissing::Reject) {
        let hook = spec.name;
        if !report.hooks.iter().any(|(name, _)| name == hook) {
            let effect = if spec.hook == Hook::ClientConnect { "nobody can come in" } else { "nobody can publish" };
            report.warn(0, format!("no {hook}: {effect} (\"Policy not defined\")"));
        }
    }
    let line_of = |hook: &str| report.hooks.iter().find(|(name, _)| name == hook).map(|(_, line)| *line);
    let (unload, load) = (line_of("on_unload"), line_of("on_load"));
    if let (Some(line), None, Role::Script) = (unload, load, role) {
        report.warn(line, "on_unload without on_load: what it returns is dropped at a reload".into());
    }
    let says_checkpoint = tokens.iter().find(|token| token.kind == Kind::Name(CHECKPOINT));
    if let (Some(token), None, Role::Script) = (says_checkpoint, unload, role) {
        report.warn(token.line, format!("{CHECKPOINT} without on_unload: no state is kept"));
    }
    report.findings.sort_by_key(|finding| finding.line);
    report
}

/// `name:12: message` of the compiler as a finding.
fn compile_error(name: &str, message: &str) -> Finding {
    let rest = message.strip_prefix(name).and_then(|rest| rest.strip_prefix(':')).unwrap_or(message);
    let (line, message) = match rest.split_once(':') {
        Some((line, message)) if line.parse::<u32>().is_ok() => (line.parse().unwrap_or(0), message),
        _ => (0, rest),
    };
    Finding { line, level: Level::Error, message: message.trim().to_owned() }
}

fn globals(report: &mut Report, uses: &[Use], names: &Names) {
    let assigned: BTreeSet<&str> = uses.iter().filter(|one| one.assigned).map(|one| one.path.as_str()).collect();
    let mut said = BTreeSet::new();
    for Use { line, path, assigned: is_assigned } in uses {
        if is_hook(path) {
            if *is_assigned {
                report.hooks.push((path.clone(), *line));
            }
            continue;
        }
        let message = match (path.rsplit_once('.'), is_assigned) {
            (None, true) => assignment(path, names),
            (None, false) if assigned.contains(path.as_str()) => None,
            (None, false) => reading(path, names),
            (Some((table, name)), false) => field(table, name, names, &assigned),
            (Some((table, _)), true) if names.is_global(table) && table != "_G" => {
                Some(format!("'{path}' changes a table of the sandbox"))
            }
            _ => None,
        };
        if let Some(message) = message
            && said.insert((path, is_assigned))
        {
            report.warn(*line, message);
        }
    }
    // Once, where no other word says which is meant.
    if let Some(first) = report.findings.iter_mut().find(|finding| finding.message.ends_with(NO_HOOK)) {
        let all: Vec<_> = HOOKS.iter().map(|spec| spec.name).collect();
        first.message += &format!("; the hooks are {}", all.join(", "));
    }
}

fn assignment(name: &str, names: &Names) -> Option<String> {
    if DECLARED.contains(&name) {
        return None;
    }
    let meant = meant_hook(name);
    if name.starts_with("on_") || meant.is_some() {
        let meant = meant.map_or_else(String::new, |hook| format!(": did you mean '{hook}'?"));
        return Some(format!("'{name}' {NO_HOOK}{meant}"));
    }
    if names.is_global(name) {
        return Some(format!("'{name}' of the sandbox is replaced"));
    }
    if let Some(meant) = nearest(name, DECLARED.iter().copied()) {
        return Some(format!("global '{name}' is assigned, and nobody reads it: did you mean '{meant}'?"));
    }
    Some(format!("global '{name}' is assigned: say 'local {name}'"))
}

/// The hook that is meant by a name of another spelling: `onClientConect`, `on_connect`.
fn meant_hook(name: &str) -> Option<&'static str> {
    let names = || HOOKS.iter().map(|spec| spec.name);
    let (mut snake, mut before) = (String::new(), '_');
    for c in name.chars() {
        if c.is_ascii_uppercase() && before.is_ascii_lowercase() {
            snake.push('_');
        }
        snake.push(c.to_ascii_lowercase());
        before = c;
    }
    if let Some(hook) = nearest(&snake, names()) {
        return Some(hook);
    }
    // `on_connect`: words of one hook alone.
    let words = snake.strip_prefix("on_")?;
    let mut fitting = names().filter(|hook| words.split('_').all(|word| hook.split('_').skip(1).any(|of| of == word)));
    fitting.next().filter(|_| fitting.next().is_none())
}

fn reading(name: &str, names: &Names) -> Option<String> {
    if names.is_global(name) || DECLARED.contains(&name) {
        return None;
    }
    if LEFT_OUT.contains(&name) {
        return Some(format!("'{name}' is not in the sandbox"));
    }
    let meant = in_lua(name).or_else(|| nearest(name, names.globals()));
    let meant = meant.map_or_else(String::new, |known| format!(": did you mean '{known}'?"));
    Some(format!("global '{name}' is nil: nothing here assigns it{meant}"))
}

/// A name in a table of the sandbox. What a deployment puts into `sfu.config` is not known here.
fn field(table: &str, name: &str, names: &Names, assigned: &BTreeSet<&str>) -> Option<String> {
    let path = format!("{table}.{name}");
    let known = names.within(table);
    if known.is_empty() || names.paths.contains(&path) || assigned.contains(path.as_str()) || table == "sfu.config" {
        return None;
    }
    let meant =
        in_lua(&path).map(str::to_owned).or_else(|| nearest(name, known).map(|known| format!("{table}.{known}")));
    let meant = meant.map_or_else(String::new, |known| format!(": did you mean '{known}'?"));
    Some(format!("'{path}' is not in the sandbox{meant}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    const OPEN: &str = "function on_client_connect() return true end function on_publish_request() return true end ";

    fn findings(source: &str) -> Vec<String> {
        let names = Names::of_sandbox(Instant::now()).unwrap();
        let report = check("room.lua", source.as_bytes(), &names).to_string();
        let findings = report.lines().filter(|line| !line.contains(": hooks: "));
        findings.map(|line| line.strip_prefix("room.lua:").unwrap_or(line).to_owned()).collect()
    }

    #[test]
    fn a_good_script_has_no_findings_and_its_hooks_are_listed() {
        let names = Names::of_sandbox(Instant::now()).unwrap();
        let source = "STATE_VERSION = 2\nlocal n = sfu.config.anything\nfunction on_client_connect(c) return c ~= n end\n\
            on_publish_request = on_client_connect";
        let report = check("room.lua", source.as_bytes(), &names).to_string();
        assert_eq!(report, "room.lua: hooks: on_client_connect:3 on_publish_request:4\n");
    }

    #[test]
    fn each_mistake_is_named_with_its_line() {
        let no_hook = |name: &str| {
            format!(
                "1: warning: '{name}' is no hook, so it is never called; the hooks are on_init, on_client_connect, \
                 on_client_disconnect, on_publish_request, on_track_published, on_track_unpublished, on_subscribe_request, \
                 on_message, on_active_speakers, on_admin, on_close, on_unload, on_load"
            )
        };
        for (source, expected) in [
            (
                "function on_mesage() end",
                "1: warning: 'on_mesage' is no hook, so it is never called: did you mean 'on_message'?",
            ),
            ("function on_tuesday() end", &no_hook("on_tuesday")),
            (
                "function onClientDisconect() end",
                "1: warning: 'onClientDisconect' is no hook, so it is never called: did you mean 'on_client_disconnect'?",
            ),
            (
                "OnMessage = print",
                "1: warning: 'OnMessage' is no hook, so it is never called: did you mean 'on_message'?",
            ),
            (
                "function on_disconnect() end",
                "1: warning: 'on_disconnect' is no hook, so it is never called: did you mean 'on_client_disconnect'?",
            ),
            ("function on_track() end", &no_hook("on_track")),
            (
                "\nfunction on_unload() return 1 end",
                "2: warning: on_unload without on_load: what it returns is dropped at a reload",
            ),
            ("local n\nCHECKPOINT_SECONDS = 10", "2: warning: CHECKPOINT_SECONDS without on_unload: no state is kept"),
            ("return null", "1: warning: global 'null' is nil: nothing here assigns it: did you mean 'nil'?"),
            ("return table.unpack({})", "1: warning: 'table.unpack' is not in the sandbox: did you mean 'unpack'?"),
            (
                "for c in sfu.clients() do end",
                "1: warning: 'sfu.clients()' is a list: loop with 'for _, c in ipairs(sfu.clients()) do'",
            ),
            (
                "local n = sfu.store.get('n')",
                "1: warning: the main chunk cannot wait, so 'sfu.store.get' is an error here",
            ),
            ("function online() end", "1: warning: global 'online' is assigned: say 'local online'"),
            (
                "function on_message(c) print(c.id) end",
                "1: warning: clients have no field 'id': did you mean 'c:get_id()'?",
            ),
            (
                "local function on_load() end",
                "1: warning: 'on_load' is local, so it is never called: hooks are global functions",
            ),
            ("\ncount = 1", "2: warning: global 'count' is assigned: say 'local count'"),
            ("return cuont", "1: warning: global 'cuont' is nil: nothing here assigns it"),
            (
                "return tostrin(1)",
                "1: warning: global 'tostrin' is nil: nothing here assigns it: did you mean 'tostring'?",
            ),
            ("io.open('x')", "1: warning: 'io' is not in the sandbox"),
            ("sfu.brodcast(1)", "1: warning: 'sfu.brodcast' is not in the sandbox: did you mean 'sfu.broadcast'?"),
            ("os.execute('x')", "1: warning: 'os.execute' is not in the sandbox"),
            (
                "sfu.json.encod(1)",
                "1: warning: 'sfu.json.encod' is not in the sandbox: did you mean 'sfu.json.encode'?",
            ),
            ("function on_message(c) c:kik() end", "1: warning: clients have no method 'kik': did you mean ':kick'?"),
            ("print = nil", "1: warning: 'print' of the sandbox is replaced"),
            ("string.rep = nil", "1: warning: 'string.rep' changes a table of the sandbox"),
            (
                "local t = {} t.a = 1 return #t",
                "1: warning: '#t' counts a list only, and 't' is given other keys here: count with pairs()",
            ),
        ] {
            assert_eq!(findings(&format!("{OPEN}{source}")), [expected], "{source}");
        }
    }

    #[test]
    fn what_does_not_compile_is_an_error() {
        for (source, expected) in [
            ("x = ", "1: error: unexpected symbol near '<eof>'"),
            ("", "1: error: is empty"),
            ("x = 1\nend", "2: error: '<eof>' expected near 'end'"),
        ] {
            assert_eq!(findings(source), [expected], "{source}");
        }
        assert_eq!(
            findings("test.it('x', function() test.room('room.lua') end)"),
            ["1: warning: this is a test, not a policy: `moonring test` is what runs it"]
        );
        assert_eq!(
            findings("return 1"),
            [
                "1: warning: no on_client_connect: nobody can come in (\"Policy not defined\")",
                "1: warning: no on_publish_request: nobody can publish (\"Policy not defined\")"
            ]
        );
    }
}
