//! The listeners: what is served where, over TLS or not, from start to shutdown.

use std::future::Future;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime};

use anyhow::Context;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get};
use axum::{Router, middleware};
use axum_server::tls_rustls::{RustlsAcceptor, RustlsConfig};
use axum_server::{Handle, Server};
use tokio::sync::watch;

use super::app::{App, Replaced};
use super::connections::{self, Acceptor, HEADER_TIMEOUT};
use super::dispatch::dispatch;
use super::door::{Door, DoorLimits};
use super::http1::Http1Only;
use super::peak::{self, GiveBack};
use super::services::{AllowList, Authorities, Services, Stores, WebhookTarget};
use super::take_over::{self, ControlState, Leaving};
use super::{admin, assets, dead_links, tls, websocket, whip};
use crate::cluster::{Cluster, RUN_HEADER};
use crate::config::{ClusterStore, Config, RoomSpread};
use crate::event_loop::HandOverHandle;
use crate::event_queue::EventReceiver;
use crate::shard_handle::ShardHandle;
use crate::take_over::{Endpoint, Hello, Predecessor};
use crate::watch::WatchHandle;

/// Connections to the admin pages.
const ADMIN_CONNECTIONS: usize = 64;
/// Of these, those of one address: where others than this machine reach the pages, one of them leaves places for the rest.
const ADMIN_CONNECTIONS_PER_ADDRESS: usize = ADMIN_CONNECTIONS / 2;
/// Connections that may wait to be accepted, as far as `net.core.somaxconn` allows: all clients of a process come again at once
/// when another one takes over from it, and one that finds no place is late by a second.
const BACKLOG: i32 = 4_096;

/// Time that a process has, once another one has taken over, for what is under way.
const REPLACED_GRACE: Duration = Duration::from_secs(5);
/// Within this time after it was told to, a listener accepts nobody any more.
const STOPS_ACCEPTING: Duration = Duration::from_millis(50);

/// What the admin pages are asked through.
fn admin_door() -> Door {
    Door::of_admin_pages(DoorLimits {
        connections: ADMIN_CONNECTIONS,
        connections_per_address: ADMIN_CONNECTIONS_PER_ADDRESS,
        ..DoorLimits::default()
    })
}

/// One shard as the control plane knows it.
#[derive(Debug)]
pub(crate) struct ShardEnd {
    /// Its commands' way in.
    pub handle: ShardHandle,
    /// Its events' way out.
    pub events: EventReceiver,
}

/// Everything that can be wrong with a start has been tried: ports are bound, certificates read.
#[derive(Debug)]
pub(crate) struct Listeners {
    config: Config,
    listener: TcpListener,
    admin: TcpListener,
    tls: Option<RustlsConfig>,
    /// What `tls` is of.
    followed: Option<tls::Followed>,
    http_allow: AllowList,
    http_ca: Authorities,
    webhook: Option<WebhookTarget>,
    scripts: Option<WatchHandle>,
    cluster: Option<Cluster>,
    connections: usize,
    give_back: Option<GiveBack>,
    inherited: Option<ControlState>,
    successor: Option<AwaitedSuccessor>,
}

/// How another process may take over from this one.
#[derive(Debug)]
pub(crate) struct AwaitedSuccessor {
    /// Where it asks.
    pub endpoint: Endpoint,
    /// What it has to agree with.
    pub hello: Hello,
    /// The shards.
    pub shards: Vec<HandOverHandle>,
}

/// Everything of [`Listeners`] but the ports.
#[derive(Debug)]
pub(crate) struct Prepared {
    config: Config,
    tls: Option<RustlsConfig>,
    /// What `tls` is of.
    followed: Option<tls::Followed>,
    http_allow: AllowList,
    http_ca: Authorities,
    webhook: Option<WebhookTarget>,
}

