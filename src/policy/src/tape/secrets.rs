//! Leaves secrets out of a trace or a recording: each is replaced, wherever it stands, by the same placeholder, so that
//! what was equal stays equal.
//!
//! Secret are: the tokens that clients show (of a JSON Web Token only its signature, without which it opens nothing),
//! values whose name sounds like it, in JSON, in headers and in queries, and the keys that scripts sign and check with.
//! A token that stands in the script's own text is none: the text is in the recording.

use std::collections::HashMap;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

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
}

/// Secrets that begin with the same bytes. What a text begins with is found without a look at each of them: who sends what
/// is recorded also chooses the secrets, and how many there are.
#[derive(Default)]
struct Alike {
    secrets: Vec<Secret>,
    /// Places in `secrets`, in the order of their texts.
    order: Vec<usize>,
}

struct Secret {
    text: String,
    number: usize,
    /// The place of the longest other one with which this one begins.
    within: Option<usize>,
}

impl Alike {
    /// Adds one that is not among them.
    fn add(&mut self, text: &str, number: usize) {
        let new = self.secrets.len();
        let at = self.order.partition_point(|place| self.secrets[*place].text.as_str() < text);
        let within = self.place_in(text.as_bytes());
        // Those that begin with the new one come next.
        for place in &self.order[at..] {
            let longer = &self.secrets[*place];
            if !longer.text.starts_with(text) {
                break;
            }
            if longer.within == within {
                self.secrets[*place].within = Some(new);
            }
        }
        self.secrets.push(Secret { text: text.to_owned(), number, within });
        self.order.insert(at, new);
    }

    /// The longest of them with which `rest` begins.
    fn longest_in(&self, rest: &[u8]) -> Option<&Secret> {
        self.place_in(rest).map(|place| &self.secrets[place])
    }

    /// Whatever `rest` begins with is also what the last one before it begins with, or is that one.
    fn place_in(&self, rest: &[u8]) -> Option<usize> {
        let after = self.order.partition_point(|place| self.secrets[*place].text.as_bytes() <= rest);
        let last = self.order[..after].last().copied()?;
        let common = self.secrets[last].text.bytes().zip(rest).take_while(|(a, b)| a == *b).count();
        let mut chain = std::iter::successors(Some(last), |place| self.secrets[*place].within);
        chain.find(|place| self.secrets[*place].text.len() <= common)
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
    pub(super) fn add(&mut self, text: &str, script: &str) -> String {
        if text.is_empty() {
            return String::new();
        }
        if let Some((signed, signature)) = jwt(text) {
            return format!("{signed}.{}", self.add(signature, script));
        }
        if text.starts_with(OPEN) {
            return text.to_owned();
        }
        if let Some(number) = self.whole.get(text) {
            return placeholder(*number);
        }
        if stands_in(script, text) {
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
    pub(super) fn hide(&mut self, value: &mut Value, script: &str) {
        self.learn(value, script);
        self.hide_known(value);
    }

    fn learn(&mut self, value: &Value, script: &str) {
        match value {
            Value::Object(fields) => {
                for (name, field) in fields {
                    match field {
                        Value::String(text) if sounds_secret(name) => self.learn_text(text, script),
                        Value::String(text) if name == "http" => self.learn_query(text, script),
                        Value::String(text) if name == "body" => self.learn_body(text, script),
                        Value::Array(pairs) if name == "headers" => self.learn_headers(pairs, script),
                        field => self.learn(field, script),
                    }
                }
                // Of the stores: the value under a key that sounds like it.
                if let Some(Value::String(key)) = fields.get("key")
                    && sounds_secret(key)
                {
                    for name in ["value", "expected"] {
                        if let Some(Value::String(text)) = fields.get(name) {
                            self.learn_text(text, script);
                        }
                    }
                }
            }
            Value::Array(items) => items.iter().for_each(|item| self.learn(item, script)),
            _ => {}
        }
    }

    /// A secret, perhaps behind `Bearer `.
    fn learn_text(&mut self, text: &str, script: &str) {
        let text = text.split_once(' ').map_or(text, |(scheme, rest)| {
            if ["bearer", "basic", "token"].contains(&scheme.to_ascii_lowercase().as_str()) { rest } else { text }
        });
        self.add(text, script);
    }

    fn learn_headers(&mut self, headers: &[Value], script: &str) {
        for header in headers {
            if let (Some(name), Some(text)) = (header[0].as_str(), header[1].as_str())
                && sounds_secret(name)
            {
                self.learn_text(text, script);
            }
        }
    }

    /// Of a URL: who asks, and the fields of its query.
    fn learn_query(&mut self, url: &str, script: &str) {
        let after_scheme = url.split_once("://").map_or(url, |(_, rest)| rest);
        let authority = after_scheme.split(['/', '?', '#']).next().unwrap_or_default();
        if let Some((user, _)) = authority.rsplit_once('@') {
            self.add(user, script);
        }
        if let Some((_, query)) = url.split_once('?') {
            self.learn_form(query, script);
        }
    }

    fn learn_form(&mut self, form: &str, script: &str) {
        for (name, value) in form.split('&').filter_map(|pair| pair.split_once('=')) {
            if sounds_secret(name) {
                self.add(value, script);
            }
        }
    }

    fn learn_body(&mut self, body: &str, script: &str) {
        match body.trim_start().as_bytes().first() {
            Some(b'{' | b'[') => {
                if let Ok(json) = serde_json::from_str::<Value>(body) {
                    self.learn(&json, script);
                }
            }
            _ => self.learn_form(body, script),
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

/// Whether a text stands in a script as a string.
fn stands_in(script: &str, text: &str) -> bool {
    let is_quoted = |at: usize| {
        let (before, after) = (script[..at].chars().next_back(), script[at + text.len()..].chars().next());
        matches!((before, after), (Some('"'), Some('"')) | (Some('\''), Some('\'')))
    };
    script.match_indices(text).any(|(at, _)| is_quoted(at))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const SCRIPT: &str = "return auth_token == 'open sesame'";

    fn hidden(secrets: &mut Secrets, mut value: Value) -> Value {
        secrets.hide(&mut value, SCRIPT);
        value
    }

    #[test]
    fn a_secret_is_the_same_placeholder_wherever_it_stands() {
        let mut secrets = Secrets::default();
        assert_eq!(secrets.add("hunter2-hunter2", SCRIPT), "[secret 1]");
        assert_eq!(secrets.add("short", SCRIPT), "[secret 2]");
        assert_eq!(secrets.add("hunter2-hunter2", SCRIPT), "[secret 1]");
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
            let shown = secrets.add(&given, SCRIPT);
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
            secrets.add(&format!("aaaaaaaa{n:05}"), SCRIPT);
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
        ] {
            let mut secrets = Secrets::default();
            let told = hidden(&mut secrets, given.clone()).to_string();
            assert!(given.to_string().contains(secret) && !told.contains(secret), "{told}");
        }
    }

    #[test]
    fn of_a_json_web_token_the_signature_is_secret_and_what_the_script_says_is_not() {
        let mut secrets = Secrets::default();
        let signed = format!("{}.e30", URL_SAFE_NO_PAD.encode("{\"alg\":\"HS256\"}"));
        assert_eq!(secrets.add(&format!("{signed}.c2lnbmF0dXJl"), SCRIPT), format!("{signed}.[secret 1]"));
        assert_eq!(secrets.add("open sesame", SCRIPT), "open sesame");
        assert_eq!(secrets.add("", SCRIPT), "");
    }
}
