//! `sfu.http`: requests of scripts, to allowed hosts only, bounded in time, size and number.
//!
//! The address that a name leads to is checked by the resolver of the very client that connects to it, so that nothing
//! can change in between; each redirect is checked like the first request.

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, Method, Request, Response, Url, redirect};
use tokio::sync::Semaphore;

use super::allow::AllowList;
use super::authorities::Authorities;
use moonring_policy::output::{HttpReply, HttpRequest};
use moonring_wire::id::RoomId;

/// Most bytes of a response's body.
const MAX_BODY: usize = 1024 * 1024;
/// Most redirects of one request.
const MAX_REDIRECTS: usize = 3;
/// Requests of all rooms that are under way at the same time; further ones wait within their time limit.
const MAX_CONCURRENT: usize = 256;
/// Requests of one room that are under way at the same time.
const MAX_CONCURRENT_PER_ROOM: usize = 16;
/// The longest that a request takes, whatever the script says.
const MAX_TIME: Duration = Duration::from_secs(30);
/// Idle connections that are kept to one host.
const MAX_IDLE: usize = 16;
/// Bytes of the words that tell a script what went wrong.
const MAX_WORDS: usize = 512;
/// Headers that are the connection's business, not a script's.
const OWN_HEADERS: [&str; 11] = [
    "connection",
    "content-length",
    "expect",
    "host",
    "keep-alive",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

const _: () = assert!(MAX_CONCURRENT_PER_ROOM < MAX_CONCURRENT, "one room cannot take all places");

/// Finds a name's addresses.
pub(super) type Lookup = Arc<dyn Fn(String) -> Addresses + Send + Sync>;
/// What it finds.
pub(super) type Addresses = Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send>>;

/// The HTTP client of all policies.
pub(super) struct HttpService {
    allow: Arc<AllowList>,
    /// `None` when nothing is allowed.
    client: Option<Result<Client, String>>,
    places: Semaphore,
    rooms: Mutex<HashMap<RoomId, Arc<Semaphore>>>,
}

impl HttpService {
    pub(super) fn new(allow: AllowList, authorities: &Authorities) -> Self {
        Self::with_lookup(allow, authorities, Arc::new(|name| Box::pin(system_lookup(name))))
    }

    pub(super) fn with_lookup(allow: AllowList, authorities: &Authorities, lookup: Lookup) -> Self {
        let allow = Arc::new(allow);
        let client = (!allow.is_empty()).then(|| client(&allow, authorities, &lookup));
        if let Some(Err(error)) = &client {
            tracing::error!(error, "sfu.http does not work");
        }
        Self { allow, client, places: Semaphore::new(MAX_CONCURRENT), rooms: Mutex::default() }
    }

    /// Makes a request; an error is words for the script.
    pub(super) async fn serve(&self, room: &RoomId, request: HttpRequest) -> Result<HttpReply, String> {
        let limit = request.timeout.min(MAX_TIME);
        let answer = tokio::time::timeout(limit, self.in_turn(room, request)).await;
        self.forget(room);
        answer.unwrap_or_else(|_| Err("timed out".to_owned()))
    }

    /// Waits for a place among the room's requests, then among all.
    async fn in_turn(&self, room: &RoomId, request: HttpRequest) -> Result<HttpReply, String> {
        let client = match &self.client {
            Some(Ok(client)) => client,
            Some(Err(error)) => return Err(error.clone()),
            None => return Err("http_allow is empty: scripts may not call any host".to_owned()),
        };
        let request = prepare(client, request)?;
        self.allow.check(request.url()).map_err(|refusal| refusal.to_string())?;
        let of_room = self.places_of(room);
        let gone = |_| "the server shuts down".to_owned();
        let _own = of_room.acquire().await.map_err(gone)?;
        let _place = self.places.acquire().await.map_err(gone)?;
        read(client.execute(request).await.map_err(words)?).await
    }

    fn places_of(&self, room: &RoomId) -> Arc<Semaphore> {
        let mut rooms = self.rooms.lock().unwrap_or_else(PoisonError::into_inner);
        let places = rooms.entry(room.clone()).or_insert_with(|| Arc::new(Semaphore::new(MAX_CONCURRENT_PER_ROOM)));
        places.clone()
    }

    /// Drops what is known of a room that has no request under way.
    fn forget(&self, room: &RoomId) {
        let mut rooms = self.rooms.lock().unwrap_or_else(PoisonError::into_inner);
        if rooms.get(room).is_some_and(|places| Arc::strong_count(places) == 1) {
            rooms.remove(room);
        }
    }
}

impl std::fmt::Debug for HttpService {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HttpService").field("allow", &self.allow).finish_non_exhaustive()
    }
}

