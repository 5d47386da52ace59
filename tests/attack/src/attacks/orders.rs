//! Members who ask for too much over signalling: other people's tracks, absurd numbers, offers without measure.

use std::time::Duration;

use futures_util::SinkExt;
use moonring_loadtest::peer::offer_text;
use moonring_wire::media::CodecName;
use moonring_wire::message::Publish;
use moonring_wire::negotiate::Direction;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use super::datagrams::random;
use super::{Attack, Outcome, attack};
use crate::ground::Ground;
use crate::insider::raw::section;
use crate::insider::{Insider, join, receive, websocket};

/// The room of the well-behaved call.
const ROOM: &str = "well-behaved";

pub(super) fn all() -> Vec<Attack> {
    vec![
        attack("joins: 600 that wait for their verdict, in a member's room", |g| Box::pin(waiting(g))),
        attack("orders: mutes, layers and ends of others' tracks", |g| Box::pin(others_tracks(g))),
        attack("orders: views of absurd sizes", |g| Box::pin(views(g))),
        attack("orders: JSON nested 100000 deep", |g| Box::pin(nested(g))),
        attack("offers: 1000 sections", |g| Box::pin(sections(g))),
        attack("offers: 10000 candidates", |g| Box::pin(candidates(g))),
        attack("offers: ICE restarts without pause", |g| Box::pin(restarts(g))),
        attack("member: DTLS records after the handshake", |g| Box::pin(records(g))),
        attack("member: publishes and takes back without pause", |g| Box::pin(publishes(g))),
    ]
}

/// Strangers whose policy takes its time, then a member.
async fn waiting(_: &Ground) -> anyhow::Result<Outcome> {
    let mut strangers = Vec::new();
    for n in 0..600_u32 {
        let Ok(mut socket) = websocket((n % 10) as u8 + 50).await else { continue };
        socket.send(join(ROOM, "slow")).await?;
        strangers.push(socket);
    }
    let began = std::time::Instant::now();
    let member = Insider::join(70, ROOM).await.is_ok();
    let took = began.elapsed();
    let did = format!("{} wait; a member joined in {} ms: {member}", strangers.len(), took.as_millis());
    Ok(Outcome::new("600 joins of 10 addresses", did, member && took < Duration::from_secs(2)))
}

/// The ids of the call's tracks, as a member sees them.
fn tracks_of(insider: &Insider) -> anyhow::Result<Vec<Value>> {
    let joined = serde_json::to_value(&insider.joined)?;
    Ok(joined["tracks"].as_array().into_iter().flatten().map(|track| track["id"].clone()).collect())
}

