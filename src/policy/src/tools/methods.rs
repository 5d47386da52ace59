//! Calls of a method that no client has, where a client's method is probably meant.

use std::collections::BTreeSet;

use super::nearest::nearest;
use crate::tokens::{Kind, Token};

/// Line, name, and the name that is meant. A name that the file uses otherwise may be the script's own method.
pub(super) fn misspelt<'a>(tokens: &[Token<'a>], methods: &'a BTreeSet<String>) -> Vec<(u32, &'a str, &'a str)> {
    let own: BTreeSet<&str> = tokens
        .windows(2)
        .filter(|two| two[0].kind != Kind::Sign(":"))
        .filter_map(|two| if let Kind::Name(name) = two[1].kind { Some(name) } else { None })
        .collect();
    let call = |three: &[Token<'a>]| match [three[0].kind, three[1].kind, three[2].kind] {
        [Kind::Sign(":"), Kind::Name(name), Kind::Sign("(" | "{") | Kind::Text(_)] => Some((three[1].line, name)),
        _ => None,
    };
    let strings =
        ["byte", "find", "format", "gmatch", "gsub", "len", "lower", "match", "rep", "reverse", "sub", "upper"];
    let calls = tokens.windows(3).filter_map(call);
    let unknown = calls.filter(|(_, name)| !methods.contains(*name) && !own.contains(name) && !strings.contains(name));
    unknown.filter_map(|(line, name)| Some((line, name, nearest(name, methods.iter().map(String::as_str))?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokens::tokens;

    #[test]
    fn a_misspelt_method_is_seen_and_a_scripts_own_is_not() {
        let methods = ["kick", "send", "get_id"].map(str::to_owned).into();
        for (source, expected) in [
            ("c:kik('x')", Some((1, "kik", "kick"))),
            ("\nlocal id = c:getid()", Some((2, "getid", "get_id"))),
            ("c:send{ 1 } ('x'):rep(2) c:kick()", None),
            ("function Box:sent() end local b = { sent = 1 } b:sent()", None),
            ("c:dance()", None),
        ] {
            let found = misspelt(&tokens(source), &methods);
            assert_eq!(found, expected.into_iter().collect::<Vec<_>>(), "{source}");
        }
    }
}
