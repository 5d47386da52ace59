//! Tokens that clients show, and the keys and sets of keys that a policy checks them with.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::{Duration, Instant};

use moonring_policy::hook::HookCall;
use moonring_policy::{PolicyEngine, PolicyKey, PolicyOutput, PolicySettings, Script};
use moonring_wire::id::RoomId;
use serde_json::{Value, json};

use super::{Parts, joined};

/// `pcall`, as a key that is too long is a mistake of the script's.
const POLICY: &str = "function on_admin(request)
  local ok, claims, why = pcall(sfu.jwt_verify, request.token, request.key)
  return { holds = ok and claims ~= nil, why = why }
end";
/// Before the token's end.
const UNIX: Duration = Duration::from_secs(1_786_000_000);
const KEYS: &str = r#"{"keys":[{"kty":"EC","crv":"P-256","kid":"k1","use":"sig","x":"yxbGocMYggtuoRkHaI8lWiEIpxqz64hQ_ZuSYDugDhA","y":"I0O1DMneLQBM75XIK0nL1qdYGDEX0XxeA21YNnyrr0w"}]}"#;
/// Of a key pair that was made for `scripts/examples/paid_room_test.lua`: what is signed, and the signature.
const SIGNED: &str = "eyJhbGciOiJFUzI1NiIsInR5cCI6IkpXVCIsImtpZCI6ImsxIn0.\
eyJzdWIiOiJ1LTE3IiwibWludXRlcyI6MywiaXNzIjoiaHR0cHM6Ly9pZC5leGFtcGxlLmNvbSIsImF1ZCI6Im1vb25yaW5nIiwiZXhwIjoxNzg2MTAwMDAwfQ";
const SIGNATURE: &str = "bqx-q4-COCr7Xm7bXBG66dEwAVyJLRgLHgGZ61pD0oPtFMuEyN0flblntRY3kIojBBrJMkqCaDW6AUqBuQbg_A";
/// `{"sub":"u-17","exp":1786100000}` with HS256 under [`SECRET`].
const SECRET: &str = "a-secret-of-more-than-32-bytes-for-hs256";
const BY_SECRET: &str = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiJ1LTE3IiwiZXhwIjoxNzg2MTAwMDAwfQ";

thread_local! {
    static ROOM: RefCell<(PolicyEngine, PolicyKey)> = RefCell::new(open());
}

fn open() -> (PolicyEngine, PolicyKey) {
    let settings = PolicySettings { strikes: 0, ..PolicySettings::unhurried() };
    let (mut engine, now) = (PolicyEngine::new(settings, 1), Instant::now());
    engine.set_clock(now, UNIX);
    let script = Script::compile("default_room.lua", POLICY.as_bytes()).expect("a script");
    let room = RoomId::parse("demo").expect("a room");
    let key = engine.open_room(now, &room, Ok(Arc::new(script))).expect("it starts");
    (engine, key)
}

/// A token, and a key: whatever they are, they are refused or hold. Under the keys of this module only what was signed holds.
pub(super) fn tokens(bytes: &[u8]) {
    let mut parts = Parts(bytes).map(String::from_utf8_lossy);
    let (Some(token), Some(key)) = (parts.next(), parts.next()) else { return };
    answer(&token, &key);
    assert!(!holds(&token, KEYS) || token.starts_with(&format!("{SIGNED}.")), "forged: {token}");
    assert!(!holds(&token, SECRET) || token.starts_with(&format!("{BY_SECRET}.")), "forged: {token}");
}

fn holds(token: &str, key: &str) -> bool {
    answer(token, key)["holds"] == true
}

fn answer(token: &str, key: &str) -> Value {
    ROOM.with_borrow_mut(|(engine, room)| {
        let request = json!({ "token": token, "key": key });
        engine.submit(Instant::now(), *room, HookCall::Admin { request });
        let mut answer = Value::Null;
        while let Some(output) = engine.poll_output() {
            if let PolicyOutput::Outcome { outcome, .. } = output {
                assert!(!outcome.failed && outcome.refused.is_none(), "{outcome:?}");
                answer = outcome.answer.unwrap_or_default();
            }
        }
        assert_eq!(engine.stats().panics, 0, "a panic was contained");
        answer
    })
}

pub(super) fn tokens_seeds() -> Vec<Vec<u8>> {
    let good = format!("{SIGNED}.{SIGNATURE}");
    assert!(holds(&good, KEYS), "{}", answer(&good, KEYS));
    let public = "-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEyxbGocMYggtuoRkHaI8lWiEIpxqz64hQ/ZuSYDugDhAjQ7UMyd4tAEzvlcgrScvWp1gYMRfRfF4DbVg2fKuvTA==
-----END PUBLIC KEY-----
";
    let unsigned = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhbm4iLCJleHAiOjE3ODYxMDAwMDB9.";
    let rsa = r#"{"keys":[{"kty":"RSA","kid":"k1","n":"AQAB","e":"AQAB"},{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"},{"kty":"oct","k":"AA"}]}"#;
    let by_secret = format!("{BY_SECRET}.AAAA");
    [(&good[..], KEYS), (&good, public), (&good, rsa), (unsigned, SECRET), (&by_secret, SECRET)]
        .map(|(token, key)| joined([token.as_bytes(), key.as_bytes()]))
        .to_vec()
}
