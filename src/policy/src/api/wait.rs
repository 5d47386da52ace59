//! What a hook waits for: `sfu.sleep`, `sfu.http`, and the stores (`stores.rs`). The functions here only write down what for; the
//! prelude then yields, and the engine resumes the hook with the answer.

use std::time::Duration;

use mlua::{IntoLuaMulti, Lua, MultiValue, Table, Value};

use super::args::arg;
use super::timer::delay;
use super::{Functions, HostResult, Kind, fail_mark, refused};
use crate::host::WaitFor;
use crate::output::{HttpReply, HttpRequest, PolicyReply, PolicyRequest, SharedValue};
use crate::settings::MAX_REQUEST_TIME;

/// Bytes of a URL.
const MAX_URL: usize = 4096;
/// Headers of one request.
const MAX_HEADERS: usize = 64;
/// Bytes of a header's name or value.
const MAX_HEADER: usize = 8192;
/// Bytes of a request's body.
const MAX_BODY: usize = 256 * 1024;
/// What a request waits when it does not say.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(5);
/// What a request is made of.
pub(crate) const REQUEST_FIELDS: &[&str] = &["url", "method", "headers", "body", "timeout"];
const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];

pub(super) fn register(functions: &mut Functions) {
    functions
        .add_as(Kind::Waits, "sfu.sleep", |_, host, ms: Value| host.wait_for(WaitFor::Time(delay("sfu.sleep", &ms)?)));
    functions.add_as(Kind::Waits, "sfu.http", |_, host, request: Value| {
        host.wait_for(WaitFor::Reply(PolicyRequest::Http(http_request(&request)?)))
    });
    // What `sfu.jwks` fetches: once for all that wait for it.
    functions.add_as(Kind::Internal, "fetch", |_, host, url: Value| {
        host.wait_for(WaitFor::Shared(PolicyRequest::Http(http_request(&url)?)))
    });
}

/// The values that the wait of a hook returns; none for a sleep.
pub(crate) fn values(lua: &Lua, reply: Option<PolicyReply>) -> mlua::Result<MultiValue> {
    reply.map_or_else(|| Ok(MultiValue::new()), |reply| reply_values(lua, reply))
}

fn reply_values(lua: &Lua, reply: PolicyReply) -> mlua::Result<MultiValue> {
    let refusal = |message: String| (Value::Nil, message).into_lua_multi(lua);
    match reply {
        PolicyReply::Http(Ok(reply)) => http_reply(lua, &reply)?.into_lua_multi(lua),
        PolicyReply::Shared(Ok(None)) => Value::Nil.into_lua_multi(lua),
        PolicyReply::Shared(Ok(Some(SharedValue::Number(number)))) => number.into_lua_multi(lua),
        PolicyReply::Shared(Ok(Some(SharedValue::Flag(flag)))) => flag.into_lua_multi(lua),
        PolicyReply::Shared(Ok(Some(SharedValue::Text(text)))) => lua.create_string(text)?.into_lua_multi(lua),
        PolicyReply::Http(Err(message)) => refusal(message),
        // A limit that is kept in the store must not be lifted by a store that does not answer.
        PolicyReply::Shared(Err(message)) => (fail_mark(), message).into_lua_multi(lua),
    }
}

fn http_reply(lua: &Lua, reply: &HttpReply) -> mlua::Result<Table> {
    let headers = lua.create_table_with_capacity(0, reply.headers.len())?;
    for (name, value) in &reply.headers {
        headers.raw_set(name.as_str(), value.as_str())?;
    }
    let table = lua.create_table_with_capacity(0, 3)?;
    table.raw_set("status", reply.status)?;
    table.raw_set("headers", headers)?;
    table.raw_set("body", lua.create_string(&reply.body)?)?;
    Ok(table)
}

/// `{ url =, method =, headers =, body =, timeout = }`, or the URL alone; the timeout is in milliseconds.
fn http_request(request: &Value) -> HostResult<HttpRequest> {
    let table = match request {
        Value::Table(table) => table,
        Value::String(_) => return Ok(plain_get(arg("sfu.http", "url", request).text(MAX_URL)?)),
        other => return Err(arg("sfu.http", "request", other).bad("table or URL expected")),
    };
    let field = |name: &'static str| table.raw_get::<Value>(name).map_err(refused);
    let mut result = plain_get(arg("sfu.http", "url", &field("url")?).text(MAX_URL)?);
    let method = field("method")?;
    let method = arg("sfu.http", "method", &method);
    if !method.absent() {
        result.method = method.text(16)?.to_ascii_uppercase();
        if !METHODS.contains(&result.method.as_str()) {
            return Err(method.bad(format_args!("one of {} expected", METHODS.join(", "))));
        }
    }
    let body = field("body")?;
    if !body.is_nil() {
        result.body = arg("sfu.http", "body", &body).bytes(MAX_BODY)?;
    }
    let timeout = field("timeout")?;
    if !timeout.is_nil() {
        let ms = arg("sfu.http", "timeout", &timeout).number(1.0..=MAX_REQUEST_TIME.as_millis() as f64)?;
        result.timeout = Duration::from_secs_f64(ms / 1000.0);
    }
    match field("headers")? {
        Value::Nil => {}
        Value::Table(headers) => result.headers = header_lines(&headers)?,
        other => return Err(arg("sfu.http", "headers", &other).bad("table expected")),
    }
    Ok(result)
}

fn plain_get(url: String) -> HttpRequest {
    HttpRequest { method: "GET".into(), url, headers: Vec::new(), body: Vec::new(), timeout: DEFAULT_TIMEOUT }
}

fn header_lines(headers: &Table) -> HostResult<Vec<(String, String)>> {
    let mut lines = Vec::new();
    for pair in headers.pairs::<Value, Value>() {
        let (name, value) = pair.map_err(refused)?;
        let header = arg("sfu.http", "headers", &name);
        let text = header.text(MAX_HEADER)?;
        let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b); // RFC 9110 section 5.6.2
        if text.is_empty() || !text.bytes().all(token) {
            return Err(header.bad("a header's name is not a token"));
        }
        let value = match &value {
            Value::Integer(number) => number.to_string(),
            value => arg("sfu.http", "headers", value).text(MAX_HEADER)?,
        };
        if value.bytes().any(|b| b < b' ' && b != b'\t' || b == 0x7f) {
            return Err(header.bad("a header's value has control characters"));
        }
        if lines.len() == MAX_HEADERS {
            return Err(header.bad(format_args!("more than {MAX_HEADERS} headers")));
        }
        lines.push((text, value));
    }
    lines.sort();
    Ok(lines)
}
