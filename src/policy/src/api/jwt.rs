//! `sfu.jwt_verify(token, key, options)`: the claims of a token that holds, or `nil` and why it does not; and
//! `sfu.jwt_sign(claims, key, options)`.
//!
//! The kind of key decides which algorithms there are, never the token: a PEM public key is not a secret, so a token
//! that claims HS256 and is "signed" with the public key's text is refused (RFC 8725 section 3.1).

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::dangerous::insecure_decode;
use jsonwebtoken::errors::{Error, ErrorKind};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, encode};
use mlua::{IntoLuaMulti, Table, Value};
use serde_json::Value as Json;

use super::args::{Arg, arg, type_name};
use super::json::{from_json, to_json};
use super::jwt_key::{KeyKind, MAX_KEY, RsaSize, algorithms_of, is_public, kind_of, name_of};
use super::jwt_set::{is_set, key_of_set};
use super::{Functions, HostResult, refused};
use crate::host::Host;

/// Bytes of a token.
const MAX_TOKEN: usize = 16 * 1024;
/// Bytes of an option.
const MAX_OPTION: usize = 1024;
/// Bits of an RSA key that signs: nothing can stop a signature on the way.
const MAX_SIGNING_BITS: usize = 4096;
/// Algorithms that one verification accepts.
const MAX_ALGORITHMS: usize = 16;
/// Seconds by which clocks may differ when the options don't say.
const LEEWAY: f64 = 60.0;

/// The options of `sfu.jwt_verify`.
pub(crate) const VERIFY_OPTIONS: &[&str] = &["alg", "aud", "iss", "leeway", "require_exp"];
/// The options of `sfu.jwt_sign`.
pub(crate) const SIGN_OPTIONS: &[&str] = &["alg", "kid", "typ"];

/// What a script expects of a token.
struct Expected {
    /// Empty: the default of the key's kind.
    algorithms: Vec<Algorithm>,
    audience: Option<String>,
    issuer: Option<String>,
    leeway: f64,
    require_exp: bool,
}

pub(super) fn register(functions: &mut Functions) {
    functions.add("sfu.jwt_verify", |lua, host, (token, key, options): (Value, Value, Value)| {
        let token = arg("sfu.jwt_verify", "token", &token).bytes(MAX_TOKEN)?;
        let key = arg("sfu.jwt_verify", "key", &key).bytes(MAX_KEY)?;
        let expected = expected_of(&options)?;
        if kind_of(&key) == Ok(KeyKind::Secret) {
            host.room.reads.secret(&key);
        }
        let values = match verify(host, &token, &key, &expected) {
            Ok(claims) => from_json(lua, &claims)?.into_lua_multi(lua),
            Err(message) => (Value::Nil, message).into_lua_multi(lua),
        };
        values.map_err(refused)
    });
    functions.add("sfu.jwt_sign", |lua, host, args: (Value, Value, Value)| {
        let token = sign(host, &args.0, &args.1, &args.2)?;
        lua.create_string(token).map_err(refused)
    });
}

/// The options as a table without names that are not `known`; `None` when there are none.
fn options_of<'a>(function: &'static str, options: &'a Value, known: &[&str]) -> HostResult<Option<&'a Table>> {
    let table = match options {
        Value::Nil => return Ok(None),
        Value::Table(table) => table,
        other => return Err(arg(function, "options", other).bad("table expected")),
    };
    for pair in table.pairs::<Value, Value>() {
        let (name, _) = pair.map_err(refused)?;
        let name = match &name {
            Value::String(name) => name.to_string_lossy(),
            Value::Integer(number) => number.to_string(),
            other => type_name(other).to_owned(),
        };
        if !known.contains(&name.as_str()) {
            let known = known.join(", ");
            return Err(
                arg(function, "options", options).bad(format_args!("unknown option '{name}'; there are {known}"))
            );
        }
    }
    Ok(Some(table))
}

fn expected_of(options: &Value) -> HostResult<Expected> {
    const FUNCTION: &str = "sfu.jwt_verify";
    let mut expected =
        Expected { algorithms: Vec::new(), audience: None, issuer: None, leeway: LEEWAY, require_exp: true };
    let Some(table) = options_of(FUNCTION, options, VERIFY_OPTIONS)? else { return Ok(expected) };
    let field = |name: &'static str| table.raw_get::<Value>(name).map_err(refused);
    let text = |name: &'static str| -> HostResult<Option<String>> {
        let value = field(name)?;
        if value.is_nil() { Ok(None) } else { arg(FUNCTION, name, &value).text(MAX_OPTION).map(Some) }
    };
    expected.algorithms = algorithms(arg(FUNCTION, "alg", &field("alg")?))?;
    (expected.audience, expected.issuer) = (text("aud")?, text("iss")?);
    let leeway = field("leeway")?;
    if !leeway.is_nil() {
        expected.leeway = arg(FUNCTION, "leeway", &leeway).number(0.0..=86_400.0)?;
    }
    match field("require_exp")? {
        Value::Nil => {}
        Value::Boolean(flag) => expected.require_exp = flag,
        other => return Err(arg(FUNCTION, "require_exp", &other).bad("boolean expected")),
    }
    Ok(expected)
}

