//! What the two processes have to agree on.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use anyhow::{Context, ensure};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::PROTOCOL;
use crate::config::Config;
use moonring_core::shard::take_over::VERSION as STATE;

/// What a process says of itself first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Hello {
    /// Of what is said between the two.
    protocol: u32,
    /// Of the binary: any goes with any.
    version: String,
    /// Of what a shard hands over.
    state: u32,
    /// How many there are.
    shards: usize,
    listen: SocketAddr,
    admin_listen: SocketAddr,
    media_ip: Vec<IpAddr>,
    /// The first and the last.
    media_ports: (u16, u16),
    data_dir: PathBuf,
    /// Plain HTTP instead of HTTPS.
    insecure_http: bool,
}

impl Hello {
    pub(crate) fn of(config: &Config) -> Self {
        let data_dir = &config.data_dir;
        Self {
            protocol: PROTOCOL,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            state: STATE,
            shards: config.shards(),
            listen: config.listen,
            admin_listen: config.admin_listen,
            media_ip: config.media_ip.clone(),
            media_ports: (config.media_ports.first, config.media_ports.last),
            // The same folder under another name is the same.
            data_dir: std::fs::canonicalize(data_dir).unwrap_or_else(|_| data_dir.clone()),
            insecure_http: config.insecure_http,
        }
    }

    /// The version of the binary.
    pub(super) fn version(&self) -> &str {
        &self.version
    }

    pub(super) fn bytes(&self) -> serde_json::Result<Vec<u8>> {
        serde_json::to_vec(self)
    }

    /// Reads another process's; one of another protocol is told apart before anything else of it is read.
    pub(super) fn read(bytes: &[u8]) -> anyhow::Result<Self> {
        let said: Value = serde_json::from_slice(bytes).context("the other process does not speak this protocol")?;
        let theirs = said.get("protocol").and_then(Value::as_u64).unwrap_or_default();
        ensure!(
            theirs == u64::from(PROTOCOL),
            "the protocol of a take-over is {PROTOCOL} in moonring {}, and {theirs} in the other process, moonring {}",
            env!("CARGO_PKG_VERSION"),
            said.get("version").and_then(Value::as_str).unwrap_or("of an unknown version")
        );
        serde_json::from_value(said).context("the other process says what cannot be read")
    }

    /// What the running process, this one, and a new one do not agree on.
    pub(super) fn differs_from(&self, new: &Self) -> Option<String> {
        let Self { protocol: _, version: _, state, shards, listen, admin_listen, media_ip, .. } = self;
        let differ = |name: &str, running: &dyn std::fmt::Debug, new: &dyn std::fmt::Debug| {
            let (running, new) = (format!("{running:?}"), format!("{new:?}"));
            (running != new).then(|| format!("{name} is {running} in the running process and {new} in the new one"))
        };
        [
            differ("the version of a shard's state", state, &new.state),
            differ("the number of shards", shards, &new.shards),
            differ("listen", listen, &new.listen),
            differ("admin_listen", admin_listen, &new.admin_listen),
            differ("media_ip", media_ip, &new.media_ip),
            differ("media_ports", &self.media_ports, &new.media_ports),
            differ("data_dir", &self.data_dir, &new.data_dir),
            differ("insecure_http", &self.insecure_http, &new.insecure_http),
        ]
        .into_iter()
        .flatten()
        .next()
    }
}
