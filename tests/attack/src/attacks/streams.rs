//! Media over TCP: frames that do not end, connections without number, checks in somebody else's name, clients that do not
//! read or are cut off.

use std::io::{ErrorKind, Read, Write};
use std::time::{Duration, Instant};

use moonring_wire::transport::framing;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::time::{sleep, timeout};

use super::{Attack, Outcome, attack};
use crate::ground::Ground;
use crate::insider::{Insider, stun};
use crate::net;

/// The room of the well-behaved call.
const ROOM: &str = "well-behaved";
/// What a stranger has, with a little more.
const STRANGER_TIME: Duration = Duration::from_secs(13);
/// Strangers of one address.
const STRANGERS: f64 = 32.0;

pub(super) fn strangers() -> Vec<Attack> {
    vec![
        attack("tcp: a frame that comes byte by byte", |g| Box::pin(slow(g))),
        attack("tcp: half a frame, and silence", |g| Box::pin(half(g))),
        attack("tcp: frames of 0 bytes without pause", |g| Box::pin(empty(g))),
        attack("tcp: frames of 65535 bytes", |g| Box::pin(too_long(g))),
        attack("tcp: 1000 connections of one address", |g| Box::pin(crowd(g))),
        attack("tcp: checks in a member's name, with a wrong password", |g| Box::pin(wrong_password(g))),
    ]
}

pub(super) fn members() -> Vec<Attack> {
    vec![
        attack("tcp: members that read nothing", |g| Box::pin(unread(g))),
        attack("tcp: resets in the middle of the handshake", |g| Box::pin(resets(g))),
        attack("tcp: a member's connections without number", |g| Box::pin(many_of_a_member(g))),
    ]
}

/// A connection to the media port, which does not block.
fn connect(n: u8) -> anyhow::Result<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
    socket.bind(&std::net::SocketAddr::from((net::attacker(n), 0)).into())?;
    socket.connect(&net::media().into())?;
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)?;
    Ok(socket)
}

/// Whether the server has closed it; what has come is read.
fn is_closed(socket: &mut Socket) -> bool {
    let mut buffer = [0; 16 << 10];
    loop {
        match socket.read(&mut buffer) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) => return error.kind() != ErrorKind::WouldBlock,
        }
    }
}

/// How many of these are closed within some time.
async fn closed_within(sockets: &mut Vec<Socket>, time: Duration) -> usize {
    let (count, until) = (sockets.len(), Instant::now() + time);
    while !sockets.is_empty() && Instant::now() < until {
        sleep(Duration::from_millis(100)).await;
        sockets.retain_mut(|socket| !is_closed(socket));
    }
    count - sockets.len()
}

fn framed(datagram: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    framing::append(&mut frame, datagram);
    frame
}

async fn slow(_: &Ground) -> anyhow::Result<Outcome> {
    let mut sockets = (0..60).map(connect).collect::<anyhow::Result<Vec<_>>>()?;
    let until = Instant::now() + STRANGER_TIME;
    while !sockets.is_empty() && Instant::now() < until {
        sockets.retain_mut(|socket| {
            !is_closed(socket) && !matches!(socket.write(&[1]), Err(e) if e.kind() != ErrorKind::WouldBlock)
        });
        sleep(Duration::from_millis(200)).await;
    }
    let did = format!("{} closed within {} s", 60 - sockets.len(), STRANGER_TIME.as_secs());
    Ok(Outcome::new("60 connections, 5 bytes a second", did, sockets.is_empty()))
}

async fn half(_: &Ground) -> anyhow::Result<Outcome> {
    let mut sockets = (0..100).map(connect).collect::<anyhow::Result<Vec<_>>>()?;
    for (n, socket) in sockets.iter_mut().enumerate() {
        let frame = framed(&[0; 2_000]);
        socket.write_all(&frame[..[1, 2, 3, 1_999][n % 4]])?;
    }
    let closed = closed_within(&mut sockets, STRANGER_TIME).await;
    let did = format!("{closed} closed within {} s", STRANGER_TIME.as_secs());
    Ok(Outcome::new("100 connections, each with a part of a frame", did, closed == 100))
}

