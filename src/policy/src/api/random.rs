//! `sfu.uuid`, `sfu.random_bytes`, `sfu.url_encode`, `sfu.equal`.

use mlua::Value;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};
use rand::RngCore;
use subtle::ConstantTimeEq;

use super::args::arg;
use super::crypto::hex;
use super::{Functions, refused};

/// Bytes of one call of `sfu.random_bytes`.
const MAX_RANDOM: u64 = 4096;
/// Bytes of a text to be encoded or compared.
const MAX_INPUT: usize = 64 * 1024;
/// Everything but the unreserved characters of RFC 3986 section 2.3.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

pub(super) fn register(functions: &mut Functions) {
    // Version 4 of RFC 9562 section 5.4.
    functions.add("sfu.uuid", |_, host, ()| {
        let mut bytes = [0; 16];
        host.room.random().borrow_mut().fill_bytes(&mut bytes);
        bytes[6] = bytes[6] & 0x0f | 0x40;
        bytes[8] = bytes[8] & 0x3f | 0x80;
        let text = hex(&bytes);
        Ok([&text[..8], &text[8..12], &text[12..16], &text[16..20], &text[20..]].join("-"))
    });
    functions.add("sfu.random_bytes", |lua, host, n: Value| {
        let n = arg("sfu.random_bytes", "n", &n).whole(MAX_RANDOM)?;
        let mut bytes = vec![0; n as usize];
        host.room.random().borrow_mut().fill_bytes(&mut bytes);
        lua.create_string(bytes).map_err(refused)
    });
    functions.add("sfu.url_encode", |_, _, text: Value| {
        let bytes = arg("sfu.url_encode", "text", &text).bytes(MAX_INPUT)?;
        Ok(percent_encode(&bytes, RESERVED).to_string())
    });
    functions.add("sfu.equal", |_, _, (a, b): (Value, Value)| {
        let a = arg("sfu.equal", "a", &a).bytes(MAX_INPUT)?;
        let b = arg("sfu.equal", "b", &b).bytes(MAX_INPUT)?;
        Ok(bool::from(a.ct_eq(&b)))
    });
}
