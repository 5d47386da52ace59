//! Mistakes that the tokens of a script show: options that there are not, rights and sources that there are not, waits where nothing may wait, and metadata that is trusted to have a form.

use super::nearest::nearest;
use crate::api::jwt::{SIGN_OPTIONS, VERIFY_OPTIONS};
use crate::api::rights::RIGHTS;
use crate::api::wait::REQUEST_FIELDS;
use crate::hook_table::{HOOKS, HookSpec};
use crate::tokens::{Kind, Token, content};
use moonring_wire::media::Source;

/// Functions of `sfu` that wait, and `sfu.flush`, which has to be where a hook may wait.
const WAITING: &[&str] = &["flush", "http", "jwks", "shared", "sleep", "store"];

/// The definition of a hook, and the tokens of its body.
struct Definition<'t, 'a> {
    spec: &'static HookSpec,
    body: &'t [Token<'a>],
}

/// Line and message of each mistake.
pub(super) fn mistakes(tokens: &[Token<'_>]) -> Vec<(u32, String)> {
    let mut found = Vec::new();
    for definition in definitions(tokens) {
        if !definition.spec.may_wait {
            waits(&definition, &mut found);
        }
    }
    options(tokens, "jwt_verify", VERIFY_OPTIONS, &mut found);
    options(tokens, "jwt_sign", SIGN_OPTIONS, &mut found);
    options(tokens, "http", REQUEST_FIELDS, &mut found);
    rights(tokens, &mut found);
    metadata(tokens, &mut found);
    found
}

fn definitions<'t, 'a>(tokens: &'t [Token<'a>]) -> Vec<Definition<'t, 'a>> {
    let mut found = Vec::new();
    for at in 0..tokens.len() {
        let [Kind::Name("function"), Kind::Name(name), Kind::Sign("(")] = kinds::<3>(tokens, at) else { continue };
        let Some(spec) = HOOKS.iter().find(|spec| spec.name == name) else { continue };
        let rest = &tokens[at + 3..];
        let Some(close) = rest.iter().position(|token| token.kind == Kind::Sign(")")) else { continue };
        let body = &rest[close + 1..];
        found.push(Definition { spec, body: &body[..block_length(body)] });
    }
    found
}

/// Tokens until the `end` that closes the block which has just been opened.
pub(super) fn block_length(tokens: &[Token<'_>]) -> usize {
    let mut open = 1_usize;
    for (at, token) in tokens.iter().enumerate() {
        match token.kind {
            Kind::Name("function" | "if" | "do" | "repeat") => open += 1,
            Kind::Name("end" | "until") => open -= 1,
            _ => {}
        }
        if open == 0 {
            return at;
        }
    }
    tokens.len()
}

/// The kinds of the tokens from `at` on; `Kind::Number` where there is none.
pub(super) fn kinds<'a, const N: usize>(tokens: &[Token<'a>], at: usize) -> [Kind<'a>; N] {
    std::array::from_fn(|n| tokens.get(at + n).map_or(Kind::Number, |token| token.kind))
}

