//! A client of our own protocol.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, bail};
use futures_util::{SinkExt, StreamExt};
use moonring_wire::id::{Mid, TrackId};
use moonring_wire::media::{CodecName, Kind, Source, TrackInfo};
use moonring_wire::message::{ClientMessage, ErrorCode, PROTOCOL_VERSION, Publish, ServerMessage, Subscribe};
use serde_json::json;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use super::{ClientPlan, Context, PATIENCE, Receive, codec_for, told_to_leave};

/// What else is published in this time after a track is received with the same offer.
const GATHER: Duration = Duration::from_millis(50);

/// From server to server without a pause.
const MOST_HOPS: u32 = 3;
/// Pause before a resume is tried again.
const ANEW: Duration = Duration::from_millis(20);
/// Pause before a join is tried again.
const AGAIN: Duration = Duration::from_millis(500);

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// What a join is answered with.
enum Entry {
    In,
    /// The room is at this address.
    Moved(String),
    TryAgain(String),
}

/// Joins, publishes, receives, and leaves when told to.
pub(super) async fn live(context: &Context, url: &str, client: usize, plan: &ClientPlan) -> anyhow::Result<()> {
    let mut session = Session::find(context, url, client, plan).await?;
    let leave = told_to_leave(context, plan);
    tokio::pin!(leave);
    loop {
        if !session.busy && std::mem::take(&mut session.restart) {
            session.restart_ice().await?;
        }
        if !session.busy && (session.offers == 0 && !plan.publish.is_empty() || !session.wanted.is_empty()) {
            session.offer().await?;
        }
        tokio::select! {
            () = &mut leave => {
                context.leaves(client).await;
                session.send(&ClientMessage::Leave {}).await?;
                let _ = session.socket.close(None).await;
                return Ok(());
            }
            message = session.receive() => match message? {
                ServerMessage::Resume { url } => session.resume(url).await?,
                message => session.take(message).await?,
            },
        }
    }
}

async fn open(context: &Context, url: &str) -> anyhow::Result<Socket> {
    let connecting = tokio_tungstenite::connect_async_tls_with_config(url, None, true, context.tls.connector()?);
    let (socket, _) = timeout(PATIENCE, connecting).await.context("connecting takes too long")??;
    Ok(socket)
}

struct Session<'a> {
    context: &'a Context,
    plan: &'a ClientPlan,
    client: usize,
    began: Instant,
    socket: Socket,
    /// Tracks to receive with the next offer.
    wanted: VecDeque<TrackInfo>,
    /// Its own sections, and their tracks.
    published: Vec<(Mid, Option<TrackId>)>,
    offers: u64,
    /// An offer waits for its answer.
    busy: bool,
    /// More may be published soon.
    gather: bool,
    /// ICE is to be restarted with the next offer: the client moves.
    restart: bool,
    /// The right to go on over another connection.
    ticket: String,
    /// Where it is.
    at: String,
}

impl<'a> Session<'a> {
    /// Joins wherever the room is.
    async fn find(context: &'a Context, url: &str, client: usize, plan: &'a ClientPlan) -> anyhow::Result<Self> {
        let began = Instant::now();
        let (mut at, mut hops) = (url.to_owned(), 0);
        loop {
            let mut session = Self::connect(context, &at, (client, began), plan).await?;
            let why = match session.join().await? {
                Entry::In => return Ok(session),
                Entry::Moved(url) if hops < MOST_HOPS => {
                    (at, hops) = (url, hops + 1);
                    continue;
                }
                Entry::Moved(_) => "sent from server to server".to_owned(),
                Entry::TryAgain(why) => why,
            };
            if began.elapsed() > PATIENCE {
                bail!("not in after {} s: {why}", PATIENCE.as_secs());
            }
            (at, hops) = (url.to_owned(), 0);
            tokio::time::sleep(AGAIN).await;
        }
    }

