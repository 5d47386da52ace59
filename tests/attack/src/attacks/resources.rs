//! Sessions, stays and pages that are somebody else's.

use std::time::Duration;

use futures_util::SinkExt;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{Attack, Outcome, attack};
use crate::ground::{Ground, SECRET};
use crate::insider::{Insider, connect, join, receive, websocket};

pub(super) const OFFER: &str = include_str!("../../../../src/wire/src/sdp/fixtures/ffmpeg_whip.sdp");
const PATIENCE: Duration = Duration::from_secs(10);
const ADMIN: &str = "127.0.0.1:8081";

pub(super) fn all() -> Vec<Attack> {
    vec![
        attack("resources: DELETE of sessions by guessed names", |g| Box::pin(guessed_names(g))),
        attack("resources: DELETE with the name of another room's session", |g| Box::pin(other_room(g))),
        attack("resources: PATCH without end", |g| Box::pin(patches(g))),
        attack("resources: WHIP sessions that never connect", |g| Box::pin(never_connect(g))),
        attack("resources: WHEP for tracks of another room", |g| Box::pin(tracks_elsewhere(g))),
        attack("resources: a resume ticket used twice", |g| Box::pin(ticket_twice(g))),
        attack("resources: one stay resumed 200 times", |g| Box::pin(resumed_often(g))),
        attack("admin: its pages on the public listener", |g| Box::pin(public_admin(g))),
        attack("admin: orders from a page of another origin", |g| Box::pin(foreign_orders(g))),
        attack("admin: calls with bodies of 8 MiB", |g| Box::pin(heavy_calls(g))),
    ]
}