pub(super) fn is_field(tokens: &[Token<'_>], at: usize) -> bool {
    at > 0 && matches!(tokens[at - 1].kind, Kind::Sign("." | ":"))
}

fn waits(definition: &Definition<'_, '_>, found: &mut Vec<(u32, String)>) {
    let (body, mut at) = (definition.body, 0);
    while at < body.len() {
        match kinds::<3>(body, at) {
            // What a function within does, a timer's for instance, happens later.
            [Kind::Name("function"), ..] => at += block_length(&body[at + 1..]),
            [Kind::Name("sfu"), Kind::Sign("."), Kind::Name(name)]
                if WAITING.contains(&name) && !is_field(body, at) =>
            {
                let hook = definition.spec.name;
                found.push((body[at].line, format!("{hook} cannot wait, so 'sfu.{name}' is an error here")));
            }
            _ => {}
        }
        at += 1;
    }
}

/// Names in the last argument of a function of `sfu`, when it is a table that is written out.
fn options(tokens: &[Token<'_>], function: &str, known: &[&str], found: &mut Vec<(u32, String)>) {
    for at in 0..tokens.len() {
        let [Kind::Name("sfu"), Kind::Sign("."), Kind::Name(name), Kind::Sign("(" | "{")] = kinds::<4>(tokens, at)
        else {
            continue;
        };
        if name != function || is_field(tokens, at) {
            continue;
        }
        // Of `f{ … }` the parentheses are thought.
        let is_bare = tokens[at + 3].kind == Kind::Sign("{");
        let (mut parens, mut braces) = (usize::from(is_bare), 0_usize);
        for at in at + 3..tokens.len() {
            match tokens[at].kind {
                Kind::Sign("(") => parens += 1,
                Kind::Sign(")") => parens -= 1,
                Kind::Sign("{") => braces += 1,
                Kind::Sign("}") => braces = braces.saturating_sub(1),
                _ => {}
            }
            if parens == 0 || is_bare && braces == 0 {
                break;
            }
            if let (1, 1, Some(option)) = (parens, braces, key_at(tokens, at))
                && (is_bare || is_option_of_last(tokens, at))
                && !known.contains(&option)
            {
                let meant = nearest(option, known.iter().copied());
                let meant = meant.map_or_else(String::new, |known| format!(": did you mean '{known}'?"));
                found.push((tokens[at].line, format!("'{function}' has no option '{option}'{meant}")));
            }
        }
    }
}

/// `name =` or `["name"] =` within a table.
fn key_at<'a>(tokens: &[Token<'a>], at: usize) -> Option<&'a str> {
    match kinds::<4>(tokens, at) {
        [Kind::Name(name), Kind::Sign("="), ..] => Some(name),
        [Kind::Sign("["), Kind::Text(text), Kind::Sign("]"), Kind::Sign("=")] => content(text),
        _ => None,
    }
}

