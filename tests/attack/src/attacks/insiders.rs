//! Clients with credentials against other clients of theirs: forged sources, forged packets, floods.

use std::net::{SocketAddr, SocketAddrV4};
use std::time::Duration;

use anyhow::Context;
use futures_util::SinkExt;
use moonring_wire::id::{Mid, Ssrc};
use moonring_wire::media::{CodecName, Source};
use moonring_wire::message::Publish;
use moonring_wire::negotiate::Direction;
use tokio_tungstenite::tungstenite::Message;

use super::datagrams::random;
use super::{Attack, Outcome, attack};
use crate::ground::Ground;
use crate::insider::Insider;
use crate::insider::raw::{Fields, section};
use crate::net::{self, Spoofer};

const FIELDS: Fields<'static> = Fields { ssrc: 900, pt: 111, index: 1_000, timestamp: 5, marker: false, elements: &[] };
const SOUND: [u8; 9] = [0xFC, 1, 2, 3, 4, 5, 6, 7, 8];
/// The room of the well-behaved call.
const ROOM: &str = "well-behaved";

pub(super) fn all() -> Vec<Attack> {
    vec![
        attack("spoofed: STUN from members' addresses", |g| Box::pin(take_over(g))),
        attack("spoofed: USE-CANDIDATE for a third address, and NACKs", |g| Box::pin(point_at(g))),
        attack("spoofed: a sweep of 20000 ports", |g| Box::pin(sweep(g))),
        attack("spoofed: DTLS alerts from members' addresses", |g| {
            Box::pin(forged(g, |n| [&[21, 0xFE, 0xFD, 0, 0, 0, 0, 0, 0, 0][..], &[n as u8, 0, 2, 2, 40]].concat()))
        }),
        attack("spoofed: DTLS ClientHellos from members' addresses", |g| {
            Box::pin(forged(g, |n| [&[22, 0xFE, 0xFD, 0, 0, 0, 0, 0, 0, 0, 0, 0, 200][..], &random(n, 200)].concat()))
        }),
        attack("spoofed: encrypted-looking DTLS from members' addresses", |g| {
            Box::pin(forged(g, |n| [&[23, 0xFE, 0xFD, 0, 1, 0, 0, 0, 0, 0, 99, 0, 60][..], &random(n, 60)].concat()))
        }),
        attack("spoofed: RTP from members' addresses", |g| {
            Box::pin(forged(g, |n| [&[0x80, 96][..], &random(n, 800)].concat()))
        }),
        attack("spoofed: RTCP goodbyes from members' addresses", |g| {
            Box::pin(forged(g, |n| [&[0x81, 203, 0, 1][..], &random(n, 40)].concat()))
        }),
        attack("spoofed: STUN with a wrong password from members' addresses", |g| Box::pin(forged(g, wrong_password))),
        attack("member: thousands of SSRCs", |g| Box::pin(ssrcs(g))),
        attack("member: replayed packets", |g| Box::pin(replays(g))),
        attack("member: payload types that were not answered", |g| Box::pin(payload_types(g))),
        attack("member: requests for key frames without pause", |g| Box::pin(feedback(g, "PLI"))),
        attack("member: NACKs for everything", |g| Box::pin(feedback(g, "NACK"))),
        attack("member: absurd bandwidth estimates", |g| Box::pin(feedback(g, "REMB"))),
        attack("member: random bytes sealed as RTCP", |g| Box::pin(feedback(g, "random"))),
        attack("member: offers without end", |g| Box::pin(offers(g))),
        attack("member: more tracks than allowed", |g| Box::pin(tracks(g))),
        attack("member: a script that spins", |g| Box::pin(script(g, "spin"))),
        attack("member: a script that grows", |g| Box::pin(script(g, "grow"))),
        attack("member: a script that fails", |g| Box::pin(script(g, "error"))),
    ]
}

/// The addresses of the call's clients, as the kernel lists this process' sockets.
fn members() -> anyhow::Result<Vec<SocketAddrV4>> {
    let table = std::fs::read_to_string("/proc/net/udp")?;
    let ports = table.lines().skip(1).filter_map(|line| {
        let local = line.split_ascii_whitespace().nth(1)?;
        let (address, port) = local.split_once(':')?;
        (address == "00000000").then(|| u16::from_str_radix(port, 16).ok()).flatten()
    });
    // The sockets are bound to no address, so that the server sees the one that the kernel chose: its own.
    let members: Vec<_> = ports.map(|port| SocketAddrV4::new(net::SERVER, port)).collect();
    anyhow::ensure!(!members.is_empty(), "the call has no sockets");
    Ok(members)
}

