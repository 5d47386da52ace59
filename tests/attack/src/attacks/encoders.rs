//! Encoders and players by HTTP: fragments, restarts, take-overs by others, candidates that lead elsewhere; and operators'
//! streams that nobody reads.

use std::net::UdpSocket;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use super::resources::{OFFER, counted, location, request, status};
use super::{Attack, Outcome, attack};
use crate::ground::{Ground, SECRET};
use crate::net;

const ADMIN: &str = "127.0.0.1:8081";
/// Watchers of one room.
const WATCHERS: usize = 4;

pub(super) fn all() -> Vec<Attack> {
    vec![
        attack("encoders: PATCH of a session with 1 MiB of fragments", |g| Box::pin(fragments(g))),
        attack("encoders: the same encoder begins 60 times at once", |g| Box::pin(restarts(g))),
        attack("encoders: a silent session, and who may not end it", |g| Box::pin(take_overs(g))),
        attack("encoders: candidates that lead to others", |g| Box::pin(candidates(g))),
        attack("admin: 200 traces of a quiet room, each given up", |g| Box::pin(traces(g))),
        attack("admin: 300 connections that ask nothing", |g| Box::pin(admin_idle(g))),
        attack("admin: 300 pages of metrics at once, unread", |g| Box::pin(metrics_unread(g))),
    ]
}

/// Begins a session; its path.
async fn session(n: u8, room: &str) -> anyhow::Result<String> {
    let created = request(n, "POST", &format!("/whip/{room}"), SECRET, OFFER).await?;
    anyhow::ensure!(status(&created) == "201", "the session is answered with {}", status(&created));
    let name = location(&created).and_then(|path| path.rsplit('/').next()).unwrap_or_default();
    Ok(format!("/whip/{room}/{name}"))
}

async fn is_there(path: &str) -> anyhow::Result<bool> {
    Ok(status(&request(40, "GET", path, SECRET, "").await?) == "204")
}

async fn fragments(_: &Ground) -> anyhow::Result<Outcome> {
    let path = session(41, "fragments").await?;
    let body = "a=candidate:1 1 udp 1 192.0.2.1 9 typ host\r\n".repeat((1 << 20) / 44);
    let mut statuses = Vec::new();
    for _ in 0..20 {
        let answer = request(41, "PATCH", &path, SECRET, &body).await?;
        statuses.push(status(&answer).to_owned());
    }
    let lives = is_there(&path).await?;
    let held = lives && statuses.iter().all(|status| ["405", "413", ""].contains(&status.as_str()));
    Ok(Outcome::new("20 requests of 1 MiB", format!("{}; the session lives: {lives}", counted(&statuses)), held))
}

async fn restarts(ground: &Ground) -> anyhow::Result<Outcome> {
    let mut tasks = Vec::new();
    for n in 0..60_u8 {
        tasks.push(tokio::spawn(async move { request(n, "POST", "/whip/restarts", SECRET, OFFER).await }));
    }
    let mut statuses = Vec::new();
    for task in tasks {
        statuses.push(status(&task.await??).to_owned());
    }
    // --handshake-timeout-s 5
    sleep(Duration::from_secs(8)).await;
    let left = ground.metric("moonring_whip_sessions").await;
    let rooms = ground.get("/rooms").await?;
    let held = left == 0.0 && statuses.contains(&"201".to_owned()) && !rooms.contains("\"restarts\"");
    Ok(Outcome::new("60 sessions of one token and room", format!("{}; {left} left", counted(&statuses)), held))
}

async fn take_overs(_: &Ground) -> anyhow::Result<Outcome> {
    let path = session(42, "silent").await?;
    // It is silent for longer than a dead encoder has to be.
    sleep(Duration::from_millis(2_500)).await;
    let wrong = request(43, "POST", "/whip/silent", "guess", OFFER).await?;
    let none = request(43, "POST", "/whip/silent", "", OFFER).await?;
    let elsewhere = request(43, "POST", "/whip/silent2", SECRET, OFFER).await?;
    let player = request(43, "POST", "/whep/silent", SECRET, &OFFER.replace("a=sendonly", "a=recvonly")).await?;
    let lives = is_there(&path).await?;
    let own = request(44, "POST", "/whip/silent", SECRET, OFFER).await?;
    let mut is_over = false;
    for _ in 0..50 {
        is_over = is_over || !is_there(&path).await?;
        sleep(Duration::from_millis(20)).await;
    }
    let statuses = [&wrong, &none, &elsewhere, &player, &own].map(|answer| status(answer).to_owned());
    let did = format!("answered {}; ended by the first four: {}, by its own: {is_over}", statuses.join(", "), !lives);
    let held = lives && is_over && statuses[0].starts_with('4') && statuses[1].starts_with('4') && statuses[4] == "201";
    Ok(Outcome::new("a session, four others, its own token", did, held))
}