/// Whether the table around `at` is followed by the end of the call: the claims of `jwt_sign` are not options.
fn is_option_of_last(tokens: &[Token<'_>], at: usize) -> bool {
    let mut open = 1_usize;
    for (at, token) in tokens.iter().enumerate().skip(at) {
        match token.kind {
            Kind::Sign("{") => open += 1,
            Kind::Sign("}") => open -= 1,
            _ => {}
        }
        if open == 0 {
            return matches!(kinds::<1>(tokens, at + 1), [Kind::Sign(")")]);
        }
    }
    false
}

/// Names in the table of a `:set_rights({ … })` that are no rights, and sources that there are not.
fn rights(tokens: &[Token<'_>], found: &mut Vec<(u32, String)>) {
    for at in 0..tokens.len() {
        let table = match kinds::<4>(tokens, at) {
            [Kind::Sign(":"), Kind::Name("set_rights"), Kind::Sign("("), Kind::Sign("{")] => at + 4,
            [Kind::Sign(":"), Kind::Name("set_rights"), Kind::Sign("{"), _] => at + 3,
            _ => continue,
        };
        let (mut open, mut right) = (vec!["{"], "");
        for at in table..tokens.len() {
            match tokens[at].kind {
                Kind::Sign(sign @ ("{" | "(")) => open.push(sign),
                Kind::Sign("}" | ")") => drop(open.pop()),
                Kind::Text(text) if open == ["{", "{"] && right == "publish" => {
                    found.extend(source(tokens[at].line, text));
                }
                _ => {}
            }
            if open.is_empty() {
                break;
            }
            let Some(key) = key_at(tokens, at).filter(|_| open == ["{"]) else { continue };
            right = key;
            if !RIGHTS.contains(&key) {
                let meant = nearest(key, RIGHTS.iter().copied());
                let meant = meant.map_or_else(String::new, |known| format!(": did you mean '{known}'?"));
                found.push((tokens[at].line, format!("'set_rights' has no right '{key}'{meant}")));
            }
        }
    }
}

fn source(line: u32, text: &str) -> Option<(u32, String)> {
    let word = content(text)?;
    let words = Source::ALL.map(Source::as_str);
    if words.contains(&word) {
        return None;
    }
    let meant = nearest(word, words.iter().copied());
    let meant = meant.map_or_else(String::new, |known| format!(": did you mean '{known}'?"));
    Some((line, format!("tracks have no source '{word}'{meant}")))
}

fn metadata(tokens: &[Token<'_>], found: &mut Vec<(u32, String)>) {
    for (at, token) in tokens.iter().enumerate() {
        let [Kind::Name("get_metadata"), Kind::Sign("("), Kind::Sign(")"), Kind::Sign("."), Kind::Name(field), next] =
            kinds::<6>(tokens, at)
        else {
            continue;
        };
        if let Kind::Sign("." | ":" | "[") = next {
            let message =
                format!("metadata is whatever the client sent: check the type of '{field}' before you look into it");
            found.push((token.line, message));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokens::tokens;

    fn found(source: &str) -> Vec<(u32, String)> {
        mistakes(&tokens(source))
    }

    #[test]
    fn each_mistake_is_named_with_its_line() {
        for (source, line, expected) in [
            ("function on_init() sfu.sleep(1) end", 1, "on_init cannot wait, so 'sfu.sleep' is an error here"),
            (
                "function on_load() if x then sfu.shared.get('k') end end",
                1,
                "on_load cannot wait, so 'sfu.shared' is an error here",
            ),
            ("sfu.jwt_verify(t, k, { audience = 'x' })", 1, "'jwt_verify' has no option 'audience'"),
            ("sfu.jwt_verify(t, k, { ['isss'] = 'x' })", 1, "'jwt_verify' has no option 'isss': did you mean 'iss'?"),
            ("sfu.jwt_sign({ sub = 'x' }, k, { kdi = '1' })", 1, "'jwt_sign' has no option 'kdi': did you mean 'kid'?"),
            (
                "sfu.http({ url = u, headers = { timout = 1 }, timout = 1 })",
                1,
                "'http' has no option 'timout': did you mean 'timeout'?",
            ),
            ("sfu.http{ url = u,\ndata = f({ x = 1 }) }", 2, "'http' has no option 'data'"),
            ("c:set_rights{ publsh = false }", 1, "'set_rights' has no right 'publsh': did you mean 'publish'?"),
            ("c:set_rights({ hidden = true }, 'x')", 1, "'set_rights' has no right 'hidden'"),
            (
                "c:set_rights({ message = false, publish = { 'microphone', 'scren' } })",
                1,
                "tracks have no source 'scren': did you mean 'screen'?",
            ),
            (
                "x = c:get_metadata().a.b",
                1,
                "metadata is whatever the client sent: check the type of 'a' before you look into it",
            ),
        ] {
            assert_eq!(found(source), [(line, expected.to_owned())], "{source}");
        }
    }

    #[test]
    fn what_is_right_is_left_alone() {
        for source in [
            "function on_init() sfu.set_timeout(1, function() if x then sfu.sleep(1) end end) sfu.now() end",
            "function on_init() end function on_message() sfu.sleep(1) end",
            "sfu.jwt_verify(t, k, { aud = f({ audience = 1 }), alg = 'HS256' })",
            "sfu.jwt_sign({ sub = 'x', anything = 1 }, k)",
            "c:set_rights({ publish = x and { 'camera' } or f('y'), subscribe = false }, 'reason') c:set_rights(r) z = { hidden = 1 }",
            "sfu.http{ url = u, body = sfu.json.encode{ data = 1 } } my.sfu.http{ data = 1 } http{ data = 1 } sfu.http(u)",
            "x = c:get_metadata().role == 'host' y = c:get_metadata()",
        ] {
            assert_eq!(found(source), [], "{source}");
        }
    }
}