/// Resolves names to the addresses that they may lead to.
struct Guard {
    allow: Arc<AllowList>,
    lookup: Lookup,
}

impl Resolve for Guard {
    fn resolve(&self, name: Name) -> Resolving {
        let (allow, lookup, name) = (self.allow.clone(), self.lookup.clone(), name.as_str().to_owned());
        Box::pin(async move {
            let found = lookup(name.clone()).await?;
            let (good, bad): (Vec<_>, Vec<_>) = found.into_iter().partition(|ip| allow.leads_to(&name, *ip));
            if let (true, Some(ip)) = (good.is_empty(), bad.first()) {
                let words = format!("{name} leads to {ip}, which is not public and not listed in http_allow");
                return Err(io::Error::other(words).into());
            }
            Ok(Box::new(good.into_iter().map(|ip| SocketAddr::new(ip, 0))) as Addrs)
        })
    }
}

async fn system_lookup(name: String) -> io::Result<Vec<IpAddr>> {
    Ok(tokio::net::lookup_host((name, 0)).await?.map(|address| address.ip()).collect())
}

fn client(allow: &Arc<AllowList>, authorities: &Authorities, lookup: &Lookup) -> Result<Client, String> {
    let builder = || {
        // A proxy would resolve names itself, beyond the check.
        Client::builder()
            .no_proxy()
            .redirect(redirects(allow.clone()))
            .referer(false)
            .dns_resolver(Guard { allow: allow.clone(), lookup: lookup.clone() })
            .pool_max_idle_per_host(MAX_IDLE)
            .user_agent(concat!("moonring/", env!("CARGO_PKG_VERSION")))
    };
    builder().tls_certs_merge(authorities.certificates()).build().or_else(|error| {
        tracing::warn!(
            error = words(error),
            "no certificate authorities on this machine: sfu.http trusts those of http_ca only"
        );
        builder().tls_certs_only(authorities.certificates()).build().map_err(words)
    })
}

/// Each redirect is checked like the first request. What proves who asks stays with the origin that was asked.
fn redirects(allow: Arc<AllowList>) -> redirect::Policy {
    redirect::Policy::custom(move |attempt| {
        if attempt.previous().len() > MAX_REDIRECTS {
            return attempt.error(format!("more than {MAX_REDIRECTS} redirects"));
        }
        match allow.check(attempt.url()) {
            Ok(()) => attempt.follow(),
            Err(refusal) => attempt.error(refusal),
        }
    })
}

fn prepare(client: &Client, request: HttpRequest) -> Result<Request, String> {
    let url = Url::parse(&request.url).map_err(|error| format!("the URL is not well-formed: {error}"))?;
    let method = Method::from_bytes(request.method.as_bytes()).map_err(|error| error.to_string())?;
    let mut headers = HeaderMap::new();
    for (name, value) in &request.headers {
        let bad = || format!("header {name:?} cannot be sent");
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| bad())?;
        if OWN_HEADERS.contains(&name.as_str()) {
            return Err(bad());
        }
        headers.append(name, HeaderValue::from_bytes(value.as_bytes()).map_err(|_| bad())?);
    }
    client.request(method, url).headers(headers).body(request.body).build().map_err(words)
}

async fn read(mut response: Response) -> Result<HttpReply, String> {
    let too_long = || format!("the response is longer than {MAX_BODY} bytes");
    let status = response.status().as_u16();
    let header = |(name, value): (&HeaderName, &HeaderValue)| {
        (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned())
    };
    let headers = response.headers().iter().map(header).collect();
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(words)? {
        if body.len() + chunk.len() > MAX_BODY {
            return Err(too_long());
        }
        body.extend_from_slice(&chunk);
    }
    Ok(HttpReply { status, headers, body })
}

/// What went wrong, down to its cause, without the URL: it may carry a secret.
fn words(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut cause = std::error::Error::source(&error);
    if let (true, Some(refusal)) = (error.is_redirect(), cause) {
        return refusal.to_string();
    }
    let mut words = error.to_string();
    while let Some(error) = cause {
        let text = error.to_string();
        if !words.contains(&text) {
            words = format!("{words}: {text}");
        }
        cause = error.source();
    }
    let end = words.floor_char_boundary(MAX_WORDS);
    words.truncate(end);
    words
}
