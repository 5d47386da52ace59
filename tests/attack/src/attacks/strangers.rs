//! Joins of strangers: refused ones, ones that wait, many rooms.

use std::time::{Duration, Instant};

use futures_util::SinkExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{Attack, Outcome, attack};
use crate::ground::{Ground, SECRET};
use crate::insider::{Insider, connect, join, receive, websocket};

/// For how long joins come.
const TIME: Duration = Duration::from_secs(2);

pub(super) fn all() -> Vec<Attack> {
    vec![
        attack("joins: wrong tokens, from one address", |g| Box::pin(wrong_tokens(g, 1, "well-behaved"))),
        attack("joins: wrong tokens, from 40 addresses", |g| Box::pin(wrong_tokens(g, 40, "well-behaved"))),
        attack("joins: wrong tokens, a new room each", |g| Box::pin(wrong_tokens(g, 40, ""))),
        attack("joins: tokens of 8 KiB and metadata of 16 KiB", |g| Box::pin(heavy(g))),
        attack("joins: WHIP with wrong tokens", |g| Box::pin(whip(g))),
        attack("joins: more clients than an address may have", |g| Box::pin(many_clients(g))),
        attack("joins: more rooms than an address may open", |g| Box::pin(many_rooms(g))),
        attack("joins: connections that never join", |g| Box::pin(never_join(g))),
        attack("joins: resume tickets that are guessed", |g| Box::pin(guessed_tickets(g))),
    ]
}

/// Joins with wrong tokens as fast as they are answered; a member's own join beside them has to be quick.
async fn wrong_tokens(ground: &Ground, addresses: u8, room: &'static str) -> anyhow::Result<Outcome> {
    let until = Instant::now() + TIME;
    let before = ground.log().lines().count();
    let mut tasks = Vec::new();
    for n in 0..addresses {
        tasks.push(tokio::spawn(async move {
            let (mut asked, mut waited) = (0_u32, 0_u32);
            while Instant::now() < until {
                let Ok(mut socket) = websocket(n).await else {
                    waited += 1;
                    tokio::time::sleep(Duration::from_millis(2)).await;
                    continue;
                };
                let room = if room.is_empty() { format!("r-{n}-{asked}") } else { room.to_owned() };
                let _ = socket.send(join(&room, "guess")).await;
                let _ = receive(&mut socket).await;
                asked += 1;
            }
            (asked, waited)
        }));
    }
    tokio::time::sleep(TIME / 2).await;
    let began = Instant::now();
    let member = Insider::join(200, "well-behaved").await;
    let took = began.elapsed();
    let (mut asked, mut waited) = (0, 0);
    for task in tasks {
        let counts = task.await?;
        (asked, waited) = (asked + counts.0, waited + counts.1);
    }
    let lines = ground.log().lines().count() - before;
    let did = format!(
        "{asked} refused by the room, {waited} by 429; a member joined in {} ms; {lines} lines of log",
        took.as_millis()
    );
    let held = member.is_ok() && took < Duration::from_secs(2) && lines < 20;
    Ok(Outcome::new(format!("{} joins in {} s", asked + waited, TIME.as_secs()), did, held))
}

async fn heavy(_: &Ground) -> anyhow::Result<Outcome> {
    let (mut refused, mut waited) = (0, 0);
    for n in 0..100_u8 {
        let Ok(mut socket) = websocket(n + 45).await else {
            waited += 1;
            continue;
        };
        let message = serde_json::json!({
            "type": "join", "room": format!("heavy-{n}"), "token": "x".repeat(8_000), "metadata": "m".repeat(16_000),
        });
        socket.send(message.to_string().into()).await?;
        refused += u32::from(receive(&mut socket).await.is_some_and(|answer| answer["type"] == "rejected"));
    }
    let did = format!("{refused} rejected, {waited} by 429");
    Ok(Outcome::new("100 joins of 24 KiB", did, refused + waited == 100))
}

async fn whip(_: &Ground) -> anyhow::Result<Outcome> {
    let offer = include_str!("../../../../src/wire/src/sdp/fixtures/ffmpeg_whip.sdp");
    let (mut refused, mut waited, mut retry) = (0, 0, false);
    for _ in 0..100 {
        let mut stream = connect(77).await?;
        let request = format!(
            "POST /whip/well-behaved HTTP/1.1\r\nHost: a\r\nConnection: close\r\nAuthorization: Bearer guess\r\n\
             Content-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{offer}",
            offer.len()
        );
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        refused += u32::from(answer.starts_with("HTTP/1.1 403"));
        waited += u32::from(answer.starts_with("HTTP/1.1 429"));
        retry |= answer.to_ascii_lowercase().contains("retry-after");
    }
    let did = format!("{refused} answered 403, {waited} 429 with Retry-After");
    Ok(Outcome::new("100 requests", did, refused <= 25 && waited >= 70 && retry))
}

async fn many_clients(_: &Ground) -> anyhow::Result<Outcome> {
    let mut members = Vec::new();
    let mut turned_away = 0;
    for n in 0..600 {
        let Ok(mut socket) = websocket(78).await else {
            turned_away += 1;
            continue;
        };
        socket.send(join(&format!("crowd-{}", n % 3), SECRET)).await?;
        match receive(&mut socket).await {
            Some(answer) if answer["type"] == "joined" => members.push(socket),
            _ => turned_away += 1,
        }
    }
    let others = Insider::join(79, "crowd-0").await.is_ok();
    let did = format!("{} joined, {turned_away} turned away; another address still joins: {others}", members.len());
    Ok(Outcome::new("600 clients of one address", did, members.len() <= 500 && turned_away >= 100 && others))
}

async fn many_rooms(_: &Ground) -> anyhow::Result<Outcome> {
    let mut members = Vec::new();
    for n in 0..150 {
        let mut socket = websocket(80).await?;
        socket.send(join(&format!("own-{n}"), SECRET)).await?;
        if receive(&mut socket).await.is_some_and(|answer| answer["type"] == "joined") {
            members.push(socket);
        }
    }
    let others = Insider::join(81, "another").await.is_ok();
    let did = format!("{} opened; another address still opens one: {others}", members.len());
    Ok(Outcome::new("150 rooms of one address", did, members.len() == 100 && others))
}

async fn never_join(_: &Ground) -> anyhow::Result<Outcome> {
    let mut sockets = Vec::new();
    for _ in 0..100 {
        sockets.push(websocket(82).await?);
    }
    // --join-timeout-s 5
    tokio::time::sleep(Duration::from_secs(6)).await;
    let mut ended = 0;
    for socket in &mut sockets {
        ended += u32::from(receive(socket).await.is_none_or(|answer| answer["type"] == "rejected"));
    }
    Ok(Outcome::new("100 connections", format!("{ended} ended after join_timeout_s"), ended == 100))
}

async fn guessed_tickets(_: &Ground) -> anyhow::Result<Outcome> {
    let (mut refused, began) = (0, Instant::now());
    for n in 0..300_u32 {
        let Ok(mut socket) = websocket(83).await else { continue };
        let ticket = format!("q7Zr0KdXw2LmB9sT.{n:032x}");
        let message = serde_json::json!({"type": "resume", "ticket": ticket}).to_string();
        socket.send(message.into()).await?;
        refused += u32::from(receive(&mut socket).await.is_some_and(|answer| answer["code"] == "ticket"));
    }
    let did = format!("{refused} refused alike, in {} ms", began.elapsed().as_millis());
    Ok(Outcome::new("300 tickets", did, refused == 300))
}