async fn empty(ground: &Ground) -> anyhow::Result<Outcome> {
    let before = ground.metric("moonring_tcp_datagrams_received").await;
    let mut sockets = (0..8).map(connect).collect::<anyhow::Result<Vec<_>>>()?;
    let (zeros, mut taken, until) = (vec![0; 64 << 10], 0, Instant::now() + Duration::from_secs(3));
    while Instant::now() < until {
        for socket in &mut sockets {
            taken += socket.write(&zeros).unwrap_or(0);
        }
        sleep(Duration::from_micros(200)).await;
    }
    let datagrams = ground.metric("moonring_tcp_datagrams_received").await - before;
    let closed = closed_within(&mut sockets, STRANGER_TIME).await;
    let did = format!("{datagrams} datagrams handed over, {closed} connections closed as strangers'");
    Ok(Outcome::new(format!("{} MiB of zeros in 3 s", taken >> 20), did, closed == 8 && datagrams == 0.0))
}

async fn too_long(_: &Ground) -> anyhow::Result<Outcome> {
    let mut sockets = (0..100).map(connect).collect::<anyhow::Result<Vec<_>>>()?;
    for (n, socket) in sockets.iter_mut().enumerate() {
        // With some of it and with none.
        socket.write_all(&framed(&[0x80; 65_535])[..if n % 2 == 0 { 2 } else { 9_000 }])?;
    }
    let closed = closed_within(&mut sockets, Duration::from_secs(3)).await;
    Ok(Outcome::new("100 connections", format!("{closed} closed at once"), closed == 100))
}

async fn crowd(ground: &Ground) -> anyhow::Result<Outcome> {
    let mut sockets = Vec::new();
    for n in 0..1_000 {
        sockets.extend(connect(60));
        if n % 50 == 0 {
            sleep(Duration::from_millis(20)).await;
        }
    }
    let came = sockets.len();
    sleep(Duration::from_secs(1)).await;
    let open = ground.metric("moonring_tcp_connections").await;
    let mut other = connect(61)?;
    sleep(Duration::from_millis(200)).await;
    let others = !is_closed(&mut other);
    let did = format!("{open} of them open after a second; another address comes in: {others}");
    Ok(Outcome::new(format!("{came} connections"), did, open <= STRANGERS && others))
}

async fn wrong_password(ground: &Ground) -> anyhow::Result<Outcome> {
    let victim = Insider::answered(62, ROOM).await?;
    let name = victim.raw.answer.as_ref().map(|answer| answer.ice.ufrag.clone()).unwrap_or_default();
    let before = ground.metric("moonring_drops_total").await;
    let mut sockets = (63..73).map(connect).collect::<anyhow::Result<Vec<_>>>()?;
    for socket in &mut sockets {
        for n in 0..200 {
            socket.write_all(&framed(&stun::check(&format!("{name}:mallory"), "a password that it has not", n)))?;
        }
    }
    sleep(Duration::from_secs(1)).await;
    let mut answers = 0;
    for socket in &mut sockets {
        answers += usize::from(matches!(socket.read(&mut [0; 64]), Ok(len) if len > 0));
    }
    let dropped = ground.metric("moonring_drops_total").await - before;
    let closed = closed_within(&mut sockets, STRANGER_TIME).await;
    let did = format!("{answers} answers, {dropped} dropped and counted, {closed} of 10 closed");
    Ok(Outcome::new("2000 checks over 10 connections", did, answers == 0 && dropped >= 2_000.0 && closed == 10))
}

/// Takes what has come as a client does, and sends what is due.
fn drive(insider: &mut Insider, socket: &mut Socket, inbox: &mut Vec<u8>) -> anyhow::Result<()> {
    let mut buffer = [0; 16 << 10];
    loop {
        match socket.read(&mut buffer) {
            Ok(0) => anyhow::bail!("the server has closed the connection"),
            Ok(len) => inbox.extend_from_slice(&buffer[..len]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) => return Err(error.into()),
        }
    }
    let mut at = 0;
    while let Ok(Some(frame)) = framing::frame_at(inbox, at, usize::from(u16::MAX)) {
        at = frame.end;
        insider.raw.handle(Instant::now(), &mut inbox[frame]);
    }
    inbox.drain(..at);
    if insider.raw.poll_timeout().is_some_and(|due| due <= Instant::now()) {
        insider.raw.handle_timeout(Instant::now());
    }
    for datagram in std::mem::take(&mut insider.raw.out) {
        socket.write_all(&framed(&datagram))?;
    }
    Ok(())
}

