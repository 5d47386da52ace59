//! A policy script: checked and compiled once, on any thread, then shared by every room that runs it.

use std::fmt;

use mlua::chunk::ChunkMode;
use mlua::{Lua, LuaOptions, StdLib};
use sha2::{Digest, Sha256};

use super::settings::{CHECKPOINT, MAX_SOURCE_BYTES};
use super::tokens;

/// The first byte of LuaJIT's bytecode, which no text starts with.
const BYTECODE_MARK: u8 = 0x1b;

/// Longest name of a module.
pub(crate) const MAX_MODULE_NAME: usize = 64;
/// Modules that one script may consist of.
const MAX_MODULES: usize = 64;
/// The folder of modules, below the scripts folder.
pub const MODULES_FOLDER: &str = "lib";

/// Reads the source of a module by its name, or says why it cannot.
pub type LoadModule<'a> = &'a dyn Fn(&str) -> Result<Vec<u8>, String>;

/// A compiled script, with the modules that it requires.
pub struct Script {
    name: String,
    version: u64,
    source: Box<[u8]>,
    bytecode: Box<[u8]>,
    modules: Vec<Module>,
    keeps_checkpoints: bool,
}

/// A compiled module.
struct Module {
    name: String,
    source: Box<[u8]>,
    bytecode: Box<[u8]>,
}

/// Why a script cannot be used, with file and line where there is one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ScriptError(String);

impl ScriptError {
    /// A file that cannot be read.
    pub fn unreadable(name: &str, error: &std::io::Error) -> Self {
        Self(format!("{name}: {error}"))
    }

    /// A tool that could not make its own sandbox.
    pub(crate) fn of_tool(error: &dyn fmt::Display) -> Self {
        Self(error.to_string())
    }
}

impl Script {
    /// Compiles Lua source text that requires no modules. `name` stands in messages: `name:line: ...`.
    pub fn compile(name: &str, source: &[u8]) -> Result<Self, ScriptError> {
        Self::compile_with(name, source, &|module| Err(format!("there is no {}", module_file(module))))
    }

    /// Compiles Lua source text and the modules that it requires by names that are written out, `require("name")`. The
    /// version follows from all of them.
    pub fn compile_with(name: &str, source: &[u8], load: LoadModule<'_>) -> Result<Self, ScriptError> {
        let bytecode = checked(name, source)?;
        let mut hash = Sha256::new_with_prefix(source);
        let (mut modules, mut wanted) = (Vec::<Module>::new(), required(name, source)?);
        while let Some((module, place)) = wanted.pop() {
            if modules.iter().any(|known| known.name == module) {
                continue;
            }
            if modules.len() == MAX_MODULES {
                return Err(ScriptError(format!("{place}: more than {MAX_MODULES} modules")));
            }
            let text = load(&module).map_err(|message| ScriptError(format!("{place}: {message}")))?;
            let file = module_file(&module);
            hash.update(file.as_bytes());
            hash.update(&text);
            let bytecode = checked(&file, &text)?;
            wanted.extend(required(&file, &text)?);
            modules.push(Module { name: module, source: text.into(), bytecode });
        }
        let texts = modules.iter().map(|module| &*module.source).chain([source]);
        let keeps_checkpoints = texts.into_iter().any(names_checkpoints);
        let (name, version) = (name.to_owned(), version_of(hash));
        Ok(Self { name, version, source: source.into(), bytecode, modules, keeps_checkpoints })
    }

    /// Whether its rooms may have checkpoints, as its text, or that of a module, names `CHECKPOINT_SECONDS`: what that is,
    /// is known when it runs, and a room's checkpoint is looked for before.
    pub fn keeps_checkpoints(&self) -> bool {
        self.keeps_checkpoints
    }

    /// The bytecode of a module that the script requires.
    pub(crate) fn module(&self, name: &str) -> Option<&[u8]> {
        self.modules.iter().find(|module| module.name == name).map(|module| &*module.bytecode)
    }

    /// The names of the modules that the script consists of.
    pub fn modules(&self) -> impl Iterator<Item = &str> {
        self.modules.iter().map(|module| module.name.as_str())
    }

    /// The text that it was compiled from.
    pub fn source(&self) -> &[u8] {
        &self.source
    }

    /// The modules' names and texts.
    pub(crate) fn module_sources(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.modules.iter().map(|module| (module.name.as_str(), &*module.source))
    }

    /// The name it was compiled with.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A number that tells one text from another.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Whether `other` is the same script in the same version.
    pub fn is(&self, other: &Self) -> bool {
        self.version == other.version && self.name == other.name
    }

    /// LuaJIT's bytecode with line numbers. Made by [`Script::compile`] only, so it is safe to load.
    pub(crate) fn bytecode(&self) -> &[u8] {
        &self.bytecode
    }
}

impl fmt::Debug for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Script({} {:016x}, {} bytes)", self.name, self.version, self.bytecode.len())
    }
}

fn names_checkpoints(text: &[u8]) -> bool {
    text.windows(CHECKPOINT.len()).any(|window| window == CHECKPOINT.as_bytes())
}

/// Compiles trusted text: ours, or what [`Script::compile`] has checked.
pub(crate) fn bytecode_of(name: &str, source: &[u8]) -> Result<Box<[u8]>, ScriptError> {
    compiled(name, source, false)
}

