//! The operator's webhook, against a receiver that checks what it gets.

use std::sync::Mutex;

use axum::extract::State;
use serde_json::{Value, json};

use super::*;
use crate::signal::services::webhooks::{WebhookTarget, Webhooks};

/// What came: id, timestamp, signature and body of each try.
type Seen = Arc<Mutex<Vec<[String; 4]>>>;

/// A receiver that takes a message at the third try.
async fn receiver() -> (SocketAddr, Seen) {
    let seen = Seen::default();
    let take = |State(seen): State<Seen>, headers: HeaderMap, body: String| async move {
        let of = |name| headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or("-").to_owned();
        let mut seen = seen.lock().unwrap();
        seen.push([of("webhook-id"), of("webhook-timestamp"), of("webhook-signature"), body]);
        if seen.len() < 3 { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::NO_CONTENT }
    };
    let router = Router::new().route("/hook", axum::routing::post(take)).with_state(seen.clone());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async { axum::serve(listener, router).await });
    (address, seen)
}

fn webhooks(url: String) -> Webhooks {
    webhooks_with(url, Duration::from_secs(10))
}

fn webhooks_with(url: String, patience: Duration) -> Webhooks {
    Webhooks::new(Some(WebhookTarget::new(url, b"s3cret", (Duration::from_millis(1), patience))))
}

fn room() -> RoomId {
    RoomId::parse("demo").unwrap()
}

#[tokio::test]
async fn a_message_is_signed_and_repeated_with_the_same_id_until_it_is_taken() {
    let (at, seen) = receiver().await;
    let http = service(&[at.to_string()], leads_to(&[]));
    let webhooks = webhooks(format!("http://{at}/hook"));
    webhooks.send(&http, room(), "client_joined".into(), json!({ "client": "ada" })).await;
    assert_eq!(webhooks.counts(), (1, 0));
    let seen = seen.lock().unwrap();
    assert!(seen.len() == 3 && seen.iter().all(|[id, _, _, body]| *id == seen[0][0] && *body == seen[0][3]));
    let [id, time, signature, body] = &seen[2];
    let value: Value = serde_json::from_str(body).unwrap();
    assert_eq!(
        (&value["type"], &value["room"], &value["data"]),
        (&json!("client_joined"), &json!("demo"), &json!({ "client": "ada" }))
    );
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, b"s3cret");
    use base64::Engine;
    let tag = base64::engine::general_purpose::STANDARD.decode(signature.strip_prefix("v1,").unwrap()).unwrap();
    ring::hmac::verify(&key, format!("{id}.{time}.{body}").as_bytes(), &tag).unwrap();
}

#[tokio::test]
async fn what_cannot_be_delivered_is_given_up_and_private_addresses_are_not_reached() {
    let (at, seen) = receiver().await;
    let allowed = service(&[at.to_string()], leads_to(&[]));
    let nobody = webhooks(format!("http://{at}/nothing-here"));
    nobody.send(&allowed, room(), "x".into(), Value::Null).await;
    let private = service(&["hook.example".to_owned()], leads_to(&["127.0.0.1"]));
    let elsewhere = webhooks(format!("http://hook.example:{}/hook", at.port()));
    elsewhere.send(&private, room(), "x".into(), Value::Null).await;
    let unlisted = webhooks(format!("http://{at}/hook"));
    unlisted.send(&private, room(), "x".into(), Value::Null).await;
    assert_eq!([nobody.counts(), elsewhere.counts(), unlisted.counts()], [(0, 1); 3]);
    assert!(seen.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_receiver_that_is_slow_refuses_or_leads_to_a_private_address_is_given_up() {
    let within = || async { (StatusCode::TEMPORARY_REDIRECT, [(header::LOCATION, "http://169.254.169.254/latest")]) };
    let router = Router::new()
        .route("/never", axum::routing::post(std::future::pending::<()>))
        .route("/within", axum::routing::post(within));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    tokio::spawn(async { axum::serve(listener, router).await });
    let refuses = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let http = service(&[at.to_string(), refuses.to_string()], leads_to(&[]));
    for url in [format!("http://{at}/never"), format!("http://{at}/within"), format!("http://{refuses}/hook")] {
        let webhooks = webhooks_with(url.clone(), Duration::from_millis(100));
        webhooks.send(&http, room(), "room_opened".into(), Value::Null).await;
        assert_eq!(webhooks.counts(), (0, 1), "{url}");
    }
}
