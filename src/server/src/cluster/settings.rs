//! What the configuration says of the cluster, read and checked.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::messages::{MAX_REGION, MAX_URL, Node, NodeName, Run};
use super::seal::Seal;
use super::secrets;
use crate::addresses;
use crate::advice;
use crate::config::{Config, RoomSpread};

/// Longest file with a secret.
const MAX_FILE: u64 = 4096;

/// How this node takes part.
#[derive(Debug)]
pub(crate) struct ClusterSettings {
    /// NATS servers: `nats://host:4222`.
    pub(super) servers: Vec<String>,
    /// What they ask for.
    pub(super) login: Login,
    /// Authorities that sign their certificates, beside the machine's.
    pub(super) ca: Option<PathBuf>,
    pub(super) seal: Seal,
    pub(super) node: Node,
    pub(super) region: String,
    /// Whether rooms may be on several nodes.
    pub(super) spread: RoomSpread,
    /// Where the sockets of this node's shards are, as the other nodes see them; none where rooms are on one node.
    pub(super) links: Vec<SocketAddr>,
    /// Where clients send media to each of them.
    pub(super) candidates: Vec<Vec<SocketAddr>>,
}

/// What NATS asks for.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Login {
    None,
    Token(String),
    User(String, String),
}

impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Login(...)")
    }
}

impl ClusterSettings {
    /// `None` for a server that is alone. An error says which setting is wrong.
    pub(crate) fn load(config: &Config) -> anyhow::Result<Option<Self>> {
        if config.cluster.is_empty() {
            return Ok(None);
        }
        for server in &config.cluster {
            check_server(server)?;
        }
        let name = NodeName::parse(&config.node).map_err(anyhow::Error::msg);
        let name = name.context("cluster needs node, a name that no other node has")?;
        let url =
            url_of(&config.advertised_url).context("cluster needs advertised_url, where clients reach this node")?;
        let region = &config.region;
        ensure!(region.len() <= MAX_REGION, "region is longer than {MAX_REGION} bytes");
        ensure!(
            !config.cluster_secret_file.as_os_str().is_empty(),
            "cluster needs cluster_secret_file, the same for all nodes"
        );
        let path = &config.cluster_secret_file;
        let seal = read(path).and_then(|text| secrets::seal_of(&text).with_context(|| path.display().to_string()));
        let seal = seal.context("cluster_secret_file")?;
        let login = match config.cluster_login_file.as_os_str().is_empty() {
            true => Login::None,
            false => login_of(&read(&config.cluster_login_file).context("cluster_login_file")?),
        };
        if !config.cluster_ca.as_os_str().is_empty() {
            check_authorities(&config.cluster_ca).context("cluster_ca")?;
        }
        Ok(Some(Self {
            servers: config.cluster.clone(),
            login,
            ca: (!config.cluster_ca.as_os_str().is_empty()).then(|| config.cluster_ca.clone()),
            seal,
            node: Node { name, run: Run(rand::random()), url },
            region: region.clone(),
            spread: config.cluster_spread,
            links: if config.cluster_spread == RoomSpread::Never { Vec::new() } else { links(config)? },
            candidates: candidates(config)?,
        }))
    }

    /// What the shards' links to other nodes are made of: this run's number, and the secrets, of which the first one seals; `None`
    /// where rooms are on one node.
    pub(crate) fn links(&self) -> Option<(u128, Vec<[u8; 32]>)> {
        (!self.links.is_empty()).then(|| (self.node.run.0.into(), self.seal.keys_for("links between shards")))
    }
}

/// Refuses a file that NATS' client could not use: it would say so at each attempt to connect, and not what is wrong.
fn check_authorities(path: &Path) -> anyhow::Result<()> {
    let shown = path.display();
    let pem = std::fs::read(path).map_err(advice::on_reading).with_context(|| shown.to_string())?;
    let has_one = CertificateDer::pem_slice_iter(&pem).next().is_some_and(|certificate| certificate.is_ok());
    ensure!(has_one, "{shown} has no certificate in PEM form");
    Ok(())
}

/// Where the sockets of the shards are: at `link_ip`, or at the address that clients would be told on this machine.
fn links(config: &Config) -> anyhow::Result<Vec<SocketAddr>> {
    let given = config.link_ip.len();
    ensure!(
        given <= 1,
        "link_ip has {given} addresses, it has to be one: that at which other nodes reach the media ports"
    );
    let own = addresses::own().context("cannot list this machine's addresses")?;
    let ip =
        config.link_ip.first().copied().or_else(|| addresses::candidates(&config.media_ip, &[], &own).first().copied());
    let ip = ip.context("cluster_spread needs link_ip, the address at which other nodes reach the media ports")?;
    ensure!(!ip.is_unspecified(), "link_ip is {ip}, it has to be an address at which other nodes reach this one");
    Ok(config.media_ports.iter().take(config.shards()).map(|port| SocketAddr::new(ip, port)).collect())
}

/// The addresses that clients are told, of each shard.
fn candidates(config: &Config) -> anyhow::Result<Vec<Vec<SocketAddr>>> {
    let own = addresses::own().context("cannot list this machine's addresses")?;
    let ips = addresses::candidates(&config.media_ip, &config.announced_ip, &own);
    let at = |port: u16| ips.iter().map(|ip| SocketAddr::new(*ip, port)).collect();
    Ok(config.media_ports.iter().take(config.shards()).map(at).collect())
}

