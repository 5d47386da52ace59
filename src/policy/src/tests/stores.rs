//! What scripts ask the stores, and sets of keys.

use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};

use super::*;
use crate::output::{HttpReply, SharedRequest, SharedValue, StoreSpace};

const OPEN: &str = "function on_client_connect() return true end\n";

/// What a script asks that calls this.
fn asked(call: &str) -> PolicyRequest {
    let mut world = World::new(&format!("{OPEN}function on_message(c) {call} end"));
    let c = world.join("c1");
    world.submit(HookCall::Message { client: c, message: json!(1) });
    world.request().1
}

#[test]
fn each_operation_is_asked_of_its_store_with_its_key() {
    let room = || StoreSpace::Room { script: "room.lua".into() };
    let key = || "k".to_owned();
    let number = |n| Some(SharedValue::Number(n));
    for (call, expected) in [
        ("sfu.shared.get('k')", PolicyRequest::Shared(SharedRequest::Get { key: key() })),
        ("sfu.store.get('k')", PolicyRequest::Store(room(), SharedRequest::Get { key: key() })),
        (
            "sfu.store.global.delete('k')",
            PolicyRequest::Store(StoreSpace::Global, SharedRequest::Delete { key: key() }),
        ),
        (
            "sfu.store.set('k', true, 2.5)",
            PolicyRequest::Store(
                room(),
                SharedRequest::Set {
                    key: key(),
                    value: SharedValue::Flag(true),
                    ttl: Some(Duration::from_millis(2500)),
                },
            ),
        ),
        (
            "sfu.store.global.incr('k')",
            PolicyRequest::Store(StoreSpace::Global, SharedRequest::Incr { key: key(), by: 1.0, ttl: None }),
        ),
        (
            "sfu.store.compare_and_set('k', nil, 7)",
            PolicyRequest::Store(
                room(),
                SharedRequest::CompareAndSet { key: key(), expected: None, value: number(7.0) },
            ),
        ),
        (
            "sfu.shared.compare_and_set('k', 7)",
            PolicyRequest::Shared(SharedRequest::CompareAndSet { key: key(), expected: number(7.0), value: None }),
        ),
    ] {
        assert_eq!(asked(call), expected, "{call}");
    }
}

#[test]
fn what_a_store_answers_is_returned_and_what_it_cannot_do_is_an_error() {
    let mut world = World::new(&format!(
        "{OPEN}function on_message(c, key) local ok, value = pcall(sfu.store.get, key) c:send({{ ok, value }}) end"
    ));
    let c = world.join("c1");
    for (answer, expected) in [
        (Ok(Some(SharedValue::Text(b"x".into()))), json!([true, "x"])),
        (Ok(Some(SharedValue::Flag(false))), json!([true, false])),
        (Ok(None), json!([true])),
        (Err("the store is locked".to_owned()), json!([false, "the store is locked"])),
    ] {
        world.submit(HookCall::Message { client: c.clone(), message: json!("k") });
        let (id, _) = world.request();
        world.resume(id, PolicyReply::Shared(answer));
        let sent = world.outputs().into_iter().find_map(|output| match output {
            PolicyOutput::Outcome { outcome, .. } => outcome.actions.into_iter().next(),
            _ => None,
        });
        let Some(Action::Send { value, .. }) = sent else { panic!("{sent:?}") };
        assert_eq!(value[0], expected[0]);
        let text = value[1].as_str().unwrap_or_default();
        assert!(value[1] == expected[1] || text.ends_with(expected[1].as_str().unwrap_or("?")), "{value}");
    }
}

