//! What a request tells policies of who has sent it.

use std::net::IpAddr;

use axum::http::{HeaderMap, HeaderName, StatusCode, header};

use super::app::App;
use super::problem::Problem;
use moonring_policy::client::{Connection, Via};

/// Longest value of a header that policies decide by: half of it would be another one, so that it is refused.
const MAX_HEADER_BYTES: usize = 1024;
/// Bytes of a browser's or a program's own name that are kept.
const MAX_USER_AGENT_BYTES: usize = 512;

/// The request with `headers` that has come from `ip`.
pub(super) fn connection(app: &App, ip: IpAddr, via: Via, headers: &HeaderMap) -> Result<Connection, Problem> {
    let mut chosen = Vec::new();
    for name in &app.script_headers {
        if let Some(value) = value_of(headers, name)? {
            chosen.push((name.as_str().to_owned(), value));
        }
    }
    let origin = value_of(headers, &header::ORIGIN)?;
    let user_agent = headers.get(header::USER_AGENT).map(|value| shown(value.as_bytes()));
    Ok(Connection { ip, via, origin, user_agent, headers: chosen })
}

/// A header's value. One that came more than once is one list (RFC 9110 section 5.3): what a client has put beside the
/// value of a proxy is seen.
fn value_of(headers: &HeaderMap, name: &HeaderName) -> Result<Option<String>, Problem> {
    let mut text = String::new();
    for (n, value) in headers.get_all(name).iter().enumerate() {
        let value = std::str::from_utf8(value.as_bytes());
        let value =
            value.map_err(|_| Problem::new(StatusCode::BAD_REQUEST, format!("the header {name} is not UTF-8")))?;
        if n > 0 {
            text.push_str(", ");
        }
        text.push_str(value.trim());
        if text.len() > MAX_HEADER_BYTES {
            let detail = format!("the header {name} is longer than {MAX_HEADER_BYTES} bytes");
            return Err(Problem::new(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, detail));
        }
    }
    Ok(headers.contains_key(name).then_some(text))
}

fn shown(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(MAX_USER_AGENT_BYTES)]);
    text.trim_end_matches(char::REPLACEMENT_CHARACTER).to_owned()
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn headers(values: &[&[u8]]) -> HeaderMap {
        let value = |bytes: &&[u8]| (header::FORWARDED, HeaderValue::from_bytes(bytes).unwrap());
        values.iter().map(value).collect()
    }

    #[test]
    fn a_header_is_whole_or_refused() {
        let long = [b'x'; MAX_HEADER_BYTES + 1];
        for (values, expected) in [
            (&[][..], Ok(None)),
            (&[&b"a"[..]], Ok(Some("a".to_owned()))),
            (&[b""], Ok(Some(String::new()))),
            (&[b"a", b" b "], Ok(Some("a, b".to_owned()))),
            (&["ä".as_bytes()], Ok(Some("ä".to_owned()))),
            (&[b"\xff"], Err(StatusCode::BAD_REQUEST)),
            (&[&long[1..]], Ok(Some("x".repeat(MAX_HEADER_BYTES)))),
            (&[&long], Err(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE)),
            (&[&long[2..], b"x"], Err(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE)),
        ] {
            let found = value_of(&headers(values), &header::FORWARDED).map_err(|problem| problem.status);
            assert_eq!(found, expected, "{values:?}");
        }
    }

    #[test]
    fn a_user_agent_is_cut_between_characters() {
        assert_eq!(shown(b"Firefox/140"), "Firefox/140");
        let long = "ä".repeat(MAX_USER_AGENT_BYTES);
        assert_eq!(shown(&long.as_bytes()[1..]).chars().count(), MAX_USER_AGENT_BYTES / 2);
        assert_eq!(shown(long.as_bytes()), "ä".repeat(MAX_USER_AGENT_BYTES / 2));
    }
}