/// The same without line numbers and names of variables, which every room would hold. The chunk's name must be given
/// again when it is loaded.
pub(crate) fn stripped_bytecode_of(name: &str, source: &[u8]) -> Result<Box<[u8]>, ScriptError> {
    compiled(name, source, true)
}

fn compiled(name: &str, source: &[u8], strip: bool) -> Result<Box<[u8]>, ScriptError> {
    let error = |error: mlua::Error| ScriptError(message_of(&error));
    let lua = Lua::new_with(StdLib::NONE, LuaOptions::new()).map_err(error)?;
    let chunk = lua.load(source).set_name(format!("@{name}")).set_mode(ChunkMode::Text);
    Ok(chunk.into_function().map_err(error)?.dump(strip).into_boxed_slice())
}

/// The message of an mlua error as Lua has it, without the crate's prefix.
pub(crate) fn message_of(error: &mlua::Error) -> String {
    match error {
        mlua::Error::SyntaxError { message, .. } => message.clone(),
        mlua::Error::RuntimeError(message) | mlua::Error::MemoryError(message) => message.clone(),
        mlua::Error::CallbackError { cause, .. } => message_of(cause),
        other => other.to_string(),
    }
}

fn version_of(hash: Sha256) -> u64 {
    let hash = hash.finalize();
    u64::from_be_bytes(std::array::from_fn(|at| hash[at]))
}

/// The bytecode of a text that may be a script.
fn checked(name: &str, source: &[u8]) -> Result<Box<[u8]>, ScriptError> {
    if source.len() > MAX_SOURCE_BYTES {
        let bytes = source.len();
        return Err(ScriptError(format!("{name}: is {bytes} bytes long, at most {MAX_SOURCE_BYTES} are allowed")));
    }
    if source.iter().all(u8::is_ascii_whitespace) {
        return Err(ScriptError(format!("{name}: is empty")));
    }
    if source[0] == BYTECODE_MARK {
        return Err(ScriptError(format!("{name}: is compiled bytecode, only source text is allowed")));
    }
    bytecode_of(name, source)
}

/// The modules that a text requires by names that are written out, with `file:line`. The last one comes first.
fn required(file: &str, source: &[u8]) -> Result<Vec<(String, String)>, ScriptError> {
    let text = String::from_utf8_lossy(source);
    let mut found = Vec::new();
    for (line, name) in tokens::required(&tokens::tokens(&text)) {
        let place = format!("{file}:{line}");
        let fits = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        if name.is_empty() || name.len() > MAX_MODULE_NAME || !name.chars().all(fits) {
            let message = format!("{place}: '{name}' is not the name of a module: letters, digits, '_' and '-'");
            return Err(ScriptError(message));
        }
        found.push((name.to_owned(), place));
    }
    found.reverse();
    Ok(found)
}

/// The file of a module, below the scripts folder.
pub fn module_file(module: &str) -> String {
    format!("{MODULES_FOLDER}/{module}.lua")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_that_does_not_compile_says_where() {
        for (source, expected) in [
            (&b"x = 1\nfunction f( end"[..], "room.lua:2: <name> or '...' expected near 'end'"),
            (b"", "room.lua: is empty"),
            (b" \n\t", "room.lua: is empty"),
            (b"\x1bLJ\x02", "room.lua: is compiled bytecode, only source text is allowed"),
            (b"return 1LL", "room.lua:1: malformed number near '1LL'"),
        ] {
            assert_eq!(Script::compile("room.lua", source).unwrap_err().to_string(), expected);
        }
        let long = vec![b'-'; MAX_SOURCE_BYTES + 1];
        assert!(Script::compile("room.lua", &long).unwrap_err().to_string().contains("at most 262144"));
    }

    #[test]
    fn the_version_follows_the_text() {
        let compile = |text: &[u8]| Script::compile("a.lua", text).unwrap().version();
        assert_eq!(compile(b"x = 1"), compile(b"x = 1"));
        assert_ne!(compile(b"x = 1"), compile(b"x = 2"));
    }

    #[test]
    fn a_script_is_compiled_with_the_modules_that_it_requires() {
        let load = |name: &str| match name {
            "a" => Ok(b"local b = require 'b' return { b = b }".to_vec()),
            "b" => Ok(b"return 1".to_vec()),
            "broken" => Ok(b"\nreturn =".to_vec()),
            other => Err(format!("there is no lib/{other}.lua")),
        };
        let compile = |text: &str| Script::compile_with("x.lua", text.as_bytes(), &load);
        let script = compile("local a, b = require(\"a\"), require [[b]]").unwrap();
        assert_eq!(script.modules().collect::<Vec<_>>(), ["a", "b"]);
        assert_ne!(script.version(), Script::compile("x.lua", b"return").unwrap().version());
        for (text, expected) in [
            ("\nrequire('c')", "x.lua:2: there is no lib/c.lua"),
            ("require('broken')", "lib/broken.lua:2: unexpected symbol near '='"),
            ("require('../a')", "x.lua:1: '../a' is not the name of a module: letters, digits, '_' and '-'"),
        ] {
            assert_eq!(compile(text).unwrap_err().to_string(), expected);
        }
        assert!(compile("local name = 'c' local required = x.require('d') require(name)").is_ok());
    }
}