/// A member that receives the call's picture over TCP.
async fn receiver(n: u8) -> anyhow::Result<(Insider, Socket)> {
    let (mut insider, mut socket, mut inbox) = (Insider::answered(n, ROOM).await?, connect(n)?, Vec::new());
    let connected = async {
        while !insider.raw.connected {
            drive(&mut insider, &mut socket, &mut inbox)?;
            sleep(Duration::from_millis(5)).await;
        }
        drive(&mut insider, &mut socket, &mut inbox)
    };
    timeout(Duration::from_secs(5), connected).await??;
    Ok((insider, socket))
}

async fn unread(ground: &Ground) -> anyhow::Result<Outcome> {
    let before = ground.metric("moonring_tcp_left_out").await;
    let mut members = Vec::new();
    for n in 64..72 {
        let (insider, socket) = receiver(n).await?;
        socket.set_recv_buffer_size(4_096)?;
        members.push((insider, socket));
    }
    for _ in 0..40 {
        for (insider, socket) in &mut members {
            let check = insider.raw.check();
            let _ = socket.write(&framed(&check));
            insider.raw.out.clear();
        }
        sleep(Duration::from_millis(500)).await;
    }
    let left_out = ground.metric("moonring_tcp_left_out").await - before;
    let did = format!("{left_out} datagrams left out, with what waits bounded");
    Ok(Outcome::new("8 members, checks for 20 s", did, left_out > 0.0))
}

async fn resets(ground: &Ground) -> anyhow::Result<Outcome> {
    let (mut stayed, rounds) = (0, 40_u8);
    for n in 0..rounds {
        let (mut insider, mut socket, mut inbox) = (Insider::answered(n, ROOM).await?, connect(n)?, Vec::new());
        // At each place of it: before the check is answered, in each flight of DTLS.
        for _ in 0..n % 8 {
            if insider.raw.connected {
                break;
            }
            let _ = drive(&mut insider, &mut socket, &mut inbox);
            sleep(Duration::from_millis(3)).await;
        }
        socket.set_linger(Some(Duration::ZERO))?;
        drop(socket);
        if n % 2 == 0 {
            // Its signalling stays until the server has had enough.
            tokio::spawn(async move {
                let _insider = insider;
                sleep(Duration::from_secs(60)).await;
            });
            stayed += 1;
        }
    }
    // --handshake-timeout-s 5
    sleep(Duration::from_secs(8)).await;
    let log = ground.log();
    let reasons = log.lines().filter(|line| line.contains("client left") && line.contains("well-behaved")).count();
    let open = ground.metric("moonring_tcp_connections").await;
    let did =
        format!("{open} connections left; {reasons} ends in the log with their reasons, {stayed} stayed for theirs");
    Ok(Outcome::new(format!("{rounds} members"), did, open == 0.0 && reasons >= stayed))
}

async fn many_of_a_member(ground: &Ground) -> anyhow::Result<Outcome> {
    let (mut insider, mut first) = receiver(73).await?;
    let mut sockets = Vec::new();
    for _ in 0..500 {
        let mut socket = connect(73)?;
        let check = insider.raw.check();
        let _ = socket.write(&framed(&check));
        sockets.push(socket);
        sleep(Duration::from_millis(4)).await;
        let _ = drive(&mut insider, &mut first, &mut Vec::new());
    }
    sleep(Duration::from_secs(1)).await;
    let open = ground.metric("moonring_tcp_connections").await;
    let did = format!("{open} of them open");
    Ok(Outcome::new("500 connections with true checks", did, open <= STRANGERS + 16.0))
}
