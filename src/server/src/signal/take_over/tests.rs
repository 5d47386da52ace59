//! The control planes of two processes, each with a runtime of its own.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use serde_json::json;
use tokio::runtime::Runtime;
use tokio::sync::watch;

use super::*;
use crate::config::Config;
use crate::signal::services::{AllowList, Authorities, Services, Stores, WebhookTarget};
use moonring_wire::id::RoomId;

/// The ids and bodies that have come.
type Seen = Arc<Mutex<Vec<(String, String)>>>;

/// A receiver that refuses what comes first.
async fn receiver(seen: Seen) -> String {
    let take = |State(seen): State<Seen>, headers: HeaderMap, body: String| async move {
        let mut seen = seen.lock().unwrap();
        seen.push((headers["webhook-id"].to_str().unwrap().to_owned(), body));
        if seen.len() == 1 { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::NO_CONTENT }
    };
    let router = Router::new().route("/hook", axum::routing::post(take)).with_state(seen);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async { axum::serve(listener, router).await });
    address.to_string()
}

/// A control plane without shards, whose webhook is at `host`.
fn app(host: &str) -> App {
    crate::signal::tls::install_crypto_provider();
    let config = Config { webhook_url: format!("http://{host}/hook"), ..Config::default() };
    let allowed = AllowList::parse(&[host.to_owned()]).unwrap();
    let target = WebhookTarget::of(&config, &allowed).unwrap();
    let authorities = Authorities::load(&PathBuf::new()).unwrap();
    let services = Services::new(allowed, &authorities, Stores::default(), target);
    App::new((&config, 0), vec![], services, (None, None), watch::channel(false).1)
}

fn wait_until(is_so: impl Fn() -> bool) {
    for _ in 0..6_000 {
        if is_so() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    panic!("it does not become so");
}

#[test]
fn a_message_to_the_webhook_that_waits_is_repeated_by_the_process_that_takes_over() {
    let [world, old, new] = [(); 3].map(|()| Runtime::new().unwrap());
    let seen = Seen::default();
    let host = world.block_on(receiver(seen.clone()));
    let former = old.block_on(async {
        let app = app(&host);
        app.services.tell(RoomId::parse("demo").unwrap(), "room_opened".into(), json!(null));
        app
    });
    wait_until(|| seen.lock().unwrap().len() == 1);
    let leaving = Leaving(former);
    let handed_over = leaving.hand_over(&HashSet::new()).unwrap();
    leaving.is_taken_over();
    old.block_on(leaving.0.services.all_told());
    old.shutdown_background();
    let later = new.block_on(async {
        let later = app(&host);
        inherit(&later, ControlState::read(&handed_over, 0).unwrap());
        later
    });
    wait_until(|| later.services.counts().webhooks_delivered == 1);
    let seen = seen.lock().unwrap();
    assert_eq!(seen.len(), 2);
    assert_eq!(seen[0], seen[1], "the same message");
}

#[test]
fn messages_to_the_webhook_are_behind_what_every_version_reads() {
    let state = || ControlState { stays: Stays::default(), sessions: vec![], shared: vec![], messages: vec![] };
    let bytes = state().write().unwrap();
    let known: ControlState = postcard::from_bytes(&bytes).unwrap();
    assert_eq!(known.messages.len(), 0, "a process that does not know of them");
    let before = postcard::to_extend(&state(), Vec::new()).unwrap();
    assert_eq!(ControlState::read(&before, 0).unwrap().messages.len(), 0, "of a process that does not know of them");
    assert!(before.len() < bytes.len() && ControlState::read(&bytes[..before.len() - 1], 0).is_err());
}
