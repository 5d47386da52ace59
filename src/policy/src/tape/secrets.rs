//! Leaves secrets out of a trace or a recording: each is replaced, wherever it stands, by the same placeholder, so that
//! what was equal stays equal.
//!
//! Secret are: the tokens that clients show (of a JSON Web Token only its signature, without which it opens nothing),
//! values whose name sounds like it, in JSON, in headers and in queries, and the keys that scripts sign and check with.
//! A token that stands in the script's own text is none: the text is in the recording.

use std::collections::{HashMap, HashSet};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

use super::alike::Alike;
use crate::tokens::{Kind, Token, content, tokens};

/// What a placeholder begins with; a number and [`CLOSE`] follow.
pub(crate) const OPEN: &str = "[secret ";
/// See [`OPEN`].
pub(crate) const CLOSE: &str = "]";
/// Shorter ones are replaced only where they are the whole text: parts of words would be, too.
const SHORTEST_PART: usize = 8;
/// Secrets that are remembered; further ones are replaced where they are met first.
const MAX_SECRETS: usize = 10_000;
/// Bytes of all that are remembered.
const MAX_BYTES: usize = 1024 * 1024;
/// Parts of the names of secrets.
const NAMES: &[&str] = &[
    "token",
    "secret",
    "password",
    "passwd",
    "passphrase",
    "authorization",
    "cookie",
    "api_key",
    "apikey",
    "api-key",
    "private_key",
    "privatekey",
    "credential",
    "signature",
    "jwt",
    "bearer",
];

/// The secrets of one recording.
#[derive(Default)]
pub(super) struct Secrets {
    whole: HashMap<String, usize>,
    /// By their first bytes.
    parts: HashMap<[u8; SHORTEST_PART], Alike>,
    bytes: usize,
    count: usize,
    /// Those of them that were too many to be remembered.
    forgotten: usize,
}

/// The texts that stand in a script: none of them is a secret, as the script is in the recording.
#[derive(Default)]
pub(super) struct Literals(HashSet<String>);

impl Literals {
    pub(super) fn of(script: &str) -> Self {
        let text = |token: &Token<'_>| match token.kind {
            Kind::Text(text) => content(text).map(ToOwned::to_owned),
            _ => None,
        };
        Self(tokens(script).iter().filter_map(text).collect())
    }
}

/// Whether what has this name is secret.
pub(crate) fn sounds_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    NAMES.iter().any(|part| name.contains(part))
}

fn placeholder(number: usize) -> String {
    format!("{OPEN}{number}{CLOSE}")
}

impl Secrets {
    /// A secret, from now on; what stands in its place.
    pub(super) fn add(&mut self, text: &str, literals: &Literals) -> String {
        if text.is_empty() {
            return String::new();
        }
        if let Some((signed, signature)) = jwt(text) {
            return format!("{signed}.{}", self.add(signature, literals));
        }
        if text.starts_with(OPEN) {
            return text.to_owned();
        }
        if let Some(number) = self.whole.get(text) {
            return placeholder(*number);
        }
        if literals.0.contains(text) {
            return text.to_owned();
        }
        self.count += 1;
        let number = self.count;
        if self.whole.len() < MAX_SECRETS && self.bytes + text.len() <= MAX_BYTES {
            self.bytes += text.len();
            self.whole.insert(text.to_owned(), number);
            if let Some(first) = text.as_bytes().first_chunk::<SHORTEST_PART>() {
                self.parts.entry(*first).or_default().add(text, number);
            }
        } else {
            self.forgotten += 1;
        }
        placeholder(number)
    }

    /// The text without secrets that are known.
    pub(super) fn hide_text(&self, text: &mut String) {
        if let Some(number) = self.whole.get(text.as_str()) {
            *text = placeholder(*number);
            return;
        }
        if self.parts.is_empty() || text.len() < SHORTEST_PART {
            return;
        }
        let (mut out, mut kept, mut at) = (String::new(), 0, 0);
        while let Some(first) = text.as_bytes().get(at..).and_then(|rest| rest.first_chunk::<SHORTEST_PART>()) {
            let rest = &text.as_bytes()[at..];
            match self.parts.get(first).and_then(|alike| alike.longest_in(rest)) {
                Some(secret) => {
                    out.push_str(&text[kept..at]);
                    out.push_str(&placeholder(secret.number));
                    at += secret.text.len();
                    kept = at;
                }
                None => at += 1,
            }
        }
        if kept > 0 {
            out.push_str(&text[kept..]);
            *text = out;
        }
    }

    /// Takes the secrets out of a value, after learning of those that its names tell of.
    pub(super) fn hide(&mut self, value: &mut Value, literals: &Literals) {
        self.learn(value, literals);
        self.hide_known(value);
    }

