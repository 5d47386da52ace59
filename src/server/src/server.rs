//! The whole server put together: shards, scripts, control plane.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use crate::addresses;
use crate::cluster::{Cluster, ClusterSettings};
use crate::config::{Config, Dtls13, OnSave, RoomSpread};
use crate::data_dir;
use crate::dtls_certificate;
use crate::ending;
use crate::event_loop::{CommandSender, LoopSettings, Pulse, ShardThread, spawn_shard};
use crate::event_queue::event_queue;
use crate::probe::{self, Planned};
use crate::recordings::Recordings;
use crate::scripts::{ScriptFolder, Uploads};
use crate::shard_handle::ShardHandle;
use crate::signal::http::{AwaitedSuccessor, Listeners, Prepared, ShardEnd};
use crate::take_over::{Endpoint, Hello, Successor};
use crate::udp::{UdpSettings, bind_all, heap};
use crate::watch::{CanaryOrder, Saved, Watch, WatchSettings};
use crate::watchdog::Watchdog;
use anyhow::Context;
use moonring_core::room::history::HistoryLimits;
use moonring_core::room::links::LinkSettings;
use moonring_core::shard::{Shard, ShardSettings};
use moonring_policy::library::{ScriptLibrary, ScriptRule};
use moonring_policy::{PolicyEngine, PolicySettings};
use moonring_wire::causes::causes;
use moonring_wire::id::PlaceId;
use moonring_wire::transport::TransportConfig;
use moonring_wire::transport::dtls::{Certificate, DtlsVersions};
use readdress::Readdressing;
use sd_notify::NotifyState;

/// Events of one shard that may wait for the control plane: a room of 500 that ends tells 500 clients of 500.
const EVENT_QUEUE: usize = 16_384;
/// How long another process is waited for that has `data_dir`: one that ends, and one that starts and is to be taken over from.
const END_PATIENCE: Duration = Duration::from_secs(2);
const START_PATIENCE: Duration = Duration::from_secs(10);
/// Pause before the next look at it.
const FOLDER_PAUSE: Duration = Duration::from_millis(50);
/// How often a shard tells of its counters.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);

mod hangup;
mod inherit;
mod readdress;

/// A server that has its ports and its shards, and serves once [`Server::run`] is called.
pub struct Server {
    listeners: Listeners,
    /// Where another process may take over.
    endpoint: Option<Endpoint>,
    /// This process has taken over from another one, whose scripts' states are on their way.
    former: Option<Successor>,
    shards: Vec<ShardThread>,
    ends: Vec<ShardEnd>,
    scripts: ScriptFolder,
    on_save: Saved,
    cluster: Option<ClusterSettings>,
    hello: Hello,
    pulses: Vec<(String, Pulse)>,
    watchdog_s: u32,
    kept: Kept,
    readdressing: Option<Readdressing>,
}

/// What is on the disk.
struct Kept {
    recordings: Option<Recordings>,
    _data_dir: data_dir::Lock,
}

impl Server {
    /// Checks what the machine must have, binds every port, compiles the scripts and starts the shards. Every error is
    /// one line that says what and what to do.
    pub fn start(config: &Config) -> anyhow::Result<Self> {
        config.check_scripts_dir()?;
        let planned = planned(config);
        probe::check(planned)?;
        let (former, data_dir) = begin_after(config)?;
        let cluster = ClusterSettings::load(config)?;
        let prepared = Prepared::new(config)?;
        let rules = config.room_scripts.iter().map(|rule| ScriptRule::new(&rule.pattern, &rule.script));
        let scripts = ScriptFolder::open(&config.scripts_dir, rules.collect(), Uploads::of(&config.data_dir))
            .with_context(|| format!("scripts folder {}", config.scripts_dir.display()))?;
        let certificate = dtls_certificate::load(&config.data_dir)?;
        let recordings = Recordings::start(config)?;
        recordings.clone().into_iter().for_each(|recordings| ending::before_the_end(move || recordings.finish()));
        let kept = Kept { recordings: recordings.clone(), _data_dir: data_dir };
        let (on_save, watchdog_s) = (on_save(config)?, config.watchdog_s);
        let policies = (scripts.library().clone(), recordings);
        let Started { listeners, shards, ends, bound, pulses, former } = match former {
            Some(former) => inherit::start(config, prepared, (&certificate, policies), former)?,
            None => start(config, (prepared, cluster.as_ref()), &certificate, &policies)?,
        };
        let connections = probe::connections(planned);
        let listeners = listeners.with_connections(connections).with_give_back(heap::give_back);
        let endpoint = match config.take_over.as_os_str().is_empty() {
            true => None,
            false => listen_for_successor(&config.take_over, former.is_some())?,
        };
        let hello = Hello::of(config);
        let handles = ends.iter().map(|end| end.handle.clone()).collect();
        let readdressing = Readdressing::new(config, bound, handles);
        Ok(Self {
            listeners,
            endpoint,
            former,
            shards,
            ends,
            scripts,
            on_save,
            cluster,
            hello,
            pulses,
            watchdog_s,
            kept,
            readdressing,
        })
    }

