//! What operators do to rooms from outside.

use super::*;
use crate::config::OptionalSecret;

/// Waits until a client is told something.
async fn told_by(socket: &mut Socket, wanted: impl Fn(&Value) -> bool) {
    loop {
        if let Message::Text(text) = socket.next().await.unwrap().unwrap()
            && wanted(&serde_json::from_str(&text).unwrap())
        {
            return;
        }
    }
}

#[tokio::test]
async fn operators_call_a_rooms_policy_and_act_in_the_room() {
    let world = World::new().await;
    world.write(&format!("{SCRIPT}\nfunction on_admin(request) if request == 7 then error('no') end return {{ #sfu.clients(), request }} end"));
    operator::reload(world.admin).await.unwrap();
    let url = format!("http://{}/yes", world.service);
    let (told, mut ada) = world.join("demo", &url).await;
    let ada_id = told["client"].as_str().unwrap().to_owned();
    let (_, mut bob) = world.join("demo", &url).await;
    let act = async |room: &str, verb: &str, body: Value| {
        operator::act(world.admin, room, verb, &body).await.map_err(|error| error.to_string())
    };
    assert_eq!(act("demo", "call", json!({ "a": [] })).await.unwrap(), "[2,{\"a\":[]}]\n");
    assert_eq!(act("demo", "message", json!({ "message": "soon" })).await.unwrap(), "");
    told_by(&mut bob, |told| told["type"] == "message" && told["value"] == "soon").await;
    assert_eq!(act("demo", "kick", json!({ "client": ada_id, "reason": "Enough" })).await.unwrap(), "");
    told_by(&mut ada, |told| told.to_string().contains("Enough")).await;
    for (room, verb, body, expected) in [
        ("demo", "call", json!(7), "422 Unprocessable Entity: the script failed; the server's log says how"),
        ("demo", "kick", json!({ "client": ada_id }), "422 Unprocessable Entity: there is no such client or track"),
        ("demo", "mute", json!({ "client": "x", "track": "y" }), "there is no such client or track in the room"),
        ("demo", "kick", json!({ "klient": "x" }), "unknown field `klient`"),
        ("demo", "message", json!({ "message": "x".repeat(70_000) }), "413 Payload Too Large"),
        ("nowhere", "call", json!(1), "404 Not Found: there is no such room"),
    ] {
        let error = act(room, verb, body).await.unwrap_err();
        assert!(error.contains(expected), "{verb}: {error}");
    }
    assert_eq!(act("demo", "close", json!({ "reason": "Over" })).await.unwrap(), "");
    told_by(&mut bob, |told| told.to_string().contains("Over")).await;
    let call = reqwest::Client::new().post(format!("http://{}/rooms/demo/close", world.admin)).json(&json!({}));
    assert_eq!(call.header("origin", "https://evil.example").send().await.unwrap().status(), 403);
}

#[tokio::test]
async fn operators_open_rooms_and_say_what_clients_are_and_may_do() {
    let world = World::new().await;
    world.write(&format!("{SCRIPT}\nfunction on_admin(request) return sfu.room.metadata end"));
    operator::reload(world.admin).await.unwrap();
    let act = async |room: &str, verb: &str, body: Value| {
        operator::act(world.admin, room, verb, &body).await.map_err(|error| error.to_string())
    };
    assert_eq!(act("demo", "open", json!({ "plan": "gold" })).await.unwrap(), "");
    assert_eq!(act("demo", "call", json!(1)).await.unwrap(), "{\"plan\":\"gold\"}\n");
    let (told, mut ada) = world.join("demo", &format!("http://{}/yes", world.service)).await;
    let ada_id = told["client"].as_str().unwrap().to_owned();
    let attributes = json!({ "client": ada_id, "attributes": { "role": "host" } });
    assert_eq!(act("demo", "attributes", attributes).await.unwrap(), "");
    told_by(&mut ada, |told| told["type"] == "client_changed" && told["attributes"]["role"] == "host").await;
    let rights = json!({ "client": ada_id, "publish": ["screen"], "message": false, "reason": "Be quiet" });
    assert_eq!(act("demo", "rights", rights).await.unwrap(), "");
    let expected = json!({ "type": "rights", "publish": ["screen"], "subscribe": true, "message": false });
    told_by(&mut ada, |told| *told == expected).await;
    let deep = (0..9).fold(json!({}), |inner, _| json!({ "a": inner }));
    for (room, verb, body, words) in [
        ("demo", "open", json!({}), "422 Unprocessable Entity: the room is open already"),
        ("other", "open", json!([1]), "422 Unprocessable Entity: the metadata must be an object"),
        ("other", "open", json!({ "a": "x".repeat(17_000) }), "the metadata may have 16384 bytes, not 17008"),
        ("other", "open", deep, "the metadata is nested more than 8 levels deep"),
        (
            "demo",
            "attributes",
            json!({ "client": ada_id, "attributes": 7 }),
            "the value of attributes must be an object",
        ),
        ("demo", "attributes", json!({ "client": "nobody", "attributes": {} }), "there is no such client or track"),
        ("demo", "rights", json!({ "client": ada_id, "publish": ["camra"] }), "unknown variant `camra`"),
        ("demo", "rights", json!({ "client": ada_id, "hidden": true }), "unknown field `hidden`"),
        ("nowhere", "rights", json!({ "client": ada_id }), "404 Not Found: there is no such room"),
    ] {
        let error = act(room, verb, body).await.unwrap_err();
        assert!(error.contains(words), "{verb}: {error}");
    }
    let open = reqwest::Client::new().post(format!("http://{}/rooms/evil/open", world.admin)).json(&json!({}));
    assert_eq!(open.header("origin", "https://evil.example").send().await.unwrap().status(), 403);
}

#[tokio::test]
async fn with_an_admin_token_nothing_is_told_without_it() {
    let world = World::with(Config { admin_token: OptionalSecret("s3cret".into()), ..Config::default() }).await;
    let config = |token: &str| Config {
        admin_listen: world.admin,
        admin_token: OptionalSecret(token.into()),
        ..Config::default()
    };
    for (token, allowed) in [("", false), ("s3cre", false), ("s3cret2", false), ("s3cret", true)] {
        let answer = operator::rooms(&config(token), false).await;
        assert_eq!(answer.is_ok(), allowed, "{token}: {answer:?}");
        let why = answer.err().map_or(String::new(), |error| error.to_string());
        let given = if token.is_empty() { "none is given" } else { "the one that is given is another" };
        let words = format!(
            "the server asks for its admin_token, and {given}: say it with --admin-token or MOONRING_ADMIN_TOKEN"
        );
        assert_eq!(why, if allowed { String::new() } else { words });
    }
    for path in ["metrics", "rooms", "nothing"] {
        assert!(world.get(path).await.starts_with("show the admin_token"), "{path}");
    }
    assert_eq!(world.get("healthz").await, "ok\n");
    // The page that asks for the token can be had without it.
    for (path, begin) in [("", "<!doctype html>"), ("admin.js", "// @ts-check"), ("admin.css", ":root")] {
        assert!(world.get(path).await.starts_with(begin), "{path}");
    }
}
