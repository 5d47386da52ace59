//! `require`: the files of `scripts/lib` that the script names.

use mlua::Value;
use mlua::chunk::ChunkMode;

use super::args::arg;
use super::{Functions, Kind, refused};
use crate::script::MAX_MODULE_NAME;

pub(super) fn register(functions: &mut Functions) {
    // The function of a module's file; the prelude calls it once and keeps what it returns.
    functions.add_as(Kind::Internal, "module", |lua, host, name: Value| {
        let name = arg("require", "name", &name).text(MAX_MODULE_NAME)?;
        let Some(bytecode) = host.script.module(&name) else {
            return Err(format!(
                "module '{name}' was not found: require finds files of lib/ in the scripts folder, by a name that is \
                 written out in the script"
            ));
        };
        lua.load(bytecode).set_mode(ChunkMode::Binary).into_function().map_err(refused)
    });
}