    /// Where clients connect to.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.listeners.address()
    }

    /// Serves until `shutdown` is ready, or the terminal is closed in which the process was started; then everybody is told that
    /// the server ends.
    pub async fn run(self, shutdown: impl Future<Output = ()> + Send) -> anyhow::Result<()> {
        let handles = self.ends.iter().map(|end| end.handle.clone()).collect();
        let settings = WatchSettings { on_save: self.on_save, ..WatchSettings::default() };
        let (watch, scripts) = Watch::new(self.scripts, handles, settings);
        let watch = tokio::spawn(watch.run());
        let terminal_closed = hangup::until_terminal_closes(scripts.clone());
        Watchdog::new(self.pulses, self.watchdog_s).start(still_alive).context("the watchdog does not start")?;
        // Where there is no systemd, nobody is told. A process that has taken over is the service's main process from now on.
        if let Err(error) = sd_notify::notify(&[NotifyState::MainPid(std::process::id()), NotifyState::Ready]) {
            tracing::warn!(%error, "systemd cannot be told that the server is ready");
        }
        let cluster = match self.cluster {
            Some(settings) => Some(Cluster::connect(settings).await?),
            None => None,
        };
        if let Some(former) = self.former {
            inherit::receive_policies(former, self.ends.iter().map(|end| end.handle.clone()).collect())?;
        }
        let readdressing = self.readdressing.map(|addresses| addresses.with_cluster(cluster.clone()));
        let readdressing = readdressing.map(|addresses| tokio::spawn(addresses.run()));
        let shards = self.shards.iter().map(ShardThread::hand_over_handle).collect();
        let successor = self.endpoint.map(|endpoint| AwaitedSuccessor { endpoint, hello: self.hello, shards });
        let listeners = self.listeners.with_scripts(scripts).with_cluster(cluster).with_successor(successor);
        let shutdown = async {
            tokio::select! {
                () = shutdown => {}
                () = terminal_closed => {}
            }
        };
        let served = listeners.serve(self.ends, shutdown).await;
        watch.abort();
        if let Some(readdressing) = readdressing {
            readdressing.abort();
        }
        for shard in self.shards {
            shard.stop();
        }
        if let Some(recordings) = self.kept.recordings {
            recordings.finish();
        }
        served
    }
}

/// The process that this one takes over from, if one runs, and what is kept on the disk. One that starts or ends at this moment
/// has the folder and no ear for a successor: it is waited for.
fn begin_after(config: &Config) -> anyhow::Result<(Option<Successor>, data_dir::Lock)> {
    let (hello, takes_over) = (Hello::of(config), !config.take_over.as_os_str().is_empty());
    let deadline = Instant::now() + if takes_over { START_PATIENCE } else { END_PATIENCE };
    loop {
        if takes_over && let Some(former) = Successor::connect(&config.take_over, &hello)? {
            return Ok((Some(former), data_dir::Lock::take_after(&config.data_dir)?));
        }
        if let Some(lock) = data_dir::Lock::try_take(&config.data_dir) {
            return Ok((None, lock));
        }
        if Instant::now() > deadline {
            return Err(data_dir::in_use(&config.data_dir));
        }
        thread::sleep(FOLDER_PAUSE);
    }
}

fn planned(config: &Config) -> Planned {
    Planned { shards: config.shards(), clients_max: config.clients_max, media_tcp: config.media_tcp }
}

/// What becomes of scripts that are saved.
fn on_save(config: &Config) -> anyhow::Result<Saved> {
    Ok(match config.on_save {
        OnSave::Reload => Saved::Reload,
        OnSave::Nothing => Saved::Nothing,
        OnSave::Canary => {
            let length = Duration::from_secs(config.canary_s);
            Saved::Canary(CanaryOrder::parse(&config.canary, length).map_err(anyhow::Error::msg).context("canary")?)
        }
    })
}

