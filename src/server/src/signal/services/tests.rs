//! Requests of policies against a server on loopback.

mod tls;
mod webhooks;

use std::net::{IpAddr, SocketAddr};
use std::sync::mpsc::sync_channel;

use axum::Router;
use axum::extract::Path;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::{any, get};

use super::http::Lookup;
use super::*;
use moonring_policy::output::{HttpReply, HttpRequest, SharedRequest, SharedValue, StoreSpace};

/// A server whose paths do what the tests need; `/to/<url>` redirects there.
async fn server() -> SocketAddr {
    let echo = |method: axum::http::Method, headers: HeaderMap, body: String| async move {
        let of = |name| headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or("-").to_owned();
        format!("{method} {} {} {body}", of("authorization"), of("x-own"))
    };
    let redirect = |code: u16| {
        move |Path(to): Path<String>| async move {
            (StatusCode::from_u16(code).unwrap(), [(header::LOCATION, format!("/{to}"))]).into_response()
        }
    };
    let away = |Path((port, to)): Path<(u16, String)>| async move {
        (StatusCode::FOUND, [(header::LOCATION, format!("http://127.0.0.1:{port}/{to}"))])
    };
    let router = Router::new()
        .route("/echo", any(echo))
        .route("/302/{*to}", any(redirect(302)))
        .route("/307/{*to}", any(redirect(307)))
        .route("/away/{port}/{*to}", get(away))
        .route("/metadata", get(|| async { (StatusCode::FOUND, [(header::LOCATION, "http://169.254.169.254/")]) }))
        .route("/big", get(|| async { vec![b'x'; 1024 * 1024 + 1] }))
        .route("/fits", get(|| async { vec![b'x'; 1024 * 1024] }))
        .route("/never", get(std::future::pending::<()>))
        .route("/teapot", get(|| async { (StatusCode::IM_A_TEAPOT, [("x-kind", "oolong")], "short") }));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async { axum::serve(listener, router).await });
    address
}

fn service(allow: &[String], lookup: Lookup) -> HttpService {
    crate::signal::tls::install_crypto_provider();
    HttpService::with_lookup(AllowList::parse(allow).unwrap(), &Authorities::default(), lookup)
}

/// Every name leads to these addresses.
fn leads_to(addresses: &'static [&'static str]) -> Lookup {
    Arc::new(|_| {
        let found: Vec<IpAddr> = addresses.iter().map(|ip| ip.parse().unwrap()).collect();
        Box::pin(async move { Ok(found) })
    })
}

fn request(method: &str, url: String) -> HttpRequest {
    let timeout = Duration::from_secs(20);
    HttpRequest { method: method.into(), url, headers: vec![], body: vec![], timeout }
}

async fn text(service: &HttpService, request: HttpRequest) -> Result<(u16, String), String> {
    let room = RoomId::parse("a").unwrap();
    let HttpReply { status, body, .. } = service.serve(&room, request).await?;
    Ok((status, String::from_utf8(body).unwrap()))
}

#[tokio::test]
async fn a_request_goes_out_and_its_answer_comes_back_whole() {
    let at = server().await;
    let service = service(&[at.to_string()], leads_to(&[]));
    let mut post = request("POST", format!("http://{at}/echo"));
    post.headers = vec![("Authorization".into(), "Bearer t".into()), ("X-Own".into(), "1".into())];
    post.body = b"hello".into();
    assert_eq!(text(&service, post).await, Ok((200, "POST Bearer t 1 hello".into())));
    let room = RoomId::parse("a").unwrap();
    let reply = service.serve(&room, request("GET", format!("http://{at}/teapot"))).await.unwrap();
    assert_eq!((reply.status, &reply.body[..]), (418, &b"short"[..]));
    assert!(reply.headers.contains(&("x-kind".into(), "oolong".into())));
    let fits = text(&service, request("GET", format!("http://{at}/fits"))).await.unwrap();
    assert_eq!(fits.1.len(), 1024 * 1024);
}

#[tokio::test]
async fn redirects_are_followed_three_times_with_what_may_go_with_them() {
    let (at, other) = (server().await, server().await);
    let service = service(&[at.to_string(), other.to_string()], leads_to(&[]));
    let port = other.port();
    for (method, path, expected) in [
        ("GET", "302/echo", Ok("GET secret - body")),
        ("POST", "302/echo", Ok("GET secret - ")),
        ("POST", "307/echo", Ok("POST secret - body")),
        ("GET", "302/302/302/echo", Ok("GET secret - body")),
        ("GET", "302/302/302/302/echo", Err("more than 3 redirects")),
        ("GET", &format!("away/{port}/echo"), Ok("GET - - body")),
    ] {
        let mut request = request(method, format!("http://{at}/{path}"));
        request.headers = vec![("authorization".into(), "secret".into())];
        request.body = b"body".into();
        let expected = expected.map(|words| (200, words.to_owned())).map_err(str::to_owned);
        assert_eq!(text(&service, request).await, expected, "{method} {path}");
    }
}

