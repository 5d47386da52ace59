//! An attacker with credentials: a client made by hand, of the simulated world, on a real socket.

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use futures_util::{SinkExt, StreamExt};
use moonring_loadtest::peer::{answer_text, offer_text};
use moonring_wire::id::{Mid, Ssrc};
use moonring_wire::media::{CodecName, Source};
use moonring_wire::message::{ClientMessage, Publish, ServerMessage, Subscribe};
use moonring_wire::negotiate::Direction;
use moonring_wire::transport::dtls::Certificate;
use serde_json::{Value, json};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{WebSocketStream, client_async};

use self::raw::{Raw, section};
use crate::ground::SECRET;
use crate::net;

#[path = "../../world/sim/raw.rs"]
#[expect(dead_code, reason = "the simulated world uses more of it")]
pub(crate) mod raw;
#[path = "../../world/sim/stun.rs"]
pub(crate) mod stun;

/// Where the raw client's answers say that they go.
pub(crate) const SERVER: &str = "198.51.100.1:40000";
const PATIENCE: Duration = Duration::from_secs(5);
/// What the raw client says of a received packet is not looked at here.
pub(crate) struct Got;

impl Got {
    pub(crate) fn read(_: Instant, _: &moonring_wire::rtp::header::Header, _: &[u8]) -> Self {
        Self
    }
}

/// A WebSocket from an attacker's address.
pub(crate) type Socket = WebSocketStream<TcpStream>;

/// The client.
pub(crate) struct Insider {
    pub(crate) raw: Raw,
    pub(crate) media: UdpSocket,
    pub(crate) socket: Socket,
    pub(crate) joined: ServerMessage,
    /// Datagrams that came, and their bytes.
    pub(crate) datagrams_in: u64,
    pub(crate) bytes_in: u64,
    requests: u64,
}

/// Opens a TCP connection from an attacker's address.
pub(crate) async fn connect(n: u8) -> anyhow::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind((net::attacker(n), 0).into())?;
    Ok(timeout(PATIENCE, socket.connect(net::http())).await??)
}

/// Opens a WebSocket from an attacker's address.
pub(crate) async fn websocket(n: u8) -> anyhow::Result<Socket> {
    let url = format!("ws://{}/ws", net::http());
    let (socket, _) = timeout(PATIENCE, client_async(url, connect(n).await?)).await??;
    Ok(socket)
}

/// The next message; `None` when the connection ends or nothing comes.
pub(crate) async fn receive(socket: &mut Socket) -> Option<Value> {
    loop {
        match timeout(PATIENCE, socket.next()).await {
            Ok(Some(Ok(Message::Text(text)))) => return serde_json::from_str(&text).ok(),
            Ok(Some(Ok(Message::Close(_)) | Err(_)) | None) | Err(_) => return None,
            Ok(Some(Ok(_))) => {}
        }
    }
}

/// What a client asks for when it comes.
pub(crate) fn join(room: &str, token: &str) -> Message {
    Message::text(json!({"type": "join", "room": room, "token": token, "metadata": null}).to_string())
}

impl Insider {
    /// Joins a room.
    pub(crate) async fn join(n: u8, room: &str) -> anyhow::Result<Self> {
        let mut socket = websocket(n).await?;
        socket.send(join(room, SECRET)).await?;
        let joined = receive(&mut socket).await.context("the join is not answered")?;
        let joined: ServerMessage = serde_json::from_value(joined)?;
        if !matches!(joined, ServerMessage::Joined { .. }) {
            bail!("the join is answered with {joined:?}");
        }
        let media = UdpSocket::bind((net::attacker(n), 0))?;
        media.connect(net::media())?;
        media.set_nonblocking(true)?;
        let raw = Raw::new(Certificate::generate()?, &format!("insider{n}"));
        Ok(Self { raw, media, socket, joined, datagrams_in: 0, bytes_in: 0, requests: 0 })
    }