/// Tells systemd that the shards are alive, for `WatchdogSec=`.
fn still_alive() {
    // Without systemd there is nobody to tell, and with it the silence says enough.
    let _ = sd_notify::notify(&[NotifyState::Watchdog]);
}

/// What a server has once its shards run.
struct Started {
    listeners: Listeners,
    shards: Vec<ShardThread>,
    ends: Vec<ShardEnd>,
    /// What the sockets of each shard are bound to.
    bound: Vec<IpAddr>,
    /// By the shards' names.
    pulses: Vec<(String, Pulse)>,
    /// The process that this one has taken over from.
    former: Option<Successor>,
}

/// Scripts, and who records rooms.
type Policies = (ScriptLibrary, Option<Recordings>);

/// Binds every port and starts the shards.
fn start(
    config: &Config,
    (prepared, cluster): (Prepared, Option<&ClusterSettings>),
    certificate: &Certificate,
    policies: &Policies,
) -> anyhow::Result<Started> {
    let listeners = prepared.bind()?;
    let (mut shards, mut ends, mut pulses) = (Vec::new(), Vec::new(), Vec::new());
    let (links, mut bound) = (links(config, cluster), Vec::new());
    for (n, port) in config.media_ports.iter().take(config.shards()).enumerate() {
        let settings = loop_settings(config, n);
        pulses.push((settings.name.clone(), settings.pulse.clone()));
        let sockets = bind_all(&config.media_ip, port).context("--media-ip, --media-ports")?;
        bound = readdress::bound(&sockets)?;
        let plan = ShardPlan::new(config, (port, links(n)), certificate, policies, &sockets)?;
        let (events, receiver) = event_queue(EVENT_QUEUE);
        let shard = spawn_shard(settings, sockets, move || plan.build(), events)?;
        ends.push(ShardEnd { handle: handle_of(shard.sender()), events: receiver });
        shards.push(shard);
    }
    Ok(Started { listeners, shards, ends, bound, pulses, former: None })
}

/// Listens for the process that takes over from this one. One that has itself taken over goes on without, if it has to.
fn listen_for_successor(path: &Path, has_taken_over: bool) -> anyhow::Result<Option<Endpoint>> {
    match Endpoint::bind(path) {
        Err(error) if has_taken_over => {
            tracing::error!("no process can take over from this one: {}", causes(error.as_ref()));
            Ok(None)
        }
        endpoint => endpoint.map(Some),
    }
}

fn handle_of(sender: &CommandSender) -> ShardHandle {
    let sender = sender.clone();
    ShardHandle::new(move |command| sender.send(command))
}

/// Everything that a shard's core is made of, on its own thread.
struct ShardPlan {
    settings: ShardSettings,
    policy: PolicySettings,
    library: ScriptLibrary,
    recordings: Option<Recordings>,
}

impl ShardPlan {
    /// Of a shard at these sockets.
    fn new(
        config: &Config,
        (port, links): (u16, Option<LinkSettings>),
        certificate: &Certificate,
        (library, recordings): &Policies,
        sockets: &[UdpSocket],
    ) -> anyhow::Result<Self> {
        let own = addresses::own().context("cannot list this machine's addresses")?;
        let candidates = addresses::candidates(&readdress::bound(sockets)?, &config.announced_ip, &own);
        let advice = "there is no address that clients could send media to: set --announced-ip";
        anyhow::ensure!(!candidates.is_empty(), advice);
        tracing::info!(port, addresses = ?candidates, "receives media");
        let at = |port: u16| candidates.iter().map(|ip| SocketAddr::new(*ip, port)).collect();
        let links = links.map(|links| {
            let candidates = config.media_ports.iter().take(config.shards()).map(at).collect();
            LinkSettings { candidates, ..links }
        });
        let settings = ShardSettings { links, ..shard_settings(config, port, &candidates, certificate.clone()) };
        let (library, recordings) = (library.clone(), recordings.clone());
        Ok(Self { settings, policy: policy_settings(config), library, recordings })
    }