    async fn connect(
        context: &'a Context,
        url: &str,
        (client, began): (usize, Instant),
        plan: &'a ClientPlan,
    ) -> anyhow::Result<Self> {
        let socket = open(context, url).await?;
        Ok(Self {
            context,
            plan,
            client,
            began,
            socket,
            wanted: VecDeque::new(),
            published: Vec::new(),
            offers: 0,
            busy: false,
            gather: false,
            restart: false,
            ticket: String::new(),
            at: url.to_owned(),
        })
    }

    async fn join(&mut self) -> anyhow::Result<Entry> {
        let join = ClientMessage::Join {
            room: self.plan.room.clone(),
            token: self.context.token.clone(),
            metadata: json!({ "name": format!("load {}", self.client) }),
            protocol: Some(PROTOCOL_VERSION),
        };
        self.send(&join).await?;
        match timeout(PATIENCE, self.receive()).await.context("the join is not answered")?? {
            ServerMessage::Joined { client, tracks, ticket, .. } => {
                self.ticket = ticket;
                self.context.note(self.client, Some((self.plan.room.clone(), client)));
                tracks.into_iter().for_each(|track| self.want(track));
                Ok(Entry::In)
            }
            ServerMessage::Moved { url } => Ok(Entry::Moved(url)),
            ServerMessage::Error { code: ErrorCode::TryAgain, message, .. } => Ok(Entry::TryAgain(message)),
            ServerMessage::Rejected { reason } => Err(anyhow!("rejected: {reason}")),
            other => Err(anyhow!("the join is answered with {other:?}")),
        }
    }

    /// Another process goes on with the stay, at the same address or at another one: over another connection, with everything that
    /// there is.
    async fn resume(&mut self, url: Option<String>) -> anyhow::Result<()> {
        let began = Instant::now();
        self.at = url.unwrap_or_else(|| std::mem::take(&mut self.at));
        let ticket = std::mem::take(&mut self.ticket);
        loop {
            self.socket = open(self.context, &self.at).await?;
            self.send(&ClientMessage::Resume { ticket: ticket.clone() }).await?;
            match timeout(PATIENCE, self.receive()).await.context("the resume is not answered")?? {
                ServerMessage::Joined { ticket, resumed: true, .. } => {
                    self.ticket = ticket;
                    break;
                }
                // The process that ends had accepted this connection as well.
                ServerMessage::Resume { .. } if began.elapsed() < PATIENCE => tokio::time::sleep(ANEW).await,
                other => bail!("the resume is answered with {other:?}"),
            }
        }
        self.context.resumed(self.client, began.elapsed());
        // An offer whose answer has not come is made again.
        if std::mem::take(&mut self.busy) {
            bail!("the server was replaced while an offer waited for its answer");
        }
        Ok(())
    }

    async fn offer(&mut self) -> anyhow::Result<()> {
        // Others publish at the same time: one offer for all of it. What was there at the join need not wait.
        if std::mem::take(&mut self.gather) {
            let deadline = tokio::time::Instant::now() + GATHER;
            while let Ok(message) = tokio::time::timeout_at(deadline, self.receive()).await {
                match message? {
                    ServerMessage::Resume { .. } => bail!("the server was replaced while this client made an offer"),
                    message => self.take(message).await?,
                }
            }
        }
        let publish = if self.offers == 0 { &self.plan.publish[..] } else { &[] };
        let wanted: Vec<TrackInfo> = self.wanted.drain(..).collect();
        let receive: Vec<_> = wanted.iter().map(|track| codec_for(track.kind, track.codec)).collect();
        if publish.is_empty() && receive.is_empty() {
            return Ok(());
        }
        let description = self.context.describe((self.client, self.plan), self.began, publish, &receive).await?;
        self.offers += 1;
        self.busy = true;
        self.published.extend(description.published.iter().map(|mid| (mid.clone(), None)));
        let publish = description.published.into_iter().zip(publish);
        let publish =
            publish.map(|(mid, codec)| Publish { mid, source: source_of(*codec), key_frames: false }).collect();
        let subscribe = description.received.into_iter().zip(wanted);
        let subscribe = subscribe.map(|(mid, track)| Subscribe { mid, track: track.id }).collect();
        self.send(&ClientMessage::Offer { request: self.offers, sdp: description.sdp, publish, subscribe }).await
    }