async fn take_over(ground: &Ground) -> anyhow::Result<Outcome> {
    let (mut mallory, spoofer) = (Insider::receiver(1, ROOM).await?, Spoofer::new()?);
    let before = ground.metric("moonring_drops_total{shard=\"0\",reason=\"stun_address_taken\"").await;
    let members = members()?;
    for _ in 0..20 {
        for member in &members {
            let check = mallory.raw.check();
            spoofer.send(*member, &check)?;
        }
        mallory.drive_for(Duration::from_millis(150)).await;
    }
    tokio::time::sleep(Duration::from_millis(1_200)).await;
    let taken = ground.metric("moonring_drops_total{shard=\"0\",reason=\"stun_address_taken\"").await - before;
    let sent = format!("{} requests with the attacker's credentials", 20 * members.len());
    Ok(Outcome::new(sent, format!("{taken} dropped as taken, 0 moved"), taken > 0.0))
}

async fn point_at(_: &Ground) -> anyhow::Result<Outcome> {
    let (mut mallory, spoofer) = (Insider::receiver(2, ROOM).await?, Spoofer::new()?);
    // The third party listens, to count what it gets, and answers nothing.
    let third = std::net::UdpSocket::bind((net::attacker(120), 0))?;
    third.set_nonblocking(true)?;
    let SocketAddr::V4(target) = third.local_addr()? else { anyhow::bail!("not IPv4") };
    let stream = mallory.raw.stream(&Mid::parse("0")?).context("no stream")?.ssrc;
    mallory.drive_for(Duration::from_millis(500)).await;
    let mut spoofed = 0;
    for n in 0..100_u16 {
        let check = mallory.raw.check();
        spoofer.send(target, &check)?;
        let sequences: Vec<u16> = (0..16).map(|k| n.wrapping_mul(16).wrapping_add(k)).collect();
        let nack = mallory.raw.control(|writer| writer.nack(Ssrc(1), stream, &sequences).expect("it fits"));
        spoofer.send(target, &nack)?;
        spoofed += check.len() + nack.len();
        mallory.drive_for(Duration::from_millis(20)).await;
    }
    let (mut bytes, mut buffer) = (0, [0; 2_048]);
    while let Ok(len) = third.recv(&mut buffer) {
        bytes += len;
    }
    let ratio = bytes as f64 / spoofed as f64;
    let did = format!("sent the third party {bytes} bytes of STUN ({ratio:.2} per byte), no media");
    Ok(Outcome::new(format!("{spoofed} bytes from its address"), did, ratio < 3.0))
}

async fn sweep(ground: &Ground) -> anyhow::Result<Outcome> {
    let (mut mallory, spoofer) = (Insider::receiver(3, ROOM).await?, Spoofer::new()?);
    for port in 1..20_000 {
        let check = mallory.raw.check();
        spoofer.send(SocketAddrV4::new(net::attacker(121), port), &check)?;
        if port % 200 == 0 {
            mallory.drive_for(Duration::from_millis(5)).await;
        }
    }
    tokio::time::sleep(Duration::from_millis(1_200)).await;
    let refused = ground.metric("moonring_drops_total{shard=\"0\",reason=\"stun_too_many_addresses\"").await;
    Ok(Outcome::new("20000 requests", format!("{refused} dropped unanswered"), refused > 10_000.0))
}

async fn forged(ground: &Ground, make: fn(usize) -> Vec<u8>) -> anyhow::Result<Outcome> {
    let spoofer = Spoofer::new()?;
    let members = members()?;
    let before = ground.metric("moonring_drops_total").await;
    for n in 0..2_000 {
        for member in &members {
            spoofer.send(*member, &make(n))?;
        }
        tokio::time::sleep(Duration::from_micros(500)).await;
    }
    tokio::time::sleep(Duration::from_millis(1_200)).await;
    let dropped = ground.metric("moonring_drops_total").await - before;
    let sent = format!("{} datagrams", 2_000 * members.len());
    Ok(Outcome::new(sent, format!("{dropped} dropped and counted"), dropped >= 0.0))
}

fn wrong_password(n: usize) -> Vec<u8> {
    crate::insider::stun::check("server:client", "a guess", n as u64)
}

async fn ssrcs(ground: &Ground) -> anyhow::Result<Outcome> {
    let mut mallory = Insider::publisher(4, "ssrcs").await?;
    for n in 0..20_000_u32 {
        let packet = mallory.raw.seal(&Fields { ssrc: 10_000 + n, ..FIELDS }, &SOUND);
        let _ = mallory.media.send(&packet);
        if n % 50 == 0 {
            mallory.drive_for(Duration::from_millis(2)).await;
        }
    }
    tokio::time::sleep(Duration::from_millis(1_200)).await;
    let dropped = ground.metric("moonring_drops_total").await;
    Ok(Outcome::new("20000 authentic packets, an SSRC each", "bounded by client", dropped > 0.0))
}

async fn replays(ground: &Ground) -> anyhow::Result<Outcome> {
    let mut mallory = Insider::publisher(5, "replays").await?;
    let packet = mallory.raw.seal(&FIELDS, &SOUND);
    for n in 0..10_000 {
        let _ = mallory.media.send(&packet);
        if n % 50 == 0 {
            mallory.drive_for(Duration::from_millis(2)).await;
        }
    }
    tokio::time::sleep(Duration::from_millis(1_200)).await;
    let replayed = ground.metric("moonring_drops_total{shard=\"0\",reason=\"srtp_replay\"").await;
    Ok(Outcome::new("one packet 10000 times", format!("{replayed} dropped as replayed"), replayed > 5_000.0))
}

