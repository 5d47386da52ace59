//! `sfu.jwt_verify` with tokens that another part of the crate has signed.

use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};

use super::*;

/// The engine's time in these tests.
const NOW: i64 = 1_786_000_000;

struct Keys {
    private: EncodingKey,
    public: String,
    algorithm: Algorithm,
}

fn keys(algorithm: Algorithm) -> Keys {
    let kind = match algorithm {
        Algorithm::ES256 => &rcgen::PKCS_ECDSA_P256_SHA256,
        Algorithm::EdDSA => &rcgen::PKCS_ED25519,
        _ => panic!("no key for {algorithm:?}"),
    };
    let pair = rcgen::KeyPair::generate_for(kind).unwrap();
    let private = match algorithm {
        Algorithm::ES256 => EncodingKey::from_ec_pem(pair.serialize_pem().as_bytes()),
        _ => EncodingKey::from_ed_pem(pair.serialize_pem().as_bytes()),
    };
    Keys { private: private.unwrap(), public: pair.public_key_pem(), algorithm }
}

fn signed(algorithm: Algorithm, key: &EncodingKey, claims: &Value) -> String {
    encode(&Header::new(algorithm), claims, key).unwrap()
}

/// What the script says of a token: the subject, or why not.
fn verified(token: &str, key: &str, options: &str) -> String {
    let mut world = World::with(
        PolicySettings { config: json!({ "key": key }).as_object().cloned().unwrap_or_default(), ..generous() },
        &format!(
            "function on_client_connect(c, token)
               local claims, why = sfu.jwt_verify(token, sfu.config.key, {options})
               return false, claims and claims.sub or why
             end"
        ),
    );
    let c = client(world.now, "c1");
    match world.call(HookCall::ClientConnect { client: c, auth_token: token.into() }).verdict {
        Verdict::Reject(words) => words,
        Verdict::Allow => "allowed".into(),
    }
}

#[test]
fn times_audience_and_issuer_are_checked() {
    let secret = EncodingKey::from_secret(b"s3cret");
    let claims = |more: Value| {
        let mut claims = json!({ "sub": "ann", "exp": NOW + 10 });
        more.as_object().unwrap().iter().for_each(|(key, value)| claims[key] = value.clone());
        signed(Algorithm::HS256, &secret, &claims)
    };
    for (more, options, expected) in [
        (json!({}), "nil", "ann"),
        (json!({ "exp": NOW - 59 }), "nil", "ann"),
        (json!({ "exp": NOW - 60 }), "nil", "the token has expired"),
        (json!({ "exp": NOW - 1 }), "{ leeway = 0 }", "the token has expired"),
        (json!({ "exp": null }), "nil", "the token has no exp"),
        (json!({ "exp": null }), "{ require_exp = false }", "ann"),
        (json!({ "exp": "soon" }), "nil", "the token's exp is not a number"),
        (json!({ "nbf": NOW + 61 }), "nil", "the token is not valid yet"),
        (json!({ "nbf": NOW + 60 }), "nil", "ann"),
        (json!({ "aud": "here" }), "{ aud = 'here' }", "ann"),
        (json!({ "aud": ["a", "here"] }), "{ aud = 'here' }", "ann"),
        (json!({ "aud": "there" }), "{ aud = 'here' }", "the token is for another audience"),
        (json!({}), "{ aud = 'here' }", "the token is for another audience"),
        (json!({ "iss": "us" }), "{ iss = 'us' }", "ann"),
        (json!({}), "{ iss = 'us' }", "the token is of another issuer"),
        (json!({}), "{ alg = 'HS256' }", "ann"),
        (json!({}), "{ alg = 'RS256' }", "the key is one for HS256, not for RS256"),
    ] {
        assert_eq!(verified(&claims(more.clone()), "s3cret", options), expected, "{more} {options}");
    }
}