async fn candidates(_: &Ground) -> anyhow::Result<Outcome> {
    let third = UdpSocket::bind((net::attacker(45), 0))?;
    third.set_nonblocking(true)?;
    let (ip, port) = (net::attacker(45), third.local_addr()?.port());
    let mut lines = String::new();
    for n in 0..300_u32 {
        let line = match n % 6 {
            0 => format!("a=candidate:{n} 1 udp {n} {ip} {port} typ host\r\n"),
            1 => format!("a=candidate:{n} 1 tcp {n} {ip} {port} typ host tcptype passive\r\n"),
            2 => {
                format!("a=candidate:{n} 1 udp 99999999999999999999 ::ffff:{ip} 99999 typ srflx raddr :: rport -1\r\n")
            }
            3 => format!("a=candidate:{n} 256 udp {n} fe80::1%{n} 0 typ relay\r\n"),
            4 => "a=candidate:\r\n".to_owned(),
            _ => format!("a=candidate:{} 1 udp 1 {}.local 9 typ host\r\n", "x".repeat(500), "y".repeat(300)),
        };
        lines.push_str(&line);
    }
    let answer =
        request(45, "POST", "/whip/candidates", SECRET, &format!("{OFFER}{lines}a=end-of-candidates\r\n")).await?;
    sleep(Duration::from_secs(2)).await;
    let came = std::iter::from_fn(|| third.recv(&mut [0; 2_048]).ok()).count();
    let did = format!("answered {}; {came} datagrams went to the address that they name", status(&answer));
    Ok(Outcome::new("300 candidates", did, came == 0 && ["201", "400", "406"].contains(&status(&answer))))
}

/// Asks the admin listener for a page, and reads the head of the answer alone: its status, and the connection.
async fn ask(path: &str) -> anyhow::Result<(String, TcpStream)> {
    let mut stream = TcpStream::connect(ADMIN).await?;
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: {ADMIN}\r\n\r\n").as_bytes()).await?;
    let mut head = [0; 16];
    timeout(Duration::from_secs(10), stream.read_exact(&mut head)).await??;
    Ok((status(&String::from_utf8_lossy(&head)).to_owned(), stream))
}

async fn traces(_: &Ground) -> anyhow::Result<Outcome> {
    let quiet = crate::insider::Insider::join(46, "quiet").await?;
    let mut statuses = Vec::new();
    for _ in 0..200 {
        let (status, stream) = ask("/rooms/quiet/trace").await?;
        statuses.push(status);
        drop(stream);
        sleep(Duration::from_millis(20)).await;
    }
    let mut kept = Vec::new();
    for _ in 0..3 * WATCHERS {
        kept.push(ask("/rooms/quiet/trace").await?);
    }
    let at_once = kept.iter().filter(|(status, _)| status == "200").count();
    drop((kept, quiet));
    let held = statuses.iter().all(|status| status == "200") && at_once == WATCHERS;
    Ok(Outcome::new("200 traces, then 12 at once", format!("{}; {at_once} at once", counted(&statuses)), held))
}

/// Whether the admin listener answers, within a few seconds.
async fn answers(ground: &Ground) -> bool {
    for _ in 0..30 {
        if ground.get("/healthz").await.is_ok_and(|page| page.ends_with("ok\n")) {
            return true;
        }
        sleep(Duration::from_millis(100)).await;
    }
    false
}

async fn admin_idle(ground: &Ground) -> anyhow::Result<Outcome> {
    let mut streams = Vec::new();
    for _ in 0..300 {
        streams.push(TcpStream::connect(ADMIN).await?);
    }
    let mut closed = 0;
    for stream in &mut streams {
        let end = timeout(Duration::from_secs(17), stream.read(&mut [0])).await;
        closed += usize::from(matches!(end, Ok(Ok(0) | Err(_))));
    }
    let answers = answers(ground).await;
    let did = format!("{closed} closed; answers after them: {answers}");
    Ok(Outcome::new("300 connections", did, answers && closed == 300))
}

async fn metrics_unread(ground: &Ground) -> anyhow::Result<Outcome> {
    let mut streams = Vec::new();
    for _ in 0..300 {
        let mut stream = TcpStream::connect(ADMIN).await?;
        let requests = format!("GET /metrics HTTP/1.1\r\nHost: {ADMIN}\r\n\r\n").repeat(20);
        // It may have been turned away.
        let _ = stream.write_all(requests.as_bytes()).await;
        streams.push(stream);
    }
    sleep(Duration::from_secs(2)).await;
    drop(streams);
    let answers = answers(ground).await;
    Ok(Outcome::new("300 connections, 20 requests each", format!("answers after them: {answers}"), answers))
}
