use mlua::{Lua, Value};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::json;

use super::*;

const LIMITS: Limits = Limits { bytes: 256 << 10, depth: 64, values: 100_000 };

/// `deep_equal(a, b)` by rawget, telling NaN and -0 apart, and identical when tables are shared alike.
const DEEP_EQUAL: &str = r##"
local function same(a, b, seen)
  if type(a) ~= type(b) then return false end
  if type(a) == "number" then return (a ~= a and b ~= b) or (a == b and 1 / a == 1 / b) end
  if type(a) ~= "table" then return a == b end
  if seen[a] or seen[b] then return seen[a] == b and seen[b] == a end
  seen[a], seen[b] = b, a
  local count = 0
  for key, value in next, a do
    count = count + 1
    local other = rawget(b, key)
    if type(key) == "table" then
      for candidate, held in next, b do
        if type(candidate) == "table" and same(key, candidate, seen) then other = held end
      end
    end
    if other == nil or not same(value, other, seen) then return false end
  end
  for _ in next, b do count = count - 1 end
  return count == 0
end
return function(a, b) return same(a, b, {}) end
"##;

fn eval(lua: &Lua, chunk: &str) -> Value {
    lua.globals().set("NULL", NULL).expect("sets");
    lua.globals().set("EMPTY", EMPTY_ARRAY).expect("sets");
    lua.load(chunk).set_name("=chunk").eval().expect(chunk)
}

fn encode_chunk(chunk: &str) -> Result<Vec<u8>, String> {
    let lua = Lua::new();
    encode(&eval(&lua, chunk), LIMITS).map_err(|error| error.to_string())
}

fn json_of(chunk: &str) -> Result<String, String> {
    let lua = Lua::new();
    let json = to_json(&eval(&lua, chunk), LIMITS, &mut || false).map_err(|error| error.to_string())?;
    Ok(json.to_string())
}

/// Into another state and back into the first, to be compared there.
fn assert_crosses(lua: &Lua, equal: &mlua::Function, value: &Value, what: &str) {
    let bytes = encode(value, LIMITS).expect(what);
    let other = Lua::new();
    let there = decode(&other, &bytes).expect(what);
    let back = encode(&there, LIMITS).expect(what);
    assert_eq!(back.len(), bytes.len(), "{what}");
    let back = decode(lua, &back).expect(what);
    assert!(equal.call::<bool>((value, back)).expect(what), "{what}");
}

#[test]
fn plain_values_cross_a_reload_exactly() {
    let lua = Lua::new();
    let equal: mlua::Function = lua.load(DEEP_EQUAL).eval().expect("a function");
    for chunk in [
        "return nil",
        "return true",
        "return false",
        "return 0",
        "return -0",
        "return 0/0",
        "return 1/0",
        "return -1/0",
        "return 1e308",
        "return 5e-324",
        "return 2^31",
        "return -2^31",
        "return 2^53",
        "return 2^63",
        "return -2^63",
        "return 0.1",
        "return ''",
        "return 'a\\0b\\255'",
        "return ('x'):rep(255)",
        "return ('x'):rep(256)",
        "return ('x'):rep(70000)",
        "return {}",
        "return {1, 2, 3}",
        "return {1, nil, 3}",
        "return {1, 2, x = {y = {}}}",
        "return {[1.5] = 1, [-1] = 2, [1/0] = 3}",
        "return {[true] = false, [false] = true}",
        "return {[''] = '', ['\\255'] = '\\0'}",
        "return {[{}] = 1}",
        "local t = {} return {t, t, a = t}",
        "local k = {} return {[k] = k}",
        "local t = {{}} return {t[1], t, t[1]}",
        "return NULL",
        "return {NULL, EMPTY}",
        "return setmetatable({1}, {__index = error, __pairs = error, __len = error})",
        "local t = {1} for i = 1, 30 do t = {t, t} end return t",
        "local t = {} for i = 1, 20000 do t[i] = i end return t",
        "local t = {} for i = 1, 9000 do t[i] = {i} end return t",
        "local t = {} for i = 1, 9000 do t[i] = {} t[-i] = t[i] end return t",
        "local t = 1 for i = 1, 64 do t = {t} end return t",
    ] {
        assert_crosses(&lua, &equal, &eval(&lua, chunk), chunk);
    }
}

