//! How clients join: our WebSocket protocol, or WHIP and WHEP.

mod http;
mod tls;
mod websocket;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use moonring_wire::causes::causes;
use moonring_wire::id::{ClientId, Mid, RoomId};
use moonring_wire::media::{CodecName, Kind};
use tokio::sync::{oneshot, watch};

use crate::engine::{Command, Description, Handle, Viewing};

pub use tls::TlsTrust;

/// Time for a server to answer a request.
const PATIENCE: Duration = Duration::from_secs(30);

/// Pause before a lost client comes again.
const REJOIN: Duration = Duration::from_millis(250);

/// Where to join.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// Our protocol: `wss://host:8080/ws`, or several nodes of a cluster, of which clients take one in turn.
    WebSocket(Vec<String>),
    /// WHIP to publish and WHEP to receive: a URL in which `{kind}` (whip or whep) and `{room}` are put in.
    Http(String),
}

impl Target {
    /// Reads `wss://...`, `ws://...` (several with commas between them), `whip+https://...` or `whip+http://...`.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.split(',').all(|url| url.starts_with("wss://") || url.starts_with("ws://")) {
            return Ok(Self::WebSocket(text.split(',').map(str::to_owned).collect()));
        }
        match text.strip_prefix("whip+").filter(|url| url.starts_with("https://") || url.starts_with("http://")) {
            Some(url) if url.contains("{room}") || url.contains("{kind}") => Ok(Self::Http(url.into())),
            Some(url) => Ok(Self::Http(format!("{}/{{kind}}/{{room}}", url.trim_end_matches('/')))),
            None => Err(format!("{text:?}: wss://host/ws, ws://host/ws and whip+https://host are known")),
        }
    }

    /// The host that is joined first, without port.
    pub fn host(&self) -> Option<&str> {
        let url = match self {
            Self::WebSocket(urls) => urls.first()?,
            Self::Http(url) => url,
        };
        let authority = url.split_once("://")?.1.split('/').next()?;
        if let Some(v6) = authority.strip_prefix('[') {
            return v6.split(']').next();
        }
        authority.split(':').next()
    }
}

/// What a client wants to receive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Receive {
    /// Nothing.
    Nothing,
    /// All that the others publish.
    Everything,
}

/// What a client does.
#[derive(Clone, Debug)]
pub struct ClientPlan {
    /// Its room.
    pub room: RoomId,
    /// What it publishes.
    pub publish: Vec<CodecName>,
    /// What it receives.
    pub receive: Receive,
    /// What a WHEP server is asked for, which does not tell what there is.
    pub expects: Vec<CodecName>,
    /// When it begins, from the start of the run.
    pub starts: Duration,
    /// It leaves after this time and comes again as somebody else.
    pub stays: Option<Duration>,
    /// Of a subscriber that is watched: its link, and what it should see.
    pub viewing: Option<Viewing>,
}

/// What all clients have in common.
#[derive(Debug)]
pub struct Context {
    /// Where to join.
    pub target: Target,
    /// The token they show.
    pub token: String,
    /// Which servers are trusted.
    pub tls: TlsTrust,
    /// The engines; a client is on the one of its number.
    pub engines: Vec<Handle>,
    /// Who loses its connection comes again as somebody else.
    pub rejoin: bool,
    /// Numbers of clients.
    pub next_client: std::sync::atomic::AtomicUsize,
    /// True when all are to leave.
    pub stop: watch::Receiver<bool>,
    /// Gets what went wrong.
    pub failures: tokio::sync::mpsc::UnboundedSender<String>,
    /// Why the run can measure nothing.
    pub hopeless: OnceLock<String>,
    /// Those who are in, by number: where, and who they are there.
    members: Mutex<BTreeMap<usize, (RoomId, ClientId)>>,
    pub(crate) http: reqwest::Client,
}

impl Context {
    /// For one run.
    pub fn new(
        (target, rejoin): (Target, bool),
        token: String,
        tls: TlsTrust,
        engines: Vec<Handle>,
        stop: watch::Receiver<bool>,
        failures: tokio::sync::mpsc::UnboundedSender<String>,
    ) -> anyhow::Result<Self> {
        let http = tls.http_client()?;
        let (next_client, members, hopeless) = Default::default();
        Ok(Self { target, rejoin, token, tls, engines, next_client, stop, failures, hopeless, members, http })
    }

    /// Somebody is in, or not any more.
    fn note(&self, client: usize, who: Option<(RoomId, ClientId)>) {
        let mut members = self.members.lock().unwrap_or_else(PoisonError::into_inner);
        match who {
            Some(who) => drop(members.insert(client, who)),
            None => drop(members.remove(&client)),
        }
    }

