//! Parts of the prelude that few rooms need: compiled once for the process, loaded into a state when they are first asked for.

use std::sync::OnceLock;

use mlua::Value;
use mlua::chunk::ChunkMode;

use super::jwt_set::why_no_set;
use super::log::PRELUDE_NAME;
use super::{Functions, Kind, refused};
use crate::script::stripped_bytecode_of;

pub(super) fn register(functions: &mut Functions) {
    // Why a text is no set of keys; nil for one that is.
    functions.add_as(Kind::Internal, "no_set", |_, _, text: Value| {
        let Value::String(text) = text else { return Ok(Some("the set of keys is no text".to_owned())) };
        Ok(why_no_set(&text.as_bytes()))
    });
    functions.add_as(Kind::Part, "sfu.jwks", |lua, _, ()| {
        static BYTECODE: OnceLock<Result<Box<[u8]>, String>> = OnceLock::new();
        let compile = || stripped_bytecode_of(PRELUDE_NAME, include_bytes!("../prelude/jwks.lua"));
        let bytecode =
            BYTECODE.get_or_init(|| compile().map_err(|error| error.to_string())).as_ref().map_err(Clone::clone)?;
        let chunk = lua.load(&**bytecode).set_name(format!("@{PRELUDE_NAME}")).set_mode(ChunkMode::Binary);
        chunk.into_function().map_err(refused)
    });
}
