//! `web/protocol.d.ts`, made from the types of the protocol, so that the two cannot differ.

use ts_rs::{Config, TS};

use super::{ClientMessage, ErrorCode, Participant, Publish, SectionResult, ServerMessage, Subscribe};
use crate::id::{ClientId, Mid, RoomId, TrackId};
use crate::media::{CodecName, Kind, PauseReason, Source, TrackInfo};
use crate::rights::Rights;

/// Longest line.
const LINE: usize = 130;
const HEAD: &str = "/**
 * The messages of the signalling protocol, made from the Rust types in src/wire/src/message.rs: change those, and the test
 * in src/wire/src/message/typescript.rs says how to bring this file up to date.
 */
";

/// The whole file.
fn protocol() -> String {
    let mut text = HEAD.to_owned();
    add::<ClientId>(&mut text);
    add::<RoomId>(&mut text);
    add::<TrackId>(&mut text);
    add::<Mid>(&mut text);
    add::<Kind>(&mut text);
    add::<Source>(&mut text);
    add::<CodecName>(&mut text);
    add::<PauseReason>(&mut text);
    add::<TrackInfo>(&mut text);
    add::<Participant>(&mut text);
    add::<Rights>(&mut text);
    add::<Publish>(&mut text);
    add::<Subscribe>(&mut text);
    add::<SectionResult>(&mut text);
    add::<ErrorCode>(&mut text);
    add::<ClientMessage>(&mut text);
    add::<ServerMessage>(&mut text);
    text
}

fn add<T: TS>(text: &mut String) {
    let config = Config::new().with_large_int("number");
    let docs = T::docs().map(|docs| format!("{}\n", comment(&docs))).unwrap_or_default();
    let declaration = T::decl(&config).replace('"', "'");
    let (head, body) = declaration.split_once(" = ").expect("type Name = ...;");
    let types: Vec<String> = split(body.trim_end_matches(';'), " | ").into_iter().map(object).collect();
    let one_line = format!("export {head} = {};", types.join(" | "));
    if one_line.len() <= LINE && !one_line.contains('\n') {
        text.push_str(&format!("\n{docs}{one_line}\n"));
    } else if let [only] = &types[..] {
        text.push_str(&format!("\n{docs}export {head} = {only};\n"));
    } else {
        let lines: Vec<String> = types.iter().map(|one| format!("\n  | {}", one.replace('\n', "\n    "))).collect();
        text.push_str(&format!("\n{docs}export {head} ={};\n", lines.concat()));
    }
}

/// An object with a field per line, or in one line where it has no words to say; anything else as it is.
fn object(text: &str) -> String {
    let Some(inner) = text.trim().strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) else {
        return text.trim().to_owned();
    };
    let fields = split(inner, ",").into_iter().map(str::trim).filter(|field| !field.is_empty());
    let fields: Vec<(Option<String>, String)> = fields
        .map(|field| match field.split_once("*/") {
            Some((words, field)) => (Some(comment(words)), unquoted(field.trim())),
            None => (None, unquoted(field)),
        })
        .collect();
    let bare: Vec<&str> = fields.iter().map(|(_, field)| &field[..]).collect();
    let one_line = format!("{{ {} }}", bare.join("; "));
    if one_line.len() <= LINE / 2 && fields.iter().all(|(words, _)| words.is_none()) {
        return one_line;
    }
    let lines = fields.iter().map(|(words, field)| {
        let words = words.as_ref().map(|words| format!("  {}\n", words.replace('\n', "\n  "))).unwrap_or_default();
        format!("{words}  {field};\n")
    });
    format!("{{\n{}}}", lines.collect::<String>())
}

/// Names of fields without quotation marks, and arrays as `T[]`.
fn unquoted(field: &str) -> String {
    let (name, of) = field.split_once(": ").expect("name: type");
    let of =
        of.strip_prefix("Array<").and_then(|of| of.strip_suffix('>')).map_or(of.to_owned(), |of| format!("{of}[]"));
    format!("{}: {of}", name.trim_matches('\''))
}

/// A comment of Rust as one of TypeScript: links become plain code.
fn comment(words: &str) -> String {
    let lines = words
        .lines()
        .map(|line| line.trim().trim_start_matches("/**").trim_start_matches("*/").trim_start_matches('*').trim());
    let words = lines.filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ");
    let plain = words.split("```").next().unwrap_or_default().replace("[`", "`").replace("`]", "`").replace("::", ".");
    let mut text = String::from("/**");
    let mut len = text.len();
    for word in plain.split_whitespace() {
        if len + word.len() > LINE - 20 {
            text.push_str("\n *");
            len = 2;
        }
        text.push_str(&format!(" {word}"));
        len += word.len() + 1;
    }
    text.push_str(" */");
    text
}

/// Splits at `separator` outside of braces, brackets and comments.
fn split<'t>(text: &'t str, separator: &str) -> Vec<&'t str> {
    let (mut parts, mut start, mut depth, mut at) = (Vec::new(), 0, 0, 0);
    while at < text.len() {
        let rest = &text[at..];
        if rest.starts_with("/*") {
            at += rest.find("*/").map_or(rest.len(), |end| end + 2);
        } else if depth == 0 && rest.starts_with(separator) {
            parts.push(&text[start..at]);
            at += separator.len();
            start = at;
        } else {
            match rest.as_bytes()[0] {
                b'{' | b'<' => depth += 1,
                b'}' | b'>' => depth -= 1,
                _ => {}
            }
            at += rest.chars().next().map_or(1, char::len_utf8);
        }
    }
    parts.push(&text[start..]);
    parts
}

#[test]
fn the_page_has_the_types_of_the_protocol() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../web/protocol.d.ts");
    let (made, there) = (protocol(), std::fs::read_to_string(path).unwrap_or_default());
    if made != there {
        let fresh = concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/protocol.d.ts");
        std::fs::write(fresh, made).unwrap();
        panic!("web/protocol.d.ts is not what the types say: cp target/protocol.d.ts web/protocol.d.ts");
    }
}
