//! `moonring test`: a policy's own tests, in Lua, against the real engine.
//!
//! A test file runs in a sandbox of its own, like a policy's, with `test` in the place of `sfu` (`harness.lua`). What it
//! does to a room happens at once: the engine knows no clock and no network, so that an hour, an HTTP service and a
//! hundred clients are made up in no time, and the same way in every run.

mod bridge;
mod given;
mod log;
mod store;
mod world;

#[cfg(test)]
mod tests;

use std::fmt;
use std::rc::Rc;
use std::time::{Duration, Instant};

use mlua::chunk::ChunkMode;
use mlua::{Function, HookTriggers, Lua, VmState};

use self::bridge::Bridge;
#[cfg(test)]
pub(super) use self::bridge::jwt;
pub use self::given::OPTIONS;
use self::log::Collector;
pub(super) use self::store::Store;
use super::file_kind::{FileKind, kind_of};
use super::names::sandbox;
use crate::script::{ScriptError, bytecode_of, message_of};
use crate::settings::PolicySettings;

/// The harness as it stands in tracebacks: no file of anybody's has this name.
const HARNESS: &str = "moonring test";
/// Memory of a test file's own state.
const MEMORY: usize = 256 * 1024 * 1024;
/// Instructions between two looks at how many there have been.
const LOOK_EVERY: u32 = 1_000_000;
/// Looks after which a test file is taken to run for ever: some ten seconds.
const MAX_LOOKS: u32 = 2_000;

/// Reads a script that a test file names, as seen from the test file.
pub type Load = Rc<dyn Fn(&str) -> Result<Vec<u8>, String>>;

/// One test.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Case {
    /// What it says of itself.
    pub name: String,
    /// What the test file has printed until its end.
    pub printed: Vec<String>,
    /// `None` when it passed.
    pub failure: Option<Failing>,
}

/// Why a test failed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Failing {
    /// `file:line` of the assertion, if it was one.
    pub at: String,
    /// What is wrong.
    pub message: String,
    /// Both values, if two were compared: what came, and what should have come.
    pub values: Option<(String, String)>,
    /// What the rooms' scripts have logged until then, and what the engine has said of them.
    pub log: Vec<String>,
}

impl Failing {
    fn of(message: impl Into<String>) -> Self {
        Self { message: message.into(), ..Self::default() }
    }
}

impl Case {
    /// Writes it as number `n` in the TAP format, version 14.
    pub fn tap(&self, out: &mut dyn fmt::Write, n: usize) -> fmt::Result {
        for line in self.printed.iter().flat_map(|text| text.split('\n')) {
            writeln!(out, "# {line}")?;
        }
        let name = self.name.replace(['\n', '#'], " ");
        let Some(failure) = &self.failure else { return writeln!(out, "ok {n} - {name}") };
        writeln!(out, "not ok {n} - {name}\n  ---")?;
        writeln!(out, "  message: {}", indented(&failure.message))?;
        if !failure.at.is_empty() {
            writeln!(out, "  at: {}", failure.at)?;
        }
        if let Some((got, expected)) = &failure.values {
            writeln!(out, "  got: {}\n  expected: {}", indented(got), indented(expected))?;
        }
        if !failure.log.is_empty() {
            writeln!(out, "  log: |\n    {}", failure.log.join("\n").replace('\n', "\n    "))?;
        }
        writeln!(out, "  ...")
    }
}

fn indented(text: &str) -> String {
    match text.contains('\n') {
        true => format!("|\n    {}", text.trim_end().replace('\n', "\n    ")),
        false => text.to_owned(),
    }
}

/// Runs a test file. It needs a shard's stack (64 MiB): LuaJIT does not check how deep C code nests.
pub fn run(name: &str, source: &[u8], load: Load, now: Instant) -> Vec<Case> {
    let log = Collector::default();
    #[cfg(test)]
    crate::tests::keep_listening();
    tracing::subscriber::with_default(log.clone(), || {
        let bridge = Bridge::new(load, now, log);
        let ended = run_file(name, source, now, &bridge);
        let mut cases = bridge.take_cases();
        let failure = match ended {
            Ok(()) if cases.is_empty() => Some(Failing::of("there is no test.it(name, function() … end) in it")),
            ended => ended.err(),
        };
        if failure.is_some() {
            cases.push(Case { name: name.to_owned(), failure, ..Case::default() });
        }
        // What was printed after the last test.
        if let Some(last) = cases.last_mut() {
            last.printed.extend(bridge.take_printed());
        }
        cases
    })
}

fn run_file(name: &str, source: &[u8], now: Instant, bridge: &Bridge) -> Result<(), Failing> {
    let failing = |error: ScriptError| Failing::of(error.to_string());
    let bytecode = bytecode_of(name, source).map_err(failing)?;
    if let FileKind::Policy(hook) = kind_of(&bytecode) {
        return Err(Failing::of(format!(
            "this is a policy, not a test: it defines {hook}, and has no test.it(name, function() … end). The tests of \
             room.lua stand beside it, in room_test.lua; `moonring check` is what looks at a policy"
        )));
    }
    let harness = bytecode_of(HARNESS, include_bytes!("harness.lua")).map_err(failing)?;
    let settings = PolicySettings { memory_bytes: MEMORY, ..PolicySettings::default() };
    let state = sandbox(now, &settings).map_err(failing)?;
    let lua = &state.lua;
    let load = |bytecode: &[u8]| lua.load(bytecode).set_mode(ChunkMode::Binary).into_function();
    let run = || -> mlua::Result<(Option<String>, Option<String>)> {
        end_at_last(lua)?;
        let run_file: Function = load(&harness)?.call(bridge.functions(lua)?)?;
        run_file.call(load(&bytecode)?)
    };
    match run() {
        Ok((None, _)) => Ok(()),
        Ok((Some(message), at)) => Err(Failing { at: at.unwrap_or_default(), ..Failing::of(message) }),
        Err(error) => Err(Failing::of(message_of(&error))),
    }
}

/// A test file that never ends is ended: it is not a policy, so this need not be as strict as the engine.
fn end_at_last(lua: &Lua) -> mlua::Result<()> {
    let triggers = HookTriggers::new().every_nth_instruction(LOOK_EVERY);
    let looks_left = std::cell::Cell::new(MAX_LOOKS);
    lua.set_global_hook(triggers, move |_, _| {
        looks_left.set(looks_left.get().saturating_sub(1));
        if looks_left.get() == 0 {
            Err(mlua::Error::runtime("the test file does not end"))
        } else {
            Ok(VmState::Continue)
        }
    })
}

/// A stretch of time in milliseconds, as tests write it.
fn milliseconds(ms: f64) -> Duration {
    Duration::from_secs_f64(ms.clamp(0.0, 1e12) / 1000.0)
}
