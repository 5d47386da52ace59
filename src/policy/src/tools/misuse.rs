//! Calls that are written as one would guess them, and do something else: functions of `sfu` with a colon, lists in the place of
//! iterators, results that may be nil and are looked into at once, waits in the main chunk.

use std::collections::BTreeSet;

use super::mistakes::{block_length, is_field, kinds};
use crate::tokens::{Kind, Token};

/// Functions whose answer is nil where there is none.
const MAY_BE_NIL: &[&str] = &[
    "sfu.client",
    "sfu.http",
    "sfu.jwks",
    "sfu.jwt_verify",
    "sfu.json.decode",
    "sfu.base64.decode",
    "sfu.shared.get",
    "sfu.store.get",
    "sfu.store.global.get",
];
/// Functions that wait, and tables of such.
const WAITING: &[&str] = &["sfu.flush", "sfu.http", "sfu.jwks", "sfu.shared", "sfu.sleep", "sfu.store"];

/// Line and message of each; `paths` are the names of the sandbox, as `sfu.store.get`.
pub(super) fn misuses(tokens: &[Token<'_>], paths: &BTreeSet<String>) -> Vec<(u32, String)> {
    let mut found = Vec::new();
    for at in 0..tokens.len() {
        let message = match tokens[at].kind {
            Kind::Name("sfu") if !is_field(tokens, at) => of_sfu(tokens, at, paths),
            Kind::Name("for") if !is_field(tokens, at) => of_loop(tokens, at),
            _ => None,
        };
        found.extend(message.map(|message| (tokens[at].line, message)));
    }
    found
}

/// Waits in the main chunk of a script: those in functions come later.
pub(super) fn waits_in_main_chunk(tokens: &[Token<'_>]) -> Vec<(u32, String)> {
    let (mut found, mut at) = (Vec::new(), 0);
    while at < tokens.len() {
        match tokens[at].kind {
            Kind::Name("function") => at += block_length(&tokens[at + 1..]),
            Kind::Name("sfu") if !is_field(tokens, at) => {
                let (path, end) = path_at(tokens, at);
                let waits = WAITING.iter().any(|one| path == **one || path.starts_with(&format!("{one}.")));
                if waits && is_call(tokens, end) {
                    found.push((tokens[at].line, format!("the main chunk cannot wait, so '{path}' is an error here")));
                }
            }
            _ => {}
        }
        at += 1;
    }
    found
}

fn of_sfu(tokens: &[Token<'_>], at: usize, paths: &BTreeSet<String>) -> Option<String> {
    let (path, end) = path_at(tokens, at);
    // What is in `sfu` and not a table of it is a value with methods of its own: `sfu.room_id:sub(1, 4)`.
    let is_function = |name: &str| path == "sfu" || paths.contains(&format!("{path}.{name}"));
    if let [Kind::Sign(":"), Kind::Name(name), Kind::Sign("(" | "{") | Kind::Text(_)] = kinds(tokens, end)
        && is_function(name)
    {
        return Some(format!("'{path}:{name}(...)': functions of sfu are called with '.', '{path}.{name}(...)'"));
    }
    if !MAY_BE_NIL.contains(&path.as_str()) {
        return None;
    }
    let length = arguments_length(tokens, end)?;
    let [next] = kinds(tokens, end + length);
    let message = format!("'{path}(...)' may be nil: keep it in a local, and look at it first");
    matches!(next, Kind::Sign("." | ":" | "[")).then_some(message)
}

/// `for c in sfu.clients() do`, and `for c in ipairs(sfu.clients()) do c:kick()`.
fn of_loop(tokens: &[Token<'_>], at: usize) -> Option<String> {
    let [Kind::Name(first)] = kinds(tokens, at + 1) else { return None };
    let mut from = at + 2;
    let mut names = 1;
    while let [Kind::Sign(","), Kind::Name(_)] = kinds(tokens, from) {
        (from, names) = (from + 2, names + 1);
    }
    if kinds(tokens, from) != [Kind::Name("in")] {
        return None;
    }
    from += 1;
    if let Some((list, length)) = list_at(tokens, from) {
        let is_all = kinds(tokens, from + length) == [Kind::Name("do")];
        return is_all.then(|| format!("'{list}' is a list: loop with 'for _, {first} in ipairs({list}) do'"));
    }
    let [Kind::Name("ipairs" | "pairs"), Kind::Sign("(")] = kinds(tokens, from) else { return None };
    let (list, length) = list_at(tokens, from + 2)?;
    let [Kind::Sign(")"), Kind::Name("do")] = kinds(tokens, from + 2 + length) else { return None };
    let rest = &tokens[from + 4 + length..];
    let body = &rest[..block_length(rest)];
    let looks_into = |at: usize| {
        body[at].kind == Kind::Name(first)
            && !is_field(body, at)
            && matches!(kinds(body, at + 1), [Kind::Sign("." | ":"), Kind::Name(_)])
    };
    let is_position = names == 1 && (0..body.len()).any(looks_into);
    is_position
        .then(|| format!("'{first}' is a position in the list here: loop with 'for _, {first} in ipairs({list}) do'"))
}

/// `sfu.clients()` or `x:tracks()` that begins here, and its tokens.
fn list_at(tokens: &[Token<'_>], at: usize) -> Option<(String, usize)> {
    match kinds(tokens, at) {
        [Kind::Name("sfu"), Kind::Sign("."), Kind::Name("clients"), Kind::Sign("("), Kind::Sign(")")] => {
            Some(("sfu.clients()".to_owned(), 5))
        }
        [Kind::Name(of), Kind::Sign(":"), Kind::Name("tracks"), Kind::Sign("("), Kind::Sign(")")] => {
            Some((format!("{of}:tracks()"), 5))
        }
        _ => None,
    }
}

/// `a.b.c` that begins here, and where it ends.
fn path_at(tokens: &[Token<'_>], at: usize) -> (String, usize) {
    let Kind::Name(first) = tokens[at].kind else { return (String::new(), at) };
    let (mut path, mut end) = (first.to_owned(), at + 1);
    while let [Kind::Sign("."), Kind::Name(name)] = kinds(tokens, end) {
        path.push('.');
        path.push_str(name);
        end += 2;
    }
    (path, end)
}

fn is_call(tokens: &[Token<'_>], at: usize) -> bool {
    matches!(kinds(tokens, at), [Kind::Sign("(" | "{") | Kind::Text(_)])
}

/// Tokens of the arguments of a call, with what they stand in.
fn arguments_length(tokens: &[Token<'_>], at: usize) -> Option<usize> {
    if let [Kind::Text(_)] = kinds(tokens, at) {
        return Some(1);
    }
    let mut open = 0_usize;
    for (length, token) in tokens.get(at..)?.iter().enumerate() {
        match token.kind {
            Kind::Sign("(" | "{") => open += 1,
            Kind::Sign(")" | "}") => open = open.checked_sub(1)?,
            _ if open == 0 => return None,
            _ => {}
        }
        if open == 0 {
            return Some(length + 1);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokens::tokens;

    fn paths() -> BTreeSet<String> {
        ["sfu.room_id", "sfu.log_info", "sfu.store", "sfu.store.global", "sfu.store.global.set"]
            .map(str::to_owned)
            .into()
    }

    #[test]
    fn what_is_written_as_one_would_guess_it_is_told_with_its_line_and_the_right_form() {
        let nil = |path: &str| format!("'{path}(...)' may be nil: keep it in a local, and look at it first");
        for (source, line, expected) in [
            (
                "\nsfu:log_info('x')",
                2,
                "'sfu:log_info(...)': functions of sfu are called with '.', 'sfu.log_info(...)'".to_owned(),
            ),
            (
                "sfu.store.global:set('k', 1)",
                1,
                "'sfu.store.global:set(...)': functions of sfu are called with '.', 'sfu.store.global.set(...)'"
                    .to_owned(),
            ),
            ("sfu.client(m.to):send(f(1))", 1, nil("sfu.client")),
            ("if sfu.http{ url = u, headers = { a = f() } }.status == 200 then end", 1, nil("sfu.http")),
            ("x = sfu.json.decode 'x'[1]", 1, nil("sfu.json.decode")),
            (
                "for c in sfu.clients() do c:kick() end",
                1,
                "'sfu.clients()' is a list: loop with 'for _, c in ipairs(sfu.clients()) do'".to_owned(),
            ),
            (
                "for t, u in c:tracks() do end",
                1,
                "'c:tracks()' is a list: loop with 'for _, t in ipairs(c:tracks()) do'".to_owned(),
            ),
            (
                "for c in ipairs(sfu.clients()) do c:kick() end",
                1,
                "'c' is a position in the list here: loop with 'for _, c in ipairs(sfu.clients()) do'".to_owned(),
            ),
        ] {
            assert_eq!(misuses(&tokens(source), &paths()), [(line, expected)], "{source}");
        }
        let waits = |source| waits_in_main_chunk(&tokens(source));
        let said = |line, path: &str| vec![(line, format!("the main chunk cannot wait, so '{path}' is an error here"))];
        assert_eq!(waits("\nlocal n = sfu.store.get('n')"), said(2, "sfu.store.get"));
        assert_eq!(waits("function f() sfu.sleep(1) end if f then sfu.sleep(1) end"), said(1, "sfu.sleep"));
    }

    #[test]
    fn what_is_right_is_left_alone() {
        for source in [
            "local c = sfu.client(id) if c then c:send(1) end print(sfu.client(id)) x.sfu:send(1)",
            "for _, c in ipairs(sfu.clients()) do c:kick() end for i in ipairs(sfu.clients()) do print(i) end",
            "for i = 1, #sfu.clients() do end for id in pairs(people) do id:sub(1) end print(#sfu.clients())",
            "function f() return g(sfu.http(u)) end",
            "local kind = sfu.room_id:match('^%a+') if sfu.room.region:sub(1, 2) == 'eu' then end",
            "local text = sfu.base64.encode(x):sub(1) local ok = sfu.json.decode(x) and y.z",
            "local sleep, get = sfu.sleep, sfu.store.get function f() sfu.sleep(1) end sfu.set_timeout(1, function() sfu.sleep(1) end)",
        ] {
            assert_eq!(misuses(&tokens(source), &paths()), [], "{source}");
            assert_eq!(waits_in_main_chunk(&tokens(source)), [], "{source}");
        }
    }
}
