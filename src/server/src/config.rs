//! Every tunable: command line, then environment (`MOONRING_*`), then configuration file, then default.
//!
//! A key has one name everywhere: `step_budget_ms` in the file, `--step-budget-ms`, `MOONRING_STEP_BUDGET_MS`.
//! `moonring.example.toml` documents them all.

mod environment;
mod help;
mod mistakes;
mod together;
mod values;
mod verbs;

#[cfg(test)]
mod tests;

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::{Args, FromArgMatches, Parser};
use serde::Deserialize;

use crate::advice;
use crate::io_mode::IoMode;
use moonring_policy::canary::Chosen;
use moonring_wire::transport::srtp::SrtpProfile;

pub(crate) use environment::unknown_variables;
pub use values::{
    ClusterStore, LogFormat, OnSave, OptionalSecret, PortRange, RequestHeader, RoomScript, RoomSpread, SandboxPart,
    ScriptSetting, Secret, ShutdownSays,
};
pub(crate) use values::{DEFAULT_SECRET, Dtls13};
use values::{ScriptSettings, ip_address, path, socket_address};
pub use verbs::{CanaryVerb, ScriptsVerb};
pub(crate) use verbs::{DRAIN_S, Verb};

macro_rules! settings {
    ($($(#[doc = $doc:literal])* $name:ident [$env:literal $(, $arg:ident = $value:expr)*]: $type:ty = $default:expr;)*) => {
        /// The settings as given in one place (command line and environment, or file); what is not given is `None`.
        #[derive(Clone, Debug, Default, Args, Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct Options {
            $($(#[doc = $doc])* #[arg(long, global = true, env = $env $(, $arg = $value)*)] pub $name: Option<$type>,)*
        }

        /// The settings in force.
        #[derive(Clone, Debug, PartialEq)]
        pub struct Config { $($(#[doc = $doc])* pub $name: $type,)* }

        impl Default for Config {
            fn default() -> Self {
                Self { $($name: $default,)* }
            }
        }

        impl Options {
            /// These settings, completed by `other`'s where nothing is said.
            pub fn or(self, other: Self) -> Self {
                Self { $($name: self.$name.or(other.$name),)* }
            }
            /// These settings, completed by the defaults.
            pub fn or_default(self) -> Config {
                let defaults = Config::default();
                Config { $($name: self.$name.unwrap_or(defaults.$name),)* }
            }
            /// The names of the settings that are given here.
            pub fn given(&self) -> Vec<&'static str> {
                [$((stringify!($name), self.$name.is_some()),)*].into_iter().filter(|s| s.1).map(|s| s.0).collect()
            }
            /// The names of all settings.
            pub const NAMES: &'static [&'static str] = &[$(stringify!($name),)*];
        }
    };
}

settings! {
    /// Address of HTTPS, WebSocket, WHIP and WHEP; an unspecified IPv6 one takes IPv4 too, and becomes 0.0.0.0 where there is no IPv6
    listen ["MOONRING_LISTEN", value_parser = socket_address]: SocketAddr = SocketAddr::from(([0_u16; 8], 8080));
    /// Certificate chain in PEM form; empty: a self-signed one is generated and kept in data-dir
    tls_cert ["MOONRING_TLS_CERT", value_parser = path()]: PathBuf = PathBuf::new();
    /// Private key of tls-cert in PEM form
    tls_key ["MOONRING_TLS_KEY", value_parser = path()]: PathBuf = PathBuf::new();
    /// Folder of what is kept over a restart: certificates, what scripts store, uploaded scripts, recordings; empty: nothing is kept
    data_dir ["MOONRING_DATA_DIR", value_parser = path()]: PathBuf = PathBuf::from("./certs");
    /// Plain HTTP, for running behind a proxy that does TLS; browsers give cameras only to https: and localhost
    insecure_http ["MOONRING_INSECURE_HTTP", num_args = 0..=1, require_equals = true, default_missing_value = "true"]: bool = false;
    /// Believe the last address of X-Forwarded-For: only when every request comes through a proxy that appends it
    trust_proxy ["MOONRING_TRUST_PROXY", num_args = 0..=1, require_equals = true, default_missing_value = "true"]: bool = false;
    /// Address of the admin pages: metrics, rooms, orders; beyond loopback only with an admin-token
    admin_listen ["MOONRING_ADMIN_LISTEN", value_parser = socket_address]: SocketAddr = SocketAddr::from(([127, 0, 0, 1], 8081));
    /// What the admin pages ask for as bearer token; empty: nothing
    admin_token ["MOONRING_ADMIN_TOKEN", hide_env_values = true]: OptionalSecret = OptionalSecret::default();
    /// Form of the log: text or json
    log_format ["MOONRING_LOG_FORMAT"]: LogFormat = LogFormat::Text;
    /// What is logged, as tracing's EnvFilter has it: info, or moonring=debug,info
    log_filter ["MOONRING_LOG_FILTER"]: String = "info".into();

    /// NATS servers of the cluster that this server is a node of, nats://host:4222 or tls://host:4222; none: it is alone
    cluster ["MOONRING_CLUSTER", value_delimiter = ',']: Vec<String> = vec![];
    /// File with the secret that all nodes of the cluster share, at least 16 bytes; the secrets of further lines are believed, too
    cluster_secret_file ["MOONRING_CLUSTER_SECRET_FILE", value_parser = path()]: PathBuf = PathBuf::new();
    /// File with what NATS asks for: a token, or user:password; empty: nothing
    cluster_login_file ["MOONRING_CLUSTER_LOGIN_FILE", value_parser = path()]: PathBuf = PathBuf::new();
    /// Certificate authorities of the NATS servers beside the machine's, PEM
    cluster_ca ["MOONRING_CLUSTER_CA", value_parser = path()]: PathBuf = PathBuf::new();
    /// The name of this node in the cluster: letters, digits, - and _
    node ["MOONRING_NODE"]: String = String::new();
    /// Where this node stands: new rooms go to nodes of the same region first
    region ["MOONRING_REGION"]: String = String::new();
    /// Where clients and other nodes reach this very node, as https with its host and port
    advertised_url ["MOONRING_ADVERTISED_URL"]: String = String::new();

    /// Whether a room may be on several nodes of the cluster: never, load (when its home is busy or far) or always (each node has its own clients: for tests)
    cluster_spread ["MOONRING_CLUSTER_SPREAD"]: RoomSpread = RoomSpread::Never;
    /// Address at which other nodes reach this one's media ports; none: the machine's first one
    link_ip ["MOONRING_LINK_IP", value_delimiter = ',', value_parser = ip_address]: Vec<IpAddr> = vec![];

    /// Which stores of the policies all nodes of the cluster share: store (sfu.store), shared (sfu.shared); none: each node has its own
    cluster_stores ["MOONRING_CLUSTER_STORES", value_delimiter = ',']: Vec<ClusterStore> = ClusterStore::ALL.to_vec();

    /// Number of shards (pinned threads that forward); 0: one per core less one, at least one
    shards ["MOONRING_SHARDS"]: usize = 0;
    /// Whether a room may be on several shards: never, load (when its shard is busy) or always (each client on the next shard: for tests)
    room_spread ["MOONRING_ROOM_SPREAD"]: RoomSpread = RoomSpread::Never;
    /// UDP ports of the shards, one each: the firewall's rule
    media_ports ["MOONRING_MEDIA_PORTS"]: PortRange = PortRange { first: 40_000, last: 40_100 };
    /// Media over TCP as well, on the same port numbers, for clients whose network lets no UDP through; the firewall has to let it in
    media_tcp ["MOONRING_MEDIA_TCP", num_args = 0..=1, require_equals = true, default_missing_value = "true"]: bool = false;
    /// Addresses to receive media on, at most one IPv4 and one IPv6; an unspecified IPv6 one is skipped where there is no IPv6
    media_ip ["MOONRING_MEDIA_IP", value_delimiter = ',', value_parser = ip_address]: Vec<IpAddr> = vec![[0, 0, 0, 0].into(), [0_u16; 8].into()];
    /// Addresses that clients are told to send media to (behind NAT: the outer ones); none: the machine's own
    announced_ip ["MOONRING_ANNOUNCED_IP", value_delimiter = ',', value_parser = ip_address]: Vec<IpAddr> = vec![];
    /// How datagrams enter and leave: mmsg or uring
    io ["MOONRING_IO"]: IoMode = IoMode::Uring;
    /// SRTP protection profiles that are accepted; the first one that a client offers is used (DTLS 1.3: the client's first)
    srtp_profiles ["MOONRING_SRTP_PROFILES", value_delimiter = ',']: Vec<SrtpProfile> = SrtpProfile::ALL.to_vec();
    /// DTLS 1.3 with clients that offer it: off, fast (unless that costs AES-GCM, as with Chromium) or always
    dtls13 ["MOONRING_DTLS13"]: Dtls13 = Dtls13::Fast;
    /// Send H.264 to clients that offer another profile of it, too, and leave it to their decoders
    h264_any_profile ["MOONRING_H264_ANY_PROFILE", num_args = 0..=1, require_equals = true, default_missing_value = "true"]: bool = false;
    /// How many of a room are heard at once, the loudest; 0: everybody
    audio_last_n ["MOONRING_AUDIO_LAST_N"]: usize = 0;

    /// Folder of the policy scripts
    scripts_dir ["MOONRING_SCRIPTS_DIR"]: PathBuf = PathBuf::from("./scripts");
    /// Which script a room runs: GLOB_OF_ROOM_IDS=FILE_IN_SCRIPTS_DIR, first match counts; else default_room.lua
    room_scripts ["MOONRING_ROOM_SCRIPTS", value_delimiter = ',']: Vec<RoomScript> = vec![];
    /// What becomes of a script that is saved: reload (all rooms get it), canary (some rooms get it first), nothing (until moonring reload)
    on_save ["MOONRING_ON_SAVE"]: OnSave = OnSave::Reload;
    /// The rooms of a canary: a share such as 5%, or a glob of room ids
    canary ["MOONRING_CANARY"]: String = "5%".into();
    /// How long a canary is watched before all rooms get its version
    canary_s ["MOONRING_CANARY_S"]: u64 = 300;
    /// The shared secret that the default policy asks for as token
    secret ["MOONRING_SECRET", hide_env_values = true]: Secret = Secret(DEFAULT_SECRET.into());
    /// What scripts find in sfu.config: NAME=VALUE, the value in JSON's form, or as text when it is none
    script_config ["MOONRING_SCRIPT_CONFIG", value_delimiter = ',', hide_env_values = true, value_parser = ScriptSettings]: Vec<ScriptSetting> = vec![];
    /// Request headers that scripts see in client:connection(), at most 16
    script_headers ["MOONRING_SCRIPT_HEADERS", value_delimiter = ',']: Vec<RequestHeader> = vec![];
    /// Processor time of one step of a hook
    step_budget_ms ["MOONRING_STEP_BUDGET_MS"]: u64 = 5;
    /// Processor time of loading a script, on_init and on_load
    load_budget_ms ["MOONRING_LOAD_BUDGET_MS"]: u64 = 20;
    /// Memory of one room's script
    memory_kib ["MOONRING_MEMORY_KIB"]: usize = 2048;
    /// Share of its shard's time that one room's script may use for long
    cpu_share_percent ["MOONRING_CPU_SHARE_PERCENT"]: u32 = 2;
    /// Share of its shard's time that the scripts of all its rooms together may use for long; media always goes first
    scripts_share_percent ["MOONRING_SCRIPTS_SHARE_PERCENT"]: u32 = 25;
    /// State that a script may hand over in a reload
    state_kib ["MOONRING_STATE_KIB"]: usize = 256;
    /// Hosts that scripts may call with sfu.http: "auth.example.com", "10.0.0.7:8443"; a name may lead to a private address only if that (or its network, "10.0.0.0/8") is listed too
    http_allow ["MOONRING_HTTP_ALLOW", value_delimiter = ',']: Vec<String> = vec![];
    /// Certificate authorities that sfu.http trusts beside the machine's, PEM: for a decision service with a certificate of your own
    http_ca ["MOONRING_HTTP_CA", value_parser = path()]: PathBuf = PathBuf::new();
    /// Rooms whose policy's events are recorded, in data_dir/recordings: globs of room ids, such as demo-*; none: no room
    record ["MOONRING_RECORD", value_delimiter = ',']: Vec<String> = vec![];
    /// Bytes of one room's recording, in KiB
    record_room_kib ["MOONRING_RECORD_ROOM_KIB"]: usize = 16 * 1024;
    /// Bytes of all recordings in data_dir, in MiB; the oldest make room for new ones
    record_all_mib ["MOONRING_RECORD_ALL_MIB"]: usize = 256;
    /// Where the server posts what happens in rooms, and what scripts say by sfu.webhook; within http-allow; empty: nowhere
    webhook_url ["MOONRING_WEBHOOK_URL"]: String = String::new();
    /// The secret that it signs with
    webhook_secret ["MOONRING_WEBHOOK_SECRET", hide_env_values = true]: OptionalSecret = OptionalSecret::default();

    /// Most rooms
    rooms_max ["MOONRING_ROOMS_MAX"]: usize = 10_000;
    /// Most clients in one room
    clients_per_room ["MOONRING_CLIENTS_PER_ROOM"]: usize = 500;
    /// Most tracks that one client publishes
    tracks_per_client ["MOONRING_TRACKS_PER_CLIENT"]: usize = 16;
    /// Most clients of the whole server
    clients_max ["MOONRING_CLIENTS_MAX"]: usize = 50_000;
    /// Most connections of one address (IPv4, or IPv6 /64), but loopback; 0: no limit
    connections_per_address ["MOONRING_CONNECTIONS_PER_ADDRESS"]: usize = 500;
    /// Most clients of one address, but loopback; 0: no limit
    clients_per_address ["MOONRING_CLIENTS_PER_ADDRESS"]: usize = 500;
    /// Most rooms that clients of one address have opened, but loopback; 0: no limit
    rooms_per_address ["MOONRING_ROOMS_PER_ADDRESS"]: usize = 100;
    /// Signalling messages of one client per second, with a burst of ten times as many; 16 KiB count as one more
    messages_per_s ["MOONRING_MESSAGES_PER_S"]: u32 = 20;

    /// Silence of a client's media transport after which it is disconnected
    ice_timeout_s ["MOONRING_ICE_TIMEOUT_S"]: u64 = 30;
    /// Time for a client's ICE and DTLS after its first offer
    handshake_timeout_s ["MOONRING_HANDSHAKE_TIMEOUT_S"]: u64 = 20;
    /// Time for a connection's join message, and for a request to be answered
    join_timeout_s ["MOONRING_JOIN_TIMEOUT_S"]: u64 = 15;
    /// Interval of WebSocket pings; a client that is silent for three of them is gone
    ping_interval_s ["MOONRING_PING_INTERVAL_S"]: u64 = 20;
    /// For how long a client stays in its room when its WebSocket is lost, until it resumes; 0: not at all
    resume_s ["MOONRING_RESUME_S"]: u64 = 15;
    /// What clients are told by a shutdown: restarting (they come back by themselves) or closing (they do not)
    shutdown_says ["MOONRING_SHUTDOWN_SAYS"]: ShutdownSays = ShutdownSays::Restarting;
    /// Time that a shutdown gives to open connections
    shutdown_grace_s ["MOONRING_SHUTDOWN_GRACE_S"]: u64 = 5;

    /// What the process gives up: files (but its own), calls (programs and administration), capabilities, dumps (of its memory); none: nothing
    sandbox ["MOONRING_SANDBOX", value_delimiter = ',']: Vec<SandboxPart> = SandboxPart::ALL.to_vec();
    /// Unix socket at which the next process takes over from this one, as this one does from one that listens there; empty: none does
    take_over ["MOONRING_TAKE_OVER", value_parser = path()]: PathBuf = PathBuf::new();
    /// Seconds that a shard may be stuck before the process ends, for its supervisor to start it anew; 0: for ever
    watchdog_s ["MOONRING_WATCHDOG_S"]: u32 = 10;

    /// Age of the oldest packet kept for resending
    resend_ms ["MOONRING_RESEND_MS"]: u64 = 1000;
    /// Memory for resending, per track and layer
    resend_kib ["MOONRING_RESEND_KIB"]: usize = 1024;
    /// How long sound waits for more where four or more speak, so that more of it leaves with one send
    sound_hold_ms ["MOONRING_SOUND_HOLD_MS"]: u64 = 0;
}

/// The command line.
#[derive(Debug, Parser)]
#[command(name = "moonring", version, about = "A WebRTC SFU whose rooms are governed by Lua scripts")]
pub struct Cli {
    /// What to do; nothing said: run
    #[command(subcommand)]
    pub command: Option<Verb>,
    /// Configuration file; moonring.example.toml documents its keys
    #[arg(long, global = true, env = "MOONRING_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Settings.
    #[command(flatten)]
    pub options: Options,
}

impl Cli {
    /// Reads the process's own command line; ends the process where that is wrong, or help was asked for.
    pub fn from_command_line() -> Self {
        let matches = help::command_line().get_matches();
        Self::from_arg_matches(&matches).unwrap_or_else(|error| error.exit())
    }

    /// The settings in force: command line and environment, then file, then defaults.
    pub fn load(self) -> anyhow::Result<Config> {
        let config = self.given()?;
        config.check()?;
        Ok(config)
    }

    fn given(self) -> anyhow::Result<Config> {
        let file = match &self.config {
            Some(path) => read_file(path)?,
            None => Options::default(),
        };
        Ok(self.options.or(file).or_default())
    }
}

impl Config {
    /// Refuses values that make no sense, naming the key.
    pub fn check(&self) -> anyhow::Result<()> {
        for (name, value, least, most) in [
            ("step_budget_ms", self.step_budget_ms, 1, 1000),
            ("load_budget_ms", self.load_budget_ms, 1, 10_000),
            ("memory_kib", self.memory_kib as u64, 256, 8 * 1024),
            ("cpu_share_percent", self.cpu_share_percent.into(), 1, 100),
            ("scripts_share_percent", self.scripts_share_percent.into(), 1, 100),
            ("record_room_kib", self.record_room_kib as u64, 64, 1024 * 1024),
            ("record_all_mib", self.record_all_mib as u64, 1, 1024 * 1024),
            ("canary_s", self.canary_s, 1, 30 * 86_400),
            ("state_kib", self.state_kib as u64, 0, self.memory_kib as u64),
            ("rooms_max", self.rooms_max as u64, 1, u64::MAX),
            ("clients_per_room", self.clients_per_room as u64, 1, 100_000),
            ("tracks_per_client", self.tracks_per_client as u64, 1, 256),
            ("clients_max", self.clients_max as u64, 1, u64::MAX),
            ("messages_per_s", self.messages_per_s.into(), 1, 100_000),
            ("ice_timeout_s", self.ice_timeout_s, 1, 3600),
            ("handshake_timeout_s", self.handshake_timeout_s, 1, 3600),
            ("join_timeout_s", self.join_timeout_s, 1, 3600),
            ("ping_interval_s", self.ping_interval_s, 1, 3600),
            ("resume_s", self.resume_s, 0, 600),
            ("shutdown_grace_s", self.shutdown_grace_s, 0, 3600),
            ("audio_last_n", self.audio_last_n as u64, 0, 1000),
            ("resend_ms", self.resend_ms, 0, 60_000),
            ("sound_hold_ms", self.sound_hold_ms, 0, 20),
            ("resend_kib", self.resend_kib as u64, 0, 1024 * 1024),
            ("shards", self.shards as u64, 0, 1024),
            ("the number of script_headers", self.script_headers.len() as u64, 0, 16),
        ] {
            if value < least && most == u64::MAX {
                bail!("{name} is {value}, it has to be {least} or more");
            }
            if value < least || value > most {
                bail!("{name} is {value}, it has to be {least} to {most}");
            }
        }
        if self.shards() > self.media_ports.len() {
            let (shards, ports) = (self.shards(), self.media_ports);
            bail!("media_ports {ports} has fewer ports than there are shards ({shards}); each shard needs one");
        }
        if self.tls_cert.as_os_str().is_empty() != self.tls_key.as_os_str().is_empty() {
            bail!("tls_cert and tls_key go together; only one of them is given");
        }
        if self.insecure_http && !self.tls_cert.as_os_str().is_empty() {
            bail!("insecure_http and tls_cert contradict each other");
        }
        let v4 = self.media_ip.iter().filter(|ip| ip.is_ipv4()).count();
        if self.media_ip.is_empty() || v4 > 1 || self.media_ip.len() - v4 > 1 {
            bail!("media_ip has to be one IPv4 address, one IPv6 address, or one of each");
        }
        if self.secret.0.is_empty() {
            bail!("secret is empty, which would let everybody in");
        }
        self.check_admin()?;
        if self.webhook_url.is_empty() != self.webhook_secret.0.is_empty() {
            bail!("webhook_url and webhook_secret go together; only one of them is given");
        }
        if let Err(error) = Chosen::parse(&self.canary) {
            bail!("canary: {error}");
        }
        self.check_lists()?;
        self.check_take_over()?;
        self.check_watchdog()?;
        if self.srtp_profiles.is_empty() {
            bail!("srtp_profiles is empty; at least one is needed to encrypt media");
        }
        Ok(())
    }

    /// Refuses a folder of scripts that is not there; for the start of the server.
    pub fn check_scripts_dir(&self) -> anyhow::Result<()> {
        let dir = self.scripts_dir.display();
        let Err(error) = std::fs::read_dir(&self.scripts_dir) else { return Ok(()) };
        let advice = match error.kind() {
            ErrorKind::PermissionDenied => "let the user of this process read it and what is in it",
            _ => "create it (its default_room.lua is the policy of every room)",
        };
        bail!("scripts folder {dir}: {error}; {advice}, or name another with --scripts-dir")
    }

    /// The number of shards, counted out when it was left to the server.
    pub fn shards(&self) -> usize {
        match self.shards {
            0 => std::thread::available_parallelism().map_or(1, NonZeroUsize::get).saturating_sub(1).max(1),
            given => given,
        }
    }
}

/// Reads a configuration file.
pub(crate) fn read_file(path: &Path) -> anyhow::Result<Options> {
    let text = std::fs::read_to_string(path).map_err(advice::on_reading);
    text.and_then(|text| parse_file(&text)).with_context(|| format!("configuration file {}", path.display()))
}

fn parse_file(text: &str) -> anyhow::Result<Options> {
    toml::from_str(text).map_err(|error| anyhow::anyhow!(mistakes::words(&error, text)))
}
