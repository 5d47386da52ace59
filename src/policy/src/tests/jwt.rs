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
        Algorithm::ES384 => &rcgen::PKCS_ECDSA_P384_SHA384,
        Algorithm::EdDSA => &rcgen::PKCS_ED25519,
        _ => panic!("no key for {algorithm:?}"),
    };
    let pair = rcgen::KeyPair::generate_for(kind).unwrap();
    let private = match algorithm {
        Algorithm::ES256 | Algorithm::ES384 => EncodingKey::from_ec_pem(pair.serialize_pem().as_bytes()),
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
    let verdict = world.call(HookCall::ClientConnect { client: c, auth_token: token.into() }).verdict;
    verdict.reason().unwrap_or("allowed").to_owned()
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
        (json!({}), "{ alg = 'RS256' }", "the key is one for HS256, HS384, HS512, not for RS256"),
    ] {
        assert_eq!(verified(&claims(more.clone()), "s3cret", options), expected, "{more} {options}");
    }
}

#[test]
fn every_kind_of_key_verifies_its_own_algorithm_only() {
    let claims = json!({ "sub": "ann", "exp": NOW + 10 });
    for algorithm in [Algorithm::ES256, Algorithm::ES384, Algorithm::EdDSA] {
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
        (
            token,
            RS256_KEY,
            "{ alg = 'HS256' }",
            "the key is one for RS256, RS384, RS512, PS256, PS384, PS512, not for HS256",
        ),
        (token, other_key, "nil", "the token's signature does not hold"),
        (token, &es256.public, "nil", "the token's algorithm is not the key's"),
        (token, "s3cret", "nil", "the token's algorithm is not the key's"),
        (&format!("{header}.{mallory}.{signature}"), RS256_KEY, "nil", "the token's signature does not hold"),
        (&format!("{signed_part}."), RS256_KEY, "nil", "the token's signature does not hold"),
        (&forged(RS256_KEY), RS256_KEY, "nil", "the token's algorithm is not the key's"),
        (&forged(RS256_KEY.trim()), RS256_KEY, "nil", "the token's algorithm is not the key's"),
        (
            &forged(RS256_KEY),
            RS256_KEY,
            "{ alg = 'HS256' }",
            "the key is one for RS256, RS384, RS512, PS256, PS384, PS512, not for HS256",
        ),
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
        (&good, "-----BEGIN PUBLIC KEY-----\nx", "the key is not an RSA, P-256, P-384 or Ed25519 key in PEM"),
    ] {
        assert_eq!(verified(token, key, "nil"), expected, "{token} {key}");
    }
}

/// Made with openssl for these tests only.
const RSA_PRIVATE: &str = include_str!("data/rsa.test.pem");
const RSA_PUBLIC: &str = include_str!("data/rsa.test.pub.pem");

/// What a script's line says; `P` and `Q` are keys.
fn said(line: &str, private: &str, public: &str) -> String {
    let config = json!({ "private": private, "public": public });
    let mut world = World::with(
        PolicySettings { config: config.as_object().cloned().unwrap_or_default(), ..generous() },
        &format!(
            "function on_client_connect()
               local P, Q = sfu.config.private, sfu.config.public
               local ok, said = pcall(function() {line} end)
               return false, tostring(said)
             end"
        ),
    );
    let c = client(world.now, "c1");
    let verdict = world.call(HookCall::ClientConnect { client: c, auth_token: String::new() }).verdict;
    verdict.reason().unwrap_or("allowed").to_owned()
}

