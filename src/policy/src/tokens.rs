//! The tokens of a script, for what the bytecode does not show. Only for text that has compiled.

/// A token with its line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Token<'a> {
    pub(crate) line: u32,
    pub(crate) kind: Kind<'a>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind<'a> {
    /// A name or a keyword.
    Name(&'a str),
    /// A text, with its quotes.
    Text(&'a str),
    Number,
    /// `=`, `==`, `[`, ...
    Sign(&'a str),
}

/// The tokens of a script. Comments are left out.
pub(crate) fn tokens(source: &str) -> Vec<Token<'_>> {
    let mut tokens = Vec::new();
    let (mut rest, mut line) = (source, 1);
    while let Some(first) = rest.chars().next() {
        let (kind, length) = next(rest, first);
        tokens.extend(kind.map(|kind| Token { line, kind }));
        let (text, after) = rest.split_at(length.min(rest.len()));
        line += text.matches('\n').count() as u32;
        rest = after;
    }
    tokens
}

fn next(rest: &str, first: char) -> (Option<Kind<'_>>, usize) {
    let run = |fits: fn(char) -> bool| rest.find(|c| !fits(c)).unwrap_or(rest.len());
    match first {
        c if c.is_whitespace() => (None, c.len_utf8()),
        '-' if rest.starts_with("--") => {
            let line = rest.find('\n').unwrap_or(rest.len());
            (None, long_bracket(&rest[2..]).map_or(line, |length| length + 2))
        }
        '"' | '\'' => {
            let length = quoted(rest, first);
            (Some(Kind::Text(&rest[..length])), length)
        }
        '[' => match long_bracket(rest) {
            Some(length) => (Some(Kind::Text(&rest[..length.min(rest.len())])), length),
            None => (Some(Kind::Sign("[")), 1),
        },
        c if c.is_ascii_digit() => (Some(Kind::Number), run(|c| c.is_ascii_alphanumeric() || c == '.')),
        c if c.is_alphanumeric() || c == '_' => {
            let length = run(|c| c.is_alphanumeric() || c == '_');
            (Some(Kind::Name(&rest[..length])), length)
        }
        c => {
            let two = ["==", "~=", "<=", ">=", "..", "::"].into_iter().find(|sign| rest.starts_with(sign));
            let length = two.map_or(c.len_utf8(), str::len);
            (Some(Kind::Sign(&rest[..length])), length)
        }
    }
}

/// The names in `require("name")` and `require "name"`, with their lines.
pub(crate) fn required<'a>(tokens: &[Token<'a>]) -> Vec<(u32, &'a str)> {
    let mut found = Vec::new();
    for (at, token) in tokens.iter().enumerate() {
        let is_field = at > 0 && matches!(tokens[at - 1].kind, Kind::Sign("." | ":"));
        if token.kind != Kind::Name("require") || is_field {
            continue;
        }
        let mut rest = tokens[at + 1..].iter().map(|token| token.kind);
        if let Some(Kind::Text(text)) = rest.find(|kind| *kind != Kind::Sign("(")) {
            found.extend(content(text).map(|name| (token.line, name)));
        }
    }
    found
}

/// What stands within the quotes of a text without escapes.
pub(crate) fn content(text: &str) -> Option<&str> {
    let inner = match text.chars().next()? {
        '[' => text.trim_matches(|c| c == '[' || c == '=' || c == ']'),
        quote => text.strip_prefix(quote)?.strip_suffix(quote)?,
    };
    (!inner.contains('\\')).then_some(inner)
}

/// Bytes of `[[...]]` or `[=[...]=]`, if one begins here.
fn long_bracket(text: &str) -> Option<usize> {
    let inner = text.strip_prefix('[')?;
    let level = inner.find(|c| c != '=')?;
    inner[level..].strip_prefix('[')?;
    let close = format!("]{}]", "=".repeat(level));
    Some(text.find(&close).map_or(text.len(), |at| at + close.len()))
}

/// Bytes of a text in quotes.
fn quoted(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == quote => return at + 1,
            _ => {}
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_told_apart_and_keep_their_lines() {
        let source = "local a = 'x\\'y' -- no\n--[[ no\nno ]] #a[1.5] == [=[ ]] ]=]\"\"~=_b";
        let found: Vec<_> = tokens(source).into_iter().map(|token| (token.line, token.kind)).collect();
        let expected = [
            (1, Kind::Name("local")),
            (1, Kind::Name("a")),
            (1, Kind::Sign("=")),
            (1, Kind::Text("'x\\'y'")),
            (3, Kind::Sign("#")),
            (3, Kind::Name("a")),
            (3, Kind::Sign("[")),
            (3, Kind::Number),
            (3, Kind::Sign("]")),
            (3, Kind::Sign("==")),
            (3, Kind::Text("[=[ ]] ]=]")),
            (3, Kind::Text("\"\"")),
            (3, Kind::Sign("~=")),
            (3, Kind::Name("_b")),
        ];
        assert_eq!(found, expected);
        for cut in ["'x", "[[x", "--[[x", "é", "1..2"] {
            tokens(cut);
        }
    }
}
