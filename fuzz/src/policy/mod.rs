//! The targets that need moonring-policy: patterns over clients' text, their tokens, plain data, scripts themselves, and
//! recordings of rooms.

mod recording;
mod tokens;

use std::time::Instant;

use mlua::{BString, Function, Lua};
use moonring_policy::pattern::{self, Match, PatternError};
use moonring_policy::plain::{self, Limits};
use moonring_policy::tools::check::check;
use moonring_policy::tools::names::Names;

use super::target::{Parts, Target, joined};

/// The targets.
pub const TARGETS: &[Target] = &[
    Target { name: "pattern", run: pattern, seeds: pattern_seeds },
    Target { name: "plain", run: plain, seeds: plain_seeds },
    Target { name: "script", run: script, seeds: script_seeds },
    Target { name: "tokens", run: tokens::tokens, seeds: tokens::tokens_seeds },
    Target { name: "recording", run: recording::recording, seeds: recording::recording_seeds },
];

/// How often a match asks whether to go on, each time after a thousand steps or so, before it is told to stop.
const PATIENCE: u32 = 20;
const LIMITS: Limits = Limits { bytes: 64 * 1024, depth: 32, values: 10_000 };

thread_local! {
    /// LuaJIT's own `string.find` and `string.gsub`.
    static LUAJIT: (Function, Function, Lua) = {
        let lua = Lua::new();
        let strings: mlua::Table = lua.globals().get("string").expect("the library");
        (strings.get("find").expect("a function"), strings.get("gsub").expect("a function"), lua)
    };
    static STATE: Lua = Lua::new();
    static NAMES: Names = Names::of_sandbox(Instant::now()).expect("a sandbox");
}

/// Subject and pattern: what ours finds in bounded time, LuaJIT finds at the same place, and replaces alike.
fn pattern(bytes: &[u8]) {
    let mut parts = Parts(bytes);
    let (Some(subject), Some(pattern)) = (parts.next(), parts.next()) else { return };
    let init = parts.next().map_or(0, <[u8]>::len).min(subject.len());
    let ours = with_patience(|stop| pattern::find(subject, pattern, init, false, stop));
    let replaced = with_patience(|stop| pattern::substitute(subject, pattern, b"<%0>", usize::MAX, 1 << 16, stop));
    // A zero ends LuaJIT's patterns, and ours are plain bytes there.
    if pattern.contains(&0) {
        return;
    }
    let arguments = || (BString::from(subject), BString::from(pattern));
    LUAJIT.with(|(find, gsub, _)| {
        if let Some(ours) = ours {
            let (subject, pattern) = arguments();
            let theirs = find.call::<(Option<usize>, Option<usize>)>((subject, pattern, init + 1));
            // An unfinished capture is an error once it is asked for.
            let place = |found: Match| {
                let captures = (0..found.count()).map(|n| found.capture(n)).collect::<Result<Vec<_>, _>>();
                captures.map(|_| (found.range().start + 1, found.range().end))
            };
            let ours = ours.and_then(|found| found.map(place).transpose());
            assert_eq!(ours.ok(), theirs.ok().map(|(start, end)| start.zip(end)), "{:?} {init}", arguments());
        }
        if let Some(ours) = replaced {
            let (subject, pattern) = arguments();
            let theirs = gsub.call::<(BString, usize)>((subject, pattern, "<%0>"));
            let ours = ours.map(|(text, count)| (BString::from(text), count));
            assert_eq!(ours.ok(), theirs.ok(), "{:?}", arguments());
        }
    });
}

/// What came of it; none if it was stopped.
fn with_patience<T>(
    work: impl FnOnce(&mut dyn FnMut() -> bool) -> Result<T, PatternError>,
) -> Option<Result<T, PatternError>> {
    let mut polls = 0;
    let result = work(&mut || {
        polls += 1;
        polls > PATIENCE
    });
    (polls <= PATIENCE).then_some(result)
}

fn pattern_seeds() -> Vec<Vec<u8>> {
    let pairs: &[(&str, &str)] = &[
        ("key = value", "^(%w+)%s*=%s*(%w+)$"),
        ("a(b(c)d)e", "%b()"),
        ("THE (quick) fox", "%f[%a]%a+"),
        ("aXb[c]-d", "[%a%-][^%]]?"),
        ("xyzxyz", "()(x.-z)%2"),
        ("2026-11-22", "(%d+)-(%d+)"),
    ];
    pairs.iter().map(|(subject, pattern)| joined([subject.as_bytes(), pattern.as_bytes(), b""])).collect()
}

/// What crosses a reload, and JSON: what can be read, can be written and read again.
fn plain(bytes: &[u8]) {
    STATE.with(|lua| {
        if let Ok(value) = plain::decode(lua, bytes)
            && let Ok(encoded) = plain::encode(&value, LIMITS)
        {
            assert!(plain::decode(lua, &encoded).is_ok());
        }
        if let Ok(json) = serde_json::from_slice::<serde_json::Value>(bytes)
            && let Ok(value) = plain::from_json(lua, &json, &mut || false)
            && let Ok(once) = plain::to_json(&value, LIMITS, &mut || false)
        {
            let value = plain::from_json(lua, &once, &mut || false).expect("what was written");
            assert_eq!(plain::to_json(&value, LIMITS, &mut || false), Ok(once));
        }
    });
}

fn plain_seeds() -> Vec<Vec<u8>> {
    let texts = [
        r#"{"a":[1,2.5,null,"x",{"b":false}],"c":[],"d":-1e300,"e":"\u00e4\ud83d\ude00"}"#,
        r#"[[[[]]],{"":{"":0}},9007199254740993,0.1]"#,
    ];
    let lua = Lua::new();
    let tables =
        ["local t = {1, 2} return {t, t, [true] = 'x', [0.5] = {k = 'long text'}}", "return {1, nil, 3, a = {}}"];
    let encoded = tables.iter().map(|table| {
        let value = lua.load(*table).eval().expect("a table");
        plain::encode(&value, LIMITS).expect("plain")
    });
    texts.iter().map(|text| text.as_bytes().to_vec()).chain(encoded).collect()
}

/// A script: compiled, and looked at as `moonring check` does.
fn script(bytes: &[u8]) {
    NAMES.with(|names| {
        let report = check("fuzzed.lua", bytes, names);
        assert!(report.findings.iter().all(|finding| finding.line as usize <= bytes.len() + 1));
    });
}

fn script_seeds() -> Vec<Vec<u8>> {
    let small = "STATE_VERSION = 2
local seen, n = {}, 0
function on_client_connect(client, auth_token)
  seen[client:get_id()] = true n = n + #seen
  for key, value in pairs(seen) do client:sned(key) end
  return auth_token:match(\"^%w+$\") ~= nil and not not sfu.jwt_verify
end --[==[ a comment ]==]
local function on_message() goto done ::done:: end";
    let shipped = include_bytes!("../../../scripts/default_room.lua");
    vec![small.into(), shipped.to_vec(), b"return [[x]] .. 0x1p4 .. '\\z \\x41\\065'".to_vec()]
}
