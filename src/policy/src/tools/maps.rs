//! `#` counts a list; on a table with other keys it answers 0, or anything. This finds a `#` on a table that the same
//! file gives names, ids or clients as keys. By name, file-wide: a guess, so a warning.

use std::collections::{BTreeMap, BTreeSet};

use crate::tokens::{Kind, Token};

/// Keys of these names are no positions.
const KEY_NAMES: &[&str] = &["id", "ip", "name", "key", "client", "other", "track", "user", "token", "room"];

/// The `#`s on what looks like a map: line and table.
pub(super) fn counted_maps(tokens: &[Token<'_>]) -> Vec<(u32, String)> {
    let mut counted: BTreeMap<String, u32> = BTreeMap::new();
    let (mut maps, mut lists) = (BTreeSet::new(), BTreeSet::new());
    for at in 0..tokens.len() {
        let Some((path, after)) = path_at(tokens, at) else { continue };
        let before = |back: usize| at.checked_sub(back).map(|at| tokens[at].kind);
        let next = sign_at(tokens, after);
        if before(1) == Some(Kind::Sign("#")) && !matches!(next, Some("(" | "[" | ":")) {
            counted.entry(path.clone()).or_insert(tokens[at].line);
        }
        if before(1) == Some(Kind::Sign("(")) && matches!(before(2), Some(Kind::Name("insert" | "ipairs" | "remove"))) {
            lists.insert(path.clone());
        }
        match next {
            Some("[") => match key_at(tokens, after + 1) {
                Some((true, end)) if sign_at(tokens, end + 1) == Some("=") => drop(maps.insert(path)),
                Some(_) => {}
                None => drop(lists.insert(path)),
            },
            Some("=") => {
                if sign_at(tokens, after + 1) == Some("{") && names_follow(tokens, after + 2) {
                    maps.insert(path.clone());
                }
                if let Some((table, _)) = path.rsplit_once('.') {
                    maps.insert(table.to_owned());
                }
            }
            _ => {}
        }
    }
    let suspects = counted.into_iter().filter(|(path, _)| maps.contains(path) && !lists.contains(path));
    suspects.map(|(path, line)| (line, path)).collect()
}

fn sign_at<'a>(tokens: &[Token<'a>], at: usize) -> Option<&'a str> {
    match tokens.get(at)?.kind {
        Kind::Sign(sign) => Some(sign),
        _ => None,
    }
}

/// `a.b.c` that begins here, and where it ends.
fn path_at(tokens: &[Token<'_>], at: usize) -> Option<(String, usize)> {
    let Kind::Name(first) = tokens.get(at)?.kind else { return None };
    if at > 0 && matches!(tokens[at - 1].kind, Kind::Sign("." | ":")) {
        return None;
    }
    let (mut path, mut end) = (first.to_owned(), at + 1);
    while sign_at(tokens, end) == Some(".") {
        let Some(Kind::Name(name)) = tokens.get(end + 1).map(|token| token.kind) else { break };
        path.push('.');
        path.push_str(name);
        end += 2;
    }
    Some((path, end))
}

/// Whether the key that begins here is surely no position, and where its `]` is; `None` for `[#...`, which is one.
fn key_at(tokens: &[Token<'_>], at: usize) -> Option<(bool, usize)> {
    let end = at + tokens[at..].iter().position(|token| token.kind == Kind::Sign("]"))?;
    let key = &tokens[at..end];
    if key.first().is_some_and(|token| token.kind == Kind::Sign("#")) {
        return None;
    }
    let named = match key {
        [Token { kind: Kind::Text(_), .. }] => true,
        [.., Token { kind: Kind::Name(name), .. }] => {
            KEY_NAMES.iter().any(|key| name == key || name.strip_suffix(key).is_some_and(|rest| rest.ends_with('_')))
        }
        _ => key.iter().any(|token| token.kind == Kind::Name("get_id")),
    };
    Some((named, end))
}

/// Whether a table that begins here has names: `{ name = ...` or `{ ["name"] = ...`.
fn names_follow(tokens: &[Token<'_>], at: usize) -> bool {
    let kind = |at: usize| tokens.get(at).map(|token| token.kind);
    match kind(at) {
        Some(Kind::Name(_)) => kind(at + 1) == Some(Kind::Sign("=")),
        Some(Kind::Sign("[")) => matches!(kind(at + 1), Some(Kind::Text(_))),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokens::tokens;

    #[test]
    fn a_count_of_a_map_is_seen_and_a_count_of_a_list_is_not() {
        for (source, expected) in [
            ("local t = {}\nt[client:get_id()] = 1\nreturn #t", Some((3, "t"))),
            ("t[client] = true return #t", Some((1, "t"))),
            ("t['a'] = 1 return #t", Some((1, "t"))),
            ("t[user_id] = 1 return #t", Some((1, "t"))),
            ("local t = { a = 1 } return #t", Some((1, "t"))),
            ("state.clients[id] = 1 return #state.clients", Some((1, "state.clients"))),
            ("t.count = 1 return #t", Some((1, "t"))),
            ("t[#t + 1] = id return #t", None),
            ("t[i] = id return #t", None),
            ("table.insert(t, 1) t.n = 1 return #t", None),
            ("return #sfu.clients(), #message.text, #auth_token", None),
            ("if t['a'] == 1 then return #t end", None),
        ] {
            let found = counted_maps(&tokens(source));
            let expected: Vec<_> = expected.into_iter().map(|(line, path)| (line, path.to_owned())).collect();
            assert_eq!(found, expected, "{source}");
        }
    }
}
