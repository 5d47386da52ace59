//! `utf8`: what Lua 5.3 has of that name, for text of valid UTF-8. Positions are in bytes, from 1, negative ones from
//! the end.

use mlua::{LuaString, Value, Variadic};

use super::args::arg;
use super::{Functions, HostResult, Kind, refused};

/// Code points that one call returns.
const MAX_CODES: usize = 4_000;

/// A character, as a pattern.
const PATTERN: &[u8] = b"[%z\x01-\x7F\xC2-\xF4][\x80-\xBF]*";

pub(super) fn register(functions: &mut Functions) {
    functions.add_as(Kind::Value, "utf8.charpattern", |lua, _, ()| lua.create_string(PATTERN).map_err(refused));
    functions.add_as(Kind::Joined, "utf8.char", |lua, _, code: Value| {
        let code = arg("utf8.char", "code", &code);
        let number = code.whole(u32::from(char::MAX).into())? as u32;
        let c = char::from_u32(number).ok_or_else(|| code.bad("a surrogate is not a character"))?;
        lua.create_string(c.encode_utf8(&mut [0; 4]).as_bytes()).map_err(refused)
    });
    functions.add("utf8.codepoint", |_, _, (text, from, to): (Value, Value, Value)| {
        let text = string("utf8.codepoint", &text)?;
        let bytes = text.as_bytes();
        let from = position("utf8.codepoint", "i", &from, bytes.len(), 1)?;
        let to = position("utf8.codepoint", "j", &to, bytes.len(), from)?;
        if from < 1 || to > bytes.len() as i64 {
            return Err("bad argument to 'utf8.codepoint' (out of bounds)".to_owned());
        }
        let (mut at, mut codes) = (from as usize - 1, Vec::new());
        while (at as i64) < to {
            let c = char_at(&bytes, at).ok_or("invalid UTF-8 code")?;
            if codes.len() == MAX_CODES {
                return Err(format!("string slice too long: at most {MAX_CODES} characters"));
            }
            codes.push(u32::from(c));
            at += c.len_utf8();
        }
        Ok(codes.into_iter().collect::<Variadic<u32>>())
    });
    functions.add("utf8.len", |_, _, (text, from, to): (Value, Value, Value)| {
        let text = string("utf8.len", &text)?;
        let bytes = text.as_bytes();
        let from = position("utf8.len", "i", &from, bytes.len(), 1)?;
        let to = position("utf8.len", "j", &to, bytes.len(), -1)?;
        if from < 1 || from > bytes.len() as i64 + 1 || to > bytes.len() as i64 {
            return Err("bad argument to 'utf8.len' (position out of bounds)".to_owned());
        }
        let (mut at, mut count) = (from as usize - 1, 0_u32);
        while (at as i64) < to {
            let Some(c) = char_at(&bytes, at) else { return Ok((None, Some(at + 1))) };
            (at, count) = (at + c.len_utf8(), count + 1);
        }
        Ok((Some(count), None))
    });
    functions.add("utf8.offset", |_, _, (text, n, from): (Value, Value, Value)| {
        let text = string("utf8.offset", &text)?;
        let bytes = text.as_bytes();
        let n = arg("utf8.offset", "n", &n).number(-1e9..=1e9)? as i64;
        let default = if n > 0 { 1 } else { bytes.len() as i64 + 1 };
        let from = position("utf8.offset", "i", &from, bytes.len(), default)?;
        if from < 1 || from > bytes.len() as i64 + 1 {
            return Err("bad argument to 'utf8.offset' (position out of bounds)".to_owned());
        }
        offset(&bytes, n, from as usize - 1)
    });
    // The next character after the one at `at`: its position and its code.
    functions.add_as(Kind::Steps, "utf8.codes", |_, _, (text, at): (Value, Value)| {
        let text = string("utf8.codes", &text)?;
        let bytes = text.as_bytes();
        let at = arg("utf8.codes", "i", &at).whole(bytes.len() as u64)? as usize;
        let invalid = || "invalid UTF-8 code".to_owned();
        let next = if at == 0 { 0 } else { at - 1 + char_at(&bytes, at - 1).ok_or_else(invalid)?.len_utf8() };
        if next >= bytes.len() {
            return Ok((None, None));
        }
        let c = char_at(&bytes, next).ok_or_else(invalid)?;
        Ok((Some(next + 1), Some(u32::from(c))))
    });
}

fn string(function: &'static str, text: &Value) -> HostResult<LuaString> {
    match text {
        Value::String(text) => Ok(text.clone()),
        other => Err(arg(function, "s", other).bad("string expected")),
    }
}

fn position(function: &'static str, name: &'static str, value: &Value, len: usize, default: i64) -> HostResult<i64> {
    let value = arg(function, name, value);
    let at = if value.absent() { default } else { value.number(-1e9..=1e9)? as i64 };
    Ok(if at < 0 { len as i64 + at + 1 } else { at })
}

/// The character that begins at `at`.
fn char_at(bytes: &[u8], at: usize) -> Option<char> {
    let rest = bytes.get(at..)?;
    let length = match *rest.first()? {
        0..=0x7f => 1,
        0xc2..=0xdf => 2,
        0xe0..=0xef => 3,
        0xf0..=0xf4 => 4,
        _ => return None,
    };
    std::str::from_utf8(rest.get(..length)?).ok()?.chars().next()
}

/// The position of the `n`th character, counted from `at`; `None` when there is none.
fn offset(bytes: &[u8], mut n: i64, mut at: usize) -> HostResult<Option<usize>> {
    let continues = |at: usize| bytes.get(at).is_some_and(|byte| byte & 0xc0 == 0x80);
    if n == 0 {
        while at > 0 && continues(at) {
            at -= 1;
        }
        return Ok(Some(at + 1));
    }
    if continues(at) {
        return Err("initial position is a continuation byte".to_owned());
    }
    if n < 0 {
        while n < 0 && at > 0 {
            at -= 1;
            while at > 0 && continues(at) {
                at -= 1;
            }
            n += 1;
        }
    } else {
        n -= 1;
        while n > 0 && at < bytes.len() {
            at += 1;
            while continues(at) {
                at += 1;
            }
            n -= 1;
        }
    }
    Ok((n == 0).then_some(at + 1))
}