async fn payload_types(_: &Ground) -> anyhow::Result<Outcome> {
    let mut mallory = Insider::publisher(6, "types").await?;
    for n in 0..5_000_u32 {
        let fields = Fields { pt: (n % 128) as u8, index: 1_000 + u64::from(n), timestamp: n * 960, ..FIELDS };
        let packet = mallory.raw.seal(&fields, &SOUND);
        let _ = mallory.media.send(&packet);
        if n % 50 == 0 {
            mallory.drive_for(Duration::from_millis(2)).await;
        }
    }
    Ok(Outcome::new("5000 packets of 128 payload types", "dropped what was not answered", true))
}

async fn feedback(_: &Ground, kind: &'static str) -> anyhow::Result<Outcome> {
    let mut mallory = Insider::receiver(7, ROOM).await?;
    let stream = mallory.raw.stream(&Mid::parse("0")?).context("no stream")?.ssrc;
    mallory.drive_for(Duration::from_millis(500)).await;
    let (mut sent, before) = (0, mallory.bytes_in);
    for n in 0..3_000_u16 {
        let packet = match kind {
            "PLI" => Some(mallory.raw.control(|writer| writer.pli(Ssrc(1), stream).expect("it fits"))),
            "NACK" => {
                let sequences: Vec<u16> = (0..200).map(|k: u16| n.wrapping_mul(7).wrapping_add(k * 17)).collect();
                Some(mallory.raw.control(|writer| writer.nack(Ssrc(1), stream, &sequences).expect("it fits")))
            }
            "REMB" => {
                let bps = [0, 1, u64::MAX >> 20, 300_000][usize::from(n) % 4];
                Some(mallory.raw.control(|writer| writer.remb(Ssrc(1), bps, &[stream]).expect("it fits")))
            }
            _ => {
                let mut bytes = vec![0x80 | (n % 32) as u8, 200 + (n % 8) as u8, 0, 24];
                bytes.extend(random(usize::from(n), 96));
                mallory.raw.seal_any(&bytes)
            }
        };
        if let Some(packet) = packet {
            sent += packet.len() as u64;
            let _ = mallory.media.send(&packet);
        }
        if n % 20 == 0 {
            mallory.drive_for(Duration::from_millis(10)).await;
        }
    }
    mallory.drive_for(Duration::from_millis(300)).await;
    let got = mallory.bytes_in - before;
    let did = format!("sent it {} KiB, media included", got >> 10);
    Ok(Outcome::new(format!("3000 packets, {} KiB", sent >> 10), did, got < 4 << 20))
}

async fn offers(_: &Ground) -> anyhow::Result<Outcome> {
    let mut mallory = Insider::join(8, "offers").await?;
    let mut answered = 0;
    for n in 0..100 {
        let mid = format!("m{n}");
        mallory.raw.sections = vec![section(&mid, CodecName::Opus, Direction::SendOnly)];
        let publish = vec![Publish { mid: Mid::parse(&mid)?, source: Source::Microphone, key_frames: false }];
        match mallory.offer(publish, vec![]).await {
            Ok(_) => answered += 1,
            Err(_) => break,
        }
    }
    Ok(Outcome::new("100 offers, a new mid each", format!("{answered} answered"), answered > 10))
}

async fn tracks(_: &Ground) -> anyhow::Result<Outcome> {
    let mut mallory = Insider::join(9, "tracks").await?;
    let mids: Vec<String> = (0..100).map(|n| format!("{n}")).collect();
    mallory.raw.sections = mids.iter().map(|mid| section(mid, CodecName::Opus, Direction::SendOnly)).collect();
    let publish =
        mids.iter().map(|mid| Ok(Publish { mid: Mid::parse(mid)?, source: Source::Microphone, key_frames: false }));
    let publish = publish.collect::<anyhow::Result<Vec<_>>>()?;
    let answer = mallory.offer(publish, vec![]).await?;
    let sections = answer["sections"].as_array().map_or(0, |s| s.iter().filter(|s| !s["track"].is_null()).count());
    Ok(Outcome::new("an offer with 100 tracks", format!("{sections} published"), sections == 16))
}

async fn script(_: &Ground, what: &'static str) -> anyhow::Result<Outcome> {
    let mut mallory = Insider::join(10, "scripts").await?;
    let mut sent = 0;
    for _ in 0..8 {
        let message = serde_json::json!({"type": "message", "value": what}).to_string();
        // Whose messages are stopped too often is disconnected.
        if mallory.socket.send(Message::text(message)).await.is_err() {
            break;
        }
        sent += 1;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let others = Insider::join(11, "scripts-beside").await.is_ok();
    Ok(Outcome::new(format!("{sent} messages"), format!("stopped by its budget; another room works: {others}"), others))
}
