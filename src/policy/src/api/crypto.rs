//! `sfu.base64`, `sfu.sha256`, `sfu.hmac_sha256`.

use base64::Engine;
use base64::engine::general_purpose::{GeneralPurpose, STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
use hmac::{Hmac, Mac};
use mlua::Value;
use sha2::{Digest, Sha256};

use super::args::arg;
use super::{Functions, refused};

/// Bytes that one call works on: about a millisecond of hashing.
const MAX_INPUT: usize = 1024 * 1024;

pub(super) fn register(functions: &mut Functions) {
    functions.add("sfu.base64.encode", |lua, _, (data, url): (Value, Value)| {
        let data = arg("sfu.base64.encode", "data", &data).bytes(MAX_INPUT)?;
        let engine: GeneralPurpose = if url == Value::Boolean(true) { URL_SAFE_NO_PAD } else { STANDARD };
        lua.create_string(engine.encode(data)).map_err(refused)
    });
    // Takes both alphabets, with and without padding; nil for what is none of them.
    functions.add("sfu.base64.decode", |lua, _, text: Value| {
        let text = arg("sfu.base64.decode", "text", &text).bytes(MAX_INPUT)?;
        let engines = [&STANDARD, &STANDARD_NO_PAD, &URL_SAFE, &URL_SAFE_NO_PAD];
        let data = engines.iter().find_map(|engine| engine.decode(&text).ok());
        data.map(|data| lua.create_string(data)).transpose().map_err(refused)
    });
    functions.add("sfu.sha256", |_, _, data: Value| {
        Ok(hex(&Sha256::digest(arg("sfu.sha256", "data", &data).bytes(MAX_INPUT)?)))
    });
    functions.add("sfu.hmac_sha256", |_, host, (key, data): (Value, Value)| {
        let key = arg("sfu.hmac_sha256", "key", &key).bytes(MAX_INPUT)?;
        host.room.reads.secret(&key);
        let data = arg("sfu.hmac_sha256", "data", &data).bytes(MAX_INPUT)?;
        let mut mac = Hmac::<Sha256>::new_from_slice(&key).map_err(|error| error.to_string())?;
        mac.update(&data);
        Ok(hex(&mac.finalize().into_bytes()))
    });
}

/// Bytes as hexadecimal digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes.iter().flat_map(|b| [DIGITS[usize::from(b >> 4)], DIGITS[usize::from(b & 15)]]).map(char::from).collect()
}
