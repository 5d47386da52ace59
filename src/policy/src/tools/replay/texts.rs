//! The texts of scripts in a recording.

use std::sync::Arc;

use crate::Script;
use crate::tape::line::ScriptText;
use crate::tape::words::bytes_of;

/// The script of a recording, compiled.
pub(super) fn compiled(script: &ScriptText) -> Result<Arc<Script>, String> {
    let unreadable = || "the text of the script is damaged".to_owned();
    let text = bytes_of(&script.text).ok_or_else(unreadable)?;
    let load = |module: &str| script.modules.get(module).and_then(bytes_of).ok_or_else(unreadable);
    Script::compile_with(&script.name, &text, &load).map(Arc::new).map_err(|error| error.to_string())
}