    /// What a name tells of is left out where it stands, whether or not it is remembered.
    fn learn(&mut self, value: &mut Value, literals: &Literals) {
        match value {
            Value::Object(fields) => {
                // Of the stores: the value under a key that sounds like it.
                let is_of_store = fields.get("key").and_then(Value::as_str).is_some_and(sounds_secret);
                for (name, field) in fields {
                    let is_stored = is_of_store && ["value", "expected"].contains(&name.as_str());
                    match field {
                        field if is_stored || sounds_secret(name) => self.learn_named(field, literals),
                        Value::String(text) if name == "http" => self.learn_query(text, literals),
                        Value::String(text) if name == "body" => self.learn_body(text, literals),
                        Value::Array(pairs) if name == "headers" => self.learn_headers(pairs, literals),
                        field => self.learn(field, literals),
                    }
                }
            }
            Value::Array(items) => items.iter_mut().for_each(|item| self.learn(item, literals)),
            _ => {}
        }
    }

    /// What has a name that sounds secret: a text, or a list of them.
    fn learn_named(&mut self, value: &mut Value, literals: &Literals) {
        match value {
            Value::String(text) => self.learn_text(text, literals),
            Value::Array(items) => items.iter_mut().for_each(|item| self.learn_named(item, literals)),
            other => self.learn(other, literals),
        }
    }

    /// A secret, perhaps behind `Bearer `.
    fn learn_text(&mut self, text: &mut String, literals: &Literals) {
        let is_scheme = |word: &str| ["bearer", "basic", "token"].contains(&word.to_ascii_lowercase().as_str());
        let at = text.split_once(' ').filter(|(word, _)| is_scheme(word)).map_or(0, |(word, _)| word.len() + 1);
        let shown = self.add(&text[at..], literals);
        text.replace_range(at.., &shown);
    }

    fn learn_headers(&mut self, headers: &mut [Value], literals: &Literals) {
        for header in headers {
            if let Some([Value::String(name), Value::String(text)]) = header.as_array_mut().map(Vec::as_mut_slice)
                && sounds_secret(name)
            {
                self.learn_text(text, literals);
            }
        }
    }

    /// Of a URL: who asks, and the fields of its query.
    fn learn_query(&mut self, url: &mut String, literals: &Literals) {
        if let Some(at) = url.find('?') {
            let form = self.learn_form(&url[at + 1..], literals);
            url.replace_range(at + 1.., &form);
        }
        let authority = url.find("://").map_or(0, |at| at + 3);
        let end = url[authority..].find(['/', '?', '#']).map_or(url.len(), |length| authority + length);
        if let Some(length) = url[authority..end].rfind('@') {
            let shown = self.add(&url[authority..authority + length], literals);
            url.replace_range(authority..authority + length, &shown);
        }
    }

    fn learn_form(&mut self, form: &str, literals: &Literals) -> String {
        let pairs = form.split('&').map(|pair| match pair.split_once('=') {
            Some((name, value)) if sounds_secret(name) => format!("{name}={}", self.add(value, literals)),
            _ => pair.to_owned(),
        });
        pairs.collect::<Vec<_>>().join("&")
    }

    fn learn_body(&mut self, body: &mut String, literals: &Literals) {
        if !body.trim_start().starts_with(['{', '[']) {
            *body = self.learn_form(body, literals);
        } else if let Ok(mut json) = serde_json::from_str::<Value>(body) {
            let remembered = self.forgotten;
            self.learn(&mut json, literals);
            // Those that are remembered are found in the text as it is.
            if self.forgotten > remembered {
                *body = json.to_string();
            }
        }
    }

    fn hide_known(&self, value: &mut Value) {
        match value {
            Value::String(text) => self.hide_text(text),
            Value::Array(items) => items.iter_mut().for_each(|item| self.hide_known(item)),
            Value::Object(fields) => fields.iter_mut().for_each(|(_, field)| self.hide_known(field)),
            _ => {}
        }
    }
}

