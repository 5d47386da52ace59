//! The operator's webhook: what happens in rooms, posted to one URL, signed, and repeated until it is taken.
//!
//! The form is that of Standard Webhooks: `webhook-id`, `webhook-timestamp` and `webhook-signature`, which is `v1,` and the
//! base64 of HMAC-SHA256 over `id.timestamp.body`. A secret that begins with `whsec_` is base64, as the libraries of that
//! form have it; any other is the key itself. A message keeps its id when it is repeated. Messages may come in
//! another order than they were sent, and twice; each has the time at which it happened. A process that takes over goes on
//! with those that wait.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::hmac;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use super::allow::AllowList;
use super::http::HttpService;
use crate::config::Config;
use moonring_policy::output::HttpRequest;
use moonring_wire::id::RoomId;

/// Size of all messages that are under way or wait to be repeated, in KiB; further ones are dropped.
const MAX_WAITING_KIB: usize = 64 * 1024;
/// What a message counts at least, in KiB: no more than 4,096 wait.
const LEAST_KIB: usize = 16;
/// Bytes of the messages that another process goes on with: they are copied while media stands still.
const MAX_HANDED_OVER: usize = 4 * 1024 * 1024;
/// Between two looks whether a message waits.
const LOOK: Duration = Duration::from_millis(10);
/// How a secret begins that is base64.
const BASE64_SECRET: &str = "whsec_";
/// Tries of one message.
const MAX_TRIES: u32 = 8;
/// The pause after the first try; each further one is twice as long, two minutes together.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// Time for one try.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where messages go.
#[derive(Clone)]
pub(crate) struct WebhookTarget {
    url: String,
    key: hmac::Key,
    first_pause: Duration,
    /// Time for one try.
    patience: Duration,
}

impl WebhookTarget {
    /// What the configuration says; `None` without a URL. One that may not be asked for would take no message at all.
    pub(crate) fn of(config: &Config, allowed: &AllowList) -> anyhow::Result<Option<Self>> {
        if config.webhook_url.is_empty() {
            return Ok(None);
        }
        let given = &config.webhook_url;
        let url = reqwest::Url::parse(given)
            .with_context(|| format!("webhook_url {given:?} is not a URL such as https://shop.example.com/rooms"))?;
        ensure!(matches!(url.scheme(), "http" | "https"), "webhook_url: {url} is neither http nor https");
        allowed.check(&url).context("webhook_url")?;
        let key = key_of(&config.webhook_secret.0)?;
        Ok(Some(Self::new(url.into(), &key, (FIRST_PAUSE, PATIENCE))))
    }

    pub(super) fn new(url: String, key: &[u8], (first_pause, patience): (Duration, Duration)) -> Self {
        Self { url, key: hmac::Key::new(hmac::HMAC_SHA256, key), first_pause, patience }
    }

    /// The value of `webhook-signature`.
    fn signature(&self, id: &str, now: &str, body: &str) -> String {
        let tag = hmac::sign(&self.key, format!("{id}.{now}.{body}").as_bytes());
        format!("v1,{}", STANDARD.encode(tag))
    }

    fn request(&self, id: &str, body: &str) -> HttpRequest {
        let now = unix().to_string();
        let signature = self.signature(id, &now, body);
        let headers = [
            ("content-type", "application/json".to_owned()),
            ("webhook-id", id.to_owned()),
            ("webhook-timestamp", now),
            ("webhook-signature", signature),
        ];
        HttpRequest {
            method: "POST".into(),
            url: self.url.clone(),
            headers: headers.map(|(name, value)| (name.to_owned(), value)).into(),
            body: body.as_bytes().to_vec(),
            timeout: self.patience,
        }
    }
}

/// The bytes that messages are signed with.
fn key_of(secret: &str) -> anyhow::Result<Vec<u8>> {
    match secret.strip_prefix(BASE64_SECRET) {
        Some(text) => STANDARD.decode(text).context("webhook_secret: what follows whsec_ is not base64"),
        None => Ok(secret.as_bytes().to_vec()),
    }
}

impl std::fmt::Debug for WebhookTarget {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WebhookTarget").field("url", &self.url).finish_non_exhaustive()
    }
}

/// A message under way, or between two tries.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(in crate::signal) struct WaitingMessage {
    id: String,
    room: RoomId,
    event: String,
    body: String,
    /// How often it was tried, the try under way included.
    tries: u32,
}

/// The webhook; nothing is sent without a target.
#[derive(Debug)]
pub(super) struct Webhooks {
    target: Option<WebhookTarget>,
    places: Arc<Semaphore>,
    waiting: Mutex<Waiting>,
    delivered: AtomicU64,
    failed: AtomicU64,
}

impl Webhooks {
    pub(super) fn new(target: Option<WebhookTarget>) -> Self {
        let places = Arc::new(Semaphore::new(MAX_WAITING_KIB));
        let waiting = Mutex::default();
        Self { target, places, waiting, delivered: AtomicU64::new(0), failed: AtomicU64::new(0) }
    }