#[test]
fn random_values_cross_a_reload_exactly() {
    let lua = Lua::new();
    let equal: mlua::Function = lua.load(DEEP_EQUAL).eval().expect("a function");
    let mut random = StdRng::seed_from_u64(7);
    let other = Lua::new();
    for round in 0..6_000 {
        let value = random_value(&lua, &mut random, 4, &mut Vec::new());
        let bytes = encode(&value, LIMITS).expect("plain");
        let there = decode(&other, &bytes).expect("decodes");
        let back = decode(&lua, &encode(&there, LIMITS).expect("plain")).expect("decodes");
        assert!(equal.call::<bool>((value, back)).expect("compares"), "round {round}");
    }
}

fn random_value(lua: &Lua, random: &mut StdRng, depth: usize, tables: &mut Vec<Table>) -> Value {
    match random.random_range(0..if depth == 0 { 6 } else { 10 }) {
        0 => Value::Nil,
        1 => Value::Boolean(random.random()),
        2 => Value::Integer(random.random_range(-3..3)),
        3 => Value::Number(f64::from_bits(random.random())),
        4 => Value::Number(f64::from(random.random::<i32>()) * 4.0),
        5 => {
            let bytes: Vec<u8> = (0..random.random_range(0..6)).map(|_| random.random()).collect();
            Value::String(lua.create_string(bytes).expect("a string"))
        }
        6 if !tables.is_empty() => Value::Table(tables[random.random_range(0..tables.len())].clone()),
        _ => {
            let table = lua.create_table().expect("a table");
            for index in 1..random.random_range(1..6_i64) {
                let key = match random_value(lua, random, 0, tables) {
                    Value::Nil => Value::Integer(index),
                    Value::Number(number) if number.is_nan() => Value::Integer(index),
                    key => key,
                };
                table.raw_set(key, random_value(lua, random, depth - 1, tables)).expect("sets");
            }
            // Finished, so that sharing it makes no cycle.
            tables.push(table.clone());
            Value::Table(table)
        }
    }
}

#[test]
fn what_cannot_cross_a_reload_is_named() {
    for (chunk, expected) in [
        ("return print", "state: a function can't cross a reload"),
        (
            "return {participants = {a = {socket = print}}}",
            "state.participants.a.socket: a function can't cross a reload",
        ),
        (
            "return {participants = {['a b'] = {socket = print}}}",
            "state.participants[\"a b\"].socket: a function can't cross a reload",
        ),
        (
            "return {[3] = {[1.5] = {[true] = coroutine.create(print)}}}",
            "state[3][1.5][true]: a coroutine can't cross a reload",
        ),
        ("return {x = newproxy()}", "state.x: a client can't cross a reload: take its id, client:get_id()"),
        ("return {x = {[print] = 1}}", "state.x: a function as a key can't cross a reload"),
        ("return {x = {[{y = print}] = 1}}", "state.x[a table].y: a function can't cross a reload"),
        ("local t = {} t.me = {t} return t", "state.me[1]: a table that contains itself can't cross a reload"),
        ("local t = {} t[t] = 1 return t", "state[a table]: a table that contains itself can't cross a reload"),
        ("return {['\\255\\n1'] = print}", "state[\"\u{fffd}\\n1\"]: a function can't cross a reload"),
        ("return {['1x'] = print}", "state[\"1x\"]: a function can't cross a reload"),
        ("return {[''] = print}", "state[\"\"]: a function can't cross a reload"),
        (
            "return {[('k'):rep(41)] = print}",
            "state[\"kkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkk…\"]: a function can't cross a reload",
        ),
        ("return {a = ('x'):rep(300000)}", "state.a: larger than 262144 bytes"),
        ("local t = {} for i = 1, 1e6 do t[i] = true end return t", "state: larger than 262144 bytes"),
        (
            "local t = {} for i = 1, 10000 do t = {t} end return t",
            "state[1][1][1][1][1][1][1][1]…[1][1][1][1][1][1][1][1]: nested more than 64 tables deep",
        ),
    ] {
        assert_eq!(encode_chunk(chunk), Err(expected.to_owned()), "{chunk}");
    }
    let lua = Lua::new();
    let few = Limits { values: 5, ..LIMITS };
    assert!(encode(&eval(&lua, "return {1, 2}"), few).is_ok());
    let error = encode(&eval(&lua, "return {1, 2, 3}"), few).expect_err("one too many");
    assert_eq!(error.to_string(), "state: more than 5 values");
}