    /// Offers with an ICE restart: the answer names another shard, or another node.
    async fn restart_ice(&mut self) -> anyhow::Result<()> {
        let sdp = self.context.restart(self.client).await?;
        self.offers += 1;
        self.busy = true;
        let (publish, subscribe) = (Vec::new(), Vec::new());
        self.send(&ClientMessage::Offer { request: self.offers, sdp, publish, subscribe }).await
    }

    async fn take(&mut self, message: ServerMessage) -> anyhow::Result<()> {
        match message {
            ServerMessage::Answer { sdp, sections, .. } => {
                self.busy = false;
                self.context.answer(self.client, sdp);
                for (mid, track) in &mut self.published {
                    let section = sections.iter().find(|section| section.mid == *mid);
                    *track = section.and_then(|section| Some(section.track.as_ref()?.id.clone())).or(track.take());
                }
                if let Some(reason) = sections.into_iter().find_map(|section| section.reason) {
                    let _ = self.context.failures.send(format!("a section is refused: {reason}"));
                }
            }
            // Before the first offer there is nothing to move.
            ServerMessage::RestartIce {} => self.restart = self.offers > 0,
            ServerMessage::TrackPublished { track } => {
                self.gather = self.plan.receive == Receive::Everything;
                self.want(track);
            }
            // What the room has beyond the first page of `joined`.
            ServerMessage::Roster { tracks, .. } => {
                self.gather = self.plan.receive == Receive::Everything && !tracks.is_empty();
                tracks.into_iter().for_each(|track| self.want(track));
            }
            ServerMessage::WantedLayers { track, layers } => {
                if let Some((mid, _)) = self.published.iter().find(|(_, own)| own.as_ref() == Some(&track)) {
                    self.context.wanted(self.client, mid.clone(), layers);
                }
            }
            ServerMessage::TrackUnpublished { track, .. } => self.wanted.retain(|wanted| wanted.id != track),
            ServerMessage::Error { code, message, request } => {
                if request.is_some() {
                    self.busy = false;
                }
                let _ = self.context.failures.send(format!("error {code:?}: {message}"));
            }
            ServerMessage::Kicked { reason } => bail!("kicked: {reason}"),
            ServerMessage::Restarting { reason } | ServerMessage::Closing { reason } => bail!("{reason}"),
            ServerMessage::Moved { url } => bail!("the room has moved to {url}"),
            _ => {}
        }
        Ok(())
    }

    fn want(&mut self, track: TrackInfo) {
        if self.plan.receive == Receive::Everything {
            self.wanted.push_back(track);
        }
    }

    async fn send(&mut self, message: &ClientMessage) -> anyhow::Result<()> {
        Ok(self.socket.send(Message::text(serde_json::to_string(message)?)).await?)
    }

    /// The next message; pings are answered by the library.
    async fn receive(&mut self) -> anyhow::Result<ServerMessage> {
        loop {
            match self.socket.next().await.context("the server closed the connection")?? {
                Message::Text(text) => return Ok(serde_json::from_str(&text)?),
                Message::Close(frame) => bail!("the server closed the connection: {frame:?}"),
                _ => {}
            }
        }
    }
}

/// What sends a track of this codec.
fn source_of(codec: CodecName) -> Source {
    match codec.kind() {
        Kind::Audio => Source::Microphone,
        Kind::Video => Source::Camera,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sound_comes_from_a_microphone_and_pictures_from_a_camera() {
        let sources = [CodecName::Opus, CodecName::Vp8].map(source_of);
        assert_eq!(sources, [Source::Microphone, Source::Camera]);
    }
}
