//! Connections and WebSockets that take and do not give back.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;

use super::{Attack, Outcome, attack};
use crate::ground::{Ground, SECRET};
use crate::insider::{Insider, Socket, connect, join, receive, websocket};

/// What the server gives a request's headers, with a little more.
const HEADER_TIME: Duration = Duration::from_secs(16);

pub(super) fn all() -> Vec<Attack> {
    vec![
        attack("websocket: pings without reading, before the join", |g| Box::pin(pings(g, false))),
        attack("websocket: pings without reading, joined", |g| Box::pin(pings(g, true))),
        attack("websocket: empty fragments without end", |g| Box::pin(fragments(g))),
        attack("websocket: frames longer than allowed", |g| Box::pin(long_frame(g))),
        attack("websocket: broadcasts to members that do not read", |g| Box::pin(broadcasts(g))),
        attack("websocket: messages above the rate", |g| Box::pin(chatter(g))),
        attack("connections: 500 unfinished headers", |g| Box::pin(unfinished(g))),
        attack("connections: idle after a first request", |g| Box::pin(idle(g))),
        attack("connections: one byte of a header a second", |g| Box::pin(slow(g))),
        attack("connections: thousands of one address", |g| Box::pin(thousands(g))),
        attack("connections: answers that nobody reads", |g| Box::pin(unread(g))),
    ]
}

/// A masked frame of a client.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    match payload.len() {
        len @ ..126 => frame.push(0x80 | len as u8),
        len @ ..65_536 => {
            frame.push(0x80 | 126);
            frame.extend((len as u16).to_be_bytes());
        }
        len => {
            frame.push(0x80 | 127);
            frame.extend((len as u64).to_be_bytes());
        }
    }
    // A mask of zeros masks nothing.
    frame.extend([0; 4]);
    frame.extend(payload);
    frame
}

/// Writes for some time, as much as the server takes; how much that is.
async fn pour(stream: &mut TcpStream, bytes: &[u8], time: Duration) -> u64 {
    let mut taken = 0;
    let all = async {
        while let Ok(n) = stream.write(bytes).await {
            taken += n as u64;
        }
    };
    let _ = timeout(time, all).await;
    taken
}

/// A raw stream behind a handshake.
async fn raw_websocket(n: u8) -> anyhow::Result<TcpStream> {
    let mut stream = connect(n).await?;
    let request = "GET /ws HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                   Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    stream.write_all(request.as_bytes()).await?;
    let mut answer = [0; 512];
    let len = stream.read(&mut answer).await?;
    anyhow::ensure!(answer[..len].starts_with(b"HTTP/1.1 101"), "no WebSocket");
    Ok(stream)
}

async fn pings(_: &Ground, joined: bool) -> anyhow::Result<Outcome> {
    let mut streams = Vec::new();
    for n in 0..8 {
        let mut stream = raw_websocket(n).await?;
        if joined {
            let text =
                serde_json::json!({"type": "join", "room": "pings", "token": SECRET, "metadata": null}).to_string();
            stream.write_all(&frame(0x81, text.as_bytes())).await?;
        }
        streams.push(stream);
    }
    let pings = frame(0x89, &[b'p'; 125]).repeat(500);
    let mut tasks = Vec::new();
    for mut stream in streams {
        let pings = pings.clone();
        tasks.push(tokio::spawn(async move { pour(&mut stream, &pings, Duration::from_secs(3)).await }));
    }
    let mut taken = 0;
    for task in tasks {
        taken += task.await?;
    }
    let did = format!("took {} KiB, then closed", taken >> 10);
    Ok(Outcome::new("8 connections, pings as fast as they go", did, taken < 32 << 20))
}

async fn fragments(_: &Ground) -> anyhow::Result<Outcome> {
    let mut stream = raw_websocket(90).await?;
    stream.write_all(&frame(0x01, b"")).await?;
    let empty = frame(0x00, b"").repeat(2_000);
    let taken = pour(&mut stream, &empty, Duration::from_secs(4)).await;
    let did = format!("read {} KiB in 4 s, no faster than its rate", taken >> 10);
    Ok(Outcome::new("continuation frames of 0 bytes", did, taken < 16 << 20))
}

async fn long_frame(_: &Ground) -> anyhow::Result<Outcome> {
    let mut stream = raw_websocket(91).await?;
    let _ = stream.write_all(&frame(0x81, &vec![b'x'; 4 << 20])).await;
    let mut answer = Vec::new();
    let ended = timeout(Duration::from_secs(5), stream.read_to_end(&mut answer)).await.is_ok();
    Ok(Outcome::new("a frame of 4 MiB", if ended { "closed" } else { "open" }, ended))
}

/// Joins without reading anything after it.
async fn mute_member(n: u8, room: &str) -> anyhow::Result<Socket> {
    let mut socket = websocket(n).await?;
    socket.send(join(room, SECRET)).await?;
    receive(&mut socket).await;
    Ok(socket)
}