#[test]
fn every_kind_of_key_verifies_its_own_algorithm_only() {
    let claims = json!({ "sub": "ann", "exp": NOW + 10 });
    for algorithm in [Algorithm::ES256, Algorithm::EdDSA] {
        let (keys, others) = (keys(algorithm), keys(algorithm));
        let token = signed(keys.algorithm, &keys.private, &claims);
        assert_eq!(verified(&token, &keys.public, "nil"), "ann", "{algorithm:?}");
        assert_eq!(verified(&token, &others.public, "nil"), "the token's signature does not hold");
        // The attack of RFC 8725 section 2.1: the public key taken for a secret.
        let forged = signed(Algorithm::HS256, &EncodingKey::from_secret(keys.public.as_bytes()), &claims);
        assert_eq!(verified(&forged, &keys.public, "nil"), "the token's algorithm is not the key's");
    }
}

/// Made once with openssl, the private key thrown away: nothing here makes RSA keys. Its `sub` is ann, its `exp` is
/// [`NOW`] + 10.
const RS256_TOKEN: &str = include_str!("data/rs256.token");
const RS256_KEY: &str = include_str!("data/rs256.pub.pem");

#[test]
fn a_token_of_an_rsa_key_verifies_with_that_key_only() {
    let token = RS256_TOKEN.trim();
    let (signed_part, signature) = token.rsplit_once('.').unwrap();
    let (header, _) = signed_part.split_once('.').unwrap();
    let mallory = "eyJzdWIiOiJtYWxsb3J5IiwiZXhwIjoxNzg2MDAwMDEwfQ"; // {"sub":"mallory","exp":1786000010}
    // The attack of RFC 8725 section 2.1: the public key taken for a secret, with and without its last line feed.
    let secret = |key: &str| EncodingKey::from_secret(key.as_bytes());
    let forged = |key| signed(Algorithm::HS256, &secret(key), &json!({ "sub": "mallory", "exp": NOW + 10 }));
    let other_key = include_str!("data/rs256.other.pub.pem");
    let es256 = keys(Algorithm::ES256);
    for (token, key, options, expected) in [
        (token, RS256_KEY, "nil", "ann"),
        (token, include_str!("data/rs256.pkcs1.pub.pem"), "nil", "ann"),
        (token, RS256_KEY, "{ alg = 'RS256' }", "ann"),
        (token, RS256_KEY, "{ alg = 'HS256' }", "the key is one for RS256, not for HS256"),
        (token, other_key, "nil", "the token's signature does not hold"),
        (token, &es256.public, "nil", "the token's algorithm is not the key's"),
        (token, "s3cret", "nil", "the token's algorithm is not the key's"),
        (&format!("{header}.{mallory}.{signature}"), RS256_KEY, "nil", "the token's signature does not hold"),
        (&format!("{signed_part}."), RS256_KEY, "nil", "the token's signature does not hold"),
        (&forged(RS256_KEY), RS256_KEY, "nil", "the token's algorithm is not the key's"),
        (&forged(RS256_KEY.trim()), RS256_KEY, "nil", "the token's algorithm is not the key's"),
        (&forged(RS256_KEY), RS256_KEY, "{ alg = 'HS256' }", "the key is one for RS256, not for HS256"),
    ] {
        assert_eq!(verified(token, key, options), expected, "{token} {options}");
    }
}

#[test]
fn what_is_no_token_is_said_to_be_none() {
    let secret = EncodingKey::from_secret(b"s3cret");
    let good = signed(Algorithm::HS256, &secret, &json!({ "sub": "ann", "exp": NOW + 10 }));
    let unsigned = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhbm4iLCJleHAiOjE3ODYwMDAwMTB9.";
    for (token, key, expected) in [
        ("", "s3cret", "the token is malformed"),
        ("a.b.c", "s3cret", "the token is malformed"),
        (unsigned, "s3cret", "the token is malformed"),
        (&good[..good.len() - 2], "s3cret", "the token is malformed"),
        (&good, "other", "the token's signature does not hold"),
        (&good, "", "the key is empty"),
        (&good, "-----BEGIN PUBLIC KEY-----\nx", "the key is not an RSA, P-256 or Ed25519 public key in PEM"),
    ] {
        assert_eq!(verified(token, key, "nil"), expected, "{token} {key}");
    }
}