/// Sends one request and reads until the end.
pub(super) async fn exchange(mut stream: TcpStream, request: &str) -> anyhow::Result<String> {
    let (mut reader, mut writer) = stream.split();
    let mut answer = Vec::new();
    let write = async { drop(writer.write_all(request.as_bytes()).await) };
    let read = async { drop(reader.read_to_end(&mut answer).await) };
    timeout(PATIENCE, async { tokio::join!(write, read) }).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// A request from an attacker's address, with a body.
pub(super) async fn request(n: u8, method: &str, path: &str, token: &str, body: &str) -> anyhow::Result<String> {
    let length = body.len();
    let text = format!(
        "{method} {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n\
         Content-Type: application/sdp\r\nContent-Length: {length}\r\n\r\n{body}"
    );
    exchange(connect(n).await?, &text).await
}

pub(super) fn status(answer: &str) -> &str {
    answer.split(' ').nth(1).unwrap_or_default()
}

pub(super) fn location(answer: &str) -> Option<&str> {
    answer.lines().find_map(|line| line.strip_prefix("location: "))
}

/// How often each status came.
pub(super) fn counted(statuses: &[String]) -> String {
    let mut counts = std::collections::BTreeMap::<&str, usize>::new();
    statuses.iter().for_each(|status| *counts.entry(status).or_default() += 1);
    counts.iter().map(|(status, n)| format!("{n} × {status}")).collect::<Vec<_>>().join(", ")
}

async fn guessed_names(_: &Ground) -> anyhow::Result<Outcome> {
    let mut statuses = Vec::new();
    for n in 0..300 {
        let path = format!("/whip/well-behaved/{n:032x}");
        statuses.push(status(&request(20, "DELETE", &path, "guess", "").await?).to_owned());
    }
    let held = statuses.iter().all(|status| status == "404");
    Ok(Outcome::new("300 names", counted(&statuses), held))
}

async fn other_room(_: &Ground) -> anyhow::Result<Outcome> {
    let created = request(21, "POST", "/whip/mine", SECRET, OFFER).await?;
    let name = location(&created).and_then(|path| path.rsplit('/').next()).unwrap_or_default().to_owned();
    let mut statuses = vec![status(&created).to_owned()];
    for path in ["/whip/yours", "/whep/mine", "/whip/mine%2F..%2Fyours", "/whip/mine"] {
        let answer = request(22, "DELETE", &format!("{path}/{name}"), "guess", "").await?;
        statuses.push(status(&answer).to_owned());
    }
    let held = statuses[..1] == ["201"] && statuses[1..4].iter().all(|s| s.starts_with('4')) && statuses[4] == "200";
    Ok(Outcome::new("a name in 4 places", format!("answered {}", statuses.join(", ")), held))
}

async fn patches(_: &Ground) -> anyhow::Result<Outcome> {
    let mut statuses = Vec::new();
    let candidates = "a=candidate:1 1 udp 1 192.0.2.1 9 typ host\r\n".repeat(500);
    for n in 0..200 {
        let path = format!("/whip/well-behaved/{n:032x}");
        statuses.push(status(&request(23, "PATCH", &path, SECRET, &candidates).await?).to_owned());
    }
    let held = statuses.iter().all(|status| status == "405" || status == "404");
    Ok(Outcome::new("200 requests of 22 KiB", counted(&statuses), held))
}

async fn never_connect(ground: &Ground) -> anyhow::Result<Outcome> {
    let mut statuses = Vec::new();
    for n in 0..200_u8 {
        let path = format!("/whip/dead-{}", n % 20);
        statuses.push(status(&request(24, "POST", &path, SECRET, OFFER).await?).to_owned());
    }
    // --handshake-timeout-s 5
    tokio::time::sleep(Duration::from_secs(8)).await;
    let left = ground.metric("moonring_whip_sessions").await;
    let did = format!("{}; {left} left after handshake_timeout_s", counted(&statuses));
    Ok(Outcome::new("200 sessions", did, left == 0.0 && statuses.iter().any(|status| status == "201")))
}

async fn tracks_elsewhere(_: &Ground) -> anyhow::Result<Outcome> {
    let watcher = Insider::join(25, "well-behaved").await?;
    let joined = serde_json::to_value(&watcher.joined)?;
    let tracks: Vec<_> = joined["tracks"].as_array().into_iter().flatten().collect();
    let offer = OFFER.replace("a=sendonly", "a=recvonly");
    let mut statuses = Vec::new();
    for track in &tracks {
        for name in ["id", "client"] {
            let path = format!("/whep/elsewhere/{}", track[name].as_str().unwrap_or_default());
            statuses.push(status(&request(26, "POST", &path, SECRET, &offer).await?).to_owned());
        }
    }
    let held = !statuses.is_empty() && statuses.iter().all(|status| status.starts_with('4'));
    Ok(Outcome::new(format!("{} tracks and clients", statuses.len()), counted(&statuses), held))
}

/// Joins; the connection and the ticket.
async fn stay(n: u8, room: &str) -> anyhow::Result<(crate::insider::Socket, String)> {
    let mut socket = websocket(n).await?;
    socket.send(join(room, SECRET)).await?;
    let joined = receive(&mut socket).await.unwrap_or_default();
    Ok((socket, joined["ticket"].as_str().unwrap_or_default().to_owned()))
}

async fn resume(n: u8, ticket: &str) -> anyhow::Result<(crate::insider::Socket, Value)> {
    let mut socket = websocket(n).await?;
    socket.send(json!({"type": "resume", "ticket": ticket}).to_string().into()).await?;
    let answer = receive(&mut socket).await.unwrap_or_default();
    Ok((socket, answer))
}

async fn ticket_twice(_: &Ground) -> anyhow::Result<Outcome> {
    let (_first, ticket) = stay(27, "stays").await?;
    let (_second, resumed) = resume(28, &ticket).await?;
    let (_third, refused) = resume(29, &ticket).await?;
    let held = resumed["resumed"] == true && refused["code"] == "ticket";
    Ok(Outcome::new("a stay's ticket, twice", format!("resumed once, then: {}", refused["code"]), held))
}

async fn resumed_often(ground: &Ground) -> anyhow::Result<Outcome> {
    let (mut socket, mut ticket) = stay(30, "stays").await?;
    let mut resumed = 0;
    for _ in 0..200 {
        drop(socket);
        let (next, joined) = resume(30, &ticket).await?;
        resumed += u32::from(joined["resumed"] == true);
        (socket, ticket) = (next, joined["ticket"].as_str().unwrap_or_default().to_owned());
    }
    let rooms = ground.get("/rooms").await?;
    let did = format!("resumed {resumed} times");
    Ok(Outcome::new("200 lost connections", did, resumed == 200 && rooms.contains("\"stays\"")))
}

async fn public_admin(_: &Ground) -> anyhow::Result<Outcome> {
    let mut statuses = Vec::new();
    for (method, path) in [
        ("GET", "/rooms"),
        ("GET", "/metrics"),
        ("POST", "/rooms/well-behaved/close"),
        ("POST", "/rooms/well-behaved/call"),
        ("POST", "/rooms/well-behaved/kick"),
        ("POST", "/reload"),
        ("GET", "//127.0.0.1:8081/rooms"),
    ] {
        statuses.push(status(&request(31, method, path, SECRET, "{}").await?).to_owned());
    }
    let held = statuses.iter().all(|status| status.starts_with('4'));
    Ok(Outcome::new("7 requests", counted(&statuses), held))
}

async fn foreign_orders(_: &Ground) -> anyhow::Result<Outcome> {
    let mut statuses = Vec::new();
    for (path, body) in [("close", "{}"), ("call", "{\"verb\":\"close\"}"), ("message", "{\"message\":1}")] {
        for headers in ["Host: evil.example", "Host: 127.0.0.1:8081\r\nOrigin: https://evil.example"] {
            let text = format!(
                "POST /rooms/well-behaved/{path} HTTP/1.1\r\n{headers}\r\nConnection: close\r\nContent-Type: text/plain\r\n\
                 Content-Length: {}\r\n\r\n{body}",
                body.len()
            );
            statuses.push(status(&exchange(TcpStream::connect(ADMIN).await?, &text).await?).to_owned());
        }
    }
    let held = statuses.iter().all(|status| status.starts_with('4'));
    Ok(Outcome::new("6 orders", format!("answered {}", statuses.join(", ")), held))
}

async fn heavy_calls(_: &Ground) -> anyhow::Result<Outcome> {
    let mut statuses = Vec::new();
    let body = format!("\"{}\"", "x".repeat(8 << 20));
    for _ in 0..10 {
        let text = format!(
            "POST /rooms/well-behaved/call HTTP/1.1\r\nHost: {ADMIN}\r\nConnection: close\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        statuses.push(status(&exchange(TcpStream::connect(ADMIN).await?, &text).await?).to_owned());
    }
    let held = statuses.iter().all(|status| status == "413" || status.is_empty());
    Ok(Outcome::new("10 calls", counted(&statuses), held))
}
