//! The second witness of a node's death: its HTTP port.

use std::time::Duration;

use anyhow::Context;
use reqwest::Client;

use super::engine::Pending;
use super::messages::Node;

/// The header of `/healthz` that says which run of which node answers.
pub(crate) const RUN_HEADER: &str = "moonring-run";
/// A port that is silent for this long has no answer.
const PATIENCE: Duration = Duration::from_secs(1);

/// Looks whether a node answers over HTTP.
pub(super) trait Witness: Send + Sync + 'static {
    /// True when this very run of the node answers.
    fn answers(&self, node: Node) -> Pending<'_, bool>;
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
    fn answers(&self, node: Node) -> Pending<'_, bool> {
        Box::pin(async move {
            let Ok(response) = self.0.get(format!("{}healthz", node.url)).send().await else { return false };
            let run = response.headers().get(RUN_HEADER).and_then(|value| value.to_str().ok());
            // A proxy in front of a dead node answers, too; another process at its address is not that one.
            response.status().is_success() && run == Some(run_of(&node).as_str())
        })
    }
}

/// The value of the header.
pub(crate) fn run_of(node: &Node) -> String {
    format!("{} {:016x}", node.name, node.run.0)
}
