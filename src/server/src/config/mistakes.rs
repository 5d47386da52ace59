//! What is wrong in a configuration file, for who writes it.

use clap::Parser;
use clap::error::{ContextKind, ContextValue};

use super::values::{NO_IP, NO_SOCKET};
use super::{Cli, Options};

/// Where all settings are, for who has written something else.
const ALL: &str = "moonring.example.toml has all settings, none of them in a [table]";

/// The line, what is wrong there, and what to do.
pub(super) fn words(error: &toml::de::Error, text: &str) -> String {
    let span = error.span().unwrap_or_default();
    let line = text[..span.start.min(text.len())].matches('\n').count() + 1;
    let is_table = text.lines().nth(line - 1).is_some_and(|line| line.trim_start().starts_with('['));
    let message = error.message();
    let message = match message.strip_prefix("unknown field `").and_then(|rest| rest.split_once('`')) {
        Some((key, _)) if is_table => format!("unknown field `{key}`; {ALL}"),
        // serde lists all known keys after an unknown one, which buries it.
        Some((key, _)) => format!("unknown field `{key}`; {}", instead_of(key)),
        None if message == "duplicate key" => {
            format!("duplicate key `{}`: a setting stands once", text.get(span).unwrap_or_default())
        }
        None => message.to_owned(),
    };
    // The words of Rust's parsers, in those of whoever writes the file.
    let message = message
        .replace("invalid socket address syntax", NO_SOCKET)
        .replace("invalid IP address syntax", NO_IP)
        .replace("expected socket address", "expected an IP address with a port, in quotes")
        .replace("expected usize", "expected a whole number")
        .replace("expected u64", "expected a whole number")
        .replace("expected u32", "expected a whole number")
        .replace("expected a sequence", "expected a list in [ ]");
    format!("line {line}: {message}")
}

/// What may be meant by a key that is not there: the command line has the same names, and knows which are alike.
fn instead_of(key: &str) -> String {
    let name = key.replace('-', "_");
    if Options::NAMES.contains(&name.as_str()) {
        return format!("{name} is a setting");
    }
    let option = format!("--{}=", name.replace('_', "-"));
    let refused = Cli::try_parse_from(["moonring", &option]).err();
    match refused.as_ref().and_then(|error| error.get(ContextKind::SuggestedArg)) {
        Some(ContextValue::String(alike)) => {
            let alike = alike.split([' ', '=']).next().unwrap_or_default();
            format!("{} is a setting", alike.trim_start_matches('-').replace('-', "_"))
        }
        _ => ALL.to_owned(),
    }
}