#[test]
fn damaged_bytes_are_an_error_and_never_a_panic() {
    let lua = Lua::new();
    lua.set_memory_limit(8 << 20).expect("limits");
    let unlimited = Lua::new();
    let value = eval(&lua, "local s = {7} return {1, 'two', {x = s, y = s, [true] = 0.5}, ('z'):rep(300), NULL}");
    let bytes = encode(&value, LIMITS).expect("plain");
    for length in 0..bytes.len() {
        assert!(decode(&lua, &bytes[..length]).is_err(), "cut at {length}");
    }
    for bad in [
        &b""[..],
        b"x",
        b"nn",
        b"{",
        b"}",
        b"{n}",
        b"{nt}",
        b"{d\0\0\0\0\0\0\xf8\x7ft}",
        b"{t}",
        b"r\0\0\0\0",
        b"#ir\0\0\0\0}",
        b"#i\x01\0\0\0r\0\0\0\0}",
        b"s\x05abc",
        b"S\xff\xff\xff\xff",
        b"i\0\0\0",
        b"d\0",
    ] {
        assert!(decode(&lua, bad).is_err(), "{}", bad.escape_ascii());
        // Without a cap mlua calls Lua unprotected: a bad key must not get that far.
        assert!(decode(&unlimited, bad).is_err(), "{}", bad.escape_ascii());
    }
    assert!(decode(&lua, &b"{".repeat(1 << 20)).is_err());
    assert!(decode(&lua, &b"{i\0\0\0\0".repeat(1 << 16)).is_err());
    let mut random = StdRng::seed_from_u64(11);
    for _ in 0..20_000 {
        let mut mutated = bytes.clone();
        for _ in 0..random.random_range(1..4) {
            let at = random.random_range(0..mutated.len());
            mutated[at] = if random.random() { random.random() } else { b"nfti dsS{#}r0a"[random.random_range(0..14)] };
        }
        if let Ok(value) = decode(&lua, &mutated) {
            encode(&value, LIMITS).expect("what decodes is plain");
        }
    }
}

#[test]
fn decoding_ends_at_the_memory_cap_of_the_state() {
    let rich = Lua::new();
    let bytes = encode(&eval(&rich, "local t = {} for i = 1, 8000 do t[i] = {i} end return t"), LIMITS).expect("plain");
    let poor = Lua::new();
    poor.set_memory_limit(poor.used_memory() + (200 << 10)).expect("limits");
    let error = decode(&poor, &bytes).expect_err("too much");
    assert!(matches!(error, mlua::Error::MemoryError(_)), "{error:?}");
}

#[test]
fn plain_values_become_json() {
    for (chunk, expected) in [
        ("return nil", "null"),
        ("return NULL", "null"),
        ("return true", "true"),
        ("return 3.0", "3"),
        ("return -0.5", "-0.5"),
        ("return 2^53", "9007199254740992"),
        ("return 1e300", "1e+300"),
        ("return 'a\"\\n\\0\u{e9}'", "\"a\\\"\\n\\u0000\u{e9}\""),
        ("return {}", "{}"),
        ("return EMPTY", "[]"),
        ("return {1, 'a', {true}}", "[1,\"a\",[true]]"),
        ("return {[2] = 'b', [1] = 'a', [3] = 'c'}", "[\"a\",\"b\",\"c\"]"),
        ("return {b = 1, a = {x = NULL, y = EMPTY}}", "{\"a\":{\"x\":null,\"y\":[]},\"b\":1}"),
        ("return {['1'] = 'text key'}", "{\"1\":\"text key\"}"),
        ("local t = {1} return {t, t}", "[[1],[1]]"),
        ("return setmetatable({1}, {__index = error, __len = error, __tostring = error})", "[1]"),
    ] {
        assert_eq!(json_of(chunk).as_deref(), Ok(expected), "{chunk}");
    }
}

