//! Sets of public keys for JSON Web Tokens (JWKS, RFC 7517): the token's `kid` says which key of the set it is signed
//! with.

use jsonwebtoken::DecodingKey;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, PublicKeyUse};
use serde_json::Value as Json;

use super::jwt_key::{KeyKind, MAX_KEY, RsaSize};

/// Keys of one set that are looked at.
const MAX_KEYS: usize = 64;

/// True for the text of a set, well-formed or not.
pub(super) fn is_set(key: &[u8]) -> bool {
    key.trim_ascii_start().starts_with(b"{") && key.windows(6).any(|window| window == b"\"keys\"")
}

/// Why a text is no set of keys that can be asked; `None` for one that is.
pub(super) fn why_no_set(text: &[u8]) -> Option<String> {
    if text.len() > MAX_KEY {
        return Some(format!("the set of keys is {} bytes long, at most {MAX_KEY} are allowed", text.len()));
    }
    list_of(text).err()
}

/// The keys of a set, of whatever form each is.
fn list_of(set: &[u8]) -> Result<Vec<Json>, String> {
    let mut set: Json = serde_json::from_slice(set).map_err(|error| format!("the set of keys is not JSON: {error}"))?;
    match set.get_mut("keys").map(Json::take) {
        Some(Json::Array(keys)) => Ok(keys),
        _ => Err("the set of keys has no list of keys".to_owned()),
    }
}

/// The key of that id; without an id the only one that there is. Secrets and keys for encryption don't count: what is in
/// a set may be public. Keys of kinds that are not known here are passed over (RFC 7517 section 5).
pub(super) fn key_of_set(set: &[u8], kid: Option<&str>) -> Result<(KeyKind, DecodingKey), String> {
    let keys = list_of(set)?;
    let known = keys.iter().take(MAX_KEYS).filter_map(|key| serde_json::from_value::<Jwk>(key.clone()).ok());
    let mut usable: Vec<_> = known.filter_map(|key| Some((kind_of(&key)?, key))).collect();
    match kid {
        Some(kid) => usable.retain(|(_, key)| key.common.key_id.as_deref() == Some(kid)),
        None if usable.len() > 1 => {
            return Err(format!("the token has no kid, and the set has {} keys", usable.len()));
        }
        None => {}
    }
    let Some((kind, key)) = usable.first() else {
        return Err(kid.map_or("the set has no key".to_owned(), |kid| format!("the set has no key {kid:?}")));
    };
    if let AlgorithmParameters::RSA(rsa) = &key.algorithm
        && let Some(why) = RsaSize::of_jwk(&rsa.n, &rsa.e).and_then(RsaSize::why_not_verified)
    {
        let name = key.common.key_id.as_ref().map_or_else(String::new, |kid| format!(" {kid:?}"));
        return Err(format!("the key{name} of the set {why}"));
    }
    let decoding = DecodingKey::from_jwk(key).map_err(|_| "the key of the set is malformed".to_owned())?;
    Ok((*kind, decoding))
}

/// The kind of a key that signatures can be checked with.
fn kind_of(key: &Jwk) -> Option<KeyKind> {
    if key.common.public_key_use.as_ref().is_some_and(|for_what| *for_what != PublicKeyUse::Signature) {
        return None;
    }
    match &key.algorithm {
        AlgorithmParameters::RSA(_) => Some(KeyKind::Rsa),
        AlgorithmParameters::EllipticCurve(curve) => match curve.curve {
            EllipticCurve::P256 => Some(KeyKind::P256),
            EllipticCurve::P384 => Some(KeyKind::P384),
            _ => None,
        },
        AlgorithmParameters::OctetKeyPair(pair) => (pair.curve == EllipticCurve::Ed25519).then_some(KeyKind::Ed25519),
        _ => None,
    }
}