#[test]
fn what_a_script_signs_it_verifies_with_every_algorithm() {
    let elliptic = |kind: &'static rcgen::SignatureAlgorithm| {
        let pair = rcgen::KeyPair::generate_for(kind).unwrap();
        (pair.serialize_pem(), pair.public_key_pem())
    };
    let (p256, p384) = (elliptic(&rcgen::PKCS_ECDSA_P256_SHA256), elliptic(&rcgen::PKCS_ECDSA_P384_SHA384));
    let ed = elliptic(&rcgen::PKCS_ED25519);
    let (rsa, secret) = ((RSA_PRIVATE.to_owned(), RSA_PUBLIC.to_owned()), ("s3cret".to_owned(), "s3cret".to_owned()));
    for (algorithms, (private, public)) in [
        (&["HS256", "HS384", "HS512"][..], &secret),
        (&["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"], &rsa),
        (&["ES256"], &p256),
        (&["ES384"], &p384),
        (&["EdDSA"], &ed),
    ] {
        for algorithm in algorithms {
            let line = format!(
                "local token = sfu.jwt_sign({{ sub = 'ann', exp = sfu.now() + 9, list = sfu.json.empty_array }}, P, {{ alg = '{algorithm}', kid = 'k1' }})
                 local claims, why = sfu.jwt_verify(token, Q, {{ alg = {{ 'HS256', '{algorithm}' }} }})
                 assert(claims, why)
                 local other, mismatch = sfu.jwt_verify(token, Q, {{ alg = '{}' }})
                 return claims.sub .. ' ' .. #claims.list .. ' ' .. tostring(other)",
                if *algorithm == algorithms[0] { algorithms[algorithms.len() - 1] } else { algorithms[0] }
            );
            let expected = if algorithms.len() == 1 { "ann 0 table" } else { "ann 0 nil" };
            assert_eq!(said(&line, private, public), expected, "{algorithm}");
        }
    }
}

#[test]
fn a_misspelt_option_is_an_error_and_never_a_looser_check() {
    for (call, expected) in [
        (
            "sfu.jwt_verify('a.b.c', 'k', { audience = 'us' })",
            "unknown option 'audience'; there are alg, aud, iss, leeway, require_exp",
        ),
        ("sfu.jwt_verify('a.b.c', 'k', { 'aud' })", "unknown option '1'"),
        ("sfu.jwt_verify('a.b.c', 'k', { alg = 'HS257' })", "'HS257' is not an algorithm that is known here"),
        ("sfu.jwt_verify('a.b.c', 'k', { alg = {} })", "an empty list accepts nothing"),
        (
            "sfu.jwt_verify('a.b.c', 'k', { require_exp = 'no' })",
            "'require_exp' to 'sfu.jwt_verify' (boolean expected)",
        ),
        ("sfu.jwt_sign({}, 'k', { kdi = 'x' })", "unknown option 'kdi'"),
        ("sfu.jwt_sign('x', 'k')", "'claims' to 'sfu.jwt_sign' (table with names expected)"),
        ("sfu.jwt_sign({ a = print }, 'k')", "'claims' to 'sfu.jwt_sign' (value.a: a function can't become JSON)"),
        ("sfu.jwt_sign({ a = 1 }, '')", "'key' to 'sfu.jwt_sign' (the key is empty)"),
        ("sfu.jwt_sign({ a = 1 }, Q)", "'key' to 'sfu.jwt_sign' (not a private key in PEM)"),
        ("sfu.jwt_sign({ a = 1 }, P, { alg = 'HS256' })", "the key is one for RS256"),
    ] {
        let said = said(&format!("return {call}"), RSA_PRIVATE, RSA_PUBLIC);
        assert!(said.contains(expected), "{call}: {said}");
    }
}

#[test]
fn a_token_with_critical_parameters_is_refused() {
    let part = |json: &Value| {
        use base64::Engine;
        base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(json.to_string())
    };
    let claims = part(&json!({ "sub": "ann", "exp": NOW + 10 }));
    for (header, expected) in [
        (
            json!({ "alg": "HS256", "crit": ["b64"], "b64": false }),
            "the token has critical header parameters (crit), which are not supported",
        ),
        (
            json!({ "alg": "HS256", "crit": [] }),
            "the token has critical header parameters (crit), which are not supported",
        ),
        (json!({ "alg": "HS256", "typ": "JWT", "kid": "1" }), "the token's signature does not hold"),
        (json!([]), "the token is malformed"),
    ] {
        let token = format!("{}.{claims}.{}", part(&header), part(&json!("x".repeat(32))));
        assert_eq!(verified(&token, "s3cret", "nil"), expected, "{header}");
    }
}

#[test]
fn a_public_key_behind_a_byte_order_mark_is_not_a_secret() {
    let marked = format!("\u{feff}{RS256_KEY}");
    let forged = signed(
        Algorithm::HS256,
        &EncodingKey::from_secret(marked.as_bytes()),
        &json!({ "sub": "mallory", "exp": NOW + 10 }),
    );
    let expected = "the key is PEM with other bytes before it (a byte order mark?): save it as plain text";
    assert_eq!(verified(&forged, &marked, "nil"), expected);
}