impl Prepared {
    /// Reads or generates the certificate; fails with one line that says what to do.
    pub(crate) fn new(config: &Config) -> anyhow::Result<Self> {
        tls::install_crypto_provider();
        let (tls, followed) = match config.insecure_http {
            true => (None, None),
            false => tls::load(config, SystemTime::now()).map(|(tls, followed)| (Some(tls), Some(followed)))?,
        };
        let http_allow = AllowList::parse(&config.http_allow)?;
        let http_ca = Authorities::load(&config.http_ca)?;
        let webhook = WebhookTarget::of(config, &http_allow)?;
        Ok(Self { config: config.clone(), tls, followed, http_allow, http_ca, webhook })
    }

    /// Binds the ports.
    pub(crate) fn bind(self) -> anyhow::Result<Listeners> {
        let public = bind(self.config.listen, "--listen")?;
        let admin = bind(self.config.admin_listen, "--admin-listen")?;
        Ok(self.over([public, admin]))
    }

    /// Listens at these: the public one, and the operators'.
    pub(crate) fn over(self, [listener, admin]: [TcpListener; 2]) -> Listeners {
        let Self { config, tls, followed, http_allow, http_ca, webhook } = self;
        Listeners {
            config,
            listener,
            admin,
            tls,
            followed,
            http_allow,
            http_ca,
            webhook,
            scripts: None,
            cluster: None,
            // No limit, as long as nobody says how many descriptors there are.
            connections: 0,
            give_back: None,
            inherited: None,
            successor: None,
        }
    }
}

impl Listeners {
    /// Prepares everything and binds the ports.
    #[cfg(test)]
    pub(crate) fn open(config: &Config) -> anyhow::Result<Self> {
        Prepared::new(config)?.bind()
    }

    /// Goes on with the clients of another process.
    pub(crate) fn with_inherited(self, inherited: Option<ControlState>) -> Self {
        Self { inherited, ..self }
    }

    /// Lets another process take over.
    pub(crate) fn with_successor(self, successor: Option<AwaitedSuccessor>) -> Self {
        Self { successor, ..self }
    }

    /// Lets operators reload scripts through the watch, and shows what it knows.
    pub(crate) fn with_scripts(self, scripts: WatchHandle) -> Self {
        Self { scripts: Some(scripts), ..self }
    }

    /// Makes the server a node of a cluster.
    pub(crate) fn with_cluster(self, cluster: Option<Cluster>) -> Self {
        Self { cluster, ..self }
    }

    /// Bounds the connections in all, so that descriptors are left for the rest.
    pub(crate) fn with_connections(self, connections: usize) -> Self {
        Self { connections, ..self }
    }

    /// Gives free memory back with this after each peak of clients.
    pub(crate) fn with_give_back(self, give_back: GiveBack) -> Self {
        Self { give_back: Some(give_back), ..self }
    }

    /// Where clients connect to.
    pub(crate) fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Where operators connect to.
    pub(crate) fn admin_address(&self) -> io::Result<SocketAddr> {
        self.admin.local_addr()
    }