    /// Messages that were taken, and messages that were given up, since the start.
    pub(super) fn counts(&self) -> (u64, u64) {
        (self.delivered.load(Ordering::Relaxed), self.failed.load(Ordering::Relaxed))
    }

    /// Sends a message, again and again until it is taken or given up.
    pub(super) async fn send(&self, http: &HttpService, room: RoomId, event: String, data: Value) {
        let body = json!({ "type": event, "room": room, "timestamp": unix(), "data": data }).to_string();
        let id = format!("msg_{:032x}", rand::random::<u128>());
        self.go_on(http, WaitingMessage { id, room, event, body, tries: 0 }).await;
    }

    /// The same with a message that was tried before.
    pub(super) async fn go_on(&self, http: &HttpService, message: WaitingMessage) {
        let Some(target) = &self.target else { return };
        let (room, event, mut tries) = (message.room.clone(), message.event.clone(), message.tries);
        let failed = |why: &str| {
            self.failed.fetch_add(1, Ordering::Relaxed);
            tracing::warn!(%room, event, "the webhook has not been told: {why}");
        };
        let kib = u32::try_from(LEAST_KIB.max(message.body.len() / 1024)).unwrap_or(u32::MAX);
        let Ok(_place) = self.places.try_acquire_many(kib) else { return failed("too many messages wait") };
        let place = Place::new(self, message);
        let mut why = String::new();
        while tries < MAX_TRIES {
            if tries > 0 {
                tokio::time::sleep(target.first_pause * 2_u32.pow(tries - 1)).await;
            }
            tries += 1;
            let Some(request) = place.begin_try(tries, target) else { return };
            match http.serve(&room, request).await {
                Ok(reply) if (200..300).contains(&reply.status) => {
                    self.delivered.fetch_add(1, Ordering::Relaxed);
                    return;
                }
                Ok(reply) => why = format!("status {}", reply.status),
                Err(error) => why = error,
            }
        }
        failed(&why);
    }

    /// Those that another process may go on with, the oldest first.
    pub(super) fn hand_over(&self) -> Vec<WaitingMessage> {
        let mut waiting = self.waiting();
        let mut bytes = 0;
        let (mut handed_over, mut messages) = (Vec::new(), Vec::new());
        for (n, message) in waiting.messages.iter().filter(|(_, message)| message.tries < MAX_TRIES) {
            bytes += message.body.len();
            if bytes > MAX_HANDED_OVER {
                break;
            }
            handed_over.push(*n);
            messages.push(message.clone());
        }
        waiting.handed_over = handed_over;
        messages
    }

    /// Another process goes on with what was handed over last.
    pub(super) fn let_go(&self) {
        let mut waiting = self.waiting();
        for n in std::mem::take(&mut waiting.handed_over) {
            waiting.messages.remove(&n);
        }
    }

    /// Ends when no message waits.
    pub(super) async fn rest(&self) {
        while self.left() > 0 {
            tokio::time::sleep(LOOK).await;
        }
    }

    /// How many messages wait that nobody else goes on with.
    pub(super) fn left(&self) -> usize {
        self.waiting().messages.len()
    }

    /// A panic while it was held left whole entries behind.
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What waits, by the order in which it came.
#[derive(Debug, Default)]
struct Waiting {
    next: u64,
    messages: BTreeMap<u64, WaitingMessage>,
    handed_over: Vec<u64>,
}

/// One message's entry among those that wait.
struct Place<'a> {
    webhooks: &'a Webhooks,
    n: u64,
}

impl<'a> Place<'a> {
    fn new(webhooks: &'a Webhooks, message: WaitingMessage) -> Self {
        let mut waiting = webhooks.waiting();
        let n = waiting.next;
        waiting.next += 1;
        waiting.messages.insert(n, message);
        drop(waiting);
        Self { webhooks, n }
    }

    /// Notes how often it was tried, this time included; `None` when another process goes on with it.
    fn begin_try(&self, tries: u32, target: &WebhookTarget) -> Option<HttpRequest> {
        let mut waiting = self.webhooks.waiting();
        let message = waiting.messages.get_mut(&self.n)?;
        message.tries = tries;
        Some(target.request(&message.id, &message.body))
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.webhooks.waiting().messages.remove(&self.n);
    }
}

/// Seconds since 1970.
fn unix() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the reference implementations.
    const ID: &str = "msg_p5jXN8AQM9LWM0D4loKWxJek";
    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

    #[test]
    fn a_message_has_the_signature_that_libraries_of_standard_webhooks_expect() {
        let target =
            |secret: &str| WebhookTarget::new(String::new(), &key_of(secret).unwrap(), (FIRST_PAUSE, PATIENCE));
        let signature = target(SECRET).signature(ID, "1614265330", "{\"test\": 2432232314}");
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
        assert_ne!(target("any other").signature(ID, "1614265330", "{\"test\": 2432232314}"), signature);
        let error = key_of("whsec_not/base64!").unwrap_err().to_string();
        assert_eq!(error, "webhook_secret: what follows whsec_ is not base64");
    }
}