/// The name of an algorithm, or a list of names.
fn algorithms(value: Arg<'_>) -> HostResult<Vec<Algorithm>> {
    let one = |name: &Value| {
        let name = Arg { value: name, ..value };
        let text = name.text(MAX_OPTION)?;
        text.parse::<Algorithm>().map_err(|_| name.bad(format_args!("'{text}' is not an algorithm that is known here")))
    };
    match value.value {
        Value::Nil => Ok(Vec::new()),
        Value::Table(list) => {
            let names = list.sequence_values::<Value>().take(MAX_ALGORITHMS);
            let found: Vec<_> = names.map(|name| one(&name.map_err(refused)?)).collect::<HostResult<_>>()?;
            if found.is_empty() { Err(value.bad("an empty list accepts nothing")) } else { Ok(found) }
        }
        name => Ok(vec![one(name)?]),
    }
}

/// The claims of a token whose signature, times, audience and issuer hold.
fn verify(host: &Host, token: &[u8], key: &[u8], expected: &Expected) -> HostResult<Json> {
    let kid = check_header(token)?;
    if is_set(key) {
        let (kind, decoding) = key_of_set(key, kid.as_deref())?;
        return verify_with(host, token, (kind, &decoding), expected);
    }
    let kind = kind_of(key)?;
    if kind == KeyKind::Rsa
        && let Some(why) = RsaSize::of_pem(key).and_then(RsaSize::why_not_verified)
    {
        return Err(format!("the key in PEM {why}"));
    }
    let decoding = match kind {
        KeyKind::Secret => Ok(DecodingKey::from_secret(key)),
        KeyKind::Rsa => DecodingKey::from_rsa_pem(key),
        KeyKind::P256 | KeyKind::P384 => DecodingKey::from_ec_pem(key),
        KeyKind::Ed25519 => DecodingKey::from_ed_pem(key),
    };
    let decoding = decoding.map_err(|_| "the key is not a public key in PEM".to_owned())?;
    verify_with(host, token, (kind, &decoding), expected)
}

fn verify_with(
    host: &Host,
    token: &[u8],
    (kind, key): (KeyKind, &DecodingKey),
    expected: &Expected,
) -> HostResult<Json> {
    let accepted = accepted(kind, &expected.algorithms)?;
    let mut validation = Validation::new(accepted[0]);
    validation.algorithms = accepted;
    // Times are checked below, by the engine's clock.
    validation.required_spec_claims.clear();
    validation.validate_exp = false;
    validation.validate_aud = false;
    let decoded = match host.room.reads.replayed(token) {
        // Left out of the recording that is being replayed.
        Some(holds) => decode_replayed(token, &validation.algorithms, holds),
        None => decode::<Json>(token, key, &validation).map(|token| token.claims).map_err(Error::into_kind),
    };
    if matches!(decoded, Ok(_) | Err(ErrorKind::InvalidSignature)) {
        host.room.reads.signature(token, decoded.is_ok());
    }
    let claims = decoded.map_err(|kind| error_message(&kind))?;
    check_times(&claims, expected, host.room.unix.get().as_secs_f64())?;
    if let Some(audience) = &expected.audience {
        let holds = match &claims["aud"] {
            Json::Array(list) => list.iter().any(|one| one == audience),
            one => one == audience,
        };
        if !holds {
            return Err("the token is for another audience".into());
        }
    }
    match &expected.issuer {
        Some(issuer) if claims["iss"] != **issuer => Err("the token is of another issuer".into()),
        _ => Ok(claims),
    }
}

/// The claims of a token whose signature has been left out of a recording, where it held or not.
fn decode_replayed(token: &[u8], accepted: &[Algorithm], holds: bool) -> Result<Json, ErrorKind> {
    let token = insecure_decode::<Json>(token).map_err(Error::into_kind)?;
    match accepted.contains(&token.header.alg) {
        true if holds => Ok(token.claims),
        true => Err(ErrorKind::InvalidSignature),
        false => Err(ErrorKind::InvalidAlgorithm),
    }
}

/// The algorithms that are both the key's and among those `wanted`.
fn accepted(kind: KeyKind, wanted: &[Algorithm]) -> HostResult<Vec<Algorithm>> {
    let of_kind = algorithms_of(kind);
    if wanted.is_empty() {
        return Ok(vec![of_kind[0]]);
    }
    let both: Vec<_> = of_kind.iter().copied().filter(|algorithm| wanted.contains(algorithm)).collect();
    if both.is_empty() {
        let names = |list: &[Algorithm]| list.iter().map(|one| name_of(*one)).collect::<Vec<_>>().join(", ");
        return Err(format!("the key is one for {}, not for {}", names(of_kind), names(wanted)));
    }
    Ok(both)
}