#[test]
fn wrong_arguments_of_a_store_are_named() {
    for (call, words) in [
        ("sfu.store.get, 7", "'key' to 'sfu.store.get' (string expected, got number)"),
        ("sfu.store.get, ('k'):rep(257)", "'key' to 'sfu.store.get' (257 bytes long, at most 256 are allowed)"),
        ("sfu.store.set, 'k', {}", "'value' to 'sfu.store.set' (string, number or boolean expected"),
        ("sfu.store.set, 'k', 0/0", "'value' to 'sfu.store.set' (NaN is not within"),
        ("sfu.store.global.set, 'k', 1, -1", "'ttl' to 'sfu.store.global.set' (-1 is not within"),
        ("sfu.store.incr, 'k', 1e300", "'by' to 'sfu.store.incr'"),
        ("sfu.store.compare_and_set, 'k', {}", "'expected' to 'sfu.store.compare_and_set'"),
        ("sfu.store.compare_and_set, 'k', 1, print", "'value' to 'sfu.store.compare_and_set'"),
        ("sfu.store.set, setmetatable({}, { __tostring = error }), 1", "'key' to 'sfu.store.set' (string expected"),
        ("sfu.jwks, {}", "'url' to 'sfu.jwks' (string expected, got table)"),
    ] {
        let script = format!("{OPEN}function on_message(c) local _, why = pcall({call}) c:send(tostring(why)) end");
        let mut world = World::new(&script);
        let c = world.join("c1");
        let said = world.eval(&c, "m").to_string();
        assert!(said.contains(words), "{call}: {said}");
    }
}

/// A key pair and the public half as it stands in a set.
fn pair(kid: &str, algorithm: Algorithm) -> (EncodingKey, Value) {
    let pem = |kind| rcgen::KeyPair::generate_for(kind).unwrap().serialize_pem();
    let key = match algorithm {
        Algorithm::ES256 => EncodingKey::from_ec_pem(pem(&rcgen::PKCS_ECDSA_P256_SHA256).as_bytes()),
        Algorithm::ES384 => EncodingKey::from_ec_pem(pem(&rcgen::PKCS_ECDSA_P384_SHA384).as_bytes()),
        _ => EncodingKey::from_rsa_pem(include_bytes!("data/rsa.test.pem")),
    };
    let key = key.unwrap();
    let mut jwk = serde_json::to_value(Jwk::from_encoding_key(&key, algorithm).unwrap()).unwrap();
    jwk["kid"] = json!(kid);
    (key, jwk)
}

fn token(kid: Option<&str>, algorithm: Algorithm, key: &EncodingKey) -> String {
    let header = Header { kid: kid.map(str::to_owned), ..Header::new(algorithm) };
    encode(&header, &json!({ "sub": "ann", "exp": 1_786_000_100 }), key).unwrap()
}

#[test]
fn a_set_of_keys_is_asked_for_the_key_that_the_token_names() {
    use Algorithm::{ES256, ES384, HS256, RS256};
    let ((a, a_jwk), (b, b_jwk), (r, r_jwk)) = (pair("a", ES256), pair("b", ES384), pair("r", RS256));
    let mut for_encryption = a_jwk.clone();
    for_encryption["use"] = json!("enc");
    let secret = EncodingKey::from_secret(b"public");
    let oct = json!({ "kty": "oct", "kid": "o", "k": "cHVibGlj" });
    let all = json!({ "keys": [a_jwk, b_jwk, r_jwk, oct, { "kty": "new", "kid": "n" }, 7] });
    for (set, token, expected) in [
        (&all, token(Some("a"), ES256, &a), "ann"),
        (&all, token(Some("b"), ES384, &b), "ann"),
        (&all, token(Some("r"), RS256, &r), "ann"),
        (&all, token(Some("b"), ES256, &a), "the token's algorithm is not the key's"),
        (&all, token(Some("x"), ES256, &a), "the set has no key \"x\""),
        (&all, token(Some("o"), HS256, &secret), "the set has no key \"o\""),
        (&all, token(None, ES256, &a), "the token has no kid, and the set has 3 keys"),
        (&json!({ "keys": [a_jwk] }), token(None, ES256, &a), "ann"),
        (&json!({ "keys": [for_encryption] }), token(Some("a"), ES256, &a), "the set has no key \"a\""),
        (&json!({ "keys": [] }), token(None, ES256, &a), "the set has no key"),
        (&json!({ "keys": 1 }), token(None, ES256, &a), "the set of keys has no list of keys"),
    ] {
        let config = json!({ "set": set.to_string(), "token": token }).as_object().cloned().unwrap_or_default();
        let mut world = World::with(
            PolicySettings { config, ..generous() },
            &format!(
                "{OPEN}function on_message(c) local claims, why = sfu.jwt_verify(sfu.config.token, sfu.config.set)
                 c:send(claims and claims.sub or why) end"
            ),
        );
        let c = world.join("c1");
        assert_eq!(world.eval(&c, "m"), json!(expected));
    }
}

