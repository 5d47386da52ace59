//! What policies see of the request that a client has come with.

use tokio_tungstenite::tungstenite::client::IntoClientRequest;

use super::*;
use crate::signal::door::Thing;

/// Two headers are chosen.
fn choosing() -> Config {
    let script_headers = ["X-Tenant", "x-user"].map(|name| name.parse().unwrap()).to_vec();
    Config { script_headers, ..config() }
}

#[tokio::test]
async fn a_websockets_origin_program_and_chosen_headers_are_seen() {
    let mut world = start(&choosing());
    let mut request = format!("ws://{}/ws", world.address).into_client_request().unwrap();
    for (name, value) in
        [("origin", "https://a.example"), ("user-agent", "test/1"), ("x-tenant", "acme"), ("x-other", "no")]
    {
        request.headers_mut().insert(name, value.parse().unwrap());
    }
    let mut socket = Socket(connect_async(request).await.unwrap().0);
    socket.join("yes").await;
    assert_eq!(
        world.told().await,
        "join demo yes 7 127.0.0.1 Connection { ip: 127.0.0.1, via: WebSocket, origin: Some(\"https://a.example\"), \
         user_agent: Some(\"test/1\"), headers: [(\"x-tenant\", \"acme\")] }"
    );
}

#[tokio::test]
async fn an_encoders_request_is_seen_and_one_with_headers_that_are_too_long_is_refused() {
    let mut world = start(&choosing());
    let post = |values: Vec<(&'static str, String)>| {
        let request = reqwest::Client::new().post(world.url("/whip/demo")).header("content-type", "application/sdp");
        let request = values.into_iter().fold(request, |request, (name, value)| request.header(name, value));
        request.bearer_auth("yes").body(OFFER).send()
    };
    for (name, value, status, words) in [
        ("x-user", "x".repeat(1025), 431, "the header x-user is longer than 1024 bytes"),
        ("origin", "x".repeat(1025), 431, "the header origin is longer than 1024 bytes"),
    ] {
        let response = post(vec![(name, value)]).await.unwrap();
        assert_eq!(response.status(), status);
        assert!(response.text().await.unwrap().contains(words));
    }
    let twice = vec![("x-user", "eve".to_owned()), ("x-user", "ada".to_owned()), ("origin", "null".to_owned())];
    assert_eq!(post(twice).await.unwrap().status(), 201);
    let told = world.told().await;
    assert!(
        told.contains("via: Whip, origin: Some(\"null\")") && told.contains("[(\"x-user\", \"eve, ada\")]"),
        "{told}"
    );
}

#[tokio::test]
async fn a_website_that_leads_to_loopback_is_refused_however_loopback_is_written() {
    for admin_listen in ["127.0.0.1:0", "[::ffff:127.0.0.1]:0"] {
        let world = start(&Config { admin_listen: admin_listen.parse().unwrap(), ..config() });
        let get = |host: &str| {
            let at = SocketAddr::from(([127, 0, 0, 1], world.admin.port()));
            reqwest::Client::new().get(format!("http://{at}/healthz")).header("host", host).send()
        };
        let answers = [get("localhost").await.unwrap().status(), get("evil.example").await.unwrap().status()];
        assert_eq!(answers, [200, 403], "{admin_listen}");
    }
}

#[test]
fn who_holds_all_connections_to_the_admin_pages_that_an_address_may_leaves_some_for_others() {
    let (door, now) = (admin_door(), Instant::now());
    let mut connections = Vec::new();
    let mut from = |ip: &str, times: usize| {
        let admitted = (0..times).filter_map(|_| door.admit(now, ip.parse().unwrap(), Thing::Connection));
        let before = connections.len();
        connections.extend(admitted);
        connections.len() - before
    };
    assert_eq!(from("192.0.2.1", 1_000), ADMIN_CONNECTIONS_PER_ADDRESS);
    assert_eq!(
        (from("192.0.2.2", 10), from("127.0.0.1", 1_000)),
        (10, ADMIN_CONNECTIONS - ADMIN_CONNECTIONS_PER_ADDRESS - 10)
    );
}
