//! The operator's side of the admin pages: `moonring rooms`, `reload`, `resume`, `call`, `kick` and so on.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, bail};
use reqwest::header::{self, HeaderMap, HeaderValue};
use reqwest::{Client, Response, StatusCode};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::admin::NO_SUCH_PAGE;
use super::reloads::Reloaded;
use super::rooms::{PathLine, PolicyLine, ReloadLine, RoomLine, RoomsPage};
use super::tls;
use crate::config::{Config, OptionalSecret};
use moonring_wire::id::RoomId;

/// Longer than the server lets a shard take.
pub(super) const TIMEOUT: Duration = Duration::from_secs(40);

/// Where the admin pages are, and what they ask for.
#[derive(Clone, Debug)]
pub(crate) struct Admin {
    address: SocketAddr,
    token: OptionalSecret,
}

impl From<SocketAddr> for Admin {
    fn from(address: SocketAddr) -> Self {
        Self { address, token: OptionalSecret::default() }
    }
}

impl From<&Config> for Admin {
    fn from(config: &Config) -> Self {
        Self { address: config.admin_listen, token: config.admin_token.clone() }
    }
}

/// What there is to show, and what is missing in it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Listed {
    pub(crate) text: String,
    /// Why that is not all.
    pub(crate) missing: Option<String>,
}

/// The rooms of the server whose admin pages are at `admin`, and of its cluster: a table, or one JSON object per line, the last one
/// for nodes that do not answer.
pub(crate) async fn rooms(admin: impl Into<Admin>, json: bool) -> anyhow::Result<Listed> {
    let admin = admin.into();
    let client = client(&admin)?;
    let (mut rooms, mut next, mut missing) = (Vec::new(), None, BTreeSet::new());
    loop {
        // A room's id has no character that means something in a URL.
        let after = next.map_or(String::new(), |after| format!("&after={after}"));
        let path = format!("rooms?everywhere=true{after}");
        let page: RoomsPage = read(&admin, client.get(url(&admin, &path)).send().await).await?;
        rooms.extend(page.rooms);
        missing.extend(page.missing);
        match page.next {
            Some(after) => next = Some(after),
            None => break,
        }
    }
    let mut text = if json { lines(&rooms)? } else { table(&rooms) };
    if missing.is_empty() {
        return Ok(Listed { text, missing: None });
    }
    if json {
        let _ = writeln!(text, "{}", serde_json::json!({ "missing": missing }));
    }
    let nodes: Vec<&str> = missing.iter().map(String::as_str).collect();
    let words = format!(
        "rooms are missing, as these nodes do not answer: {}; `moonring nodes` shows how they are, their logs say more",
        nodes.join(", ")
    );
    Ok(Listed { text, missing: Some(words) })
}

/// Lets the server read its scripts now; what it found. An error when a script, or a room's, is not in use in its newest
/// version.
pub(crate) async fn reload(admin: impl Into<Admin>) -> anyhow::Result<String> {
    let admin = admin.into();
    let sent = client(&admin)?.post(url(&admin, "reload")).send().await;
    let report: Reloaded = read(&admin, sent).await?;
    if let Some(error) = report.folder.error {
        bail!("the scripts folder cannot be read: {error}; the scripts stay as they were");
    }
    report.told().map_err(anyhow::Error::msg)
}

/// Gives an order about the policy of one room: `resume`, or `reload` without the state of the version that runs. What
/// the room's policy is afterwards.
pub(crate) async fn order(admin: impl Into<Admin>, room: &str, verb: &str) -> anyhow::Result<String> {
    let admin = admin.into();
    let room = RoomId::parse(room).map_err(|error| anyhow::anyhow!("the room id {error}"))?;
    let sent = client(&admin)?.post(url(&admin, &format!("rooms/{room}/{verb}"))).send().await;
    let policy: PolicyLine = read(&admin, sent).await?;
    if verb == "reload"
        && let Some(ReloadLine::Failed(message)) = &policy.last_reload
    {
        bail!("room {room} was not reloaded: {message}");
    }
    let state = if policy.suspended { "is suspended" } else { "runs" };
    Ok(format!("room {room}: {} {} {state}\n", policy.script, policy.version))
}

