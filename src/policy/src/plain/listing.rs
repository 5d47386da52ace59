//! The bytes of a plain value as a list of JSON values, for people and for recordings, and back.
//!
//! Each value is one item, as [`super::encode`] writes them: `"nil"`, `"null"`, `"[]"` for `sfu.json.empty_array`, `"[ ]"`
//! for an empty array of JSON, `true`, `false`, `{"i": n}` and `{"d": n}` for numbers, `{"s": text}` or `{"b": base64}`
//! for strings, `"{"` with keys and values and `"}"`, `"#"` likewise for a table that `{"r": item}` refers to.

use std::collections::HashMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

/// The list; `None` for bytes that [`super::encode`] has not written.
pub fn list(bytes: &[u8]) -> Option<Vec<Value>> {
    let (mut items, mut at, mut starts) = (Vec::new(), 0, HashMap::new());
    let number = |at: &mut usize| -> Option<u32> {
        let chunk = bytes.get(*at..)?.first_chunk::<4>()?;
        *at += 4;
        Some(u32::from_le_bytes(*chunk))
    };
    while let Some(tag) = bytes.get(at) {
        let start = at;
        at += 1;
        items.push(match tag {
            b'n' => json!("nil"),
            b'f' => json!(false),
            b't' => json!(true),
            b'0' => json!("null"),
            b'a' => json!("[]"),
            b'e' => json!("[ ]"),
            b'{' => json!("{"),
            b'}' => json!("}"),
            b'#' => {
                starts.insert(start as u32, items.len());
                json!("#")
            }
            b'r' => json!({ "r": starts.get(&number(&mut at)?)? }),
            b'i' => json!({ "i": number(&mut at)?.cast_signed() }),
            b'd' => {
                let bits = u64::from_le_bytes(*bytes.get(at..)?.first_chunk::<8>()?);
                at += 8;
                let value = f64::from_bits(bits);
                if value.is_finite() { json!({ "d": value }) } else { json!({ "bits": bits }) }
            }
            b's' | b'S' => {
                let length = if *tag == b'S' { number(&mut at)? as usize } else { usize::from(*bytes.get(at)?) };
                at += usize::from(*tag == b's');
                let text = bytes.get(at..)?.get(..length)?;
                at += length;
                match std::str::from_utf8(text) {
                    Ok(text) => json!({ "s": text }),
                    Err(_) => json!({ "b": STANDARD.encode(text) }),
                }
            }
            _ => return None,
        });
    }
    Some(items)
}

/// The bytes again; `None` for what is not a list of [`list`]'s. Whether they are a value is for [`super::decode`] to say.
pub fn unlist(items: &[Value]) -> Option<Vec<u8>> {
    let (mut bytes, mut starts) = (Vec::new(), HashMap::new());
    for (n, item) in items.iter().enumerate() {
        match item {
            Value::Bool(flag) => bytes.push(if *flag { b't' } else { b'f' }),
            Value::String(word) => {
                let tag = match word.as_str() {
                    "nil" => b'n',
                    "null" => b'0',
                    "[]" => b'a',
                    "[ ]" => b'e',
                    tag @ ("{" | "}" | "#") => tag.as_bytes()[0],
                    _ => return None,
                };
                if tag == b'#' {
                    starts.insert(n as u64, u32::try_from(bytes.len()).ok()?);
                }
                bytes.push(tag);
            }
            Value::Object(fields) => {
                let (kind, value) = fields.iter().next()?;
                put_scalar(&mut bytes, kind, value, &starts)?;
            }
            _ => return None,
        }
    }
    Some(bytes)
}

fn put_scalar(bytes: &mut Vec<u8>, kind: &str, value: &Value, starts: &HashMap<u64, u32>) -> Option<()> {
    let (tag, payload) = match kind {
        "i" => (b'i', i32::try_from(value.as_i64()?).ok()?.to_le_bytes().to_vec()),
        "d" => (b'd', value.as_f64()?.to_le_bytes().to_vec()),
        "bits" => (b'd', value.as_u64()?.to_le_bytes().to_vec()),
        "r" => (b'r', starts.get(&value.as_u64()?)?.to_le_bytes().to_vec()),
        "s" => return put_text(bytes, value.as_str()?.as_bytes()),
        "b" => return put_text(bytes, &STANDARD.decode(value.as_str()?).ok()?),
        _ => return None,
    };
    bytes.push(tag);
    bytes.extend(payload);
    Some(())
}

fn put_text(bytes: &mut Vec<u8>, text: &[u8]) -> Option<()> {
    match u8::try_from(text.len()) {
        Ok(length) => bytes.extend([b's', length]),
        Err(_) => {
            bytes.push(b'S');
            bytes.extend(u32::try_from(text.len()).ok()?.to_le_bytes());
        }
    }
    bytes.extend(text);
    Some(())
}

#[cfg(test)]
mod tests {
    use mlua::Lua;

    use super::*;
    use crate::plain::{Limits, MAX_DEPTH, decode, encode};

    const VALUE: &str = "local t = { 'shared', 2 ^ 40, 0.1, -7 } t[7] = t[1]
      return { t, t, [true] = false, ['\\255'] = ('x'):rep(300), inf = 1 / 0, deep = { { {} } }, [3.5] = 'é' }";

    #[test]
    fn a_value_crosses_as_a_list() {
        let lua = Lua::new();
        let limits = Limits { bytes: 10_000, depth: MAX_DEPTH, values: 1_000 };
        let bytes = encode(&lua.load(VALUE).eval().unwrap(), limits).unwrap();
        let listed = list(&bytes).unwrap();
        let text = serde_json::to_string(&listed).unwrap();
        let again = unlist(&serde_json::from_str::<Vec<Value>>(&text).unwrap()).unwrap();
        assert_eq!(again, bytes, "{text}");
        assert!(decode(&lua, &again).is_ok() && text.contains("{\"r\":2}"), "{text}");
    }

    #[test]
    fn what_is_no_list_is_refused() {
        for bad in [json!(null), json!("x"), json!({}), json!({ "i": 1e20 }), json!({ "r": 0 }), json!({ "b": "*" })] {
            assert_eq!(unlist(std::slice::from_ref(&bad)), None, "{bad}");
        }
        for bad in [&b"x"[..], b"i\0", b"s\x05ab", b"r\0\0\0\0", b"d\0"] {
            assert_eq!(list(bad), None, "{bad:?}");
        }
    }
}