#[tokio::test]
async fn what_is_not_allowed_is_refused_first_hand_and_after_a_redirect() {
    let (at, unlisted) = (server().await, server().await);
    let port = unlisted.port();
    let service = service(&[at.to_string()], leads_to(&[]));
    let unlisted_words = format!("{unlisted} is not listed in http_allow");
    for (url, expected) in [
        (format!("http://{unlisted}/echo"), unlisted_words.as_str()),
        (format!("http://{at}/away/{port}/echo"), &unlisted_words),
        (format!("http://{at}/302/away/{port}/echo"), &unlisted_words),
        (format!("http://{at}/metadata"), "169.254.169.254:80 is not listed in http_allow"),
        (format!("http://{at}/big"), "the response is longer than 1048576 bytes"),
        ("gopher://a/".into(), "gopher: only http and https are spoken"),
        ("no url".into(), "the URL is not well-formed: relative URL without a base"),
    ] {
        assert_eq!(text(&service, request("GET", url.clone())).await, Err(expected.to_owned()), "{url}");
    }
    for name in ["Host", "content-length", "Transfer-Encoding"] {
        let mut request = request("GET", format!("http://{at}/echo"));
        request.headers = vec![(name.into(), "1".into())];
        assert_eq!(text(&service, request).await, Err(format!("header {name:?} cannot be sent")));
    }
    let nothing = HttpService::new(AllowList::default(), &Authorities::default());
    let words = text(&nothing, request("GET", format!("http://{at}/"))).await.unwrap_err();
    assert_eq!(words, "http_allow is empty: scripts may not call any host");
}

#[tokio::test]
async fn a_listed_name_may_not_lead_to_a_private_address_unless_that_is_listed() {
    let at = server().await;
    let (name, url) =
        (format!("auth.example.com:{}", at.port()), format!("http://auth.example.com:{}/echo", at.port()));
    let rebound = service(std::slice::from_ref(&name), leads_to(&["127.0.0.1", "10.0.0.1"]));
    let words = text(&rebound, request("GET", url.clone())).await.unwrap_err();
    let expected = "auth.example.com leads to 127.0.0.1, which is not public and not listed in http_allow";
    assert!(words.ends_with(expected), "{words}");
    let listed = service(&[name, "127.0.0.1:1".into()], leads_to(&["10.0.0.1", "127.0.0.1"]));
    assert_eq!(text(&listed, request("GET", url)).await, Ok((200, "GET - - ".into())));
    let local = service(&["localhost".into()], leads_to(&["127.0.0.1"]));
    let url = format!("http://localhost:{}/echo", at.port());
    assert_eq!(text(&local, request("GET", url)).await, Ok((200, "GET - - ".into())));
}

#[tokio::test]
async fn a_request_that_takes_too_long_is_given_up_and_its_place_is_free_again() {
    let at = server().await;
    let service = service(&[at.to_string()], leads_to(&[]));
    let slow = || HttpRequest { timeout: Duration::from_millis(50), ..request("GET", format!("http://{at}/never")) };
    // More than one room may have under way: the last ones wait for a place, in vain.
    let all = futures_util::future::join_all((0..20).map(|_| text(&service, slow()))).await;
    assert!(all.iter().all(|answer| *answer == Err("timed out".to_owned())), "{all:?}");
    assert_eq!(text(&service, request("GET", format!("http://{at}/echo"))).await.unwrap().0, 200);
}

#[tokio::test]
async fn replies_reach_the_shard_also_when_its_queue_was_full() {
    let (sender, commands) = sync_channel(1);
    let shard = ShardHandle::over(sender, Arc::new(|| {}));
    let folder = tempfile::tempdir().unwrap();
    let stores = Stores { data_dir: folder.path().into(), ..Stores::default() };
    let services = Services::new(AllowList::default(), &Authorities::default(), stores, None);
    let room = || RoomId::parse("a").unwrap();
    for n in 0..3 {
        let request = SharedRequest::Incr { key: "n".into(), by: 1.0, ttl: None };
        services.serve(shard.clone(), PolicyRequestId(n), room(), PolicyRequest::Shared(request));
    }
    let get = PolicyRequest::Http(request("GET", "http://a/".into()));
    services.serve(shard.clone(), PolicyRequestId(3), room(), get);
    let request = SharedRequest::Incr { key: "n".into(), by: 5.0, ttl: None };
    services.serve(shard, PolicyRequestId(4), room(), PolicyRequest::Store(StoreSpace::Global, request));
    let mut replies = Vec::new();
    while replies.len() < 5 {
        match commands.try_recv() {
            Ok(Command::PolicyReply { id, reply }) => replies.push((id.0, reply)),
            Ok(other) => panic!("{other:?}"),
            Err(_) => tokio::time::sleep(Duration::from_millis(1)).await,
        }
    }
    replies.sort_by_key(|(id, _)| *id);
    let number = |n| PolicyReply::Shared(Ok(Some(SharedValue::Number(n))));
    assert_eq!(replies[..3], [(0, number(1.0)), (1, number(2.0)), (2, number(3.0))]);
    assert!(matches!(&replies[3].1, PolicyReply::Http(Err(words)) if words.contains("http_allow")));
    assert_eq!(replies[4], (4, number(5.0)));
    assert!(folder.path().join("store.redb").exists());
    let counts = services.counts();
    assert_eq!((counts.store_operations, counts.store_failed, counts.store_commits), (1, 0, 1));
    assert_eq!((counts.shared_operations, counts.shared_entries, counts.http_failed), (3, 1, 1));
}
