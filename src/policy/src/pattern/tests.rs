//! The second implementation is LuaJIT's own string library: everything is asked of both, results and messages are compared.

use mlua::{Function, Lua};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::*;

/// Asks all four functions about a subject and a pattern, and writes down all that comes back.
const PROBE: &str = r##"
local function show(...)
  local texts = {}
  for i = 1, select("#", ...) do texts[i] = type((select(i, ...))) .. ":" .. tostring((select(i, ...))) end
  return select("#", ...) .. "[" .. table.concat(texts, ",") .. "]"
end
local indexed = setmetatable({a = "A", b = 7, x = false}, {__index = function(_, key) return key == 1 and "one" or nil end})
local function all(subject, pattern)
  local seen = {}
  for a, b, c in string.gmatch(subject, pattern) do
    seen[#seen + 1] = show(a, b, c)
    if #seen > 50 then break end
  end
  return table.concat(seen, " ")
end
return function(subject, pattern, init)
  local function gsub(replacement, limit)
    local text, count = string.gsub(subject, pattern, replacement, limit)
    return text, count
  end
  return table.concat({
    show(pcall(string.find, subject, pattern, init)),
    show(pcall(string.find, subject, pattern, init, true)),
    show(pcall(string.match, subject, pattern, init)),
    show(pcall(function() local a, b = string.match(subject, pattern, init) return a, b end)),
    show(pcall(all, subject, pattern)),
    show(pcall(gsub, "<%0>")),
    show(pcall(gsub, "%1%%%2%")),
    show(pcall(gsub, "", init)),
    show(pcall(gsub, indexed)),
    show(pcall(gsub, function(...) return show(...) end)),
    show(pcall(gsub, function(a, b) return b end, init)),
    show(pcall(gsub, function(a) if a == "b" then return {} end end)),
  }, "\n")
end
"##;

struct Both {
    _states: [Lua; 2],
    probes: [Function; 2],
}

impl Both {
    fn new() -> Self {
        let states = [ours(), Lua::new()];
        let probes = states.each_ref().map(|lua| lua.load(PROBE).set_name("=probe").eval().expect("a function"));
        Self { _states: states, probes }
    }

    fn compare(&self, subject: &[u8], pattern: &[u8], init: Option<i64>) {
        let [ours, theirs] = self.probes.each_ref().map(|probe| {
            let arguments = (mlua::BString::from(subject), mlua::BString::from(pattern), init);
            probe.call::<mlua::BString>(arguments).expect("a description")
        });
        assert_eq!(
            ours,
            theirs,
            "{:?} {:?} {init:?}",
            subject.escape_ascii().to_string(),
            pattern.escape_ascii().to_string()
        );
    }
}

fn ours() -> Lua {
    let lua = Lua::new();
    let strings = lua.globals().get("string").expect("the string library");
    lua::install(&lua, &strings, || false).expect("installs");
    lua
}

/// Runs the chunk in both states: what it returns as text must be the same.
fn same(chunk: &str) -> String {
    let [ours, theirs] = [ours(), Lua::new()].map(|lua| {
        let result = lua.load(chunk).set_name("=chunk").eval::<mlua::Value>();
        result.expect(chunk).to_string().expect("text")
    });
    assert_eq!(ours, theirs, "{chunk}");
    ours
}

const SUBJECTS: [&[u8]; 9] = [
    b"",
    b"a",
    b"hello world",
    b"key = value; k2=v2",
    b"THE (quick (brown)) fox [x]",
    b"aaa\0bbb\xff\x80",
    b"  trim me\t\r\n",
    b"%d^$.*+-?[]",
    b"abcabcabc 2024-05-06T07:08:09Z 0xFFp 1.5e3",
];

const PATTERNS: [&[u8]; 104] = [
    b"",
    b"a",
    b".",
    b"%a+",
    b"%A+",
    b"%d+",
    b"%D*",
    b"%l-",
    b"%L+",
    b"%p",
    b"%P+",
    b"%s*",
    b"%S+",
    b"%u+",
    b"%U",
    b"%w+",
    b"%W",
    b"%x+",
    b"%X+",
    b"%z",
    b"%Z+",
    b"%c",
    b"%C+",
    b"%g+",
    b"%G",
    b"%y",
    b"%%",
    b"%.",
    b"%(",
    b"^",
    b"^a",
    b"^a*",
    b"a$",
    b"$",
    b"^$",
    b"$a",
    b"a^",
    b"%^",
    b"a?",
    b"a?a?a?aaa",
    b"a-b",
    b"a-$",
    b".-",
    b".-b",
    b"^.-$",
    b".*b",
    b"(.*)b(.*)",
    b"()",
    b"()()",
    b"(a)()",
    b"(())",
    b"((a)(b))",
    b"(a*(.)%w(%s*))",
    b"(.)%1",
    b"(.)(.)%2%1",
    b"(%a+)%s*=%s*(%w+)",
    b"(%w+)=(%w+)",
    b"%b()",
    b"%b[]",
    b"%baa",
    b"%bab",
    b"%b",
    b"%b(",
    b"%f[%w]%w+",
    b"%f[%W]",
    b"%f[%z]",
    b"%f[^%w]",
    b"%f",
    b"%fa",
    b"%f[",
    b"[a-c]+",
    b"[^a-c]+",
    b"[]]",
    b"[^]]+",
    b"[]-a]",
    b"[a-]",
    b"[-a]+",
    b"[%a_][%w_]*",
    b"[%]]",
    b"[%-x]",
    b"[a-%%]",
    b"[+-%%]",
    b"[^%s]",
    b"[",
    b"[^",
    b"[a",
    b"[]",
    b"[^]",
    b"[%",
    b"[%]",
    b"[a-",
    b"%",
    b"(",
    b")",
    b"(a",
    b"a)",
    b"%1",
    b"(%1)",
    b"()%1",
    b"%0",
    b"(a)%2",
    b"a\0b",
    b"a.\0(",
    b"[\0]",
];

#[test]
fn every_pattern_of_the_table_does_what_luajit_does() {
    let both = Both::new();
    for subject in SUBJECTS {
        for pattern in PATTERNS {
            for init in [None, Some(3), Some(-2)] {
                both.compare(subject, pattern, init);
            }
        }
    }
}

#[test]
fn random_patterns_do_what_luajit_does() {
    const PIECES: [&[u8]; 44] = [
        b"a", b"b", b"x", b".", b"%a", b"%d", b"%s", b"%w", b"%W", b"%p", b"%g", b"%u", b"*", b"+", b"-", b"?", b"(",
        b")", b"()", b"(a", b"b)", b"(.)", b"(.-)", b"%1", b"%2", b"[ab]", b"[^a]", b"[a-c]", b"[%w_]", b"[", b"]",
        b"^", b"$", b"%b()", b"%bab", b"%f[a]", b"%f[%W]", b"%", b"%%", b"\0", b"[^%z]", b"\xff", b" ", b"1",
    ];
    const LETTERS: &[u8] = b"aaabbbabx1 ()[_%\0\xffA";
    let both = Both::new();
    let mut random = StdRng::seed_from_u64(0x6d6f_6f6e);
    for _ in 0..12_000 {
        let pattern: Vec<u8> = (0..random.random_range(1..8))
            .flat_map(|_| PIECES[random.random_range(0..PIECES.len())])
            .copied()
            .collect();
        let subject: Vec<u8> =
            (0..random.random_range(0..20)).map(|_| LETTERS[random.random_range(0..LETTERS.len())]).collect();
        let init = random.random_bool(0.5).then(|| random.random_range(-6..12));
        // Twelve questions each.
        both.compare(&subject, &pattern, init);
    }
}

#[test]
fn arguments_are_read_and_refused_as_by_luajit() {
    const CALLS: [&str; 38] = [
        "string.find()",
        "string.find(nil)",
        "string.find('a')",
        "string.find('a', nil)",
        "string.find({}, 'a')",
        "string.find('a', 'a', {})",
        "string.find('a', 'a', 'x')",
        "string.find(print, 'a')",
        "string.find('a', true)",
        "('a'):find()",
        "('a'):find(nil)",
        "string.find(coroutine.create(print), 'a')",
        "string.find(1234, 23)",
        "string.find('a1.5b', 1.5)",
        "string.find('abcabc', 'b', '3')",
        "string.find('abc', 'b', 1.9)",
        "string.find('abc', 'b', 1e10)",
        "string.find('abc', 'b', -1e10)",
        "string.find('abc', '', 10)",
        "string.find('abc', 'b', 0/0)",
        "string.match()",
        "string.match('a', {})",
        "('a'):match({})",
        "string.gmatch()",
        "string.gmatch('a')",
        "('a'):gmatch()",
        "string.gmatch('a', 'a', 1)",
        "string.gsub()",
        "string.gsub('a')",
        "string.gsub('a', 'a')",
        "string.gsub('a', 'a', nil)",
        "string.gsub('a', 'a', true)",
        "string.gsub('a', 'a', 'b', 'x')",
        "('a'):gsub('a', 'b', {})",
        "string.gsub('aaa', 'a', 1.5, 2)",
        "string.gsub('aaa', 'a', 'b', math.huge)",
        "string.gsub('aaa', 'a', 'b', -1)",
        "string.gsub(123, 2, {['2'] = 7})",
    ];
    for call in CALLS {
        same(&format!(
            "local a, b, c = pcall(function() local a, b = {call} return type(a) == 'function' or a, b end) return tostring(a) .. tostring(b) .. tostring(c)"
        ));
    }
    assert_eq!(
        same("local _, e = pcall(function() local a = string.find(nil) end) return e"),
        "chunk:1: bad argument #1 to 'find' (string expected, got nil)"
    );
    assert_eq!(same("local f = string.find return select(2, pcall(f, 'a', '['))"), "malformed pattern (missing ']')");
    same("local f = string.find return select(2, pcall(function() local x = f(nil) end))");
}

#[test]
fn callbacks_fail_and_nest_as_in_luajit() {
    for chunk in [
        "return (string.gsub('abc', '%w', function(c) return (string.gsub(c, '.', function(d) return d .. d end)) end))",
        "return select(2, pcall(string.gsub, 'abc', '%w', function(c) error('own') end))",
        "return tostring(select(2, pcall(string.gsub, 'abc', '%w', function(c) error({}) end)) ~= nil)",
        "return select(2, pcall(string.gsub, 'abc', '%w', setmetatable({}, {__index = function(t, k) error('own ' .. k) end})))",
        "return select(2, pcall(string.gsub, 'abc', '%w', function() return print end))",
        "local n = 0 local s = string.gsub('hello world', '()%w+()', function(a, b) n = n + a * b end) return s .. n",
        "local t = {} for k, v in string.gmatch('a=1, b=2', '(%w+)=(%w+)') do t[#t + 1] = k .. v end return table.concat(t)",
        "local f = string.gmatch('a', 'a') f() return select('#', f()) .. select('#', f())",
        "return select(2, pcall(function() for w in string.gmatch('a', '(') do end end))",
    ] {
        same(chunk);
    }
}

#[test]
fn depth_and_captures_end_where_they_do_in_luajit() {
    let both = Both::new();
    let subject = [b'a'; 300];
    for (unit, counts) in
        [(&b"a?"[..], 195..=202), (b"(a)", 30..=34), (b"()", 30..=34), (b"a-", 195..=202), (b"a", 250..=250)]
    {
        for count in counts {
            both.compare(&subject, &unit.repeat(count), None);
        }
    }
}

#[test]
fn a_pattern_without_end_stops_when_told() {
    let subject = vec![b'a'; 50_000];
    let long_set = [b"[".to_vec(), vec![b'b'; 50_000], b"]*c".to_vec()].concat();
    let cases: [(&[u8], bool); 6] = [
        (b"a-a-a-a-a-a-b", false),
        (b".-.-.-.-.-b", false),
        (b"(.*)(.*)(.*)(.*)%1b", false),
        (b"%bab", false),
        (&long_set, false),
        (&subject[..25_000], true),
    ];
    let almost = [&subject[..], b"b"].concat();
    for (pattern, plain) in cases {
        let pattern = if plain { [pattern, b"c"].concat() } else { pattern.to_vec() };
        let mut polls = 0;
        let mut stop = || {
            polls += 1;
            polls == 20
        };
        let subject = if plain { &almost } else { &subject };
        let outcome = find(subject, &pattern, 0, plain, &mut stop);
        assert_eq!(outcome, Err(PatternError::Interrupted), "{}", pattern[..10].escape_ascii());
        assert_eq!(polls, 20);
    }
}

#[test]
fn a_substitution_without_output_stops_when_told() {
    let replacement = b"%1".repeat(10_000);
    let mut polls = 0;
    let mut stop = || {
        polls += 1;
        polls == 5
    };
    let outcome = substitute(&[b'a'; 10_000], b"()", &replacement, 10_000, usize::MAX, &mut stop);
    assert_eq!(outcome.map(|_| ()), Err(PatternError::Interrupted));
}

#[test]
fn an_interruption_is_an_error_in_the_script() {
    let lua = Lua::new();
    lua::install(&lua, &lua.globals().get("string").expect("a table"), || true).expect("installs");
    for call in ["find(s, p)", "match(s, p)", "gmatch(s, p)()", "gsub(s, p, '')", "gsub(s, p, {})", "gsub(s, p, print)"]
    {
        let chunk = format!(
            "local s, p = ('a'):rep(1000), '.-.-.-b' return select(2, pcall(function() local x = string.{call} end))"
        );
        let message: String = lua.load(chunk).set_name("=chunk").eval().expect("a message");
        assert_eq!(message, "chunk:1: interrupted", "{call}");
    }
}

#[test]
fn a_result_over_one_mebibyte_is_refused() {
    let lua = ours();
    for replacement in ["('x'):rep(1100)", "function() return ('x'):rep(1100) end", "{a = ('x'):rep(1100)}"] {
        let chunk = format!("return select(2, pcall(string.gsub, ('a'):rep(1000), 'a', {replacement}))");
        assert_eq!(lua.load(chunk).eval::<String>().expect("a message"), "resulting string too large", "{replacement}");
    }
    let exactly = "return #string.gsub(('a'):rep(1024), 'a', ('x'):rep(1024))";
    assert_eq!(lua.load(exactly).eval::<usize>().expect("a length"), lua::MAX_GSUB_BYTES);
}