#[test]
fn an_rsa_key_that_takes_too_long_to_sign_with_is_refused() {
    use base64::Engine;
    // The beginning of a PKCS #8 key, as far as its modulus, of which there are only the length and zeros.
    let pem = |bits: u16| {
        let algorithm = [0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00];
        let [high, low] = (bits / 8 + 1).to_be_bytes();
        let parts = [
            &[0x30, 0x82, 0x12, 0x00, 0x02, 0x01, 0x00],
            &algorithm[..],
            &[0x04, 0x84, 0, 0, 0x11, 0, 0x30, 0x84, 0, 0],
        ];
        let modulus =
            [&[0x11, 0x00, 0x02, 0x01, 0x00, 0x02, 0x82, high, low][..], &vec![0; usize::from(bits / 8) + 1]].concat();
        let body = base64::engine::general_purpose::STANDARD.encode([parts.concat(), modulus].concat());
        format!("-----BEGIN PRIVATE KEY-----\n{body}\n-----END PRIVATE KEY-----\n")
    };
    for (bits, expected) in [
        (
            16_384,
            "'key' to 'sfu.jwt_sign' (an RSA key of 16384 bits, with more than 4096 a signature holds everything up",
        ),
        (4_104, "an RSA key of 4104 bits"),
        (4_096, "not a private key in PEM"),
    ] {
        let said = said("return sfu.jwt_sign({ a = 1 }, P)", &pem(bits), "");
        assert!(said.contains(expected), "{bits}: {said}");
    }
}

/// An RSA key in PEM of a certain form, with numbers of so many bits, and the same as the only key of a set.
fn rsa_key(form: &str, modulus: usize, exponent: usize) -> String {
    use base64::Engine;
    use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
    let number = |bits: usize| {
        let mut bytes = vec![0xff; bits.div_ceil(8)];
        bytes[0] >>= (8 - bits % 8) % 8;
        bytes
    };
    let der = |tag: u8, content: &[u8]| {
        let length = (content.len() as u32).to_be_bytes();
        [&[tag, 0x83], &length[1..], content].concat()
    };
    let integer = |bits| der(0x02, &[&[0][..], &number(bits)].concat());
    let key = der(0x30, &[integer(modulus), integer(exponent)].concat());
    let (label, body) = match form {
        "PKCS #1" => ("RSA PUBLIC KEY", key),
        "SPKI" => {
            let algorithm = [0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00];
            let bits = der(0x03, &[&[0][..], &key].concat());
            ("PUBLIC KEY", der(0x30, &[der(0x30, &algorithm), bits].concat()))
        }
        _ => {
            let [n, e] = [modulus, exponent].map(|bits| URL_SAFE_NO_PAD.encode(number(bits)));
            return json!({ "keys": [{ "kty": "RSA", "kid": "main", "n": n, "e": e }] }).to_string();
        }
    };
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", STANDARD.encode(body))
}

#[test]
fn an_rsa_key_that_checks_no_signature_is_said_to_be_too_short_or_too_long_and_which_it_is() {
    use base64::Engine;
    let header = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(r#"{"alg":"RS256","kid":"main"}"#);
    let token = format!("{header}.{}", RS256_TOKEN.trim().split_once('.').unwrap().1);
    for (form, which) in
        [("SPKI", "the key in PEM"), ("PKCS #1", "the key in PEM"), ("JWKS", "the key \"main\" of the set")]
    {
        let size = |bits: usize| {
            format!("{which} is an RSA key of {bits} bits: signatures are checked with keys of 2048 to 8192")
        };
        let exponent = |bits: usize| {
            format!("{which} is an RSA key whose exponent (e) has {bits} bits: signatures are checked with 33 at most")
        };
        let is_tried = "the token's signature does not hold".to_owned();
        for (modulus, e, expected) in [
            (1_024, 17, size(1_024)),
            (2_048, 17, is_tried.clone()),
            (8_192, 33, is_tried.clone()),
            (8_200, 17, size(8_200)),
            (16_384, 17, size(16_384)),
            (300_000, 17, size(300_000)),
            (4_096, 34, exponent(34)),
            (4_096, 4_096, exponent(4_096)),
        ] {
            assert_eq!(verified(&token, &rsa_key(form, modulus, e), "nil"), expected, "{form} {modulus} {e}");
        }
    }
}