async fn broadcasts(_: &Ground) -> anyhow::Result<Outcome> {
    let mut members = Vec::new();
    for n in 0..30 {
        members.push(mute_member(n, "broadcasts").await?);
    }
    let mut speaker = Insider::join(99, "broadcasts").await?;
    let message = serde_json::json!({"type": "message", "value": "x".repeat(60_000)}).to_string();
    let mut sent = 0;
    for _ in 0..120 {
        if speaker.socket.send(Message::text(message.clone())).await.is_err() {
            break;
        }
        sent += 1;
        while let Ok(Some(Ok(_))) = timeout(Duration::from_millis(20), speaker.socket.next()).await {}
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    Ok(Outcome::new(format!("{sent} broadcasts of 60 KiB to 30 members"), "bounded by room and member", sent > 10))
}

async fn chatter(_: &Ground) -> anyhow::Result<Outcome> {
    let mut speaker = Insider::join(98, "chatter").await?;
    let message = Message::text(r#"{"type":"message","value":1}"#);
    let (mut sent, mut refused) = (0, 0);
    for _ in 0..5_000 {
        if speaker.socket.send(message.clone()).await.is_err() {
            break;
        }
        sent += 1;
    }
    while let Some(answer) = receive(&mut speaker.socket).await {
        refused += u32::from(answer["code"] == "limit");
    }
    Ok(Outcome::new(format!("{sent} messages at once"), format!("{refused} refused, then closed"), refused > 0))
}

async fn unfinished(_: &Ground) -> anyhow::Result<Outcome> {
    let mut streams = Vec::new();
    for n in 0..500_u32 {
        let mut stream = connect((n % 40) as u8).await?;
        stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nX-Long: ").await?;
        let _ = timeout(Duration::from_millis(20), stream.write_all(&vec![b'x'; 64 << 10])).await;
        streams.push(stream);
    }
    let closed = count_closed(streams, HEADER_TIME).await;
    Ok(Outcome::new("500 headers of 64 KiB without end", format!("{closed} closed"), closed == 500))
}

/// How many end within some time.
async fn count_closed(streams: Vec<TcpStream>, time: Duration) -> usize {
    let ends = streams.into_iter().map(|mut stream| {
        tokio::spawn(async move {
            let mut rest = Vec::new();
            // A reset is an end, too.
            timeout(time, stream.read_to_end(&mut rest)).await.is_ok()
        })
    });
    let mut closed = 0;
    for end in ends.collect::<Vec<_>>() {
        closed += usize::from(end.await.unwrap_or(false));
    }
    closed
}

async fn idle(_: &Ground) -> anyhow::Result<Outcome> {
    let mut streams = Vec::new();
    for n in 0..200_u32 {
        let mut stream = connect((n % 40) as u8).await?;
        stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n").await?;
        streams.push(stream);
    }
    let closed = count_closed(streams, HEADER_TIME).await;
    Ok(Outcome::new("200 kept-alive connections, silent", format!("{closed} closed"), closed == 200))
}

async fn slow(_: &Ground) -> anyhow::Result<Outcome> {
    let mut tasks = Vec::new();
    for n in 0..50 {
        let mut stream = connect(n).await?;
        tasks.push(tokio::spawn(async move {
            for byte in b"GET / HTTP/1.1\r\nHost: a-name-that-is-never-finished" {
                if stream.write_all(&[*byte]).await.is_err() {
                    return true;
                }
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
            false
        }));
    }
    let mut closed = 0;
    for task in tasks {
        closed += u32::from(task.await?);
    }
    Ok(Outcome::new("50 connections, two bytes a second", format!("{closed} closed before the end"), closed == 50))
}

async fn thousands(ground: &Ground) -> anyhow::Result<Outcome> {
    let mut streams = Vec::new();
    for _ in 0..2_000 {
        if let Ok(stream) = connect(92).await {
            streams.push(stream);
        }
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    let turned_away = ground.metric("moonring_turned_away_total").await;
    let others = Insider::join(93, "another").await.is_ok();
    let did = format!("turned away what is above 500; another address still joins: {others}");
    Ok(Outcome::new("2000 connections of one address", did, turned_away >= 1_500.0 && others))
}

async fn unread(_: &Ground) -> anyhow::Result<Outcome> {
    let requests = "GET /client.js HTTP/1.1\r\nHost: a\r\n\r\n".repeat(2_000);
    let mut tasks = Vec::new();
    for n in 0..20 {
        let mut stream = connect(n).await?;
        let requests = requests.clone();
        tasks.push(tokio::spawn(async move {
            // Nothing is read until the server has lost its patience.
            let written = pour(&mut stream, requests.as_bytes(), Duration::from_secs(24)).await;
            let mut rest = Vec::new();
            (written, timeout(Duration::from_secs(5), stream.read_to_end(&mut rest)).await.is_ok())
        }));
    }
    let mut closed = 0;
    for task in tasks {
        closed += u32::from(task.await?.1);
    }
    Ok(Outcome::new("20 connections, 2000 requests each", format!("{closed} closed"), closed == 20))
}
