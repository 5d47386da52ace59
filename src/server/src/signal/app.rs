//! What all connections share.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::http::{HeaderMap, HeaderName};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::calls::Calls;
use super::directory::{Bounds, Directory};
use super::door::DoorLimits;
use super::reports::Reports;
use super::resources::Resources;
use super::services::Services;
use super::session::SessionSettings;
use super::watchers::Watchers;
use crate::cluster::Cluster;
use crate::config::{Config, OptionalSecret};
use crate::shard_handle::ShardHandle;
use crate::watch::WatchHandle;

/// What all connections share; cheap to clone.
#[derive(Clone)]
pub(super) struct App(Arc<Inner>);

pub(super) struct Inner {
    pub(super) directory: Directory,
    pub(super) settings: Settings,
    pub(super) resources: Resources,
    pub(super) counters: Counters,
    pub(super) services: Services,
    pub(super) reports: Reports,
    pub(super) calls: Calls,
    /// The request headers that policies see.
    pub(super) script_headers: Vec<HeaderName>,
    pub(super) watchers: Watchers,
    /// What the admin pages ask for; empty: nothing.
    pub(super) admin_token: OptionalSecret,
    /// The watch on the scripts folder.
    pub(super) scripts: Option<WatchHandle>,
    /// The cluster that this server is a node of.
    pub(super) cluster: Option<Cluster>,
    /// The draining of this node, if it was told to; empty when that is over. Dropping it calls it off.
    pub(super) draining: Mutex<Option<JoinSet<()>>>,
    /// Becomes true when the server shuts down.
    pub(super) shutdown: watch::Receiver<bool>,
    /// Whether another process has taken over.
    pub(super) replaced: watch::Sender<Replaced>,
}

/// Whether another process has taken over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Replaced {
    /// None has.
    #[default]
    No,
    /// One has, and the rooms' scripts are on their way there.
    Now,
    /// It has everything.
    Done,
}

/// The settings that connections need.
#[derive(Clone, Copy, Debug)]
pub(super) struct Settings {
    pub(super) join_timeout: Duration,
    pub(super) ping_interval: Duration,
    pub(super) session: SessionSettings,
    pub(super) trust_proxy: bool,
    /// The admin pages are for this machine alone.
    pub(super) admin_on_loopback: bool,
}

/// What the control plane counts.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) websockets: AtomicU64,
    pub(super) errors_sent: AtomicU64,
    pub(super) whip_sessions: AtomicU64,
}

impl std::ops::Deref for App {
    type Target = Inner;
    fn deref(&self) -> &Inner {
        &self.0
    }
}

impl App {
    /// `connections` is how many there may be in all.
    pub(super) fn new(
        (config, connections): (&Config, usize),
        shards: Vec<ShardHandle>,
        services: Services,
        (scripts, cluster): (Option<WatchHandle>, Option<Cluster>),
        shutdown: watch::Receiver<bool>,
    ) -> Self {
        let resume = Duration::from_secs(config.resume_s);
        let door = DoorLimits {
            connections,
            connections_per_address: config.connections_per_address,
            clients_per_address: config.clients_per_address,
            rooms_per_address: config.rooms_per_address,
        };
        let (rooms_max, clients_max, spread) = (config.rooms_max, config.clients_max, config.room_spread);
        let bounds = Bounds { rooms_max, clients_max, resume, door, spread };
        Self(Arc::new(Inner {
            directory: Directory::new(shards, bounds),
            settings: Settings {
                join_timeout: Duration::from_secs(config.join_timeout_s),
                ping_interval: Duration::from_secs(config.ping_interval_s),
                session: SessionSettings {
                    messages_per_s: config.messages_per_s,
                    resume_s: config.resume_s,
                    shutdown_says: config.shutdown_says,
                },
                trust_proxy: config.trust_proxy,
                admin_on_loopback: config.admin_listen.ip().to_canonical().is_loopback(),
            },
            resources: Resources::default(),
            counters: Counters::default(),
            services,
            reports: Reports::default(),
            calls: Calls::default(),
            script_headers: config.script_headers.iter().map(|header| header.0.clone()).collect(),
            watchers: Watchers::new(config.record_room_kib),
            admin_token: config.admin_token.clone(),
            scripts,
            cluster,
            draining: Mutex::default(),
            shutdown,
            replaced: watch::Sender::new(Replaced::No),
        }))
    }

    /// The client's address, as policies see it: behind a trusted proxy the one that the proxy appended.
    pub(super) fn client_ip(&self, peer: SocketAddr, headers: &HeaderMap) -> IpAddr {
        let forwarded = || {
            let last = headers.get_all("x-forwarded-for").iter().next_back()?.to_str().ok()?;
            let last = last.rsplit(',').next()?.trim();
            // Some proxies name the port, too.
            last.parse().or_else(|_| last.parse().map(|at: SocketAddr| at.ip())).ok()
        };
        let ip: Option<IpAddr> = if self.settings.trust_proxy { forwarded() } else { None };
        ip.unwrap_or(peer.ip()).to_canonical()
    }

    /// True once the server shuts down.
    pub(super) fn is_shutting_down(&self) -> bool {
        *self.shutdown.borrow()
    }

    /// True once another process has taken over.
    pub(super) fn is_replaced(&self) -> bool {
        *self.replaced.borrow() != Replaced::No
    }

    /// Ends when another process has taken over, or has all of what it takes.
    pub(super) async fn replaced(&self, by: Replaced) {
        // The sender is in here, too.
        let _ = self.replaced.subscribe().wait_for(|replaced| *replaced == by || *replaced == Replaced::Done).await;
    }

    /// Ends when the server shuts down.
    pub(super) async fn shut_down(&self) {
        // An error means that the sender is gone, which is a shutdown too.
        let _ = self.shutdown.clone().wait_for(|down| *down).await;
    }
}