/// Does something to one room: calls its policy, kicks, mutes, sends a message, closes it. What is answered, as a line of
/// JSON; nothing for null.
pub(crate) async fn act(admin: impl Into<Admin>, room: &str, verb: &str, body: &Value) -> anyhow::Result<String> {
    let admin = admin.into();
    let room = RoomId::parse(room).map_err(|error| anyhow::anyhow!("the room id {error}"))?;
    let sent = client(&admin)?.post(url(&admin, &format!("rooms/{room}/{verb}"))).json(body).send().await;
    let answer: Value = read(&admin, sent).await?;
    Ok(if answer.is_null() { String::new() } else { format!("{answer}\n") })
}

pub(super) fn client(admin: &Admin) -> anyhow::Result<Client> {
    client_with(admin, Some(TIMEOUT))
}

/// A client whose requests take as long as they take, or no longer than a time.
pub(super) fn client_with(admin: &Admin, timeout: Option<Duration>) -> anyhow::Result<Client> {
    tls::install_crypto_provider();
    let mut headers = HeaderMap::new();
    if !admin.token.0.is_empty() {
        let value = HeaderValue::try_from(format!("Bearer {}", admin.token.0));
        headers.insert(header::AUTHORIZATION, value.context("admin_token has a character that no header can have")?);
    }
    // It speaks to the admin listener, which has no TLS: no authorities are needed.
    let mut builder = Client::builder().default_headers(headers).no_proxy().tls_certs_only([]);
    if let Some(timeout) = timeout {
        builder = builder.timeout(timeout);
    }
    builder.build().context("cannot make an HTTP client")
}

pub(super) fn url(admin: &Admin, path: &str) -> String {
    let mut address = admin.address;
    if address.ip().is_unspecified() {
        address.set_ip(if address.is_ipv4() { [127, 0, 0, 1].into() } else { [0, 0, 0, 0, 0, 0, 0, 1].into() });
    }
    format!("http://{address}/{path}")
}

/// What the server answers, as this program knows it.
pub(super) async fn read<T: DeserializeOwned>(admin: &Admin, sent: reqwest::Result<Response>) -> anyhow::Result<T> {
    answered(admin, sent).await?.json().await.map_err(|error| match error.is_decode() {
        true => anyhow::Error::new(error).context(of_another_kind(admin)),
        false => anyhow::Error::new(error).context("the server ended while it was answering"),
    })
}

pub(super) async fn answered(admin: &Admin, sent: reqwest::Result<Response>) -> anyhow::Result<Response> {
    let response = sent.map_err(|error| {
        let (admin, is_late) = (admin.address, error.is_timeout());
        let words = match is_late {
            true => format!("the server at {admin} does not answer in time: its log says why, if anything does"),
            false => {
                format!("no server answers at {admin}; start one, or say with --admin-listen where its admin pages are")
            }
        };
        anyhow::Error::new(error).context(words)
    })?;
    let status = response.status();
    if status == StatusCode::UNAUTHORIZED {
        let given = if admin.token.0.is_empty() { "none is given" } else { "the one that is given is another" };
        bail!("the server asks for its admin_token, and {given}: say it with --admin-token or MOONRING_ADMIN_TOKEN");
    }
    if !status.is_success() {
        let text = response.text().await?;
        if status == StatusCode::NOT_FOUND && (text.is_empty() || text == NO_SUCH_PAGE) {
            bail!(of_another_kind(admin));
        }
        bail!("the server says {status}: {}", text.trim());
    }
    Ok(response)
}

/// For what answers otherwise than a server of this version.
fn of_another_kind(admin: &Admin) -> String {
    let (at, version) = (admin.address, env!("CARGO_PKG_VERSION"));
    format!(
        "what answers at {at} is no moonring {version}, as this program is: ask with the program of the server's own version, or \
         say with --admin-listen where its admin pages are"
    )
}

fn lines(rooms: &[RoomLine]) -> anyhow::Result<String> {
    let mut text = String::new();
    for room in rooms {
        text.push_str(&serde_json::to_string(room)?);
        text.push('\n');
    }
    Ok(text)
}