    /// Serves until `shutdown`, then gives open connections `shutdown_grace_s`, those of all kinds together. Dropping a shard's
    /// events beforehand is not needed: the dispatchers end with this.
    pub(crate) async fn serve(
        mut self,
        shards: Vec<ShardEnd>,
        shutdown: impl Future<Output = ()> + Send,
    ) -> anyhow::Result<()> {
        let kept = |part| self.cluster.clone().filter(|_| self.config.cluster_stores.contains(&part));
        let stores = Stores {
            data_dir: self.config.data_dir.clone(),
            store: kept(ClusterStore::Store),
            shared: kept(ClusterStore::Shared),
            checkpoints: self.cluster.clone(),
        };
        let services = Services::new(self.http_allow.clone(), &self.http_ca, stores, self.webhook.clone());
        let (down, is_down) = watch::channel(false);
        let (handles, events): (Vec<_>, Vec<_>) = shards.into_iter().map(|s| (s.handle, s.events)).unzip();
        let orders = (self.scripts.clone(), self.cluster.clone());
        let app = App::new((&self.config, self.connections), handles, services, orders, is_down);
        if let Some(inherited) = self.inherited.take() {
            take_over::inherit(&app, inherited);
        }
        let mut socket = None;
        if let Some(AwaitedSuccessor { endpoint, hello, shards }) = self.successor.take() {
            socket = Some(endpoint.path().to_owned());
            let listeners = [self.listener.try_clone()?, self.admin.try_clone()?];
            let control = Arc::new(Leaving(app.clone()));
            Predecessor { endpoint, hello, listeners, shards, control }.start().context("take_over")?;
        }
        let cluster = self.cluster.clone().map(|cluster| tokio::spawn(cluster.run(Arc::new(app.clone()))));
        let mut dispatchers = tokio::task::JoinSet::new();
        for (shard, events) in events.into_iter().enumerate() {
            dispatchers.spawn(dispatch(app.clone(), shard, events));
        }
        if let Some(cluster) = self.cluster.clone().filter(|cluster| cluster.spread() != RoomSpread::Never) {
            let patience = dead_links::PATIENCE + dead_links::ATTEMPT;
            dispatchers.spawn(dead_links::send_home(app.clone(), cluster.clone(), patience));
            dispatchers.spawn(dead_links::send_fixed_home(app.clone(), cluster, dead_links::PATIENCE));
        }
        if let Some(give_back) = self.give_back {
            dispatchers.spawn(peak::give_back_after_peaks(app.directory.clone(), give_back));
        }
        self.announce()?;

        let (public, operators) = (Handle::new(), Handle::new());
        let grace = Duration::from_secs(self.config.shutdown_grace_s);
        let pages = router(app.clone()).into_make_service_with_connect_info::<SocketAddr>();
        // Operators' connections have the same bounds, and places of their own.
        let admin_door = admin_door();
        let admin_server = bounded(self.admin, &operators).context("admin listener")?;
        let admin_server = admin_server.acceptor(Http1Only(Acceptor::new(admin_door, false)));
        let serve_admin = admin_server.serve(admin::router(app.clone()).into_make_service());
        let acceptor = Acceptor::new(app.directory.door().clone(), self.config.trust_proxy);
        let followed = self.followed.take().zip(self.tls.clone());
        let follow = followed.map(|(files, tls)| tokio::spawn(tls::follow(files, tls)));
        let serve_public = async {
            match self.tls {
                Some(tls) => {
                    let acceptor = RustlsAcceptor::new(tls).handshake_timeout(HEADER_TIMEOUT).acceptor(acceptor);
                    bounded(self.listener, &public)?.acceptor(Http1Only(acceptor)).serve(pages).await
                }
                None => bounded(self.listener, &public)?.acceptor(Http1Only(acceptor)).serve(pages).await,
            }
        };
        let close = async {
            tokio::select! {
                () = shutdown => {
                    tracing::info!("shutting down");
                    socket.iter().for_each(|socket| Endpoint::remove(socket));
                }
                () = app.replaced(Replaced::Now) => {
                    // Who comes from here on comes to the other process.
                    public.graceful_shutdown(Some(REPLACED_GRACE));
                    operators.graceful_shutdown(Some(Duration::ZERO));
                    // Nobody is told to resume before that holds: whom this process accepted still, it would drop.
                    tokio::time::sleep(STOPS_ACCEPTING).await;
                }
            }
            if let Some(cluster) = &app.cluster {
                cluster.drain(true);
            }
            // An error says that nobody is connected.
            let _ = down.send(true);
            if app.is_replaced() {
                let all = async {
                    tokio::join!(wait_for_websockets(&app, grace), app.replaced(Replaced::Done));
                    // What was said in the moment of the copy does not go along.
                    app.services.all_told().await;
                };
                let _ = tokio::time::timeout(REPLACED_GRACE, all).await;
                app.services.note_untold();
                public.graceful_shutdown(Some(Duration::ZERO));
                return Ok(());
            }
            let deadline = Instant::now() + grace;
            wait_for_websockets(&app, grace).await;
            app.directory.expire_all();
            app.services.end_checkpoints().await;
            if let Some(cluster) = &app.cluster {
                cluster.leave().await;
            }
            app.services.note_untold();
            public.graceful_shutdown(Some(deadline.saturating_duration_since(Instant::now())));
            operators.graceful_shutdown(Some(Duration::ZERO));
            Ok(())
        };
        let served = tokio::try_join!(serve_public, serve_admin, close).context("listener");
        [follow, cluster].into_iter().flatten().for_each(|task| task.abort());
        served?;
        Ok(())
    }