/// Sends messages and counts the errors that come back; none of them ends the connection before it should.
async fn answers(insider: &mut Insider, messages: &[Value]) -> anyhow::Result<usize> {
    let mut errors = 0;
    for message in messages {
        insider.socket.send(Message::text(message.to_string())).await?;
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    insider.socket.send(Message::text(json!({"type": "message", "value": "end"}).to_string())).await?;
    while let Some(answer) = receive(&mut insider.socket).await {
        errors += usize::from(answer["type"] == "error");
        if answer["value"] == "end" {
            break;
        }
    }
    Ok(errors)
}

async fn others_tracks(_: &Ground) -> anyhow::Result<Outcome> {
    let inside = Insider::join(71, ROOM).await?;
    let tracks = tracks_of(&inside)?;
    let mut outside = Insider::join(72, "outside").await?;
    let orders = |track: &Value| {
        vec![
            json!({"type": "mute", "track": track, "muted": true}),
            json!({"type": "unpublish", "track": track}),
            json!({"type": "layer", "track": track, "layer": 0}),
            json!({"type": "view", "track": track, "width": 0, "height": 0}),
            json!({"type": "unsubscribe", "track": track}),
        ]
    };
    let messages: Vec<_> = tracks.iter().flat_map(orders).collect();
    let mut inside = inside;
    let errors = (answers(&mut outside, &messages).await?, answers(&mut inside, &messages).await?);
    let did = format!("{} errors from another room, {} from within; the call goes on", errors.0, errors.1);
    Ok(Outcome::new(format!("{} orders", 2 * messages.len()), did, 5 * errors.0 >= 4 * messages.len() && errors.1 > 0))
}

async fn views(_: &Ground) -> anyhow::Result<Outcome> {
    let mut mallory = Insider::receiver(73, ROOM).await?;
    let tracks = tracks_of(&mallory)?;
    let sizes = [0_u64, 1, 179, u64::from(u32::MAX), u64::MAX];
    let view = |n: usize| json!({"type": "view", "track": tracks[n % tracks.len()], "width": sizes[n % 5], "height": sizes[n / 5 % 5]});
    let messages: Vec<_> = (0..40).map(view).collect();
    let errors = answers(&mut mallory, &messages).await?;
    mallory.drive_for(Duration::from_millis(300)).await;
    Ok(Outcome::new("40 sizes up to 2^64", format!("{errors} errors, clamped or refused"), errors > 0))
}

async fn nested(_: &Ground) -> anyhow::Result<Outcome> {
    let mut mallory = Insider::join(74, "nested").await?;
    let text = format!("{{\"type\":\"message\",\"value\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
    mallory.socket.send(Message::text(text)).await?;
    let answer = receive(&mut mallory.socket).await.unwrap_or_default();
    let held = answer["code"] == "bad_message";
    Ok(Outcome::new("a message of 200 KB", format!("answered {}", answer["code"]), held))
}

/// Offers text as it is; the answer's type or code.
async fn offer_text(insider: &mut Insider, sdp: &str) -> anyhow::Result<String> {
    let offer = json!({"type": "offer", "request": 77, "sdp": sdp, "publish": [], "subscribe": []});
    insider.socket.send(Message::text(offer.to_string())).await?;
    loop {
        let answer = receive(&mut insider.socket).await.unwrap_or_default();
        match answer["type"].as_str() {
            Some("answer") => return Ok("answer".into()),
            Some("error") => return Ok(answer["code"].as_str().unwrap_or_default().to_owned()),
            Some(_) => {}
            None => return Ok("closed".into()),
        }
    }
}

async fn sections(_: &Ground) -> anyhow::Result<Outcome> {
    let mut mallory = Insider::join(75, "sections").await?;
    mallory.raw.sections = vec![section("0", CodecName::Opus, Direction::SendOnly)];
    let text = offer_text::render(&mallory.raw.offer());
    let (head, media) = text.split_once("m=").unwrap_or_default();
    let mut answers = Vec::new();
    for count in [255, 1_000] {
        let many: String =
            (0..count).map(|n| format!("m={}", media.replace("a=mid:0", &format!("a=mid:{n}")))).collect();
        answers.push(offer_text(&mut mallory, &format!("{head}{many}")).await?);
    }
    let held = ["bad_sdp", "too_large", "bad_message"].contains(&answers[1].as_str());
    Ok(Outcome::new("offers of 255 and 1000 sections", format!("answered {}", answers.join(", ")), held))
}

async fn candidates(_: &Ground) -> anyhow::Result<Outcome> {
    let mut mallory = Insider::join(76, "candidates").await?;
    mallory.raw.sections = vec![section("0", CodecName::Opus, Direction::SendOnly)];
    let text = offer_text::render(&mallory.raw.offer());
    let lines: String =
        (0..4_000).map(|n| format!("a=candidate:{n} 1 udp 1 192.0.2.{} 9 typ host\r\n", n % 250)).collect();
    let mut answers = Vec::new();
    for _ in 0..10 {
        answers.push(offer_text(&mut mallory, &format!("{text}{lines}")).await?);
    }
    let held = answers.iter().all(|answer| answer != "closed");
    Ok(Outcome::new("10 offers of 4000 candidates", format!("answered {}: nothing is sent to them", answers[0]), held))
}

async fn restarts(_: &Ground) -> anyhow::Result<Outcome> {
    let mut mallory = Insider::publisher(77, "restarts").await?;
    let mut answered = 0;
    for n in 0..150 {
        mallory.raw.ice.ufrag = format!("uf{n:04}");
        if mallory.offer(vec![], vec![]).await.is_err() {
            break;
        }
        answered += 1;
        mallory.drive_for(Duration::from_millis(20)).await;
    }
    Ok(Outcome::new("150 offers, new credentials each", format!("{answered} answered"), answered > 20))
}

async fn records(_: &Ground) -> anyhow::Result<Outcome> {
    let mut mallory = Insider::publisher(78, "records").await?;
    for n in 0..10_000_usize {
        // Alerts and handshakes in the clear and as if encrypted, with her address, which counts.
        let kind = [20, 21, 22, 23, 26][n % 5];
        let mut record = vec![kind, 0xFE, 0xFD, 0, (n % 3) as u8, 0, 0, 0, 0, (n >> 8) as u8, n as u8, 0, 60];
        record.extend(random(n, 60));
        let _ = mallory.media.send(&record);
        if n % 50 == 0 {
            mallory.drive_for(Duration::from_millis(2)).await;
        }
    }
    let others = Insider::join(79, "records").await.is_ok();
    Ok(Outcome::new("10000 records", format!("ignored; the server answers: {others}"), others))
}

async fn publishes(_: &Ground) -> anyhow::Result<Outcome> {
    let mut mallory = Insider::publisher(80, ROOM).await?;
    let mut published = 0;
    for n in 0..80 {
        let mid = format!("p{n}");
        mallory.raw.sections.push(section(&mid, CodecName::Opus, Direction::SendOnly));
        let publish = vec![Publish {
            mid: moonring_wire::id::Mid::parse(&mid)?,
            source: moonring_wire::media::Source::Camera,
            key_frames: false,
        }];
        let Ok(answer) = mallory.offer(publish, vec![]).await else { break };
        let track = answer["sections"][0]["track"]["id"].clone();
        published += u32::from(!track.is_null());
        let unpublish = json!({"type": "unpublish", "track": track}).to_string();
        mallory.socket.send(Message::text(unpublish)).await?;
        mallory.drive_for(Duration::from_millis(40)).await;
    }
    Ok(Outcome::new("80 tracks, one after the other", format!("{published} published and ended"), published > 20))
}
