//! A policy script: checked and compiled once, on any thread, then shared by every room that runs it.

use std::fmt;

use mlua::chunk::ChunkMode;
use mlua::{Lua, LuaOptions, StdLib};
use sha2::{Digest, Sha256};

use super::settings::MAX_SOURCE_BYTES;

/// The first byte of LuaJIT's bytecode, which no text starts with.
const BYTECODE_MARK: u8 = 0x1b;

/// A compiled script.
pub struct Script {
    name: String,
    version: u64,
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
    /// Compiles Lua source text. `name` stands in messages: `name:line: ...`.
    pub fn compile(name: &str, source: &[u8]) -> Result<Self, ScriptError> {
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
        Ok(Self { name: name.to_owned(), version: version_of(source), bytecode: bytecode_of(name, source)? })
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

fn version_of(source: &[u8]) -> u64 {
    let hash = Sha256::digest(source);
    u64::from_be_bytes([hash[0], hash[1], hash[2], hash[3], hash[4], hash[5], hash[6], hash[7]])
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
}