    fn announce(&self) -> anyhow::Result<()> {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        let (address, admin) = (self.address()?, self.admin_address()?);
        tracing::info!(%address, %admin, "serving {scheme}://localhost:{}/", address.port());
        if self.config.secret.is_default() {
            tracing::warn!(
                "THE SECRET IS THE DEFAULT, which everybody knows: anybody can enter rooms of the default policy. \
                 Set --secret, MOONRING_SECRET or secret in the configuration file."
            );
        }
        Ok(())
    }
}

/// A server with bounds on time and memory, whatever is accepted.
fn bounded(listener: TcpListener, handle: &Handle<SocketAddr>) -> io::Result<Server<SocketAddr>> {
    let mut server = axum_server::from_tcp(listener)?.handle(handle.clone());
    *server.http_builder() = connections::http();
    let server = server.accept_error_handler(connections::log_accept_errors());
    // What is silent before the first byte of a request is not known to hyper yet.
    Ok(server.first_request_timeout(HEADER_TIMEOUT))
}

/// What clients see.
pub(super) fn router(app: App) -> Router {
    let mut router = Router::new().route("/healthz", get(healthz)).route("/ws", any(websocket::upgrade));
    for path in assets::paths() {
        router = router.route(path, get(assets::serve));
    }
    let router = router.fallback(assets::serve).method_not_allowed_fallback(assets::only_read);
    let router = router.merge(whip::router()).with_state(app);
    Router::new().fallback_service(router).layer(middleware::from_fn(whip::allow_options))
}

/// Says that the process lives, and in a cluster, which run of which node it is.
async fn healthz(State(app): State<App>) -> Response {
    match &app.cluster {
        Some(cluster) => ([(RUN_HEADER, cluster.run_header())], "ok\n").into_response(),
        None => "ok\n".into_response(),
    }
}

/// Binds a listener. An unspecified IPv6 address takes IPv4 too, and becomes its IPv4 like where there is no IPv6.
fn bind(address: SocketAddr, option: &str) -> anyhow::Result<TcpListener> {
    let without_v6 = |error: &io::Error| matches!(error.raw_os_error(), Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL));
    let bound = match TcpListener::bind(address) {
        Err(error) if address.is_ipv6() && address.ip().is_unspecified() && without_v6(&error) => {
            TcpListener::bind((Ipv4Addr::UNSPECIFIED, address.port()))
        }
        bound => bound,
    };
    // The library's own backlog is 128; listening once more sets another.
    let bound = bound.and_then(|listener| Ok(rustix::net::listen(&listener, BACKLOG).map(|()| listener)?));
    bound.map_err(|error| {
        let advice = match error.kind() {
            io::ErrorKind::AddrInUse => "stop the program that has it, or ",
            io::ErrorKind::PermissionDenied => {
                "give the process CAP_NET_BIND_SERVICE, which ports below 1024 need, or "
            }
            _ => "",
        };
        anyhow::anyhow!("cannot listen on {address}: {error}; {advice}choose another address with {option}")
    })
}

/// Lets every WebSocket task tell its client and say goodbye to its shard.
async fn wait_for_websockets(app: &App, grace: Duration) {
    let open = || app.counters.websockets.load(Ordering::Relaxed) + app.counters.whip_sessions.load(Ordering::Relaxed);
    let all_closed = async {
        while open() > 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    // What is still open then is cut off.
    let _ = tokio::time::timeout(grace, all_closed).await;
}

#[cfg(test)]
mod tests;