#[test]
fn a_set_of_keys_is_fetched_once_and_again_when_it_is_old_or_a_key_is_missing() {
    let mut world = World::new(&format!(
        "{OPEN}function on_message(c, again) local text, why = sfu.jwks('https://id.example/keys', again) c:send({{ text or why }}) end"
    ));
    let c = world.join("c1");
    let reply = |status, body: &str| Ok(HttpReply { status, headers: Vec::new(), body: body.as_bytes().to_vec() });
    let set = |kid: &str| json!({ "keys": [{ "kid": kid }] }).to_string();
    let too_large = format!("{{\"keys\":[]{}}}", " ".repeat(64 * 1024 + 2));
    // Seconds that pass, whether the key is missing, the answer if the set is fetched, and what the script gets.
    for (seconds, again, answer, expected) in [
        (0, false, Some(Err("no route".to_owned())), "no route"),
        (0, false, Some(reply(404, "?")), "the keys' server answers with status 404"),
        (0, false, Some(reply(200, "[]")), "the set of keys has no list of keys"),
        (0, false, Some(reply(200, &too_large)), "the set of keys is 65549 bytes long, at most 65536 are allowed"),
        (0, false, Some(reply(200, &set("v1"))), &set("v1")),
        (599, false, None, &set("v1")),
        (1, false, Some(reply(200, &set("v2"))), &set("v2")),
        (9, true, None, &set("v2")),
        (1, true, Some(reply(200, &set("v3"))), &set("v3")),
        (600, false, Some(reply(200, "<html>maintenance</html>")), &set("v3")),
        (0, false, Some(Err("no route".to_owned())), &set("v3")),
        (86_400, false, Some(Err("no route".to_owned())), "no route"),
    ] {
        world.pass(Duration::from_secs(seconds));
        world.submit(HookCall::Message { client: c.clone(), message: json!(again) });
        let outputs = world.outputs();
        let request = outputs.iter().find_map(|output| match output {
            PolicyOutput::Request { id, .. } => Some(*id),
            _ => None,
        });
        assert_eq!(request.is_some(), answer.is_some(), "{expected}");
        let outputs = match (request, answer) {
            (Some(id), Some(answer)) => {
                world.resume(id, PolicyReply::Http(answer));
                world.outputs()
            }
            _ => outputs,
        };
        let said = format!("{outputs:?}");
        assert!(said.contains(&format!("Array [String({expected:?})]")), "{expected}: {said}");
    }
}

#[test]
fn a_page_in_the_place_of_a_set_of_keys_is_no_secret_that_tokens_can_be_signed_with() {
    const PAGE: &str = "<html>maintenance</html>";
    let forged = token(None, Algorithm::HS256, &EncodingKey::from_secret(PAGE.as_bytes()));
    let config = json!({ "token": forged, "page": PAGE }).as_object().cloned().unwrap_or_default();
    let mut world = World::with(
        PolicySettings { config, ..generous() },
        &format!(
            "{OPEN}function on_message(c)
               local keys, why = sfu.jwks('https://id.example/keys')
               local claims, no_claims = sfu.jwt_verify(sfu.config.token, keys or sfu.config.page)
               c:send(claims and claims.sub or (tostring(why) .. '; ' .. no_claims))
             end"
        ),
    );
    let c = world.join("c1");
    world.submit(HookCall::Message { client: c, message: json!(1) });
    let (id, _) = world.request();
    let reply = HttpReply { status: 200, headers: Vec::new(), body: PAGE.into() };
    world.resume(id, PolicyReply::Http(Ok(reply)));
    let said = format!("{:?}", world.outputs());
    assert!(said.contains("the set of keys is not JSON") && said.contains("the key is a page"), "{said}");
}
