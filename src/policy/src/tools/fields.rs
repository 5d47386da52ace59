//! Fields and methods of clients and tracks that exist nowhere. A client is an empty userdata, and a track a table of a
//! few fields, so where a name certainly stands for one of them, nearly every other field is a mistake.

use std::collections::BTreeSet;

use super::mistakes::{block_length, is_field, kinds};
use super::nearest::nearest;
use crate::api::client::TRACK_FIELDS;
use crate::hook_table::{Arguments, HOOKS};
use crate::tokens::{Kind, Token};

/// What a name stands for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Is {
    Client,
    Track,
}

/// A name, and the tokens within which it certainly stands for a client or a track.
struct Variable<'t, 'a> {
    name: &'a str,
    is: Is,
    scope: &'t [Token<'a>],
}

/// Line and message of each mistake.
pub(super) fn unknown_fields(tokens: &[Token<'_>], methods: &BTreeSet<String>) -> Vec<(u32, String)> {
    let mut found = Vec::new();
    for variable in variables(tokens).iter().filter(|variable| !is_given_anew(variable)) {
        for at in 0..variable.scope.len() {
            if variable.scope[at].kind == Kind::Name(variable.name) && !is_field(variable.scope, at) {
                let message = match variable.is {
                    Is::Client => of_client(&variable.scope[at..], methods),
                    Is::Track => of_track(variable, at),
                };
                found.extend(message.map(|message| (variable.scope[at].line, message)));
            }
        }
    }
    found.sort();
    found.dedup();
    found
}

/// Parameters of hooks, variables of loops over clients and tracks, and locals that `sfu.client` is assigned to.
fn variables<'t, 'a>(tokens: &'t [Token<'a>]) -> Vec<Variable<'t, 'a>> {
    let mut found = Vec::new();
    for at in 0..tokens.len() {
        if let [Kind::Name("function"), Kind::Name(hook), Kind::Sign("("), first, comma, second] = kinds(tokens, at) {
            let arguments = HOOKS.iter().find(|spec| spec.name == hook).map(|spec| spec.arguments);
            let Some(close) = tokens[at..].iter().position(|token| token.kind == Kind::Sign(")")) else { continue };
            let scope = body(tokens, at + close + 1);
            match (arguments, first) {
                (Some(Arguments::Client | Arguments::ClientAndTrack), Kind::Name(name)) => {
                    found.push(Variable { name, is: Is::Client, scope });
                }
                (Some(Arguments::Clients), Kind::Name(list)) => found.extend(loops_over(scope, list)),
                _ => {}
            }
            if let (Some(Arguments::ClientAndTrack), Kind::Sign(","), Kind::Name(name)) = (arguments, comma, second) {
                found.push(Variable { name, is: Is::Track, scope });
            }
        }
        if let [Kind::Name("for"), Kind::Name(_), Kind::Sign(","), Kind::Name(name), Kind::Name("in")] =
            kinds(tokens, at)
            && let Some((is, length)) = list_of(tokens, at + 5)
            && kinds(tokens, at + 5 + length) == [Kind::Name("do")]
        {
            found.push(Variable { name, is, scope: body(tokens, at + 6 + length) });
        }
        if let [
            Kind::Name("local"),
            Kind::Name(name),
            Kind::Sign("="),
            Kind::Name("sfu"),
            Kind::Sign("."),
            Kind::Name("client"),
        ] = kinds(tokens, at)
            && let Some(length) = call_length(tokens, at + 6)
            && !continues(tokens, at + 6 + length)
        {
            found.push(Variable { name, is: Is::Client, scope: body(tokens, at + 6 + length) });
        }
    }
    found
}

fn body<'t, 'a>(tokens: &'t [Token<'a>], from: usize) -> &'t [Token<'a>] {
    let rest = &tokens[from.min(tokens.len())..];
    &rest[..block_length(rest)]
}

/// Loops over a list of clients that has a name.
fn loops_over<'t, 'a>(tokens: &'t [Token<'a>], list: &str) -> Vec<Variable<'t, 'a>> {
    let is_list = |kind| kind == Kind::Name(list);
    let mut found = Vec::new();
    for at in 0..tokens.len() {
        if let [
            Kind::Name("for"),
            Kind::Name(_),
            Kind::Sign(","),
            Kind::Name(name),
            Kind::Name("in"),
            Kind::Name("ipairs"),
            Kind::Sign("("),
            over,
            Kind::Sign(")"),
            Kind::Name("do"),
        ] = kinds(tokens, at)
            && is_list(over)
        {
            found.push(Variable { name, is: Is::Client, scope: body(tokens, at + 10) });
        }
    }
    found
}

