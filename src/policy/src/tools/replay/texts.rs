//! The texts of scripts in a recording.

use std::sync::Arc;

use crate::tape::line::ScriptText;
use crate::tape::words::bytes_of;
use crate::{Script, module_file};

const DAMAGED: &str = "the text of the script is damaged";

/// The text of a script, under no name, and those of its modules under the names of their files.
pub(super) fn texts_of(script: &ScriptText) -> Result<Vec<(String, Vec<u8>)>, String> {
    let modules = script.modules.iter().map(|(name, text)| (module_file(name), bytes_of(text)));
    let all = modules.chain([(String::new(), bytes_of(&script.text))]);
    all.map(|(name, text)| text.map(|text| (name, text)).ok_or_else(|| DAMAGED.to_owned())).collect()
}

/// The script of a recording, compiled.
pub(super) fn compiled(script: &ScriptText) -> Result<Arc<Script>, String> {
    let unreadable = || DAMAGED.to_owned();
    let text = bytes_of(&script.text).ok_or_else(unreadable)?;
    let load = |module: &str| script.modules.get(module).and_then(bytes_of).ok_or_else(unreadable);
    Script::compile_with(&script.name, &text, &load).map(Arc::new).map_err(|error| error.to_string())
}