fn check_server(server: &str) -> anyhow::Result<()> {
    let rest = server.strip_prefix("nats://").or_else(|| server.strip_prefix("tls://"));
    let Some(rest) = rest.filter(|rest| !rest.is_empty()) else {
        bail!("cluster has {server:?}, it has to be nats://host:4222 or tls://host:4222");
    };
    // Everybody on the machine reads the command line.
    ensure!(
        !rest.contains('@'),
        "cluster has a user in its URL: put user:password, or a token, into cluster_login_file"
    );
    Ok(())
}

/// The URL of this node, with a slash at its end.
fn url_of(text: &str) -> anyhow::Result<String> {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    let is_url = rest.is_some_and(|rest| {
        let host = rest.split('/').next().unwrap_or_default();
        !host.is_empty()
            && text.bytes().all(|byte| byte.is_ascii_graphic())
            && !text.contains(['?', '#', '@', '"', '\\'])
    });
    ensure!(is_url && text.len() < MAX_URL, "{text:?} is not a URL like https://n1.example.com:8080/");
    Ok(if text.ends_with('/') { text.to_owned() } else { format!("{text}/") })
}

fn login_of(text: &str) -> Login {
    match text.split_once(':') {
        Some((user, password)) => Login::User(user.to_owned(), password.to_owned()),
        None => Login::Token(text.to_owned()),
    }
}

/// A short text, without the white space around it.
fn read(path: &Path) -> anyhow::Result<String> {
    let shown = path.display();
    let bytes = std::fs::metadata(path).map_err(advice::on_reading).with_context(|| shown.to_string())?.len();
    ensure!(bytes <= MAX_FILE, "{shown} has {bytes} bytes, at most {MAX_FILE} are read");
    let text = std::fs::read_to_string(path).map_err(advice::on_reading).with_context(|| shown.to_string())?;
    Ok(text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(secret: &Path) -> Config {
        Config {
            cluster: vec!["nats://127.0.0.1:4222".into()],
            node: "n1".into(),
            advertised_url: "https://n1.example:8080".into(),
            cluster_secret_file: secret.to_owned(),
            ..Config::default()
        }
    }

    #[test]
    fn a_server_without_cluster_is_alone_whatever_else_is_set() {
        assert!(ClusterSettings::load(&Config::default()).unwrap().is_none());
        assert!(ClusterSettings::load(&Config { cluster: vec![], ..config(Path::new("/nowhere")) }).unwrap().is_none());
    }

    #[test]
    fn what_is_missing_or_wrong_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let secret = file("secret", "0123456789abcdef\n");
        let loaded = ClusterSettings::load(&config(&secret)).unwrap().unwrap();
        assert_eq!((loaded.node.url.as_str(), loaded.login), ("https://n1.example:8080/", Login::None));
        let with = |change: &dyn Fn(&mut Config)| {
            let mut config = config(&secret);
            change(&mut config);
            format!("{:#}", ClusterSettings::load(&config).unwrap_err())
        };
        let (short, long) = (file("short", "0123456789abcde"), file("long", &"x".repeat(5000)));
        for (error, words) in [
            (
                with(&|c| c.cluster = vec!["redis://x".into()]),
                "cluster has \"redis://x\", it has to be nats://host:4222",
            ),
            (
                with(&|c| c.cluster = vec!["nats://u:p@x".into()]),
                "put user:password, or a token, into cluster_login_file",
            ),
            (with(&|c| c.node = "a.b".into()), "\"a.b\" is not the name of a node"),
            (with(&|c| c.node = String::new()), "cluster needs node, a name that no other node has"),
            (with(&|c| c.advertised_url = "wss://x/ws".into()), "\"wss://x/ws\" is not a URL like https://"),
            (with(&|c| c.advertised_url = "https://".into()), "cluster needs advertised_url"),
            (with(&|c| c.region = "x".repeat(65)), "region is longer than 64 bytes"),
            (with(&|c| c.cluster_secret_file = PathBuf::new()), "cluster needs cluster_secret_file"),
            (with(&|c| c.cluster_secret_file = "/nowhere".into()), "cluster_secret_file: /nowhere: No such file"),
            (
                with(&|c| c.cluster_secret_file = short.clone()),
                "short: line 1: a secret has 16 bytes or more, this one has 15",
            ),
            (with(&|c| c.cluster_secret_file = long.clone()), "has 5000 bytes, at most 4096 are read"),
            (with(&|c| c.cluster_login_file = "/nowhere".into()), "cluster_login_file: /nowhere"),
            (with(&|c| c.cluster_ca = "/nowhere".into()), "cluster_ca: /nowhere: No such file"),
            (with(&|c| c.cluster_ca = short.clone()), "short has no certificate in PEM form"),
            (
                with(&|c| {
                    c.cluster_spread = RoomSpread::Load;
                    c.link_ip = vec![[192, 0, 2, 1].into(), [192, 0, 2, 2].into()];
                }),
                "link_ip has 2 addresses, it has to be one",
            ),
        ] {
            assert!(error.contains(words) && !error.contains('\n'), "{error}");
        }
    }

    #[test]
    fn a_login_is_a_user_or_a_token_and_not_shown() {
        assert_eq!(login_of("ada:pass:word"), Login::User("ada".into(), "pass:word".into()));
        assert_eq!(login_of("token"), Login::Token("token".into()));
        assert_eq!(format!("{:?}", login_of("token")), "Login(...)");
    }
}