/// What `ipairs(sfu.clients())` or `ipairs(x:tracks())` goes over, and how many tokens that is.
fn list_of(tokens: &[Token<'_>], at: usize) -> Option<(Is, usize)> {
    match kinds(tokens, at) {
        [
            Kind::Name("ipairs"),
            Kind::Sign("("),
            Kind::Name(of),
            dot,
            Kind::Name(list),
            Kind::Sign("("),
            Kind::Sign(")"),
            Kind::Sign(")"),
        ] => match (of, dot, list) {
            ("sfu", Kind::Sign("."), "clients") => Some((Is::Client, 8)),
            (_, Kind::Sign(":"), "tracks") => Some((Is::Track, 8)),
            _ => None,
        },
        _ => None,
    }
}

/// Tokens of the arguments of a call, with their parentheses.
fn call_length(tokens: &[Token<'_>], at: usize) -> Option<usize> {
    let mut open = 0_usize;
    for (length, token) in tokens.get(at..)?.iter().enumerate() {
        match token.kind {
            Kind::Sign("(") => open += 1,
            Kind::Sign(")") => open = open.checked_sub(1)?,
            _ if open == 0 => return None,
            _ => {}
        }
        if open == 0 {
            return Some(length + 1);
        }
    }
    None
}

/// Whether an expression goes on: then its value is another one.
fn continues(tokens: &[Token<'_>], at: usize) -> bool {
    let [next] = kinds(tokens, at);
    let begins_another = matches!(next, Kind::Name(name) if name != "and" && name != "or");
    at < tokens.len() && !begins_another && next != Kind::Sign(";")
}

/// Whether the name is assigned, declared again, or a parameter of a function within: then it may be anything.
fn is_given_anew(variable: &Variable<'_, '_>) -> bool {
    let scope = variable.scope;
    (0..scope.len()).any(|at| {
        if scope[at].kind != Kind::Name(variable.name) || is_field(scope, at) {
            return false;
        }
        let before = if at == 0 { Kind::Number } else { scope[at - 1].kind };
        let [_, after] = kinds(scope, at);
        let declares = matches!(before, Kind::Name("local" | "for" | "function"));
        // A key of a table looks like an assignment.
        let is_key = matches!(before, Kind::Sign("{" | "," | ";")) && is_in_table(scope, at);
        let is_listed = matches!(before, Kind::Sign("," | "(")) && is_declared_in_list(scope, at);
        declares || after == Kind::Sign("=") && !is_key || is_listed
    })
}

/// Whether a brace is open before `at`.
fn is_in_table(scope: &[Token<'_>], at: usize) -> bool {
    let mut closed = 0_usize;
    scope[..at].iter().rev().any(|token| match token.kind {
        Kind::Sign("}") => {
            closed += 1;
            false
        }
        Kind::Sign("{") if closed == 0 => true,
        Kind::Sign("{") => {
            closed -= 1;
            false
        }
        _ => false,
    })
}

/// Whether the list of names before `at` is that of `local`, of `for` or of a function's parameters.
fn is_declared_in_list(scope: &[Token<'_>], at: usize) -> bool {
    let mut at = at;
    while at > 0 {
        at -= 1;
        match scope[at].kind {
            Kind::Name("local" | "for" | "function") => return true,
            Kind::Name(_) | Kind::Sign("," | "." | ":") => {}
            // `function(`, `function name(`, `function a.name(`: a call of anything else has no `function` before its name.
            Kind::Sign("(") => {
                let names = scope[..at].iter().rev().map(|token| token.kind);
                let mut names = names.take_while(|kind| matches!(kind, Kind::Name(_) | Kind::Sign("." | ":")));
                return names.any(|kind| kind == Kind::Name("function"));
            }
            _ => return false,
        }
    }
    false
}

/// What is wrong with `client.x` or `client:x()`, which begins these tokens.
fn of_client(tokens: &[Token<'_>], methods: &BTreeSet<String>) -> Option<String> {
    let [Kind::Name(name), sign @ Kind::Sign("." | ":"), Kind::Name(field), next, first] = kinds(tokens, 0) else {
        return None;
    };
    let getter = format!("get_{field}");
    let meant = methods.get(&getter).map(String::as_str).or_else(|| nearest(field, methods.iter().map(String::as_str)));
    let hint = meant.map_or_else(String::new, |method| format!(": did you mean '{name}:{method}()'?"));
    match (sign, methods.contains(field)) {
        (Kind::Sign(":"), true) => None,
        // Where a name is near, `methods.rs` says so of every variable.
        (Kind::Sign(":"), false) if nearest(field, methods.iter().map(String::as_str)).is_some() => None,
        (Kind::Sign(":"), false) => Some(format!("clients have no method '{field}'{hint}")),
        (_, true) if next == Kind::Sign("(") && first != Kind::Name(name) => {
            Some(format!("'{name}.{field}(...)': methods are called with ':', '{name}:{field}(...)'"))
        }
        (_, true) if matches!(next, Kind::Sign("." | "[" | "==" | "~=" | "..")) => {
            Some(format!("'{name}.{field}' is a method: call it, '{name}:{field}()'"))
        }
        (_, true) => None,
        (_, false) if next == Kind::Sign("=") => {
            Some(format!("clients take no fields: keep '{field}' in a table of yours, by '{name}:get_id()'"))
        }
        (_, false) => Some(format!("clients have no field '{field}'{hint}")),
    }
}

/// What is wrong with `track.x` or `track:x()` at `at`.
fn of_track(variable: &Variable<'_, '_>, at: usize) -> Option<String> {
    let [Kind::Name(name), sign, Kind::Name(field), next] = kinds(variable.scope, at) else { return None };
    match sign {
        Kind::Sign(":") if matches!(next, Kind::Sign("(" | "{") | Kind::Text(_)) => {
            Some(format!("a track is a table without methods: ':{field}' is none of it"))
        }
        Kind::Sign(".") if !TRACK_FIELDS.contains(&field) && !is_own(variable, field) => {
            let meant = nearest(field, TRACK_FIELDS.iter().copied());
            let meant = meant.map_or_else(String::new, |field| format!(": did you mean '{name}.{field}'?"));
            Some(format!("a track has no '{field}'{meant}"))
        }
        _ => None,
    }
}

/// Whether the script itself sets this field of a track.
fn is_own(variable: &Variable<'_, '_>, field: &str) -> bool {
    (0..variable.scope.len()).any(|at| {
        kinds(variable.scope, at) == [Kind::Name(variable.name), Kind::Sign("."), Kind::Name(field), Kind::Sign("=")]
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokens::tokens;

    fn found(source: &str) -> Vec<(u32, String)> {
        unknown_fields(&tokens(source), &["kick", "send", "get_id", "attributes", "tracks"].map(str::to_owned).into())
    }

    #[test]
    fn a_field_or_method_that_is_nowhere_is_named_with_its_line() {
        let no_id = "clients have no field 'id': did you mean 'client:get_id()'?";
        for (source, line, expected) in [
            ("function on_message(client, m)\n sfu.log_info(client.id) end", 2, no_id),
            ("for _, client in ipairs(sfu.clients()) do\n print(client.id) end", 2, no_id),
            ("local client = sfu.client(m.to)\nif client then print(client.id) end", 2, no_id),
            ("function on_active_speakers(all) for _, client in ipairs(all) do print(client.id) end end", 1, no_id),
            (
                "function on_message(c) c:set_timeout(function() print(c.name) end) end",
                1,
                "clients have no method 'set_timeout'",
            ),
            ("function on_message(c) x = c.name end", 1, "clients have no field 'name'"),
            ("function on_message(c) c:id() end", 1, "clients have no method 'id': did you mean 'c:get_id()'?"),
            (
                "function on_message(c) c.role = 'host' end",
                1,
                "clients take no fields: keep 'role' in a table of yours, by 'c:get_id()'",
            ),
            (
                "function on_message(c) if c.attributes.role == 'host' then end end",
                1,
                "'c.attributes' is a method: call it, 'c:attributes()'",
            ),
            (
                "function on_message(c, m)\n\n c.kick('y') end",
                3,
                "'c.kick(...)': methods are called with ':', 'c:kick(...)'",
            ),
            ("function on_publish_request(c, t)\n return t.type == 'audio' end", 2, "a track has no 'type'"),
            ("function on_publish_request(c, t) return t.knd end", 1, "a track has no 'knd': did you mean 't.kind'?"),
            ("for _, t in ipairs(c:tracks()) do print(t.knd) end", 1, "a track has no 'knd': did you mean 't.kind'?"),
            (
                "function on_track_published(c, t) t:mute() end",
                1,
                "a track is a table without methods: ':mute' is none of it",
            ),
        ] {
            let found: Vec<_> = found(source).into_iter().filter(|(_, message)| message == expected).collect();
            assert_eq!(found, [(line, expected.to_owned())], "{source}");
        }
    }

    #[test]
    fn what_may_be_something_else_is_left_alone() {
        for source in [
            "function on_publish_request(c, t) t.note = 1 return t.note and x.t.type end local t = {} return t.type",
            "function on_message(c, m) c.kick(c, 'y') c:kick() m.kick() pcall(c.kick, c) end",
            "function on_message(client) local client = { id = 1 } return client.id end",
            "function on_message(client) client = people[client:get_id()] return client.name end",
            "function on_message(client) each(function(a, client) return client.id end) end",
            "function on_message(client) for id, client in pairs(people) do print(client.id) end end",
            "function on_message(client) local function f(client) return client.name end end",
            "function on_message(client) function box.add(a, client) return client.name end end",
            "function on_message(client) local other other, client = 1, { id = 1 } return client.id end",
            "function on_message(client) send{ client = client:get_id() } x.client.id = 1 end",
            "local client = sfu.client(a) and { id = 1 }\nprint(client.id)",
            "local function find(client) return client.id end function on_init() return client.id end",
            "for id, t in pairs(c:tracks()) do end for _, c in ipairs(people) do print(c.id) end",
        ] {
            assert_eq!(found(source), [], "{source}");
        }
    }
}