#[test]
fn what_json_has_no_word_for_is_named() {
    for (chunk, expected) in [
        ("return {a = {print}}", "value.a[1]: a function can't become JSON"),
        ("return {a = 0/0}", "value.a: NaN can't become JSON"),
        ("return {-1/0}", "value[1]: an infinite number can't become JSON"),
        ("return {a = '\\255'}", "value.a: a string that is not UTF-8 can't become JSON"),
        ("return {a = {['\\255'] = 1}}", "value.a[\"\u{fffd}\"]: a string that is not UTF-8 can't become JSON"),
        ("return {a = {1, x = 2}}", "value.a: a table with both list entries and named ones can't become JSON"),
        ("return {a = {1, [3] = 2}}", "value.a: a list with holes can't become JSON"),
        ("return {a = {[0] = 2}}", "value.a: a list with holes can't become JSON"),
        ("return {a = {[1.5] = 2}}", "value.a: a number as a key can't become JSON"),
        ("return {a = {[true] = 2}}", "value.a: a boolean as a key can't become JSON"),
        ("local t = {} t.a = {t} return t", "value.a[1]: a table that contains itself can't become JSON"),
        (
            "local t = {1} for i = 1, 30 do t = {t, t} end return t",
            "value[1][1][1][1][1][1][1][1]…[2][2][2][2][2][2][1][2]: larger than 262144 bytes",
        ),
        ("local t = {} for i = 1, 1e6 do t[i] = true end return t", "value[43691]: larger than 262144 bytes"),
        (
            "local t = {} for i = 1, 10000 do t = {x = t} end return t",
            "value.x.x.x.x.x.x.x.x….x.x.x.x.x.x.x.x: nested more than 64 tables deep",
        ),
    ] {
        assert_eq!(json_of(chunk), Err(expected.to_owned()), "{chunk}");
    }
}

#[test]
fn json_becomes_values_and_json_again() {
    let lua = Lua::new();
    for json in [
        json!(null),
        json!(true),
        json!(0),
        json!(-7),
        json!(0.25),
        json!("text \u{1F600} \0"),
        json!({}),
        json!([1, [2, [3]]]),
        json!({"a": null, "b": [null, 1, null], "c": {"1": "x"}, "": ""}),
    ] {
        let value = from_json(&lua, &json, &mut || false).expect("a value");
        assert_eq!(to_json(&value, LIMITS, &mut || false), Ok(json));
    }
    let value = from_json(&lua, &json!({"a": null, "list": [], "big": u64::MAX}), &mut || false).expect("a value");
    lua.globals().set("v", value).expect("sets");
    assert_eq!(eval(&lua, "return v.a == NULL and #v.list == 0 and v.big == 2^64"), Value::Boolean(true));
}

#[test]
fn deep_json_is_refused_and_long_work_stops_when_told() {
    let lua = Lua::new();
    let deep = (0..200).fold(json!(1), |inner, _| json!([inner]));
    let error = from_json(&lua, &deep, &mut || false).expect_err("too deep");
    assert_eq!(error.to_string(), "runtime error: value: nested more than 128 tables deep");
    let long = json!(vec![1; 10_000]);
    assert!(from_json(&lua, &long, &mut || true).is_err());
    let value = from_json(&lua, &long, &mut || false).expect("a value");
    let error = to_json(&value, LIMITS, &mut || true).expect_err("interrupted");
    assert_eq!(error.to_string(), "value[255]: interrupted");
}

#[test]
fn the_size_of_json_is_counted_as_it_is_written() {
    let lua = Lua::new();
    for chunk in ["return {1, 22, 3.5}", "return {a = 'x\\n\\1\"', bb = {NULL}}", "return {[1] = EMPTY, [2] = {}}"] {
        let value = eval(&lua, chunk);
        let text = to_json(&value, LIMITS, &mut || false).expect(chunk).to_string();
        // A comma too many per table is all it may be off.
        let exact = Limits { bytes: text.len() + 2, ..LIMITS };
        assert!(to_json(&value, exact, &mut || false).is_ok(), "{chunk}");
        let short = Limits { bytes: text.len() - 1, ..LIMITS };
        assert!(to_json(&value, short, &mut || false).is_err(), "{chunk}");
    }
}