    /// Those who are in.
    pub(crate) fn members(&self) -> Vec<(RoomId, ClientId)> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    fn engine(&self, client: usize) -> (&Handle, usize) {
        (&self.engines[client % self.engines.len()], client / self.engines.len())
    }

    async fn describe(
        &self,
        (client, plan): (usize, &ClientPlan),
        began: Instant,
        publish: &[CodecName],
        receive: &[CodecName],
    ) -> anyhow::Result<Description> {
        let (engine, client) = self.engine(client);
        let (reply, description) = oneshot::channel();
        let (publish, receive, viewing) = (publish.into(), receive.into(), plan.viewing);
        engine.send(Command::Describe { client, began, publish, receive, viewing, reply });
        Ok(description.await?)
    }

    async fn restart(&self, client: usize) -> anyhow::Result<String> {
        let (engine, client) = self.engine(client);
        let (reply, description) = oneshot::channel();
        engine.send(Command::Restart { client, reply });
        Ok(description.await?.sdp)
    }

    fn answer(&self, client: usize, sdp: String) {
        let (engine, client) = self.engine(client);
        engine.send(Command::Answer { client, sdp });
    }

    fn wanted(&self, client: usize, mid: Mid, layers: Vec<u8>) {
        let (engine, client) = self.engine(client);
        engine.send(Command::Wanted { client, mid, layers });
    }

    fn resumed(&self, client: usize, time: Duration) {
        let (engine, _) = self.engine(client);
        engine.send(Command::Resumed { time });
    }

    /// It is about to say goodbye: that the server then ends its transport is no failure.
    async fn leaves(&self, client: usize) {
        let (engine, client) = self.engine(client);
        let (known, is_known) = oneshot::channel();
        engine.send(Command::Leaves { client, known });
        // An engine that is gone counts nothing any more.
        let _ = is_known.await;
    }

    fn close(&self, client: usize) {
        self.note(client, None);
        let (engine, client) = self.engine(client);
        engine.send(Command::Close { client });
    }
}

/// One client's life, or with [`ClientPlan::stays`] several, until the run stops.
pub async fn run(context: Arc<Context>, plan: ClientPlan) {
    let mut stop = context.stop.clone();
    let begin = tokio::time::sleep(plan.starts);
    tokio::select! {
        () = begin => {}
        _ = stop.wait_for(|stop| *stop) => return,
    }
    for life in 0.. {
        let client = context.next_client.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let living = async {
            match &context.target {
                Target::WebSocket(urls) => {
                    websocket::live(&context, &urls[(client + life) % urls.len()], client, &plan).await
                }
                Target::Http(url) => http::live(&context, url, client, &plan).await,
            }
        };
        let outcome = living.await;
        let is_lost = outcome.is_err();
        context.close(client);
        if let Err(error) = outcome {
            // The run counts them; when it is gone nobody wants to know.
            let _ = context.failures.send(causes(error.as_ref()));
        }
        let comes_again = plan.stays.is_some() || (is_lost && context.rejoin);
        if !comes_again || *stop.borrow_and_update() {
            return;
        }
        if is_lost {
            tokio::time::sleep(REJOIN).await;
        }
    }
}

/// Ready when the client is to leave: its time is over, or the run.
async fn told_to_leave(context: &Context, plan: &ClientPlan) {
    let mut stop = context.stop.clone();
    let stays = plan.stays.unwrap_or(Duration::from_secs(u64::from(u32::MAX)));
    tokio::select! {
        () = tokio::time::sleep(stays) => {}
        _ = stop.wait_for(|stop| *stop) => {}
    }
}

/// The codec to receive a kind of track with.
fn codec_for(kind: Kind, codec: CodecName) -> CodecName {
    match kind {
        Kind::Audio => CodecName::Opus,
        Kind::Video => codec,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_a_websocket_or_whip() {
        for (text, expected, host) in [
            ("wss://127.0.0.1:8080/ws", Target::WebSocket(vec!["wss://127.0.0.1:8080/ws".into()]), "127.0.0.1"),
            ("ws://[::1]:80/ws", Target::WebSocket(vec!["ws://[::1]:80/ws".into()]), "::1"),
            ("wss://a/ws,wss://b/ws", Target::WebSocket(vec!["wss://a/ws".into(), "wss://b/ws".into()]), "a"),
            ("whip+https://sfu.test/", Target::Http("https://sfu.test/{kind}/{room}".into()), "sfu.test"),
            ("whip+http://a:1/{room}/{kind}", Target::Http("http://a:1/{room}/{kind}".into()), "a"),
        ] {
            let target = Target::parse(text).unwrap();
            assert_eq!(target.host(), Some(host));
            assert_eq!(target, expected);
        }
        for text in ["http://a", "whip+ws://a", ""] {
            assert!(Target::parse(text).is_err(), "{text}");
        }
    }
}
