//! `sfu.jwt_verify(token, key, options)`: the claims of a token that holds, or `nil` and why it does not.
//!
//! The kind of key decides the algorithm, never the token: a PEM public key is not a secret, so a token that claims
//! HS256 and is "signed" with the public key's text is refused (RFC 8725 section 3.1).

use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode};
use mlua::{IntoLuaMulti, Lua, Table, Value};
use serde_json::Value as Json;

use super::args::arg;
use super::json::from_json;
use super::{HostResult, Functions, refused};

/// Bytes of a token.
const MAX_TOKEN: usize = 16 * 1024;
/// Bytes of a key.
const MAX_KEY: usize = 16 * 1024;
/// Bytes of an `aud`, `iss` or `alg` option.
const MAX_OPTION: usize = 1024;
/// Seconds by which clocks may differ when the options don't say.
const LEEWAY: f64 = 60.0;

/// What a script expects of a token.
struct Expected {
    algorithm: Option<String>,
    audience: Option<String>,
    issuer: Option<String>,
    leeway: f64,
    require_exp: bool,
}

pub(super) fn register(functions: &mut Functions) {
    functions.add("jwt_verify", |lua, host, (token, key, options): (Value, Value, Value)| {
        let token = arg("sfu.jwt_verify", "token", &token).bytes(MAX_TOKEN)?;
        let key = arg("sfu.jwt_verify", "key", &key).bytes(MAX_KEY)?;
        let expected = options_of(&options)?;
        let now = host.room.unix.get().as_secs_f64();
        let values = match verify(&token, &key, &expected, now) {
            Ok(claims) => from_json(lua, &claims)?.into_lua_multi(lua),
            Err(message) => nil_and(lua, &message),
        };
        values.map_err(refused)
    });
}

fn nil_and(lua: &Lua, message: &str) -> mlua::Result<mlua::MultiValue> {
    (Value::Nil, message).into_lua_multi(lua)
}

fn options_of(options: &Value) -> HostResult<Expected> {
    let table: Table = match options {
        Value::Nil => {
            return Ok(Expected { algorithm: None, audience: None, issuer: None, leeway: LEEWAY, require_exp: true });
        }
        Value::Table(table) => table.clone(),
        other => return Err(arg("sfu.jwt_verify", "options", other).bad("table expected")),
    };
    let text = |name: &'static str| -> HostResult<Option<String>> {
        let value: Value = table.raw_get(name).map_err(refused)?;
        let value = arg("sfu.jwt_verify", name, &value);
        if value.absent() { Ok(None) } else { value.text(MAX_OPTION).map(Some) }
    };
    let leeway: Value = table.raw_get("leeway").map_err(refused)?;
    let leeway = arg("sfu.jwt_verify", "leeway", &leeway);
    let require_exp: Value = table.raw_get("require_exp").map_err(refused)?;
    Ok(Expected {
        algorithm: text("alg")?,
        audience: text("aud")?,
        issuer: text("iss")?,
        leeway: if leeway.absent() { LEEWAY } else { leeway.number(0.0..=86_400.0)? },
        require_exp: require_exp != Value::Boolean(false),
    })
}

/// The claims of a token whose signature, times, audience and issuer hold.
fn verify(token: &[u8], key: &[u8], expected: &Expected, now: f64) -> HostResult<Json> {
    let (key, algorithm) = key_of(key)?;
    if let Some(name) = &expected.algorithm
        && name.parse() != Ok(algorithm)
    {
        return Err(format!("the key is one for {algorithm:?}, not for {name}"));
    }
    let mut validation = Validation::new(algorithm);
    // Times are checked below, by the engine's clock.
    validation.required_spec_claims.clear();
    validation.validate_exp = false;
    validation.validate_aud = false;
    let claims = decode::<Json>(token, &key, &validation).map_err(|error| error_message(error.kind()))?.claims;
    check_times(&claims, expected, now)?;
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

/// The key, and the only algorithm that it may be used with.
fn key_of(key: &[u8]) -> HostResult<(DecodingKey, Algorithm)> {
    if !key.trim_ascii_start().starts_with(b"-----BEGIN") {
        if key.is_empty() {
            return Err("the key is empty".into());
        }
        return Ok((DecodingKey::from_secret(key), Algorithm::HS256));
    }
    let kinds = [
        (DecodingKey::from_rsa_pem(key), Algorithm::RS256),
        (DecodingKey::from_ec_pem(key), Algorithm::ES256),
        (DecodingKey::from_ed_pem(key), Algorithm::EdDSA),
    ];
    let usable = kinds.into_iter().find_map(|(key, algorithm)| Some((key.ok()?, algorithm)));
    usable.ok_or_else(|| "the key is not an RSA, P-256 or Ed25519 public key in PEM".to_owned())
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