    fn build(self) -> Shard {
        let (now, seed) = (Instant::now(), rand::random::<[u8; 32]>());
        let mut engine = PolicyEngine::seeded(self.policy, rand::random());
        let unix = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        engine.set_clock(now, unix);
        let mut shard = Shard::new(now, self.settings, engine, self.library, seed);
        shard.report_every(now, REPORT_INTERVAL);
        if let Some(recordings) = self.recordings {
            shard.record_rooms(Box::new(move |room| recordings.sink_for(room)));
        }
        shard
    }
}

/// What each shard has to know of the others of this node, by its number; nothing where rooms are spread neither over shards
/// nor over nodes.
fn links(config: &Config, cluster: Option<&ClusterSettings>) -> impl Fn(usize) -> Option<LinkSettings> + use<> {
    let shards = config.shards();
    let nodes = cluster.and_then(ClusterSettings::links);
    let is_spread = (config.room_spread != RoomSpread::Never && shards > 1) || nodes.is_some();
    let ip = config.media_ip.first().map_or(IpAddr::from([127, 0, 0, 1]), |ip| match ip {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::from([127, 0, 0, 1]),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1]),
        ip => *ip,
    });
    let addresses: Vec<_> = config.media_ports.iter().take(shards).map(|port| SocketAddr::new(ip, port)).collect();
    let (run, nodes_secrets) = nodes.unwrap_or_else(|| (rand::random(), vec![rand::random()]));
    let secret = rand::random();
    move |shard| {
        let own = PlaceId(u16::try_from(shard).ok()?);
        let candidates = Vec::new();
        let nodes_secrets = nodes_secrets.clone();
        is_spread.then(|| LinkSettings { own, run, secret, nodes_secrets, addresses: addresses.clone(), candidates })
    }
}

fn loop_settings(config: &Config, n: usize) -> LoopSettings {
    let cpu = probe::core_of(n, config.shards());
    let udp = UdpSettings { io: config.io, ..UdpSettings::default() };
    let connections = config.media_tcp.then(|| probe::media_connections(config.shards()));
    LoopSettings { name: format!("shard-{n}"), cpu, udp, connections, ..LoopSettings::default() }
}

fn shard_settings(config: &Config, port: u16, ips: &[IpAddr], certificate: Certificate) -> ShardSettings {
    let versions = match config.dtls13 {
        Dtls13::Off => DtlsVersions::V12,
        Dtls13::Fast => DtlsVersions::V13IfFast,
        Dtls13::Always => DtlsVersions::V13IfOffered,
    };
    let age = Duration::from_millis(config.resend_ms);
    let base = ShardSettings::new(certificate);
    ShardSettings {
        transport: TransportConfig {
            profiles: config.srtp_profiles.clone(),
            versions,
            idle_timeout: Duration::from_secs(config.ice_timeout_s),
            ..base.transport
        },
        candidates: ips.iter().map(|ip| SocketAddr::new(*ip, port)).collect(),
        over_tcp: config.media_tcp,
        video_history: HistoryLimits { age, bytes: config.resend_kib * 1024 },
        audio_history: HistoryLimits { age, ..base.audio_history },
        connect_timeout: Duration::from_secs(config.handshake_timeout_s),
        max_clients_per_room: config.clients_per_room,
        max_clients: config.clients_max,
        max_kept_rooms: base.max_kept_rooms,
        max_tracks_per_client: config.tracks_per_client,
        codecs: base.codecs,
        h264_any_profile: config.h264_any_profile,
        audio_last_n: (config.audio_last_n > 0).then_some(config.audio_last_n),
        webhooks: !config.webhook_url.is_empty(),
        max_bitrate_bps: base.max_bitrate_bps,
        sound_hold: Duration::from_millis(config.sound_hold_ms),
        links: None,
        read_ahead_from: base.read_ahead_from,
    }
}

fn policy_settings(config: &Config) -> PolicySettings {
    let mut settings = PolicySettings {
        step_budget: Duration::from_millis(config.step_budget_ms),
        load_budget: Duration::from_millis(config.load_budget_ms),
        memory_bytes: config.memory_kib * 1024,
        cpu_share: f64::from(config.cpu_share_percent) / 100.0,
        shard_share: f64::from(config.scripts_share_percent) / 100.0,
        state_bytes: config.state_kib * 1024,
        ..PolicySettings::default()
    };
    settings.config.insert("secret".to_owned(), config.secret.0.clone().into());
    settings.config.extend(config.script_config.iter().map(|setting| (setting.name.clone(), setting.value.clone())));
    settings
}