fn table(rooms: &[RoomLine]) -> String {
    let width = rooms.iter().map(|line| line.room.as_str().len()).max().unwrap_or(0).max(4);
    let node_width = rooms.iter().filter_map(|line| line.node.as_deref()).map(|node| node.len().max(4)).max();
    let node_column = |node: &str| node_width.map_or(String::new(), |width| format!("{node:width$} "));
    let mut text = format!(
        "{:width$} {}{:>5} {:>7} {:>6} {:>8} {:>8} {:>8}  {:8} SCRIPT\n",
        "ROOM",
        node_column("NODE"),
        "SHARD",
        "CLIENTS",
        "TRACKS",
        "P50 µs",
        "P99 µs",
        "KiB",
        "VERSION"
    );
    for RoomLine { room, node, shard, clients, tracks, policy, paths } in rooms {
        let node = node_column(node.as_deref().unwrap_or_default());
        let tracks = tracks.map_or("?".to_owned(), |tracks| tracks.to_string());
        let _ = write!(text, "{:width$} {node}{shard:>5} {clients:>7} {tracks:>6} ", room.as_str());
        let _ = match policy {
            Some(policy) => writeln!(text, "{}", policy_columns(policy)),
            None => writeln!(text, "(the shard does not answer)"),
        };
        paths.iter().for_each(|path| text.push_str(&path_line(path)));
    }
    let _ = writeln!(text, "{} rooms", rooms.len());
    text
}

fn path_line(path: &PathLine) -> String {
    let PathLine { client, via, transport, sharing, estimate, target, paused, rtt, loss, resends } = path;
    let shared = if *sharing > 0 { format!(" (shares its line with {sharing})") } else { String::new() };
    let kbps = |bps: &Option<u64>| bps.map_or("no limit".to_owned(), |bps| format!("{} kbit/s", bps / 1000));
    let (estimate, target, loss) = (kbps(estimate), kbps(target), loss * 100.0);
    let rtt = rtt.map_or("?".to_owned(), |rtt| format!("{rtt:.0}"));
    format!(
        "  {} ({}): estimate {estimate}{shared}, target {target}, {paused} paused, rtt {rtt} ms, loss {loss:.1} %, {resends} resent\n",
        client.as_str(),
        way(via, transport.as_deref())
    )
}

/// How a client has come, and what its media goes over, as far as that is known: `whip/tcp`.
pub(super) fn way(via: &str, transport: Option<&str>) -> String {
    transport.map_or_else(|| via.to_owned(), |transport| format!("{via}/{transport}"))
}

fn policy_columns(policy: &PolicyLine) -> String {
    let short = policy.version.get(..8).unwrap_or(&policy.version);
    let mut text = format!(
        "{:>8.1} {:>8.1} {:>8}  {short} {}",
        policy.hook_p50_us,
        policy.hook_p99_us,
        policy.memory_bytes / 1024,
        policy.script
    );
    if policy.suspended {
        text.push_str("  SUSPENDED");
    }
    if let Some(ReloadLine::Failed(reason)) = &policy.last_reload {
        let first = reason.lines().next().unwrap_or_default();
        let _ = write!(text, "  RELOAD FAILED: {first}");
    }
    text
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::http::StatusCode;
    use tokio::net::TcpListener;

    use super::*;

    /// What operators read who ask a server that answers everything so.
    async fn told_of(status: StatusCode, body: &'static str) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new().fallback(move || async move { (status, body) });
        tokio::spawn(axum::serve(listener, router).into_future());
        let words = rooms(address, false).await.unwrap_err().to_string();
        words.replace(&address.to_string(), "HERE")
    }

    #[tokio::test]
    async fn whoever_asks_a_server_of_another_version_or_another_program_is_told_what_to_do() {
        let another =
            format!("what answers at HERE is no moonring {}, as this program is: ", env!("CARGO_PKG_VERSION"));
        for (status, body) in [
            (StatusCode::OK, "<html>"),
            (StatusCode::OK, "{\"other\":1}"),
            (StatusCode::NOT_FOUND, ""),
            (StatusCode::NOT_FOUND, NO_SUCH_PAGE),
        ] {
            let words = told_of(status, body).await;
            assert!(words.starts_with(&another) && words.contains("--admin-listen"), "{status} {body}: {words}");
        }
        let words = told_of(StatusCode::NOT_FOUND, "there is no such room\n").await;
        assert_eq!(words, "the server says 404 Not Found: there is no such room");
    }
}