    /// Joins, publishes sound with SSRC 900, and connects.
    pub(crate) async fn publisher(n: u8, room: &str) -> anyhow::Result<Self> {
        let mut insider = Self::join(n, room).await?;
        let mut sound = section("0", CodecName::Opus, Direction::SendOnly);
        sound.ssrcs = vec![(Ssrc(900), None)];
        insider.raw.sections = vec![sound];
        insider
            .offer(vec![Publish { mid: Mid::parse("0")?, source: Source::Microphone, key_frames: false }], vec![])
            .await?;
        insider.connect().await?;
        Ok(insider)
    }

    /// Joins, receives the first picture there is, and connects.
    pub(crate) async fn receiver(n: u8, room: &str) -> anyhow::Result<Self> {
        let mut insider = Self::answered(n, room).await?;
        insider.connect().await?;
        Ok(insider)
    }

    /// Offers its sections, and takes the answer.
    pub(crate) async fn offer(&mut self, publish: Vec<Publish>, subscribe: Vec<Subscribe>) -> anyhow::Result<Value> {
        self.requests += 1;
        let sdp = offer_text::render(&self.raw.offer());
        let offer = ClientMessage::Offer { request: self.requests, sdp, publish, subscribe };
        self.socket.send(Message::text(serde_json::to_string(&offer)?)).await?;
        loop {
            let message = receive(&mut self.socket).await.context("the offer is not answered")?;
            match message["type"].as_str() {
                Some("answer") => {
                    let answer = answer_text::parse(message["sdp"].as_str().unwrap_or_default())?;
                    self.raw.accept(Instant::now(), &answer);
                    return Ok(message);
                }
                Some("error") => bail!("the offer is refused: {message}"),
                _ => {}
            }
        }
    }

    /// Joins, and has an offer answered that receives the first picture there is; nothing is sent to the media port.
    pub(crate) async fn answered(n: u8, room: &str) -> anyhow::Result<Self> {
        let mut insider = Self::join(n, room).await?;
        let ServerMessage::Joined { tracks, .. } = &insider.joined else { bail!("not joined") };
        let track =
            tracks.iter().find(|track| track.codec == CodecName::Vp8).context("nobody shows anything")?.id.clone();
        insider.raw.sections = vec![section("0", CodecName::Vp8, Direction::RecvOnly)];
        insider.offer(vec![], vec![Subscribe { mid: Mid::parse("0")?, track }]).await?;
        Ok(insider)
    }

    /// Drives ICE and DTLS until the media transport is up.
    async fn connect(&mut self) -> anyhow::Result<()> {
        let until = Instant::now() + PATIENCE;
        while !self.raw.connected {
            if Instant::now() > until {
                bail!("the media transport does not come up");
            }
            self.drive();
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        self.drive();
        Ok(())
    }

    /// Takes what has come, and sends what is due.
    pub(crate) fn drive(&mut self) {
        let mut buffer = [0; 2_048];
        while let Ok(len) = self.media.recv(&mut buffer) {
            self.datagrams_in += 1;
            self.bytes_in += len as u64;
            self.raw.handle(Instant::now(), &mut buffer[..len]);
        }
        if self.raw.poll_timeout().is_some_and(|at| at <= Instant::now()) {
            self.raw.handle_timeout(Instant::now());
        }
        for datagram in std::mem::take(&mut self.raw.out) {
            let _ = self.media.send(&datagram);
        }
    }

    /// Goes on for a while, with a check every half a second as an agent makes it.
    pub(crate) async fn drive_for(&mut self, time: Duration) {
        let until = Instant::now() + time;
        let mut next_check = Instant::now();
        while Instant::now() < until {
            if Instant::now() >= next_check {
                next_check = Instant::now() + Duration::from_millis(500);
                let check = self.raw.check();
                self.raw.out.push(check);
            }
            self.drive();
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}