/// The id of the token's key, if it has one. Refuses a token whose header has parameters that must be understood
/// (RFC 7515 section 4.1.11): none are here.
fn check_header(token: &[u8]) -> HostResult<Option<String>> {
    let malformed = || "the token is malformed".to_owned();
    let header = token.split(|byte| *byte == b'.').next().unwrap_or_default();
    let header = URL_SAFE_NO_PAD.decode(header).map_err(|_| malformed())?;
    let header: Json = serde_json::from_slice(&header).map_err(|_| malformed())?;
    if header.get("crit").is_some() {
        return Err("the token has critical header parameters (crit), which are not supported".into());
    }
    if !header.is_object() {
        return Err(malformed());
    }
    match &header["kid"] {
        Json::Null => Ok(None),
        Json::String(kid) => Ok(Some(kid.clone())),
        _ => Err(malformed()),
    }
}

fn check_times(claims: &Json, expected: &Expected, now: f64) -> HostResult<()> {
    let time = |name: &str| match &claims[name] {
        Json::Null => Ok(None),
        Json::Number(number) => Ok(number.as_f64()),
        _ => Err(format!("the token's {name} is not a number")),
    };
    match time("exp")? {
        Some(exp) if now >= exp + expected.leeway => return Err("the token has expired".into()),
        None if expected.require_exp => return Err("the token has no exp".into()),
        _ => {}
    }
    match time("nbf")? {
        Some(nbf) if now < nbf - expected.leeway => Err("the token is not valid yet".into()),
        _ => Ok(()),
    }
}

/// A token; every mistake is an error, as it is the script's own.
fn sign(host: &Host, claims: &Value, key: &Value, options: &Value) -> HostResult<String> {
    const FUNCTION: &str = "sfu.jwt_sign";
    let (claims, key) = (arg(FUNCTION, "claims", claims), arg(FUNCTION, "key", key));
    let (json, _) = to_json(claims)?;
    if !json.is_object() {
        return Err(claims.bad("table with names expected"));
    }
    let bytes = key.bytes(MAX_KEY)?;
    let kind = kind_of(&bytes).map_err(|message| key.bad(message))?;
    host.room.reads.secret(&bytes);
    if is_public(&bytes) {
        return Err(key.bad("not a private key in PEM"));
    }
    if kind == KeyKind::Rsa
        && let Some(bits) = RsaSize::of_pem(&bytes).map(|size| size.modulus).filter(|bits| *bits > MAX_SIGNING_BITS)
    {
        return Err(key.bad(format_args!(
            "an RSA key of {bits} bits, with more than {MAX_SIGNING_BITS} a signature holds everything up: sign with a key \
             of 2048 bits, or with ES256 or EdDSA"
        )));
    }
    let mut header = Header::new(algorithms_of(kind)[0]);
    if let Some(table) = options_of(FUNCTION, options, SIGN_OPTIONS)? {
        let text = |name: &'static str| -> HostResult<Option<String>> {
            let value: Value = table.raw_get(name).map_err(refused)?;
            if value.is_nil() { Ok(None) } else { arg(FUNCTION, name, &value).text(MAX_OPTION).map(Some) }
        };
        let wanted: Value = table.raw_get("alg").map_err(refused)?;
        let wanted = algorithms(arg(FUNCTION, "alg", &wanted))?;
        header.alg = accepted(kind, &wanted).map_err(|message| key.bad(message))?[0];
        header.kid = text("kid")?;
        header.typ = text("typ")?.or(header.typ);
    }
    let encoding = match kind {
        KeyKind::Secret => Ok(EncodingKey::from_secret(&bytes)),
        KeyKind::Rsa => EncodingKey::from_rsa_pem(&bytes),
        KeyKind::P256 | KeyKind::P384 => EncodingKey::from_ec_pem(&bytes),
        KeyKind::Ed25519 => EncodingKey::from_ed_pem(&bytes),
    };
    let encoding = encoding.map_err(|_| key.bad("not a private key in PEM"))?;
    let token = encode(&header, &json, &encoding).map_err(|error| key.bad(error))?;
    host.room.reads.secret(token.as_bytes());
    Ok(token)
}

fn error_message(error: &ErrorKind) -> String {
    match error {
        ErrorKind::InvalidSignature => "the token's signature does not hold".into(),
        ErrorKind::InvalidAlgorithm | ErrorKind::InvalidAlgorithmName => {
            "the token's algorithm is not the key's".into()
        }
        _ => "the token is malformed".into(),
    }
}