/// What is signed in a JSON Web Token, and the signature.
pub(crate) fn jwt(token: &str) -> Option<(&str, &str)> {
    let (signed, signature) = token.rsplit_once('.')?;
    let (header, _) = signed.split_once('.').filter(|(_, claims)| !claims.contains('.'))?;
    let header = URL_SAFE_NO_PAD.decode(header).ok()?;
    let is_header = serde_json::from_slice::<Value>(&header).is_ok_and(|header| header.get("alg").is_some());
    (is_header && !signature.is_empty()).then_some((signed, signature))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn literals() -> Literals {
        Literals::of("return auth_token == 'open sesame'")
    }

    fn hidden(secrets: &mut Secrets, mut value: Value) -> Value {
        secrets.hide(&mut value, &literals());
        value
    }

    #[test]
    fn a_secret_is_the_same_placeholder_wherever_it_stands() {
        let mut secrets = Secrets::default();
        assert_eq!(secrets.add("hunter2-hunter2", &literals()), "[secret 1]");
        assert_eq!(secrets.add("short", &literals()), "[secret 2]");
        assert_eq!(secrets.add("hunter2-hunter2", &literals()), "[secret 1]");
        for (given, expected) in [
            (json!("hunter2-hunter2"), json!("[secret 1]")),
            (json!(["say hunter2-hunter2!"]), json!(["say [secret 1]!"])),
            (json!("hunter2-hunter2hunter2-hunter2"), json!("[secret 1][secret 1]")),
            (json!({ "a": "short", "b": "a short word" }), json!({ "a": "[secret 2]", "b": "a short word" })),
            (json!("hunter2-hunter"), json!("hunter2-hunter")),
            (json!("ñhunter2-hunter2ñ"), json!("ñ[secret 1]ñ")),
        ] {
            assert_eq!(hidden(&mut secrets, given), expected);
        }
    }

    #[test]
    fn of_many_secrets_that_begin_alike_the_longest_is_found() {
        // Texts of few letters, so that many begin with one another; a generator without a library.
        let mut random = 1_u64;
        let mut next = |below: u64| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (random >> 33) % below
        };
        let mut text = |longest: u64| {
            let letters = next(longest);
            (0..letters).fold("sk_live_".to_owned(), |text, _| text + ["a", "b", "ñ"][next(3) as usize])
        };
        let mut secrets = Secrets::default();
        let mut known: Vec<(String, String)> = Vec::new();
        for _ in 0..2_000 {
            let given = text(9);
            let shown = secrets.add(&given, &literals());
            known.push((given, shown));
            let message = format!("{}{}", text(14), text(14));
            // Naively: at each place the longest that fits.
            let (mut expected, mut rest) = (String::new(), message.as_str());
            while let Some(first) = rest.chars().next() {
                let longest = known.iter().filter(|(secret, _)| rest.starts_with(secret.as_str()));
                match longest.max_by_key(|(secret, _)| secret.len()) {
                    Some((secret, shown)) => (expected, rest) = (expected + shown, &rest[secret.len()..]),
                    None => (expected, rest) = (expected + &rest[..first.len_utf8()], &rest[first.len_utf8()..]),
                }
            }
            assert_eq!(hidden(&mut secrets, json!(message)), json!(expected));
        }
    }

    #[test]
    #[ignore = "prints figures"]
    #[allow(clippy::print_stdout, reason = "prints figures")]
    fn the_time_that_many_secrets_that_begin_alike_take() {
        let mut secrets = Secrets::default();
        for n in 0..MAX_SECRETS {
            secrets.add(&format!("aaaaaaaa{n:05}"), &literals());
        }
        let mut message = "a".repeat(64 * 1024);
        let began = std::time::Instant::now();
        secrets.hide_text(&mut message);
        println!("secrets={MAX_SECRETS} bytes={} took={:?}", message.len(), began.elapsed());
    }

    #[test]
    fn what_a_name_tells_of_is_secret_in_json_headers_queries_and_bodies() {
        for (given, secret) in [
            (json!({ "password": "correct horse" }), "correct horse"),
            (json!({ "a": [{ "accessToken": "correct horse" }] }), "correct horse"),
            (json!({ "http": "https://x.example/?q=1&token=abcdefgh", "headers": [], "body": "" }), "abcdefgh"),
            (json!({ "http": "https://me:abcdefgh@x.example/", "headers": [], "body": "" }), "abcdefgh"),
            (json!({ "http": "https://x.example/", "headers": [["Authorization", "Bearer abcdefgh"]] }), "abcdefgh"),
            (json!({ "http": "https://x.example/", "body": "{\"api_key\":\"abcdefgh\"}" }), "abcdefgh"),
            (json!({ "http": "https://x.example/", "body": "user=a&password=abcdefgh" }), "abcdefgh"),
            (json!({ "headers": [["set-cookie", "session=abcdefgh"]], "body": "" }), "abcdefgh"),
            (json!({ "store": "set", "of": { "key": "token:ada", "value": "abcdefgh" } }), "abcdefgh"),
            (json!({ "tokens": ["abcdefgh", ["x"]] }), "abcdefgh"),
        ] {
            // Also when as many are known as are remembered.
            for others in [0, MAX_SECRETS] {
                let mut secrets = Secrets::default();
                (0..others).for_each(|n| drop(secrets.add(&format!("other {n}"), &Literals::default())));
                let told = hidden(&mut secrets, given.clone()).to_string();
                assert!(given.to_string().contains(secret) && !told.contains(secret), "{others}: {told}");
                assert!(told.contains("[secret "), "{told}");
            }
        }
    }

    #[test]
    fn of_a_json_web_token_the_signature_is_secret_and_what_the_script_says_is_not() {
        let mut secrets = Secrets::default();
        let signed = format!("{}.e30", URL_SAFE_NO_PAD.encode("{\"alg\":\"HS256\"}"));
        assert_eq!(secrets.add(&format!("{signed}.c2lnbmF0dXJl"), &literals()), format!("{signed}.[secret 1]"));
        assert_eq!(secrets.add("open sesame", &literals()), "open sesame");
        assert_eq!(secrets.add("", &literals()), "");
    }
}
