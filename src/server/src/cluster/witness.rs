//! The second witness of a node's death: its HTTP port, and the links to its shards. A node whose cores have no time neither
//! beats nor answers HTTP in time, and its media goes on. A port that refuses is that of a process that has ended, or of a firewall
//! or a proxy in front of one that lives: which of them, its links say in half a second.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::Context;
use reqwest::Client;
use tokio::time::sleep;

use super::Cluster;
use super::engine::Pending;
use super::messages::Node;
use moonring_wire::id::PlaceId;

/// The header of `/healthz` that says which run of which node answers.
pub(crate) const RUN_HEADER: &str = "moonring-run";
/// A port that is silent for this long has no answer.
const PATIENCE: Duration = Duration::from_secs(1);
/// Shards tell once a second what has come over their links; a node of which something had come then is heard for this long.
const HEARD: Duration = Duration::from_millis(1500);
/// Shards that are asked have told of their links by then.
const TOLD: Duration = Duration::from_millis(50);
/// What a process that has ended had sent has come after so long, and is received.
const STRAYS: Duration = Duration::from_millis(100);
/// In this time something comes over a link that is in use: both ends speak every 200 ms, and mostly much more often.
const NEXT: Duration = Duration::from_millis(300);

/// What comes of a look at a node's HTTP port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Port {
    /// This very run of the node answers.
    Answers,
    /// It does not, or another process does.
    Silent,
    /// Nobody has the port, or somebody on the way there refuses: the process has ended, however busy it was, if nothing comes over
    /// its links either.
    Refuses,
}

/// Looks whether a node answers over HTTP.
pub(super) trait Witness: Send + Sync + 'static {
    /// What its port says.
    fn look(&self, node: Node) -> Pending<'_, Port>;
}

/// What has come over the links to each shard of other nodes.
#[derive(Debug, Default)]
pub(super) struct LinksHeard(BTreeMap<PlaceId, Link>);

#[derive(Debug, Default)]
struct Link {
    /// Datagrams that each shard of this node has had from it.
    received: BTreeMap<usize, u64>,
    heard: Option<Instant>,
}

impl LinksHeard {
    /// So many datagrams have come from `place` to a shard of this node.
    pub(super) fn told(&mut self, now: Instant, (shard, place): (usize, PlaceId), received: u64) {
        let link = self.0.entry(place).or_default();
        if link.received.insert(shard, received).is_some_and(|before| before < received) {
            link.heard = Some(now);
        }
    }

    fn is_heard(&self, now: Instant, place: PlaceId) -> bool {
        let heard = self.0.get(&place).and_then(|link| link.heard);
        heard.is_some_and(|heard| now.saturating_duration_since(heard) < HEARD)
    }

    /// Datagrams that have come from `place`, as far as was told.
    fn received(&self, place: PlaceId) -> u64 {
        self.0.get(&place).map_or(0, |link| link.received.values().sum())
    }

    /// The links to a shard have ended.
    pub(super) fn forget(&mut self, place: PlaceId) {
        self.0.remove(&place);
    }
}

impl Cluster {
    /// Whether the run of a node that does not beat is there all the same.
    pub(super) async fn is_there(&self, node: &Node) -> bool {
        match self.0.witness.look(node.clone()).await {
            Port::Answers => true,
            Port::Refuses => self.was_heard(node) && self.is_still_heard(node).await,
            Port::Silent => self.was_heard(node),
        }
    }

    /// Whether something has come over a link from the node lately.
    fn was_heard(&self, node: &Node) -> bool {
        let (now, mail) = (Instant::now(), self.mail());
        mail.places.of(node).any(|place| mail.heard.is_heard(now, place))
    }

    /// Whether anything still comes over a link from the node.
    async fn is_still_heard(&self, node: &Node) -> bool {
        sleep(STRAYS).await;
        let before = self.received_from(node).await;
        sleep(NEXT).await;
        self.received_from(node).await > before
    }

    /// Datagrams that have come over links from the node, as the shards tell when they are asked.
    async fn received_from(&self, node: &Node) -> u64 {
        self.0.links_wanted.notify_one();
        sleep(TOLD).await;
        let mail = self.mail();
        mail.places.of(node).map(|place| mail.heard.received(place)).sum()
    }
}

/// Asks `/healthz`.
#[derive(Debug)]
pub(super) struct Http(Client);

impl Http {
    pub(super) fn new() -> anyhow::Result<Self> {
        // Nothing secret is said, and whoever is taken for a living node only keeps its rooms from being taken over.
        let builder = Client::builder().timeout(PATIENCE).no_proxy().tls_danger_accept_invalid_certs(true);
        let builder = builder.redirect(reqwest::redirect::Policy::none()).pool_max_idle_per_host(0);
        Ok(Self(builder.build().context("cannot make an HTTP client")?))
    }
}

impl Witness for Http {
    fn look(&self, node: Node) -> Pending<'_, Port> {
        Box::pin(async move {
            let response = match self.0.get(format!("{}healthz", node.url)).send().await {
                Ok(response) => response,
                Err(error) if is_refused(&error) => return Port::Refuses,
                Err(_) => return Port::Silent,
            };
            let run = response.headers().get(RUN_HEADER).and_then(|value| value.to_str().ok());
            // A proxy in front of a dead node answers, too; another process at its address is not that one.
            let is_it = response.status().is_success() && run == Some(run_of(&node).as_str());
            if is_it { Port::Answers } else { Port::Silent }
        })
    }
}

/// Whether nobody has the port.
fn is_refused(error: &reqwest::Error) -> bool {
    let mut causes = std::iter::successors(Some(error as &dyn std::error::Error), |error| error.source());
    let is_refusal = |error: &std::io::Error| error.kind() == std::io::ErrorKind::ConnectionRefused;
    causes.any(|cause| cause.downcast_ref().is_some_and(is_refusal))
}

/// The value of the header.
pub(crate) fn run_of(node: &Node) -> String {
    format!("{} {:016x}", node.name, node.run.0)
}

#[cfg(test)]
mod tests {
    use super::super::messages::{NodeName, Run};
    use super::*;

    #[tokio::test]
    async fn a_port_that_nobody_has_refuses_and_one_that_says_nothing_is_silent() {
        crate::signal::tls::install_crypto_provider();
        let http = Http::new().unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let node = Node { name: NodeName::parse("a").unwrap(), run: Run(1), url };
        assert_eq!(http.look(node.clone()).await, Port::Silent);
        drop(listener);
        assert_eq!(http.look(node).await, Port::Refuses);
    }
}
